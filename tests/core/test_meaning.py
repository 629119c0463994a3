"""What settings mean stands at their fields: every one has a meaning, and labels tell settings apart."""

import dataclasses

import pytest
from builders import recipes
from hypothesis import given

from autoopt.core import meaning
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import PARTS, Finetune, Prune, applies, told

FIELDS = [(part, field) for part, kind in PARTS.items() for field in dataclasses.fields(kind)]


def test_every_setting_has_a_meaning_and_a_label_of_its_own() -> None:
    labels = [meaning.of(field).label for part, field in FIELDS if part != "tune"]  # a second training
    assert all(labels)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(("part", "field"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_what_is_rare_or_quiet_has_a_default(part: str, field: "dataclasses.Field[object]") -> None:
    means = meaning.of(field)
    assert not (means.rare or means.quiet) or field.default is not dataclasses.MISSING


def test_what_does_not_apply_is_not_told() -> None:
    assert "prune end" in told(Prune(sparsity=0.5))
    assert "prune end" not in told(Prune(sparsity=0.5, schedule="constant"))
    assert told(Prune(sparsity=0.1, structure="2:4"))["prune sparsity"] == "50 %", "it follows, and is told"
    assert "temperature" not in told(Finetune())
    assert not applies("prune", "sparsity", {"structure": "2:4"})
    assert applies("prune", "allocation", {})


@given(recipes)
def test_quiet_settings_stand_in_json_where_they_are_not_as_usual(recipe: Recipe) -> None:
    for part, field in FIELDS:
        settings = recipe.to_dict().get(part)
        if settings is not None and meaning.of(field).quiet:
            assert (field.name in settings) == (getattr(getattr(recipe, part), field.name) != field.default)
