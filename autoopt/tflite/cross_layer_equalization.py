"""Cross-layer equalization (Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction).

Between two layers that only a ReLU joins, a channel can be scaled down behind the first and up again before the
second: the network computes the same. It is scaled so that its weights have one range in both, and with it all
channels come closer to one another, which is what a scale for the whole kernel needs.
"""

import numpy as np

from autoopt.tflite.graph import NONE, Graph, Layer

ROUNDS = 40
DONE = 1e-3
"""A round that changes no channel by more than this share is the last: layers in a row affect one another."""
SCALING = ("NONE", "RELU")
"""Activations that scale with their input. ReLU6 does not."""


def equalize(file: bytes) -> bytes:
    """The same network with its channels' weights in like ranges.

    Args:
        file: a float32 `.tflite`.

    Returns:
        a `.tflite` with the same outputs, but for rounding; `file` itself where no two layers are joined so.
    """
    graph = Graph(file)
    found = pairs(graph)
    if not found:
        return file
    values = {t: graph.real(t) for pair in found for layer in pair for t in (layer.weights, layer.bias) if t != NONE}
    for _ in range(ROUNDS):
        if max([_equalize(values, *pair) for pair in found]) < DONE:
            break
    for tensor, array in values.items():
        if graph.own(tensor):  # others are biases of zero, and stay so
            graph.store(tensor, array.astype(np.float32))
    return graph.to_bytes()


def pairs(graph: Graph) -> list[tuple[Layer, Layer]]:
    """Layers next to each other, of which the second alone reads what the first writes."""
    layers = {layer.place: layer for layer in graph.layers()}
    found = []
    for first in layers.values():
        readers = graph.readers[first.output]
        second = layers.get(readers[0]) if len(readers) == 1 else None
        if second is None or second.input != first.output or first.output in graph.outputs:
            continue
        channels = graph.tensors[first.weights].shape[first.axis]
        if first.activation in SCALING and _fits(graph, second, int(channels)) and _free(graph, first, second):
            found.append((first, second))
    return found


def _fits(graph: Graph, second: Layer, channels: int) -> bool:
    """Whether the layer's kernel has the channels one by one: not in groups, nor flattened."""
    shape = graph.tensors[second.weights].shape
    return bool(shape[-1] % channels == 0 if second.kind == "DEPTHWISE_CONV_2D" else shape[-1] == channels)


def _free(graph: Graph, first: Layer, second: Layer) -> bool:
    """Whether the constants can be changed without changing another layer."""
    if not (graph.own(first.weights) and graph.own(second.weights)):
        return False
    return first.bias == NONE or graph.own(first.bias) or not graph.constant(first.bias).any()


def _equalize(values: dict[int, np.ndarray], first: Layer, second: Layer) -> float:
    """Scale the channels between two layers; returns the largest change as a logarithm."""
    before, after = values[first.weights], values[second.weights]
    reduced = tuple(a for a in range(before.ndim) if a != first.axis)
    ahead = np.abs(before).max(axis=reduced)
    channels = len(ahead)
    if second.kind == "DEPTHWISE_CONV_2D":
        behind = np.abs(after).max(axis=(0, 1, 2)).reshape(channels, -1).max(axis=1)
    else:
        behind = np.abs(after).max(axis=tuple(range(after.ndim - 1)))
    alive = (ahead > 0) & (behind > 0)
    scale = np.sqrt(np.divide(ahead, behind, out=np.ones(channels), where=alive))
    if first.bias != NONE:
        # A channel whose weights are next to nothing lives by its bias. Scaled up without a limit, it would
        # take the whole range of activations.
        bias = np.abs(values[first.bias])
        scale = np.maximum(scale, bias / max(bias.max(), np.finfo(np.float64).tiny))
        values[first.bias] = values[first.bias] / scale
    shape = [1] * before.ndim
    shape[first.axis] = -1
    values[first.weights] = before / scale.reshape(shape)
    repeats = after.shape[-1] // channels if second.kind == "DEPTHWISE_CONV_2D" else 1
    values[second.weights] = after * np.repeat(scale, repeats)
    return float(np.abs(np.log(scale)).max())
