"""A few recipes that together hold every value of a space's lists."""

from typing import Any

import builders  # noqa: F401 - its profile for hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.api import covering
from autoopt.core.parameters import Choice
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import bundled, load, parse
from autoopt.core.stage_settings import COMPRESSING, Finetune


def held(space: SearchSpace, recipes: list[Recipe]) -> set[tuple[str, Any]]:
    """Every pair of a knob and its value among recipes, as far as they apply."""
    found: set[tuple[str, Any]] = set()
    for recipe in recipes:
        given = space.parameters(recipe, Finetune())
        assert given is not None
        found |= set(given.items())
    return found


def listed(space: SearchSpace) -> set[tuple[str, Any]]:
    """Every pair of a knob that is a list of several values, and one of them."""
    lists = {name: knob.values for name, knob in space.knobs.items() if isinstance(knob, Choice) and knob.count > 1}
    return {(name, value) for name, values in lists.items() for value in values}


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_spaces_are_covered_by_few_recipes(name: str) -> None:
    space = load(bundled()[name])
    recipes = covering.recipes(space, Finetune())
    assert listed(space) <= held(space, recipes)
    assert len(recipes) <= 10  # clusters and levels exclude each other
    assert recipes == covering.recipes(space, Finetune())


@given(st.data())
def test_every_value_that_applies_is_covered(data: st.DataObject) -> None:
    """Values that mean something under others alone are found too."""
    several = st.booleans()
    values: dict[str, Any] = {
        "scheme": data.draw(st.sampled_from([["float32", "int8"], ["float32"], ["qat_int8", "int8"]]))
    }
    if data.draw(several):
        values["prune"] = {
            "sparsity": data.draw(st.sampled_from([[0.3, 0.5], 0.5])),
            "structure": ["unstructured", "2:4", "1x4"],
            "schedule": ["constant", "polynomial"],
            "end": [0.4, 0.7],
            "allocation": ["uniform", "global", "sensitivity"],
        }
    if data.draw(several):
        values["cluster"] = {"number": [8, 16], "optional": data.draw(several)}
    values["finetune"] = {"distillation": [0, 0.5], "temperature": [2, 4]}
    values["quantize"] = {"ranges": ["minmax", "mse"], "equalize": [False, True]}
    space = parse(values, "space.yaml")
    found, wanted = held(space, covering.recipes(space, Finetune())), listed(space)
    trains = any(part in values for part in ("prune", "cluster")) or "qat_int8" in values["scheme"]
    clustered = "cluster" in values and False not in space.knobs["cluster"]
    wanted -= {pair for pair in wanted if pair[0].startswith("finetune.") and not trains}
    wanted -= {pair for pair in wanted if pair[0].startswith("quantize.") and "int8" not in values["scheme"]}
    wanted -= {("quantize.equalize", value) for value in (False, True) if clustered}
    assert {pair for pair in wanted if pair[0] not in COMPRESSING} <= found


def test_of_a_long_list_of_numbers_ends_and_middle_are_tried() -> None:
    assert covering.told(Choice(values=(0, 1, 2, 3, 4, 5, 6))) == (0, 3, 6)
    assert covering.told(Choice(values=("a", "b", "c", "d", "e", "f"))) == ("a", "b", "c", "d", "e", "f")
