"""The metrics that a task may name, for classes, labels and values.

They are scikit-learn's, computed from what each item adds to them, so that resamples of items cost little, and maps of
many gigabytes are read a few items at a time; `tallies` counts.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from autoopt.models import tallies
from autoopt.models.answers import Answers, at_once, cut, peeked
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning
from autoopt.models.tallies import Piece, Tally


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
        outputs: shape (items, ...), or parts of it, which are read once.
        mask: shape (items, ...), dtype bool: positions that count, or None if all do.

    Attributes:
        items: how many there are.
        values: how many outputs they have in all.
    """

    def __init__(
        self, name: str, meaning: Meaning, labels: np.ndarray, outputs: Answers, mask: np.ndarray | None = None
    ) -> None:
        self.name, self.meaning, self.items, self.values = name, meaning, 0, 0
        self._given = tallies.Given(labels, mask, meaning)
        self._tally = self._made()
        self._hits, self._all = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._one = (
            meaning.positions == 1 and meaning.kind in (CLASSES, BINARY) and meaning.counted(labels[:1], mask) is None
        )
        self._predicted, self._right = list[np.ndarray](), list[np.ndarray]()
        example, outputs = peeked(outputs)
        for part in cut(outputs, at_once(example)):
            self._take(part, labels, mask)

    def _made(self) -> Tally:
        """What counts for the metric."""
        if self.name in ("accuracy", "exact_match", "top5_accuracy"):
            return tallies.Shares(self.name, self.meaning)
        if self.name in ("mae", "rmse"):
            return tallies.Errors(self.name)
        if self.name == "auc":
            return tallies.Areas(self.meaning, self._given)
        if self.name == "r2":
            return tallies.Determination(self.meaning, self._given)
        return tallies.Pairs(self.name, self.meaning)

    def _take(self, outputs: np.ndarray, labels: np.ndarray, mask: np.ndarray | None) -> None:
        """Count some more items."""
        meaning, rows = self.meaning, slice(self.items, self.items + len(outputs))
        some, heeded = labels[rows], None if mask is None else mask[rows]
        piece = Piece(
            first=self.items,
            truth=meaning.truth(some),
            predicted=meaning.predicted(outputs),
            outputs=outputs,
            counted=meaning.counted(some, heeded),
        )
        self._tally.take(piece)
        if self._one:
            self._predicted.append(piece.predicted[:, 0])
            self._right.append(piece.right()[:, 0])
        if meaning.kind != VALUES:
            hits, all_of = tallies.right_by_class(piece, meaning)
            self._hits, self._all = _added(self._hits, hits), _added(self._all, all_of)
        self.items += len(outputs)
        self.values += outputs.size

    def value(self) -> float:
        """The metric of the items.

        Raises:
            ValueError: if it is not defined for them.
        """
        return self._tally.of(np.ones(self.items))

    def resampled(self, chosen: np.ndarray) -> float | None:
        """The metric of items that are drawn with replacement; None where it is not defined.

        Args:
            chosen: shape (items,), dtype int: the places of the items drawn.
        """
        try:
            found = self._tally.of(np.bincount(chosen, minlength=self.items).astype(float))
        except ValueError:
            return None
        return rounded(found)

    def one_class(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The class that each item was given and whether it is right, both of shape (items,); None if items have several."""
        return (np.concatenate(self._predicted), np.concatenate(self._right)) if self._one else None

    def outputs(self) -> np.ndarray:
        """What was given, shape (items, ...), for an AUC or R2, which look at it again."""
        return self._given.outputs()

    def classes(self) -> tuple[tuple[int, int], ...]:
        """For each class how many positions of it are right, and how many there are; empty for values."""
        return tuple(zip(self._hits.tolist(), self._all.tolist(), strict=True))


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sum of two lists of numbers; what the shorter one lacks is zero."""
    found = np.zeros(max(len(one), len(other)), np.int64)
    found[: len(one)] += one
    found[: len(other)] += other
    return found


def rounded(found: float) -> float | None:
    """A resample in seven digits, so that it takes less room; None if it is no finite number."""
    return float(f"{found:.7g}") if math.isfinite(found) else None
