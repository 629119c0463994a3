"""What a file holds, read twice; and that a file that is not what it claims fails its proof."""

import contextlib
import dataclasses
import functools
import json
import math
from collections import Counter

import numpy as np
import pytest
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt import convert, inspect, models
from autoopt.errors import CandidateFailed
from autoopt.recipe import SCHEMES, Cluster, Prune

layers = tf_keras.layers
ALIKE = {scheme: scheme.removeprefix("qat_") for scheme in SCHEMES}
"""Files of one kind, whether their ranges were learnt or calibrated."""
PRUNE, CLUSTER = Prune(sparsity=0.5, frequency=2), Cluster(number=6)


@functools.cache
def contents(recipe):
    return inspect.read(tiny.file(recipe))


def reports(recipe):
    scheme = "qat_int8" if SCHEMES[recipe.scheme].qat else "float32"
    return models.reports_of(tiny.packed(dataclasses.replace(recipe, scheme=scheme)))


def refusal(found, recipe, told=()):
    with pytest.raises(CandidateFailed) as caught:
        inspect.prove(found, recipe, told)
    assert caught.value.stage == "proof"
    return caught.value.reason


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
    return convert.quantize(convert.float32(model), "dynamic", {})


FILES = {scheme: lambda scheme=scheme: tiny.file(tiny.recipe(scheme)) for scheme in SCHEMES} | {"wide": wide}


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
        assert (weight.shape, weight.dtype, weight.size) == (seen.shape, str(seen.dtype), seen.size)
        assert weight.sparsity == np.count_nonzero(seen == 0) / seen.size
        assert weight.distinct == len(set(seen.ravel().tolist()))
        quantization = details[weight.name]["quantization_parameters"]
        axis = quantization["quantized_dimension"] if len(quantization["scales"]) > 1 else 0
        channels = np.moveaxis(seen, axis, 0)
        assert weight.distinct_per_channel == max(len(set(c.ravel().tolist())) for c in channels)
    assert sum(w.values.nbytes for w in found) < len(file)


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


def patched(file, old, new):
    """The file with the only place of `old` in it overwritten."""
    assert file.count(old) == 1
    assert len(old) == len(new)
    return file.replace(old, new)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_fail_the_proof(bad):
    kernel = next(w for w in contents(tiny.recipe()).weights if w.size == 4096).values
    broken = kernel.copy()
    broken[3, 5] = bad
    file = patched(tiny.file(tiny.recipe()), kernel.tobytes(), broken.tobytes())
    assert refusal(inspect.read(file), tiny.recipe()) == "the file holds NaN or infinite weights"


def test_scales_that_are_no_numbers_fail_the_proof():
    recipe = tiny.recipe("int8")
    run = interpreter(tiny.file(recipe))
    scales = max((d["quantization_parameters"]["scales"] for d in run.get_tensor_details()), key=len)
    file = patched(tiny.file(recipe), scales.tobytes(), np.full_like(scales, np.nan).tobytes())
    assert refusal(inspect.read(file), recipe) == "the file holds NaN or infinite weights"


# --- schemes


@pytest.mark.parametrize("claimed", SCHEMES)
@pytest.mark.parametrize("made", SCHEMES)
def test_a_file_proves_its_own_scheme_alone(made, claimed):
    found, recipe = contents(tiny.recipe(made)), tiny.recipe(claimed)
    if ALIKE[made] == ALIKE[claimed]:
        inspect.prove(found, recipe, [])
    else:
        assert refusal(found, recipe).startswith(f"{claimed} did not take: ")


@pytest.mark.parametrize(
    ("made", "claimed", "reason"),
    [
        ("float32", "int8", "of the weights are 100% float32"),
        ("dynamic", "float16", "of the weights are 100% int8"),
        (
            "dynamic",
            "int8",
            "only 0% of the operators are integer (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, RESHAPE, SOFTMAX)",
        ),
        ("int8", "dynamic", "most operators compute in int8, not float32"),
        ("int16x8", "int8", "most operators compute in int16, not int8"),
        ("int8", "int16x8", "most operators compute in int8, not int16"),
        ("int8", "int8_io", "serving_default_image:0 is float32, not int8"),
        ("int8_io", "int8", "serving_default_image:0 is int8, not float32"),
    ],
)
def test_a_mislabelled_scheme_is_refused_with_the_reason(made, claimed, reason):
    assert refusal(contents(tiny.recipe(made)), tiny.recipe(claimed)) == f"{claimed} did not take: {reason}"


# --- sparsity and clusters

TECHNIQUES = {
    "pruned": {"prune": PRUNE},
    "2:4": {"prune": Prune(sparsity=0, structure="2:4")},
    "clustered": {"cluster": CLUSTER},
    "pruned, clustered": {"prune": PRUNE, "cluster": CLUSTER},
}


@pytest.mark.parametrize("scheme", ["float32", "float16", "int8"])
@pytest.mark.parametrize("technique", ["pruned", "2:4", "clustered"])
def test_what_took_is_proven_in_the_file(technique, scheme):
    recipe = tiny.recipe(scheme, **TECHNIQUES[technique])
    inspect.prove(contents(recipe), recipe, reports(recipe))


def test_what_took_is_proven_after_quantization_aware_training():
    recipe = tiny.recipe("qat_int8", **TECHNIQUES["pruned, clustered"])
    assert [r["stage"] for r in reports(recipe)] == ["prune", "cluster", "qat"]
    inspect.prove(contents(recipe), recipe, reports(recipe))


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_a_dense_file_is_not_sparse(scheme):
    claimed = tiny.recipe(scheme, **TECHNIQUES["pruned"])
    reason = refusal(contents(tiny.recipe(scheme)), claimed, reports(claimed))
    assert reason.startswith("sparsity was lost: ")
    assert "had 50.0% zeros, the file has " in reason


def test_a_file_without_the_pattern_is_refused():
    claimed = tiny.recipe(**TECHNIQUES["2:4"])
    unstructured = tiny.recipe(**TECHNIQUES["pruned"])
    reason = refusal(contents(unstructured), claimed, reports(claimed))
    assert reason.startswith("the 2:4 pattern was lost in ")


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_a_file_without_clusters_is_not_clustered(scheme):
    claimed = tiny.recipe(scheme, **TECHNIQUES["clustered"])
    reason = refusal(contents(tiny.recipe(scheme)), claimed, reports(claimed))
    assert reason.startswith("clusters were lost: ")
    assert reason.endswith("of the file, 6 were asked for")


def test_pruning_that_fell_short_is_refused():
    recipe = tiny.recipe(**TECHNIQUES["pruned"])
    further = dataclasses.replace(recipe, prune=Prune(sparsity=0.8))
    reason = refusal(contents(recipe), further, reports(recipe))
    assert reason.startswith("pruning did not reach 80.0% in ")
    assert reason.endswith(": 50.0%")


def test_clusters_lost_in_a_later_stage_are_refused_though_channels_hide_it():
    """Each channel with weights of its own has few in every row of the file, and many in all."""
    recipe = tiny.recipe("qat_int8", **TECHNIQUES["pruned, clustered"])
    *earlier, training = reports(recipe)
    lost = [{**k, "distinct": 48} if k["layer"] == "conv" else k for k in training["touched"]]
    reason = refusal(contents(recipe), recipe, [*earlier, {**training, "touched": lost}])
    assert reason == "clusters were lost in qat: conv has 48 distinct weights, 6 were asked for"


def test_a_file_of_another_model_is_refused():
    recipe = tiny.recipe(**TECHNIQUES["pruned"])
    other = inspect.read(convert.float32(tiny.network(layers.Flatten(), layers.Dense(4))))
    reason = refusal(other, recipe, reports(recipe))
    assert reason.startswith("the kernel of ")
    assert reason.endswith(" is not in the file")


small = arrays.array_shapes(min_dims=2, max_dims=4, max_side=9)


@given(arrays.arrays(np.int8, small, elements=st.integers(-1, 1)), st.integers(1, 3), st.integers(1, 3))
def test_m_by_n_holds_exactly_where_no_group_has_more(values, most, spare):
    of = most + spare
    expected = True
    for row in values.reshape(-1, values.shape[-1]).tolist():
        for start in range(0, len(row), of):
            expected &= sum(value != 0 for value in row[start : start + of]) <= most
    assert inspect.m_by_n_holds(values, most, of) == expected
