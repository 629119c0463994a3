"""What the inputs and outputs of a `.tflite` are called: by its only signature, or by their tensors."""

import pytest
import signed
from ai_edge_litert.interpreter import Interpreter

from autoopt.models import file_ends
from autoopt.models.opaque import ClosedModel

ONE = {"serve": ("b", "a", "scores", "doubled")}
TWO = ONE | {"more": ("c", "d", "e", "f")}


def opened(file):
    return Interpreter(model_content=file)


def tensors(file):
    """Names of the tensors that come in and go out, by the file itself."""
    run = opened(file)
    return [[detail["name"] for detail in side] for side in (run.get_input_details(), run.get_output_details())]


def kinds(side):
    """Shape and dtype of each, without the order, in which a signature lists its own alphabetically."""
    return {(end.shape, end.dtype) for end in side}


@pytest.mark.parametrize("signatures", [{}, ONE, TWO], ids=["none", "one", "two"])
def test_signatures_are_listed(signatures):
    assert sorted(file_ends.signatures(opened(signed.signed(**signatures)))) == sorted(signatures)


@pytest.mark.parametrize("signatures", [{}, TWO], ids=["none", "two"])
def test_without_just_one_signature_the_tensors_names_are_told(signatures):
    file = signed.signed(**signatures)
    assert [list(side) for side in file_ends.named(opened(file))] == tensors(file)


def test_the_only_signature_names_the_ends():
    inputs, outputs = file_ends.named(opened(signed.signed(**ONE)))
    assert (set(inputs), set(outputs)) == ({"a", "b"}, {"scores", "doubled"})
    assert (inputs["b"]["shape_signature"].tolist(), inputs["a"]["shape_signature"].tolist()) == ([-1, 4], [-1, 3])


def test_each_of_several_signatures_can_be_asked_for():
    run = opened(signed.signed(**TWO))
    for key, names in TWO.items():
        inputs, outputs = file_ends.of_signature(run, key)
        assert set(inputs) | set(outputs) == set(names)
        assert inputs[names[0]]["index"] == file_ends.of_signature(run, "serve").inputs["b"]["index"]


@pytest.mark.parametrize("signatures", [{}, ONE, TWO], ids=["none", "one", "two"])
def test_shapes_and_types_are_the_same_by_any_name(signatures):
    inputs, outputs = file_ends.read(signed.signed(**signatures))
    assert kinds(inputs) == {((None, 4), "float32"), ((None, 3), "int32")}
    assert kinds(outputs) == {((None, 2), "float32"), ((None, 3), "int32")}


def test_a_closed_model_has_the_ends_of_its_file():
    file = signed.signed(**ONE)
    model = ClosedModel(file=file, why="")
    assert (model.inputs, model.outputs) == file_ends.read(file)
    assert set(model.input_names) == {"a", "b"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_bytes_are_refused(share):
    file = signed.plain()
    with pytest.raises((ValueError, RuntimeError)):
        file_ends.read(file[: int(len(file) * share)])
