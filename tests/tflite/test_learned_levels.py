"""The file holds the levels that were trained, counted; and one that does not is refused."""

import dataclasses

import numpy as np
import pytest
import tiny

from autoopt.core.stage_settings import Levels, Quantize
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.tflite import contents as inspect
from autoopt.tflite import proof
from autoopt.tflite.graph import Graph

LEVELS = Levels(number=7, by_size=0, ends=7)
SCHEMES = ("float32", "float16", "dynamic", "int8", "int8_io", "int16x8")


def made(scheme, quantize=None, levels=LEVELS):
    return tiny.recipe(scheme, levels=levels, quantize=quantize)


def reports(recipe):
    same = dataclasses.replace(recipe, scheme="float32")
    return loading.reports_of(tiny.packed(same)), loading.normalized(tiny.packed(same))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_of_every_scheme_is_proven(scheme):
    recipe = made(scheme)
    proof.prove(inspect.read(tiny.file(recipe)), recipe, *reports(recipe))


def test_a_file_with_one_scale_a_tensor_is_proven():
    recipe = made("int8", Quantize(granularity="tensor", ranges="mse"))
    proof.prove(inspect.read(tiny.file(recipe)), recipe, *reports(recipe))


@pytest.mark.parametrize("ends", [7, 63])
def test_weights_of_four_bits_are_proven(ends):
    recipe = made("int8", Quantize(int4_share=1.0), dataclasses.replace(LEVELS, ends=ends))
    contents = inspect.read(tiny.file(recipe))
    assert "int4" in {weight.dtype for weight in contents.weights}
    proof.prove(contents, recipe, *reports(recipe))


def test_steps_per_channel_are_proven():
    recipe = made("int8", levels=dataclasses.replace(LEVELS, per_channel=True))
    proof.prove(inspect.read(tiny.file(recipe)), recipe, *reports(recipe))


def test_the_untouched_file_is_refused():
    recipe = made("int8")
    with pytest.raises(CandidateFailed, match=r"levels were lost: \w+ was trained on 7, the file has other weights"):
        proof.prove(inspect.read(tiny.file(tiny.recipe("int8"))), recipe, *reports(recipe))


def test_one_weight_on_another_level_is_seen():
    recipe = made("int8")
    graph = Graph(tiny.file(recipe))
    layer = next(layer for layer in graph.layers() if layer.kind == "CONV_2D")
    values = graph.constant(layer.weights)
    place = np.unravel_index(np.argmax(values == 0), values.shape)
    values[place] = 1
    graph.store(layer.weights, values)
    with pytest.raises(CandidateFailed, match="levels were lost"):
        proof.prove(inspect.read(graph.to_bytes()), recipe, *reports(recipe))
