"""Calls a function in a process of its own, for work on files of other people: a crash there is an error here."""

import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import psutil

from autoopt.errors import AutooptError, TargetUnavailable
from autoopt.system import lifeline, locks, scratch

START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from autoopt.system.isolation import answer; answer(sys.argv[2])"
"""What the process runs; it imports from where this one does, and never its `__main__`."""
T = TypeVar("T")
ASKED, ANSWER, LOG = "asked.pickle", "answer.pickle", "log"
LONGEST_S = 3600.0
"""After which a process that has not answered is ended: a file may hold a loop without end."""
LEFT_BYTES = 1 << 30
"""Memory that is left to everything else on the machine."""
POLL_S = 0.2


class Crashed(AutooptError):
    """The process ended without an answer; the text says how."""


def call(
    function: Callable[..., T],
    *given: Any,
    say: Callable[[str], None] | None = None,
    longest_s: float = LONGEST_S,
    **named: Any,
) -> T:
    """Call a function in a process of its own, whose output goes nowhere.

    Args:
        function: at the top level of a module of autoopt.
        given: its arguments, which are pickled, as is what it returns.
        say: told what the function says to its own argument of this name.
        longest_s: after which it is ended.
        named: its arguments by name.

    Returns:
        what the function returned.

    Raises:
        Crashed: if the process ended by a signal, or without an answer, or took more than `longest_s` or nearly all memory.
        TargetUnavailable: if there is no room to start it.
        Exception: what the function raised.
    """
    try:
        with scratch.for_job("isolated") as folder:
            asked = (function.__module__, function.__qualname__, given, named, say is not None)
            (folder / ASKED).write_bytes(pickle.dumps(asked))
            code = _run(folder, say, longest_s)
            answer = folder / ANSWER
            if code != 0 or not answer.exists():
                raise Crashed(_how(code, folder / LOG))
            ended, value = pickle.loads(answer.read_bytes())  # noqa: S301 - written by our own process
    except OSError as error:
        raise TargetUnavailable(f"can't work in {locks.meeting_place()} ({error.strerror or error})") from error
    if ended == "raised":
        raise value
    result: T = value
    return result


def _run(folder: Path, say: Callable[[str], None] | None, longest_s: float) -> int:
    """Start the process and wait for it; returns its exit code.

    Raises:
        Crashed: if it had to be ended for what it took.
    """
    with (folder / LOG).open("wb") as log, start(folder, log) as process:
        try:
            with _limited(process, longest_s):
                for line in process.stdout or ():
                    if say is not None:
                        say(json.loads(line))
                return process.wait()
        finally:
            process.kill()


def start(folder: Path, log: IO[bytes]) -> subprocess.Popen[str]:
    """Start a process that does what lies in `folder`, and says on its output what it has to say."""
    return subprocess.Popen(
        [sys.executable, "-c", START, json.dumps(sys.path), str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
        env=environment(folder),
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Variables of the process: what it makes is temporary, and it meets other processes where this one does."""
    return {**os.environ, "TMPDIR": str(folder), locks.MEETING: str(locks.meeting_place())}


@contextlib.contextmanager
def _limited(process: subprocess.Popen[str], longest_s: float) -> Iterator[None]:
    """End a process that takes too long, or so much memory that the system would end another one."""
    over, excess = threading.Event(), []
    until = time.monotonic() + longest_s
    most = psutil.virtual_memory().available - LEFT_BYTES

    def watch() -> None:
        while not over.wait(POLL_S):
            with contextlib.suppress(psutil.Error):
                taken = psutil.Process(process.pid).memory_info().rss
                if taken > most:
                    excess.append(f"more than {most / 1e6:,.0f} MB of memory, which is what is free")
                elif time.monotonic() > until:
                    excess.append(f"no answer after {longest_s:,.0f} s")
            if excess:
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    if excess:
        raise Crashed(excess[0])


def _how(code: int, log: Path) -> str:
    """How a process ended, in words: by a signal, or with the last line that it wrote."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return name + " (perhaps for lack of memory)" * (-code == signal.SIGKILL)
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"exit code {code}" + (f": {lines[-1][:200]}" if lines else "")
    return f"exit code {code}"


# ---- the process's side


def answer(folder: str) -> None:
    """Do what was asked, and leave what came of it in the folder."""
    spoken = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    lifeline.die_with_parent()  # what a killed parent asked for, nobody waits for
    lifeline.die_first()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module, name, given, named, speaks = pickle.loads(Path(folder, ASKED).read_bytes())  # noqa: S301 - our parent's
    if speaks:
        named["say"] = lambda text: print(json.dumps(text), file=spoken, flush=True)
    try:
        result = ("returned", getattr(importlib.import_module(module), name)(*given, **named))
        packed = pickle.dumps(result)
    except Exception as error:  # whatever it raises is raised again by the parent
        packed = _packed(error)
    Path(folder, ANSWER).write_bytes(packed)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # native libraries may crash in their destructors, when all is done


def _packed(error: Exception) -> bytes:
    """An exception for the parent; one that can't travel becomes a plain one of the same words."""
    told = "".join(traceback.format_exception(error))
    error.__cause__ = error.__context__ = None
    error.add_note(told)
    try:
        data = pickle.dumps(("raised", error))
        pickle.loads(data)  # noqa: S301 - made on the line before
    except Exception:  # exceptions of libraries pickle or unpickle as they like
        return pickle.dumps(("raised", RuntimeError(f"{type(error).__name__}: {error}")))
    return data
