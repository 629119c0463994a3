"""Candidates and what follows from them: the front, the pick, comparisons. One truth for every face."""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.core import budgets as budget_syntax
from autoopt.core import class_changes, interchange, reference_values, selection
from autoopt.core import equivalence as equivalences
from autoopt.core.budgets import SHORT_FORMS, Budget, Limit
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.class_changes import ClassChange
from autoopt.core.metrics import Metric, difference
from autoopt.core.ranking import Ranking, non_dominated
from autoopt.core.recipe import Recipe
from autoopt.core.reprs import html_text, short
from autoopt.core.selection import Pick as Pick
from autoopt.core.selection import Reading
from autoopt.core.tables import Front, frame
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

COUNTED = {"front": "on the front", "infeasible": "outside the budgets", "failed": "failed"}
"""What is said of how many candidates have a status."""
SPLITS = ("validation", "test")
"""The splits that a confirmed candidate's quality was measured on."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study's candidates, with what is needed to judge them.

    Values are in the metrics' units: shares such as accuracy in [0, 1], latencies in milliseconds, sizes in bytes.

    Attributes:
        study: the study's name.
        metrics: all metrics that candidates may have, by name.
        quality: name of the task's own metric, such as `accuracy`.
        objectives: names of the metrics that the front is drawn over.
        budgets: the study's own limits.
        candidates: in the order of their numbers.
        skipped: recipes that were not trained, or not to their end, for that could not pay.
        provenance: where and how it was measured, plain values.
        equivalence: by how much qualities may differ and count as as good, such as `1 point`; `` for the default.
    """

    study: str
    metrics: Mapping[str, Metric]
    quality: str
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    equivalence: str = ""

    def __repr__(self) -> str:
        counts = Counter(self.statuses().values())
        told = [f"{counts[status]} {words}" for status, words in COUNTED.items() if counts[status]]
        n = len(self.candidates)
        text = ", ".join([f"{n} candidate{'' if n == 1 else 's'}", *told])
        return f"<{type(self).__name__} of {short(self.study, 60)}: {text}>"

    def _repr_html_(self) -> str:
        return html_text(repr(self)[1:-1]) + self.front()._repr_html_()

    @cached_property
    def baseline(self) -> Candidate | None:
        """The untouched model in float32, or None before it was measured."""
        return reference_values.baseline(self.candidates)

    def reference(self, metric: str) -> Candidate | None:
        """The candidate that a metric's change is told against; see `judging.reference`."""
        return self._references.get(metric)

    @cached_property
    def _references(self) -> dict[str, Candidate]:
        found = {name: reference_values.reference(self.candidates, name) for name in self.metrics}
        return {name: candidate for name, candidate in found.items() if candidate is not None}

    def _reference(self, metric: str) -> float | None:
        found = self.reference(metric)
        return None if found is None else found.value(metric)

    def margins(self, candidate: Candidate, budgets: Iterable[Budget] | None = None) -> dict[str, float]:
        """By each budget's text, how far the candidate is outside (0 or less is inside).

        A metric that was not measured, of the candidate or of a baseline that the limit is relative
        to, counts as infinitely far outside.
        """
        chosen = self.budgets if budgets is None else tuple(budgets)
        return {budget.text: self._margin(candidate, budget) for budget in chosen}

    def _margin(self, candidate: Candidate, budget: Budget) -> float:
        found = self.hardest(candidate, budget)
        return float("inf") if found is None else found.margin

    def hardest(self, candidate: Candidate, budget: Budget) -> Reading | None:
        """The value by which a candidate is furthest outside a budget, or None where it was not measured."""
        readings = self.readings(candidate, budget.metric)
        if reference_values.margin(budget, *readings[0]) is None:
            return None
        splits = SPLITS if budget.metric == self.quality and self.confirms else ("",)
        known = [
            Reading(margin, value, split)
            for (value, reference), split in zip(readings, splits, strict=False)
            if value is not None and (margin := reference_values.margin(budget, value, reference)) is not None
        ]
        return max(known, key=lambda reading: reading.margin)

    def readings(self, candidate: Candidate, metric: str) -> list[tuple[float | None, float | None]]:
        """What a budget must hold on: the value and the baseline's, on validation and, if confirmed, on test."""
        found = [(candidate.value(metric), self._reference(metric))]
        if metric == self.quality and candidate.confirmation is not None:
            base = None if self.baseline is None else self.baseline.confirmation
            found.append((candidate.confirmation.quality.value, None if base is None else base.quality.value))
        return found

    def fits(self, candidate: Candidate, budgets: Iterable[Budget] | None = None) -> bool:
        """Whether the target runs the candidate and it is inside every budget (the study's own by default)."""
        usable = not candidate.failed and not candidate.refused
        return usable and all(m <= 0 for m in self.margins(candidate, budgets).values())

    def front(self, budgets: Iterable[Budget] | None = None) -> Front:
        """The candidates inside the budgets that no other such candidate beats on every objective.

        Sorted by the first objective, best first. Of several with the very same values, all stay. The list has a
        `table()`.
        """
        chosen = self.budgets if budgets is None else tuple(budgets)
        if chosen not in self._fronts:
            self._fronts[chosen] = self._front(chosen)
        return Front(self._fronts[chosen], self.metrics, self.table)

    @cached_property
    def _fronts(self) -> dict[tuple[Budget, ...], list[Candidate]]:
        """Those that were asked for: a page asks for the same one several times."""
        return {}

    def _front(self, budgets: tuple[Budget, ...]) -> list[Candidate]:
        able = [c for c in self.candidates if self.fits(c, budgets) and self._point(c) is not None]
        points = np.array([self._point(c) for c in able], dtype=float).reshape(len(able), len(self.objectives))
        kept = [c for c, keep in zip(able, non_dominated(points), strict=True) if keep]
        return sorted(kept, key=lambda c: (*(self._point(c) or ()), c.number))

    def _point(self, candidate: Candidate) -> tuple[float, ...] | None:
        values = [candidate.value(name) for name in self.objectives]
        if any(v is None for v in values):
            return None
        return tuple(self.metrics[n].sign * v for n, v in zip(self.objectives, values, strict=True) if v is not None)

    def statuses(self, budgets: Iterable[Budget] | None = None) -> dict[int, str]:
        """By candidate number: `failed`, `infeasible`, `front` or `dominated` (for the study's own budgets by default)."""
        chosen = self.budgets if budgets is None else tuple(budgets)
        front = {c.number for c in self.front(chosen)}
        return {
            c.number: "failed"
            if c.failed
            else "infeasible"
            if not self.fits(c, chosen)
            else "front"
            if c.number in front
            else "dominated"
            for c in self.candidates
        }

    def difference(self, a: Candidate, b: Candidate) -> tuple[float, float, float]:
        """Quality of `a` minus quality of `b` on the validation split, with a 95 % interval; see `metrics.differences`."""
        return difference(a.scores(self.quality), b.scores(self.quality))

    def confirmed_difference(self, a: Candidate, b: Candidate) -> tuple[float, float, float] | None:
        """The same on the test split; None unless both are confirmed."""
        x, y = a.confirmation, b.confirmation
        if x is None or y is None:
            return None
        return difference(x.scores, y.scores)

    @cached_property
    def confirms(self) -> bool:
        """Whether any candidate was measured again on the test split, so that a number must say which split it is of."""
        return any(c.confirmation is not None for c in self.candidates)

    def flattery(self, candidate: Candidate) -> float | None:
        """By how much the search's change of quality from the baseline was better than the confirmed one.

        In the metric's unit, positive where the search flattered (the winner's curse); None unless both
        are confirmed.
        """
        baseline = self.baseline
        if baseline is None or candidate is baseline:
            return None
        again = self.confirmed_difference(candidate, baseline)
        if again is None:
            return None
        return -self.metrics[self.quality].sign * (self.difference(candidate, baseline)[0] - again[0])

    def class_changes(self, candidate: Candidate) -> list[ClassChange]:
        """For accuracy, what became of each class on the validation split, the worst first; else empty."""
        return [] if self.baseline is None else class_changes.between(candidate, self.baseline, self.class_name)

    def class_name(self, label: int) -> str:
        """A class's name, or its label where the task names none."""
        names = self.provenance.get("class_names", ())
        return str(names[label]) if label < len(names) else str(label)

    def dead_classes(self, candidate: Candidate) -> list[ClassChange]:
        """Classes that the baseline knew and the candidate has lost, whatever the average says."""
        return [change for change in self.class_changes(candidate) if change.dead]

    def tied(self, a: Candidate, b: Candidate) -> bool:
        """Whether the two are as good (see `equivalence`) on the validation split."""
        return a is b or bool(equivalences.as_good(np.array(self.difference(a, b)), self.margin))

    def parse_budgets(self, texts: Iterable[str] = (), **short_forms: Limit) -> tuple[Budget, ...]:
        """Budgets in the shared syntax and in short forms (see `budgets.from_short_forms`)."""
        known = (*SHORT_FORMS, "max_accuracy_drop", "max_quality_drop")
        for name in short_forms:
            if name not in known:
                raise ConfigError(f"budgets: unknown limit {name!r}; {nearest(name, known)}")
        parsed = [budget_syntax.parse(text, self.metrics) for text in texts]
        return tuple(parsed + budget_syntax.from_short_forms(self.metrics, self.quality, **short_forms))

    def asked(self, texts: Iterable[str] = (), *, no_budget: bool = False, **short_forms: Limit) -> tuple[Budget, ...]:
        """The budgets that someone asks for, in the syntax of `parse_budgets`; the study's own if there are none.

        Args:
            texts: as of `parse_budgets`.
            no_budget: none at all, not the study's own either.
            **short_forms: as of `parse_budgets`.

        Raises:
            ConfigError: for a budget that can't be read, or is relative to what the baseline does not have.
        """
        budgets = self.parse_budgets(texts, **short_forms)
        if no_budget:
            if budgets:
                raise ConfigError(f"expected budgets or none, got both: no budget, and {budgets[0].text}")
            return ()
        if any(not c.failed for c in self.candidates):
            for budget in budgets:
                budget.bound(self._reference(budget.metric))
        return budgets or self.budgets

    def pick(self, *texts: str, **short_forms: Limit) -> Pick:
        """Recommend one candidate inside the given budgets (the study's own if none is given).

        Among the candidates inside, the one with the best quality is found, then all that are
        as good (see `equivalence`); of those the fastest is picked, and of about equally fast ones
        (see `Ranking.as_fast`) the smallest download.

        Args:
            *texts: budgets such as `"latency_ms <= 2"`.
            **short_forms: `max_size="300KB"`, `max_latency="2ms"`, `max_accuracy_drop="1%"`, ...

        Raises:
            ConfigError: as of `asked`.
        """
        found = self.pick_within(self.asked(texts, no_budget=False, **short_forms))
        return dataclasses.replace(found, metrics=self.metrics)

    def ranking(self) -> Ranking:
        """All that may be picked: measured, and run by the target."""
        able = [c for c in self.candidates if not c.failed and not c.refused and c.value(self.quality) is not None]
        return Ranking(able, self.metrics, self.quality, self.objectives, self.margin)

    @cached_property
    def margin(self) -> float:
        """By how much qualities may differ and count as as good, in the metric's unit; see `equivalence`.

        A relative margin is of the baseline's value on the validation split; before there is a baseline, of the best.
        """
        metric = self.metrics[self.quality]
        reference = None if self.baseline is None else self.baseline.value(self.quality)
        if reference is None:
            values = [v for c in self.candidates if not c.failed and (v := c.value(self.quality)) is not None]
            reference = min(values, key=lambda v: metric.sign * v, default=None)
        return equivalences.parse(self.equivalence, metric).margin(reference)

    def pick_within(self, budgets: tuple[Budget, ...]) -> Pick:
        """The same for budgets that were read already."""
        return selection.within(self, budgets)

    def excess(self, candidate: Candidate, budgets: Iterable[Budget]) -> float:
        """Largest overrun of any budget, relative to its limit."""
        worst = 0.0
        for budget in budgets:
            margin = self.margins(candidate, [budget])[budget.text]
            if margin == np.inf:
                return margin
            if margin > 0:
                worst = max(worst, margin / (abs(budget.bound(self._reference(budget.metric))) or 1.0))
        return worst

    def flags(self, candidate: Candidate) -> tuple[str, ...]:
        """What a reader must know of a candidate's measurements, each once."""
        return tuple(dict.fromkeys(flag for m in candidate.measurements.values() for flag in m.flags))

    def find(self, number: int | str) -> Candidate:
        """The candidate with that number (`7` or `#7`).

        Raises:
            ConfigError: if there is none.
        """
        text = str(number).lstrip("#")
        for candidate in self.candidates:
            if str(candidate.number) == text:
                return candidate
        raise ConfigError(f"no candidate {number} in study {self.study}; it has {len(self.candidates)}")

    def rows(
        self, candidates: Iterable[Candidate] | None = None, budgets: Iterable[Budget] | None = None
    ) -> list[dict[str, Any]]:
        """One flat row a candidate: number, status, origin, recipe, each metric with low and high, failure.

        Args:
            candidates: all by default.
            budgets: that the status is told for; the study's own by default.
        """
        statuses = self.statuses(budgets)
        return [self._row(c, statuses[c.number]) for c in (self.candidates if candidates is None else candidates)]

    def columns(self) -> list[str]:
        """Names of what `rows` holds, in order."""
        return list(self._row(Candidate(number=0, recipe=Recipe()), ""))

    def _row(self, c: Candidate, status: str) -> dict[str, Any]:
        row: dict[str, Any] = {"number": c.number, "status": status, "origin": c.origin, "recipe": c.recipe.label()}
        for name in self.metrics:
            m = c.measurements.get(name)
            row |= {name: None, f"{name}_low": None, f"{name}_high": None}
            if m is not None:
                row |= {name: m.value, f"{name}_low": m.low, f"{name}_high": m.high}
        again = c.confirmation
        row |= {f"{self.quality}_test": None if again is None else again.quality.value}
        row |= {"confirmed": again is not None, "flags": "; ".join(self.flags(c))}
        row |= {"failed_stage": c.failed_stage, "reason": c.reason or c.refused, "seconds": round(c.seconds, 3)}
        return row | {"digest": c.recipe.digest, "sha256": c.sha256}

    def table(self, candidates: Iterable[Candidate] | None = None) -> "pd.DataFrame":
        """Candidates as a pandas table, indexed by number; columns as in `rows`.

        Fractions such as accuracy lie in [0, 1], latencies are in milliseconds, sizes in bytes, `seconds` are those of
        the candidate's own jobs. What was not measured is NaN.

        Args:
            candidates: all by default.
        """
        return frame(self.rows(candidates), self.columns())

    def to_csv(self, candidates: Iterable[Candidate] | None = None, budgets: Iterable[Budget] | None = None) -> str:
        """Candidates as CSV with a header; columns and arguments as of `rows`."""
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=self.columns())
        writer.writeheader()
        writer.writerows(self.rows(candidates, budgets))
        return out.getvalue()

    def to_json(self) -> str:
        """Everything, as JSON; `from_json` is its inverse."""
        return interchange.text(self)

    @staticmethod
    def from_json(text: str) -> "Results":
        """Read what `to_json` wrote.

        Raises:
            ConfigError: if it is not such a text.
        """
        return Results(**interchange.read(text))
