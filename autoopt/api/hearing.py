"""Passes on what a job that takes long says it is at, now and then."""

import time
from collections.abc import Callable
from pathlib import Path

EVERY_S = 30.0
"""Between two lines of one job."""


def listener(note: Path, say: Callable[[str], None]) -> Callable[[], bool]:
    """What is asked again and again while a job runs whether to stop it: it never is, but its words are passed on.

    Args:
        note: the file in which the job says what it is at.
        say: told that in a line, every half a minute, where it is something new.
    """
    heard = {"": time.monotonic()}

    def never() -> bool:
        if time.monotonic() - max(heard.values()) >= EVERY_S:
            try:
                text = note.read_text(encoding="utf-8")
            except OSError:  # it has said nothing yet
                return False
            if text and text not in heard:
                say(text)
            heard[text] = time.monotonic()
        return False

    return never
