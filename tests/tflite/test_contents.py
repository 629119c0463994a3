"""What a file holds, read twice."""

import contextlib
import dataclasses
import functools
import json
from collections import Counter

import numpy as np
import pytest
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion

layers = tf_keras.layers


@functools.cache
def contents(recipe):
    return inspect.read(tiny.file(recipe))


def interpreter(file):
    """Without a delegate, which would put operators of its own in the place of the file's."""
    found = Interpreter(
        model_content=file, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    found.allocate_tensors()
    return found


# --- reading


@functools.cache
def wide():
    """Its kernel is so large that litert-quantizer puts it behind the flatbuffer."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(layers.Dense(600, name="wide"), shape=(600,))
    return conversion.quantize(conversion.float32(model), "dynamic", {})


MADE = {"int4": Quantize(int4_dense=True), "kept": Quantize(keep=1), "tensor": Quantize(granularity="tensor")}
FILES = {scheme: lambda scheme=scheme: tiny.file(tiny.recipe(scheme)) for scheme in SCHEMES} | {"wide": wide}
FILES |= {name: lambda how=how: tiny.file(tiny.recipe("int8", quantize=how)) for name, how in MADE.items()}


@pytest.mark.parametrize("name", FILES)
def test_weights_are_those_that_the_interpreter_sees(name):
    file = FILES[name]()
    run = interpreter(file)
    details = {d["name"]: d for d in run.get_tensor_details()}
    found = inspect.read(file).weights
    assert sum(w.size for w in found) == (360_000 if name == "wide" else 72 + 72 + 128 + 4096 + 64)
    for weight in found:
        seen = run.get_tensor(details[weight.name]["index"])
        assert np.array_equal(weight.values, seen)
        assert (weight.shape, weight.dtype.replace("int4", "int8"), weight.size) == (
            seen.shape,
            str(seen.dtype),
            seen.size,
        )
        assert weight.sparsity == np.count_nonzero(seen == 0) / seen.size
        assert weight.distinct == len(set(seen.ravel().tolist()))
        quantization = details[weight.name]["quantization_parameters"]
        assert weight.scales == len(quantization["scales"])
        axis = quantization["quantized_dimension"] if len(quantization["scales"]) > 1 else 0
        channels = np.moveaxis(seen, axis, 0)
        assert weight.distinct_per_channel == max(len(set(c.ravel().tolist())) for c in channels)
    assert sum(w.values.nbytes for w in found if w.dtype != "int4") < len(file)


@pytest.mark.parametrize("name", FILES)
def test_operators_and_their_shares_are_those_that_the_interpreter_sees(name):
    file = FILES[name]()
    run, found = interpreter(file), inspect.read(file)
    dtypes = {d["index"]: np.dtype(d["dtype"]) for d in run.get_tensor_details()}
    ops = run._get_ops_details()
    assert found.ops == Counter(op["op_name"] for op in ops)
    computing = [op for op in ops if op["op_name"] not in ("QUANTIZE", "DEQUANTIZE")]
    kinds = [dtypes[op["inputs"][0]] for op in computing]
    assert found.activations == Counter(map(str, kinds))
    assert found.integer_share == sum(k.kind == "i" for k in kinds) / len(kinds)
    floats = [op["op_name"] for op, k in zip(computing, kinds, strict=True) if k.kind == "f"]
    assert found.float_islands == Counter(floats)
    assert found.kept <= len(floats)


@pytest.mark.parametrize(("how", "kept"), [({"keep": 1}, 2), ({"keep_ends": True}, 3), ({}, 0)])
def test_operators_in_float_are_told_with_what_hangs_on_them(how, kept):
    """Behind the last layer comes a softmax."""
    recipe = tiny.recipe("int8", quantize=Quantize(**how))
    assert contents(recipe).kept == sum(contents(recipe).float_islands.values()) == kept


def test_weights_know_the_operators_that_read_them():
    ops = {w.ops for w in contents(tiny.recipe("int8")).weights}
    assert ops == {("CONV_2D",), ("DEPTHWISE_CONV_2D",), ("FULLY_CONNECTED",)}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_inputs_and_outputs_are_those_that_the_interpreter_sees(scheme):
    run, found = interpreter(tiny.file(tiny.recipe(scheme))), contents(tiny.recipe(scheme))
    for ends, seen in ((found.inputs, run.get_input_details()), (found.outputs, run.get_output_details())):
        for end, detail in zip(ends, seen, strict=True):
            assert (end["name"], end["shape"]) == (detail["name"], detail["shape"].tolist())
            assert end["dtype"] == np.dtype(detail["dtype"]).name
            assert (end["scale"] or 0, end["zero_point"] or 0) == detail["quantization"]


def test_contents_are_plain_values():
    found = contents(tiny.recipe("int8"))
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(plain) == {field.name for field in dataclasses.fields(found)}
    assert [tuple(w["shape"]) for w in plain["weights"]] == [w.shape for w in found.weights]
    assert all("values" not in w for w in plain["weights"])


# --- damage


@pytest.mark.parametrize("file", [b"", b"TFL3", b"PK\x03\x04 a zip archive", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_foreign_bytes_are_refused(file):
    with pytest.raises(CandidateFailed) as caught:
        inspect.read(file)
    assert str(caught.value) == "proof: not a .tflite file (its identifier is missing)"


@given(st.data())
def test_a_file_cut_off_anywhere_is_refused(data):
    file = FILES[data.draw(st.sampled_from(["int8", "float32", "wide"]))]()
    end = data.draw(st.integers(0, len(file) - 1) | st.integers(8, 400))
    with pytest.raises(CandidateFailed, match=r"proof: (the .tflite is (truncated|damaged)|not a .tflite)"):
        inspect.read(file[:end])


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    file = bytearray(tiny.file(tiny.recipe("int8")))
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=4)):
        file[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CandidateFailed):  # any other error fails the test
        found = inspect.read(bytes(file))
        assert all(w.values.shape == w.shape for w in found.weights)
