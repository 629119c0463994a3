"""Ctrl-C, once and twice."""

import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest

from autoopt.errors import TargetUnavailable
from autoopt.search.interrupts import two_steps


class Run:
    """Something that can be stopped."""

    def __init__(self) -> None:
        self.calls = 0

    def stop(self) -> bool:
        self.calls += 1
        return self.calls > 1


def test_ctrl_c_asks_first_and_ends_the_second_time() -> None:
    number = signal.SIGINT
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_can_not_wait_ends_at_once_and_is_named(number: signal.Signals) -> None:
    run, after = Run(), []

    def interrupted() -> None:
        with two_steps(run.stop):
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)  # as service managers do
                os.kill(os.getpid(), signal.SIGINT)
                after.append("cleaned up")

    with pytest.raises(TargetUnavailable, match=f"stopped by {number.name}; run the same command again"):
        interrupted()
    assert (run.calls, after) == (0, ["cleaned up"])


def test_a_signal_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with two_steps(Run().stop):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_not_written_to(tmp_path: Path) -> None:
    """A real terminal, closed: the system signals its processes, and what they say afterwards must not fail."""
    code = "import sys, time\nfrom autoopt.search.interrupts import two_steps\n"
    code += "try:\n  with two_steps(lambda: True):\n    print('ready', flush=True); time.sleep(30)\n"
    code += "except Exception as e:\n  print(e, file=sys.stderr, flush=True); open(sys.argv[1], 'w').write(str(e))\n"
    told = tmp_path / "told"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, str(told)])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert (status, told.read_text()) == (0, "stopped by SIGHUP; run the same command again to go on")


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with two_steps(Run().stop):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
