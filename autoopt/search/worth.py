"""What is worth to be followed up: models that still do their work, and schemes that have something over the others."""

from collections.abc import Collection, Sequence

from autoopt.core.candidate import Candidate
from autoopt.core.results import Results

LOST = {"max": 0.1, "min": 0.25}
"""Where no budget limits the quality, a model that lost this share of the baseline's is broken; by the metric's direction."""


def broken(candidate: Candidate, results: Results) -> bool:
    """Whether a candidate lost so much quality that what is harsher has no point.

    That is so outside a budget that limits the quality, or, where there is none, when it has lost `LOST`.

    Args:
        candidate: that is done; one that failed is broken.
        results: of the study, with the baseline.
    """
    value, baseline = candidate.value(results.quality), results.baseline
    reference = None if baseline is None else baseline.value(results.quality)
    if candidate.failed or value is None:
        return True
    limits = [budget for budget in results.budgets if budget.metric == results.quality]
    if limits:
        return any(margin > 0 for margin in results.margins(candidate, limits).values())
    metric = results.metrics[results.quality]
    return reference is not None and metric.sign * (value - reference) > LOST[metric.direction] * abs(reference)


def paying(schemes: Sequence[str], results: Results) -> list[str]:
    """The schemes that have something over each other one, by what they make of the untouched model.

    One is left out where another is at least as good in all objectives, better in one, and its quality is at least as good
    within the study's margin. One that was not measured stays.

    Args:
        schemes: post-training ones.
        results: of the study.
    """
    alone = {c.recipe.scheme: c for c in results.candidates if not (c.recipe.trains or c.recipe.quantize or c.failed)}
    return [name for name in schemes if name not in alone or not _beaten(alone[name], alone.values(), results)]


def _beaten(one: Candidate, others: Collection[Candidate], results: Results) -> bool:
    return any(_beats(other, one, results) for other in others if other is not one)


def _beats(other: Candidate, one: Candidate, results: Results) -> bool:
    """Whether another candidate is better, for everybody who takes qualities within the margin, and readings within their noise, as equal."""
    better = False
    for name in results.objectives:
        a, b = other.measurements.get(name), one.measurements.get(name)
        if a is None or b is None:
            return False
        if name == results.quality:
            if results.metrics[name].sign * (a.value - b.value) > results.margin:
                return False
        elif a.low > b.high:
            return False
        else:
            better = better or a.high < b.low
    return better
