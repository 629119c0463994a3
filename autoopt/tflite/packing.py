"""Weights of 4 bits inside a `.tflite`: written from integers, and read back into 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.tflite.graph import NONE, Graph

LOWEST, HIGHEST = -8, 7
"""What 4 bits hold."""
LIMITS = np.iinfo(np.int32)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A kernel as whole numbers, each times the scale of its channel.

    Attributes:
        integers: of the kernel's shape as TFLite stores it, each in -8 to 7.
        scales: one for each output channel, or one for all; shape (scales,).
    """

    integers: np.ndarray
    scales: np.ndarray


def packed(integers: np.ndarray) -> np.ndarray:
    """Whole numbers of 4 bits, two to a byte, the first in the lower half, as `graph.unpacked` reads them.

    Args:
        integers: of any shape, each in -8 to 7.

    Returns:
        dtype uint8; the last half byte is 0 where their number is odd.

    Raises:
        ValueError: for a number outside.
    """
    values = np.asarray(integers).reshape(-1)
    if values.size and not (LOWEST <= values.min() and values.max() <= HIGHEST):
        raise ValueError(f"4 bits hold {LOWEST} to {HIGHEST}, got {values.min()} to {values.max()}")
    halves = np.zeros(values.size + values.size % 2, np.uint8)
    halves[: values.size] = values.astype(np.int8).view(np.uint8) & 15
    found: np.ndarray = halves[::2] | halves[1::2] << 4
    return found


def write(file: bytes, grids: Mapping[int, Grid]) -> bytes:
    """The file with some layers' weights in 4 bits, and their biases in the scale that follows.

    Args:
        file: a `.tflite` whose layers have weights of 8 bits.
        grids: by the place of the layer's operator in the graph.

    Raises:
        CandidateFailed: if such an operator is no layer with weights of 8 bits that it reads alone, or the shapes differ.
    """
    graph = Graph(file)
    layers = {layer.place: layer for layer in graph.layers()}
    for place, grid in grids.items():
        layer = layers.get(place)
        if layer is None or graph.dtype(layer.weights) != "INT8" or not graph.own(layer.weights):
            raise CandidateFailed("quantize", f"operator {place} has no weights of 8 bits of its own to store in 4")
        before = graph.constant(layer.weights)
        if before.shape != grid.integers.shape or grid.scales.size not in (1, before.shape[layer.axis]):
            raise CandidateFailed(
                "quantize", f"operator {place} has weights of shape {before.shape}, got {grid.integers.shape}"
            )
        scales = np.asarray(grid.scales, np.float32)
        if layer.bias != NONE and len(graph.scale(layer.bias)):
            bias, of_bias = graph.real(layer.bias), graph.scale(layer.input) * scales.astype(np.float64)
            moved = np.clip(np.round(bias / of_bias), LIMITS.min, LIMITS.max).astype(np.int32)
            if graph.own(layer.bias):
                graph.store(layer.bias, moved)
                graph.set_scales(layer.bias, of_bias)
            else:
                graph.read_instead(place, layer.bias, graph.add_constant(layer.bias, moved, of_bias))
        graph.store(layer.weights, packed(grid.integers), "INT4")
        graph.set_scales(layer.weights, scales, layer.axis)
    return graph.to_bytes()


def in_8_bits(file: bytes) -> bytes:
    """The file with each weight of 4 bits in 8: it computes the very same, by kernels that every runtime has."""
    graph = Graph(file)
    for tensor in range(len(graph.tensors)):
        if graph.is_constant(tensor) and graph.dtype(tensor) == "INT4":
            graph.store(tensor, graph.constant(tensor), "INT8")
    return graph.to_bytes()
