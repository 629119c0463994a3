"""The flatbuffer of a `.tflite`: parsed, refused in one line where it is damaged, and written back."""

import contextlib

import numpy as np
import pytest
import signed
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.errors import CandidateFailed
from autoopt.models import flatbuffer
from autoopt.tflite.graph import Graph

REFUSED = r"^here: (the \.tflite is (truncated|damaged: \w+ while reading it)|not a \.tflite file \(its identifier is missing\))$"


def constants(file):
    return [flatbuffer.data(buffer, file) for buffer in flatbuffer.parse(file, "here").buffers]


def test_what_is_packed_is_what_was_parsed():
    file = signed.plain()
    packed = flatbuffer.pack(flatbuffer.parse(file, "here"))
    assert [None if c is None else c.tobytes() for c in constants(packed)] == [
        None if c is None else c.tobytes() for c in constants(file)
    ]
    details = [Interpreter(model_content=each).get_tensor_details() for each in (file, packed)]
    np.testing.assert_equal(*details)


def test_a_constant_behind_the_flatbuffer_is_found():
    file = signed.plain()
    moved = signed.behind(file)
    assert any(flatbuffer.outside(buffer) for buffer in flatbuffer.parse(moved, "here").buffers)
    assert not any(flatbuffer.outside(buffer) for buffer in flatbuffer.parse(file, "here").buffers)
    assert any(c is not None and signed.FACTORS.T.tobytes() == c.tobytes() for c in constants(moved))


@pytest.mark.parametrize("make", [signed.plain, lambda: signed.behind(signed.plain())], ids=["inside", "behind"])
def test_truncated_bytes_are_refused_in_one_line(make):
    file = make()
    for length in (*range(0, len(file), 50), len(file) - 1):
        with pytest.raises(CandidateFailed, match=REFUSED):
            flatbuffer.parse(file[:length], "here")


@given(st.data())
@settings(deadline=None)  # a length that is damaged may ask for much
def test_damaged_bytes_are_parsed_or_refused(data):
    file = bytearray(signed.plain())
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=4)):
        file[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CandidateFailed):  # any other error fails the test
        assert flatbuffer.parse(bytes(file), "here").subgraphs


def test_a_file_without_a_graph_is_refused():
    model = flatbuffer.parse(signed.plain(), "here")
    model.subgraphs = []
    with pytest.raises(CandidateFailed, match=REFUSED):
        flatbuffer.parse(flatbuffer.pack(model), "here")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_graph_of_truncated_bytes_fails_its_candidate(share):
    file = signed.plain()
    with pytest.raises(CandidateFailed, match=REFUSED.replace("here", "quantize")):
        Graph(file[: int(len(file) * share)])
