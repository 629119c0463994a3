"""Inputs of open size are closed at one that is asked for, and what is no number is refused."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from autoopt.errors import ConfigError
from autoopt.models import input_shapes, loading
from autoopt.models.opaque import ClosedModel
from autoopt.tflite import conversion
from autoopt.tflite.interpreter import outputs_of

RNG = np.random.default_rng(0)
PHOTOS = RNG.random((3, 6, 9, 3), dtype=np.float32)
STEPS = RNG.random((3, 7, 4), dtype=np.float32)
WORDS = RNG.integers(0, 20, (3, 7)).astype(np.int32)


def photo(library):
    k = library.layers
    return library.Sequential([k.Input((None, None, 3)), k.Conv2D(4, 3), k.GlobalAveragePooling2D(), k.Dense(2)])


def nested(library):
    k = library.layers
    x = k.Input((None, None, 3))
    return library.Model(x, k.Dense(2)(photo(library)(x)))


def series(library):
    k = library.layers
    return library.Sequential([k.Input((None, 4)), k.Conv1D(4, 3, padding="same"), k.LSTM(3)])


def words(library):
    k = library.layers
    x = k.Input((None,), dtype="int32")
    return library.Model(x, k.GlobalAveragePooling1D()(k.Embedding(20, 4)(x)))


CASES = {"photo": (photo, PHOTOS), "nested": (nested, PHOTOS), "series": (series, STEPS), "words": (words, WORDS)}


SAVED = {tf_keras: ("model.keras", "model.h5", "model"), keras: ("model.keras", "model.h5")}


@pytest.mark.parametrize(
    ("library", "case", "saved"),
    [
        *((library, case, "") for library in SAVED for case in CASES),
        *((library, "photo", name) for library, names in SAVED.items() for name in names),
        *((library, "words", "model.keras") for library in SAVED),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_model_of_open_size_is_taken_in_at_one(library, case, saved, tmp_path):
    make, x = CASES[case]
    given = make(library)
    expected = np.asarray(given(x))
    if saved:
        given.save(tmp_path / saved)
        given = tmp_path / saved
    model = loading.load(given, input_size=x.shape[1:3] if case in ("photo", "nested") else x.shape[1:2])
    assert tuple(model.inputs[0].shape) == (None, *x.shape[1:])
    np.testing.assert_allclose(model.predict_on_batch(x), expected, atol=1e-5)
    if not saved:
        file = conversion.float32(model)
        np.testing.assert_allclose(outputs_of(file, {model.input_names[0]: x}, 1), expected, atol=1e-5)


@pytest.mark.parametrize("library", [tf_keras, keras], ids=["Keras 2", "Keras 3"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (photo, r"(None, None, None, 3); say for which size to make it, such as input_size=(224, 224) (init: --input-size 224x224)"),
        (words, r"(None, None); say for which size to make it, such as input_size=(128,) (init: --input-size 128)"),
    ],
)  # fmt: skip
def test_the_refusal_names_the_option(make, said, library):
    with pytest.raises(ConfigError, match=r"expected fixed input shapes .*" + re.escape(said)):
        loading.load(make(library))


def test_as_many_sizes_as_axes_are_open():
    with pytest.raises(
        ConfigError, match=r"input_size: 1 sizes were given, but the input \(None, None, None, 3\) leaves 2"
    ):
        loading.load(photo(tf_keras), input_size=(32,))
    for wrong in ("32x32", (0, 32), (32.0, 32), 0, True):
        with pytest.raises(ConfigError, match=r"task: input_size: expected sizes such as \(224, 224\), got "):
            loading.load(photo(tf_keras), input_size=wrong)
    fixed = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(2)])
    assert loading.load(fixed, input_size=(32,)) is fixed  # there is nothing to close


class Mean(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = tf_keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(tf.reduce_mean(inputs, axis=(1, 2)))


class Open(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "photo")])
    def __call__(self, photo):
        return {"mean": tf.reduce_mean(photo, axis=(1, 2))}


@pytest.mark.parametrize("kind", ["subclassed", "saved"])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_model_without_layers_is_made_for_a_size_too(kind, tmp_path):
    if kind == "subclassed":
        given = Mean()
        given.build((None, None, None, 3))
        expected = np.asarray(given(PHOTOS))
    else:
        module = Open()
        tf.saved_model.save(module, tmp_path / "model", signatures=module.__call__)
        given, expected = tmp_path / "model", np.asarray(module(PHOTOS)["mean"])
    model = loading.load(given, input_size=(6, 9))
    assert isinstance(model, ClosedModel)
    assert model.inputs[0].shape == (None, 6, 9, 3)
    np.testing.assert_allclose(outputs_of(model.file, {model.input_names[0]: PHOTOS}, 1), expected, atol=1e-5)


@pytest.mark.parametrize(("text", "found"), [("", ()), ("128", (128,)), ("224x160", (224, 160)), (" 4X5x6", (4, 5, 6))])
def test_sizes_are_read(text, found):
    assert input_shapes.parse(text) == found


@pytest.mark.parametrize("text", ["0", "a", "224x", "x", "224*224", "-3", "2.5x3", "224x0"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(ConfigError, match="input size: expected HxW such as 224x224, or one length such as 128, got "):
        input_shapes.parse(text)


@pytest.mark.parametrize("library", [tf_keras, keras], ids=["Keras 2", "Keras 3"])
def test_text_is_refused_with_the_layer_to_cut_off(library):
    k = library.layers
    x = k.Input((1,), dtype="string", name="review")
    ids = k.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=4, name="to_ids")(x)
    model = library.Model(x, k.GlobalAveragePooling1D()(k.Embedding(10, 4)(ids)))
    with pytest.raises(ConfigError, match=r"the input review takes text, .*: cut off the layer to_ids, .* token ids"):
        loading.load(model)


def test_what_is_no_number_is_refused():
    x = tf_keras.Input((4,), dtype="complex64", name="wave")
    with pytest.raises(ConfigError, match="the input wave is complex64; expected real numbers"):
        loading.load(tf_keras.Model(x, tf_keras.layers.Dense(2)(tf.math.real(x))))
