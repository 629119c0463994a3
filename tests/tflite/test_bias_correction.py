"""Corrected biases bring the means of a quantized file back to where they were."""

import functools

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.core.stage_settings import Quantize
from autoopt.tflite import conversion
from autoopt.tflite.activation_reader import batches
from autoopt.tflite.bias_correction import correct, means
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import sqnr_db

layers = tf_keras.layers
IMAGES = tiny.split(40, 2).inputs


@functools.cache
def linear():
    """Every way in which a kernel walks over an image, without activations: so means can be seen."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(
        layers.Conv2D(6, 3, padding="same", strides=2, bias_initializer="ones"),
        layers.Conv2D(4, 2, dilation_rate=2),  # by way of the batch
        layers.DepthwiseConv2D(2, dilation_rate=2, padding="same"),
        layers.DepthwiseConv2D((2, 1), depth_multiplier=3, padding="same"),
        layers.Conv2D(3, (1, 2), padding="same"),
        layers.Dense(5, bias_initializer="ones"),
        layers.Flatten(),
        layers.Dense(5),
    )
    return conversion.float32(model)


def test_the_mean_of_a_layer_follows_from_its_mean_input():
    graph = Graph(linear())
    found = graph.layers()
    seen = [[value(layer.output) for layer in found] for value in batches(linear(), IMAGES, 1)]
    for number, mean in enumerate(means(graph, linear(), found, IMAGES, 1)):
        values = np.concatenate([batch[number] for batch in seen])
        assert np.allclose(mean, values.reshape(-1, values.shape[-1]).mean(axis=0), atol=1e-5)


@functools.cache
def uneven():
    file = conversion.float32(tiny.uneven())
    return file, outputs_of(file, IMAGES, 1)


def shifted(quantized):
    """With half a unit more in every bias of an integer layer."""
    graph = Graph(quantized)
    for layer in graph.layers():
        if graph.dtype(layer.bias) == "INT32":
            unit = graph.scale(layer.input) * graph.scale(layer.weights)
            graph.store(layer.bias, graph.constant(layer.bias) + (0.5 / unit).astype(np.int32))
    return graph.to_bytes()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_bias_that_is_off_comes_back(granularity):
    file, expected = uneven()
    quantized = conversion.quantize(file, "int8", IMAGES, how=Quantize(granularity=granularity))
    broken = shifted(quantized)
    noise = [
        sqnr_db(expected, outputs_of(made, IMAGES, 1)) for made in (broken, correct(file, broken, IMAGES, 1), quantized)
    ]
    assert noise[0] < 15
    assert noise[1] > noise[2] - 1


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_correction_does_no_harm(granularity, seed):
    """Without a limit, the file of seed 3 with one scale a tensor would be half a dB worse."""
    file = conversion.float32(tiny.uneven(seed))
    items, others = (tiny.split(128, split).inputs for split in (2, 5))
    quantized = conversion.quantize(file, "int8", items, how=Quantize(granularity=granularity))
    corrected = correct(file, quantized, items, 1)
    for inputs, margin in ((items, 0), (others, 0.5)):
        expected = outputs_of(file, inputs, 1)
        before, after = (sqnr_db(expected, outputs_of(made, inputs, 1)) for made in (quantized, corrected))
        assert after >= before - margin


def test_a_file_that_can_not_be_bettered_is_left_as_it_is():
    file = uneven()[0]
    assert correct(file, file, IMAGES, 1) is file


def test_only_biases_of_integer_layers_are_touched():
    file = uneven()[0]
    broken = shifted(conversion.quantize(file, "int8", IMAGES, how=Quantize(keep_ends=True)))
    before, after = Graph(broken), Graph(correct(file, broken, IMAGES, 1))
    changed = []
    for number, layer in enumerate(before.layers()):
        assert (before.constant(layer.weights) == after.constant(layer.weights)).all()
        if (before.constant(layer.bias) != after.constant(layer.bias)).any():
            changed.append(number)
    assert changed == [1, 2, 3, 4, 5]


def test_layers_without_a_bias_and_in_groups_are_left():
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 4), name=tiny.INPUT)
    x = layers.Conv2D(4, 3, groups=2)(inputs)
    file = conversion.float32(tf_keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.Flatten()(x))))
    data = {tiny.INPUT: np.random.default_rng(0).normal(0, 1, (32, 8, 8, 4)).astype(np.float32)}
    corrected = conversion.quantize(file, "int8", data, how=Quantize(correct_bias=True))
    assert sqnr_db(outputs_of(file, data, 1), outputs_of(corrected, data, 1)) > 25
