"""Keras 3 models as tf_keras ones."""

import builders  # noqa: F401  (settings of hypothesis)
import keras
import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from autoopt.errors import ConfigError
from autoopt.models import keras3, loading
from autoopt.models.opaque import ClosedModel
from autoopt.tflite import conversion, interpreter

# Keras 3 copies its own variables in a way that numpy 2 will give up.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
layers = keras.layers


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
    model = tiny.unlike(WRAPPED[name]())
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (4, 6)) if name == "words" else rng.normal(size=(4, 6, 4)).astype(np.float32)
    wanted = np.asarray(model(x, training=False))
    np.testing.assert_allclose(loading.load(model).predict_on_batch(x), wanted, atol=1e-5, rtol=1e-4)


def test_outputs_by_name_are_rebuilt():
    x = layers.Input((4,))
    model = tiny.unlike(keras.Model(x, {"zz": layers.Dense(2)(x), "aa": layers.Dense(3)(x)}))
    made = loading.load(model)
    assert [tuple(output.shape) for output in made.outputs] == [(None, 3), (None, 2)]
    assert made.output_names == ["aa", "zz"]


def test_inputs_by_name_are_rebuilt():
    a, b = layers.Input((4,), name="z"), layers.Input((3,), name="y")
    model = tiny.unlike(keras.Model({"z": a, "y": b}, layers.Concatenate()([layers.Dense(2)(a), layers.Dense(3)(b)])))
    x = {"z": np.ones((5, 4), np.float32), "y": np.full((5, 3), 2, np.float32)}
    found = loading.load(model).predict_on_batch(x)
    np.testing.assert_allclose(found, model(x), atol=1e-5)


def test_a_model_may_be_called_by_the_name_of_its_argument():
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3)])
    x = layers.Input((4,))
    model = tiny.unlike(keras.Model(x, layers.Dense(2)(inner(inputs=x))))
    np.testing.assert_allclose(loading.load(model).predict_on_batch(np.ones((2, 4))), model(np.ones((2, 4))), atol=1e-5)


@pytest.mark.parametrize("scaled", [lambda x: x / 255.0, lambda x: x - 3.0, lambda x: 1.0 - x, lambda x: 2.0 * x + 1.0])
def test_images_may_be_scaled_by_numbers(scaled):
    x = layers.Input((4,))
    model = keras.Model(x, scaled(x))
    given = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(loading.load(model).predict_on_batch(given), scaled(given), rtol=1e-6)


def test_half_precision_was_for_the_training_alone():
    x = layers.Input((6, 6, 1))
    y = layers.Conv2D(8, 3, activation="relu", dtype="mixed_float16")(x)
    y = layers.BatchNormalization(dtype="mixed_float16")(y)
    y = layers.Bidirectional(layers.LSTM(3, dtype="mixed_float16"), dtype="mixed_float16")(layers.Reshape((16, 8))(y))
    made = loading.load(tiny.unlike(keras.Model(x, layers.Dense(2, dtype="float32")(y))))
    assert {str(tensor.dtype.name) for layer in made.layers for tensor in [layer.output]} == {"float32"}
    assert conversion.float32(made)


def test_open_sizes_are_told_before_anything_is_rebuilt():
    x = layers.Input((None, None, 3), name="photo")
    with pytest.raises(ConfigError, match=r"expected fixed input shapes .* got photo \(None, None, None, 3\)"):
        loading.load(keras.Model(x, layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3)(x))))


def test_a_subclassed_model_inside_closes_it():
    class Inside(keras.Model):
        def call(self, inputs):
            return inputs * 2

    x = layers.Input((4,))
    model = keras.Model(x, layers.Dense(2)(Inside()(x)))
    assert isinstance(loading.load(model), ClosedModel)


def image(build):
    x = inputs = layers.Input((8, 8, 3), name="image")
    return tiny.unlike(keras.Model(inputs, build(x)))


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
    made = loading.load(model)
    assert isinstance(made, tf_keras.Model)
    assert not any(isinstance(layer, tf_keras.Model) for layer in made.layers)
    assert made.count_params() == model.count_params()
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype(np.float32)
    wanted = np.asarray(model(x, training=False))
    np.testing.assert_allclose(made.predict_on_batch(x), wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
    packed, _ = loading.unpack(loading.pack(made))
    np.testing.assert_allclose(packed.predict_on_batch(x), wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
    assert conversion.float32(made)


def test_several_inputs_keep_their_order():
    a, b = layers.Input((4,), name="b"), layers.Input((3,), name="a")
    model = tiny.unlike(keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([layers.Dense(3)(a), b]))))
    made = loading.load(model)
    assert [tuple(i.shape) for i in made.inputs] == [(None, 4), (None, 3)]
    rng = np.random.default_rng(0)
    x = [rng.random((5, n), dtype=np.float32) for n in (4, 3)]
    np.testing.assert_allclose(made.predict_on_batch(x), model(x), atol=1e-5)


def answers(made, x, training, times=3):
    return [np.asarray(made(x, training=training)) for _ in range(times)]


def photos(n=5, seed=1):
    return np.random.default_rng(seed).random((n, 8, 8, 3), dtype=np.float32)


AUGMENTATION = {
    "flip": lambda: layers.RandomFlip(),
    "rotation": lambda: layers.RandomRotation(0.2),
    "zoom": lambda: layers.RandomZoom(0.3),
    "translation": lambda: layers.RandomTranslation(0.3, 0.3),
    "brightness": lambda: layers.RandomBrightness(0.3, value_range=(0, 1)),
    "contrast": lambda: layers.RandomContrast(0.5, value_range=(0, 1)),
    "crop": lambda: layers.RandomCrop(6, 6),
    "series": lambda: keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2)]),
    "pipeline": lambda: layers.Pipeline([layers.RandomFlip(), layers.RandomContrast(0.5)]),
    "asked for": lambda: lambda x: layers.RandomFlip()(x, training=True),
    "unknown to keras 2": lambda: layers.RandomColorJitter(value_range=(0, 1), brightness_factor=0.5),
    "unknown to keras 2, too": lambda: layers.RandomErasing(value_range=(0, 1)),
}


@pytest.mark.parametrize("name", list(AUGMENTATION))
def test_augmentation_is_for_training_alone(name):
    model = image(lambda x: layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(AUGMENTATION[name]()(x))))
    made, _ = loading.unpack(loading.pack(loading.load(model)))
    x = photos()
    wanted = model.predict(x, verbose=0)
    for found in (
        *answers(made, x, False),
        interpreter.outputs_of(conversion.float32(made), {made.input_names[0]: x}, 1),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    first, second = answers(made, x, True, 2)
    assert np.abs(first - second).max() > 1e-4


def test_augmentation_that_can_not_be_run_is_left_out_by_its_name(monkeypatch):
    given = layers.RandomHue.call

    def failing(self, data, training=True):
        if training and not isinstance(data, keras.KerasTensor):
            raise NotImplementedError("no such operator")
        return given(self, data, training=training)

    monkeypatch.setattr(layers.RandomHue, "call", failing)
    notes = []
    model = image(lambda x: layers.Conv2D(3, 3)(layers.RandomHue(0.5, name="hue")(x)))
    made = loading.load(model, notes=notes)
    [note] = notes
    assert note.startswith(
        "the augmentation hue (RandomHue) is left out of fine-tuning, because it can't be run: no such"
    )
    np.testing.assert_allclose(made(photos()), model(photos(), training=False), atol=1e-5)


DROPPED = {
    "dropout": lambda: series(lambda x: layers.LSTM(3)(layers.Dropout(0.5)(x))),
    "spatial": lambda: series(lambda x: layers.LSTM(3)(layers.SpatialDropout1D(0.5)(x))),
    "noise": lambda: series(layers.GaussianNoise(0.5)),
    "alpha": lambda: series(layers.AlphaDropout(0.5)),
    "recurrent": lambda: series(layers.LSTM(3, recurrent_dropout=0.5)),
    "convolutional": lambda: series(
        lambda x: layers.Flatten()(layers.ConvLSTM1D(3, 2, dropout=0.5)(layers.Reshape((2, 3, 4))(x)))
    ),
    "in a layer": lambda: series(layers.Bidirectional(layers.GRU(3, dropout=0.5))),
    "attention": lambda: series(lambda x: layers.MultiHeadAttention(2, 3, dropout=0.5)(x, x)),
    "nested": lambda: series(keras.Sequential([layers.Dropout(0.5), layers.LSTM(3)])),
}


@pytest.mark.parametrize("name", list(DROPPED))
@pytest.mark.parametrize("saved", [False, True])
def test_dropout_is_on_in_training(name, saved, tmp_path):
    model = tiny.unlike(DROPPED[name]())
    if saved:
        model.save(tmp_path / "model.keras")
    made = loading.load(tmp_path / "model.keras" if saved else model)
    x = np.random.default_rng(0).normal(size=(4, 6, 4)).astype(np.float32)
    wanted = model.predict(x, verbose=0)
    for found in answers(made, x, False):
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-4)
    fresh, _ = loading.unpack(loading.pack(made))  # Keras 2 keeps the masks of a convolutional LSTM's first call
    [found] = answers(fresh, x, True, 1)
    assert np.abs(found - wanted).max() > 1e-3


def test_a_mode_that_was_asked_for_stays():
    """`backbone(x, training=False)` is how pretrained models are built upon."""
    backbone = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.RandomFlip(), layers.Conv2D(4, 3), layers.BatchNormalization(name="norm"),
         layers.Dropout(0.5)]
    )  # fmt: skip
    made = loading.load(image(lambda x: layers.Flatten()(backbone(x, training=False))))
    before = made.get_layer("norm").moving_mean.numpy()
    first, second = answers(made, photos(), True, 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(made.get_layer("norm").moving_mean.numpy(), before)


def test_dropout_that_is_always_on_stays_so():
    x = layers.Input((40,))
    model = tiny.unlike(keras.Model(x, layers.Dense(3)(layers.Dropout(0.5, name="drop")(x, training=True))))
    notes = []
    made = loading.load(model, notes=notes)
    first, second = answers(made, np.ones((4, 40), np.float32), False, 2)
    assert np.abs(first - second).max() > 1e-3
    assert notes == ["drop: called with training=True, so the file draws at random too (Keras 3's predict does not)"]


class Own(layers.Layer):
    def call(self, inputs):
        return inputs * 2


def closed(model, **more):
    found = loading.load(model, **more)
    assert isinstance(found, ClosedModel)
    return found


def test_a_layer_that_keras_2_does_not_have_closes_the_model():
    model = image(lambda x: layers.Dense(2)(layers.Flatten()(Own(name="mine")(layers.RandomFlip()(x)))))
    found = closed(model)
    assert found.why == (
        "the layer mine is a Own, which Keras 2 does not have (to have it trained too, replace it, or give a tf_keras layer "
        "that stands for it: custom_objects={'Own': ...})"
    )
    x = photos()
    for _ in range(2):  # without augmentation
        outputs = interpreter.outputs_of(found.file, {found.input_names[0]: x}, 1)
        np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-4)


class Scaled(layers.Layer):
    def __init__(self, by=1.0, **others):
        super().__init__(**others)
        self.by = by

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        self.shift = self.add_weight(shape=shape[-1:], name="shift")

    def call(self, inputs):
        return inputs * self.scale * self.by + self.shift

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class OldScaled(tf_keras.layers.Layer):
    def __init__(self, by=1.0, **others):
        super().__init__(**others)
        self.by = by

    def build(self, shape):
        self.scale = self.add_weight("scale", shape=shape[-1:])
        self.shift = self.add_weight("shift", shape=shape[-1:])

    def call(self, inputs):
        return inputs * self.scale * self.by + self.shift

    def get_config(self):
        return {**super().get_config(), "by": self.by}


def test_a_saved_layer_of_its_own_is_read_by_either_class(tmp_path):
    model = image(lambda x: layers.Dense(2)(layers.Flatten()(Scaled(by=3.0, name="mine")(x))))
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        ConfigError, match=r"holds a Scaled of your own; give the task the tf_keras layer that stands for it"
    ):
        loading.load(tmp_path / "model.keras")
    closed(tmp_path / "model.keras", custom_objects={"Scaled": Scaled})
    read = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Scaled": Scaled})
    for source in (tmp_path / "model.keras", read):
        made = loading.load(source, custom_objects={"Scaled": OldScaled})
        np.testing.assert_allclose(made(photos()), model(photos()), atol=1e-3, rtol=1e-4)
        np.testing.assert_allclose(made.get_layer("mine").scale, model.get_layer("mine").scale)
        tf_keras.utils.get_custom_objects().pop("Scaled")
    tf_keras.utils.get_custom_objects().pop("OldScaled")


OPERATORS = {
    "sine": keras.ops.sin,
    "constant": lambda x: x + keras.ops.convert_to_tensor([1.0, 2.0, 3.0]),
    "array": lambda x: x * np.arange(3, dtype=np.float32),
    "any": lambda x: keras.ops.cast(keras.ops.any(x > 0.5, axis=-1), "float32"),
    "or": lambda x: keras.ops.cast(keras.ops.logical_or(x > 0.5, x < 0.2), "float32"),
    "ones": lambda x: keras.ops.ones_like(x) + x,
    "slice": lambda x: x[:, 1:3, ..., 0],
    "mean": lambda x: keras.ops.mean(x, axis=(1, 2)),
    "split": lambda x: keras.ops.concatenate(keras.ops.split(x, 2, axis=1)[::-1], axis=-1),
    "power": lambda x: x**2 / (1 + x),
    "relu": lambda x: keras.ops.relu(x - 0.5),
    "other shapes": lambda x: x + keras.ops.mean(x, axis=(1, 2))[:, None, None, :1],
}


@pytest.mark.parametrize("name", list(OPERATORS))
def test_operators_are_rebuilt(name):
    model = image(lambda x: OPERATORS[name](layers.Conv2D(3, 3)(x)))
    made, _ = loading.unpack(loading.pack(loading.load(model)))
    wanted = model.predict(photos(), verbose=0)
    np.testing.assert_allclose(made(photos()), wanted, atol=1e-5)
    file = conversion.float32(made)
    np.testing.assert_allclose(interpreter.outputs_of(file, {made.input_names[0]: photos()}, 1), wanted, atol=1e-4)


def test_a_subclassed_model_is_refused():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ConfigError, match=r"Mine is subclassed.*and TensorFlow can't convert it as it is"):
        loading.load(Mine())


def test_code_in_a_file_is_not_run(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        ConfigError, match=r"it brings code with it: the layer lambda\S* is a Lambda; if you trust the file"
    ):
        loading.load(tmp_path / "model.keras")


def test_the_first_layer_that_differs_is_named(monkeypatch):
    copy = keras3._Calls.copy_weights

    def wrong(self):
        copy(self)
        made = next(made for layer, made in self.layers.values() if layer.name == "second")
        made.bias.assign(made.bias + 1)

    monkeypatch.setattr(keras3._Calls, "copy_weights", wrong)
    stack = [layers.Input((4,)), *(layers.Dense(3, name=name) for name in ("first", "second", "third"))]
    assert "computes something else, from the layer second on" in closed(tiny.unlike(keras.Sequential(stack))).why


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
    assert loading.load(model).count_params() == model.count_params() - settled


STEPWISE = (
    lambda x: layers.Dense(3)(x),
    lambda x: layers.LSTM(3, return_sequences=True, dropout=0.2)(x),
    lambda x: layers.Bidirectional(layers.GRU(2, return_sequences=True))(x),
    lambda x: layers.Conv1D(3, 3, padding="same", activation="relu")(x),
    lambda x: layers.SeparableConv1D(3, 3, padding="same")(x),
    lambda x: layers.Dropout(0.5)(x),
    lambda x: layers.SpatialDropout1D(0.5)(x),
    lambda x: layers.GaussianNoise(0.5)(x),
    lambda x: layers.BatchNormalization()(x),
    lambda x: layers.LayerNormalization()(x),
    lambda x: layers.Masking(0.25)(x),
    lambda x: layers.Activation("tanh")(x),
    lambda x: layers.LeakyReLU()(x),
    lambda x: layers.MultiHeadAttention(2, 2, dropout=0.1)(x, x),
    lambda x: keras.Sequential([layers.Dense(3), layers.Dropout(0.5)])(x),
    lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    lambda x: x * 2.0 - 0.5,
    lambda x: keras.ops.sigmoid(x),
)
JOINING = (
    lambda a, b: layers.Concatenate()([a, b]),
    lambda a, b: layers.Add()([layers.Dense(3)(a), layers.Dense(3)(b)]),
    lambda a, b: layers.Dense(3)(a) * layers.Dense(3)(b),
)
LAST = (
    layers.GlobalAveragePooling1D,
    layers.GlobalMaxPooling1D,
    layers.Flatten,
    lambda: layers.LSTM(2),
)


@pytest.mark.filterwarnings("ignore:Layer '.*was passed an input with a mask attached to it:UserWarning")
@settings(max_examples=8, phases=[Phase.generate])
@given(
    beginning=st.sampled_from(["numbers", "masked", "words"]),
    stack=st.lists(st.tuples(st.booleans(), st.sampled_from(STEPWISE), st.sampled_from(JOINING)), max_size=4),
    last=st.sampled_from(LAST),
    seed=st.integers(0, 99),
)
def test_models_of_many_layers_are_rebuilt(beginning, stack, last, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    if beginning == "words":
        x = rng.integers(0, 3, (4, 6))
        inputs = layers.Input((6,), dtype="int32")
        tensors = [layers.Embedding(3, 4, mask_zero=True)(inputs)]
    else:
        x[1, 3:], x[2, 2:] = 0.25, 0.25
        inputs = layers.Input((6, 3))
        tensors = [layers.Masking(0.25)(inputs) if beginning == "masked" else inputs]
    for join, layer, joining in stack:
        tensors.append(layer(tensors[-1]))
        if join:
            tensors.append(joining(tensors[-1], tensors[-2]))
    model = tiny.unlike(keras.Model(inputs, last()(tensors[-1])), seed)
    made = loading.load(model)
    wanted = model.predict(x, verbose=0)
    if isinstance(made, ClosedModel):
        assert beginning != "numbers" or any(layer is STEPWISE[10] for _, layer, _ in stack), made.why
        return
    for found in answers(loading.unpack(loading.pack(made))[0], x, False, 2):
        np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))
