"""What channels are worth: by their weights, by batch normalization's scale, or by their effect on the loss."""

from typing import Any

import numpy as np

from autoopt.compression import losses
from autoopt.compression.batches import feed
from autoopt.compression.channel_graph import Trace
from autoopt.compression.training import Training

ITEMS = 512
"""Of the training data, that the effect on the loss is estimated on."""
BATCH = 32


def scores(model: Any, found: Trace, importance: str, training: Training | None) -> np.ndarray:
    """What each channel is worth; more is better, and comparable between layers.

    Args:
        model: tf_keras model.
        found: its trace.
        importance: see `Channels`.
        training: data and loss for `taylor`.

    Returns:
        shape (numbers,), float64; 0 where nothing is known of a channel.
    """
    if importance == "taylor":
        assert training is not None
        return _by_loss(model, found, training)
    norms: np.ndarray = np.sqrt(
        _summed(model, found, lambda weight: np.square(weight.numpy().astype(np.float64)), "kernel")
    )
    if importance == "bn_scale":
        scales = _summed(model, found, lambda weight: np.abs(weight.numpy().astype(np.float64)), "gamma")
        for group in found.groups:
            if scales[group.channels].any():  # where no batch normalization follows, weights have to tell
                norms[group.channels] = scales[group.channels]
    for group in found.groups:  # layers differ in the size of their weights, whatever those are worth
        norms[group.channels] /= norms[group.channels].mean() or 1.0
    return norms


def _summed(model: Any, found: Trace, value: Any, kind: str) -> np.ndarray:
    """By channel, the sum of a value over kernels that make it, or over batch normalization's scales on its way."""
    total = np.zeros(found.number)
    for use in found.uses:
        weight = model.get_layer(use.layer).weights[use.weight]
        if (use.makes and len(weight.shape) > 1) if kind == "kernel" else weight.name.endswith("gamma:0"):
            others = tuple(axis for axis in range(len(weight.shape)) if axis != use.axis)
            np.add.at(total, use.channels, value(weight).sum(axis=others))
    return total


def _by_loss(model: Any, found: Trace, training: Training) -> np.ndarray:
    """The square of the loss's first-order change if a channel's weights were zero, summed over batches.

    Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 8 over a filter's weights.
    """
    import tensorflow as tf

    makes = [use for use in found.uses if use.makes]
    weights = [model.get_layer(use.layer).weights[use.weight] for use in makes]
    loss = losses.of_batch(training.loss())

    @tf.function  # type: ignore[untyped-decorator]
    def effects(inputs: Any, labels: Any, counts: Any) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            value = loss(labels, model(inputs, training=False), counts)
        gradients = tape.gradient(value, weights, unconnected_gradients="zero")
        sums = []
        for use, weight, gradient in zip(makes, weights, gradients, strict=True):
            others = [axis for axis in range(len(weight.shape)) if axis != use.axis]
            sums.append(tf.reduce_sum(weight * gradient, axis=others))
        return sums

    total = np.zeros(found.number)
    chosen = training.train.some(ITEMS)
    items = len(chosen)
    for first in range(0, items - items % BATCH or items, BATCH):  # batches of one size are one graph
        some = chosen.part(first, min(first + BATCH, items))
        one = np.zeros(found.number)
        for use, effect in zip(makes, effects(feed(some), some.labels, some.weights), strict=True):
            np.add.at(one, use.channels, effect.numpy())
        total += np.square(one)
    return np.sqrt(total)
