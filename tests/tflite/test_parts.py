"""The parts of a file add up to it, and each is what its name says."""

import gzip

import numpy as np
import pytest
import tiny

from autoopt.core.schemes import SCHEMES
from autoopt.errors import CandidateFailed
from autoopt.models import flatbuffer
from autoopt.tflite import contents
from autoopt.tflite.parts import PARTS, parts

BITS = {"int4": 4, "int8": 8, "float16": 16, "int16": 16, "float32": 32}


def by_name(file):
    return {part.part: part for part in parts(file)}


def named(file, name):
    """The file with another name for a tensor in its middle."""
    model = flatbuffer.parse(file, "test")
    model.subgraphs[0].tensors[2].name = name
    return flatbuffer.pack(model)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_they_add_up_in_every_scheme(scheme):
    file = tiny.file(tiny.recipe(scheme))
    found = by_name(file)
    assert list(found) == list(PARTS)
    assert sum(part.size_bytes for part in found.values()) == len(file)
    assert sum(part.compressed_bytes for part in found.values()) == len(gzip.compress(file, 9, mtime=0))
    weights = contents.read(file).weights
    assert found["weights"].size_bytes == sum(-(-weight.size * BITS[weight.dtype] // 8) for weight in weights)
    assert found["structure"].size_bytes > 0


def test_scales_are_those_of_integers():
    assert by_name(tiny.file(tiny.recipe()))["scales"].size_bytes == 0
    channel, tensor = (by_name(tiny.file(tiny.recipe("int8", quantize=how))) for how in (None, tiny.WAYS["tensor"]))
    assert channel["scales"].size_bytes > 2 * tensor["scales"].size_bytes > 0
    assert channel["weights"].size_bytes == tensor["weights"].size_bytes


@pytest.mark.parametrize("length", [0, 1, 50, 1000])
def test_a_longer_name_is_counted_as_a_name(length):
    file = named(tiny.file(tiny.recipe("int8")), "")
    longer = named(file, "x" * length)
    grown = by_name(longer)["names"].size_bytes - by_name(file)["names"].size_bytes
    assert grown == length


def test_equal_weights_cost_nothing_after_gzip():
    file = tiny.file(tiny.recipe())
    model = flatbuffer.parse(file, "test")
    for tensor in model.subgraphs[0].tensors:
        if len(tensor.shape) > 1 and (data := model.buffers[tensor.buffer].data) is not None:
            model.buffers[tensor.buffer].data = np.zeros_like(data)
    part = by_name(flatbuffer.pack(model))["weights"]
    assert part.size_bytes > 5000
    assert part.compressed_bytes < 200


def test_constants_behind_the_flatbuffer_are_weights_too():
    model = flatbuffer.parse(tiny.file(tiny.recipe()), "test")
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data, largest.data = bytes(largest.data), None
    largest.offset, largest.size = 16, len(data)
    largest.offset = len(flatbuffer.pack(model))
    found = by_name(flatbuffer.pack(model) + data)
    assert found["weights"].size_bytes == by_name(tiny.file(tiny.recipe()))["weights"].size_bytes


@pytest.mark.parametrize("damage", [lambda file: b"", lambda file: b"PK" * 100, lambda file: file[: len(file) // 3]])
def test_what_is_no_tflite_is_said_to_be_none(damage):
    with pytest.raises(CandidateFailed, match="tflite"):
        parts(damage(tiny.file(tiny.recipe())))
