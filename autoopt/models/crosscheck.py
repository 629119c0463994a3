"""The baseline's quality twice: by autoopt from its file, and by Keras from the model, with Keras's own metric.

Every later number is read against the baseline, so a difference stops the study: labels that are read otherwise than
in training, a layer that was rebuilt or converted wrongly.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.models import quality
from autoopt.models.answers import Answers, at_once, cut, whole
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning
from autoopt.models.tallies import TOP
from autoopt.models.task import Manifest, Split

POINTS = 0.005
"""By which two shares may differ, and always by two items."""
RELATIVE = 0.01
"""By which two other values may differ, as a share of them."""
OUTPUTS = 1e-3
"""By which outputs may differ, as a share of the largest, before a reason is looked for in the conversion."""
COARSE = {"auc": 0.01}
"""By which shares may differ that Keras computes from a table of thresholds."""
BATCH = 1 << 16
"""Rows that Keras counts at a time."""
THRESHOLDS = 2000
"""At which Keras computes an AUC."""
RANKED = 1 << 22
"""Scores among which others are ranked."""


def compare(manifest: Manifest, split: Split, by_keras: Answers, by_file: Answers) -> dict[str, float]:
    """Compare what Keras and the untouched model's file say of the same items.

    Args:
        manifest: says which metric.
        split: the items.
        by_keras: shape (items, ...), the model's outputs, or parts of it.
        by_file: of the same shape, the float32 file's outputs, or parts of it.

    Returns:
        `keras` and `file`: the metric by each.

    Raises:
        CandidateFailed: if they differ by more than rounding explains.
    """
    name, unit, function = manifest.quality.name, manifest.quality.unit, manifest.quality_function()
    if function is not None:
        by_keras, by_file = whole(by_keras), whole(by_file)
        seen = manifest.seen(split.inputs)
        ours, theirs = (function(split.labels, outputs, seen) for outputs in (by_file, by_keras))
    else:
        ours = quality.value(manifest, split, by_file)
        meaning = manifest.meaning(next(cut(by_keras, 1)))
        theirs = keras_value(name, meaning, split.labels, by_keras, split.counted)
    allowed = (
        max(COARSE.get(name, POINTS), 2 / len(split.labels)) if unit == "fraction" else RELATIVE * abs(theirs) + 1e-6
    )
    if not abs(ours - theirs) <= allowed:
        raise CandidateFailed("crosscheck", _words(manifest, ours, theirs, by_keras, by_file))
    return {"keras": theirs, "file": ours}


def _words(manifest: Manifest, ours: float, theirs: float, by_keras: Answers, by_file: Answers) -> str:
    show = manifest.quality.show
    step = at_once(next(cut(by_keras, 1)))
    largest, far = 0.0, 0.0
    for one, other in zip(cut(by_keras, step), cut(by_file, step), strict=True):
        largest = max(largest, float(np.abs(one).max()))
        far = max(far, float(np.abs(one.astype(np.float64) - other).max()))
    far /= largest or 1.0
    why = (
        f"the file's outputs are off by up to {far:.1%} of the largest, so the conversion changed what the model computes"
        if not far <= OUTPUTS
        else "outputs are the same, so the labels are read otherwise; name loss= and metric= in the task"
    )
    return f"Keras says {manifest.quality.name} {show(theirs)} of the untouched model, and its float32 file has {show(ours)}: {why}"


def keras_value(
    name: str, meaning: Meaning, labels: np.ndarray, outputs: Answers, mask: np.ndarray | None = None
) -> float:
    """A metric that is known by name, computed by tf_keras.

    Args:
        name: a key of `scoring.BUILTIN`.
        meaning: how labels and outputs are read.
        labels: shape (items, ...).
        outputs: shape (items, ...), or parts of it.
        mask: shape (items, ...), dtype bool: positions that count, or None if all do.
    """
    if name == "auc":  # whose scores are looked at twice
        outputs = whole(outputs)
    metric, there = None, np.zeros((), bool)
    pieces = functools.partial(_pieces, name, meaning, labels, outputs, mask)
    for truth, given in _ranked(pieces) if name == "auc" else pieces():
        metric = metric or _metric(name, meaning, columns=given.shape[-1])
        if name == "f1_macro":
            there = np.asarray(there | (truth > 0).any(axis=0) | (given > 0).any(axis=0))
        for start in range(0, len(truth), BATCH):
            metric.update_state(truth[start : start + BATCH], given[start : start + BATCH])
    assert metric is not None
    found = np.asarray(metric.result())
    if name == "f1_macro" and meaning.kind != LABELS:  # a class that there is not counts in no mean
        found = found[there]
    return float(_recall(found) if name == "balanced_accuracy" else found.mean())


Pieces = Iterator[tuple[np.ndarray, np.ndarray]]
"""Truth and what was given, a row a position, of some items after the others."""


def _pieces(name: str, meaning: Meaning, labels: np.ndarray, outputs: Answers, mask: np.ndarray | None) -> Pieces:
    first = 0
    for part in cut(outputs, at_once(next(cut(outputs, 1)))):
        rows = slice(first, first + len(part))
        yield _rows(name, meaning, labels[rows], part, None if mask is None else mask[rows])
        first += len(part)


def _ranked(pieces: Callable[[], Pieces]) -> Pieces:
    """Scores as their ranks, from 0 to 1, of the classes that some rows have and others have not.

    Their order is all that an area under a curve follows from, and Keras's thresholds are evenly spread. Of very many
    scores the ranks are those among a part of them, which is far finer than the thresholds are.
    """
    some, every, size = np.zeros((), bool), np.ones((), bool), 0
    for truth, given in pieces():
        some, every = np.asarray(some | (truth > 0).any(axis=0)), np.asarray(every & (truth > 0).all(axis=0))
        size += given.size
    there, step = some & ~every, max(1, size // RANKED)  # a class without both has no curve
    sample = np.sort(np.concatenate([given[::step, there] for _, given in pieces()]), axis=0)
    for truth, given in pieces():
        ranks = [
            (np.searchsorted(known, scores, "left") + np.searchsorted(known, scores, "right")) / (2 * len(known))
            for known, scores in zip(sample.T, given[:, there].T, strict=True)
        ]
        yield truth[:, there].astype(np.float32), np.stack(ranks, axis=1).astype(np.float32)


def _rows(
    name: str, meaning: Meaning, labels: np.ndarray, outputs: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and what was given of some items, a row a position, as the metric of Keras takes them."""
    truth, counted = meaning.truth(labels), meaning.counted(labels, mask)
    if name == "exact_match":
        right = (meaning.predicted(outputs) == truth).reshape(len(truth), -1)
        if counted is not None:
            right |= np.repeat(~counted, right.shape[1] // counted.shape[1], axis=1)
        return np.ones((len(right), 1)), right.all(axis=1, keepdims=True)
    rows = len(truth) if meaning.kind == VALUES and counted is None else len(truth) * meaning.positions
    truth, given = truth.reshape(rows, -1), outputs.reshape(rows, -1)
    if counted is not None:
        truth, given = truth[counted.reshape(-1)], given[counted.reshape(-1)]
    return _columns(meaning, name, truth, given)


def _columns(meaning: Meaning, name: str, truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of a row a position, as the metric of Keras takes them."""
    yes = (scores > meaning.threshold).astype(np.int64)
    if name in ("mean_iou", "balanced_accuracy"):
        return truth[:, 0], scores.argmax(axis=-1) if meaning.kind == CLASSES else yes[:, 0]
    if name not in ("f1", "f1_macro", "auc"):
        return truth.astype(np.float32), scores.astype(np.float32)
    if meaning.kind == CLASSES:
        yes, truth = (np.eye(meaning.classes)[each] for each in (scores.argmax(axis=-1), truth[:, 0]))
    if name == "auc":
        return truth, scores
    if name == "f1_macro" and meaning.kind == BINARY:
        yes, truth = (np.concatenate([1 - each, each], axis=1) for each in (yes, truth))
    return truth.astype(np.float32), yes.astype(np.float32)


def _metric(name: str, meaning: Meaning, columns: int) -> Any:
    """The metric of tf_keras, for scores of so many columns."""
    from tf_keras import metrics

    classes = meaning.classes if meaning.kind in (CLASSES, LABELS) else 2
    if name == "accuracy" and meaning.kind == CLASSES:
        return metrics.SparseCategoricalAccuracy()
    several = {"multi_label": True, "num_labels": columns}
    made = {
        "accuracy": lambda: metrics.BinaryAccuracy(threshold=meaning.threshold),
        "exact_match": lambda: metrics.BinaryAccuracy(),
        "top5_accuracy": lambda: metrics.SparseTopKCategoricalAccuracy(k=TOP),
        "f1": lambda: metrics.F1Score(threshold=0.5),
        "f1_macro": lambda: metrics.F1Score(threshold=0.5),
        "balanced_accuracy": lambda: _confusion(metrics, classes),
        "mean_iou": lambda: metrics.MeanIoU(num_classes=classes),
        "auc": lambda: metrics.AUC(num_thresholds=THRESHOLDS, **several),
        "mae": lambda: metrics.MeanAbsoluteError(),
        "rmse": lambda: metrics.RootMeanSquaredError(),
        "r2": lambda: metrics.R2Score(),
    }
    return made[name]()


def _confusion(metrics: Any, classes: int) -> Any:
    """Keras's count of true against given classes."""

    class Confusion(metrics.MeanIoU):  # type: ignore[misc]
        def result(self) -> Any:
            return self.total_cm

    return Confusion(num_classes=classes)


def _recall(confusion: np.ndarray) -> np.ndarray:
    """The mean recall of the classes that there are, from counts of true (rows) against given (columns) classes."""
    of_class = confusion.sum(axis=1)
    there = of_class > 0
    return np.asarray((np.diag(confusion)[there] / of_class[there]).mean())
