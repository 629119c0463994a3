"""The layers that stay in float are those that suffer most."""

import numpy as np
import pytest
import tiny

from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite import conversion
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import kept, sqnr_db

IMAGES = tiny.split(128, 2).inputs


def with_noise(file, layer, noise):
    graph = Graph(file)
    kernel = graph.constant(layer.weights)
    step = np.random.default_rng(0).normal(0, noise, kernel.shape) * kernel.std()
    graph.store(layer.weights, (kernel + step).astype(np.float32))
    return graph.to_bytes()


@pytest.mark.parametrize("worst", range(5))
def test_the_noisiest_layers_are_kept(worst):
    """With noise for quantization: much in one layer, little in the others."""
    file = tiny.file(tiny.recipe())
    layers = Graph(file).layers()
    noise = {layer.place: 0.5 if i == worst else 0.001 for i, layer in enumerate(layers)}

    def made(places):
        noisy = file
        for layer in layers:
            if layer.place not in places:
                noisy = with_noise(noisy, layer, noise[layer.place])
        return noisy

    found = kept(file, Quantize(keep=1), made, IMAGES, 1)
    assert found[0] == layers[worst].place


def test_the_last_layers_softmax_goes_along_and_ends_come_on_top():
    file = tiny.file(tiny.recipe())
    graph = Graph(file)
    layers = graph.layers()
    found = kept(file, Quantize(keep=1, keep_ends=True), lambda places: file, IMAGES, 1)
    assert found[:2] == [layers[0].place, layers[-1].place]
    assert found[2] in [layer.place for layer in layers[1:-1]]
    assert [graph.kind(place) for place in found[3:]][-1] == "SOFTMAX"


def test_a_layer_whose_one_scale_is_spoilt_is_the_one_that_stays_in_float():
    """A great weight on a dead channel changes no output, but takes the kernel's whole range."""
    file = conversion.float32(tiny.uneven())
    graph = Graph(file)
    first, second = graph.layers()[1:3]
    kernel, bias = graph.constant(first.weights), graph.constant(first.bias)
    kernel[..., 5], bias[5] = 0, -1
    graph.store(first.weights, kernel)
    graph.store(first.bias, bias)
    kernel = graph.constant(second.weights)
    kernel[3, 0, 0, 5] = 500 * np.abs(kernel).max()
    graph.store(second.weights, kernel)
    spoilt = graph.to_bytes()
    expected = outputs_of(spoilt, IMAGES, 1)
    tensor, rescued = (Quantize(keep=k, granularity="tensor") for k in (0, 1))
    noise = [
        sqnr_db(expected, outputs_of(conversion.quantize(spoilt, "int8", IMAGES, how=how), IMAGES, 1))
        for how in (tensor, rescued)
    ]
    made = Graph(conversion.quantize(spoilt, "int8", IMAGES, how=rescued))
    stayed = [i for i, layer in enumerate(made.layers()) if made.dtype(layer.weights) == "FLOAT32"]
    assert stayed == [2]
    assert noise[1] > noise[0] + 10


def test_noise_in_decibels():
    ones = np.ones(100, np.float32)
    assert sqnr_db(ones, ones * 0.9) == pytest.approx(20, abs=1e-4)
    assert sqnr_db(ones, ones) > 200


@pytest.mark.parametrize("how", [Quantize(keep=5), Quantize(keep=3, keep_ends=True)], ids=lambda how: how.label())
def test_one_layer_at_least_must_be_left(how):
    with pytest.raises(CandidateFailed) as caught:
        kept(tiny.file(tiny.recipe()), how, lambda places: b"", IMAGES, 1)
    assert caught.value.reason.startswith("the model has 5 layers with weights: ")
