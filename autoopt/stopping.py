"""Why a search ends."""

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What kind of end it is.

    `FINISHED`: what was asked for is done. `SPENT`: its time is up. `HOPELESS`: going on would not pay. `ASKED`: a person
    asked for it, and what runs finishes first. `AT_ONCE`: the system asked for it, and what runs is left for the next run.
    """

    FINISHED = enum.auto()
    SPENT = enum.auto()
    HOPELESS = enum.auto()
    ASKED = enum.auto()
    AT_ONCE = enum.auto()


@dataclass(frozen=True)
class Reason:
    """Why a search begins nothing more.

    Attributes:
        kind: what kind of end it is.
        text: for people.
    """

    kind: Kind
    text: str

    @property
    def interrupts(self) -> bool:
        """Whether the search was cut short from outside, so that nothing is confirmed."""
        return self.kind in (Kind.ASKED, Kind.AT_ONCE)


ALL_DONE = Reason(Kind.FINISHED, "all trials are done")
EXHAUSTED = Reason(Kind.FINISHED, "the space is exhausted: every recipe in it has been tried")
CONFIRMED = Reason(Kind.FINISHED, "confirmed")
TIME_IS_UP = Reason(Kind.SPENT, "time is up")
INTERRUPTED = Reason(Kind.ASKED, "interrupted")
ENDED = Reason(Kind.AT_ONCE, "ended by the system")
