"""Knowledge distillation: training towards what the untouched model says, beside the labels (Hinton et al. 2015)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, where logarithms end."""


def goal(loss: Any, labels: np.ndarray, taught: np.ndarray | None, tuning: Mapping[str, Any]) -> tuple[Any, np.ndarray]:
    """The loss to train with, and what stands for the labels in it.

    The weight `distillation` goes to the difference to what was taught, the rest to the task's own loss. The
    difference is, for crossentropies, the Kullback-Leibler divergence of both outputs at `temperature`, times its
    square, which keeps its gradients as large as those of the labels; for other losses it is the mean square.

    Args:
        loss: of the task, as `compile` takes it.
        labels: shape (items, ...).
        taught: outputs of the untouched model, shape (items, ...), or None.
        tuning: fields of `Finetune`.

    Returns:
        without distillation loss and labels as they are.
    """
    import tensorflow as tf
    import tf_keras

    weight, temperature = tuning.get("distillation", 0.0), tuning.get("temperature", 4.0)
    if not weight or taught is None:
        return loss, labels
    own = tf_keras.losses.get(loss)
    kind = _kind(own)
    # Keras hands a loss one array for the only output, so both kinds of targets share one.
    numbers = labels.reshape(len(labels), -1).astype(np.float32)
    targets = np.concatenate([numbers, taught.reshape(len(taught), -1).astype(np.float32)], axis=1)

    def mixed(target: Any, output: Any) -> Any:
        right = tf.reshape(target[:, : numbers.shape[1]], (-1, *labels.shape[1:]))
        same = tf.reshape(target[:, numbers.shape[1] :], (-1, *taught.shape[1:]))
        far = _difference(same, output, kind, _from_logits(own), temperature)
        return (1 - weight) * tf.reduce_mean(own(right, output)) + weight * tf.reduce_mean(far)

    return mixed, targets


def _kind(loss: Any) -> str:
    """`categorical`, `binary` or ``, by the loss's name."""
    name = getattr(loss, "__name__", type(loss).__name__).lower().replace("_", "")
    return next((kind for kind in ("categorical", "binary") if f"{kind}crossentropy" in name), "")


def _from_logits(loss: Any) -> bool:
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    return bool(config.get("from_logits", False))


def _difference(taught: Any, output: Any, kind: str, logits: bool, temperature: float) -> Any:
    """How far an output is from what was taught, of each item."""
    import tensorflow as tf

    if not kind:
        return tf.math.squared_difference(taught, output)
    scores = [each if logits else _logits(each, kind) for each in (taught, output)]
    if kind == "binary":  # two classes, of which one has a score of zero
        scores = [tf.stack([each, tf.zeros_like(each)], axis=-1) for each in scores]
    wanted, found = (tf.nn.log_softmax(each / temperature) for each in scores)
    return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=-1)


def _logits(probabilities: Any, kind: str) -> Any:
    """Scores that give these probabilities."""
    import tensorflow as tf

    p = tf.clip_by_value(probabilities, SMALLEST, 1 - SMALLEST)
    return tf.math.log(p) - tf.math.log(1 - p) if kind == "binary" else tf.math.log(p)
