"""Weights of 4 bits inside a `.tflite`: written from integers, and read back into 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoopt.core.four_bits import HIGHEST, packed
from autoopt.core.step_fitting import least_error, whole
from autoopt.errors import CandidateFailed
from autoopt.tflite.graph import NONE, Graph, Layer

LIMITS = np.iinfo(np.int32)
SHARES = np.linspace(1, 0.3, 36)
"""Steps that are tried, as shares of the one with which no weight is cut off."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A kernel as whole numbers, each times the scale of its channel.

    Attributes:
        integers: of the kernel's shape as TFLite stores it, each in -8 to 7.
        scales: one for each output channel, or one for all; shape (scales,).
    """

    integers: np.ndarray
    scales: np.ndarray


def nearest(kernel: np.ndarray, axis: int, *, per_channel: bool) -> Grid:
    """The grid of 15 numbers that is nearest to a kernel, by the squared error.

    A scale that cuts the outermost weights off costs less than one that holds them, for the others are rounded less:
    ResNet-8 without training, in 4 bits but for its first layer, has 77 % then, and 65 % else.

    Args:
        kernel: weights in float.
        axis: of its output channels.
        per_channel: each has a scale of its own.
    """
    rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1).astype(np.float64)
    rows = rows if per_channel else rows.reshape(1, -1)
    steps = least_error(rows, HIGHEST, SHARES)
    integers = whole(rows, steps, HIGHEST).reshape(np.moveaxis(kernel, axis, 0).shape)
    return Grid(integers=np.moveaxis(integers, 0, axis).astype(np.int8), scales=steps[:, 0])


def write(file: bytes, grids: Mapping[int, Grid]) -> bytes:
    """The file with some layers' weights in 4 bits, and their biases in the scale that follows.

    Channels of zeros keep the scale that they have, for it serves their bias alone.

    Args:
        file: a `.tflite` whose layers have weights of 8 bits.
        grids: by the layer's number, in the order in which they run (`Graph.layers`): it is the same in all files of a
            model. Of layers that share their weights, each is given.

    Raises:
        CandidateFailed: if such a layer has no weights of 8 bits, others share them, or the shapes differ.
    """
    graph = Graph(file)
    layers = graph.layers()
    given = {layers[number].place for number in grids}
    before = {number: graph.scale(layers[number].weights) for number in grids}
    for number, grid in grids.items():
        layer = layers[number]
        kind = graph.dtype(layer.weights)
        if kind not in ("INT8", "INT4") or not given.issuperset(graph.readers[layer.weights]):
            raise CandidateFailed(
                "quantize", f"{graph.name(layer.weights)} has no weights of 8 bits of its own to store in 4"
            )
        shape = tuple(graph.shape(layer.weights))
        if shape != grid.integers.shape or grid.scales.size not in (1, shape[layer.axis]):
            raise CandidateFailed(
                "quantize", f"{graph.name(layer.weights)} is of shape {shape}, got {grid.integers.shape}"
            )
        alive = _alive(grid, layer.axis)
        scales = np.where(alive, np.asarray(grid.scales, np.float32), before[number].astype(np.float32))
        if layer.bias != NONE and len(graph.scale(layer.bias)):
            _rescale(graph, layer, scales.astype(np.float64), alive)
        graph.store(layer.weights, packed(grid.integers), "INT4")
        graph.set_scales(layer.weights, scales, layer.axis)
    return graph.to_bytes()


def _alive(grid: Grid, axis: int) -> np.ndarray:
    """Which of a grid's scales stand for numbers other than zero; bool, shape (scales,)."""
    apart = len(grid.scales) > 1
    rows = np.moveaxis(grid.integers, axis, 0).reshape(len(grid.scales) if apart else 1, -1)
    return np.asarray(rows.any(axis=1))


def _rescale(graph: Graph, layer: Layer, scales: np.ndarray, alive: np.ndarray) -> None:
    """Store a layer's bias in the scales that follow from those of its weights, where these are alive."""
    before, values = graph.scale(layer.bias), graph.constant(layer.bias)
    scale = np.where(alive, graph.scale(layer.input) * scales, before)
    factor = np.divide(before, scale, out=np.ones_like(scale), where=alive)
    moved = np.clip(np.round(values * factor), LIMITS.min, LIMITS.max).astype(np.int32)
    if graph.own(layer.bias):
        graph.store(layer.bias, moved)
        graph.set_scales(layer.bias, scale)
    else:
        graph.read_instead(layer.place, layer.bias, graph.add_constant(layer.bias, moved, scale))


def in_8_bits(file: bytes) -> bytes:
    """The file with each weight of 4 bits in 8: it computes the same, up to how kernels round, and every runtime has those."""
    graph = Graph(file)
    for tensor in range(len(graph.tensors)):
        if graph.is_constant(tensor) and graph.dtype(tensor) == "INT4":
            graph.store(tensor, graph.constant(tensor), "INT8")
    return graph.to_bytes()
