"""Knowledge distillation: training towards what a teacher says, by default the untouched model, beside the labels (Hinton et al. 2015)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.compression import losses
from autoopt.compression.batches import IN_MEMORY, Rows
from autoopt.models.columns import chunks

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, where logarithms end."""
NEAR = 1e-3
"""Outputs that lie in [0, 1], and add up to 1 where classes exclude each other, but for so much are probabilities."""


def goal(
    loss: Any,
    labels: np.ndarray,
    taught: np.ndarray | None,
    tuning: Mapping[str, Any],
    own: np.ndarray | None = None,
) -> tuple[Any, Any]:
    """The loss to train with, and what stands for the labels in it.

    The weight `distillation` goes to the difference to what was taught, the rest to the task's own loss. The
    difference is, for crossentropies, the Kullback-Leibler divergence of both outputs at `temperature`, times its
    square, which keeps its gradients as large as those of the labels; for other losses it is the mean square.
    Weights of items count in both.

    Args:
        loss: of the task, as `compile` takes it.
        labels: shape (items, ...).
        taught: outputs of the teacher, shape (items, ...), or None.
        tuning: fields of `Finetune`.
        own: outputs of the model that is trained, for some items; None where the teacher's are of the same kind.

    Returns:
        without distillation loss and labels as they are; of very many, `Rows`.
    """
    if not tuning.get("distillation", 0.0) or taught is None:
        return loss, labels

    def beside(places: Any) -> np.ndarray:
        # Keras hands a loss one array for the only output, so both kinds of targets share one.
        both = (array[places] for array in (labels, taught))
        return np.concatenate([array.reshape(len(array), -1).astype(np.float32) for array in both], axis=1)

    wide = sum(math.prod(array.shape[1:]) for array in (labels, taught))
    lazy = Rows(shape=(len(labels), wide), dtype=np.dtype(np.float32), made=beside)
    targets = beside(slice(None)) if lazy.nbytes <= IN_MEMORY else lazy
    return mixed(loss, labels.shape[1:], labels.dtype, taught, tuning, own), targets


def joined(labels: Any, taught: Any) -> Any:
    """Labels and what was taught of a batch as one tensor, as the loss that `mixed` gives takes them."""
    import tensorflow as tf

    number = tf.shape(labels)[0]
    flat = (tf.reshape(tf.cast(each, tf.float32), (number, math.prod(each.shape[1:]))) for each in (labels, taught))
    return tf.concat(list(flat), axis=1)


def mixed(
    loss: Any,
    place: Sequence[int],
    dtype: Any,
    taught: np.ndarray,
    tuning: Mapping[str, Any],
    own: np.ndarray | None = None,
) -> Any:
    """The loss that `goal` gives, of labels and taught outputs that stand side by side in one tensor.

    Args:
        loss: of the task, as `compile` takes it.
        place: shape of an item's labels.
        dtype: of the labels.
        taught: outputs of the teacher, for some items at least.
        tuning: fields of `Finetune`.
        own: see `goal`.
    """
    import tensorflow as tf
    import tf_keras

    weight, temperature = tuning["distillation"], tuning.get("temperature", 4.0)
    kind = _kind(tf_keras.losses.get(loss))
    logits = tuple(
        bool(kind) and not are_probabilities(each, kind) for each in (taught, taught if own is None else own)
    )
    right_one, values, row = losses.of_batch(loss), math.prod(place), taught.shape[1:]

    class Difference(tf_keras.losses.Loss):  # type: ignore[misc]
        """How far an output is from what was taught, of each item (of a map: of each place)."""

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return _difference(y_true, tf.reshape(y_pred, (-1, *row)), kind, logits, temperature)

    far = Difference()

    class Mixed(tf_keras.losses.Loss):  # type: ignore[misc]
        """The task's own loss and the difference; a class, because Keras would change the rank of a function's arrays."""

        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            right = tf.cast(tf.reshape(y_true[:, :values], (-1, *place)), dtype)
            same = tf.reshape(y_true[:, values:], (-1, *row))
            return (1 - weight) * right_one(right, y_pred, sample_weight) + weight * far(same, y_pred, sample_weight)

    return Mixed()


def are_probabilities(outputs: np.ndarray, kind: str) -> bool:
    """Whether outputs are probabilities, and no scores of any size, whatever the loss takes them for.

    Args:
        outputs: shape (items, ...).
        kind: `categorical`, where the last axis adds up to 1, or `binary`.
    """
    inside = bool(outputs.min() >= -NEAR and outputs.max() <= 1 + NEAR)
    parts = () if kind == "binary" or not inside else chunks(outputs)
    return inside and all(np.allclose(part.sum(axis=-1), 1, atol=NEAR) for part in parts)


def _kind(loss: Any) -> str:
    """`categorical`, `binary` or ``, by the loss's name."""
    name = getattr(loss, "__name__", type(loss).__name__).lower().replace("_", "")
    return next((kind for kind in ("categorical", "binary") if kind in name and "crossentropy" in name), "")


def _difference(taught: Any, output: Any, kind: str, logits: tuple[bool, ...], temperature: float) -> Any:
    """How far an output is from what was taught: the last axis taken together, where there is one beside the items'."""
    import tensorflow as tf

    if kind != "categorical":
        taught, output = (each if len(taught.shape) > 1 else each[:, None] for each in (taught, output))
    if not kind:
        return tf.reduce_mean(tf.math.squared_difference(taught, output), axis=-1)
    scores = [each if scored else _logits(each, kind) for each, scored in zip((taught, output), logits, strict=True)]
    if kind == "binary":  # two classes, of which one has a score of zero
        scores = [tf.stack([each, tf.zeros_like(each)], axis=-1) for each in scores]
    wanted, found = (tf.nn.log_softmax(each / temperature) for each in scores)
    divergence = temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=-1)
    return tf.reduce_mean(divergence, axis=-1) if kind == "binary" else divergence


def _logits(probabilities: Any, kind: str) -> Any:
    """Scores that give these probabilities."""
    import tensorflow as tf

    p = tf.clip_by_value(probabilities, SMALLEST, 1 - SMALLEST)
    return tf.math.log(p) - tf.math.log(1 - p) if kind == "binary" else tf.math.log(p)
