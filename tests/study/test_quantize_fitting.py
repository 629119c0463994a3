"""What a target can't run of how integers are made is left out of a space; bits are named for layers that there are."""

import pytest
import tf_keras
import tiny

from autoopt import targets
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import bundled, load, parse
from autoopt.core.stage_settings import Quantize
from autoopt.errors import ConfigError
from autoopt.execution import bits_by_layer
from autoopt.models.opaque import ClosedModel
from autoopt.study.quantize_fitting import expect_layers, without_refused

layers = tf_keras.layers
VELA, MICRO, HOST = "vela:ethos-u55-128", "micro:64KB", "host"


def space(**quantize: object) -> SearchSpace:
    return parse({"scheme": ["int8_io", "float32"], "quantize": quantize}, "space.yaml")


@pytest.mark.parametrize(
    ("target", "quantize", "left"),
    [
        (VELA, {"int4_share": [0, 0.5, 1]}, {"int4_share": (0.0,)}),
        (VELA, {"int4_dense": [False, True], "keep": [0, 2]}, {"int4_dense": (False,), "keep": (0,)}),
        (VELA, {"bits_by_layer": [{}, {"conv": 4}, {"conv": 8}]}, {"bits_by_layer": ("", "conv=8")}),
        (VELA, {"int4_share": {"low": 0, "high": 1}}, {"int4_share": (0,)}),
        (MICRO, {"int4_share": [0, 0.5]}, {"int4_share": (0.0,)}),
        (MICRO, {"int4_share": [0, 0.5], "granularity": "tensor"}, None),
        (MICRO, {"int4_share": [0, 0.5], "granularity": ["channel", "tensor"]}, None),
        (MICRO, {"int4_share": 0.5, "granularity": ["channel", "tensor"]}, {"granularity": ("tensor",)}),
        (HOST, {"int4_share": [0, 0.5], "keep": [0, 2]}, None),
    ],
)  # fmt: skip
def test_what_a_target_refuses_is_left_out_and_it_is_said(target: str, quantize: object, left: object) -> None:
    given = parse({"scheme": ["int8_io", "float32"], "quantize": quantize}, "space.yaml")
    found, note = without_refused(given, targets.find(target))
    if left is None:
        assert (found, note) == (given, "")
        return
    assert isinstance(left, dict)
    for name, values in left.items():
        assert getattr(found.knobs[f"quantize.{name}"], "values", None) == values
        assert f"quantize.{name}" in note
    assert f"the target {target} can't run it" in note
    assert without_refused(found, targets.find(target)) == (found, "")


@pytest.mark.parametrize("name", sorted(bundled()))
@pytest.mark.parametrize("target", [VELA, MICRO, HOST])
def test_bundled_spaces_are_left_with_what_runs(name: str, target: str) -> None:
    found, _ = without_refused(load(bundled()[name]), targets.find(target))
    if "int8_io" in found.knobs["scheme"]:
        assert not targets.find(target).refuses("int8_io", found.quantize)


@pytest.mark.parametrize("quantize", [{"int4_share": 0.5}, {"bits_by_layer": {"conv": 4}}, {"int4_dense": True}])
def test_a_setting_with_nothing_left_is_refused_before_anything_is_made(quantize: dict[str, object]) -> None:
    [name] = quantize
    with pytest.raises(ConfigError) as caught:
        without_refused(space(**quantize), targets.find(VELA))
    assert str(caught.value).startswith(f"space.yaml: quantize.{name}: the target {VELA} can't run ")
    assert str(caught.value).endswith("leave the setting out")


def test_a_space_of_other_schemes_stays_as_it_is() -> None:
    given = parse({"scheme": ["float32"], "quantize": {"int4_share": 0.5}}, "space.yaml")
    assert without_refused(given, targets.find(VELA)) == (given, "")


def known() -> dict[str, bool] | None:
    stack = (
        layers.Conv2D(4, 3, name="conv"),
        layers.DepthwiseConv2D(3, name="depth"),
        layers.SeparableConv2D(4, 1, name="apart"),
    )
    return bits_by_layer.able(
        tiny.network(*stack, layers.BatchNormalization(), layers.Flatten(), layers.Dense(2, name="scores"))
    )


def test_layers_are_known_by_their_names() -> None:
    assert known() == {"conv": True, "depth": False, "apart": True, "scores": True}
    assert bits_by_layer.able(ClosedModel(file=b"", why="it is a file")) is None


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        ({"conv": 4, "depth": 8}, ""),
        ({"con": 4}, "the model has no layer 'con' with weights; did you mean 'conv'?"),
        ({"batch_normalization": 8}, "the model has no layer 'batch_normalization' with weights"),
        ({"depth": 4}, "depth: no kernel takes 4 bits for such a layer; leave it at 8"),
    ],
)
def test_bits_for_layers_that_are_not_there_are_refused(bits: dict[str, int], reason: str) -> None:
    asked = Recipe(scheme="int8", quantize=Quantize(bits_by_layer=bits))  # type: ignore[arg-type]
    given, plain = space(bits_by_layer=[{}, bits]), space()
    expect_layers(given, [asked], None)
    if not reason:
        expect_layers(given, [asked], known())
        return
    for one, recipes, where in ((given, [], "space.yaml: "), (plain, [Recipe(), asked], "")):
        with pytest.raises(ConfigError) as caught:
            expect_layers(one, recipes, known())
        assert str(caught.value).startswith(f"{where}quantize.bits_by_layer: {reason}")
