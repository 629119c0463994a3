"""Keras 2 models made of models, and those with a fixed batch."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression import quantization_aware
from autoopt.errors import ConfigError
from autoopt.models import loading
from autoopt.models.task import Split
from autoopt.tflite import conversion, interpreter

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
    made = loading.load(model)
    assert not any(isinstance(layer, tf_keras.Model) for layer in made.layers)
    assert made.count_params() == model.count_params()
    assert made.input_names == ["image"]
    images = rng.normal(size=(5, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(images), model.predict_on_batch(images), rtol=1e-5, atol=1e-5)
    again, _ = loading.unpack(loading.pack(made))
    np.testing.assert_allclose(again.predict_on_batch(images), model.predict_on_batch(images), rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_is_opened():
    x = layers.Input((6, 3), batch_size=1)
    model = tf_keras.Model(x, layers.Dense(2)(layers.LSTM(4)(x)))
    made = loading.load(model)
    assert made.inputs[0].shape[0] is None
    series = np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(series), model.predict_on_batch(series), atol=1e-6)


def test_a_layer_that_remembers_is_refused():
    x = layers.Input((6, 3), batch_size=1)
    with pytest.raises(ConfigError, match=r"the layer lstm.* is stateful"):
        loading.load(tf_keras.Model(x, layers.LSTM(4, stateful=True)(x)))


def test_two_outputs_are_two_tensors():
    x = layers.Input((3,))
    y = layers.Dense(2)(x)
    with pytest.raises(ConfigError, match="two of its outputs are the same tensor"):
        loading.load(tf_keras.Model(x, [y, y]))


def test_what_is_frozen_inside_stays_so():
    """`base(x, training=False)` is how pretrained models are built upon: their statistics must not move."""
    x = layers.Input((8, 8, 1))
    model = tf_keras.Model(x, layers.Flatten()(backbone()(x, training=False)))
    made = loading.load(model)
    norm = made.get_layer("norm")
    before = norm.moving_mean.numpy()
    made(np.ones((4, 8, 8, 1), np.float32), training=True)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), before)


def test_half_precision_was_for_the_training_alone():
    x = layers.Input((6, 4))
    y = layers.Bidirectional(layers.LSTM(3, dtype="mixed_float16"), dtype="mixed_float16")(x)
    model = tf_keras.Model(x, layers.Dense(2, dtype="float32")(layers.Dense(4, dtype="mixed_float16")(y)))
    made = loading.load(model)
    assert {layer.output.dtype.name for layer in made.layers} == {"float32"}
    for wanted, found in zip(model.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(wanted, found)
    assert conversion.float32(made)


@pytest.mark.parametrize("inside", [False, True])
def test_what_is_looked_up_is_an_integer(inside):
    """Keras 2 makes it a float where there is no Input layer; 8 bits can't tell 500 words apart."""
    stack = tf_keras.Sequential(
        [layers.Embedding(500, 8, input_length=6), layers.Flatten(), layers.Dense(4)], name="stack"
    )
    x = layers.Input((6,), name="words")
    model = tf_keras.Model(x, stack(x)) if inside else stack
    made = loading.load(model)
    assert [tensor.dtype.name for tensor in made.inputs] == ["int32"]
    words = np.random.default_rng(0).integers(0, 500, (64, 6))
    expected = model.predict_on_batch(words.astype(np.float32))
    np.testing.assert_allclose(made.predict_on_batch(words.astype(np.float32)), expected, atol=1e-6)
    inputs = {made.input_names[0]: words}
    training = tiny.training(data=[Split(inputs=inputs, labels=np.zeros(64, int))] * 2)
    trained = quantization_aware.wrap(made, {"preserve_sparsity": False, "preserve_clusters": False}, training).model
    for file in (
        conversion.trained(trained, "qat_int8"),
        conversion.quantize(conversion.float32(made), "int8_io", inputs),
    ):
        found = interpreter.outputs_of(file, inputs, 1)
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("nested", [False, True])
def test_words_as_floats_that_mask_a_step_stay_a_model_of_layers(nested):
    """Row 0 masks a step: what is compared has to be words, for of 0.3 the old model masks nothing."""
    stack = tf_keras.Sequential(
        [layers.Embedding(20, 8, input_length=6, mask_zero=True), layers.GlobalAveragePooling1D(), layers.Dense(4)]
    )
    x = layers.Input((6,), name="words")
    model = tf_keras.Model(x, stack(x)) if nested else stack
    made = loading.load(model)
    assert [tensor.dtype.name for tensor in made.inputs] == ["int32"]
    words = np.random.default_rng(0).integers(0, 20, (64, 6)) * (np.arange(6) < 3)
    np.testing.assert_allclose(
        made.predict_on_batch(words), model.predict_on_batch(words.astype(np.float32)), atol=1e-6
    )


def test_an_input_that_is_computed_with_stays_as_it_is():
    x = layers.Input((6,))
    model = tf_keras.Model(x, layers.Concatenate()([layers.Flatten()(layers.Embedding(5, 2)(x)), x]))
    assert [tensor.dtype.name for tensor in loading.load(model).inputs] == ["float32"]


class Trained(tf_keras.Model):
    """A graph of layers with a training of its own."""

    def train_step(self, data):
        raise NotImplementedError


def test_a_training_of_its_own_closes_no_model():
    x = layers.Input((3,))
    model = Trained(x, layers.Dense(2)(x))
    made = loading.load(model)
    assert type(made).__name__ == "Functional"
    again, _ = loading.unpack(loading.pack(made))
    given = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(again.predict_on_batch(given), model.predict_on_batch(given), atol=1e-6)


def test_outputs_by_name_keep_their_names():
    x = layers.Input((3,))
    model = tf_keras.Model(x, {"zz": layers.Dense(2, name="a")(x), "aa": layers.Dense(1, name="b")(x)})
    made = loading.load(model)
    assert made.output_names == ["aa", "zz"]
    inputs = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    again, _ = loading.unpack(loading.pack(made))
    assert again.output_names == ["aa", "zz"]
    for name, found in zip(again.output_names, again.predict_on_batch(inputs), strict=True):
        np.testing.assert_allclose(found, model.predict_on_batch(inputs)[name], atol=1e-6)
    file = conversion.float32(again)
    found = interpreter.outputs_of(file, {again.input_names[0]: inputs}, 1, ["zz", "aa"])
    np.testing.assert_allclose(found[:, :2], model.predict_on_batch(inputs)["zz"], atol=1e-6)


class Block(layers.Layer):
    """A layer that calls a list of its own `layers`, as models do."""

    def __init__(self, **others):
        super().__init__(**others)
        self.layers = []

    def call(self, inputs):
        return inputs


def test_a_layer_is_no_model():
    x = layers.Input((8, 8, 1))
    model = tf_keras.Model(x, layers.Flatten()(Block()(backbone()(x))))
    with pytest.raises(ConfigError, match=r"is a Block of your own; give the task its class: custom_objects="):
        loading.load(model)
    assert "Block" in [type(layer).__name__ for layer in loading.load(model, custom_objects={"Block": Block}).layers]
    tf_keras.utils.get_custom_objects().pop("Block")


def test_the_first_layer_that_differs_is_named(monkeypatch):
    x = layers.Input((8, 8, 1))
    model = tf_keras.Model(x, layers.Dense(2, name="last")(layers.Flatten()(backbone()(x))))
    given = layers.Conv2D.set_weights

    def wrong(self, weights):
        given(self, [weights[0], weights[1] + 1])

    monkeypatch.setattr(layers.Conv2D, "set_weights", wrong)
    assert "it computes something else" in loading.load(model).why


def test_losses_on_what_layers_give_out_are_left_out_with_a_note():
    x = layers.Input((8, 8, 1), name=tiny.INPUT)
    y = layers.Conv2D(4, 3, activity_regularizer="l2", name="conv")(x)
    y = layers.BatchNormalization()(layers.PReLU(shared_axes=[1, 2])(y))
    model = tf_keras.Model(x, layers.Dense(4, activation="softmax")(layers.Flatten()(y)))
    notes = []
    made = loading.load(model, notes=notes)
    assert notes[0].startswith("activity_regularizer of conv: left out of fine-tuning")
    images, _ = tiny.images(4, 1)
    np.testing.assert_allclose(made.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)
    tiny.train(made, tiny.settings(scheme="qat_int8"))
