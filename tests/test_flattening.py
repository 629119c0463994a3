"""Keras 2 models made of models, and those with a fixed batch."""

import numpy as np
import pytest
import tf_keras

from autoopt import models
from autoopt.errors import ConfigError

layers = tf_keras.layers


def backbone(name="backbone"):
    return tf_keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")], name=name
    )


def two_of_a_kind(x):
    a, b = backbone("left"), backbone("right")
    return layers.Flatten()(layers.Add()([a(x), b(x)]))


def one_called_twice(x):
    inner = backbone()
    return layers.Flatten()(layers.Concatenate()([inner(x), inner(layers.ReLU()(x))]))


def one_in_another(x):
    inside = tf_keras.Sequential([layers.Input((6, 6, 4)), layers.Conv2D(2, 3), layers.GlobalMaxPooling2D()])
    image = layers.Input((8, 8, 1))
    return tf_keras.Model(image, inside(backbone()(image) * 2.0))(x)


def several_ends(x):
    image, other = layers.Input((8, 8, 1)), layers.Input((3,))
    flat = layers.Flatten()(image)
    inner = tf_keras.Model([image, other], [layers.Dense(3)(flat), layers.Dense(3)(other)])
    a, b = inner([x, layers.Dense(3)(layers.Flatten()(x))])
    return layers.Concatenate()([a, b])


@pytest.mark.parametrize("build", [two_of_a_kind, one_called_twice, one_in_another, several_ends])
def test_models_inside_are_replaced_by_their_layers(build):
    x = layers.Input((8, 8, 1), name="image")
    model = tf_keras.Model(x, build(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    made = models.load(model)
    assert not any(isinstance(layer, tf_keras.Model) for layer in made.layers)
    assert made.count_params() == model.count_params()
    assert made.input_names == ["image"]
    images = rng.normal(size=(5, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(images), model.predict_on_batch(images), rtol=1e-5, atol=1e-5)
    again, _ = models.unpack(models.pack(made))
    np.testing.assert_allclose(again.predict_on_batch(images), model.predict_on_batch(images), rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_is_opened():
    x = layers.Input((6, 3), batch_size=1)
    model = tf_keras.Model(x, layers.Dense(2)(layers.LSTM(4)(x)))
    made = models.load(model)
    assert made.inputs[0].shape[0] is None
    series = np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(series), model.predict_on_batch(series), atol=1e-6)


def test_a_layer_that_remembers_keeps_its_batch():
    x = layers.Input((6, 3), batch_size=1)
    model = tf_keras.Model(x, layers.LSTM(4, stateful=True)(x))
    assert models.load(model) is model


def test_the_first_layer_that_differs_is_named(monkeypatch):
    x = layers.Input((8, 8, 1))
    model = tf_keras.Model(x, layers.Dense(2, name="last")(layers.Flatten()(backbone()(x))))
    given = layers.Conv2D.set_weights

    def wrong(self, weights):
        given(self, [weights[0], weights[1] + 1])

    monkeypatch.setattr(layers.Conv2D, "set_weights", wrong)
    with pytest.raises(ConfigError, match="it computes something else"):
        models.load(model)
