"""Whether a file may pass: each budget held against what is known of the file, with how sure that is.

A budget is judged by the value, as everywhere; that its interval reaches to the other side of the limit is said. What is
not known is not judged: no guess counts as inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.core.budgets import Budget
from autoopt.core.metrics import Measurement, Metric

INSIDE, OUTSIDE, UNKNOWN = "inside", "outside", "not judged"
PASSED, BROKEN, UNDECIDED = 0, 1, 3
"""Exit codes: all inside; a budget is broken; none is known to be broken, and one could not be judged."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one metric of a file.

    Attributes:
        value: measured or recorded.
        baseline: the baseline's value there; None where it is not known.
        change: of a quality, the difference from the baseline with the ends of its 95 % interval, or None.
        where: on what, and by whom, in words.
    """

    value: Measurement
    baseline: float | None = None
    change: tuple[float, float, float] | None = None
    where: str = ""

    def ends(self, budget: Budget) -> tuple[float, float]:
        """Between which values the truth lies, as far as it matters to a budget: one against the baseline is of the change."""
        if budget.factor and self.change is not None and self.baseline is not None:
            return self.baseline + self.change[1], self.baseline + self.change[2]
        return self.value.low, self.value.high


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What became of one budget.

    Attributes:
        budget: which.
        metric: that it limits.
        verdict: `INSIDE`, `OUTSIDE` or `UNKNOWN`.
        evidence: that it was judged by; None where there is none.
        sure: whether the whole interval lies on the same side of the limit.
        why: it was not judged; else ``.
    """

    budget: Budget
    metric: Metric
    verdict: str
    evidence: Evidence | None = None
    sure: bool = True
    why: str = ""

    @property
    def limit(self) -> float | None:
        """The limit in the metric's unit; None where it is relative to what is not known."""
        known = self.evidence is not None and (self.evidence.baseline is not None or self.budget.factor == 0)
        return self.budget.bound(self.evidence.baseline) if known and self.evidence is not None else None

    def text(self) -> str:
        """A line for people: what, limit, got, interval, verdict."""
        begin = f"{self.verdict:{len(UNKNOWN)}}  {self.budget.text}"
        found, limit = self.evidence, self.limit
        if found is None or limit is None:
            return f"{begin}: {self.why}"
        show, value = self.metric.show, found.value
        spread = "" if value.low == value.high else f" ({show(value.low)} to {show(value.high)})"
        parts = [f"got {show(value.value)}{spread}, limit {show(limit)}"]
        if found.change is not None:
            change, *ends = (self.metric.show_change(part, 0) for part in found.change)
            parts.append(f"{change} ({' to '.join(ends)}) against the baseline")
        unsure = "" if self.sure else "; too few items to be sure" if found.change else "; not surely: see the interval"
        return f"{begin}: {', '.join(parts)}; {found.where}{unsure}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = self.evidence
        return {
            "budget": self.budget.text,
            "metric": self.metric.name,
            "verdict": self.verdict,
            "sure": self.sure if found is not None else None,
            "limit": self.limit,
            "value": None if found is None else found.value.to_dict(),
            "baseline": None if found is None else found.baseline,
            "change": None if found is None or found.change is None else list(found.change),
            "where": "" if found is None else found.where,
            "why": self.why,
        }


def judge(budget: Budget, metric: Metric, known: Sequence[Evidence], why: str) -> Ruling:
    """Hold a budget against what is known; of several splits it has to hold on all.

    Args:
        budget: which.
        metric: that it limits.
        known: of the file, one for each split; may be empty.
        why: nothing is known, in words.
    """
    usable = [found for found in known if not budget.factor or found.baseline is not None]
    if not usable:
        told = f"the baseline's {metric.label} is not known" if known else why
        return Ruling(budget=budget, metric=metric, verdict=UNKNOWN, why=told)
    worst = max(usable, key=lambda found: budget.margin(found.value.value, found.baseline))
    outside = budget.margin(worst.value.value, worst.baseline) > 0
    sides = {budget.margin(end, worst.baseline) > 0 for end in worst.ends(budget)}
    verdict = OUTSIDE if outside else INSIDE
    return Ruling(budget=budget, metric=metric, verdict=verdict, evidence=worst, sure=sides == {outside})


def exit_code(rulings: Sequence[Ruling]) -> int:
    """That of a gate with these rulings."""
    verdicts = {ruling.verdict for ruling in rulings}
    return BROKEN if OUTSIDE in verdicts else UNDECIDED if UNKNOWN in verdicts else PASSED
