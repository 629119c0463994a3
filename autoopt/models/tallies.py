"""What each item adds to a metric that is known by name, counted a few items at a time, and the metric of what was counted.

A tally keeps a few numbers an item, so that resamples of items cost little, however large the items' maps are. An
area under a curve and R2 are no sums over items: they keep what the model gives, as a file where that is large.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from autoopt.models.answers import Growing, at_once
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning
from autoopt.models.score_counts import ScoreCounts

TOP = 5
"""Of `top5_accuracy`."""
SORTED_MOST = 1 << 25
"""Outputs that are sorted for an area under a curve, which takes some ten times their memory; more are counted."""
DENSE = 4
"""Times as many numbers as there are positions may be counted in a table, which is quicker than sorting them."""


class Piece(NamedTuple):
    """A few items.

    Attributes:
        first: place of the first of them in their split.
        truth: what their labels say, see `Meaning.truth`.
        predicted: what their outputs say, see `Meaning.predicted`.
        outputs: shape (items, ...).
        counted: shape (items, positions), dtype bool, or None if all positions count.
    """

    first: int
    truth: np.ndarray
    predicted: np.ndarray
    outputs: np.ndarray
    counted: np.ndarray | None

    def right(self) -> np.ndarray:
        """Which positions are right: shape (items, positions), of several labels (items, positions, classes); bool."""
        return np.asarray(self.truth == self.predicted)


class Tally(Protocol):
    """Counts what items add to a metric."""

    def take(self, piece: Piece) -> None:
        """Count some more items."""

    def of(self, times: np.ndarray) -> float:
        """The metric of items, each counted so many times: shape (items,), dtype float.

        Raises:
            ValueError: if it is not defined for them.
        """


class Shares:
    """The share of right positions, or of items that are right in all of them."""

    def __init__(self, name: str, meaning: Meaning) -> None:
        self.name, self.meaning = name, meaning
        self._hits, self._all = _Column(), _Column()

    def take(self, piece: Piece) -> None:
        """Count hits, and what could be hit, of some more items."""
        right = self._among_best(piece) if self.name == "top5_accuracy" else piece.right()
        counted = np.ones(right.shape[:2], bool) if piece.counted is None else piece.counted
        if right.ndim == 3:
            counted = np.repeat(counted[..., None], right.shape[2], axis=2)
        right, counted = right.reshape(len(right), -1), counted.reshape(len(right), -1)
        hits, all_of = (right & counted).sum(axis=1), counted.sum(axis=1)
        if self.name == "exact_match":
            hits, all_of = (hits == all_of).astype(int), np.ones(len(right), int)
        self._hits.append(hits.astype(float))
        self._all.append(all_of.astype(float))

    def of(self, times: np.ndarray) -> float:
        """The share, of items that are counted so many times."""
        hits, all_of = self._hits.all(), self._all.all()
        if not times @ all_of:
            raise ValueError("no position counts")
        return float(times @ hits / (times @ all_of))

    def _among_best(self, piece: Piece) -> np.ndarray:
        """Whether the true class has one of the five best scores: shape (items, positions), dtype bool."""
        scores = piece.outputs.reshape(*piece.truth.shape, self.meaning.classes)
        own = np.take_along_axis(scores, piece.truth[..., None], axis=-1)
        found: np.ndarray = ((scores > own).sum(axis=-1) < TOP) & np.isfinite(scores).all(axis=-1)
        return found


class Pairs:
    """F1, recall or intersection over union of the classes: of each item how often a true class was given each class."""

    def __init__(self, name: str, meaning: Meaning) -> None:
        self.name, self.meaning = name, meaning
        self._items, self._true, self._given, self._number = (_Column() for _ in range(4))
        self._cells: tuple[np.ndarray, ...] | None = None

    def take(self, piece: Piece) -> None:
        """Count pairs of a true class and a given one in some more items."""
        several, classes = self.meaning.kind == LABELS, self.meaning.classes
        truth, given = piece.truth, piece.predicted
        if several:  # a label that is not there, or not given, is one more class
            label = np.arange(classes)
            truth, given = np.where(truth == 1, label, classes), np.where(given == 1, label, classes)
        elif self.meaning.kind == BINARY:  # a score that is no number is wrong, and no third class
            given = np.where(given < 0, 1 - truth, given)
        items = np.broadcast_to(np.arange(len(truth)).reshape(-1, *([1] * (truth.ndim - 1))), truth.shape)
        there = np.ones(truth.shape[:2], bool) if piece.counted is None else piece.counted
        if several:
            there = np.repeat(there[..., None], classes, axis=2)
        base = int(max(truth.max(initial=0), given.max(initial=0))) + 2  # one number for a row is quicker to sort
        codes, number = _counted((items[there] * base + truth[there]) * base + given[there] + 1, len(truth) * base**2)
        self._items.append((codes // base**2 + piece.first).astype(np.int32))
        self._true.append((codes // base % base).astype(np.int32))
        self._given.append((codes % base - 1).astype(np.int32))
        self._number.append(number.astype(np.int64))

    def of(self, times: np.ndarray) -> float:
        """The metric by scikit-learn, from counts as weights, of items that are counted so many times."""
        from sklearn import metrics

        true, given, weights = self._weighted(times)
        # Of several labels each is a class of its own, and what holds none of it is left out of the mean.
        among = list(range(self.meaning.classes)) if self.meaning.kind == LABELS else None
        options: dict[str, Any] = {"sample_weight": weights, "zero_division": 0.0}
        if self.name == "f1":
            return float(metrics.f1_score(true, given, pos_label=1, average="binary", **options))
        if self.name == "f1_macro":
            return float(metrics.f1_score(true, given, labels=among, average="macro", **options))
        if self.name == "mean_iou":
            return float(metrics.jaccard_score(true, given, labels=among, average="macro", **options))
        present = sorted(set(true.tolist()))
        return float(metrics.recall_score(true, given, labels=present, average="macro", **options))

    def _weighted(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of a true class and the one that was given, and how often each stands among the items."""
        if self._cells is None:
            true, given = self._true.all().astype(np.int64), self._given.all().astype(np.int64)
            base = int(max(true.max(initial=0), given.max(initial=0))) + 2
            pairs, place = np.unique(true * base + given + 1, return_inverse=True)
            self._cells = place, np.stack([pairs // base, pairs % base - 1], axis=1)
        place, pairs = self._cells
        weights = np.bincount(place, weights=times[self._items.all()] * self._number.all(), minlength=len(pairs))
        there = weights > 0
        return pairs[there, 0], pairs[there, 1], weights[there]


def _counted(codes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The different ones of whole numbers in their order, and how often each stands there; all are under `most`."""
    if most > DENSE * codes.size:
        return np.unique(codes, return_counts=True)
    number = np.bincount(codes, minlength=1)
    found = np.flatnonzero(number)
    return found, number[found]


class Errors:
    """The mean absolute error, or the root of the mean squared one: over all values, as people and Keras read it."""

    def __init__(self, name: str) -> None:
        self.size: Callable[[np.ndarray], np.ndarray] = np.square if name == "rmse" else np.abs
        self.last: Callable[[float], float] = math.sqrt if name == "rmse" else float
        self._sums, self._all, self._finite = _Column(), _Column(), True

    def take(self, piece: Piece) -> None:
        """Add up the errors of some more items, each by itself."""
        self._finite = self._finite and bool(np.isfinite(piece.predicted).all())
        errors = self.size(piece.truth - piece.predicted)
        positions = 1 if piece.counted is None else piece.counted.shape[1]
        errors = errors.reshape(len(errors), positions, -1).mean(axis=2)
        if piece.counted is not None:
            errors = np.where(piece.counted, errors, 0.0)
        self._sums.append(errors.sum(axis=1))
        self._all.append(np.ones(len(errors)) if piece.counted is None else piece.counted.sum(axis=1).astype(float))

    def of(self, times: np.ndarray) -> float:
        """The error of items that are counted so many times; NaN if an output is no finite number."""
        if not self._finite:
            return math.nan
        number = float(times @ self._all.all())
        if not number:
            raise ValueError("no position counts")
        return self.last(float(times @ self._sums.all()) / number)


class Areas:
    """The area under the ROC curve; of classes the mean of each against the rest."""

    def __init__(self, meaning: Meaning, given: "Given") -> None:
        self.meaning, self.given = meaning, given
        self._values, self._least, self._most = 0, math.inf, -math.inf

    def take(self, piece: Piece) -> None:
        """Keep what some more items were given."""
        self.given.take(piece)
        self._values += piece.outputs.size
        self._least = min(self._least, float(piece.outputs.min()))
        self._most = max(self._most, float(piece.outputs.max()))

    def of(self, times: np.ndarray) -> float:
        """The area, of items that are counted so many times."""
        found = self._sorted(times) if self._values <= SORTED_MOST else self._counted(times)
        if not found:
            raise ValueError("there are items of one class only")
        return float(np.mean(found))

    def _counted(self, times: np.ndarray) -> list[float]:
        """The areas of so many scores that they are counted, a few items at a time."""
        meaning, first = self.meaning, 0
        counts = ScoreCounts(meaning.classes, self._least >= 0 and self._most <= 1)
        for truth, outputs, counted in self.given.pieces():
            weights = np.repeat(times[first : first + len(outputs)], meaning.positions)
            there = weights > 0 if counted is None else (weights > 0) & counted.reshape(-1)
            scores, first = outputs.reshape(len(weights), -1)[there], first + len(outputs)
            _expect_finite(scores)
            truth = truth.reshape(len(weights), -1)[there]
            right = truth == np.arange(meaning.classes) if meaning.kind == CLASSES else truth == 1
            counts.take(right, scores, weights[there])
        return counts.areas()

    def _sorted(self, times: np.ndarray) -> list[float]:
        """The areas by scikit-learn."""
        truth, outputs, counted = self.given.all()
        weights = np.repeat(times, self.meaning.positions)
        scores = outputs.reshape(len(weights), -1)
        truth = truth.reshape(len(weights), -1)  # one column for classes that exclude each other, else one for each
        there = weights > 0 if counted is None else (weights > 0) & counted.reshape(-1)
        weights = weights[there]
        found = (self._of_one(truth, scores, c, there, weights) for c in range(scores.shape[1]))
        return [area for area in found if area is not None]

    def _of_one(
        self, truth: np.ndarray, scores: np.ndarray, place: int, there: np.ndarray, weights: np.ndarray
    ) -> float | None:
        """The area of one class; None where it is missing, or alone, and has no curve."""
        from sklearn.metrics import roc_auc_score

        own = scores[:, place][there].astype(np.float64)
        _expect_finite(own)
        exclusive = self.meaning.kind == CLASSES
        column = truth[there, 0] == place if exclusive else truth[there, place]
        if not 0 < int(column.sum()) < len(column):
            return None
        return float(roc_auc_score(column, own, sample_weight=weights))


def _expect_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ValueError("an output is no finite number")


class Determination:
    """R2, the coefficient of determination; of several values an item their mean."""

    def __init__(self, meaning: Meaning, given: "Given") -> None:
        self.meaning, self.given = meaning, given

    def take(self, piece: Piece) -> None:
        """Keep what some more items were given."""
        self.given.take(piece)

    def of(self, times: np.ndarray) -> float:
        """R2 of items that are counted so many times; NaN if an output is no finite number."""
        from sklearn.metrics import r2_score

        truth, outputs, counted = self.given.all()
        predicted = self.meaning.predicted(outputs)
        if not np.isfinite(predicted).all():
            return math.nan
        there = times > 0
        truth, found, weights = truth[there], predicted[there], times[there]
        if len(truth) < 2:
            raise ValueError("R2 needs two items")
        if counted is not None:
            heeded = counted[there].reshape(-1)
            truth, found = (array.reshape(len(heeded), -1)[heeded] for array in (truth, found))
            weights = np.repeat(weights, counted.shape[1])[heeded]
        return float(r2_score(truth, found, sample_weight=weights))


class Given:
    """Labels and outputs themselves, for metrics that are no sums over items."""

    def __init__(self, labels: np.ndarray, mask: np.ndarray | None, meaning: Meaning) -> None:
        self._labels, self._mask, self._meaning = labels, mask, meaning
        self._growing: Growing | None = Growing()
        self._outputs: np.ndarray
        self._all: tuple[np.ndarray, np.ndarray | None] | None = None

    def take(self, piece: Piece) -> None:
        """Keep what some more items were given."""
        if self._growing is not None:
            self._growing.append(piece.outputs)

    def outputs(self) -> np.ndarray:
        """What was given, shape (items, ...): mapped from a file where it is large."""
        if self._growing is not None:
            self._outputs, self._growing = self._growing.array(), None
        return self._outputs

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """A few items at a time: what their labels say, their outputs, and which of their positions count."""
        outputs, meaning = self.outputs(), self._meaning
        step = at_once(outputs)
        for first in range(0, len(outputs), step):
            rows = slice(first, first + step)
            labels, mask = self._labels[rows], None if self._mask is None else self._mask[rows]
            yield meaning.truth(labels), outputs[rows], meaning.counted(labels, mask)

    def all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The same of all items."""
        if self._all is None:
            truth, _, counted = zip(*self.pieces(), strict=True)
            # Classes and yes or no need no eight bytes each.
            kind = {VALUES: np.float64, CLASSES: np.int32}.get(self._meaning.kind, np.int8)
            heeded = None if counted[0] is None else np.concatenate(counted)
            self._all = np.concatenate([part.astype(kind) for part in truth]), heeded
        truth, counted = self._all
        return truth, self.outputs(), counted


class _Column:
    """An array that grows by parts."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def append(self, part: np.ndarray) -> None:
        self._parts.append(part)

    def all(self) -> np.ndarray:
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts)] if self._parts else [np.zeros(0)]
        return self._parts[0]


def right_by_class(piece: Piece, meaning: Meaning) -> Sequence[np.ndarray]:
    """For each class how many positions of some items are right, and how many there are."""
    right, truth = piece.right(), piece.truth
    if piece.counted is not None:
        right, truth = right[piece.counted], truth[piece.counted]
    if meaning.kind == LABELS:
        right, truth = (array.reshape(-1, meaning.classes) for array in (right, truth))
        return (right & (truth == 1)).sum(axis=0), truth.sum(axis=0)
    number = int(truth.max(initial=0)) + 1
    return np.bincount(truth[right], minlength=number), np.bincount(truth.ravel(), minlength=number)
