"""Every scheme makes a file that runs, agrees with Keras and is what it says."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from autoopt import convert, inspect, models
from autoopt.errors import CandidateFailed
from autoopt.measure import outputs_of
from autoopt.recipe import SCHEMES

layers = tf_keras.layers
IMAGES = tiny.split(128, 2).inputs
CALIBRATION = IMAGES  # the same items, so that none lies outside the calibrated ranges
TOLERANCE = {
    "float32": 1e-5,
    "float16": 1e-3,
    "int16x8": 0.01,
    "dynamic": 0.03,
    "int8": 0.05,
    "int8_io": 0.05,
    "qat_int8": 0.05,
    "qat_int8_io": 0.05,
}
"""How far a scheme's outputs may be from Keras's: the error's root mean square over the outputs'."""


def brightness():
    """A regression: its output is no probability, its range is its own."""
    tf_keras.utils.set_random_seed(0)
    return tiny.network(
        layers.Conv2D(4, 3, strides=2, activation="relu", name="conv"), layers.Flatten(), layers.Dense(1, name="sum")
    )


@functools.cache
def regression(scheme):
    """File, Keras outputs and reports of the regression, made once a test session."""
    model, reports = trained_regression(SCHEMES[scheme].qat)
    outputs = model.predict(IMAGES[tiny.INPUT], verbose=0)
    return converted(model, scheme), outputs, reports


@functools.cache
def trained_regression(qat):
    if not qat:
        return brightness(), []
    data = tiny.split(64, 1), tiny.split(32, 2)
    for part in data:
        object.__setattr__(part, "labels", part.inputs[tiny.INPUT].sum(axis=(1, 2, 3)))
    return tiny.train(brightness(), tiny.settings(scheme="qat_int8"), told=tiny.manifest(loss="mse"), data=data)


def converted(model, scheme):
    if scheme == "int16x8":
        return convert.int16x8(model, CALIBRATION)
    if SCHEMES[scheme].qat:
        return convert.trained(model, scheme)
    file = convert.float32(model)
    return file if scheme == "float32" else convert.quantize(file, scheme, CALIBRATION)


def classifier(scheme):
    """The same of the cnn."""
    return tiny.file(tiny.recipe(scheme)), *trained_classifier(SCHEMES[scheme].qat)


@functools.cache
def trained_classifier(qat):
    model, reports = models.unpack(tiny.packed(tiny.recipe("qat_int8" if qat else "float32")))
    return model.predict(IMAGES[tiny.INPUT], verbose=0), reports


def error(outputs, expected):
    return float(np.sqrt(np.square(outputs - expected).mean() / np.square(expected).mean()))


@pytest.mark.parametrize("kind", [classifier, regression], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_runs_agrees_and_proves(scheme, kind):
    file, expected, reports = kind(scheme)
    outputs = outputs_of(file, IMAGES, threads=1)
    assert outputs.shape == expected.shape
    assert error(outputs, expected) < TOLERANCE[scheme]
    inspect.prove(inspect.read(file), tiny.recipe(scheme), reports)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_the_inputs_and_outputs_that_it_promises(scheme):
    interpreter = Interpreter(model_content=tiny.file(tiny.recipe(scheme)))
    interpreter.allocate_tensors()
    promised = np.int8 if SCHEMES[scheme].integer_io else np.float32
    for end in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert end["dtype"] is promised
    assert list(interpreter.get_signature_runner().get_input_details()) == [tiny.INPUT]


def test_fewer_bits_are_smaller_and_less_exact():
    files = {scheme: classifier(scheme) for scheme in ("float32", "float16", "int16x8", "int8")}
    errors = [error(outputs_of(file, IMAGES, 1), expected) for file, expected, _ in files.values()]
    assert errors == sorted(errors)
    assert len(files["int8"][0]) < len(files["float16"][0]) < len(files["float32"][0])


@pytest.mark.parametrize("scheme", ["float32", *convert.BY_QUANTIZER])
def test_the_same_model_gives_the_same_bytes(scheme):
    if scheme == "float32":
        again = convert.float32(models.unpack(tiny.packed(tiny.recipe()))[0])
    else:
        again = convert.quantize(tiny.file(tiny.recipe()), scheme, CALIBRATION)
    assert again == tiny.file(tiny.recipe(scheme))


def two_inputs(*names):
    wide, narrow = (layers.Input((6,), name=name) for name in names)
    both = [layers.Dense(8, activation="relu")(x) for x in (wide, narrow)]
    return tf_keras.Model([wide, narrow], layers.Dense(3)(layers.Concatenate()(both)))


@pytest.mark.parametrize("names", [("wide", "narrow"), ("z-wide", "a.narrow")], ids=["plain", "renamed by TensorFlow"])
def test_each_input_is_calibrated_with_its_own_data(names):
    """Were they swapped, the wide one would be cut off at a hundredth of its range."""
    tf_keras.utils.set_random_seed(0)
    model, rng = two_inputs(*names), np.random.default_rng(0)
    data = {n: rng.normal(0, s, (128, 6)).astype(np.float32) for n, s in zip(names, (100, 1), strict=True)}
    expected = model.predict(list(data.values()), verbose=0)
    file = convert.float32(model)
    assert error(outputs_of(file, data, 1), expected) < TOLERANCE["float32"]
    assert error(outputs_of(convert.quantize(file, "int8", data), data, 1), expected) < TOLERANCE["int8"]


def test_ranges_come_from_the_whole_calibration_set():
    """One item in a hundred is bright; averaged over batches its range would be lost."""
    bright = IMAGES[tiny.INPUT].copy()
    bright[-1] *= 20
    tf_keras.utils.set_random_seed(0)
    model = brightness()
    file = convert.quantize(convert.float32(model), "int8", {tiny.INPUT: bright})
    expected = model.predict(bright[-1:], verbose=0)
    assert error(outputs_of(file, {tiny.INPUT: bright[-1:]}, 1), expected) < TOLERANCE["int8"]


@pytest.mark.parametrize("scheme", convert.BY_QUANTIZER)
def test_large_weights_lie_inside_the_flatbuffer(scheme, monkeypatch):
    """TensorFlow Lite Micro looks nowhere else; litert-quantizer lays 256 KiB and more after it."""
    tf_keras.utils.set_random_seed(0)
    file = convert.float32(tiny.network(layers.Flatten(), layers.Dense(1000), layers.Dense(300), layers.Dense(4)))
    inside = convert.quantize(file, scheme, CALIBRATION)
    monkeypatch.setattr(convert, "inline", lambda file: file)
    outside = convert.quantize(file, scheme, CALIBRATION)
    assert max(len(outside), len(inside)) < 1.01 * min(len(outside), len(inside))
    assert max(buffer.offset for buffer in buffers(outside)) > 1
    assert {(buffer.offset, buffer.size) for buffer in buffers(inside)} == {(0, 0)}
    assert max(len(buffer.data) for buffer in buffers(inside) if buffer.data is not None) >= 300_000
    assert (outputs_of(inside, IMAGES, 1) == outputs_of(outside, IMAGES, 1)).all()


def test_a_file_that_is_whole_is_left_alone():
    file = tiny.file(tiny.recipe("int8"))
    assert convert.inline(file) is file


def buffers(file):
    return schema.ModelT.InitFromPackedBuf(file, 0).buffers


# --- what can't be converted


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "convert_it",
    [convert.float32, lambda m: convert.int16x8(m, CALIBRATION), lambda m: convert.trained(m, "qat_int8")],
    ids=["float32", "int16x8", "trained"],
)
def test_weights_that_are_no_numbers_are_refused(convert_it, bad):
    model = brightness()
    *others, last = model.get_weights()
    model.set_weights([*others, last + bad])
    with pytest.raises(CandidateFailed) as caught:
        convert_it(model)
    assert str(caught.value) == "convert: the model holds NaN or infinite weights"


def test_what_tensorflow_refuses_fails_the_candidate():
    inputs = layers.Input((3, 3))
    model = tf_keras.Model(inputs, tf.linalg.det(inputs))
    with pytest.raises(CandidateFailed) as caught:
        convert.float32(model)
    assert caught.value.stage == "convert"
    assert caught.value.reason.startswith("TensorFlow can't convert to float32: ")
    assert "MatrixDeterminant" in caught.value.reason


@pytest.mark.parametrize("scheme", ["int8", "int8_io"])
def test_an_empty_calibration_set_fails_the_candidate(scheme):
    with pytest.raises(CandidateFailed, match=f"litert-quantizer can't make {scheme}: ") as caught:
        convert.quantize(tiny.file(tiny.recipe()), scheme, {tiny.INPUT: IMAGES[tiny.INPUT][:0]})
    assert caught.value.stage == "quantize"


def test_bytes_that_are_no_model_fail_the_candidate():
    with pytest.raises(CandidateFailed, match="litert-quantizer can't make dynamic: "):
        convert.quantize(b"no model at all", "dynamic", CALIBRATION)


def test_inputs_whose_names_tensorflow_loses_are_named_as_the_reason():
    tf_keras.utils.set_random_seed(0)
    file = convert.float32(tiny.network(layers.Flatten(), layers.Dense(2), name="the image"))
    with pytest.raises(CandidateFailed, match="no signature; rename the model's inputs"):
        convert.quantize(file, "int8", {"the image": IMAGES[tiny.INPUT]})
