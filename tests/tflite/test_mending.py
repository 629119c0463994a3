"""What a converter leaves wrong in an integer file is put right."""

import functools

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.core.schemes import BY_RANGES
from autoopt.core.stage_settings import Quantize
from autoopt.tflite import conversion, mending
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import sqnr_db

layers = tf_keras.layers
IMAGES = tiny.split(64, 2).inputs


@functools.cache
def dead(faint=0.0):
    """A float32 file in which every other channel has weights of zero, or next to it, and a bias all the same."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(
        layers.Conv2D(8, 3, activation="relu"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.Conv2D(6, 1, name="whole"),
        layers.Flatten(),
        layers.Dense(4),
    )
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            gone = (
                kernel
                if layer.name == "whole"
                else kernel[..., ::2]
                if layer.name != "depthwise"
                else kernel[..., ::2, :]
            )
            gone *= faint
            layer.set_weights([kernel, bias + np.linspace(-0.5, 0.5, len(bias))])
    return conversion.float32(model)


@pytest.mark.parametrize("scheme", BY_RANGES)
@pytest.mark.parametrize("how", [None, Quantize(granularity="tensor"), Quantize(int4_dense=True)])
@pytest.mark.parametrize("faint", [0.0, 1e-12])
def test_a_channel_without_weights_keeps_its_bias(faint, how, scheme):
    file = conversion.quantize(dead(faint), scheme, IMAGES, how=how)
    for mine, layer in zip(Graph(dead(faint)).layers(), Graph(file).layers(), strict=True):
        expected, found = Graph(dead(faint)).real(mine.bias), Graph(file).real(layer.bias)
        assert found == pytest.approx(expected, rel=1e-3, abs=2e-3)
    assert sqnr_db(outputs_of(dead(faint), IMAGES, 1), outputs_of(file, IMAGES, 1)) > (12 if how and how.int4 else 20)


def test_a_file_whose_biases_are_held_stays_as_it_is():
    file = conversion.quantize(conversion.float32(tiny.uneven()), "int8", IMAGES)
    assert mending.hold_biases(Graph(conversion.float32(tiny.uneven())), file) is file
