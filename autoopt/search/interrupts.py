"""What signals mean to a search: to finish what runs and begin nothing new, or to end now and go on another time.

- Ctrl-C (SIGINT) once: finish. It is for a person who watches, and may take as long as a training.
- Ctrl-C again, SIGTERM (the system stops, a scheduler's time is up), SIGHUP (the terminal was closed): end within seconds.
  Jobs that run are ended and are made when the same command is run again; all that was finished is kept.

A signal that whoever started this process had ignored (`nohup`, a shell's background) stays ignored.
"""

import contextlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from autoopt.errors import Stopped

FINISHES = ("SIGINT",)
ENDS = ("SIGTERM", "SIGHUP")
"""By name: Windows lacks some."""
PATIENCE_S = 10
"""In which ending goes undisturbed; whoever signals after that is heard again."""


@contextlib.contextmanager
def two_steps(finish: Callable[[], bool]) -> Iterator[None]:
    """Have signals stop what is done within: step one finishes, step two ends (see the module for which is which).

    Outside the main thread, where signals can't be had, nothing is changed.

    Args:
        finish: called at the first Ctrl-C, and at every further one: begins nothing new; returns whether it had been
            called before, upon which the work ends. It is not called for signals that end at once.

    Raises:
        Stopped: where the work is ended, with the signal's name. It is raised in the main thread, between any
            two steps of it; for a while no further signal is heard, so that cleaning up is not cut short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending: list[str] = []
    deaf_until = 0.0

    def end(number: int) -> None:
        nonlocal deaf_until
        if time.monotonic() >= deaf_until:
            deaf_until = time.monotonic() + PATIENCE_S
            ending.append(signal.Signals(number).name)
            raise KeyboardInterrupt

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if ending or finish():
            end(number)

    def terminate(number: int, _frame: FrameType | None) -> None:
        if signal.Signals(number).name == "SIGHUP":
            _leave_terminal()
        end(number)

    wanted = dict.fromkeys(FINISHES, interrupt) | dict.fromkeys(ENDS, terminate)
    numbers = {getattr(signal, name): handler for name, handler in wanted.items() if hasattr(signal, name)}
    heard = {n: handler for n, handler in numbers.items() if signal.getsignal(n) is not signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    try:
        yield
    except KeyboardInterrupt:
        why = f"stopped by {ending[0]}" if ending and ending[0] in ENDS else "stopped"
        raise Stopped(f"{why}; run the same command again to go on") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Let what is still to be said go nowhere: writing to a terminal that was closed is an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # not a file, or closed
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
