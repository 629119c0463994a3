"""What a model's outputs mean: one class of several, a decision, several labels, a mask, or plain numbers."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES
from autoopt.models.task import Manifest
from autoopt.reporting.bundle.ends import End

KINDS = ("classes", "binary", "labels", "mask", "values")
"""In turn: one class of several; one yes or no; a yes or no for each label; a class or yes or no at each place; numbers."""
OF_CLASSES = ("categorical", "kullback", "kldivergence")
OF_DECISIONS = ("binary", "hinge")
OF_VALUES = (
    "meansquared",
    "meanabsolute",
    "mse",
    "mae",
    "mape",
    "msle",
    "huber",
    "logcosh",
    "poisson",
    "cosinesimilarity",
)
"""Parts of the names of Keras's losses, in lower case and without underscores, by what they are for."""
ALIASES = {"bce": "binarycrossentropy", "kld": "kldivergence"}
"""Keras's short names."""
CLASS_METRICS = ("accuracy", "auc", "f1", "precision", "recall", "iou", "kappa", "average_precision")
VALUE_METRICS = ("mae", "mse", "rmse", "r2", "mape", "error", "correlation")
"""Words in the names of metrics, by what they judge."""
NEAR = 0.02
"""By how much probabilities may miss their sum of 1, or leave their range, by rounding."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one output means.

    Attributes:
        kind: of `KINDS`.
        values: `probabilities`, `logits` (a softmax or sigmoid makes probabilities of them), `scores` (which of them is
            larger is all that is known), or `numbers` of a regression.
        alone: whether each value decides by itself, rather than the largest of the last axis.
        threshold: over which a value means yes, where it decides alone.
    """

    kind: str
    values: str
    alone: bool = False
    threshold: float = 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the card."""
        told = {"kind": self.kind, "values": self.values}
        return told | ({"threshold": self.threshold} if self.alone else {})


def of_outputs(
    manifest: Manifest | None,
    outputs: Sequence[End],
    recorded: Sequence[np.ndarray] = (),
    *,
    names: int = 0,
    one_hot: bool = False,
) -> tuple[Meaning, ...]:
    """What each output means, by loss, metric and shape, and by the values that it gives.

    Args:
        manifest: of the task, None where it is not known any more.
        outputs: of the file.
        recorded: for each output the real values that it gave for a few items, shape (items, ...); may be empty.
        names: how many classes have names.
        one_hot: whether the labels, where they have several values, have exactly one 1 among zeros.
    """
    alone = manifest is not None and len(outputs) == 1
    metric = str(manifest.metric.get("name", "")) if manifest is not None and alone else ""
    known = manifest.metric.get("meaning") if manifest is not None and alone else None
    one_hot = one_hot or (known is not None and known["kind"] == CLASSES)
    found = []
    for place, end in enumerate(outputs):
        loss = _loss(manifest, end, outputs)
        name = _plain_name(loss)
        threshold = _threshold(manifest, loss, len(outputs))
        kind = _kind(name, metric, end, names, one_hot) if known is None else _known(known)
        found.append(_meaning(kind, name, threshold, end, recorded[place] if recorded else None, one_hot))
    return tuple(found)


def _known(meaning: Mapping[str, Any]) -> str:
    """The kind of an output whose labels a metric known by name reads, see `labels.Meaning`."""
    if meaning["kind"] != VALUES and meaning["positions"] > 1:
        return "mask"
    return {CLASSES: "classes", BINARY: "binary", LABELS: "labels", VALUES: "values"}[meaning["kind"]]


def _loss(manifest: Manifest | None, end: End, outputs: Sequence[End]) -> Any:
    """The described loss of an output, or None where it is not known."""
    if manifest is None:
        return None
    if isinstance(manifest.loss, Mapping) and "outputs" in manifest.loss:
        each = manifest.loss["outputs"]
        return each.get(end.name, next(iter(each.values())) if len(outputs) == 1 else None)
    return manifest.loss


def _plain_name(loss: Any) -> str:
    """A loss's name in lower case without underscores; `` for a function of the user's own."""
    name = loss if isinstance(loss, str) else ((loss or {}).get("keras") or {}).get("class_name", "")
    plain = str(name).rpartition(">")[2].lower().replace("_", "")
    return ALIASES.get(plain, plain)


def _threshold(manifest: Manifest | None, loss: Any, outputs: int) -> float:
    """Over which a value means yes: the task's own, and of several outputs each loss's."""
    if manifest is not None and outputs == 1:
        return manifest.threshold
    config = ((loss or {}).get("keras") or {}).get("config", {}) if isinstance(loss, Mapping) else {}
    return 0.0 if config.get("from_logits") else 0.5


def _kind(loss: str, metric: str, end: End, names: int, one_hot: bool) -> str:
    """The kind of an output.

    Args:
        loss: its plain name, or `` for one that is not known.
        metric: the name of the task's metric, or `` where it judges several outputs together.
        end: the output.
        names: how many classes have names.
        one_hot: whether its labels have exactly one 1 among zeros.
    """
    words = metric.lower()
    judged = any(word in words for word in CLASS_METRICS) and not any(word in words for word in VALUE_METRICS)
    by_loss = _by_loss(loss)
    named = not by_loss and names == max(2, end.size) and len(end.item) <= 1
    if by_loss in ("values", "") and not judged and not named:
        return "values"
    if len(end.item) > 1 and end.size > 1:
        return "mask"
    if end.size == 1:
        return "binary"
    return "labels" if by_loss == "decisions" and not one_hot else "classes"


def _by_loss(loss: str) -> str:
    """What a loss is for: `classes`, `decisions` or `values`; `` where its name does not tell."""
    for kind, parts in (("classes", OF_CLASSES), ("decisions", OF_DECISIONS), ("values", OF_VALUES)):
        if any(part in loss for part in parts):
            return kind
    return ""


def _alone(kind: str, loss: str, end: End, one_hot: bool) -> bool:
    """Whether each value decides by itself, rather than the largest of several."""
    if kind != "mask":
        return kind in ("binary", "labels")
    if end.item[-1] == 1 or (len(end.item) == 2 and _by_loss(loss) != "classes"):
        return True
    return _by_loss(loss) == "decisions" and not one_hot


def _meaning(kind: str, loss: str, threshold: float, end: End, recorded: np.ndarray | None, one_hot: bool) -> Meaning:
    if kind == "values":
        return Meaning(kind=kind, values="numbers")
    alone = _alone(kind, loss, end, one_hot)
    made = functools.partial(Meaning, kind=kind, alone=alone)
    logits = threshold == 0.0 and "hinge" not in loss
    if recorded is not None and recorded.size:
        inside = bool(recorded.min() >= -NEAR and recorded.max() <= 1 + NEAR)
        if not alone and inside and bool((abs(recorded.sum(axis=-1) - 1) <= NEAR + end.scale * end.item[-1] / 2).all()):
            return made(values="probabilities")
        logits = logits or (not inside and "crossentropy" in loss)
        if not inside and not logits:
            return made(values="scores", threshold=threshold)
    if logits:
        return made(values="logits", threshold=0.0)
    return made(values="probabilities" if "crossentropy" in loss else "scores", threshold=threshold)
