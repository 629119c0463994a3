"""Kernels on the grids of a file."""

import gzip

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.compression import weight_grids

layers = tf_keras.layers
KERNELS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-4, 4, width=32)
)


@settings(deadline=None)
@given(KERNELS, st.sampled_from([4, 8]))
def test_a_channel_is_no_worse_than_on_the_grid_that_reaches_its_largest_weight(kernel: np.ndarray, bits: int) -> None:
    grid = weight_grids.by_channel(kernel, (-1,), bits)
    most = 2 ** (bits - 1) - 1
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    steps = np.where(largest > 0, largest / most, 1)
    off, plain = (np.square(values - kernel).sum() for values in (grid.values, np.round(kernel / steps) * steps))
    assert grid.values.shape == kernel.shape
    assert np.abs(grid.integers).max() <= most
    assert grid.scales == kernel.shape[-1]
    assert off <= plain * 1.001 + 1e-6
    if bits == 8:
        assert (np.abs(grid.values - kernel) <= steps / 2 * 1.001 + 1e-7).all()


@settings(deadline=None)
@given(KERNELS, st.sampled_from([7, 9, 11, 15]))
def test_a_tensor_has_no_more_than_its_levels_and_is_no_worse_than_without_any(kernel: np.ndarray, levels: int) -> None:
    grid = weight_grids.by_tensor(kernel, (-1,), levels)
    assert len(np.unique(grid.values)) <= levels
    assert grid.scales == 1
    plain = np.abs(kernel).max() / (levels // 2) or 1.0
    rounded = np.round(kernel / plain) * plain
    assert np.square(grid.values - kernel).sum() <= np.square(rounded - kernel).sum() * 1.001 + 1e-6


@settings(deadline=None)
@given(KERNELS, st.floats(0, 1))
def test_the_smallest_weights_become_zeros(kernel: np.ndarray, share: float) -> None:
    found = weight_grids.with_zeros(kernel, share)
    gone = found != kernel
    assert (found == 0).sum() >= round(share * kernel.size)
    assert gone.sum() <= round(share * kernel.size)
    assert np.abs(kernel[gone]).max(initial=0) <= np.abs(kernel[found != 0]).min(initial=np.inf)


def test_sizes_are_those_of_a_file() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 16, 33)).astype(np.float32)
    eight, four = (weight_grids.by_channel(kernel, (-1,), bits) for bits in (8, 4))
    seven = weight_grids.by_tensor(kernel, (-1,), 7)
    assert eight.size - four.size == kernel.size / 2
    assert four.size == kernel.size / 2 + 33 * weight_grids.SCALE
    assert seven.compressed < four.compressed < eight.compressed
    assert seven.compressed == pytest.approx(len(gzip.compress(seven.integers.tobytes(), 9)), abs=30)
    zeros = weight_grids.by_channel(weight_grids.with_zeros(kernel, 0.5), (-1,), 8)
    assert zeros.size == eight.size
    assert zeros.compressed < 0.8 * eight.compressed


def test_a_large_kernel_is_looked_at_in_part() -> None:
    """What lies behind compresses like what was looked at, so the estimate is that of the whole."""
    kernel = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    grid = weight_grids.by_tensor(kernel, (-1,), 7)
    assert grid.compressed == pytest.approx(len(gzip.compress(grid.integers.tobytes(), 9)), rel=0.01)


def test_zeros_alone_stay_zeros() -> None:
    kernel = np.zeros((3, 3, 2, 4), np.float32)
    for grid in (weight_grids.by_channel(kernel, (-1,), 4), weight_grids.by_tensor(kernel, (-1,), 7)):
        assert not grid.values.any()
        assert not grid.integers.any()


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (layers.Conv2D(5, 3), 5),
        (layers.Dense(5), 5),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6),
        (layers.Conv2DTranspose(5, 3), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scales_are_by_the_channels_that_a_file_has_scales_for(layer: layers.Layer, channels: int) -> None:
    made = tiny.network(layer, shape=(8, 8, 3)).layers[-1]
    [kernel] = [weight for weight in made.weights if len(weight.shape) > 1]
    grid = weight_grids.by_channel(kernel.numpy(), weight_grids.channel_axes(made, kernel), 8)
    assert grid.scales == channels
