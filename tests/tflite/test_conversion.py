"""Every scheme makes a file that runs, agrees with Keras and is what it says."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import qtyping, quantizer
from litert_quantizer import recipe as quantizer_recipes

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_RANGES, SCHEMES
from autoopt.core.stage_settings import Quantize, plain
from autoopt.errors import CandidateFailed
from autoopt.execution.jobs import JOBS
from autoopt.models import loading
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof, trimming
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import sqnr_db

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
    "uint8_io": 0.05,
    "qat_int8": 0.05,
    "qat_int8_io": 0.05,
    "qat_uint8_io": 0.05,
}
"""How far a scheme's outputs may be from Keras's: the error's root mean square over the outputs'."""
REWRITTEN = ("uint8_io",)
"""Schemes made of another's file, whose weights lie inside the flatbuffer by then; see `test_unsigned_ends`."""


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
        return conversion.int16x8(model, CALIBRATION)
    if SCHEMES[scheme].qat:
        return conversion.trained(model, scheme)
    file = conversion.float32(model)
    return file if scheme == "float32" else conversion.quantize(file, scheme, CALIBRATION)


def classifier(scheme):
    """The same of the cnn."""
    return tiny.file(tiny.recipe(scheme)), *trained_classifier(SCHEMES[scheme].qat)


@functools.cache
def trained_classifier(qat):
    model, reports = loading.unpack(tiny.packed(tiny.recipe("qat_int8" if qat else "float32")))
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
    proof.prove(inspect.read(file), tiny.recipe(scheme), reports)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_the_inputs_and_outputs_that_it_promises(scheme):
    interpreter = Interpreter(model_content=tiny.file(tiny.recipe(scheme)))
    interpreter.allocate_tensors()
    promised = {"int8": np.int8, "uint8": np.uint8, "float32": np.float32}[SCHEMES[scheme].io]
    for end in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert end["dtype"] is promised
    assert list(interpreter.get_signature_runner().get_input_details()) == [tiny.INPUT]


def test_fewer_bits_are_smaller_and_less_exact():
    files = {scheme: classifier(scheme) for scheme in ("float32", "float16", "int16x8", "int8")}
    errors = [error(outputs_of(file, IMAGES, 1), expected) for file, expected, _ in files.values()]
    assert errors == sorted(errors)
    assert len(files["int8"][0]) < len(files["float16"][0]) < len(files["float32"][0])


@pytest.mark.parametrize("scheme", ["float32", *conversion.BY_QUANTIZER])
def test_the_same_model_gives_the_same_bytes(scheme):
    if scheme == "float32":
        again = conversion.float32(loading.unpack(tiny.packed(tiny.recipe()))[0])
    else:
        again = conversion.quantize(tiny.file(tiny.recipe()), scheme, CALIBRATION)
    assert again == tiny.file(tiny.recipe(scheme))


# --- how integers are made


@functools.cache
def uneven():
    """Its float32 file and outputs."""
    file = conversion.float32(tiny.uneven())
    return file, outputs_of(file, IMAGES, 1)


def made(how, scheme="int8"):
    return conversion.quantize(uneven()[0], scheme, CALIBRATION, how=how)


def noise_db(how):
    return sqnr_db(uneven()[1], outputs_of(made(how), IMAGES, 1))


@pytest.mark.parametrize("scheme", [name for name in BY_RANGES if name not in REWRITTEN])
def test_the_usual_way_is_litert_quantizers_own(scheme, tmp_path):
    source = tmp_path / "float32.tflite"
    source.write_bytes(tiny.file(tiny.recipe()))
    q = quantizer.Quantizer(str(source))
    q.load_quantization_recipe(quantizer_recipes.static_wi8_ai8())
    if scheme == "int8":
        for end in ("INPUT", "OUTPUT"):
            q.update_quantization_recipe(".*", qtyping.TFLOperationName[end], algorithm_key="no_quantize")
    found = q.calibrate({"serving_default": [CALIBRATION]}, num_threads=1)
    expected = trimming.trim(bytes(q.quantize(found, enable_progress_bar=False).quantized_model))
    assert tiny.file(tiny.recipe(scheme)) == expected
    assert conversion.quantize(source.read_bytes(), scheme, CALIBRATION, how=Quantize()) == expected


@pytest.mark.parametrize("scheme", BY_RANGES)
@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_integers_made_in_any_way_agree_with_float(how, scheme):
    """A classifier's probabilities, and the raw scores of a network whose channels differ widely."""
    few = how.int4
    outputs = outputs_of(tiny.file(tiny.recipe(scheme, quantize=how)), IMAGES, 1)
    assert error(outputs, classifier("float32")[1]) < (0.1 if few else 0.05)
    assert error(outputs_of(made(how, scheme), IMAGES, 1), uneven()[1]) < (0.12 if few else 0.06)


@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_each_way_makes_a_file_of_its_own_and_the_same_one_again(how):
    assert made(how) == made(how) != made(None)


def test_what_each_way_is_for():
    usual, tensor = noise_db(None), noise_db(Quantize(granularity="tensor"))
    assert noise_db(Quantize(keep=4)) > usual + 0.5
    assert noise_db(Quantize(equalize=True, granularity="tensor")) > tensor + 2
    assert noise_db(Quantize(correct_bias=True, granularity="tensor")) > tensor + 0.3
    assert noise_db(Quantize(correct_bias=True)) > usual
    coarse = noise_db(Quantize(int4_dense=True))
    assert noise_db(Quantize(int4_dense=True, correct_bias=True)) > coarse + 1
    sizes = [len(made(how)) for how in (Quantize(keep=1), None, Quantize(int4_dense=True))]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("axes", ["channel", "tensor"])
def test_one_scale_keeps_equal_weights_equal(axes):
    """Also in a depthwise kernel."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.uneven()
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            levels = np.quantile(kernel, [0.1, 0.4, 0.6, 0.9])
            layer.set_weights([levels[np.abs(kernel[..., None] - levels).argmin(axis=-1)], bias])
    file = conversion.quantize(conversion.float32(model), "int8", CALIBRATION, how=Quantize(granularity=axes))
    found = [w.distinct for w in inspect.read(file).weights]
    assert len(found) == 7
    assert (max(found) <= 4) == (axes == "tensor")


def test_a_kept_end_takes_what_hangs_on_it_along():
    """Between a last layer in float and outputs in float, an integer softmax would round to 1/256."""
    file = tiny.file(tiny.recipe("int8", quantize=Quantize(keep_ends=True)))
    assert inspect.read(file).float_islands == {"CONV_2D": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    outputs = outputs_of(file, IMAGES, 1)
    assert np.abs(outputs * 256 - np.round(outputs * 256)).max() > 0.4
    assert error(outputs, classifier("float32")[1]) < 0.002


@pytest.mark.parametrize(
    "how", [Quantize(keep=7), Quantize(keep=99), Quantize(keep=5, keep_ends=True)], ids=lambda how: how.label()
)
def test_a_scheme_that_leaves_nothing_to_quantize_fails(how):
    with pytest.raises(CandidateFailed, match="the model has 7 layers with weights: ") as caught:
        made(how)
    assert caught.value.stage == "quantize"


@pytest.mark.parametrize("how", [Quantize(int4_dense=True), Quantize(int4_dense=True, keep_ends=True)])
def test_4_bits_without_a_dense_layer_in_integers_fail(how):
    tf_keras.utils.set_random_seed(0)
    last = [layers.Flatten(), layers.Dense(2)] if how.keep_ends else []
    file = conversion.float32(tiny.network(layers.Conv2D(4, 3), layers.Conv2D(4, 3), *last))
    with pytest.raises(CandidateFailed, match="4 bits did not take: no fully connected layer is left in integers"):
        conversion.quantize(file, "int8", CALIBRATION, how=how)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_4_bits_of_an_odd_number_of_weights(granularity):
    tf_keras.utils.set_random_seed(0)
    dense = [layers.Dense(n, activation="relu") for n in (5, 3)]
    file = conversion.float32(tiny.network(layers.Flatten(), *dense, layers.Dense(7)))
    how = Quantize(int4_dense=True, granularity=granularity)
    small = conversion.quantize(file, "int8", CALIBRATION, how=how)
    assert {Graph(small).dtype(layer.weights) for layer in Graph(small).layers()} == {"INT4"}
    assert sqnr_db(outputs_of(file, IMAGES, 1), outputs_of(small, IMAGES, 1)) > 12


def test_the_job_makes_what_its_settings_say():
    settings = {"scheme": "int8_io", "task": "a key", **plain(Quantize(granularity="tensor", keep=1))}
    context = SimpleNamespace(
        split={"calibration": tiny.split(128, 2)}.get, settings=settings, parents=[uneven()[0]], threads=1
    )
    assert JOBS["quantize"].body(context) == made(Quantize(granularity="tensor", keep=1), "int8_io")
    context.settings = {"scheme": "int8_io", "task": "a key"}
    assert JOBS["quantize"].body(context) == made(None, "int8_io")


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
    file = conversion.float32(model)
    assert error(outputs_of(file, data, 1), expected) < TOLERANCE["float32"]
    assert error(outputs_of(conversion.quantize(file, "int8", data), data, 1), expected) < TOLERANCE["int8"]


def test_ranges_come_from_the_whole_calibration_set():
    """One item in a hundred is bright; averaged over batches its range would be lost."""
    bright = IMAGES[tiny.INPUT].copy()
    bright[-1] *= 20
    tf_keras.utils.set_random_seed(0)
    model = brightness()
    file = conversion.quantize(conversion.float32(model), "int8", {tiny.INPUT: bright})
    expected = model.predict(bright[-1:], verbose=0)
    assert error(outputs_of(file, {tiny.INPUT: bright[-1:]}, 1), expected) < TOLERANCE["int8"]


@pytest.mark.parametrize("scheme", [name for name in conversion.BY_QUANTIZER if name not in REWRITTEN])
def test_large_weights_lie_inside_the_flatbuffer(scheme, monkeypatch):
    """TensorFlow Lite Micro looks nowhere else; litert-quantizer lays 256 KiB and more after it."""
    tf_keras.utils.set_random_seed(0)
    file = conversion.float32(tiny.network(layers.Flatten(), layers.Dense(1000), layers.Dense(300), layers.Dense(4)))
    inside = conversion.quantize(file, scheme, CALIBRATION)
    monkeypatch.setattr(conversion, "inline", lambda file: file)
    outside = conversion.quantize(file, scheme, CALIBRATION)
    assert max(len(outside), len(inside)) < 1.01 * min(len(outside), len(inside))
    assert max(buffer.offset for buffer in buffers(outside)) > 1
    assert {(buffer.offset, buffer.size) for buffer in buffers(inside)} == {(0, 0)}
    assert max(len(buffer.data) for buffer in buffers(inside) if buffer.data is not None) >= 300_000
    assert (outputs_of(inside, IMAGES, 1) == outputs_of(outside, IMAGES, 1)).all()


def test_a_file_that_is_whole_is_left_alone():
    file = tiny.file(tiny.recipe("int8"))
    assert conversion.inline(file) is file


def buffers(file):
    return schema.ModelT.InitFromPackedBuf(file, 0).buffers


# --- what can't be converted


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "convert_it",
    [conversion.float32, lambda m: conversion.int16x8(m, CALIBRATION), lambda m: conversion.trained(m, "qat_int8")],
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
        conversion.float32(model)
    assert caught.value.stage == "convert"
    assert caught.value.reason.startswith("TensorFlow can't convert to float32: ")
    assert "MatrixDeterminant" in caught.value.reason


@pytest.mark.parametrize("scheme", ["int8", "int8_io"])
def test_an_empty_calibration_set_fails_the_candidate(scheme):
    with pytest.raises(CandidateFailed, match=f"litert-quantizer can't make {scheme}: ") as caught:
        conversion.quantize(tiny.file(tiny.recipe()), scheme, {tiny.INPUT: IMAGES[tiny.INPUT][:0]})
    assert caught.value.stage == "quantize"


def test_bytes_that_are_no_model_fail_the_candidate():
    with pytest.raises(CandidateFailed, match="litert-quantizer can't make dynamic: "):
        conversion.quantize(b"no model at all", "dynamic", CALIBRATION)


@pytest.mark.parametrize("name", ["the image", "_x", "a[0]", "in", "self"])
def test_an_input_whose_name_tensorflow_refuses_gets_another(name):
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(layers.Flatten(), layers.Dense(2), name=name)
    inputs = {name: IMAGES[tiny.INPUT]}
    expected = model.predict(IMAGES[tiny.INPUT], verbose=0)
    file = conversion.float32(model)
    for made in (file, conversion.quantize(file, "int8", inputs), conversion.int16x8(model, inputs)):
        assert outputs_of(made, inputs, 1) == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))


def test_several_inputs_with_such_names_must_be_renamed():
    for names in (("the image", "b"), ("a", "A"), ("class", "b")):
        ends = [layers.Input((8,), name=name) for name in names]
        with pytest.raises(
            CandidateFailed, match=rf"rename the model's inputs \({', '.join(names)}\): letters, digits"
        ):
            conversion.float32(tf_keras.Model(ends, layers.Concatenate()(ends)))


def test_a_file_without_a_signature_is_named_as_the_reason():
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(layers.Flatten(), layers.Dense(2), name="the image")
    file = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    with pytest.raises(CandidateFailed, match="no signature; convert it anew"):
        conversion.quantize(file, "int8", {"the image": IMAGES[tiny.INPUT]})


def test_the_file_is_the_one_that_keras_own_way_to_save_gives():
    """But for what no runtime reads, such as what it was converted from."""
    model, _ = loading.unpack(tiny.packed(tiny.recipe("qat_int8")))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    assert conversion.trained(model, "qat_int8") == trimming.trim(bytes(converter.convert()))


LOOPS = {
    "lstm": lambda: layers.LSTM(4),
    "gru": lambda: layers.GRU(4),
    "rnn": lambda: layers.SimpleRNN(4),
    "bidirectional": lambda: layers.Bidirectional(layers.LSTM(4)),
    "cells": lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]),
}


@pytest.mark.parametrize("name", list(LOOPS))
def test_recurrent_layers_are_unrolled_and_quantized(name):
    """As loops the converter refuses them, and litert-quantizer crashes on some."""
    model = tiny.network(LOOPS[name](), layers.Dense(3), shape=(6, 4))
    x = np.random.default_rng(0).normal(size=(32, 6, 4)).astype(np.float32)
    expected = model.predict_on_batch(x)
    file = conversion.float32(model)
    np.testing.assert_allclose(outputs_of(file, {tiny.INPUT: x}, 1), expected, atol=1e-5)
    small = conversion.quantize(file, "int8", {tiny.INPUT: x})
    np.testing.assert_allclose(outputs_of(small, {tiny.INPUT: x}, 1), expected, atol=0.1)


def test_a_recurrent_convolution_fails_the_candidate_at_most():
    model = tiny.network(layers.ConvLSTM2D(2, 3), layers.Flatten(), layers.Dense(2), shape=(3, 8, 8, 1))
    with pytest.raises(CandidateFailed, match="TensorFlow can't convert"):
        conversion.float32(model)


def test_indices_may_be_looked_up_in_integers():
    model = tiny.network(layers.Embedding(40, 6), layers.GlobalAveragePooling1D(), layers.Dense(3), shape=(5,))
    x = np.random.default_rng(0).integers(0, 40, (64, 5)).astype(np.int32)
    words = tf_keras.Sequential([layers.Input((5,), dtype="int32", name=tiny.INPUT), *model.layers[1:]])
    file = conversion.quantize(conversion.float32(words), "int8_io", {tiny.INPUT: x})
    contents = inspect.read(file)
    proof.prove(contents, Recipe(scheme="int8_io"), [])
    [table] = [w for w in contents.weights if "GATHER" in w.ops]
    assert table.dtype == "int8"


# --- for one item at a time


def restless(model, seed=1):
    """Weights and biases as training leaves them: none is zero."""
    rng = np.random.default_rng(seed)
    model.set_weights([weight + rng.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


SMALL = {
    "lstm": lambda: layers.LSTM(4),
    "gru": lambda: layers.GRU(4),
    "older gru": lambda: layers.GRU(4, reset_after=False),
    "unrolled already": lambda: layers.SimpleRNN(4, unroll=True),
}


@pytest.mark.parametrize("name", SMALL)
def test_for_one_item_no_shape_is_computed_and_integers_are_as_good(name):
    """Small runtimes compute none; and a file for one item is calibrated item by item, by the extremes of all."""
    model = restless(tiny.network(SMALL[name](), layers.Dense(3), shape=(6, 4)))
    x = np.random.default_rng(0).normal(size=(64, 6, 4)).astype(np.float32)
    expected, inputs = model.predict_on_batch(x), {tiny.INPUT: x}
    file = conversion.float32(model, 1)
    assert not {"SHAPE", "FILL", "PACK"} & set(inspect.read(file).ops)
    assert inspect.read(file).inputs[0]["shape"] == [1, 6, 4]
    np.testing.assert_allclose(outputs_of(file, inputs, 1), expected, atol=1e-5)
    assert error(outputs_of(conversion.quantize(file, "int8", inputs), inputs, 1), expected) < 0.05
    corrected = conversion.quantize(file, "int8", inputs, how=Quantize(correct_bias=True, ranges="mse"))
    assert error(outputs_of(corrected, inputs, 1), expected) < 0.1


def test_a_file_that_computes_no_shape_is_the_same_for_one_item():
    model, _ = loading.unpack(tiny.packed(tiny.recipe()))
    assert conversion.float32(model, 1) == tiny.file(tiny.recipe())


@pytest.mark.parametrize("name", ["lstm", "gru", "older gru"])
def test_recurrent_layers_with_biases_take_16_bits(name):
    """Scales of the first state, which is zero, were NaN; and all steps added a bias in the first step's scale."""
    words = layers.Input((8,), dtype="int32", name=tiny.INPUT)
    model = restless(tf_keras.Model(words, layers.Dense(3)(SMALL[name]()(layers.Embedding(20, 4)(words)))))
    inputs = {tiny.INPUT: np.random.default_rng(0).integers(0, 20, (64, 8)).astype(np.int32)}
    file = conversion.int16x8(model, inputs)
    assert inspect.read(file).finite
    assert error(outputs_of(file, inputs, 1), model.predict_on_batch(inputs[tiny.INPUT])) < TOLERANCE["int16x8"]


@pytest.mark.parametrize("kind", [layers.Conv2D, layers.Conv2DTranspose])
def test_a_layer_that_is_called_twice_adds_its_bias_each_time(kind):
    image = layers.Input((8, 8, 1), name=tiny.INPUT)
    twice, first = kind(2, 3, padding="same"), layers.Conv2D(2, 1)
    model = restless(tf_keras.Model(image, layers.Flatten()(twice(10 * twice(first(image))))))
    file = conversion.int16x8(model, IMAGES)
    assert error(outputs_of(file, IMAGES, 1), model.predict_on_batch(IMAGES[tiny.INPUT])) < 0.02


def test_an_output_that_nobody_reads_is_of_the_type_of_its_neighbours():
    image = layers.Input((8,), name=tiny.INPUT)
    _, half = tf.split(layers.Dense(8)(image), 2, axis=-1)
    model = tf_keras.Model(image, layers.Dense(2)(half))
    inputs = {tiny.INPUT: np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)}
    small = conversion.quantize(conversion.float32(model), "int8", inputs)
    assert error(outputs_of(small, inputs, 1), model.predict_on_batch(inputs[tiny.INPUT])) < TOLERANCE["int8"]
