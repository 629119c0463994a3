"""What a file computes when it is run, and what it weighs."""

import numpy as np
import pytest
import signed
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.tflite import conversion, interpreter

layers = tf_keras.layers
X, Y = tiny.images(70, 9)
# --- running a file


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int8_io"])
def test_batches_give_what_single_items_give(scheme):
    file = tiny.file(tiny.recipe(scheme))
    together = interpreter.outputs_of(file, {tiny.INPUT: X}, 1)
    alone = [interpreter.outputs_of(file, {tiny.INPUT: X[i : i + 1]}, 1) for i in range(len(X))]
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(("scheme", "error"), [("float32", 1e-5), ("float16", 0.01), ("int8", 0.1), ("int8_io", 0.1)])
def test_outputs_are_the_keras_models(scheme, error):
    model, _ = loading.unpack(tiny.packed(tiny.recipe()))
    outputs = interpreter.outputs_of(tiny.file(tiny.recipe(scheme)), {tiny.INPUT: X}, 2)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0), atol=error)


def test_a_graph_that_fixes_its_batch_runs_item_by_item():
    import tensorflow as tf

    fixed = layers.Lambda(lambda x: tf.reshape(x, (1, 64)))
    model = tiny.network(fixed, layers.Dense(4))
    file = conversion.float32(model)
    expected = np.concatenate([model(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(interpreter.outputs_of(file, {tiny.INPUT: X[:5]}, 1), expected, atol=1e-5)


def test_several_inputs_are_told_apart_by_name():
    first, second = tf_keras.Input((2,), name="b"), tf_keras.Input((2,), name="a")
    file = conversion.float32(tf_keras.Model([first, second], layers.Subtract()([first, second])))
    one, three = np.ones((40, 2)), np.full((40, 2), 3.0)
    for inputs in ({"b": three, "a": one}, {"a": one, "b": three}):
        np.testing.assert_array_equal(interpreter.outputs_of(file, inputs, 1), np.full((40, 2), 2.0))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_cut_short_fails_its_candidate(share):
    file = tiny.file(tiny.recipe())
    with pytest.raises(CandidateFailed, match=r"^accuracy: LiteRT can't run the file: "):
        interpreter.outputs_of(file[: int(len(file) * share)], {tiny.INPUT: X}, 1)


@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-50, 50, width=32)),
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.floats(0.01, 0.5),
    st.integers(-100, 100),
)
def test_quantized_values_come_back_within_half_a_step(values, dtype, scale, zero):
    zero = max(zero, np.iinfo(dtype).min)
    detail = {"dtype": dtype, "quantization": (scale, zero)}
    back = interpreter.dequantize(interpreter.quantize(values, detail), detail)
    low, high = ((limit - zero) * scale for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, np.clip(values, low, high), atol=scale / 2 + 1e-3)


def test_what_is_not_quantized_passes():
    detail = {"dtype": np.float32, "quantization": (0.0, 0)}
    values = np.array([0.1, -1e6])
    np.testing.assert_array_equal(interpreter.quantize(values, detail), values.astype(np.float32))
    np.testing.assert_array_equal(interpreter.dequantize(values.astype(np.float32), detail), values.astype(np.float32))


# --- sizes


def test_compressed_size_shows_zeros_and_is_always_the_same():
    noise = np.random.default_rng(0).bytes(10_000)
    sparse = noise[:3000] + bytes(7000)
    assert interpreter.compressed_bytes(noise) >= 10_000
    assert 3000 <= interpreter.compressed_bytes(sparse) < 3200
    assert interpreter.compressed_bytes(sparse) == interpreter.compressed_bytes(bytes(bytearray(sparse)))


def test_a_file_for_one_item_is_given_one_at_a_time():
    """It takes more without a word, and computes with the first of them."""

    class First(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, "x")])
        def __call__(self, x):
            return x + tf.slice(x, (0, 0), (1, 1))

    module = First()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(interpreter.outputs_of(converter.convert(), {"x": x}, 1), x + x[:, :1], rtol=1e-6)


# --- which input and output is which


NAMES = ("b", "a", "scores", "doubled")
ONE, OTHER = {"serve": NAMES}, {"serve": NAMES, "more": ("c", "d", "e", "f")}
FIRST = np.arange(12, dtype=np.float32).reshape(3, 4)
SECOND = np.arange(9, dtype=np.int32).reshape(3, 3)


@pytest.mark.parametrize(
    ("signatures", "given"),
    [
        (ONE, {"a": SECOND, "b": FIRST}),  # by the names in the only signature
        (ONE, {"x": FIRST, "y": SECOND}),  # of other names, in the file's order
        ({}, {"a": FIRST, "b": SECOND}),
        (OTHER, {"a": FIRST, "b": SECOND}),  # none of several signatures is the one that is meant
    ],
    ids=["by name", "other names", "no signature", "two signatures"],
)
def test_inputs_go_by_the_only_signature_else_in_order(signatures, given):
    run = Interpreter(model_content=signed.signed(**signatures))
    details = interpreter.input_details(run, given)
    first, second = ((run.get_input_details()[i]["index"]) for i in range(2))
    assert {detail["index"]: name for name, detail in details.items()} == {
        first: next(name for name, array in given.items() if array is FIRST),
        second: next(name for name, array in given.items() if array is SECOND),
    }


@pytest.mark.parametrize("signatures", [ONE, OTHER], ids=["one", "two"])
@pytest.mark.parametrize("wanted", [["scores", "doubled"], ["doubled", "scores"]])
def test_outputs_go_by_the_first_signature(wanted, signatures):
    file = signed.signed(**signatures)
    expected = {"scores": FIRST @ signed.FACTORS, "doubled": SECOND * 2.0}
    found = interpreter.outputs_of(file, {"b": FIRST, "a": SECOND}, 1, wanted)
    np.testing.assert_array_equal(found, np.concatenate([expected[name] for name in wanted], axis=1))


@pytest.mark.parametrize(
    ("signatures", "said"),
    [({}, "its outputs are named nothing, not one, other"), (ONE, "its outputs are named .*, not one, other")],
    ids=["none", "one"],
)
def test_outputs_of_other_names_are_refused(signatures, said):
    with pytest.raises(CandidateFailed, match=said):
        interpreter.outputs_of(signed.signed(**signatures), {"b": FIRST, "a": SECOND}, 1, ["one", "other"])
