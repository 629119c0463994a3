"""One measurement at a time on this machine, with all other jobs frozen, whoever of this user's studies runs them."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from autoopt.system.locks import private_folder, try_lock
from autoopt.system.scratch import PRIVATE

LINUX = sys.platform == "linux"
POLL_S = 0.02
GRACE_S = 3.0
"""After which whoever waits at the gate no longer waits for a holder that is stopped, by Ctrl-Z for one."""
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
_WIDTH = 64


def send(pid: int, number: int) -> None:
    """Signal a job's process group; the process alone where it has not made its group yet."""
    for call in (os.killpg, os.kill) if hasattr(os, "killpg") else (os.kill,):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            call(pid, number)
            return


def end(pid: int, *, alive: bool) -> None:
    """Kill a job's process group, and where the job itself has ended already, what it has left in that."""
    if alive or not hasattr(os, "killpg"):
        send(pid, signal.SIGKILL)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


# ---- the gate


@contextlib.contextmanager
def entered(stopped: Callable[[], bool], name: str = "gate") -> Iterator[Any]:
    """Held to start a job, and throughout a measurement; gives None if stopped while waiting.

    Raises:
        TargetUnavailable: if the folder of the gates is not private.
    """
    if not LINUX:
        yield True
        return
    path = private_folder(PRIVATE) / name
    patience = _Patience()
    while (gate := _try(path)) is None:
        if stopped():
            yield None
            return
        if patience.is_over(path):
            _take_over(path)
        time.sleep(POLL_S)
    with gate:
        yield gate


def thaw_if_nobody_measures(groups: Sequence[int]) -> bool:
    """Let stopped jobs go on if the gate is open, or its holder is stopped and does not measure either.

    The gate is held meanwhile: else whoever enters it after the look would measure beside a job that this let go on.
    """
    path = private_folder(PRIVATE) / "gate"
    gate = _try(path)
    nobody = gate is not None or _holder_is_stopped(path)
    with gate or contextlib.nullcontext():
        if nobody:
            thaw(groups)
    return nobody


def _try(path: Path) -> IO[bytes] | None:
    """The gate's file, locked, with this process written down as its holder; None while another holds it."""
    gate = _opened(path)
    if try_lock(gate) and _is_at(gate, path):
        with contextlib.suppress(OSError):  # a full disk: then a stopped holder is waited for
            os.ftruncate(gate.fileno(), _WIDTH)
            os.pwrite(gate.fileno(), _who(os.getpid()).encode().ljust(_WIDTH), 0)
        return gate
    gate.close()
    return None


def _opened(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb+")


def _is_at(gate: IO[bytes], path: Path) -> bool:
    """Whether nobody has taken the gate over while its file was opened."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(gate.fileno()), path.stat())
    return False


def _take_over(path: Path) -> None:
    """Put a new gate in the place of one whose holder is stopped; when it goes on, it ends what it was at, unguarded."""
    with _opened(path.with_name("succession")) as guard, contextlib.suppress(FileNotFoundError):
        if try_lock(guard) and _holder_is_stopped(path):
            path.unlink()


class _Patience:
    """Tells when the holder has been stopped for so long that nobody needs to wait for it."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_over(self, path: Path) -> bool:
        now = time.monotonic()
        if not _holder_is_stopped(path):
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since > GRACE_S


def _holder_is_stopped(path: Path) -> bool:
    try:
        who = path.read_bytes().decode("ascii", "replace").strip()
        pid = int(who.partition(" ")[0])
        return who == _who(pid) and psutil.Process(pid).status() in STOPPED
    except (OSError, ValueError, psutil.Error):
        return False


def _who(pid: int) -> str:
    """A process, told from a later one of its number."""
    return f"{pid} {psutil.Process(pid).create_time()}"


# ---- what is frozen


def _live() -> Path:
    """Holds an empty file for every running job that may be frozen, named by its process group and when that began."""
    folder = private_folder(PRIVATE) / "running"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def listed(pid: int) -> Iterator[None]:
    """Have the job of this process group frozen by whoever measures, as long as this lasts."""
    mark = None
    if LINUX:
        with contextlib.suppress(psutil.Error):  # it has ended already
            mark = _live() / _who(pid)
            mark.touch()
    try:
        yield
    finally:
        if mark is not None:
            mark.unlink(missing_ok=True)


def freeze() -> list[int]:
    """Stop every other job on this machine (0.1 ms); returns their process groups."""
    frozen = []
    for mark in _live().iterdir() if LINUX else ():
        pid = int(mark.name.partition(" ")[0])
        try:
            same = mark.name == _who(pid)
        except psutil.Error:
            same = False
        if same:
            send(pid, signal.SIGSTOP)
            frozen.append(pid)
        else:
            mark.unlink(missing_ok=True)  # its supervisor was killed; the number may be another's by now
    return frozen


def thaw(groups: Sequence[int]) -> None:
    """Let stopped jobs go on."""
    for pid in groups:
        send(pid, signal.SIGCONT)
