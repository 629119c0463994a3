"""The graph inside a file, read and changed."""

import functools

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given
from hypothesis import strategies as st

from autoopt.tflite import conversion
from autoopt.tflite.graph import NONE, Graph, floating, unpacked
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
IMAGES = tiny.split(32, 2).inputs


@functools.cache
def float32():
    return tiny.file(tiny.recipe())


@functools.cache
def branching():
    """Squeezed pixels, two branches, and a pooling layer between them and the scores."""
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 1), name=tiny.INPUT)
    x = layers.Activation("tanh")(inputs)
    left, right = layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([left, right]))
    return conversion.float32(tf_keras.Model(inputs, layers.Dense(3, activation="softmax")(x)))


def test_layers_are_told_in_the_order_in_which_they_run():
    graph = Graph(float32())
    found = graph.layers()
    kinds = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert [layer.kind for layer in found] == kinds
    assert [layer.activation for layer in found] == ["RELU"] * 4 + ["NONE"]
    for layer in found:
        channels = graph.constant(layer.weights).shape[layer.axis]
        assert layer.bias != NONE
        assert graph.constant(layer.bias).shape == (channels,)
        assert graph.flowing(layer.place) == [layer.input]


@pytest.mark.parametrize("file", [float32, branching])
def test_a_graph_goes_into_a_file_and_out_again(file):
    again = Graph(file()).to_bytes()
    assert (outputs_of(again, IMAGES, 1) == outputs_of(file(), IMAGES, 1)).all()


def test_a_stored_constant_is_the_one_that_is_computed_with():
    graph = Graph(float32())
    last = graph.layers()[-1]
    graph.store(last.bias, np.array([0, 0, 100, 0], np.float32))
    assert (outputs_of(graph.to_bytes(), IMAGES, 1).argmax(axis=1) == 2).all()


def test_integers_are_scaled_back_channel_by_channel():
    real, integer = (Graph(tiny.file(tiny.recipe(scheme))) for scheme in ("float32", "int8"))
    for mine, theirs in zip(real.layers(), integer.layers(), strict=True):
        scale = integer.scale(theirs.weights)
        assert len(scale) == real.constant(mine.weights).shape[mine.axis]
        assert np.abs(real.real(mine.weights) - integer.real(theirs.weights)).max() <= 0.51 * scale.max()


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=33))
def test_values_of_4_bits_are_two_to_a_byte_the_lower_half_first(values):
    halves = [v & 15 for v in values] + [0] * (len(values) % 2)
    packed = [low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True)]
    assert unpacked(np.array(packed, np.uint8), len(values)).tolist() == values
    with pytest.raises(ValueError, match="does not fill its shape"):
        unpacked(np.array([*packed, 0], np.uint8), len(values))


@pytest.mark.parametrize(
    ("kept", "along"),
    [
        ([], []),
        ([0], []),
        ([1], []),
        ([2], ["SOFTMAX"]),
        ([0, 1], ["TANH"]),  # both read it, so it goes along with both alone
        ([0, 1, 2], ["TANH", "ADD", "MEAN", "SOFTMAX"]),
    ],
)
def test_what_lies_between_layers_in_float_stays_in_float(kept, along):
    graph = Graph(branching())
    found = graph.layers()
    assert [graph.kind(place) for place in floating(graph, [found[i] for i in kept])] == along
