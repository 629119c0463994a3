"""Layers whose weights have 4 bits: which they are, that they compute what they should, and that the file is proven."""

import dataclasses
import functools

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_BITS
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, low_bits, proof
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import sqnr_db

layers = tf_keras.layers
IMAGES = tiny.split(64, 2).inputs


def network(kind):
    """Models with all that a share of weights may meet."""
    tf_keras.utils.set_random_seed(0)
    small = [layers.Conv2D(8, 3, activation="relu", name="first")]
    if kind == "separable":
        small += [layers.SeparableConv2D(12, 3, name="apart"), layers.Conv2D(1, 1, name="one"), layers.Conv2D(6, 3)]
    elif kind == "grouped":
        small += [layers.Conv2D(8, 3, groups=2), layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="wide")]
    elif kind == "dead":
        small += [layers.Conv2D(8, 3, name="dead"), layers.Conv2D(8, 3, name="half")]
    model = tiny.network(*small, layers.Flatten(), layers.Dense(7, activation="relu"), layers.Dense(3, name="scores"))
    if kind == "dead":
        for name, share in (("dead", 1), ("half", 2)):
            kernel, bias = model.get_layer(name).get_weights()
            kernel[..., :: 3 - share] = 0
            model.get_layer(name).set_weights([kernel, bias + 0.1])
    return model


@functools.cache
def float32(kind="plain"):
    return conversion.float32(network(kind))


def made(how, scheme="int8", kind="plain"):
    return conversion.quantize(float32(kind), scheme, IMAGES, how=Recipe(scheme=scheme, quantize=how).quantize)


def in_4_bits(file):
    return {w.name.split("/")[1] for w in inspect.read(file).weights if w.dtype == "int4"}


@pytest.mark.parametrize("scheme", BY_BITS)
@pytest.mark.parametrize("kind", ["separable", "grouped", "dead"])
def test_all_kinds_of_layers_run_in_4_bits_and_are_proven(kind, scheme):
    how = Quantize(int4_share=1)
    file = made(how, scheme, kind)
    found = inspect.read(file)
    assert {w.dtype for w in found.weights if "DEPTHWISE_CONV_2D" in w.ops or w.first} == {"int8"}
    assert {w.dtype for w in found.weights if "DEPTHWISE_CONV_2D" not in w.ops and not w.first} == {"int4"}
    assert len(file) < len(made(None, scheme, kind))
    assert sqnr_db(outputs_of(float32(kind), IMAGES, 1), outputs_of(file, IMAGES, 1)) > 10
    proof.prove(found, Recipe(scheme=scheme, quantize=how), [])


def test_a_larger_share_holds_the_layers_of_a_smaller_one():
    able = {w.name.split("/")[1]: w.size for w in inspect.read(made(None, kind="separable")).weights}
    before: set[str] = set()
    for share in (0.01, 0.3, 0.6, 0.9, 1):
        found = in_4_bits(made(Quantize(int4_share=share), kind="separable"))
        assert before <= found
        before = found
    assert before == able.keys() - {"first"} or "apart" in before  # its depthwise half has the same name


def test_the_layers_go_first_whose_4_bits_cost_least_for_each_weight():
    """One of both convolutions has a channel of outliers, which 15 numbers can't hold beside the others."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(
        layers.Conv2D(8, 3, activation="relu"),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="rough"),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="even"),
        layers.Flatten(),
        layers.Dense(2, name="scores"),
    )
    rng = np.random.default_rng(0)
    kernel, bias = model.get_layer("rough").get_weights()
    model.get_layer("rough").set_weights([kernel * np.exp(rng.normal(0, 2, kernel.shape)), bias])
    kernel, bias = model.get_layer("even").get_weights()
    model.get_layer("even").set_weights([np.sign(kernel) * 0.1, bias])
    file = conversion.float32(model)
    found = conversion.quantize(file, "int8", IMAGES, how=Quantize(int4_share=0.2))
    assert in_4_bits(found) == {"even"}


def test_layers_have_the_bits_that_they_are_given_by_name():
    how = Quantize(bits_by_layer={"first": 4, "scores": 8}, int4_share=1)
    assert in_4_bits(made(how, kind="separable")) >= {"first", "one"}
    assert "scores" not in in_4_bits(made(how, kind="separable"))
    alone = made(Quantize(bits_by_layer={"apart": 4}), kind="separable")
    assert in_4_bits(alone) == {"apart"}
    assert [w.ops for w in inspect.read(alone).weights if w.dtype == "int4"] == [("CONV_2D",)]


def test_a_layer_that_is_called_twice_is_found_by_its_name():
    again = layers.Dense(8, activation="relu", name="again")
    inputs = layers.Input((8,), name=tiny.INPUT)
    file = conversion.float32(tf_keras.Model(inputs, layers.Dense(3)(again(again(inputs)))))
    data = {tiny.INPUT: np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)}
    how = Quantize(bits_by_layer={"again": 4})
    found = inspect.read(conversion.quantize(file, "int8", data, how=how))
    assert {w.ops: w.dtype for w in found.weights} == {("FULLY_CONNECTED",) * 2: "int4", ("FULLY_CONNECTED",): "int8"}
    proof.prove(found, tiny.recipe("int8", quantize=how), [])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (Quantize(bits_by_layer={"score": 4}), "bits_by_layer: no layer with weights is named 'score'; did you mean 'scores'?"),
        (Quantize(bits_by_layer={"scores": 4}, keep_ends=True), "is one of the layers that stay in float"),
        (Quantize(bits_by_layer={"depth": 4}), "bits_by_layer: depth: no kernel takes 4 bits for DEPTHWISE_CONV_2D"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_in_one_line(how, reason):
    tf_keras.utils.set_random_seed(0)
    depth = layers.DepthwiseConv2D(3, name="depth"), layers.Conv2D(2, 1)
    model = tiny.network(*depth, layers.Flatten(), layers.Dense(2, name="scores"))
    with pytest.raises(CandidateFailed) as caught:
        conversion.quantize(conversion.float32(model), "int8", IMAGES, how=how)
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


def test_a_model_without_a_layer_for_4_bits_says_so():
    tf_keras.utils.set_random_seed(0)
    file = conversion.float32(tiny.network(layers.Conv2D(2, 3), layers.DepthwiseConv2D(3), layers.Flatten()))
    for scheme in BY_BITS:
        with pytest.raises(CandidateFailed, match="no layer that can have 4 bits is left in integers"):
            conversion.quantize(file, scheme, IMAGES, how=Quantize(int4_share=0.5))


@pytest.mark.parametrize("kernels", ["fast", "plain"])
def test_4_bits_that_kernels_read_otherwise_fail(kernels, monkeypatch):
    """No runtime at hand has such kernels, so what one of both sets computes is turned round here."""
    file, expected = made(Quantize(int4_share=1)), []

    def wrong(given, inputs, threads):
        expected.append(given)
        outputs = outputs_of(given, inputs, threads)
        return outputs[:, ::-1] if given == file else outputs

    def plain(given, inputs, threads):
        for value in low_bits_batches(given, inputs, threads):
            yield lambda index, value=value: value(index)[:, ::-1]

    low_bits_batches = low_bits.batches
    monkeypatch.setattr(low_bits, *(("outputs_of", wrong) if kernels == "fast" else ("batches", plain)))
    with pytest.raises(CandidateFailed, match=f"4 bits compute something else: the runtime's {kernels} kernels are"):
        low_bits.expect_right(float32(), file, IMAGES, 1)


def test_a_model_that_gives_nothing_but_zeros_is_right_in_4_bits():
    model = network("plain")
    for layer in model.layers:
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    how = Quantize(int4_share=1)
    file = conversion.quantize(conversion.float32(model), "int8", IMAGES, how=how)
    assert not outputs_of(file, IMAGES, 1).any()


# --- proof


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_layers_with_other_bits_than_they_should_have_fail_the_proof(share):
    recipe = tiny.recipe("int8", quantize=Quantize(int4_share=share))
    found = file_of(share)
    proof.prove(found, recipe, [])

    def refused(change):
        weights = [dataclasses.replace(w, dtype=change(w)) for w in found.weights]
        with pytest.raises(CandidateFailed, match=r"int[48] did not take") as caught:
            proof.prove(dataclasses.replace(found, weights=weights), recipe, [])
        return caught.value.reason

    assert f"0.0% of the weights have it, {share:.1%} were asked for" in refused(lambda w: "int8")
    assert "first/Conv2D is int4" in refused(lambda w: "int4" if w.first else w.dtype)
    assert "depthwise is int4" in refused(lambda w: "int4" if "DEPTHWISE_CONV_2D" in w.ops else w.dtype)
    if share < 0.5:
        able = [w.name for w in found.weights if "DEPTHWISE_CONV_2D" not in w.ops and not w.first]
        assert "100.0% of the weights have it" in refused(lambda w: "int4" if w.name in able else w.dtype)


@functools.cache
def file_of(share):
    return inspect.read(made(Quantize(int4_share=share), kind="separable"))


@pytest.mark.parametrize(
    ("asked", "claimed"),
    [
        (Quantize(int4_share=0.1), Quantize(int4_share=1)),
        (Quantize(int4_share=1), Quantize(int4_share=0.1)),
        (None, Quantize(bits_by_layer={"scores": 4})),
        (Quantize(bits_by_layer={"scores": 4}), Quantize(bits_by_layer={"scores": 8})),
        (Quantize(int4_share=1), Quantize(int4_dense=True)),
        (Quantize(int4_dense=True), Quantize(int4_dense=True, int4_share=1)),
    ],
)
def test_what_was_not_done_is_refused(asked, claimed):
    found = inspect.read(made(asked, kind="separable"))
    with pytest.raises(CandidateFailed, match="did not take"):
        proof.prove(found, tiny.recipe("int8", quantize=claimed), [])


def test_names_are_of_whole_layers():
    every = low_bits.kernels(Graph(float32("separable")))
    assert [kernel.kind for kernel in low_bits.of_layer("apart", every)] == ["DEPTHWISE_CONV_2D", "CONV_2D"]
    assert low_bits.of_layer("apar", every) == low_bits.of_layer("Conv2D", every) == []
    assert low_bits.of_layer(every[0].name, every) == [every[0]]
