"""Waits for what another process does, however busy the machine is: tests assert what came of it, and never how soon."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

LONGEST_S = 500.0
"""Less than a test may take (`timeout` in pyproject.toml), so that it can say what it has waited for."""


def until(condition: Callable[[], object], *, of: Popen[Any] | None = None, what: str = "") -> None:
    """Return once the condition holds.

    Args:
        condition: asked many times a second.
        of: the process that is to bring it about; that it has ended before is told at once.
        what: is waited for, in words, where the line of the test doesn't show it.
    """
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        ended = of is not None and of.poll() is not None
        assert not ended or condition(), f"it ended before: {what}"  # asked again: it may have been its last act
        assert time.monotonic() < deadline, f"waited in vain {what}".strip()
        time.sleep(0.02)
