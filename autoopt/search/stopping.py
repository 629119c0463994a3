"""Why a search ends."""

import enum
from dataclasses import dataclass

from autoopt.core.results import Results
from autoopt.search.bounds import CHEAP

FAIR_SHARE = 40
"""Recipes of a space that are all over a budget before it counts as one that nothing can meet."""
IN_A_ROW = 100
"""Proposals that could not pay, one after the other, after which nothing better is expected."""


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


def hopeless(results: Results, skipped_in_a_row: int) -> Reason | None:
    """Why to end early, where budgets can't be met or nothing more can reach the front; None where there is hope."""
    over = sum(skipped.kind == "over budget" for skipped in results.skipped)
    cheap = [budget for budget in results.budgets if budget.metric in CHEAP]
    if over >= FAIR_SHARE and not any(results.fits(c, cheap) for c in results.candidates):
        limits = ", ".join(budget.text for budget in cheap)
        text = f"nothing seems to meet {limits}: {over} recipes from all over the space can't"
        return Reason(Kind.HOPELESS, text)
    if skipped_in_a_row >= IN_A_ROW:
        return Reason(Kind.HOPELESS, f"the last {IN_A_ROW} proposals could not reach the front")
    return None
