"""Ctrl-C: once to finish what runs, twice to stop at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from autoopt.errors import TargetUnavailable


@contextlib.contextmanager
def two_steps(stop: Callable[[], bool]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call `stop`; where it says that it was called before, end at once.

    Outside the main thread, where signals can't be had, nothing is changed.

    Args:
        stop: begins nothing new; returns whether it had done so already.

    Raises:
        TargetUnavailable: at the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        if stop():
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise TargetUnavailable("stopped; run the same command again to go on") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
