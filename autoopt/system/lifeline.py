"""Ties processes' lives together, so that none outlives the driver, however that ends, be it busy, asleep or frozen.

The server that jobs are forked from holds the reading end of a pipe of the driver's; as the driver goes, the kernel signals
the server, which kills all jobs with what they have started, removes the driver's folder, and ends. A job in turn is killed
by the kernel when its server goes, which reaches it while it is frozen, too: no other signal but SIGKILL does.
"""

import contextlib
import multiprocessing
import os
import select
import shutil
import signal
import sys
from pathlib import Path

import psutil

LINUX = sys.platform == "linux"
VARIABLE = "AUTOOPT_LIFELINE"
"""Tells the server where the driver's pipe is."""
PR_SET_PDEATHSIG = 1
_server: list[int] = []
"""In the server, and in what is forked from it, the server's number."""


def hold(path: Path) -> None:
    """Have this process, a server, end with whoever holds the other end of the pipe at `path`."""
    with contextlib.suppress(OSError):  # signals to the driver's group, such as of a terminal that is closed, pass by
        os.setsid()
    _server[:] = [os.getpid()]
    try:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # it was removed: so is the driver
        os._exit(1)

    def hang_up(_number: int, _frame: object) -> None:
        if os.getpid() == _server[0] and _at_end(pipe):
            _end_all(path.parent)

    signal.signal(signal.SIGIO, hang_up)
    _signal_when_closed(pipe, os.getpid())
    hang_up(0, None)  # it may have been closed before that was armed


def _at_end(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _end_all(folder: Path) -> None:
    """Kill every job with its process group, remove the driver's folder, end."""
    own = os.getpgrp()
    for job in psutil.Process().children():
        with contextlib.suppress(OSError):
            group = os.getpgid(job.pid)
            (os.kill if group == own else os.killpg)(group if group != own else job.pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, where there is such a kernel."""
    import ctypes

    if LINUX:
        with contextlib.suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def die_first() -> None:
    """Have the kernel end this process, never its parent, where memory ends."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")


def end_with_supervisor() -> None:
    """Have the kernel end this process, a job, when its server ends, or its supervisor does."""
    parent = multiprocessing.parent_process()
    if not LINUX or parent is None:
        return
    die_with_parent()
    if _server and os.getppid() != _server[0]:  # it was gone before that was armed
        os._exit(1)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    # With what the job has started: the server, which sees to that too, may find the job gone already.
    _signal_when_closed(parent.sentinel, -os.getpgrp())
    if select.select([parent.sentinel], [], [], 0)[0]:
        os._exit(1)


def _signal_when_closed(pipe: int, whom: int) -> None:
    """Have the kernel send SIGIO when the pipe's other end is closed.

    That works in every case but a frozen process: sleeping or busy, holding the interpreter's lock or not.

    Args:
        pipe: its reading end.
        whom: a process, or as a negative number a group of them.
    """
    import fcntl

    fcntl.fcntl(pipe, fcntl.F_SETOWN, whom)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


if VARIABLE in os.environ:  # imported first of all by a server
    hold(Path(os.environ.pop(VARIABLE)))
