"""What a task's labels and a model's outputs mean: exclusive classes, a yes or no, several labels at once, or values.

Both are looked at together, and the loss where one is given. What they can't mean is refused with a line.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.errors import ConfigError
from autoopt.models.columns import CHUNK_BYTES, chunks

CLASSES, BINARY, LABELS, VALUES = "classes", "binary", "labels", "values"
INSIDE = 1e-3
"""By which a probability, or a sum of probabilities, may be off."""
REGRESSION = ("meansquared", "meanabsolute", "mse", "mae", "msle", "mape", "huber", "logcosh", "poisson", "cosine")
"""What the names of losses for values begin with, in one case and without underscores."""
MARGINS = ("hinge", "squaredhinge")
"""Losses that turn at zero."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """How labels and outputs are read.

    Attributes:
        kind: `classes` (one of several at each position), `binary` (a yes or no at each position), `labels` (several
            yes or no at each position), or `values` (numbers to come close to).
        classes: scores that the model gives at each position.
        positions: of an item: 1, or its pixels, or its tokens.
        threshold: of `binary` and `labels`: over which an output means yes.
        ignored: the label of positions that do not count, or None.
    """

    kind: str
    classes: int
    positions: int
    threshold: float = 0.5
    ignored: int | None = None

    def truth(self, labels: np.ndarray) -> np.ndarray:
        """What the labels say.

        Args:
            labels: shape (items, ...).

        Returns:
            of `classes` and `binary` shape (items, positions), dtype int64; of `labels` shape (items, positions,
            classes), dtype int64; of `values` shape (items, values), dtype float64.
        """
        n = len(labels)
        if self.kind == VALUES:
            return labels.reshape(n, -1).astype(np.float64)
        if self.kind == LABELS:
            return (labels.reshape(n, self.positions, self.classes) > 0.5).astype(np.int64)
        if self.kind == BINARY:  # yes is 1, and no is 0 or, for a hinge, -1
            return (labels.reshape(n, self.positions) > 0.5).astype(np.int64)
        if labels.size == n * self.positions:
            return labels.reshape(n, self.positions).astype(np.int64)
        found: np.ndarray = labels.reshape(n, self.positions, self.classes).argmax(axis=-1)
        return found

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        """What the outputs say, in the shape and dtype of `truth`; -1 where a score is no finite number."""
        n = len(outputs)
        if self.kind == VALUES:
            return outputs.reshape(n, -1).astype(np.float64)
        scores = outputs.reshape(n, self.positions, self.classes)
        finite = np.isfinite(scores)
        if self.kind == LABELS:
            return np.where(finite, (scores > self.threshold).astype(np.int64), -1)
        if self.kind == BINARY:
            return np.where(finite[..., 0], (scores[..., 0] > self.threshold).astype(np.int64), -1)
        return np.where(finite.all(axis=-1), scores.argmax(axis=-1), -1)

    def counted(self, labels: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
        """Which positions count: shape (items, positions), dtype bool; None if all do.

        Args:
            labels: shape (items, ...).
            mask: shape (items, ...), dtype bool: positions that the model itself does not mask; None if it masks none.
        """
        counted = None if mask is None else mask.reshape(len(labels), self.positions)
        if self.ignored is not None and self.kind == CLASSES and labels.size == len(labels) * self.positions:
            heeded = labels.reshape(len(labels), self.positions) != self.ignored
            counted = heeded if counted is None else counted & heeded
        return counted

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Meaning":
        """Read what `to_dict` wrote."""
        return cls(**values)

    def words(self) -> str:
        """Say in words for people how labels are read."""
        each = "" if self.positions == 1 else f" at each of {self.positions:,} positions"
        return {
            CLASSES: f"one of {self.classes} classes{each}",
            BINARY: f"yes or no{each}",
            LABELS: f"{self.classes} labels at once{each}",
            VALUES: f"{self.positions * self.classes} value{'s' * (self.positions * self.classes > 1)} an item",
        }[self.kind]


def single(scores: int, threshold: float = 0.5, positions: int = 1) -> Meaning:
    """One class at each position, from a score for each, or from one score for class 1."""
    return Meaning(kind=CLASSES if scores > 1 else BINARY, classes=scores, positions=positions, threshold=threshold)


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """The loss of a task that names none.

    Attributes:
        loss: a Keras loss by name.
        from_logits: whether the model ends in scores of any size where the loss would expect probabilities.
        reason: why, for people.
    """

    loss: str
    from_logits: bool
    reason: str

    @property
    def described(self) -> Any:
        """The loss as a task's manifest has it."""
        if not self.from_logits:
            return self.loss
        return {"keras": {"class_name": self.class_name, "config": {"from_logits": True}}}

    @property
    def source(self) -> str:
        """The loss as it is written in a `task.py`."""
        return f"tf_keras.losses.{self.class_name}(from_logits=True)" if self.from_logits else f'"{self.loss}"'

    @property
    def class_name(self) -> str:
        """The name of the loss's class."""
        return class_name(self.loss)


def infer_loss(labels: np.ndarray, outputs: np.ndarray, some: np.ndarray, where: str) -> Inferred:
    """The loss that labels and outputs look like.

    Args:
        labels: shape (items, ...), of all items.
        outputs: shape (some, ...), what the model gives for some of the items.
        some: shape (some, ...), the labels of those.
        where: for messages.

    Raises:
        ConfigError: if they fit no loss, or several.
    """
    shape = outputs.shape[1:]
    classes = shape[-1] if shape else 1
    probable = probabilities(outputs)
    ends = "the outputs are probabilities" if probable else "the outputs are scores of any size"
    if classes == 1 or not shape:
        return _infer_single(labels, outputs, some, where, ends, probable)
    if indices(labels, shape):
        outside = labels[(labels < 0) | (labels >= classes) | (labels != np.floor(labels))]
        if outside.size:
            hint = "; subtract 1" if whole(labels) and labels.min() == 1 and labels.max() == classes else ""
            raise ConfigError(
                f"{where}: labels: expected class indices 0 to {classes - 1} (the model has {classes} outputs), "
                f"got {outside[0].item()}{hint}"
            )
        return Inferred(
            loss="sparse_categorical_crossentropy",
            from_logits=not probable,
            reason=f"labels are class indices up to {int(labels.max())}, one of {classes} classes, and {ends}",
        )
    if labels.shape[1:] != shape:
        each = "an item" if len(shape) == 1 else f"for each of {_dims(shape[:-1])} positions"
        raise ConfigError(
            f"{where}: labels: expected one class index {each}, or labels of the outputs' own shape (items, {_dims(shape)}), "
            f"got shape {labels.shape}"
        )
    if not ones(labels):
        return _regression(labels, where)
    if exclusive(labels):
        sums = probable and bool(np.allclose(outputs.sum(axis=-1), 1, atol=INSIDE))
        if probable and not sums:
            return Inferred(
                loss="binary_crossentropy", from_logits=False, reason="labels are one-hot, outputs sigmoids"
            )
        return Inferred(
            loss="categorical_crossentropy", from_logits=not probable, reason=f"labels are one-hot, and {ends}"
        )
    if probable and bool(np.allclose(outputs.sum(axis=-1), 1, atol=INSIDE)):
        raise ConfigError(
            f"{where}: labels: several are 1 at once, but the outputs sum to 1, as those of a softmax; end the model in a "
            "sigmoid, or give loss= and metric="
        )
    return Inferred(
        loss="binary_crossentropy", from_logits=not probable, reason=f"several labels are 1 at once, and {ends}"
    )


def _infer_single(
    labels: np.ndarray, outputs: np.ndarray, some: np.ndarray, where: str, ends: str, probable: bool
) -> Inferred:
    """The loss of a model with one score at each position."""
    if labels[0].size != outputs[0].size:
        raise ConfigError(
            f"{where}: labels: expected {outputs[0].size} an item, like the outputs of shape (items, "
            f"{_dims(outputs.shape[1:])}), got shape {labels.shape}"
        )
    if ones(labels):
        if not probable and close(outputs, some):
            why = "labels are 0 and 1, and the outputs come close to them without being probabilities"
            return Inferred(loss="mean_squared_error", from_logits=False, reason=why)
        why = f"labels are 0 and 1, and {ends}"
        return Inferred(loss="binary_crossentropy", from_logits=not probable, reason=why)
    values = np.unique(labels)
    outside = bool(values.min() < -INSIDE or values.max() > 1 + INSIDE)
    if len(values) == 2 and whole(labels) and ((probable and outside) or not close(outputs, some)):
        low, high = (f"{value:g}" for value in values.tolist())
        raise ConfigError(
            f"{where}: labels: expected 0 and 1 of a model with one output, got {low} and {high}; "
            f"give (labels == {high}).astype(int)"
        )
    if probable and outside:
        raise ConfigError(
            f"{where}: labels: reach from {values.min():g} to {values.max():g}, but the outputs only from "
            f"{float(outputs.min()):.3g} to {float(outputs.max()):.3g}; scale them as in training, or give loss= and metric="
        )
    return _regression(labels, where)


def _regression(labels: np.ndarray, where: str) -> Inferred:
    kind = "whole numbers" if whole(labels) else "numbers"
    return Inferred(
        loss="mean_squared_error",
        from_logits=False,
        reason=f"labels are {kind} from {labels.min():g} to {labels.max():g}, values to come close to",
    )


def read(labels: np.ndarray, outputs: np.ndarray, some: np.ndarray, loss: Any, where: str) -> Meaning:
    """How labels and outputs are read, given the loss.

    Args:
        labels: shape (items, ...), of all items.
        outputs: shape (some, ...), what the model gives for some of the items.
        some: shape (some, ...), the labels of those.
        loss: as a task's manifest has it.
        where: for messages.

    Raises:
        ConfigError: if the labels do not fit the loss.
    """
    name, shape = loss_name(loss), outputs.shape[1:]
    classes = shape[-1] if shape else 1
    positions = int(np.prod(shape[:-1], dtype=np.int64)) if shape else 1
    meaning = Meaning(
        kind=_kind(name, labels, shape, where),
        classes=classes,
        positions=positions,
        ignored=settings(loss).get("ignore_class"),
    )
    if meaning.kind in (BINARY, LABELS):
        return dataclasses.replace(meaning, threshold=_threshold(name, outputs, some))
    return meaning


def _kind(name: str, labels: np.ndarray, shape: tuple[int, ...], where: str) -> str:
    classes = shape[-1] if shape else 1
    if "categorical" in name and "crossentropy" in name:
        return CLASSES
    alike = labels[0].size == int(np.prod(shape, dtype=np.int64))
    coded = name in MARGINS and bool(np.isin(labels, (-1, 0, 1)).all())
    if "binary" in name and (labels.min() < 0 or labels.max() > 1):
        raise ConfigError(
            f"{where}: labels: expected 0 and 1 for the loss {name}, got {labels.min():g} to {labels.max():g}"
            f"; give (labels > {(float(labels.min()) + float(labels.max())) / 2:g}).astype(int) if there are two"
        )
    if classes > 1 and indices(labels, shape) and whole(labels) and labels.min() >= 0 and labels.max() < classes:
        return CLASSES
    if not alike or not (ones(labels) or coded):
        return VALUES
    if classes == 1:
        return VALUES if labels.dtype.kind == "f" and name.startswith(REGRESSION) and labels[0].size > 1 else BINARY
    if exclusive(labels):
        return CLASSES
    return VALUES if name.startswith(REGRESSION) else LABELS


def _threshold(name: str, outputs: np.ndarray, some: np.ndarray) -> float:
    """Over which an output means yes: 0.5 for probabilities, and for what comes close to labels of 0 and 1; else 0."""
    if name in MARGINS:
        return 0.0
    if probabilities(outputs):
        return 0.5
    return 0.5 if name.startswith(REGRESSION) or ("crossentropy" not in name and close(outputs, some)) else 0.0


def loss_name(loss: Any) -> str:
    """The name of a described loss, in one case and without underscores: `sparsecategoricalcrossentropy`."""
    name = loss if isinstance(loss, str) else loss.get("keras", {}).get("class_name", "")
    return str(name).lower().replace("_", "")


def settings(loss: Any) -> dict[str, Any]:
    """The settings of a described loss of Keras; none of one that is given by name, or is a function."""
    found: dict[str, Any] = loss.get("keras", {}).get("config", {}) if isinstance(loss, dict) else {}
    return found


def class_name(loss: str) -> str:
    """The class of a Keras loss that is given by name: `BinaryCrossentropy` of `binary_crossentropy`."""
    return "".join(word.title() for word in loss.split("_"))


def probabilities(outputs: np.ndarray) -> bool:
    """Whether all outputs lie between 0 and 1; of several at a position, either as a softmax's or as sigmoids'."""
    return bool((outputs >= -INSIDE).all() and (outputs <= 1 + INSIDE).all())


def close(outputs: np.ndarray, labels: np.ndarray) -> bool:
    """Whether outputs are nearer to the labels than the labels' own mean is, as after training by squared error."""
    found, wanted = outputs.reshape(-1).astype(np.float64), labels.reshape(-1).astype(np.float64)
    return bool(np.square(found - wanted).mean() <= wanted.var())


def indices(labels: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether labels have one number for each position of outputs of this shape (of an item)."""
    return labels.shape[1:] in (shape[:-1], (*shape[:-1], 1))


def whole(labels: np.ndarray) -> bool:
    """Whether labels are whole numbers, whatever their dtype."""
    return labels.dtype.kind in "iub" or bool((labels == np.floor(labels)).all())


def ones(labels: np.ndarray) -> bool:
    """Whether labels are 0 and 1 alone."""
    return bool(np.isin(labels, (0, 1)).all())


def exclusive(labels: np.ndarray) -> bool:
    """Whether exactly one label is 1 at each position: one-hot."""
    return bool((labels.sum(axis=-1) == 1).all())


def telling(labels: np.ndarray) -> np.ndarray:
    """A few items of labels that are as all of them: with their extremes, what is not whole, not 0 or 1, or not one-hot.

    So the questions of this module have the same answers, and maps of many gigabytes are read a piece at a time.

    Args:
        labels: shape (items, ...).

    Returns:
        all of them where they are few.
    """
    if labels.nbytes <= CHUNK_BYTES:
        return labels
    return np.concatenate([part[_telling(part)] for part in chunks(labels)])


def _telling(labels: np.ndarray) -> list[int]:
    """Which items of a piece are kept."""
    rows = labels.reshape(len(labels), -1)
    low, high = rows.min(axis=1), rows.max(axis=1)
    found = {0, int(low.argmin()), int(high.argmax())}
    least, most = low.min(), high.max()
    odd = [(rows != least) & (rows != most), (rows != 0) & (rows != 1)]
    odd += [rows != np.floor(rows)] if labels.dtype.kind == "f" else []
    odd += [labels.sum(axis=-1) != 1] if labels.ndim > 1 else []
    for each in odd:
        any_of = each.reshape(len(labels), -1).any(axis=1)
        found |= {int(any_of.argmax())} if any_of.any() else set()
    return sorted(found)


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
