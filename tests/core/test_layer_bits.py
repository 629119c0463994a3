"""Bits by layer have one way to be written, whichever way they are given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import layer_bits
from autoopt.core.recipe import Recipe
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Quantize
from autoopt.errors import ConfigError

NAMES = st.text(st.characters(exclude_characters="=,", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(
    lambda name: name == name.strip()
)


@given(st.dictionaries(NAMES, st.sampled_from(layer_bits.BITS), max_size=4))
def test_what_is_written_is_read_as_it_was_given(bits):
    text = layer_bits.written(bits)
    assert layer_bits.parse(text) == bits
    assert layer_bits.written(text) == layer_bits.written(dict(reversed(bits.items()))) == text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"conv": 2}, "quantize.bits_by_layer: conv: expected 4 or 8 bits, got 2"),
        ({"conv": True}, "conv: expected 4 or 8 bits, got True"),
        ({"conv": "four"}, "conv: expected 4 or 8 bits, got 'four'"),
        ({"a,b": 4}, "expected names of layers, without = and commas, got 'a,b'"),
        ({3: 4}, "expected names of layers, without = and commas, got 3"),
        ("conv", "expected layers and their bits, such as {conv2d_3: 4}, got 'conv'"),
        ("a=4, a=8", "a is named twice"),
        (4, "expected layers and their bits, such as {conv2d_3: 4}, got 4"),
    ],
)
def test_what_can_not_be_read_is_refused_in_one_line(given, reason):
    with pytest.raises(ConfigError) as caught:
        Quantize(bits_by_layer=given)
    assert reason in str(caught.value)
    with pytest.raises(ConfigError):
        parse({"scheme": "int8", "quantize": {"bits_by_layer": given}}, "space.yaml")


def test_a_space_takes_mappings_and_a_recipe_holds_text():
    space = parse({"scheme": "int8", "quantize": {"bits_by_layer": [{}, {"b": 4, "a": 8}, "a=8, b=4"]}}, "space.yaml")
    assert space.knobs["quantize.bits_by_layer"].values == ("", "a=8, b=4")
    recipe = Recipe(scheme="int8", quantize=Quantize(bits_by_layer={"b": 4, "a": 8}))
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.label() == "int8, a in 8 bits, b in 4 bits"
    assert Recipe(scheme="int8", quantize=Quantize(bits_by_layer={})) == Recipe(scheme="int8")


def test_recipes_of_before_keep_their_digests():
    assert Recipe(scheme="int8", quantize=Quantize(int4_dense=True)).to_json() == (
        '{"cluster":null,"finetune":null,"prune":null,"quantize":{"correct_bias":false,"equalize":false,'
        '"granularity":"channel","int4_dense":true,"keep":0,"keep_ends":false,"ranges":"minmax"},"scheme":"int8","seed":0}'
    )


def test_dynamic_has_bits_and_no_ranges():
    how = Quantize(int4_share=0.5, keep=2, ranges="mse", int4_dense=True)
    assert Recipe(scheme="dynamic", quantize=how).quantize == Quantize(int4_share=0.5)
    assert Recipe(scheme="dynamic", quantize=Quantize(int4_dense=True)).quantize is None
    assert Recipe(scheme="float16", quantize=how).quantize is None
