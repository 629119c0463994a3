"""Small and odd models of many kinds: each scheme's file computes what Keras does and is proven, or fails with the reason."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
POST_TRAINING = [name for name, scheme in SCHEMES.items() if not scheme.qat]
RNG = np.random.default_rng(0)
ROW, STEPS, IMAGE = (RNG.normal(size=(64, *shape)).astype(np.float32) for shape in ((8,), (6, 4), (8, 8, 4)))
PICTURE = RNG.normal(size=(1, 8, 8, 4)).astype(np.float32)


class Left(layers.Layer):
    """A kernel on the left of what flows."""

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(1, 5, shape[1]))

    def call(self, x):
        return tf.matmul(self.kernel, x)


def twice(layer, x):
    return layer(layer(x))


MODELS = {
    "shared": (ROW, lambda x: layers.Dense(3)(twice(layers.Dense(8), x))),
    "no bias": (ROW, lambda x: layers.Dense(3, use_bias=False)(x)),
    "one weight": (ROW[:, :1], layers.Dense(1)),
    "transposed": (IMAGE, layers.Conv2DTranspose(4, 3, strides=2, padding="same")),
    "multiplied": (IMAGE, layers.DepthwiseConv2D(3, depth_multiplier=3)),
    "groups": (IMAGE, layers.Conv2D(8, 3, groups=2)),
    "left": (STEPS, lambda x: layers.Flatten()(Left()(x))),
    "stack": (STEPS, layers.LocallyConnected1D(3, 2)),
    "large constant": (IMAGE, lambda x: layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1)(x * PICTURE))),
    "slopes": (IMAGE, lambda x: layers.Flatten()(layers.PReLU()(layers.Conv2D(4, 3)(x)))),
    "float in between": (ROW, lambda x: layers.Dense(3)(tf.sin(layers.Dense(8, activation="relu")(x)))),
}
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "int16x8": 0.02}
REASONS = {
    ("left", "dynamic"): "dynamic did not take: of the weights are 100% float32",
    ("slopes", "int16x8"): "not yet supported for op: 'PRELU'",
    ("float in between", "int16x8"): "not yet supported for op: 'SIN'",
}
"""What must fail, and why."""


@functools.cache
def model_of(name):
    tf_keras.utils.set_random_seed(0)
    x, stack = MODELS[name]
    inputs = layers.Input(x.shape[1:], name=tiny.INPUT)
    model = tf_keras.Model(inputs, stack(inputs))
    model.set_weights([w + np.random.default_rng(1).normal(0, 0.2, w.shape) for w in model.get_weights()])
    return model, x, conversion.float32(model)


def made(name, scheme, how=None):
    model, x, file = model_of(name)
    if scheme == "int16x8":
        return conversion.int16x8(model, {tiny.INPUT: x})
    return file if scheme == "float32" else conversion.quantize(file, scheme, {tiny.INPUT: x}, how=how)


def error(file, name):
    model, x, _ = model_of(name)
    expected = model.predict_on_batch(x)
    return np.sqrt(np.square(outputs_of(file, {tiny.INPUT: x}, 1) - expected).mean() / np.square(expected).mean())


@pytest.mark.parametrize("scheme", POST_TRAINING)
@pytest.mark.parametrize("name", MODELS)
def test_each_file_computes_what_keras_does_and_is_proven_or_the_reason_is_said(name, scheme):
    if (name, scheme) in REASONS:
        with pytest.raises(CandidateFailed, match=REASONS[name, scheme]):
            proof.prove(inspect.read(made(name, scheme)), Recipe(scheme=scheme), [])
        return
    file = made(name, scheme)
    proof.prove(inspect.read(file), Recipe(scheme=scheme), [])
    assert error(file, name) < TOLERANCE.get(scheme, 0.05)


@pytest.mark.parametrize("name", ["shared", "transposed", "stack"])
@pytest.mark.parametrize("how", [Quantize(granularity="tensor"), Quantize(correct_bias=True), Quantize(ranges="mse")])
def test_other_ways_to_make_integers_take_too(name, how):
    file = made(name, "int8", how)
    proof.prove(inspect.read(file), Recipe(scheme="int8", quantize=how), [])
    assert error(file, name) < 0.1


@pytest.mark.parametrize(("name", "claimed"), [("left", "float16"), ("transposed", "int8"), ("stack", "int16x8")])
def test_a_file_in_float_proves_none_of_it(name, claimed):
    with pytest.raises(CandidateFailed, match=f"{claimed} did not take: of the weights are 100% float32"):
        proof.prove(inspect.read(model_of(name)[2]), Recipe(scheme=claimed), [])


@pytest.mark.parametrize("scheme", ["float16", "dynamic"])
def test_without_weights_that_a_scheme_stores_it_did_not_take(scheme):
    inputs = layers.Input((8, 8, 4), name=tiny.INPUT)
    file = conversion.float32(tf_keras.Model(inputs, layers.BatchNormalization()(inputs)))
    same = conversion.quantize(file, scheme, {tiny.INPUT: IMAGE})
    with pytest.raises(CandidateFailed, match=f"{scheme} did not take: the file has no weights that it stores"):
        proof.prove(inspect.read(same), Recipe(scheme=scheme), [])


def test_what_looks_at_shapes_alone_computes_nothing_in_float():
    contents = inspect.read(made("transposed", "int8"))
    assert "SHAPE" in contents.ops
    assert not contents.float_islands
    assert set(contents.activations) == {"int32", "int8"}


def test_what_is_left_in_float_is_named():
    assert inspect.read(made("float in between", "int8")).float_islands == {"SIN": 1}
