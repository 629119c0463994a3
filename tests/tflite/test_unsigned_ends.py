"""Inputs and outputs of uint8: the same computation, fed and read with another zero point."""

import numpy as np
import pytest
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.tflite import contents, conversion, proof, unsigned_ends
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
IMAGES = tiny.split(128, 2).inputs


def plain(*stack, shape=(6,)):
    """A model of these layers."""
    tf_keras.utils.set_random_seed(0)
    return tiny.network(*stack, shape=shape)


def two_ends():
    """A model of two inputs and two outputs, the first of which is read inside, too."""
    tf_keras.utils.set_random_seed(0)
    a, b = layers.Input((4,), name="a"), layers.Input((3,), name="b")
    first = layers.Dense(2, name="first")(layers.Concatenate()([a, b]))
    return tf_keras.Model([a, b], [first, layers.Dense(5, name="second")(first)])


def passing():
    """A model that gives one of its inputs out again, too."""
    inputs = layers.Input((6,), name=tiny.INPUT)
    return tf_keras.Model(inputs, [layers.Dense(3, name="scores")(inputs), inputs])


def shapes_alone():
    return plain(layers.Reshape((3, 2)))


def softmax():
    return plain(layers.Dense(3, activation="softmax"))


def lookup():
    """A model that takes words' numbers."""
    words = layers.Input((5,), dtype="int32", name=tiny.INPUT)
    return tf_keras.Model(words, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Embedding(40, 6)(words))))


def data_of(model):
    """Items for every input of a model, some beyond what is calibrated for."""
    rng = np.random.default_rng(1)
    return {
        name: rng.integers(0, 40, (64, *i.shape[1:])).astype(np.int32)
        if i.dtype == "int32"
        else rng.normal(1, 2, (64, *i.shape[1:])).astype(np.float32)
        for name, i in zip(model.input_names, model.inputs, strict=True)
    }


def raw(file, item):
    """What a file gives for items as they are stored, in the order of its outputs, less the zero points."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), item, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [(d["quantization"], interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


@pytest.mark.parametrize("make", [softmax, two_ends, passing, shapes_alone, lookup], ids=lambda make: make.__name__)
def test_it_computes_what_int8_does_to_the_bit(make):
    model = make()
    file, given = conversion.float32(model), data_of(model)
    calibration = {name: values[:32] for name, values in given.items()}
    signed, unsigned = (conversion.quantize(file, scheme, calibration) for scheme in ("int8_io", "uint8_io"))
    assert (outputs_of(signed, given, 1) == outputs_of(unsigned, given, 1)).all()
    one, other = contents.read(signed), contents.read(unsigned)
    for ends, others in ((one.inputs, other.inputs), (one.outputs, other.outputs)):
        for end, moved in zip(ends, others, strict=True):
            assert (moved["name"], moved["key"], moved["shape"]) == (end["name"], end["key"], end["shape"])
            if end["dtype"] == "int8":
                assert (moved["dtype"], moved["scale"]) == ("uint8", end["scale"])
                assert moved["zero_point"] == end["zero_point"] + 128
            else:
                assert moved == end


@pytest.mark.parametrize("how", [None, *tiny.WAYS.values()], ids=["as usual", *tiny.WAYS])
def test_so_it_does_however_integers_are_made(how):
    signed, unsigned = (tiny.file(tiny.recipe(s, quantize=how)) for s in ("int8_io", "uint8_io"))
    assert (outputs_of(signed, IMAGES, 1) == outputs_of(unsigned, IMAGES, 1)).all()


def test_so_it_does_after_training_for_it_and_as_tensorflows_own_converter_makes_it():
    import tensorflow as tf

    signed, unsigned = (tiny.file(tiny.recipe(s)) for s in ("qat_int8_io", "qat_uint8_io"))
    expected = outputs_of(unsigned, IMAGES, 1)
    assert (outputs_of(signed, IMAGES, 1) == expected).all()
    converter = tf.lite.TFLiteConverter.from_keras_model(loading.unpack(tiny.packed(tiny.recipe("qat_int8")))[0])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    theirs = converter.convert()
    assert (outputs_of(theirs, IMAGES, 1) == expected).all()
    one, other = contents.read(unsigned), contents.read(theirs)
    assert one.ops == other.ops
    for name in ("dtype", "scale", "zero_point", "shape"):
        assert [end[name] for end in (*one.inputs, *one.outputs)] == [
            end[name] for end in (*other.inputs, *other.outputs)
        ]


def test_every_byte_stands_for_what_it_stood_for():
    """All 256 values of an input, and all that come out, one by one."""
    file = conversion.quantize(conversion.float32(shapes_alone()), "int8_io", data_of(shapes_alone()))
    every = np.resize(np.arange(-128, 128), (43, 6)).astype(np.int8)
    for row in every[:, None]:
        [(_, given)] = raw(file, [row])
        [(_, moved)] = raw(unsigned_ends.give(file), [(row.astype(np.int16) + 128).astype(np.uint8)])
        assert moved.dtype == np.uint8
        assert (moved.astype(np.int16) - 128 == given).all()


def test_bytes_that_stand_for_themselves_stay():
    """A model of pictures may take bytes already: there is no zero point to move."""
    tf_keras.utils.set_random_seed(0)
    pictures = layers.Input((8, 8, 1), dtype="uint8", name=tiny.INPUT)
    scaled = layers.Rescaling(1 / 255)(pictures)
    file = conversion.float32(tf_keras.Model(pictures, layers.Dense(3)(layers.Flatten()(scaled))))
    given = {tiny.INPUT: np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)}
    made = conversion.quantize(file, "uint8_io", given)
    found = contents.read(made)
    assert (found.inputs[0]["dtype"], found.inputs[0]["scale"]) == ("uint8", None)
    assert found.outputs[0]["dtype"] == "uint8"
    proof.prove(found, Recipe(scheme="uint8_io"), [])
    expected = outputs_of(file, given, 1)
    assert outputs_of(made, given, 1) == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))


def test_the_graph_inside_has_the_operators_that_it_had():
    file = tiny.file(tiny.recipe("int8_io"))
    before, after = Graph(file), Graph(unsigned_ends.give(file))
    kinds = [before.kind(place) for place in range(len(before.operators))]
    assert [after.kind(place) for place in range(len(after.operators))] == ["QUANTIZE", *kinds, "QUANTIZE"]
    assert len(after.layers()) == len(before.layers())


def test_what_is_already_so_or_has_floats_stays_as_it_is():
    for scheme in ("float32", "int8", "uint8_io"):
        file = tiny.file(tiny.recipe(scheme))
        assert unsigned_ends.give(file) is file


def test_an_output_without_a_scale_is_not_proven():
    file = Graph(tiny.file(tiny.recipe("uint8_io")))
    file.tensors[file.outputs[0]].quantization = None
    with pytest.raises(CandidateFailed, match=r"uint8_io did not take: .* is uint8 without a scale"):
        proof.prove(contents.read(file.to_bytes()), Recipe(scheme="uint8_io"), [])


def test_layers_in_float_may_stand_at_the_ends():
    recipe = tiny.recipe("uint8_io", quantize=Quantize(keep_ends=True))
    proof.prove(contents.read(tiny.file(recipe)), recipe, [])
