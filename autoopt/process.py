"""One job in a process of its own: it may leak, hang, crash or be killed, and costs only itself.

Jobs are forked from a server that has TensorFlow imported but unused, so that one starts in
milliseconds. Where there is no forkserver (or with `AUTOOPT_START=spawn`) each job starts from
scratch, and neighbours are not frozen while one measures.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil

from autoopt.errors import AutooptError, CandidateFailed, ConfigError, ResultLost, TargetLost
from autoopt.locks import private_folder, try_lock
from autoopt.pipeline import Job
from autoopt.store import Store, write_atomically

LINUX = sys.platform == "linux"
POLL_S = 0.2
_START = os.environ.get("AUTOOPT_START", "forkserver" if LINUX else "spawn")
_starting = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where jobs run and what they may take; plain values, so that it travels.

    Attributes:
        store: the store's folder.
        mark: name of a file that the driver left in the store's folder; tells a shared folder from a namesake.
        threads: that a job may use.
        job_seconds: after which a job is ended; time in which it is frozen doesn't count.
        job_bytes: resident memory, with its children's, over which it is ended.
    """

    store: str
    mark: str
    threads: int
    job_seconds: float
    job_bytes: int

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Leave the mark in the store, for workers to see, as long as this lasts."""
        mark = self._mark()
        write_atomically(mark, b"")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)

    def is_here(self) -> bool:
        """Whether the store of this name is the driver's."""
        return self._mark().exists()

    def _mark(self) -> Path:
        return Path(self.store, "marks", self.mark)

    def log(self, key: str) -> Path:
        """Where a job's output goes."""
        return Path(self.store, "logs", f"{key}.log")

    def progress(self, key: str) -> Path:
        """Where a running job says what it is at."""
        return Path(self.store, "logs", f"{key}.progress")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        key: of the job.
        name: of the job.
        state: `done`, `failed` (its fault, for good), `config` (the user's), `unavailable` (may
            succeed at once, if tried again), `away` (the device does not answer: wait, then try again),
            `blocked` (a person must act first: a full disk).
        reason: one line, unless done.
        stage: where it failed; the job's name unless it says otherwise.
        seconds: that it took; of a result from the store, that it took when it was made.
        cached: whether the result was in the store already.
        started: Unix time at which its process began to work; 0 if none did.
        ended: Unix time.
    """

    key: str
    name: str
    state: str
    reason: str = ""
    stage: str = ""
    seconds: float = 0.0
    cached: bool = False
    started: float = 0.0
    ended: float = 0.0


def run(job: Job, workplace: Workplace, stopped: Callable[[], bool]) -> Outcome:
    """Run a job in a process of its own and wait for it, or find its result in the store.

    Args:
        job: what to do; the results of its parents are in the store.
        workplace: where, and within which limits.
        stopped: asked several times a second; True ends the job.
    """
    store = Store(Path(workplace.store))
    if not workplace.is_here():
        reason = f"the store {workplace.store} is not shared with this machine ({os.uname().nodename}); let it be a folder that all machines see"
        return Outcome(key=job.key, name=job.name, state="blocked", stage=job.name, reason=reason)
    if job.cached and (seconds := store.seconds(job.key)) is not None:
        return Outcome(key=job.key, name=job.name, state="done", seconds=seconds, cached=True)
    try:
        with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
            report = Path(folder, "report.json")
            workplace.log(job.key).parent.mkdir(parents=True, exist_ok=True)
            began = time.time()
            process, why = _supervise(job, workplace, report, stopped)
            return _outcome(job, process, why, report, began)
    except OSError as error:
        reason = f"can't start a job here ({error.strerror or error}); run the same command again"
        return Outcome(key=job.key, name=job.name, state="unavailable", stage=job.name, reason=reason)
    finally:
        workplace.progress(job.key).unlink(missing_ok=True)


def _outcome(job: Job, process: Any, why: tuple[str, str] | None, report: Path, began: float) -> Outcome:
    ended = time.time()
    plain: dict[str, Any] = {"key": job.key, "name": job.name, "stage": job.name, "ended": ended}
    with contextlib.suppress(OSError, ValueError):  # no report: it ended without a word
        return Outcome(**plain | json.loads(report.read_text(encoding="utf-8")))
    plain |= {"started": began, "seconds": ended - began}
    if why is not None:
        return Outcome(**plain, state=why[0], reason=why[1])
    code = process.exitcode
    if code == 255 and _START == "forkserver":  # how multiprocessing says that the server is gone
        return Outcome(**plain, state="unavailable", reason="the server that jobs are forked from is gone")
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        hint = ", perhaps by the system, for lack of memory" if -code == signal.SIGKILL else ""
        return Outcome(**plain, state="failed", reason=f"its process was killed by signal {-code} ({name}){hint}")
    return Outcome(**plain, state="failed", reason=f"its process ended without a result (exit code {code})")


# ---- the supervisor's side


def _supervise(
    job: Job, workplace: Workplace, report: Path, stopped: Callable[[], bool]
) -> tuple[Any, tuple[str, str] | None]:
    """Start the process and wait for it; the second value says why it was ended, if it was."""
    with contextlib.ExitStack() as held:
        if job.exclusive == "device":
            device = hashlib.sha256(job.settings["target"].encode()).hexdigest()[:16]
            if held.enter_context(_gate(stopped, f"device-{device}")) is None:
                return None, ("unavailable", "stopped")
        with _gate(stopped) as gate:
            if gate is None:
                return None, ("unavailable", "stopped")
            alone = job.exclusive == "machine"
            frozen = _freeze() if alone else []
            try:
                process = _start(job, workplace, report)
                if alone:
                    return process, _watch(process, workplace, stopped)
                mark = _live() / str(process.pid)
                mark.write_text(
                    str(psutil.Process(process.pid).create_time()) if psutil.pid_exists(process.pid) else ""
                )
            finally:
                _thaw(frozen)
        try:
            return process, _watch(process, workplace, stopped)
        finally:
            mark.unlink(missing_ok=True)


def _start(job: Job, workplace: Workplace, report: Path) -> Any:
    """Start the child without showing it our `__main__`, which it would import (seconds, or worse)."""
    method = _START if _START in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    with _starting:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if method == "forkserver":
            context.set_forkserver_preload(["autoopt.preload", __name__])
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            process = context.Process(target=_child, args=(job, workplace, str(report)), daemon=False)
            process.start()
        finally:
            sys.modules["__main__"] = main
    return process


def _watch(process: Any, workplace: Workplace, stopped: Callable[[], bool]) -> tuple[str, str] | None:
    """Wait for the end; end it over a limit or when stopped."""
    spent, last = 0.0, time.monotonic()
    while not connection.wait([process.sentinel], timeout=POLL_S):
        now = time.monotonic()
        resident, frozen = _state(process.pid)
        if not frozen:
            spent += now - last
        elif _nobody_measures():  # who froze it has died
            _signal(process.pid, signal.SIGCONT)
        last = now
        why = None
        if stopped():
            why = ("unavailable", "stopped")
        elif resident > workplace.job_bytes:
            limit = f"{workplace.job_bytes / 1e6:,.0f} MB"
            why = ("failed", f"memory limit: it used {resident / 1e6:,.0f} MB of {limit} (limits.job_memory)")
        elif spent > workplace.job_seconds:
            why = ("failed", f"time limit: not done after {workplace.job_seconds:,.0f} s (limits.job_time)")
        if why:
            _signal(process.pid, signal.SIGKILL)
            process.join()
            return why
    process.join()
    _signal(process.pid, signal.SIGKILL)  # what it may have left behind in its group
    return None


def _state(pid: int) -> tuple[int, bool]:
    """Resident bytes of a process with its children, and whether it is frozen."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        frozen = process.status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return 0, False
    resident = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            resident += member.memory_info().rss
    return resident, frozen


def _signal(pid: int, number: int) -> None:
    """Signal a job's process group; the process alone where it has not made its group yet."""
    for send in (os.killpg, os.kill) if hasattr(os, "killpg") else (os.kill,):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, number)
            return


# ---- one measurement at a time on this machine, with all other jobs frozen, whoever runs them


def _machine() -> Path:
    """A private folder that all studies of this user on this machine share."""
    return private_folder("autoopt")


def _live() -> Path:
    """Holds a file for every running job that may be frozen, named by its process group."""
    folder = _machine() / "live"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def _gate(stopped: Callable[[], bool], name: str = "gate") -> Iterator[Any]:
    """Held to start a job, and throughout a measurement; gives None if stopped while waiting."""
    if not LINUX:
        yield True
        return
    with open(_machine() / name, "w", encoding="utf-8") as gate:
        while not try_lock(gate):
            if stopped():
                yield None
                return
            time.sleep(0.02)
        yield gate


def _nobody_measures() -> bool:
    with open(_machine() / "gate", "w", encoding="utf-8") as gate:
        return try_lock(gate)


def _freeze() -> list[int]:
    """Stop every other job on this machine (0.1 ms); returns their process groups."""
    frozen = []
    for mark in _live().iterdir() if LINUX else ():
        pid = int(mark.name)
        try:
            same = mark.read_text() == str(psutil.Process(pid).create_time())
        except (psutil.Error, OSError):
            same = False
        if same:
            _signal(pid, signal.SIGSTOP)
            frozen.append(pid)
        else:
            mark.unlink(missing_ok=True)  # its supervisor was killed; the number may be another's by now
    return frozen


def _thaw(groups: list[int]) -> None:
    for pid in groups:
        _signal(pid, signal.SIGCONT)


# ---- the job's side


def _child(job: Job, workplace: Workplace, report: str) -> None:
    """Do the job, leave its result in the store and how it went in `report`."""
    _die_with_supervisor()
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    with contextlib.suppress(OSError):  # the kernel shall end a job for want of memory, never the driver
        Path("/proc/self/oom_score_adj").write_text("1000")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        log = os.open(workplace.log(job.key), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    except OSError:  # a full disk must be told by the result, which a log can't be
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    started, clock = time.time(), time.monotonic()
    ended = _attempt(job, workplace, clock)
    ended |= {"started": started, "ended": time.time(), "seconds": time.monotonic() - clock}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    write_atomically(Path(report), json.dumps(ended).encode())


def _attempt(job: Job, workplace: Workplace, clock: float) -> dict[str, Any]:
    from autoopt.jobs import JOBS, Context

    store = Store(Path(workplace.store))
    note = workplace.progress(job.key)

    def progress(text: str) -> None:
        with contextlib.suppress(OSError):  # only for people who watch
            note.write_text(text, encoding="utf-8")

    try:
        progress("")
        parents = []
        for key in job.parents:
            data = store.get(key)
            if data is None:
                raise ResultLost(f"the store lost a result that {job.name} needs; run the same command again")
            parents.append(data)
        context = Context(
            store=store, parents=parents, settings=job.settings, threads=workplace.threads, progress=progress
        )
        result = JOBS[job.name].body(context)
        store.put(job.key, result, seconds=time.monotonic() - clock)
    except Exception as error:  # the one broad net: whatever a job raises becomes its outcome
        with contextlib.suppress(OSError):  # as above
            traceback.print_exc()
        return _describe(error, job)
    return {"state": "done"}


def _describe(error: Exception, job: Job) -> dict[str, Any]:
    """What an exception means for the candidate."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, CandidateFailed):
        return {"state": "failed", "stage": error.stage, "reason": error.reason}
    if isinstance(error, ConfigError):
        return {"state": "config", "reason": text}
    if isinstance(error, ResultLost):
        return {"state": "unavailable", "reason": text}
    if isinstance(error, TargetLost):
        return {"state": "away", "reason": text}
    if isinstance(error, AutooptError):
        return {"state": "blocked", "reason": text}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE):
        return {"state": "blocked", "reason": f"{error.strerror}; mend it, then run the same command again"}
    return {"state": "failed", "reason": f"{type(error).__name__}: {text}" if text else type(error).__name__}


def _die_with_supervisor() -> None:
    """Have the kernel end this process when its supervisor ends, however that came.

    Of all ways tried only a signal on the supervisor's end of a pipe works in every case: sleeping or
    busy, holding the interpreter's lock or not. A frozen process is ended too: as the forkserver goes,
    its process group is orphaned, and the kernel continues stopped orphans with a hang-up.
    """
    parent = multiprocessing.parent_process()
    if not LINUX or parent is None:
        return
    import fcntl

    sentinel = parent.sentinel
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sentinel], [], [], 0)[0]:  # it was gone before the signal was armed
        os._exit(1)


def to_plain(value: Job | Workplace | Outcome) -> dict[str, Any]:
    """A value as a dictionary, for other machines."""
    return dataclasses.asdict(value)
