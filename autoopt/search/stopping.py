"""Why a search ends."""

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What kind of end it is.

    `FINISHED`: what was asked for is done. `SPENT`: its time is up. `HOPELESS`: going on would not pay. `ASKED`: a person
    asked for it.
    """

    FINISHED = enum.auto()
    SPENT = enum.auto()
    HOPELESS = enum.auto()
    ASKED = enum.auto()


@dataclass(frozen=True)
class Reason:
    """Why a search begins nothing more.

    Attributes:
        kind: what kind of end it is.
        text: for people.
    """

    kind: Kind
    text: str


ALL_DONE = Reason(Kind.FINISHED, "all trials are done")
EXHAUSTED = Reason(Kind.FINISHED, "the space is exhausted: every recipe in it has been tried")
CONFIRMED = Reason(Kind.FINISHED, "confirmed")
TIME_IS_UP = Reason(Kind.SPENT, "time is up")
INTERRUPTED = Reason(Kind.ASKED, "interrupted")
