"""One job in a process of its own: it may leak, hang, crash or be killed, and costs only itself.

Jobs are forked from a server that has TensorFlow imported but unused, so that one starts in
milliseconds. Where there is no forkserver (or with `AUTOOPT_START=spawn`) each job starts from
scratch.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil

from autoopt.errors import TargetUnavailable
from autoopt.execution import job_child, machine_gate, starting, trouble
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_child import BEGUN, Assignment
from autoopt.execution.job_graph import Job
from autoopt.execution.jobs import JOBS
from autoopt.execution.workplace import Workplace
from autoopt.system import gpus, locks, scratch

POLL_S = 0.2
UNFORETOLD_S, FORETOLD_S = 6 * 3600.0, 3600.0
"""What a job may take where nobody set a limit: one that says nothing of itself, and at least, one that does."""
PATIENCE = 4.0
"""So many times as long as it foretold by its first epoch a job may take where nobody set a limit."""
LONGEST_TICK_S = 5.0
"""More than that between two looks at a job was not its time: this process was stopped, or the machine asleep."""
LONGEST_BEGINNING_S = 60.0
"""Within which a process has been started, whatever that takes."""
CRASHES = tuple(
    int(number)
    for name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGFPE", "SIGTRAP", "SIGSYS")
    if (number := getattr(signal, name, None))
)
"""Signals that a process gets for what it did itself; all others come from outside."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        key: of the job.
        name: of the job.
        state: `done`, `failed` (its fault, for good), `config` (the user's), `unavailable` (may
            succeed at once, if tried again), `away` (the device does not answer: wait, then try again),
            `waiting` (so does the machine: no room for temporary files or in memory, for one),
            `killed` (somebody ended its process, or the system did), `blocked` (a person must act
            first: a full disk).
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
    plain: dict[str, Any] = {"key": job.key, "name": job.name, "stage": job.name}
    if not workplace.is_here():
        reason = f"the store {workplace.store} is not shared with this machine ({os.uname().nodename}); let it be a folder that all machines see"
        return Outcome(**plain, state="blocked", reason=reason)
    try:
        if job.cached and (seconds := store.seconds(job.key)) is not None:
            return Outcome(key=job.key, name=job.name, state="done", seconds=seconds, cached=True)
        with scratch.for_job(job.key) as folder:
            with contextlib.suppress(OSError):  # only for people who watch, and told by the job if it matters
                workplace.log(job.key).parent.mkdir(parents=True, exist_ok=True)
            return _supervised(Assignment(job, workplace, folder), stopped)
    except TargetUnavailable as error:
        return Outcome(**plain, state="blocked", reason=str(error))
    except OSError as error:
        told = trouble.describe(error, folders=[Path(workplace.store)], most_bytes=workplace.job_bytes)
        state = told["state"] if told["state"] == "blocked" else "waiting"
        return Outcome(**plain, state=state, reason=f"can't start a job here: {error}")
    finally:
        with contextlib.suppress(OSError):
            for note in (workplace.progress(job.key), workplace.foretold(job.key)):
                note.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Ended:
    """A job's process that has ended: why it was made to, if it was, and how long it took."""

    process: Any
    hear: Any
    why: tuple[str, str] | None
    began: float
    seconds: float


STOPPED = ("unavailable", "stopped")


def _supervised(given: Assignment, stopped: Callable[[], bool]) -> Outcome:
    """Start the process when its turn comes, wait for it, and say how it went."""
    with contextlib.ExitStack() as held:
        if given.job.exclusive == "device":
            device = hashlib.sha256(given.job.settings["target"].encode()).hexdigest()[:16]
            if held.enter_context(machine_gate.entered(stopped, f"device-{device}")) is None:
                return _outcome(given.job, None)
        if JOBS[given.job.name].gpu:
            gpu = held.enter_context(gpus.lent(given.workplace.gpus, stopped))
            if gpu is None:
                return _outcome(given.job, None)
            given = dataclasses.replace(given, gpu=gpu)
        return _outcome(given.job, (_alone if given.job.exclusive == "machine" else _beside_others)(given, stopped))


def _alone(given: Assignment, stopped: Callable[[], bool]) -> _Ended | None:
    """Run it with all other jobs frozen; None if stopped before."""
    with machine_gate.entered(stopped) as gate:
        if gate is None:
            return None
        frozen = machine_gate.freeze()
        try:
            with _started(given) as (process, hear):
                return _watched(process, hear, given, stopped)
        finally:
            machine_gate.thaw(frozen)


def _beside_others(given: Assignment, stopped: Callable[[], bool]) -> _Ended | None:
    """Run it, to be frozen while another is measured; None if stopped before."""
    with contextlib.ExitStack() as held:
        with machine_gate.entered(stopped) as gate:
            if gate is None:
                return None
            process, hear = held.enter_context(_started(given))
            held.enter_context(machine_gate.listed(process.pid))
        return _watched(process, hear, given, stopped)


@contextlib.contextmanager
def _started(given: Assignment) -> Iterator[tuple[Any, Any]]:
    """The job's process and what it will tell; whatever happens, neither is left behind."""
    process, hear = starting.process(job_child.do, given, str(locks.meeting_place()))
    try:
        # Frozen before, it would outlive its server, and hold what whoever starts the next job waits for.
        connection.wait([hear, process.sentinel], timeout=LONGEST_BEGINNING_S)
        yield process, hear
    finally:
        machine_gate.end(process.pid, alive=process.exitcode is None)
        process.join()
        hear.close()


def _watched(process: Any, hear: Any, given: Assignment, stopped: Callable[[], bool]) -> _Ended:
    """Wait for the end; end it over a limit or when stopped."""
    began, clock = time.time(), time.monotonic()
    why = _watch(process, given, stopped)
    if why is not None:
        machine_gate.end(process.pid, alive=True)
    process.join()
    return _Ended(process, _told(hear), why, began, time.monotonic() - clock)


def _watch(process: Any, given: Assignment, stopped: Callable[[], bool]) -> tuple[str, str] | None:
    """Wait for the end, or for why it has to be ended: a state and a reason."""
    spent, last = 0.0, time.monotonic()
    while not connection.wait([process.sentinel], timeout=POLL_S):
        now = time.monotonic()
        resident, frozen = _state(process.pid)
        if not frozen:
            spent += min(now - last, LONGEST_TICK_S)
        else:  # unless who froze it measures, it has died, or is stopped
            machine_gate.thaw_if_nobody_measures([process.pid])
        last = now
        if stopped():
            return STOPPED
        if resident > given.workplace.job_bytes:
            limit = f"{given.workplace.job_bytes / 1e6:,.0f} MB"
            return "failed", f"memory limit: it used {resident / 1e6:,.0f} MB of {limit} (limits.job_memory)"
        if spent > min(given.workplace.job_seconds, FORETOLD_S):
            most_seconds, why = _limit(given)
            if spent > most_seconds:
                return "failed", f"time limit: not done after {most_seconds:,.0f} s ({why})"
    return None


def _limit(given: Assignment) -> tuple[float, str]:
    """Seconds that a job may take, and where that comes from."""
    if math.isfinite(given.workplace.job_seconds):
        return given.workplace.job_seconds, "limits.job_time"
    try:
        foretold = float(given.workplace.foretold(given.job.key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return UNFORETOLD_S, "it said nothing of how long it takes; limits.job_time sets another limit"
    if PATIENCE * foretold < FORETOLD_S:
        return FORETOLD_S, "it foretold less than a quarter of that; limits.job_time sets another limit"
    return PATIENCE * foretold, f"{PATIENCE:g} times what its first epoch foretold; limits.job_time sets another limit"


def _state(pid: int) -> tuple[int, bool]:
    """Resident bytes of a process with its children that are its own, and whether it is frozen.

    Pages of mapped files are not its own: the system takes them away when memory is short, and all jobs share them.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        frozen = process.status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return 0, False
    resident = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            facts = member.memory_info()
            resident += facts.rss - getattr(facts, "shared", 0)  # the system tells of them on Linux
    return resident, frozen


def _told(hear: Any) -> dict[str, Any] | None:
    """What a job that has ended said of itself; None if it ended without a word."""
    with contextlib.suppress(OSError, EOFError, ValueError):
        while hear.poll():
            if (said := hear.recv_bytes()) != BEGUN:
                return dict(json.loads(said))
    return None


def _outcome(job: Job, ended: _Ended | None) -> Outcome:
    plain: dict[str, Any] = {"key": job.key, "name": job.name, "stage": job.name, "ended": time.time()}
    if ended is None:
        return Outcome(**plain, state=STOPPED[0], reason=STOPPED[1])
    if ended.hear is not None:
        return Outcome(**plain | ended.hear)
    state, reason = ended.why or _silent_end(ended.process)
    return Outcome(**plain, started=ended.began, seconds=ended.seconds, state=state, reason=reason)


def _silent_end(process: Any) -> tuple[str, str]:
    """State and reason for a process that ended by itself, without a word."""
    code = process.exitcode
    if code == 255 and not starting.is_served(process):
        return "waiting", "the server that jobs are forked from is lost, and the job with it"
    if code is None or code >= 0:
        return "failed", f"its process ended without a result (exit code {code})"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    hint = ", perhaps by the system, for lack of memory" if -code == signal.SIGKILL else ""
    state = "failed" if -code in CRASHES else "killed"
    return state, f"its process was killed by signal {-code} ({name}){hint}"


def to_plain(value: Job | Workplace | Outcome) -> dict[str, Any]:
    """A value as a dictionary, for other machines."""
    return dataclasses.asdict(value)
