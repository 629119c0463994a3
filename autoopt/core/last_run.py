"""The last run of a study: what was asked of it, and how it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from autoopt.core.validation import Shape, expect_keys, expect_one_of, expect_shape

BEGUN, ENDED, INTERRUPTED, WAITING, FAILED = "begun", "ended", "interrupted", "waiting", "failed"
STATES = (BEGUN, ENDED, INTERRUPTED, WAITING, FAILED)
"""In turn: it has not said yet how it ended; what was asked for is done, or the time for it is up; a person or the system
stopped it; it needs a person before it can go on; something is wrong that running it again does not mend."""
SEARCH, CONFIRM, RECIPES = "search", "confirm", "recipes"
KINDS = (SEARCH, CONFIRM, RECIPES)
"""What a run may be for: to search, to measure the front again, or to make certain recipes."""


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """One run of a study.

    Attributes:
        kind: one of `KINDS`.
        trials: candidates that were asked for in all.
        hours: after which nothing new was to be begun; None for no limit.
        begun: when, ISO 8601 in UTC.
        state: one of `STATES`.
        reason: why it is in that state, a line for people; may be empty.
        since: when it came into that state, ISO 8601 in UTC.
        exit_code: that its command ended with; None while it runs.
    """

    kind: str
    trials: int
    hours: float | None
    begun: str
    state: str = BEGUN
    reason: str = ""
    since: str = ""
    exit_code: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: naming the first value that can't be.
        """
        expect_keys("run", values, _SHAPE.example)
        expect_shape("run", values, _SHAPE)
        expect_one_of("kind", values.get("kind"), KINDS)
        expect_one_of("state", values.get("state", BEGUN), STATES)
        return cls(**{"trials": 0, "hours": None, "begun": "", **values})


_SHAPE = Shape(
    {
        "kind": str,
        "trials": int,
        "hours": (float, None),
        "begun": str,
        "state": str,
        "reason": str,
        "since": str,
        "exit_code": (int, None),
    }
)
