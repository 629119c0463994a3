"""Keras 3 models as tf_keras ones."""

import keras
import numpy as np
import pytest
import tf_keras

from autoopt import convert, models, rebuilding
from autoopt.closing import ClosedModel
from autoopt.errors import ConfigError

# Keras 3 copies its own variables in a way that numpy 2 will give up.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
layers = keras.layers


def unlike(model, seed=0):
    """The model with weights that are not what it began with."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.uniform(0.05, 0.2, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def series(layer):
    x = inputs = layers.Input((6, 4), name="series")
    return keras.Model(inputs, layer(x))


WRAPPED = {
    "bidirectional": lambda: series(layers.Bidirectional(layers.LSTM(3))),
    "time distributed": lambda: series(layers.TimeDistributed(layers.Dense(3, kernel_regularizer="l2"))),
    "cell": lambda: series(layers.RNN(layers.LSTMCell(3))),
    "cells": lambda: series(layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)])),
    "attention": lambda: series(lambda x: layers.MultiHeadAttention(2, 3)(x, x)),
    "leaky": lambda: series(layers.LeakyReLU(negative_slope=0.1)),
    "lambda": lambda: series(layers.Lambda(lambda x, by: x * by, arguments={"by": 3})),
    "words": lambda: keras.Sequential(
        [layers.Input((6,), dtype="int32"), layers.Embedding(5, 4, mask_zero=True), layers.LSTM(3), layers.Dense(2)]
    ),
}


@pytest.mark.parametrize("name", list(WRAPPED))
def test_layers_in_layers_are_rebuilt(name):
    model = unlike(WRAPPED[name]())
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (4, 6)) if name == "words" else rng.normal(size=(4, 6, 4)).astype(np.float32)
    wanted = np.asarray(model(x, training=False))
    np.testing.assert_allclose(models.load(model).predict_on_batch(x), wanted, atol=1e-5, rtol=1e-4)


def test_outputs_by_name_are_rebuilt():
    x = layers.Input((4,))
    model = unlike(keras.Model(x, {"zz": layers.Dense(2)(x), "aa": layers.Dense(3)(x)}))
    made = models.load(model)
    assert [tuple(output.shape) for output in made.outputs] == [(None, 3), (None, 2)]
    assert made.output_names == ["aa", "zz"]


def test_inputs_by_name_are_rebuilt():
    a, b = layers.Input((4,), name="z"), layers.Input((3,), name="y")
    model = unlike(keras.Model({"z": a, "y": b}, layers.Concatenate()([layers.Dense(2)(a), layers.Dense(3)(b)])))
    x = {"z": np.ones((5, 4), np.float32), "y": np.full((5, 3), 2, np.float32)}
    found = models.load(model).predict_on_batch(x)
    np.testing.assert_allclose(found, model(x), atol=1e-5)


def test_a_model_may_be_called_by_the_name_of_its_argument():
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3)])
    x = layers.Input((4,))
    model = unlike(keras.Model(x, layers.Dense(2)(inner(inputs=x))))
    np.testing.assert_allclose(models.load(model).predict_on_batch(np.ones((2, 4))), model(np.ones((2, 4))), atol=1e-5)


@pytest.mark.parametrize("scaled", [lambda x: x / 255.0, lambda x: x - 3.0, lambda x: 1.0 - x, lambda x: 2.0 * x + 1.0])
def test_images_may_be_scaled_by_numbers(scaled):
    x = layers.Input((4,))
    model = keras.Model(x, scaled(x))
    given = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(models.load(model).predict_on_batch(given), scaled(given), rtol=1e-6)


def test_half_precision_was_for_the_training_alone():
    x = layers.Input((6, 6, 1))
    y = layers.Conv2D(8, 3, activation="relu", dtype="mixed_float16")(x)
    y = layers.BatchNormalization(dtype="mixed_float16")(y)
    y = layers.Bidirectional(layers.LSTM(3, dtype="mixed_float16"), dtype="mixed_float16")(layers.Reshape((16, 8))(y))
    made = models.load(unlike(keras.Model(x, layers.Dense(2, dtype="float32")(y))))
    assert {str(tensor.dtype.name) for layer in made.layers for tensor in [layer.output]} == {"float32"}
    assert convert.float32(made)


def test_open_sizes_are_told_before_anything_is_rebuilt():
    x = layers.Input((None, None, 3), name="photo")
    with pytest.raises(ConfigError, match=r"expected fixed input shapes .* got photo \(None, None, None, 3\)"):
        models.load(keras.Model(x, layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3)(x))))


def test_a_subclassed_model_inside_closes_it():
    class Inside(keras.Model):
        def call(self, inputs):
            return inputs * 2

    x = layers.Input((4,))
    model = keras.Model(x, layers.Dense(2)(Inside()(x)))
    assert isinstance(models.load(model), ClosedModel)


def image(build):
    x = inputs = layers.Input((8, 8, 3), name="image")
    return unlike(keras.Model(inputs, build(x)))


def many_kinds(x):
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_regularizer="l2")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("hard_silu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    y = layers.SeparableConv2D(8, 3, padding="same")(layers.ZeroPadding2D(0)(y))
    x = layers.Activation("hard_silu")(layers.Add()([x, y]))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Concatenate()([layers.Multiply()([x, gate]), x])
    return layers.Dense(4, activation="softmax")(layers.Dropout(0.2)(layers.Flatten()(x)))


def operators(x):
    y = layers.Conv2D(3, 1)(x)
    return layers.Flatten()((x + y) * 0.5 + 1.0)


def nested(x):
    inner = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="backbone"
    )
    again = keras.Sequential([layers.Input((6, 6, 4)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="neck")
    return layers.Dense(2)(layers.Flatten()(again(inner(x))))


def shared(x):
    again = layers.Conv2D(3, 3, padding="same")
    return layers.GlobalMaxPooling2D()(again(again(x)))


@pytest.mark.parametrize("build", [many_kinds, operators, nested, shared])
def test_the_rebuilt_model_computes_the_same_and_can_be_converted(build):
    model = image(build)
    made = models.load(model)
    assert isinstance(made, tf_keras.Model)
    assert not any(isinstance(layer, tf_keras.Model) for layer in made.layers)
    assert made.count_params() == model.count_params()
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype(np.float32)
    wanted = np.asarray(model(x, training=False))
    np.testing.assert_allclose(made.predict_on_batch(x), wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
    packed, _ = models.unpack(models.pack(made))
    np.testing.assert_allclose(packed.predict_on_batch(x), wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
    assert convert.float32(made)


def test_several_inputs_keep_their_order():
    a, b = layers.Input((4,), name="b"), layers.Input((3,), name="a")
    model = unlike(keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([layers.Dense(3)(a), b]))))
    made = models.load(model)
    assert [tuple(i.shape) for i in made.inputs] == [(None, 4), (None, 3)]
    rng = np.random.default_rng(0)
    x = [rng.random((5, n), dtype=np.float32) for n in (4, 3)]
    np.testing.assert_allclose(made.predict_on_batch(x), model(x), atol=1e-5)


class Own(layers.Layer):
    def call(self, inputs):
        return inputs * 2


def test_a_layer_that_keras_2_does_not_have_is_named():
    with pytest.raises(ConfigError, match=r"task: model: the layer mine is a Own, which Keras 2 does not have"):
        models.load(image(lambda x: Own(name="mine")(x)))


def test_an_operator_without_a_layer_is_named():
    with pytest.raises(ConfigError, match=r"the operator .* has no layer in Keras 2"):
        models.load(image(lambda x: keras.ops.sin(x)))


def test_a_subclassed_model_is_refused():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ConfigError, match=r"Mine is subclassed.*and TensorFlow can't convert it as it is"):
        models.load(Mine())


def test_code_in_a_file_is_not_run(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ConfigError, match=r"can't be read as a Keras 3 model: .*[Ll]ambda"):
        models.load(tmp_path / "model.keras")


def test_the_first_layer_that_differs_is_named(monkeypatch):
    copy = rebuilding._Calls.copy_weights

    def wrong(self):
        copy(self)
        made = next(made for layer, made in self.layers.values() if layer.name == "second")
        made.bias.assign(made.bias + 1)

    monkeypatch.setattr(rebuilding._Calls, "copy_weights", wrong)
    stack = [layers.Input((4,)), *(layers.Dense(3, name=name) for name in ("first", "second", "third"))]
    with pytest.raises(ConfigError, match=r"computes something else, from the layer second on"):
        models.load(unlike(keras.Sequential(stack)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        "MobileNetV3Small",
        "EfficientNetB0",
        "EfficientNetV2B0",
        "ResNet50V2",
        "DenseNet121",
        "ConvNeXtTiny",
    ],
)
def test_well_known_models_are_rebuilt(name):
    model = getattr(keras.applications, name)(weights=None, classes=10, input_shape=(64, 64, 3))
    # What a normalization was adapted to becomes part of its settings.
    settled = sum(layer.count_params() for layer in model.layers if isinstance(layer, layers.Normalization))
    assert models.load(model).count_params() == model.count_params() - settled


def test_a_layer_that_takes_text_says_what_to_do():
    """Targets take numbers alone, so a text model is cut off behind the layer that makes them."""
    made = keras.Sequential([keras.Input((1,), dtype="string"), layers.TextVectorization(vocabulary=["a", "b"])])
    with pytest.raises(
        ConfigError, match="can't be rebuilt in Keras 2: a model that takes text is cut off behind its Text"
    ):
        models.load(made)
