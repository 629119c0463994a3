"""A file that is what its recipe says is proven; one that is not is refused."""

import dataclasses
import functools
import math
import re

import numpy as np
import pytest
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.core.schemes import BY_RANGES, SCHEMES
from autoopt.core.stage_settings import Cluster, Prune, Quantize
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.models.task import Split
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof

layers = tf_keras.layers
ALIKE = {scheme: scheme.removeprefix("qat_") for scheme in SCHEMES}
"""Files of one kind, whether their ranges were learnt or calibrated."""
PRUNE, CLUSTER = Prune(sparsity=0.5, frequency=2), Cluster(number=6)


@functools.cache
def contents(recipe):
    return inspect.read(tiny.file(recipe))


def reports(recipe):
    scheme = "qat_int8" if SCHEMES[recipe.scheme].qat else "float32"
    return loading.reports_of(tiny.packed(dataclasses.replace(recipe, scheme=scheme)))


def refusal(found, recipe, told=()):
    with pytest.raises(CandidateFailed) as caught:
        proof.prove(found, recipe, told)
    assert caught.value.stage == "proof"
    return caught.value.reason


# --- numbers that are none


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
    run = Interpreter(model_content=tiny.file(recipe))
    scales = max((d["quantization_parameters"]["scales"] for d in run.get_tensor_details()), key=len)
    file = patched(tiny.file(recipe), scales.tobytes(), np.full_like(scales, np.nan).tobytes())
    assert refusal(inspect.read(file), recipe) == "the file holds NaN or infinite weights"


# --- schemes


@pytest.mark.parametrize("claimed", SCHEMES)
@pytest.mark.parametrize("made", SCHEMES)
def test_a_file_proves_its_own_scheme_alone(made, claimed):
    found, recipe = contents(tiny.recipe(made)), tiny.recipe(claimed)
    if ALIKE[made] == ALIKE[claimed]:
        proof.prove(found, recipe, [])
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
        ("int8_io", "uint8_io", "serving_default_image:0 is int8, not uint8"),
        ("uint8_io", "int8_io", "serving_default_image:0 is uint8, not int8"),
    ],
)
def test_a_mislabelled_scheme_is_refused_with_the_reason(made, claimed, reason):
    assert refusal(contents(tiny.recipe(made)), tiny.recipe(claimed)) == f"{claimed} did not take: {reason}"


# --- how integers are made


@pytest.mark.parametrize("scheme", BY_RANGES)
@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_what_was_asked_of_quantization_is_proven(how, scheme):
    recipe = tiny.recipe(scheme, quantize=how)
    proof.prove(contents(recipe), recipe, [])


@pytest.mark.parametrize(
    ("made", "claimed", "reason"),
    [
        (None, Quantize(keep=1), "layers in float: 1 were asked for, the file has 0"),
        (Quantize(keep=2), Quantize(keep=1), "layers in float: 1 were asked for, the file has 2"),
        (Quantize(keep=1), Quantize(ranges="mse"), "layers in float: 0 were asked for, the file has 1"),
        (Quantize(keep_ends=True), Quantize(keep=1), "layers in float: 1 were asked for, the file has 2"),
        (Quantize(keep_ends=True), Quantize(ranges="mse"), "layers in float: 0 were asked for, the file has 2"),
        (None, Quantize(granularity="tensor"), "one scale per tensor did not take: model/pointwise/Conv2D has one a channel"),
        (None, Quantize(int4_dense=True), "int4 did not take: model/scores/MatMul is int8"),
        (Quantize(int4_dense=True, granularity="tensor"), Quantize(int4_dense=True, keep=1),
         "layers in float: 1 were asked for, the file has 0"),
        (Quantize(int4_dense=True), None, "int8 did not take: of the weights are 6% int8, 94% int4"),
    ],
)  # fmt: skip
def test_what_was_not_done_is_refused_with_the_reason(made, claimed, reason):
    found = refusal(contents(tiny.recipe("int8", quantize=made)), tiny.recipe("int8", quantize=claimed))
    assert re.sub(r"model_\d+/", "model/", found) == reason


@pytest.mark.parametrize("made", ["float32", "dynamic", "float16"])
def test_layers_that_may_stay_in_float_excuse_no_others(made):
    recipe = tiny.recipe("int8", quantize=Quantize(keep=2, keep_ends=True))
    assert refusal(contents(tiny.recipe(made)), recipe).startswith("int8 did not take: ")


def test_one_scale_keeps_the_clusters_of_whole_kernels():
    """But where batch normalization is folded in: a factor for each channel is none for the whole."""
    recipe = tiny.recipe("int8", cluster=CLUSTER, quantize=Quantize(granularity="tensor"))
    normalized = loading.normalized(tiny.packed(dataclasses.replace(recipe, scheme="float32")))
    assert normalized == ["conv"]
    found, told = contents(recipe), reports(recipe)
    proof.prove(found, recipe, told, normalized)
    with pytest.raises(CandidateFailed, match=r"clusters were lost: conv has \d+ distinct weights in the file"):
        proof.prove(found, recipe, told, [])


def test_clusters_that_are_lost_over_the_whole_kernel_are_refused():
    recipe = tiny.recipe("int8", cluster=CLUSTER, quantize=Quantize(granularity="tensor"))
    lost = [dataclasses.replace(w, distinct=40) if w.size == 4096 else w for w in contents(recipe).weights]
    with pytest.raises(CandidateFailed, match="hidden has 40 distinct weights in the file, 6 were asked for"):
        proof.prove(dataclasses.replace(contents(recipe), weights=lost), recipe, reports(recipe), ["conv"])


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
    proof.prove(contents(recipe), recipe, reports(recipe))


def test_what_took_is_proven_after_quantization_aware_training():
    recipe = tiny.recipe("qat_int8", **TECHNIQUES["pruned, clustered"])
    assert [r["stage"] for r in reports(recipe)] == ["prune", "cluster", "qat"]
    proof.prove(contents(recipe), recipe, reports(recipe))


def test_both_halves_of_a_separable_layer_are_proven():
    tf_keras.utils.set_random_seed(0)
    stack = [layers.SeparableConv2D(16, 3, name="apart"), layers.Flatten(), layers.Dense(4, activation="softmax")]
    parts = TECHNIQUES["pruned, clustered"]
    recipe = tiny.recipe("qat_int8", **parts)
    model, told = tiny.train(tiny.network(*stack), tiny.settings(scheme="qat_int8", **parts))
    assert [row["shape"] for row in told[-1]["touched"] if row["layer"] == "apart"] == [[3, 3, 1, 1], [1, 1, 1, 16]]
    found = inspect.read(conversion.trained(model, "qat_int8"))
    proof.prove(found, recipe, told)
    told[-1]["touched"][1]["distinct"] = 16
    assert refusal(found, recipe, told).startswith("clusters were lost in qat: apart has 16 distinct weights")


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
    other = inspect.read(conversion.float32(tiny.network(layers.Flatten(), layers.Dense(4))))
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
    assert proof.m_by_n_holds(values, most, of) == expected


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_kernels_of_attention_are_found_in_another_shape(scheme):
    x = tf_keras.layers.Input((6, 8), name=tiny.INPUT)
    y = tf_keras.layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    model = tf_keras.Model(x, tf_keras.layers.Dense(4, activation="softmax")(tf_keras.layers.Flatten()(y)))
    rng = np.random.default_rng(0)
    data = Split(inputs={tiny.INPUT: rng.random((64, 6, 8), dtype=np.float32)}, labels=rng.integers(0, 4, 64))
    parts = {"prune": Prune(sparsity=0.5, frequency=1)}
    trained, told = tiny.train(model, tiny.settings(**parts), data=[data, data])
    file = conversion.float32(trained)
    file = conversion.quantize(file, scheme, data.inputs) if scheme == "int8" else file
    proof.prove(inspect.read(file), tiny.recipe(scheme, **parts), told)
    for kernel in told[0]["touched"]:
        kernel["sparsity"] = 0.9 if kernel["layer"] == "attention" else kernel["sparsity"]
    assert "sparsity was lost: attention" in refusal(inspect.read(file), tiny.recipe(scheme, **parts), told)
