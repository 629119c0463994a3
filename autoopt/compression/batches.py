"""A split's items in batches, as training takes them: shuffled, one epoch after the other."""

from typing import Any

import numpy as np

from autoopt.models.task import Split

IN_MEMORY = 1 << 27
"""Bytes of an array, up to which TensorFlow has it in memory; a larger one is read from its file, batch by batch.

What is in memory is gathered without Python, which counts where a step takes a millisecond; a model that takes
arrays of more does more in a step.
"""


def batches(split: Split, size: int, epochs: range, seed: int, targets: Any, weights: Any = None) -> Any:
    """A split's shuffled batches, with the targets in place of its labels, one epoch after the other.

    A `tf.data.Dataset`. An epoch's order follows from its number and the seed alone, whatever came before it.
    """
    import tensorflow as tf

    data = (feed(split), targets) if weights is None else (feed(split), targets, weights)

    def order(epoch: Any) -> Any:
        numbers = tf.random.experimental.stateless_shuffle(tf.range(len(split)), [seed, epoch])
        return tf.data.Dataset.from_tensor_slices(numbers).batch(size)

    leaves = tf.nest.flatten(data)
    small = tuple(array for array in leaves if array.nbytes <= IN_MEMORY)
    # The arrays come in as a dataset: as constants of the graph they would be copied into it.
    numbers = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(order)
    together = tf.data.Dataset.zip((numbers, tf.data.Dataset.from_tensors((0, *small)).repeat()))

    def gather(chosen: Any, arrays: tuple[Any, ...]) -> Any:
        held = iter(arrays[1:])
        found = [
            tf.gather(next(held), chosen) if array.nbytes <= IN_MEMORY else _from_file(array, chosen)
            for array in leaves
        ]
        return tf.nest.pack_sequence_as(data, found)

    return together.map(gather, num_parallel_calls=1).prefetch(2)


def _from_file(array: np.ndarray, chosen: Any) -> Any:
    """Items of an array that may be mapped from a file, as a tensor."""
    import tensorflow as tf

    found = tf.numpy_function(lambda numbers: array[numbers], [chosen], array.dtype, stateful=False)
    found.set_shape((None, *array.shape[1:]))
    return found


def feed(split: Split) -> Any:
    """A split's inputs as `fit` and `predict` take them: by position, names play no part."""
    arrays = tuple(split.inputs.values())  # a dataset would make one tensor of a list
    return arrays[0] if len(arrays) == 1 else arrays
