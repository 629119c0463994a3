"""Stores kernels that are whole multiples of a step as these very multiples, with the step as their scale.

litert-quantizer lays its grid over the largest weight of a kernel or channel. Where training has put the weights on a
grid of its own, that would round them once more.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from autoopt.core.four_bits import packed
from autoopt.tflite.graph import NONE, Graph, Layer

MOST = {"INT8": 127, "INT4": 7}
"""The largest multiple that a type holds; as many to both sides, which is what kernels of 8 bits take."""
CLOSE = 1e-4
"""A multiple may be so far from a whole number: that is what float32 and a training's arithmetic leave."""
LIMITS = np.iinfo(np.int32)


def store(file: bytes, quantized: bytes) -> bytes:
    """The quantized file with exact kernels, where those of the float file lie on grids that its types hold.

    Args:
        file: in float32.
        quantized: made of it, with the same layers.

    Returns:
        `quantized` itself where no kernel lies on a grid.
    """
    real, graph = Graph(file), Graph(quantized)
    before, after = real.layers(), graph.layers()
    if len(before) != len(after):  # weights that lie behind the flatbuffer are not seen here
        return quantized
    layers: dict[int, list[tuple[Layer, Layer]]] = defaultdict(list)
    for pair in zip(before, after, strict=True):
        layers[pair[1].weights].append(pair)
    changed = False
    for weights, pairs in layers.items():
        dtype, kernel = graph.dtype(weights), real.real(pairs[0][0].weights)
        if dtype not in MOST or not all(_free(graph, layer) for _, layer in pairs):
            continue
        steps = _steps(kernel, pairs[0][1].axis, MOST[dtype])
        if steps is None:
            continue
        _store(graph, weights, np.round(kernel / _along(steps, kernel.ndim, pairs[0][1].axis)), steps, pairs[0][1].axis)
        for mine, layer in pairs:
            _store_bias(real, graph, mine, layer, steps)
        changed = True
    return graph.to_bytes() if changed else quantized


def _free(graph: Graph, layer: Layer) -> bool:
    """Whether a layer's bias is its own, so that it can have another scale."""
    in_float = layer.bias == NONE or graph.dtype(layer.bias) == "FLOAT32"
    return in_float or graph.own(layer.bias)


def _steps(kernel: np.ndarray, axis: int, most: int) -> np.ndarray | None:
    """The step of a whole kernel, or of each of its channels, whose multiples its weights are; None without one.

    Args:
        kernel: in float.
        axis: of its output channels.
        most: the largest multiple.

    Returns:
        shape (1,) or (channels,).
    """
    whole = step_of(kernel, most)
    if whole == 0:
        return None  # its scale serves the bias alone, and is as the quantizer found it right
    if whole is not None:
        return np.array([whole])
    found = [step_of(channel, most) for channel in np.moveaxis(kernel, axis, 0)]
    steps = [step for step in found if step is not None]
    # A channel without weights has any step: the smallest takes nothing from its bias.
    return np.array([step or min(filter(None, steps)) for step in steps]) if len(steps) == len(found) else None


def step_of(values: np.ndarray, most: int) -> float | None:
    """The largest step whose whole multiples, up to `most`, the values are; 0 if all are zero, None if there is none.

    Args:
        values: of any shape.
        most: the largest multiple.
    """
    distinct = np.unique(np.abs(values[values != 0]).astype(np.float64))
    if not distinct.size:
        return 0.0
    smallest, largest = float(distinct[0]), float(distinct[-1])
    if distinct.size > 2 * most:
        return None
    for divisor in range(1, most + 1):
        step = smallest / divisor
        if largest / step > most + 0.5:
            return None
        multiples = np.round(distinct / step)
        if np.abs(distinct / step - multiples).max() <= CLOSE * divisor:
            # Of all its weights the grid is known better than of the smallest.
            return float((distinct * multiples).sum() / (multiples**2).sum())
    return None


def _along(steps: np.ndarray, rank: int, axis: int) -> np.ndarray:
    shape: Sequence[int] = [-1 if len(steps) > 1 and at == axis else 1 for at in range(rank)]
    return steps.reshape(shape)


def _store(graph: Graph, weights: int, multiples: np.ndarray, steps: np.ndarray, axis: int) -> None:
    graph.store(weights, packed(multiples) if graph.dtype(weights) == "INT4" else multiples.astype(np.int8))
    graph.set_scales(weights, steps, axis)


def _store_bias(real: Graph, graph: Graph, mine: Layer, layer: Layer, steps: np.ndarray) -> None:
    """Give a layer's bias the scale that goes with its kernel's; biases in float stay."""
    scale = graph.scale(layer.input)
    if layer.bias == NONE or graph.dtype(layer.bias) == "FLOAT32" or not len(scale):
        return
    scales = np.broadcast_to(scale * steps, (len(graph.constant(layer.bias)),) if len(steps) > 1 else (1,))
    values = real.real(mine.bias) if mine.bias != NONE else graph.real(layer.bias)
    stored = np.clip(np.round(values / scales), LIMITS.min, LIMITS.max)
    graph.store(layer.bias, stored.astype(np.int32))
    graph.set_scales(layer.bias, scales, 0)
