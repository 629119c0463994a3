"""What a budget means for a candidate: one answer for the search, the pick and the page."""

from collections.abc import Iterable

from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate

UNTRAINED = ("baseline", "scheme")
"""Origins of candidates that others are read against."""


def baseline(candidates: Iterable[Candidate]) -> Candidate | None:
    """The untouched model in float32, or None before it was measured."""
    return next((c for c in candidates if c.origin == "baseline" and not c.failed), None)


def reference(candidates: Iterable[Candidate], metric: str) -> Candidate | None:
    """The candidate that a metric is read against: the baseline, or None if nothing has the metric.

    Where the target can't run the baseline in float32, that is its first post-training scheme there.
    """
    able = [c for c in candidates if c.origin in UNTRAINED and not c.failed]
    if baseline(able) is None:
        return None
    having = [c for c in able if c.value(metric) is not None]
    return min(having, key=lambda c: (c.origin != "baseline", c.number), default=None)


def reference_value(candidates: Iterable[Candidate], metric: str) -> float | None:
    """The value that budgets relative to the baseline are read against, or None before it is known."""
    found = reference(candidates, metric)
    return None if found is None else found.value(metric)


def margin(budget: Budget, value: float | None, reference: float | None) -> float | None:
    """How far a value is outside a budget, in the metric's unit (0 or less is inside); None where that is not known.

    Args:
        budget: absolute, or relative to the baseline.
        value: of the budget's metric, or None where it was not measured.
        reference: as of `reference_value`.
    """
    if value is None or (budget.factor != 0 and reference is None):
        return None
    return budget.margin(value, reference)


def excess(budget: Budget, value: float | None, reference: float | None) -> float | None:
    """The margin relative to the limit, so that budgets of all units weigh alike; None where it is not known."""
    found = margin(budget, value, reference)
    return None if found is None else found / (abs(budget.bound(reference)) or 1.0)


def inside(candidate: Candidate, budgets: Iterable[Budget], candidates: Iterable[Candidate]) -> bool:
    """Whether a candidate is inside every budget by what the search measured; what is not known is outside.

    Args:
        candidate: that is asked about.
        budgets: to be inside of.
        candidates: all that are done, the baseline among them.
    """
    known = tuple(candidates)
    margins = (margin(b, candidate.value(b.metric), reference_value(known, b.metric)) for b in budgets)
    return all(m is not None and m <= 0 for m in margins)
