"""Batch normalization's statistics, estimated anew: those that training kept belong to weights on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autoopt.models.keras_internals import all_layers
from autoopt.models.task import Split

ITEMS = 2048
"""Of the training data, that statistics are estimated on; a few thousand give them within a percent."""
BATCH = 256


def recalibrate(model: Any, train: Split) -> None:
    """Replace the moving statistics by those of the model's weights as they are.

    Each batch normalization sees what those before it give out with statistics of the same batch; the mean over
    batches is kept (as in "precise BN", Wu and Johnson 2021). Frozen ones stay as they are.

    Args:
        model: tf_keras model; a technique's scaffolding may be around its layers.
        train: data to estimate on; the first `ITEMS` of it.
    """
    kinds = ("BatchNormalization", "SyncBatchNormalization")
    found = [m for m in all_layers(model) if type(m).__name__ in kinds and m.trainable]
    if not found:
        return
    items = min(ITEMS, len(train))
    with _watching(found) as seen:
        for first in range(0, items, BATCH):
            chunk = [array[first : min(first + BATCH, items)] for array in train.inputs.values()]
            model(chunk[0] if len(chunk) == 1 else chunk, training=False)
    for norm in found:
        if seen[norm.name]:
            total = sum(n for n, _, _ in seen[norm.name])
            norm.moving_mean.assign(sum(n / total * mean for n, mean, _ in seen[norm.name]))
            norm.moving_variance.assign(sum(n / total * variance for n, _, variance in seen[norm.name]))


@contextmanager
def _watching(norms: list[Any]) -> Iterator[dict[str, list[tuple[int, Any, Any]]]]:
    """Have layers use each batch's own statistics, and note them: items, mean and variance by layer."""
    import tensorflow as tf

    seen: dict[str, list[tuple[int, Any, Any]]] = {norm.name: [] for norm in norms}

    def watched(norm: Any) -> Any:
        def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
            kept = {axis % len(inputs.shape) for axis in ([norm.axis] if isinstance(norm.axis, int) else norm.axis)}
            others = [axis for axis in range(len(inputs.shape)) if axis not in kept]
            mean, variance = tf.nn.moments(inputs, others)
            seen[norm.name].append((int(inputs.shape[0]), mean, variance))
            return tf.nn.batch_normalization(
                inputs, mean, variance, norm.beta if norm.center else None, norm.gamma if norm.scale else None,
                norm.epsilon,
            )  # fmt: skip

        return call

    try:
        for norm in norms:
            norm.call = watched(norm)
        yield seen
    finally:
        for norm in norms:
            del norm.call
