"""The metrics that a task may name, for classes, labels and values.

They are scikit-learn's, computed from what each item adds to them, so that resamples of items cost little: how many of
its positions (labels, pixels or tokens) of each true class were given each class.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning

TOP = 5
"""Of `top5_accuracy`."""


class Builtin(NamedTuple):
    """A metric that is known by name.

    Attributes:
        kinds: of meaning that it is defined for, see `labels.Meaning`.
        direction: `max` or `min`.
        unit: see `metrics.Metric`.
        title: for people.
    """

    kinds: tuple[str, ...]
    direction: str
    unit: str
    title: str


BUILTIN: Mapping[str, Builtin] = {
    "accuracy": Builtin(
        (CLASSES, BINARY, LABELS), "max", "fraction", "share of labels, pixels or tokens that are right"
    ),
    "exact_match": Builtin(
        (CLASSES, BINARY, LABELS), "max", "fraction", "share of items of which every label is right"
    ),
    "top5_accuracy": Builtin((CLASSES,), "max", "fraction", "share of labels among the five best scores"),
    "f1": Builtin((BINARY,), "max", "fraction", "F1 score of the class 1"),
    "f1_macro": Builtin((CLASSES, BINARY, LABELS), "max", "fraction", "mean of the classes' F1 scores"),
    "balanced_accuracy": Builtin((CLASSES, BINARY), "max", "fraction", "mean of the classes' recalls"),
    "mean_iou": Builtin((CLASSES, BINARY), "max", "fraction", "mean of the classes' intersections over unions"),
    "auc": Builtin((CLASSES, BINARY, LABELS), "max", "fraction", "area under the ROC curve, its mean over classes"),
    "mae": Builtin((VALUES,), "min", "", "mean absolute error"),
    "rmse": Builtin((VALUES,), "min", "", "root of the mean squared error"),
    "r2": Builtin((VALUES,), "max", "", "coefficient of determination"),
}
"""The metrics that a task may name."""


class Score:
    """A metric known by name of a set of items, and of resampled ones, from what each item adds to it.

    Args:
        name: a key of `BUILTIN`.
        meaning: how labels and outputs are read.
        labels: shape (items, ...).
        outputs: shape (items, ...).
        mask: shape (items, ...), dtype bool: positions that count, or None if all do.

    Attributes:
        predicted: what the outputs say, see `Meaning.predicted`.
        counted: shape (items, positions), dtype bool, or None if all positions count.
    """

    def __init__(
        self, name: str, meaning: Meaning, labels: np.ndarray, outputs: np.ndarray, mask: np.ndarray | None = None
    ) -> None:
        self.name, self.meaning, self.outputs = name, meaning, outputs
        self.truth, self.predicted = meaning.truth(labels), meaning.predicted(outputs)
        self.counted = meaning.counted(labels, mask)
        self._cells: tuple[np.ndarray, ...] | None = None

    def value(self) -> float:
        """The metric of the items.

        Raises:
            ValueError: if it is not defined for them.
        """
        return self._of(np.ones(len(self.truth)))

    def resampled(self, chosen: np.ndarray) -> float | None:
        """The metric of items that are drawn with replacement; None where it is not defined.

        Args:
            chosen: shape (items,), dtype int: the places of the items drawn.
        """
        try:
            found = self._of(np.bincount(chosen, minlength=len(self.truth)).astype(float))
        except ValueError:
            return None
        return rounded(found)

    def right(self) -> np.ndarray:
        """Which positions are right: shape (items, positions), of several labels (items, positions, classes); bool."""
        return np.asarray(self.truth == self.predicted)

    def classes(self) -> tuple[tuple[int, int], ...]:
        """For each class how many positions of it are right, and how many there are; empty for values."""
        if self.meaning.kind == VALUES:
            return ()
        right, truth = self.right(), self.truth
        if self.counted is not None:
            right, truth = right[self.counted], truth[self.counted]
        if self.meaning.kind == LABELS:
            right, truth = (array.reshape(-1, self.meaning.classes) for array in (right, truth))
            return tuple(
                (int((right & (truth == 1))[:, c].sum()), int(truth[:, c].sum())) for c in range(truth.shape[1])
            )
        number = int(truth.max(initial=0)) + 1
        found, all_of = np.bincount(truth[right], minlength=number), np.bincount(truth.ravel(), minlength=number)
        return tuple(zip(found.tolist(), all_of.tolist(), strict=True))

    def _of(self, times: np.ndarray) -> float:
        """The metric of items, each counted so many times: shape (items,), dtype float."""
        if self.meaning.kind == VALUES:
            return self._error(times)
        if self.name in ("accuracy", "exact_match", "top5_accuracy"):
            return self._share(times)
        if self.name == "auc":
            return self._auc(times)
        return self._counted_by_class(times)

    def _share(self, times: np.ndarray) -> float:
        """The share of right positions, or of items that are right in all of them."""
        if self._cells is None:
            right = self._among_best() if self.name == "top5_accuracy" else self.right()
            counted = np.ones(right.shape[:2], bool) if self.counted is None else self.counted
            if right.ndim == 3:
                counted = np.repeat(counted[..., None], right.shape[2], axis=2)
            right, counted = right.reshape(len(right), -1), counted.reshape(len(right), -1)
            hits, all_of = (right & counted).sum(axis=1), counted.sum(axis=1)
            if self.name == "exact_match":
                hits, all_of = (hits == all_of).astype(int), np.ones(len(right), int)
            self._cells = hits.astype(float), all_of.astype(float)
        hits, all_of = self._cells
        if not times @ all_of:
            raise ValueError("no position counts")
        return float(times @ hits / (times @ all_of))

    def _among_best(self) -> np.ndarray:
        """Whether the true class has one of the five best scores: shape (items, positions), dtype bool."""
        scores = self.outputs.reshape(*self.truth.shape, self.meaning.classes)
        own = np.take_along_axis(scores, self.truth[..., None], axis=-1)
        found: np.ndarray = ((scores > own).sum(axis=-1) < TOP) & np.isfinite(scores).all(axis=-1)
        return found

    def _counted_by_class(self, times: np.ndarray) -> float:
        """F1, recall or intersection over union of the classes, by scikit-learn, from counts as weights."""
        from sklearn import metrics

        true, given, weights = self._pairs(times)
        several = self.meaning.kind == LABELS
        # Of several labels each is a class of its own, and what holds none of it is left out of the mean.
        among = list(range(self.meaning.classes)) if several else None
        options: dict[str, Any] = {"sample_weight": weights, "zero_division": 0.0}
        if self.name == "f1":
            return float(metrics.f1_score(true, given, pos_label=1, average="binary", **options))
        if self.name == "f1_macro":
            return float(metrics.f1_score(true, given, labels=among, average="macro", **options))
        if self.name == "mean_iou":
            return float(metrics.jaccard_score(true, given, labels=among, average="macro", **options))
        present = sorted(set(true.tolist()))
        return float(metrics.recall_score(true, given, labels=present, average="macro", **options))

    def _pairs(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of a true class and the one that was given, and how often each stands among the items."""
        if self._cells is None:
            self._cells = self._count()
        items, pair, number, pairs = self._cells
        weights = np.bincount(pair, weights=times[items] * number, minlength=len(pairs))
        there = weights > 0
        return pairs[there, 0], pairs[there, 1], weights[there]

    def _count(self) -> tuple[np.ndarray, ...]:
        """By item and pair of classes how many positions there are: items, pairs' places, numbers, and the pairs."""
        several, classes = self.meaning.kind == LABELS, self.meaning.classes
        truth, given = self.truth, self.predicted
        if several:  # a label that is not there, or not given, is one more class
            label = np.arange(classes)
            truth, given = np.where(truth == 1, label, classes), np.where(given == 1, label, classes)
        elif self.meaning.kind == BINARY:  # a score that is no number is wrong, and no third class
            given = np.where(given < 0, 1 - truth, given)
        items = np.broadcast_to(np.arange(len(truth)).reshape(-1, *([1] * (truth.ndim - 1))), truth.shape)
        there = np.ones(truth.shape[:2], bool) if self.counted is None else self.counted
        if several:
            there = np.repeat(there[..., None], classes, axis=2)
        base = int(max(truth.max(initial=0), given.max(initial=0))) + 2  # one number for a row is quicker to sort
        codes = (items[there] * base + truth[there]) * base + given[there] + 1
        cells, number = np.unique(codes, return_counts=True)
        pairs, place = np.unique(cells % base**2, return_inverse=True)
        return cells // base**2, place, number.astype(float), np.stack([pairs // base, pairs % base - 1], axis=1)

    def _auc(self, times: np.ndarray) -> float:
        """The area under the ROC curve; of classes the mean of each against the rest."""
        from sklearn.metrics import roc_auc_score

        weights = np.repeat(times, self.meaning.positions)
        scores = self.outputs.reshape(len(weights), -1)
        there = weights > 0 if self.counted is None else (weights > 0) & self.counted.reshape(-1)
        scores, weights = scores[there].astype(np.float64), weights[there]
        if not np.isfinite(scores).all():
            raise ValueError("an output is no finite number")
        if self.meaning.kind == CLASSES:
            truth = np.eye(self.meaning.classes, dtype=np.int64)[self.truth.reshape(-1)[there]]
        else:
            truth = self.truth.reshape(len(there), -1)[there]
        found = [
            roc_auc_score(column, own, sample_weight=weights)
            for column, own in zip(truth.T, scores.T, strict=True)
            if 0 < column.sum() < len(column)  # a class that is missing, or alone, has no curve
        ]
        if not found:
            raise ValueError("there are items of one class only")
        return float(np.mean(found))

    def _error(self, times: np.ndarray) -> float:
        """An error of values, by scikit-learn; of several values an item their mean."""
        from sklearn import metrics

        if not np.isfinite(self.predicted).all():
            return math.nan
        function = {"mae": metrics.mean_absolute_error, "rmse": metrics.root_mean_squared_error, "r2": metrics.r2_score}
        there = times > 0
        truth, found, weights = self.truth[there], self.predicted[there], times[there]
        if self.name == "r2" and len(truth) < 2:
            raise ValueError("R2 needs two items")
        if self.counted is not None:
            heeded = self.counted[there].reshape(-1)
            truth, found = (array.reshape(len(heeded), -1)[heeded] for array in (truth, found))
            weights = np.repeat(weights, self.counted.shape[1])[heeded]
        if self.name == "rmse":  # over all values, as people and Keras read it, not a mean of each one's root
            weights = np.repeat(weights, truth.shape[1])
            truth, found = truth.reshape(-1), found.reshape(-1)
        return float(function[self.name](truth, found, sample_weight=weights))


def rounded(found: float) -> float | None:
    """A resample in seven digits, so that it takes less room; None if it is no finite number."""
    return float(f"{found:.7g}") if math.isfinite(found) else None
