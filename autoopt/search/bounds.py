"""What a recipe can hope for before it is trained: whether its training can pay, judged by the study's own results.

Two kinds of bounds, both optimistic. *Cheap* metrics (size, download, latency, memory) hardly depend on how long a
model trains: candidates of the same scheme have them already, or the one-shot file, of masks and centroids without
training, shows them. *Quality* is bounded from above by what milder relatives reached, and by how far training has
come, plus margins that no candidate of this study has exceeded.
"""

import bisect
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoopt.core import reference_values
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.search.relatives import Relatives
from autoopt.study.objectives import Terms

ONE_SHOT_MARGIN = 0.2
"""How much smaller than its one-shot file, as a share, a trained file may come out after gzip.

Stated and tested: see `experiments/search_efficiency`, where no trained file was that much smaller."""
ENOUGH = 16
"""Candidates without which a margin is not believed."""
CHEAP = (
    "size_bytes",
    "compressed_bytes",
    "download_bytes",
    "latency_ms",
    "latency_ratio",
    "memory_bytes",
    "flash_bytes",
)
"""Metrics that hardly depend on how long a model is trained; less is better of each."""
BY_WEIGHTS = ("compressed_bytes", "download_bytes")
"""Those that follow from the values of the weights, on every target."""
OF_WEIGHTS = ("prune", "cluster", "levels")
"""Parts that change the values of the weights alone."""
UNKNOWN = 1e18
"""Stands for a figure that is not measured yet and may be as large as it likes."""
Point = tuple[str, str]
"""A stage, and whether it is `begun` or `done`."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why training a recipe can't pay.

    Attributes:
        kind: `over budget` or `dominated`.
        reason: a line for people.
        point: how far its training had come, or None.
        score: reached there.
    """

    kind: str
    reason: str
    point: Point | None = None
    score: float | None = None


def program(recipe: Recipe) -> tuple[object, ...]:
    """What decides, beside the weights' values, how large and fast a file is: two that share it are the same program."""
    return recipe.scheme, recipe.channels, recipe.quantize


class Prospects:
    """Bounds for recipes, from candidates that are done.

    Args:
        candidates: measured ones; the baseline among them.
        terms: that the study is judged by.
        exact: whether the target computes its metrics from the very file, so that only a file shows them.
    """

    def __init__(self, candidates: Iterable[Candidate], terms: Terms, *, exact: bool) -> None:
        self.metrics, self.quality = terms.metrics, terms.quality.name
        self.objectives, self.budgets = terms.objectives, terms.budgets
        self.exact = exact
        self._forget()
        self.learn(candidates)

    def _forget(self) -> None:
        self.candidates: list[Candidate] = []
        self._known = Relatives()
        self._scores: dict[int, float] = {}
        self._relatives: dict[int, list[float]] = {}

    def learn(self, candidates: Iterable[Candidate]) -> None:
        """Take over what is done by now; costs as much as there is new, for a night has thousands of candidates.

        Args:
            candidates: all that are done.
        """
        able = [c for c in candidates if not c.failed and c.value(self.quality) is not None]
        scores = {c.number: self._score(c.measurements[self.quality].value) for c in able}
        before = self.candidates
        kept = [c.recipe for c in able[: len(before)]] == [c.recipe for c in before]
        if not kept or any(scores[c.number] != self._scores.get(c.number) for c in able[: len(before)]):
            self._forget()  # one was measured anew, taken away, or came between
        first = len(self.candidates)
        self.candidates, self._scores = able, scores
        self._relate(first)
        self._references = {b.metric: reference_values.reference_value(able, b.metric) for b in self.budgets}
        self._by_program: dict[tuple[object, ...], list[Candidate]] = {}
        for c in able:
            self._by_program.setdefault(program(c.recipe), []).append(c)
        self._inside = {c.number for c in able if not c.refused and self._fits(c)}
        self._margin = self._relatives_margin()
        self._training_margins: dict[Point, float] = {}

    def _relate(self, first: int) -> None:
        """Find the milder relatives of the candidates from `first` on, and the earlier ones that they are milder than."""
        earlier = [c.number if c.recipe.trains else None for c in self.candidates[:first]]
        new = self.candidates[first:]
        for c in new:
            self._known.add(c.recipe)
        ordered = np.array(list(self._scores.values()))
        for c in new:
            for index in np.flatnonzero(self._known.harsher_than(c.recipe)[: len(earlier)]) if earlier else ():
                if (number := earlier[index]) is not None:
                    bisect.insort(self._relatives[number], self._scores[c.number])
            if c.recipe.trains:
                self._relatives[c.number] = np.sort(ordered[self._known.milder_than(c.recipe)]).tolist()

    # ---- quality, as a score: more is better

    def _score(self, value: float) -> float:
        return -self.metrics[self.quality].sign * value

    def _typical(self, recipe: Recipe) -> float | None:
        """The median score of a recipe's milder relatives (of two the better: one may have diverged)."""
        indices = np.flatnonzero(self._known.milder_than(recipe))
        found = [self._scores[self.candidates[index].number] for index in indices]
        return statistics.median_high(found) if found else None

    def _relatives_margin(self) -> float:
        """By how much a candidate has been better than its milder relatives' median, at most."""
        medians = {number: scores[len(scores) // 2] for number, scores in self._relatives.items() if scores}
        gains = [self._scores[number] - median for number, median in medians.items()]
        return max(0.0, *gains) if len(gains) >= ENOUGH else math.inf

    def _training_margin(self, point: Point) -> float:
        """By how much a candidate has been better in the end than at a point of its training, at most."""
        if point not in self._training_margins:
            gains = []
            for c in self.candidates:
                if (there := self.reached(c.report, point)) is not None:
                    gains.append(self._scores[c.number] - there)
            self._training_margins[point] = max(gains) if len(gains) >= ENOUGH else math.inf
        return self._training_margins[point]

    def reached(self, reports: Iterable[Mapping[str, object]], point: Point) -> float | None:
        """The score at a point of a training, by the reports of its stages; None if it did not pass there."""
        stage, how = point
        for report in reports:
            if report["stage"] == stage:
                epochs, number = report["epochs"], report.get("judged_epoch" if how == "begun" else "best_epoch")
                if isinstance(epochs, Sequence) and isinstance(number, int):
                    return self._score(epochs[number - 1][self.quality])
        return None

    def hope(self, recipe: Recipe, point: Point | None = None, score: float | None = None) -> float:
        """The best score that a recipe may reach.

        Args:
            recipe: not trained yet, or half.
            point: how far its training has come.
            score: reached there.
        """
        typical = self._typical(recipe)
        bounds = [math.inf if typical is None else typical + self._margin]
        if point is not None and score is not None:
            bounds.append(score + self._training_margin(point))
        return min(bounds)

    # ---- what is cheap to know

    def floors(self, recipe: Recipe, one_shot: Mapping[str, float] | None = None) -> dict[str, float]:
        """The least that each cheap metric may come to, for which that is known.

        Args:
            recipe: not trained yet.
            one_shot: metrics of its file of masks and centroids without training.
        """
        found: dict[str, float] = {}
        for name in CHEAP:
            if seen := [c for c in self._alike(recipe, name) if c.value(name) is not None]:
                slack = 1 - ONE_SHOT_MARGIN if self._by_weights(name) else 1.0
                found[name] = slack * min(c.measurements[name].low for c in seen)
        for name, value in (one_shot or {}).items():
            known = value * (1 - ONE_SHOT_MARGIN if self._by_weights(name) else 1.0)
            found[name] = max(known, found.get(name, known))
        return found

    def _by_weights(self, metric: str) -> bool:
        return metric in BY_WEIGHTS or self.exact

    def _alike(self, recipe: Recipe, metric: str) -> list[Candidate]:
        """Candidates that have the metric in common with a recipe: of the same program, or also of its weights."""
        same = self._by_program.get(program(recipe), [])
        if not self._by_weights(metric):
            return same
        return [c for c in same if all(getattr(c.recipe, part) == getattr(recipe, part) for part in OF_WEIGHTS)]

    # ---- whether it can pay

    def verdict(
        self,
        recipe: Recipe,
        one_shot: Mapping[str, float] | None = None,
        point: Point | None = None,
        score: float | None = None,
    ) -> Verdict | None:
        """Why training a recipe, or going on with it, can't pay; None if it can.

        Args:
            recipe: not trained yet, or half.
            one_shot: as of `floors`.
            point: as of `hope`.
            score: as of `hope`.
        """
        floors, hope = self.floors(recipe, one_shot), self.hope(recipe, point, score)
        found = self._over_budget(floors, hope) or self._dominated(recipe, floors, hope)
        return None if found is None else dataclasses.replace(found, point=point, score=score)

    def _over_budget(self, floors: Mapping[str, float], hope: float) -> Verdict | None:
        best = {**floors, **({self.quality: self._score(hope)} if math.isfinite(hope) else {})}
        for budget in self.budgets:
            value = best.get(budget.metric)
            excess = reference_values.margin(budget, value, self._references[budget.metric])
            if value is not None and excess is not None and excess > 0:
                shown = self.metrics[budget.metric].show(value)
                bound = "at most" if budget.sense == ">=" else "at least"
                return Verdict(kind="over budget", reason=f"{bound} {shown}, outside {budget.text}")
        return None

    def _dominated(self, recipe: Recipe, floors: Mapping[str, float], hope: float) -> Verdict | None:
        if not math.isfinite(hope) or self.quality not in self.objectives:
            return None
        for c in self.candidates:
            if (
                c.number in self._inside
                and self._scores[c.number] >= hope
                and all(self._no_worse(c, recipe, name, floors) for name in self.objectives if name != self.quality)
            ):
                best = self.metrics[self.quality].show(self._score(hope))
                return Verdict(kind="dominated", reason=f"at best {best}, which {c.name} beats at no more cost")
        return None

    def _fits(self, c: Candidate) -> bool:
        """Whether a candidate is inside the budgets: one that is not beats nobody, for it never stands on the front."""
        margins = (reference_values.margin(b, c.value(b.metric), self._references[b.metric]) for b in self.budgets)
        return all(margin is not None and margin <= 0 for margin in margins)

    def _no_worse(self, c: Candidate, recipe: Recipe, metric: str, floors: Mapping[str, float]) -> bool:
        """Whether a candidate is at least as good in a metric as a recipe can come to be."""
        value = c.value(metric)
        if value is None or metric not in CHEAP:
            return False
        if program(c.recipe) == program(recipe) and not self._by_weights(metric):
            return True  # the same program: what differs between their readings is noise
        return metric in floors and value <= floors[metric]

    def tells(self, recipe: Recipe, names: Iterable[str]) -> bool:
        """Whether knowing some metrics of the one-shot file could show that the recipe's training can't pay."""
        return self.verdict(recipe, dict.fromkeys(names, UNKNOWN)) is not None
