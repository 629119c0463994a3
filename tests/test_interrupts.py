"""Ctrl-C, once and twice."""

import os
import signal
import threading

import pytest

from autoopt.errors import TargetUnavailable
from autoopt.interrupts import two_steps


class Run:
    """Something that can be stopped."""

    def __init__(self) -> None:
        self.calls = 0

    def stop(self) -> bool:
        self.calls += 1
        return self.calls > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run = Run()
    calls = []
    with pytest.raises(TargetUnavailable, match="run the same command again"), two_steps(run.stop):  # noqa: PT012 - two signals
        os.kill(os.getpid(), number)
        calls.append(run.calls)
        os.kill(os.getpid(), number)
        calls.append(run.calls)
    assert calls == [1]
    assert signal.getsignal(number) == before


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with two_steps(Run().stop):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
