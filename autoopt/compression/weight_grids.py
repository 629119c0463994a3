"""Kernels on the grids that a file stores them on: integers and a scale, for each output channel or for the whole tensor."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core.four_bits import packed
from autoopt.core.step_fitting import least_error, reaching, whole

FITTED = 200_000
"""Weights on which the steps of a grid are fitted; a larger kernel's are thinned out."""
STEPS = np.geomspace(1.0, 0.02, 80)
"""Steps that are tried, as shares of the one that reaches the largest weight."""
PACKED = 200_000
"""Bytes that are compressed to see how far they can be; more are taken to compress alike."""
SCALE = 8
"""Bytes of a scale in a file, after gzip hardly less: with the bias's own, each a float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A kernel as integers with scales.

    Attributes:
        integers: shape (channels, rest), dtype int8, in about the order of a file.
        values: what they stand for, in the kernel's shape, dtype float32.
        scales: how many there are.
        bits: that each integer takes in a file.
    """

    integers: np.ndarray
    values: np.ndarray
    scales: int
    bits: int

    @property
    def size(self) -> int:
        """Bytes in a file."""
        return math.ceil(self.integers.size * self.bits / 8) + SCALE * self.scales

    @property
    def compressed(self) -> int:
        """Bytes in a file after gzip, as far as its other parts have no part in it."""
        stored = self.integers.ravel() if self.bits == 8 else packed(self.integers)
        some = stored[:PACKED].tobytes()
        return math.ceil(len(zlib.compress(some, 9)) * len(stored) / max(1, len(some))) + SCALE * self.scales


def channel_axes(layer: Any, weight: Any) -> tuple[int, ...]:
    """The axes of a layer's kernel that run over output channels, which have a scale each in a file; none of a table of words."""
    kind = type(layer).__name__
    if "depthwise" in weight.name.rpartition("/")[2]:
        return (-2, -1)
    if kind == "Embedding":
        return ()
    return (-2,) if kind.endswith("Transpose") else (-1,)


def by_channel(kernel: np.ndarray, axes: tuple[int, ...], bits: int) -> Grid:
    """A kernel on a symmetric grid with a scale for each channel.

    Of 8 bits it reaches the largest weight, as files have it; of fewer it has the least squared error.

    Args:
        kernel: of any shape.
        axes: see `channel_axes`.
        bits: of an integer.
    """
    rows, most = _rows(kernel, axes), 2 ** (bits - 1) - 1
    return _grid(kernel, axes, most, reaching(rows, most) if bits >= 8 else _fitted(rows, most), bits)


def by_tensor(kernel: np.ndarray, axes: tuple[int, ...], levels: int) -> Grid:
    """A kernel on a symmetric grid of a few levels with one scale, that of the least squared error.

    Args:
        kernel: of any shape.
        axes: see `channel_axes`; they are for the order of the integers alone.
        levels: an odd number.
    """
    return _grid(kernel, axes, levels // 2, _fitted(_rows(kernel, axes).reshape(1, -1), levels // 2), 8)


def with_zeros(kernel: np.ndarray, share: float) -> np.ndarray:
    """A kernel with this share of its weights at zero, the smallest ones."""
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")
    flat = kernel.ravel().copy()
    flat[order[: round(share * kernel.size)]] = 0
    return flat.reshape(kernel.shape)


def _rows(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Its values with a row for each channel."""
    first = np.moveaxis(kernel, axes, range(len(axes)))
    return first.reshape(math.prod(first.shape[: len(axes)]), -1)


def _fitted(rows: np.ndarray, most: int) -> np.ndarray:
    """The step of each row with the least squared error, of a part of the largest rows."""
    return least_error(rows[:, :: max(1, rows.size // FITTED)], most, STEPS, reaching(rows, most))


def _grid(kernel: np.ndarray, axes: tuple[int, ...], most: int, steps: np.ndarray, bits: int) -> Grid:
    """A grid with a step for each row, or one for all."""
    first = np.moveaxis(kernel, axes, range(len(axes))).shape
    integers = whole(_rows(kernel, axes), steps, most)
    values = np.moveaxis((integers * steps).reshape(first), range(len(axes)), axes)
    return Grid(integers=integers.astype(np.int8), values=values.astype(np.float32), scales=len(steps), bits=bits)
