"""Kernels on a grid of their own are stored as its very multiples."""

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.stage_settings import Quantize
from autoopt.tflite import conversion, interpreter
from autoopt.tflite.exact_grids import step_of
from autoopt.tflite.graph import Graph

layers = tf_keras.layers
IMAGES = tiny.split(64, 3).inputs


@given(
    step=st.floats(1e-6, 1e3),
    multiples=st.lists(st.integers(-127, 127), min_size=1, max_size=40),
)
def test_a_step_is_found_whose_multiples_the_values_are(step, multiples):
    values = (np.array(multiples) * step).astype(np.float32)
    found = step_of(values, 127)
    assert found is not None
    if not any(multiples):
        assert found == 0
        return
    whole = values / found
    np.testing.assert_allclose(whole, np.round(whole), atol=0.02)
    assert np.abs(whole).max() <= 127.5
    assert found >= step * (1 - 1e-4)  # the coarsest one


@given(seed=st.integers(0, 999))
def test_what_lies_on_no_grid_has_none(seed):
    assert step_of(np.random.default_rng(seed).normal(size=200).astype(np.float32), 127) is None


def test_more_multiples_than_the_type_holds_are_no_grid():
    assert step_of(np.arange(-9, 10) / 8, 7) is None
    assert step_of(np.arange(-7, 8) / 8, 7) == pytest.approx(1 / 8)


def on_grid(per_channel=False, bias=True):
    """A model with a convolution, a depthwise one and a dense layer whose weights are multiples of steps."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(
        layers.Conv2D(8, 3, activation="relu", use_bias=bias, name="conv"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Flatten(),
        layers.Dense(4, name="scores"),
    )
    rng = np.random.default_rng(0)
    for layer in (at for at in model.layers if at.weights):
        kernel, *rest = layer.get_weights()
        steps = rng.uniform(0.01, 0.05, kernel.shape[-1]) if per_channel and layer.name == "conv" else 0.02
        whole = rng.integers(-5, 6, kernel.shape)
        layer.set_weights([whole * steps, *(rng.normal(size=w.shape) * 0.1 for w in rest)])
    return model


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("scheme", ["int8", "int8_io", "dynamic"])
def test_the_file_holds_the_multiples_and_the_step(scheme, granularity):
    model = on_grid()
    how = Quantize(granularity=granularity, ranges="mse") if scheme != "dynamic" else None
    graph = Graph(conversion.quantize(conversion.float32(model), scheme, IMAGES, how=how))
    for layer, name in zip(graph.layers(), ("conv", "depthwise", "scores"), strict=True):
        if graph.dtype(layer.weights) != "INT8":  # dynamic leaves small kernels in float
            continue
        kernel = model.get_layer(name).get_weights()[0]
        np.testing.assert_allclose(graph.scale(layer.weights), 0.02, rtol=1e-4)
        stored = np.unique(graph.constant(layer.weights), return_counts=True)
        for found, expected in zip(stored, np.unique(np.round(kernel / 0.02), return_counts=True), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_file_is_nearer_to_the_model_than_by_the_range_alone(per_channel, bias, monkeypatch):
    model = on_grid(per_channel, bias)
    expected = model.predict_on_batch(IMAGES[tiny.INPUT])
    file, how = conversion.float32(model), Quantize(granularity="tensor")

    def error():
        made = conversion.quantize(file, "int8", IMAGES, how=how)
        return float(np.square(interpreter.outputs_of(made, IMAGES, 1) - expected).mean())

    exact = error()
    monkeypatch.setattr("autoopt.tflite.exact_grids.store", lambda file, made: made)
    assert exact < error()


def test_four_bits_hold_fifteen_levels_exactly():
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(layers.Flatten(), layers.Dense(32, name="hidden"), layers.Dense(4, name="scores"))
    rng = np.random.default_rng(0)
    for layer in model.layers[2:]:
        kernel, bias = layer.get_weights()
        layer.set_weights([rng.integers(-7, 8, kernel.shape) * 0.03, bias])
    graph = Graph(conversion.quantize(conversion.float32(model), "int8", IMAGES, how=Quantize(int4_dense=True)))
    for layer in graph.layers():
        assert graph.dtype(layer.weights) == "INT4"
        np.testing.assert_allclose(graph.scale(layer.weights), 0.03, rtol=1e-4)
        found = np.round(graph.real(layer.weights) / 0.03)
        expected = np.round(next(at for at in model.layers[2:] if at.units == found.shape[0]).get_weights()[0].T / 0.03)
        np.testing.assert_array_equal(found, expected)


def test_other_kernels_are_left_as_the_quantizer_made_them(monkeypatch):
    file = conversion.float32(tiny.cnn())
    found = conversion.quantize(file, "int8", IMAGES)
    monkeypatch.setattr("autoopt.tflite.exact_grids.store", lambda file, made: made)
    assert conversion.quantize(file, "int8", IMAGES) == found
