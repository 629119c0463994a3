"""Which candidate to ship: orders and relations among candidates from which every face draws the same pick.

The pick for a budget takes four look-ups (see `Ranking.choose`). The report's page does the very same ones
in the tables that are computed here, so it can't disagree.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from autoopt.core import equivalence
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement, Metric, Scores, differences, paired_differences, unpack_outcomes

RATIO, MILLISECONDS = "latency_ratio", "latency_ms"
AS_FAST = 0.05
"""At most so much slower than the fastest is what the smaller download is preferred to."""
BLOCK = 100
"""Candidates compared with all others at a time: bounds the memory."""


class Relation(NamedTuple):
    """How the qualities of all candidates compare with one of them; see `equivalence`.

    Attributes:
        as_good: shape (candidates,), dtype bool.
        too_few: for whom the items are too few to tell; likewise.
        enough: about how many items would do for these; 0 where there are none.
    """

    as_good: np.ndarray
    too_few: np.ndarray
    enough: int


class Ranking:
    """Candidates in the order of their quality, the best first; all indexes below are places in it.

    Args:
        candidates: measured ones, each with the quality.
        metrics: by name.
        quality: name of the task's metric.
        objectives: names of the metrics that the front is drawn over.
        margin: by which qualities may differ and count as as good, in the metric's unit.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        metrics: Mapping[str, Metric],
        quality: str,
        objectives: Sequence[str],
        margin: float,
    ) -> None:
        self.margin = margin
        self._metrics, self._quality, self._objectives = metrics, quality, objectives
        costs = [o for o in objectives if o != quality and metrics[o].direction == "min"]
        self._costs = tuple(dict.fromkeys((MILLISECONDS, *costs, "compressed_bytes", "size_bytes")))
        sign = metrics[quality].sign
        self.candidates = sorted(
            candidates, key=lambda c: (sign * c.measurements[quality].value, self._cost(c), c.number)
        )

    def _cost(self, candidate: Candidate) -> tuple[float, ...]:
        found = (candidate.value(name) for name in self._costs)
        return (*(np.inf if value is None else value for value in found),)

    @cached_property
    def fastest(self) -> list[int]:
        """Places by latency, then by the other costs."""
        cost = [(self._cost(c), c.number) for c in self.candidates]
        return sorted(range(len(cost)), key=cost.__getitem__)

    @cached_property
    def smallest(self) -> list[int]:
        """Places by the costs other than latency."""
        cost = [(self._cost(c)[1:], c.number) for c in self.candidates]
        return sorted(range(len(cost)), key=cost.__getitem__)

    @cached_property
    def _scores(self) -> list[Scores]:
        return [c.scores(self._quality) for c in self.candidates]

    def ties(self, place: int) -> np.ndarray:
        """Whose quality is as good as one candidate's (see `equivalence`).

        Returns:
            shape (candidates,), dtype bool; itself among them.
        """
        return self.relation(place).as_good

    def relation(self, place: int) -> Relation:
        """How the quality of each candidate compares with that of one."""
        return self._related(place, differences(self._scores[place], self._scores))

    def _related(self, place: int, found: np.ndarray) -> Relation:
        found[place] = 0.0  # it is itself
        few = equivalence.too_few(found, self.margin)
        items = self._scores[place].measurement.n
        return Relation(equivalence.as_good(found, self.margin), few, equivalence.enough(items, found, self.margin))

    def relations(self) -> list[Relation]:
        """All of `relation`, faster together where accuracies are compared."""
        places = range(len(self.candidates))
        n = {s.measurement.n if s.outcomes else 0 for s in self._scores}
        if len(n) != 1 or 0 in n:
            return [self.relation(place) for place in places]
        right = np.stack([unpack_outcomes(s.outcomes, s.measurement.n) for s in self._scores])
        rows = (
            row for part in np.array_split(right, -(-len(right) // BLOCK)) for row in paired_differences(part, right)
        )
        return [self._related(place, row) for place, row in zip(places, rows, strict=True)]

    def as_fast(self, place: int) -> np.ndarray:
        """Who is about as fast as one candidate: intervals overlap, and at most `AS_FAST` slower by the estimates.

        Without the second, noise would pass for speed: an interval that is wide overlaps with much that is slower.

        Returns:
            shape (candidates,), dtype bool; itself among them.
        """
        metric, low, value = self.reach(place)
        overlaps, near = np.zeros((2, len(self.candidates)), dtype=bool)
        overlaps[self.by_low[metric][:low]] = True
        near[self.by_value[metric][:value]] = True
        as_fast = np.asarray(overlaps & near)
        as_fast[place] = True
        return as_fast

    @cached_property
    def by_low(self) -> dict[str, list[int]]:
        """For both latency metrics, the places of those that have it, by the lower end of its interval."""
        return {name: self._ordered(name, "low") for name in (RATIO, MILLISECONDS)}

    @cached_property
    def by_value(self) -> dict[str, list[int]]:
        """The same by the estimate."""
        return {name: self._ordered(name, "value") for name in (RATIO, MILLISECONDS)}

    def _ordered(self, metric: str, part: str) -> list[int]:
        having = [place for place, c in enumerate(self.candidates) if metric in c.measurements]
        return sorted(having, key=lambda place: getattr(self.candidates[place].measurements[metric], part))

    def reach(self, place: int) -> tuple[str, int, int]:
        """How far one candidate reaches: the latency metric, and how many of its `by_low` and of its `by_value` are as fast."""
        # The ratio to the baseline is measured within each process: it tells apart what milliseconds can't.
        name = RATIO if RATIO in self.candidates[place].measurements else MILLISECONDS
        limit = self.candidates[place].measurements.get(name)
        if limit is None:
            return name, 0, 0
        ends = (
            bisect_right(order[name], end, key=lambda p: getattr(self.candidates[p].measurements[name], part))
            for order, end, part in (
                (self.by_low, limit.high, "low"),
                (self.by_value, limit.value * (1 + AS_FAST) * (1 + 1e-12), "value"),
            )
        )
        return name, next(ends), next(ends)

    def beaten_by(self, place: int) -> np.ndarray:
        """Who is at least as good as one candidate on every objective, and better on some.

        Returns:
            shape (candidates,), dtype bool; all false for one without all objectives, and never a candidate without.
        """
        return beaten(self._points, self._points[place])

    @cached_property
    def complete(self) -> np.ndarray:
        """Who has every objective, and so may stand on the front: shape (candidates,), dtype bool."""
        known: np.ndarray = np.isfinite(self._points).all(axis=1)
        return known

    @cached_property
    def _points(self) -> np.ndarray:
        points = [[np.nan if (v := c.value(o)) is None else self._metrics[o].sign * v for o in self._objectives]
                  for c in self.candidates]  # fmt: skip
        return np.array(points, dtype=float).reshape(len(self.candidates), len(self._objectives))

    def choose(self, inside: np.ndarray) -> tuple[int, np.ndarray]:
        """The candidate to ship of those inside the budgets.

        The best quality is found, then all that are as good (see `equivalence`); of those the fastest is
        taken, and of about equally fast ones (see `as_fast`) the smallest download.

        Args:
            inside: shape (candidates,), dtype bool, some true.

        Returns:
            its place, and who of those inside is as good as the best: shape (candidates,), dtype bool.
        """
        best = int(np.argmax(inside))
        tied = inside & self.ties(best)
        fastest = next(place for place in self.fastest if tied[place])
        as_fast = tied & self.as_fast(fastest)
        return next(place for place in self.smallest if as_fast[place]), tied


def readings(a: Candidate, b: Candidate, metric: str) -> tuple[Measurement, Measurement] | None:
    """The measurements by which two candidates are compared in a metric; None where either was not measured.

    Latencies are compared by their ratios to the baseline, which is measured within each process and tells apart
    what milliseconds, that share the reference's own spread, can't.
    """
    name = RATIO if metric == MILLISECONDS and all(RATIO in c.measurements for c in (a, b)) else metric
    if name not in a.measurements or name not in b.measurements:
        return None
    return a.measurements[name], b.measurements[name]


def surely_better(a: Candidate, b: Candidate, metric: Metric) -> bool:
    """Whether one candidate is better than another in a metric (no quality) beyond the spread of both."""
    found = readings(a, b, metric.name)
    if found is None:
        return False
    mine, theirs = found
    return mine.high < theirs.low if metric.sign > 0 else mine.low > theirs.high


def beaten(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Which of the points beat one: at least as good everywhere, better somewhere.

    Args:
        points: shape (n, objectives), dtype float, smaller is better; NaN is neither better nor worse.
        point: shape (objectives,).

    Returns:
        shape (n,), dtype bool. Equal points don't beat each other.
    """
    return np.asarray((points <= point).all(axis=1) & (points < point).any(axis=1))


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which points no other point beats.

    Args:
        points: shape (n, objectives), dtype float, smaller is better; finite, as measurements are (moocore errs on infinity).

    Returns:
        shape (n,), dtype bool. Of equal points, all stay or none.
    """
    import moocore  # takes a while to load, and most commands draw no front

    if points.shape[1] == 0:  # nothing to be better in
        return np.ones(len(points), dtype=bool)
    return np.asarray(moocore.is_nondominated(points, keep_weakly=True))
