"""Weights of 4 bits are written into a file from integers, and read back as they were."""

import functools

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.core.four_bits import packed
from autoopt.errors import CandidateFailed
from autoopt.tflite import contents, conversion, trimming
from autoopt.tflite.graph import Graph, unpacked
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.packing import Grid, in_8_bits, nearest, write

layers = tf_keras.layers
IMAGES = tiny.split(64, 2).inputs


@functools.cache
def integers(last=layers.Dense):
    """An int8 file of convolutions and a dense layer, whose weights are at most 15 whole numbers times one step."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(
        layers.Conv2D(5, 3, activation="relu"),
        layers.DepthwiseConv2D(3, activation="relu"),
        layers.Conv2D(3, 1),
        layers.Flatten(),
        layers.Dense(3),
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            grid = rng.integers(-7, 8, kernel.shape)
            grid.reshape(-1)[0] = 7
            layer.set_weights([grid * 0.05, rng.normal(0, 0.1, bias.shape)])
    return conversion.quantize(conversion.float32(model), "int8", IMAGES)


def grids(file):
    """What each layer that can have 4 bits holds, on a grid of 15 numbers with the step that was put in."""
    graph = Graph(file)
    return {
        number: Grid(integers=np.round(graph.real(layer.weights) / 0.05).astype(int), scales=np.array([0.05]))
        for number, layer in enumerate(graph.layers())
        if layer.kind != "DEPTHWISE_CONV_2D"
    }


@given(arrays.arrays(np.int8, st.integers(0, 33), elements=st.integers(-8, 7)))
def test_what_is_packed_is_unpacked_as_it_was(values):
    found = packed(values)
    assert found.nbytes == (values.size + 1) // 2
    assert np.array_equal(unpacked(found, values.size), values)


@pytest.mark.parametrize("value", [-9, 8, 127])
def test_what_4_bits_do_not_hold_is_refused(value):
    with pytest.raises(ValueError, match="4 bits hold -8 to 7, got"):
        packed(np.array([0, value]))


def test_few_levels_lose_nothing_in_4_bits_and_the_file_is_smaller():
    """A grid of 15 numbers is the same in 4 bits as in 8, so that outputs agree up to the rounding of biases."""
    before = integers()
    after = write(before, grids(before))
    assert len(trimming.trim(after)) < len(trimming.trim(before)) - 60
    dtypes = {(w.ops, w.dtype) for w in contents.read(after).weights}
    assert dtypes == {(("CONV_2D",), "int4"), (("DEPTHWISE_CONV_2D",), "int8"), (("FULLY_CONNECTED",), "int4")}
    one, other = outputs_of(before, IMAGES, 1), outputs_of(after, IMAGES, 1)
    assert np.abs(one - other).max() <= 0.03 * np.ptp(one)
    assert np.abs(outputs_of(in_8_bits(after), IMAGES, 1) - other).max() <= 0.03 * np.ptp(other)


def test_scales_may_differ_by_channel():
    before, graph = integers(), Graph(integers())
    last = graph.layers()[-1]
    halves = np.array([0.05, 0.1, 0.05])
    whole = np.round(graph.real(last.weights) / halves[:, None]).astype(int)
    after = write(before, {3: Grid(integers=whole, scales=halves)})
    assert Graph(after).scale(last.weights) == pytest.approx(halves)
    assert np.array_equal(Graph(after).constant(last.weights), whole)


def test_weights_in_float_or_of_another_shape_are_refused():
    with pytest.raises(CandidateFailed, match=r"MatMul1? is of shape \(3, 48\), got \(2, 2\)"):
        write(integers(), {3: Grid(integers=np.zeros((2, 2)), scales=np.ones(1))})
    file = conversion.float32(tiny.network(layers.Flatten(), layers.Dense(1)))
    with pytest.raises(CandidateFailed, match="has no weights of 8 bits of its own to store in 4"):
        write(file, {0: Grid(integers=np.zeros((1, 64)), scales=np.ones(1))})


@given(
    kernel=arrays.arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 4), elements=st.floats(-4, 4, width=32)),
    axis=st.sampled_from([0, 3]),
    per_channel=st.booleans(),
)
def test_the_nearest_grid_is_no_further_than_the_one_that_holds_all(kernel, axis, per_channel):
    found = nearest(kernel, axis, per_channel=per_channel)
    assert found.integers.shape == kernel.shape
    assert np.abs(found.integers.astype(int)).max() <= 7
    assert len(found.scales) == (kernel.shape[axis] if per_channel else 1)
    shape = [-1 if i == axis and per_channel else 1 for i in range(4)]
    axes = tuple(i for i in range(4) if i != axis) if per_channel else None
    whole = np.maximum(np.abs(kernel).max(axis=axes, keepdims=True), 1e-30) / 7
    held = np.clip(np.round(kernel / whole), -7, 7) * whole
    error = np.square(found.integers * found.scales.reshape(shape) - kernel).sum()
    assert error <= np.square(held - kernel).sum() * (1 + 1e-3) + 1e-10  # the step is stored with 24 bits
    dead = ~np.abs(kernel).max(axis=axes).reshape(-1).astype(bool)
    assert (found.scales > 0).all()
    assert not dead.any() or np.isfinite(found.scales[dead]).all()
