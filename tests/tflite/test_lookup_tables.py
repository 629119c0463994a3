"""Tables that are looked up are stored in a scheme's own type, and say the same."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
WORDS = {tiny.INPUT: np.random.default_rng(0).integers(0, 300, (64, 6)).astype(np.int32)}
POST_TRAINING = [name for name, scheme in SCHEMES.items() if not scheme.qat]
TYPES = {"float32": "float32", "float16": "float16", "dynamic": "int8", "int16x8": "int16"}
TOLERANCE = {"float32": 1e-5, "float16": 1e-3, "int16x8": 0.01}


def one_table(dtype="int32"):
    words = layers.Input((6,), dtype=dtype, name=tiny.INPUT)
    hidden = layers.Flatten()(layers.Embedding(300, 8)(words))
    return tf_keras.Model(words, layers.Dense(4)(layers.Dense(8, activation="relu")(hidden)))


def several_tables():
    """More lookups than computing; one of the tables is looked up twice."""
    words = layers.Input((6,), dtype="int32", name=tiny.INPUT)
    tables = [layers.Embedding(300, 4) for _ in range(4)]
    rows = [table(words) for table in (*tables, tables[0])]
    return tf_keras.Model(words, layers.Dense(4)(layers.Flatten()(layers.Concatenate()(rows))))


def made(model, scheme, inputs):
    if scheme == "int16x8":
        return conversion.int16x8(model, inputs)
    file = conversion.float32(model)
    return file if scheme == "float32" else conversion.quantize(file, scheme, inputs)


@pytest.mark.parametrize("make", [one_table, several_tables])
@pytest.mark.parametrize("scheme", POST_TRAINING)
def test_a_model_that_is_a_table_above_all_takes_every_scheme(scheme, make):
    tf_keras.utils.set_random_seed(0)
    model = make()
    expected = model.predict_on_batch(WORDS[tiny.INPUT])
    file = made(model, scheme, WORDS)
    contents = inspect.read(file)
    proof.prove(contents, Recipe(scheme=scheme), [])
    table = {w.dtype for w in contents.weights if w.shape[0] == 300}
    assert table == {TYPES.get(scheme, "int8")}
    error = np.square(outputs_of(file, WORDS, 1) - expected).mean() / np.square(expected).mean()
    assert np.sqrt(error) < TOLERANCE.get(scheme, 0.03)


def test_a_table_takes_no_more_room_than_its_type():
    tf_keras.utils.set_random_seed(0)
    sizes = {scheme: len(made(one_table(), scheme, WORDS)) for scheme in ("float32", "float16", "dynamic", "int8")}
    values = 300 * 8
    assert sizes["float32"] - sizes["float16"] > 1.9 * values
    assert sizes["float32"] - sizes["dynamic"] > 2.9 * values


def test_indices_given_as_floats_are_looked_up_too():
    model, floats = one_table("float32"), {tiny.INPUT: WORDS[tiny.INPUT].astype(np.float32)}
    expected = model.predict_on_batch(floats[tiny.INPUT])
    for scheme in ("float16", "dynamic"):
        file = made(model, scheme, floats)
        proof.prove(inspect.read(file), Recipe(scheme=scheme), [])
        np.testing.assert_allclose(outputs_of(file, floats, 1), expected, atol=0.03 * np.abs(expected).max())


def test_indices_given_as_floats_are_not_squeezed_into_8_bits():
    floats = {tiny.INPUT: WORDS[tiny.INPUT].astype(np.float32)}
    with pytest.raises(CandidateFailed, match=r"int8_io: the input .* whole numbers, .* an input of int32"):
        made(one_table("float32"), "int8_io", floats)


@pytest.mark.parametrize("scheme", ["float16", "dynamic", "int8", "int16x8"])
def test_a_table_left_in_float32_is_refused(scheme):
    contents = inspect.read(conversion.float32(one_table()))
    with pytest.raises(CandidateFailed, match=f"{scheme} did not take: of the weights are 100% float32"):
        proof.prove(contents, Recipe(scheme=scheme), [])


@pytest.mark.parametrize("how", [Quantize(int4_share=1), Quantize(bits_by_layer={"words": 4})])
def test_tables_have_4_bits_where_rows_are_even(how):
    tf_keras.utils.set_random_seed(0)
    words = layers.Input((6,), dtype="int32", name=tiny.INPUT)
    rows = [layers.Embedding(300, 8, name="words")(words), layers.Embedding(300, 7, name="odd")(words)]
    file = conversion.float32(tf_keras.Model(words, layers.Dense(4)(layers.Flatten()(layers.Concatenate()(rows)))))
    small = conversion.quantize(file, "dynamic", WORDS, how=how)
    contents, recipe = inspect.read(small), Recipe(scheme="dynamic", quantize=how)
    assert {w.shape: w.dtype for w in contents.weights if w.shape[0] == 300} == {(300, 8): "int4", (300, 7): "int8"}
    assert len(small) < len(conversion.quantize(file, "dynamic", WORDS)) - 1000
    proof.prove(contents, recipe, [])
    error = np.square(outputs_of(small, WORDS, 1) - outputs_of(file, WORDS, 1)).mean()
    assert error < 0.02 * np.square(outputs_of(file, WORDS, 1)).mean()


def test_tables_of_4_bits_among_integers_or_with_odd_rows_are_refused():
    words = layers.Input((6,), dtype="int32", name=tiny.INPUT)
    odd = conversion.float32(
        tf_keras.Model(words, layers.Dense(4)(layers.Flatten()(layers.Embedding(9, 3, name="rows")(words))))
    )
    even = conversion.float32(
        tf_keras.Model(words, layers.Dense(4)(layers.Flatten()(layers.Embedding(9, 4, name="rows")(words))))
    )
    inputs = {tiny.INPUT: WORDS[tiny.INPUT] % 9}
    for file, scheme in ((odd, "dynamic"), (even, "int8")):
        with pytest.raises(CandidateFailed, match="bits_by_layer: rows: no kernel takes 4 bits for GATHER"):
            conversion.quantize(file, scheme, inputs, how=Quantize(bits_by_layer={"rows": 4}))
    for scheme in ("int8", "dynamic"):
        how = Quantize(int4_share=1)
        proof.prove(
            inspect.read(conversion.quantize(odd, scheme, inputs, how=how)), Recipe(scheme=scheme, quantize=how), []
        )
