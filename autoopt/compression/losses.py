"""The loss of a batch as tf_keras's `fit` computes it: ranks and types aligned, masks and weights applied, then reduced.

Nothing else in autoopt calls a loss. A loss called by hand broadcasts labels of shape (items,) against outputs of shape
(items, 1), so that every item is compared with every other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from autoopt.models.keras_internals import reduced
from autoopt.models.task import Split

BATCH = 256
"""Items at a time, where a model's loss on a split is computed."""

OfBatch = Callable[[Any, Any, Any], Any]
"""Labels, outputs and weights (or None), tensors with items first -> the loss, a scalar tensor."""


def of_batch(loss: Any) -> OfBatch:
    """The loss of a batch, as `fit` has it.

    Args:
        loss: of a model with one output, as `compile` takes it.
    """
    import tensorflow as tf

    container = reduced(loss)

    def value(labels: Any, outputs: Any, weights: Any = None) -> Any:
        given = None if weights is None else tf.convert_to_tensor(weights)
        return container(tf.convert_to_tensor(labels), tf.convert_to_tensor(outputs), sample_weight=given)

    return value


def of_model(model: Any, loss: Any, split: Split) -> Callable[[], float]:
    """The loss of a model on a split, as `evaluate` gives it; the model's weights may change between two calls.

    Args:
        model: tf_keras model with one output.
        loss: as `compile` takes it.
        split: of one item or more; its weights count, where it has them.
    """
    import tensorflow as tf

    measured = of_batch(loss)
    parts = [split.part(i, i + BATCH) for i in range(0, len(split), BATCH)]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def one(inputs: list[Any], labels: Any, weights: Any) -> Any:
        return measured(labels, model(inputs if len(inputs) > 1 else inputs[0], training=False), weights)

    def value() -> float:
        found = [float(one([tf.constant(a) for a in p.inputs.values()], p.labels, p.weights)) for p in parts]
        return float(np.average(found, weights=[len(part) for part in parts]))

    return value
