"""A trimmed file is smaller, and computes the same to the last bit in every runtime."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.schemes import SCHEMES
from autoopt.models import flatbuffer
from autoopt.targets import find
from autoopt.tflite import contents, conversion, trimming
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
ITEMS = tiny.split(64, 3).inputs
KERNELS = (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN)
"""LiteRT's plain ones, and those of its delegate."""


def untrimmed(make):
    """What `make` makes of a model, as the converters leave it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trimming, "trim", lambda file, **how: file)
        patch.setattr(tiny, "file", tiny.file.__wrapped__)
        return make()


@functools.cache
def converted(scheme, how=None):
    """The cnn's `.tflite`, as the converters leave it."""
    return untrimmed(lambda: tiny.file(tiny.recipe(scheme, quantize=how)))


def recurrent():
    """An LSTM: tensors that the runtime writes to, and a loop's graphs of their own."""
    tf_keras.utils.set_random_seed(0)
    return tiny.network(layers.LSTM(4), layers.Dense(3), shape=(5, 2))


def embedding():
    """A table whose input is integers."""
    words = layers.Input((6,), dtype="int32", name=tiny.INPUT)
    return tf_keras.Model(words, layers.Dense(4)(layers.Flatten()(layers.Embedding(30, 8)(words))))


def two_ends():
    """Two inputs and two outputs, with names that a caller feeds and reads them by."""
    left, right = layers.Input((4,), name="left"), layers.Input((6,), name="right")
    both = layers.Concatenate()([left, right])
    return tf_keras.Model(
        [left, right], {"big": layers.Dense(3, name="big")(both), "small": layers.Dense(1, name="small")(both)}
    )


def computed(file, runtime):
    """What LiteRT computes with a file, in two runs without a reset between."""
    interpreter, rng = Interpreter(model_content=file, experimental_op_resolver_type=runtime), np.random.default_rng(0)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        integers = np.dtype(detail["dtype"]).kind == "i"
        values = rng.integers(0, 30, detail["shape"]) if integers else rng.normal(0, 2, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    interpreter.invoke()
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def expect_same(before, after):
    """The same ends, entry points, weights, operators and outputs."""
    old, new = contents.read(before), contents.read(after)
    for field in ("inputs", "outputs", "signatures", "ops", "activations", "float_islands", "finite", "kept"):
        assert getattr(new, field) == getattr(old, field)
    for was, now in zip(old.weights, new.weights, strict=True):
        assert (now.shape, now.dtype, now.ops, now.scales) == (was.shape, was.dtype, was.ops, was.scales)
        np.testing.assert_array_equal(now.values, was.values)
    assert len({weight.name for weight in new.weights}) == len(new.weights)
    for runtime in KERNELS:
        for a, b in zip(computed(before, runtime), computed(after, runtime), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_computes_the_same_and_takes_fewer_bytes(scheme):
    before = converted(scheme)
    after = trimming.trim(before)
    expect_same(before, after)
    np.testing.assert_array_equal(outputs_of(after, ITEMS, 1), outputs_of(before, ITEMS, 1))
    assert len(after) < len(before) - 500
    assert len(after) % trimming.ALIGNMENT == 0


@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_so_does_every_way_to_quantize(how):
    before = converted("int8", how)
    expect_same(before, trimming.trim(before))


@pytest.mark.parametrize("make", [recurrent, embedding, two_ends])
@pytest.mark.parametrize("names", [False, True])
def test_graphs_with_state_tables_and_several_ends_stay_whole(make, names):
    before = untrimmed(lambda: conversion.float32(make()))
    expect_same(before, trimming.trim(before, names=names))


@pytest.mark.parametrize("names", [False, True])
def test_loops_and_branches_are_graphs_that_stay_whole(names):
    weights = tf.constant(np.random.default_rng(0).normal(size=(4, 4)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    def run(x):
        body = lambda i, y: (i + 1, tf.nn.relu(y @ weights) + x)  # noqa: E731
        steps, y = tf.while_loop(lambda i, y: tf.logical_and(i < 5, tf.reduce_sum(y) < 1e3), body, [tf.constant(0), x])
        return {"steps": steps, "y": tf.cond(tf.reduce_sum(y) > 1, lambda: y * 2, lambda: y - 1)}

    before = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()]).convert()
    assert len(flatbuffer.parse(before, "test").subgraphs) > 3
    expect_same(before, trimming.trim(before, names=names))


def test_each_of_several_entry_points_computes_the_same(tmp_path):
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
        def add(self, x):
            return {"y": x @ tf.ones((4, 3))}

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
        def less(self, x):
            return {"y": x @ tf.ones((4, 3)) - 1}

    two = Two()
    tf.saved_model.save(two, str(tmp_path), signatures={"add": two.add, "less": two.less})
    before = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    after = trimming.trim(before)
    for name, expected in (("add", 4), ("less", 3)):
        [found] = Interpreter(model_content=after).get_signature_runner(name)(x=np.ones((1, 4), np.float32)).values()
        np.testing.assert_array_equal(found, np.full((1, 3), expected))


@pytest.mark.parametrize("scheme", ["float32", "int8_io", "int16x8"])
def test_microcontrollers_compute_the_same(scheme):
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="pip install 'autoopt[micro]'")
    before = converted(scheme)

    def seen(file):
        interpreter = runtime.Interpreter.from_bytes(file, arena_size=100_000)
        details = interpreter.get_input_details(0)
        item = np.random.default_rng(0).integers(-100, 100, details["shape"]).astype(details["dtype"])
        interpreter.set_input(item, 0)
        interpreter.invoke()
        return interpreter.get_output(0)

    np.testing.assert_array_equal(seen(trimming.trim(before)), seen(before))


def test_an_npu_takes_as_much_memory_and_time():
    pytest.importorskip("ethosu.vela", reason="pip install 'autoopt[vela]'")
    before = converted("int8_io")
    target = find("vela:ethos-u55-128")
    assert target.memory(trimming.trim(before)) == target.memory(before)


def test_weights_are_still_told_by_their_layers():
    names = [weight.name for weight in contents.read(tiny.file(tiny.recipe("int8"))).weights]
    for layer in ("conv", "depthwise", "pointwise", "hidden", "scores"):
        assert any(layer in name for name in names)
    assert not any(";" in name for name in names)


def test_constants_begin_where_the_format_wants_them():
    file = trimming.trim(tiny.file(tiny.recipe("int8")))
    model = flatbuffer.parse(file, "test")
    whole = np.frombuffer(file, np.uint8)
    for buffer in model.buffers:
        if buffer.data is not None:
            begins = np.shares_memory(whole, buffer.data) and buffer.data.ctypes.data - whole.ctypes.data
            assert begins % trimming.ALIGNMENT == 0


def test_what_a_runtime_reads_of_metadata_stays_and_the_converters_notes_go():
    def names(file):
        return [one.name for one in flatbuffer.parse(file, "test").metadata or ()]

    file = tiny.file(tiny.recipe())
    model = flatbuffer.parse(file, "test")
    assert names(file) == [b"min_runtime_version"]
    model.metadata[0].name = b"labels of the user's own"
    assert names(trimming.trim(flatbuffer.pack(model))) == [b"labels of the user's own"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_trimming_again_changes_nothing(scheme):
    file = tiny.file(tiny.recipe(scheme))
    assert trimming.trim(file, names=scheme == "float32") == file


@given(names=st.lists(st.sampled_from(["", "a", "a;b", "a;c", "b", "1", "a_1", "x;"]), min_size=1, max_size=9))
def test_weights_keep_names_of_their_own(names):
    model = flatbuffer.parse(tiny.file(tiny.recipe()), "test")
    for tensor, name in zip(model.subgraphs[0].tensors[1:], names, strict=False):
        tensor.name = name
    before = flatbuffer.pack(model)
    for own in (False, True):
        after = flatbuffer.parse(trimming.trim(before, names=own), "test")
        weights = [w.name for w in contents.read(trimming.trim(before, names=own)).weights]
        assert "" not in weights
        assert len(set(weights)) == len(weights)
        if own:
            told = [tensor.name for tensor in after.subgraphs[0].tensors]
            assert len(set(told)) == len(told)


def test_a_file_with_constants_behind_it_is_left_as_it_is():
    model = flatbuffer.parse(tiny.file(tiny.recipe()), "test")
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data, largest.data = bytes(largest.data), None
    largest.offset, largest.size = 16, len(data)
    behind = len(flatbuffer.pack(model))
    largest.offset = behind
    file = flatbuffer.pack(model) + data
    assert trimming.trim(file) == file
