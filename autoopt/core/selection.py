"""The pick: which candidate to ship inside some budgets, why, what holds it back, and how far that can be relied on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from autoopt.core import equivalence
from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.ranking import MILLISECONDS, Ranking, Relation, surely_better
from autoopt.core.reprs import html_text, short
from autoopt.core.tables import html

WHY = {
    "alone": "the best {quality} of all that fit{where}; no other comes within {margin} of it",
    "fastest": "fastest of {n} candidates whose {quality} is within {margin} of the best{where}"
    " (of equally fast ones, the smallest download)",
    "smallest": "smallest of {n} candidates whose {quality} is within {margin} of the best{where}",
}
"""Why a candidate is the pick."""
DOUBT = (
    "too few items to tell: with {items} items it is open whether {n} more that fit are within {margin} of the best {quality};"
    " about {enough} items would do"
)
"""How far the pick can't be relied on."""
UNCONFIRMED = (
    "not confirmed: its {quality} was measured on the validation split alone, that of others on the test split too"
)
"""Said of a pick that was not measured again where others were."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The answer to 'which one do I ship?'.

    Attributes:
        candidate: the recommended one, or None where nothing fits.
        tied: those as good as the best (see `equivalence`), the pick among them.
        why: one sentence.
        binding: the budgets that hold the pick back (or that keep everything out), in words.
        nearest: where nothing fits, up to three candidates that miss by least.
        doubt: that the items are too few to tell, and how many would do; `` where they are enough.
        advice: that the pick is not worth it, for it is in no objective better than the untouched model; else ``.
        metrics: by name, so that a notebook shows values with their units.
    """

    candidate: Candidate | None
    tied: tuple[Candidate, ...]
    why: str
    binding: tuple[str, ...] = ()
    nearest: tuple[Candidate, ...] = ()
    doubt: str = ""
    advice: str = ""
    metrics: Mapping[str, Metric] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        what = "nothing" if self.candidate is None else f"{self.candidate.name} {self.candidate.recipe.label()}"
        return f"<Pick of {short(f'{what}: {self.why}')}>"

    def _repr_html_(self) -> str:
        shown = self.nearest if self.candidate is None else (self.candidate,)
        head = "Nothing is picked" if self.candidate is None else f"Pick {self.candidate.name}"
        limits = "".join(html_text(f"limited by {text}") for text in self.binding)
        said = "".join(html_text(text) for text in (self.doubt, self.advice) if text)
        return html_text(f"{head}: {self.why}") + said + html(shown, self.metrics) + limits


class Reading(NamedTuple):
    """One value of a candidate against a budget.

    Attributes:
        margin: how far it is outside, in the metric's unit; 0 or less is inside.
        value: in the metric's unit.
        split: that it is of, where some candidate was measured on both; else ``.
    """

    margin: float
    value: float
    split: str


class Judged(Protocol):
    """What a pick is made from: `Results`, which knows of this module."""

    @property
    def metrics(self) -> Mapping[str, Metric]: ...
    @property
    def quality(self) -> str: ...
    @property
    def objectives(self) -> tuple[str, ...]: ...
    @property
    def baseline(self) -> Candidate | None: ...
    @property
    def margin(self) -> float: ...
    @property
    def confirms(self) -> bool: ...
    def ranking(self) -> Ranking: ...
    def fits(self, candidate: Candidate, budgets: Iterable[Budget] | None = None) -> bool: ...
    def excess(self, candidate: Candidate, budgets: Iterable[Budget]) -> float: ...
    def hardest(self, candidate: Candidate, budget: Budget) -> Reading | None: ...
    def difference(self, a: Candidate, b: Candidate) -> tuple[float, float, float]: ...
    def confirmed_difference(self, a: Candidate, b: Candidate) -> tuple[float, float, float] | None: ...


def within(results: Judged, budgets: tuple[Budget, ...]) -> Pick:
    """The candidate to ship inside some budgets, see `Ranking.choose`."""
    ranking = results.ranking()
    measured = ranking.candidates
    if not measured:
        return Pick(candidate=None, tied=(), why="no candidate has been measured yet")
    each = {budget: np.array([results.fits(c, [budget]) for c in measured], dtype=bool) for budget in budgets}

    def inside(chosen: Iterable[Budget]) -> np.ndarray:
        kept: np.ndarray = np.logical_and.reduce([np.ones(len(measured), dtype=bool), *(each[b] for b in chosen)])
        return kept

    fitting = inside(budgets)
    if not fitting.any():
        nearest = sorted(measured, key=lambda c: (results.excess(c, budgets), c.number))[:3]
        return Pick(
            candidate=None,
            tied=(),
            why=f"nothing fits: none of {len(measured)} candidates is inside every budget",
            binding=_barriers(results, measured, budgets),
            nearest=tuple(nearest),
        )
    place, tied = ranking.choose(fitting)
    chosen = measured[place]
    binding = []
    for budget in budgets:
        freed = measured[ranking.choose(inside(b for b in budgets if b is not budget))[0]]
        if freed is not chosen:
            binding.append(f"{budget.text} (without it: {freed.name} {freed.recipe.label()})")
    tied_too = tuple(sorted((c for c, keep in zip(measured, tied, strict=True) if keep), key=lambda c: c.number))
    kept = results.baseline is not None and results.fits(results.baseline, budgets)
    return Pick(
        candidate=chosen,
        tied=tied_too,
        why=why(results, chosen, len(tied_too)),
        binding=tuple(binding),
        doubt=_doubt(results, ranking, fitting),
        advice=advice(results, chosen) if kept else "",
    )


def why(results: Judged, chosen: Candidate, tied: int) -> str:
    """One sentence on a pick that is one of `tied` candidates."""
    kind = "alone" if tied == 1 else "fastest" if MILLISECONDS in chosen.measurements else "smallest"
    return filled(results, WHY[kind], n=tied)


def filled(results: Judged, text: str, **more: object) -> str:
    """A text with the names of the study's quality, margin and split put in; blanks that nothing is given for stay.

    Args:
        results: of the study.
        text: with blanks such as `{quality}`.
        more: what else is put in, by the blank's name.
    """
    metric = results.metrics[results.quality]
    found = {
        "quality": metric.label,
        "margin": equivalence.shown(results.margin, metric),
        "where": " on the validation split" if results.confirms else "",
        **more,
    }
    # In one pass: a name that others chose may look like a blank.
    return re.sub(r"\{(\w+)\}", lambda blank: str(found.get(blank[1], blank[0])), text)


def _doubt(results: Judged, ranking: Ranking, inside: np.ndarray) -> str:
    best = int(np.argmax(inside))
    relation: Relation = ranking.relation(best)
    n = int((relation.too_few & inside).sum())
    if not n or not relation.enough:
        return ""
    items = ranking.candidates[best].measurements[results.quality].n
    return filled(results, DOUBT, items=f"{items:,}", n=n, enough=f"{relation.enough:,}")


def advice(results: Judged, candidate: Candidate) -> str:
    """That a candidate is not worth it, where it is in no objective better than the untouched model; else ``."""
    baseline = results.baseline
    if baseline is None or baseline.refused or candidate is baseline:
        return ""
    known = [name for name in results.objectives if name in candidate.measurements and name in baseline.measurements]
    if not known or any(_better(results, candidate, baseline, name) for name in known):
        return ""
    changes = []
    for name in known:
        metric = results.metrics[name]
        value, reference = candidate.measurements[name].value, baseline.measurements[name].value
        tested = results.confirmed_difference(candidate, baseline) if name == results.quality else None
        if tested is not None:
            value, reference = tested[0], 0.0
        split = " on the test split" if tested is not None else ""
        changes.append(f"{metric.label} {metric.show_change(value, reference)}{split}")
    return (
        f"not worth it: keep the untouched model, {baseline.name}; "
        f"{candidate.name} is better in no objective ({', '.join(changes)})"
    )


def _better(results: Judged, candidate: Candidate, baseline: Candidate, name: str) -> bool:
    """Whether it is better beyond the spread, or in quality by more than the margin; on the test split if that was seen."""
    metric = results.metrics[name]
    if name == results.quality:
        found = results.confirmed_difference(candidate, baseline) or results.difference(candidate, baseline)
        gains = sorted(-metric.sign * part for part in found)
        return gains[0] > 0 or -metric.sign * found[0] > results.margin
    return surely_better(candidate, baseline, metric)


def _barriers(results: Judged, measured: Sequence[Candidate], budgets: tuple[Budget, ...]) -> tuple[str, ...]:
    lines = []
    for budget in budgets:
        inside = sum(results.fits(c, [budget]) for c in measured)
        others = tuple(b for b in budgets if b is not budget)
        freed = sum(results.fits(c, others) for c in measured)
        if freed and others:
            lines.append(f"{budget.text} (without it {freed} would fit)")
        elif not inside:
            lines.append(f"{budget.text} (best seen: {_best_seen(results, measured, budget)})")
    return tuple(lines) or ("all budgets together (each alone can be met)",)


def _best_seen(results: Judged, measured: Sequence[Candidate], budget: Budget) -> str:
    """The value that misses a budget by least, on the split where its candidate misses by most."""
    found = [reading for c in measured if (reading := results.hardest(c, budget)) is not None]
    best = min(found, key=lambda reading: reading.margin, default=None)
    if best is None:
        return "none"
    split = f" on the {best.split} split" if best.split else ""
    return f"{results.metrics[budget.metric].show(best.value)}{split}"
