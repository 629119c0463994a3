"""Kernels that lost channels of their inputs, solved so that they give out what they gave before (He et al. 2017).

The whole model says what each layer is to give out; then the smaller one runs once, and each of its layers is solved
by least squares just before it computes: on what the layers before it, solved already, give out. No labels play a part.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoopt.compression import layer_rows, least_squares
from autoopt.compression.batches import feed
from autoopt.compression.channel_graph import Trace
from autoopt.models.keras_internals import calls_in_order
from autoopt.models.task import Split

ITEMS = 1000
"""Of the training data, that kernels are solved on, where they fit into `MEMORY`."""
MEMORY = 1 << 29
"""Bytes of a model's tensors that may be there at a time."""
ALIVE = 3
"""Tensors of the largest size that are there at a time: a layer's input and output, and one beside them."""
PLACES = 10_000
"""Of a layer's output, over all items, that it is solved on at least; a wide layer takes more."""
PER_UNKNOWN = 4
"""Places for each weight of one output."""
ENTRIES = 1 << 23
"""Of a layer's matrix, at most; it is there several times, in float64, and its smaller side is what takes time."""

See = Callable[[Any, Any], None]
"""A function that is called with a layer and the layer's input."""


@dataclass(kw_only=True)
class Aims:
    """What layers are to give out, and batch normalizations took, in the whole model; without channels that went.

    Attributes:
        data: that both models see.
        solvable: names of layers to solve, with the tensors that they give out.
        offsets: of those, the ones with a mean that a bias, or the batch normalization behind, can make up for.
        norms: names of batch normalizations behind a layer that changes.
        unsolved: names of layers that lost inputs, and can't be solved.
        outputs: of each of `solvable` the numbers of the places, and the values, see `layer_rows.outputs`.
        statistics: of each of `norms` the mean and variance of its inputs by channel.
    """

    data: Split
    solvable: dict[str, Any] = field(default_factory=dict)
    offsets: set[str] = field(default_factory=set)
    norms: set[str] = field(default_factory=set)
    unsolved: list[str] = field(default_factory=list)
    outputs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    statistics: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def look(model: Any, found: Trace, goes: np.ndarray, train: Split) -> Aims:
    """See what the layers of the whole model give out.

    Args:
        model: tf_keras model, before anything of it is masked.
        found: its trace.
        goes: by number whether a channel goes.
        train: data to solve on.
    """
    aims = Aims(data=train.some(_items(model)))
    _choose(model, found, goes, aims)
    makes = {use.layer: ~goes[use.channels] for use in found.uses if use.makes}
    # Of a depthwise layer the kernel counts, which stands before the bias.
    passes = {use.layer: ~goes[use.channels] for use in reversed(found.uses) if not use.makes}

    def see(layer: Any, inputs: Any) -> None:
        if layer.name in aims.norms:
            mean, variance = _moments(inputs)
            stays = passes[layer.name]
            aims.statistics[layer.name] = mean[stays], variance[stays]
            return
        taken = _values(inputs)
        chosen = _places(layer, taken)
        wanted = layer_rows.outputs(layer, layer_rows.rows(layer, taken, chosen))
        if type(layer).__name__ in layer_rows.DEPTHWISE:  # a group for each channel that it takes
            wanted = wanted[passes.get(layer.name, slice(None))]
        else:
            wanted = wanted[..., makes.get(layer.name, slice(None))]
        aims.outputs[layer.name] = chosen, wanted

    _run(model, aims, see)
    return aims


def solve(smaller: Any, aims: Aims) -> list[str]:
    """Solve the kernels of the smaller model, and have its batch normalizations follow.

    Their statistics move by as much as the inputs' differ from those in the whole model, so that those of a layer that
    gives out the very same stay as they were trained.

    Args:
        smaller: tf_keras model with the weights that stayed; they are changed.
        aims: of the whole model.

    Returns:
        notes for people.
    """

    def see(layer: Any, inputs: Any) -> None:
        if layer.name in aims.norms:
            _follow(layer, _moments(inputs), aims.statistics[layer.name])
            return
        chosen, wanted = aims.outputs[layer.name]
        matrix = layer_rows.rows(layer, _values(inputs), chosen)
        bias = layer.bias.numpy().reshape(len(wanted), 1, -1) if layer.use_bias else 0.0
        found = least_squares.fit(matrix, wanted - bias, layer_rows.kernel(layer), offset=layer.name in aims.offsets)
        layer_rows.put(layer, *found)

    _run(smaller, aims, see)
    if not aims.unsolved:
        return []
    return [f"not solved by least squares, for their kind or because they are shared: {', '.join(aims.unsolved)}"]


# ---- what there is to do


def _choose(model: Any, found: Trace, goes: np.ndarray, aims: Aims) -> None:
    """Find the layers that lost inputs or stand behind one that did: the others give out what they gave."""
    import tensorflow as tf

    nodes = [node for node in calls_in_order(model) if not node.is_input]
    calls = Counter(node.layer.name for node in nodes)
    # A depthwise layer or a batch normalization loses whole channels, and those that stay are as they were.
    mixing = {use.layer for use in found.uses if use.makes}
    lost = {use.layer for use in found.uses if not use.makes and use.layer in mixing and goes[use.channels].any()}
    traced = {use.layer for use in found.uses}
    changed: set[int] = set()
    readers = defaultdict[int, list[str]](list)
    for node in nodes:
        layer, name, inputs = node.layer, node.layer.name, tf.nest.flatten(node.keras_inputs)
        for tensor in inputs:
            readers[id(tensor)].append(name)
        able = calls[name] == 1 and layer.trainable
        differs = any(id(tensor) in changed for tensor in inputs)
        if able and differs and name in traced and type(layer).__name__ == "BatchNormalization":
            aims.norms.add(name)
        elif able and (differs or name in lost) and layer_rows.knows(layer):
            aims.solvable[name] = node.outputs
        elif name in lost and name not in aims.unsolved:
            aims.unsolved.append(name)
        if differs or name in lost:
            changed.update(id(tensor) for tensor in tf.nest.flatten(node.outputs))
    for name, output in aims.solvable.items():
        behind = readers[id(output)]
        if model.get_layer(name).use_bias or (behind and aims.norms.issuperset(behind)):
            aims.offsets.add(name)


def _items(model: Any) -> int:
    """Items whose tensors fit into the memory at once."""
    import tensorflow as tf

    tensors = [tensor for node in calls_in_order(model) for tensor in tf.nest.flatten(node.outputs)]
    largest = max(math.prod(size or 1 for size in tuple(tensor.shape)[1:]) for tensor in tensors)
    return int(max(1, min(ITEMS, MEMORY // (ALIVE * 4 * largest))))


def _places(layer: Any, inputs: np.ndarray) -> np.ndarray:
    """Places of a layer's output, item by item, the same ones for the same sizes."""
    every, (groups, unknowns, _) = layer_rows.places(layer, inputs), layer_rows.kernel(layer).shape
    wanted = min(every, max(PLACES, PER_UNKNOWN * unknowns), max(1, ENTRIES // (groups * unknowns)))
    return np.sort(np.random.default_rng(0).choice(every, wanted, replace=False))


# ---- running a model


def _run(model: Any, aims: Aims, see: See) -> None:
    """Run a model once on the data, with the layers to solve and their batch normalizations shown before each computes."""
    watched = [layer for layer in model.layers if layer.name in aims.solvable or layer.name in aims.norms]
    with _showing(watched, see):
        model(feed(aims.data), training=False)


@contextmanager
def _showing(layers: list[Any], see: See) -> Iterator[None]:
    """Have layers show what they are given just before they compute."""

    def shown(layer: Any) -> Any:
        compute = layer.call

        def call(inputs: Any, *arguments: Any, **named: Any) -> Any:
            see(layer, inputs)
            return compute(inputs, *arguments, **named)

        return call

    try:
        for layer in layers:
            layer.call = shown(layer)
        yield
    finally:
        for layer in layers:
            del layer.call


def _values(inputs: Any) -> np.ndarray:
    """A tensor as an array, dtype float32."""
    values: np.ndarray = np.asarray(inputs, dtype=np.float32)
    return values


def _moments(inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a tensor by channel."""
    import tensorflow as tf

    mean, variance = tf.nn.moments(tf.cast(inputs, tf.float32), list(range(len(inputs.shape) - 1)))
    return mean.numpy(), variance.numpy()


def _follow(norm: Any, now: tuple[np.ndarray, np.ndarray], before: tuple[np.ndarray, np.ndarray]) -> None:
    """Move a batch normalization's statistics by as much as those of its inputs have; those of channels that overflow stay."""
    (mean, variance), (mean_before, variance_before) = now, before
    with np.errstate(all="ignore"):
        moved = norm.moving_mean.numpy() + mean - mean_before
        scaled = norm.moving_variance.numpy() * (variance + norm.epsilon) / (variance_before + norm.epsilon)
    usable = np.isfinite(moved) & np.isfinite(scaled)
    norm.moving_mean.assign(np.where(usable, moved, norm.moving_mean.numpy()))
    norm.moving_variance.assign(np.where(usable, scaled, norm.moving_variance.numpy()))
