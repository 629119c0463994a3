"""Models without a graph of Keras layers."""

import keras
import numpy as np
import pytest
import signed
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter

from autoopt.compression import stages
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.models import loading
from autoopt.models.opaque import ClosedModel, close_keras3
from autoopt.tflite import conversion, interpreter

X = np.random.default_rng(0).random((5, 4), dtype=np.float32)


class Own(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = tf_keras.layers.Dense(3, activation="softmax")

    def call(self, inputs):
        return self.dense(inputs) * 0.5


class Keras3(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


class Plain(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(X[:4, :3])

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def __call__(self, x):
        return {"scores": x @ self.kernel}


def subclassed(folder):
    model = Own()
    return model, np.asarray(model(X))


def nested(folder):
    x = tf_keras.Input((4,))
    model = tf_keras.Model(x, tf_keras.layers.ReLU()(Own()(x)))
    return model, np.asarray(model(X))


def keras_3(folder):
    model = Keras3()
    return model, np.asarray(model(X))


def saved_subclassed(folder):
    model = Own()
    expected = np.asarray(model(X))
    model.save(folder / "own", save_format="tf")
    return folder / "own", expected


def saved_module(folder):
    model = Plain()
    tf.saved_model.save(model, str(folder / "plain"), signatures=model.__call__)
    return str(folder / "plain"), np.asarray(model(X)["scores"])


def tflite(folder):
    model = tiny.network(tf_keras.layers.Dense(3), shape=(4,))
    (folder / "model.tflite").write_bytes(conversion.float32(model))
    return folder / "model.tflite", model.predict_on_batch(X)


MAKERS = [subclassed, nested, keras_3, saved_subclassed, saved_module, tflite]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("make", MAKERS)
def test_what_has_no_layers_is_converted_and_can_be_quantized(make, tmp_path):
    given, expected = make(tmp_path)
    model = loading.load(given)
    assert isinstance(model, ClosedModel)
    assert len(model.outputs) == 1
    assert [(end.shape, end.dtype) for end in model.inputs] == [((None, 4), "float32")]
    assert model.outputs[0].shape == (None, 3)
    again, reports = loading.unpack(loading.pack(model))
    assert (again, reports) == (model, [])
    inputs = {model.input_names[0]: X}
    np.testing.assert_allclose(interpreter.outputs_of(conversion.float32(again), inputs, 1), expected, atol=1e-5)
    small = conversion.quantize(again.file, "int8", inputs)
    np.testing.assert_allclose(interpreter.outputs_of(small, inputs, 1), expected, atol=0.05)


def test_code_in_a_saved_model_is_not_run(tmp_path):
    """Keras brings it along with the graph, and would run it where the model is saved and read again."""
    x = tf_keras.Input((4,))
    model = tf_keras.Model(x, tf_keras.layers.Lambda(lambda value: value * 2)(x))
    model.save(tmp_path / "model", save_format="tf")
    found = loading.load(tmp_path / "model")
    assert isinstance(found, ClosedModel)
    assert "is a Lambda, which is not one of Keras's" in found.why
    np.testing.assert_allclose(interpreter.outputs_of(found.file, {found.input_names[0]: X}, 1), X * 2, rtol=1e-6)


def test_it_can_not_be_trained_and_says_why(tmp_path):
    model = loading.load(subclassed(tmp_path)[0])
    with pytest.raises(CandidateFailed, match="prune: Own is subclassed"):
        stages.one_shot("prune", model, {"sparsity": 0.5, "seed": 0})
    with pytest.raises(CandidateFailed, match="needs the model itself"):
        conversion.int16x8(model, {"x": X})


def test_a_quantized_file_is_refused(tmp_path):
    path, _ = tflite(tmp_path)
    path.write_bytes(conversion.quantize(path.read_bytes(), "int8", {tiny.INPUT: X}))
    with pytest.raises(ConfigError, match=r"model.tflite is quantized already; expected the float32 file"):
        loading.load(path)
    path.write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"model.tflite is no .tflite that LiteRT can read"):
        loading.load(path)


def converted(model, **changes):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in changes.items():
        setattr(converter, name, value)
    return converter.convert()


def test_a_file_that_takes_integers_and_computes_in_float_is_taken(tmp_path):
    x = tf_keras.Input((4,), dtype="uint8")
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(tf_keras.Model(x, tf_keras.layers.Dense(2)(tf.cast(x, tf.float32) / 255.0))))
    assert loading.load(path).inputs[0].dtype == "uint8"
    path.write_bytes(
        converted(tiny.network(tf_keras.layers.Dense(40), shape=(40,)), optimizations=[tf.lite.Optimize.DEFAULT])
    )
    with pytest.raises(ConfigError, match="is quantized already"):
        loading.load(path)


def test_a_tflite_whose_constants_are_cut_off_is_refused(tmp_path):
    """They may lie behind the flatbuffer, where LiteRT does not look for the end."""
    file = signed.behind(signed.signed(serve=("first", "second", "scores", "doubled")))
    path = tmp_path / "model.tflite"
    path.write_bytes(file)
    assert loading.load(path).output_names == ["doubled", "scores"]
    path.write_bytes(file[:-1])
    with pytest.raises(ConfigError, match=r"model: .*: the \.tflite is damaged: \w+ while reading it; convert it anew"):
        loading.load(path)


def test_several_outputs_need_a_signature_that_names_them(tmp_path):
    x = tf_keras.Input((4,), name="no name for TensorFlow")  # so the file has no signature
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(tf_keras.Model(x, [tf_keras.layers.Dense(2)(x), tf_keras.layers.Dense(3)(x)])))
    with pytest.raises(ConfigError, match="has several outputs, and 0 signatures to name them by; convert it anew"):
        loading.load(path)


def test_open_sizes_are_told(tmp_path):
    class Open(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "photo")])
        def __call__(self, photo):
            return tf.reduce_mean(photo, axis=(1, 2))

    module = Open()
    tf.saved_model.save(module, tmp_path / "model", signatures=module.__call__)
    with pytest.raises(ConfigError, match=r"expected fixed input shapes .* got photo \(None, None, None, 3\)"):
        loading.load(tmp_path / "model")


def test_the_fingerprint_follows_the_weights(tmp_path):
    one, other = loading.load(subclassed(tmp_path)[0]), loading.load(subclassed(tmp_path)[0])
    assert loading.fingerprint(one) == loading.fingerprint(one) != loading.fingerprint(other)


class Two(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(X[:4, :3])

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def classify(self, x):
        return {"scores": tf.nn.softmax(x @ self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def embed(self, x):
        return {"row": x @ self.kernel}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "words")])
    def count(self, words):
        return {"length": tf.strings.length(words)}


def several(folder, *names, serving=""):
    module = Two()
    signatures = {name: getattr(module, name) for name in names}
    if serving:
        signatures["serving_default"] = getattr(module, serving)
    tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
    return folder / "model", module


@pytest.mark.parametrize("serving", ["classify", "embed"])
def test_of_several_signatures_the_serving_one_is_taken(serving, tmp_path):
    path, module = several(tmp_path, "classify", "embed", serving=serving)
    model = loading.load(path)
    [expected] = getattr(module, serving)(X).values()
    np.testing.assert_allclose(interpreter.outputs_of(model.file, {"x": X}, 1), expected, atol=1e-5)
    assert model.why == "it is a SavedModel without Keras layers"


@pytest.mark.parametrize("asked", ["classify", "embed"])
def test_of_several_signatures_the_one_that_is_asked_for_is_taken(asked, tmp_path):
    path, module = several(tmp_path, "classify", "embed")
    model = loading.load(path, signature=asked)
    [expected] = getattr(module, asked)(X).values()
    np.testing.assert_allclose(interpreter.outputs_of(model.file, {"x": X}, 1), expected, atol=1e-5)


def test_several_signatures_are_named_where_none_is_meant(tmp_path):
    path, _ = several(tmp_path, "classify", "embed")
    with pytest.raises(
        ConfigError, match=r"has 2 signatures \(classify, embed\) and none is serving_default; .*--signature \w+\)$"
    ):
        loading.load(path)
    with pytest.raises(ConfigError, match=r"signature: .* has no signature 'other'; it has classify, embed"):
        loading.load(path, signature="other")
    with pytest.raises(ConfigError, match="signature: 'x' is for the folder of a SavedModel"):
        loading.load(tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(2)), signature="x")


def test_a_signature_that_takes_text_is_refused(tmp_path):
    path, _ = several(tmp_path, "count", serving="count")
    with pytest.raises(ConfigError, match=r"the input words takes text, .* token ids"):
        loading.load(path)


def test_a_saved_model_without_a_signature_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"has no signature: save it with tf.saved_model.save"):
        loading.load(tmp_path / "model")


class Trained(tf_keras.Model):
    """What it computes differs while it trains; two inputs by name, two outputs."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = tf_keras.layers.BatchNormalization(), tf_keras.layers.Dropout(0.5)
        self.dense = tf_keras.layers.Dense(3)

    def call(self, inputs, training=None):
        wide = self.drop(self.norm(inputs["wide"], training=training), training=training)
        return {"scores": self.dense(wide), "sum": tf.reduce_sum(inputs["narrow"], axis=1, keepdims=True)}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_several_inputs_and_outputs_are_those_of_the_call_without_training(saved, tmp_path):
    given, inputs = Trained(), {"wide": X, "narrow": X[:, :2]}
    given(inputs, training=True)
    expected = {name: np.asarray(value) for name, value in given(inputs, training=False).items()}
    if saved:
        given.save(tmp_path / "own", save_format="tf")
        given = tmp_path / "own"
    model = loading.load(given)
    assert set(model.input_names) == set(inputs)
    assert set(model.output_names) == set(expected)
    found = interpreter.outputs_of(model.file, inputs, 1, ["scores", "sum"])
    np.testing.assert_allclose(found, np.concatenate([expected["scores"], expected["sum"]], axis=1), atol=1e-5)


def test_a_tflite_of_open_size_must_be_made_anew(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(tiny.network(tf_keras.layers.Conv2D(2, 3), shape=(None, None, 1))))
    with pytest.raises(
        ConfigError, match=r"its input .* \(None, None, None, 1\) open; convert it anew with a fixed one"
    ):
        loading.load(path, input_size=(8, 8))


def test_a_tflite_of_several_signatures_is_refused_by_name(tmp_path):
    path, _ = several(tmp_path, "classify", "embed")
    both = tf.lite.TFLiteConverter.from_saved_model(str(path)).convert()
    (tmp_path / "model.tflite").write_bytes(both)
    with pytest.raises(ConfigError, match=r"has 2 signatures \(classify, embed\); convert one of them to a file"):
        loading.load(tmp_path / "model.tflite")


class Steps(keras.Model):
    def __init__(self, recurrent):
        super().__init__()
        self.masked = keras.layers.Masking(0.25)
        self.recurrent = recurrent

    def call(self, inputs):
        return self.recurrent(self.masked(inputs))


def series_of_any_length(recurrent):
    x = keras.layers.Input((None, 3))
    return keras.Model(x, recurrent(keras.layers.Masking(0.25)(x)))


@pytest.mark.parametrize(("make", "size"), [(Steps, ()), (series_of_any_length, (6,))])
@pytest.mark.parametrize("recurrent", [keras.layers.LSTM, lambda n: keras.layers.Bidirectional(keras.layers.GRU(n))])
def test_recurrent_layers_of_keras_3_are_taken_step_by_step(make, size, recurrent):
    model = make(recurrent(2))
    series = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    series[1, 3:] = 0.25
    model(series)
    runner = Interpreter(model_content=close_keras3(model, "", "task", size).file).get_signature_runner()
    [given] = runner.get_input_details()
    found = [next(iter(runner(**{given: one[None]}).values()))[0] for one in series]
    np.testing.assert_allclose(found, model.predict(series, verbose=0), atol=1e-5)
    assert not any(layer.unroll for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN))
