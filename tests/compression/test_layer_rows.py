"""Layers as matrices: the rows times the kernel are what the layer itself gives out."""

import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.compression import layer_rows

layers = tf_keras.layers


def holds(layer, shape, seed=0):
    """Check that at random places the matrix gives what the layer does, and all that is put comes back."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(3, *shape)).astype(np.float32)
    layer.build(inputs.shape)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    assert layer_rows.knows(layer)
    wanted = layer(inputs).numpy()
    count = layer_rows.places(layer, inputs)
    assert count == np.prod(wanted.shape[:-1])
    chosen = np.sort(rng.choice(count, min(count, 7), replace=False))
    found = layer_rows.outputs(layer, layer_rows.rows(layer, inputs, chosen))
    groups, number, each = found.shape
    got = found.transpose(1, 0, 2).reshape(number, groups * each)
    np.testing.assert_allclose(got, wanted.reshape(count, -1)[chosen], rtol=1e-4, atol=1e-4)
    before = layer.get_weights()
    layer_rows.put(layer, layer_rows.kernel(layer), np.zeros((groups, each)))
    for weight, same in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


sides = st.integers(1, 3)


@settings(max_examples=30)
@given(
    st.sampled_from([layers.Conv2D, layers.SeparableConv2D, layers.DepthwiseConv2D]),
    st.tuples(sides, sides),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(["same", "valid"]),
    st.booleans(),
    st.tuples(st.integers(5, 9), st.integers(5, 9)),
)
def test_convolutions_of_images_are_matrices(kind, kernel, stride, dilation, padding, use_bias, size):
    if stride > 1:
        dilation = 1  # Keras takes one of both
    outs = {} if kind is layers.DepthwiseConv2D else {"filters": 4}
    more = {} if kind is layers.Conv2D else {"depth_multiplier": 2}
    layer = kind(
        kernel_size=kernel, strides=stride, dilation_rate=dilation, padding=padding, use_bias=use_bias, **outs, **more
    )
    holds(layer, (*size, 3))


@settings(max_examples=20)
@given(
    st.sampled_from([layers.Conv1D, layers.SeparableConv1D, layers.DepthwiseConv1D]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["same", "valid", "causal"]),
)
def test_convolutions_of_series_are_matrices(kind, kernel, stride, padding):
    if kind is layers.DepthwiseConv1D and padding == "causal":
        padding = "same"  # Keras has no such
    outs = {} if kind is layers.DepthwiseConv1D else {"filters": 4}
    holds(kind(kernel_size=kernel, strides=stride, padding=padding, **outs), (11, 3))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
def test_dense_layers_are_matrices_at_every_place(shape):
    holds(layers.Dense(4), shape)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2DTranspose(4, 3),
        layers.Conv2D(4, 3, groups=2),
        layers.Conv2D(4, 3, data_format="channels_first"),
        layers.BatchNormalization(),
        type("Conv2D", (layers.Conv2D,), {})(4, 3),
    ],
    ids=["transposed", "groups", "channels first", "norm", "own"],
)
def test_other_layers_are_not_known(layer):
    assert not layer_rows.knows(layer)
