"""Layers that are taken apart for training with quantization."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression.separable_layers import taken_apart
from autoopt.core.stage_settings import Prune
from autoopt.models import loading
from autoopt.models.task import Split
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof

layers = tf_keras.layers


def series(*stack, shape=(8, 4)):
    x = inputs = layers.Input(shape, name="series")
    for layer in stack:
        x = layer(x)
    model = tf_keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


STACKS = {
    "same": lambda: [layers.SeparableConv1D(6, 3, padding="same", activation="relu")],
    "causal": lambda: [layers.SeparableConv1D(6, 3, padding="causal", depth_multiplier=2)],
    "strides": lambda: [layers.SeparableConv1D(6, 3, strides=2, use_bias=False)],
    "dilation": lambda: [layers.SeparableConv1D(6, 3, dilation_rate=2, padding="causal")],
    "normalized": lambda: [layers.SeparableConv1D(6, 3), layers.BatchNormalization(), layers.ReLU()],
    "two": lambda: [layers.SeparableConv1D(6, 3), layers.SeparableConv1D(5, 2)],
    "dense": lambda: [layers.Dense(5, activation="tanh"), layers.TimeDistributed(layers.Dense(3))],
    "image": lambda: [layers.Reshape((2, 4, 4)), layers.SeparableConv2D(6, 2, depth_multiplier=2)],
}


@pytest.mark.parametrize("name", list(STACKS))
def test_parts_compute_the_same(name):
    model = loading.load(series(*STACKS[name]()))
    made, parts, _ = taken_apart(model)
    assert set(parts.values()) == {
        layer.name for layer in model.layers if type(layer).__name__ in ("SeparableConv1D", "SeparableConv2D", "Dense")
    }
    x = np.random.default_rng(1).normal(size=(3, 8, 4)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(x), model.predict_on_batch(x), atol=1e-4)


def test_words_are_computed_with_in_integers():
    words = layers.Input((8,), dtype="int32", name="words")
    x = layers.SeparableConv1D(8, 3, padding="same", activation="relu")(layers.Embedding(30, 8)(words))
    model = loading.load(tf_keras.Model(words, layers.TimeDistributed(layers.Dense(4, activation="softmax"))(x)))
    rng = np.random.default_rng(0)
    data = Split(inputs={"words": rng.integers(0, 30, (64, 8))}, labels=rng.integers(0, 4, (64, 8)))
    parts = {"prune": Prune(sparsity=0.5, frequency=1)}
    trained, reports = tiny.train(model, tiny.settings(scheme="qat_int8", **parts), data=[data, data])
    contents = inspect.read(conversion.trained(trained, "qat_int8"))
    assert contents.float_islands == {}
    proof.prove(contents, tiny.recipe("qat_int8", **parts), reports)
