"""A split's items in batches, as training takes them: shuffled, one epoch after the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.models.task import Split

IN_MEMORY = 1 << 27
"""Bytes of an array, up to which TensorFlow has it in memory; a larger one is read from its file, batch by batch.

What is in memory is gathered without Python, which counts where a step takes a millisecond; a model that takes
arrays of more does more in a step.
"""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """An array whose items are made of others when they are asked for, because all of them would be too large.

    Attributes:
        shape: with the items' axis in front.
        dtype: of the values.
        made: gives the items at these places, an array of whole numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    made: Callable[[np.ndarray], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.made(places)


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
    held = [array.nbytes <= IN_MEMORY and isinstance(array, np.ndarray) for array in leaves]
    small = tuple(array for array, whole in zip(leaves, held, strict=True) if whole)
    # The arrays come in as a dataset: as constants of the graph they would be copied into it.
    numbers = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(order)
    together = tf.data.Dataset.zip((numbers, tf.data.Dataset.from_tensors((0, *small)).repeat()))

    def gather(chosen: Any, arrays: tuple[Any, ...]) -> Any:
        tensors = iter(arrays[1:])
        found = [
            tf.gather(next(tensors), chosen) if whole else _from_file(array, chosen)
            for array, whole in zip(leaves, held, strict=True)
        ]
        return tf.nest.pack_sequence_as(data, found)

    return together.map(gather, num_parallel_calls=1).prefetch(2)


def _from_file(array: Any, chosen: Any) -> Any:
    """Items of an array that may be mapped from a file, or of `Rows`, as a tensor."""
    import tensorflow as tf

    found = tf.numpy_function(lambda numbers: array[numbers], [chosen], array.dtype, stateful=False)
    found.set_shape((None, *array.shape[1:]))
    return found


def feed(split: Split) -> Any:
    """A split's inputs as `fit` and `predict` take them: by position, names play no part."""
    arrays = tuple(split.inputs.values())  # a dataset would make one tensor of a list
    return arrays[0] if len(arrays) == 1 else arrays
