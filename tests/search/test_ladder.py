"""The first trainings: all techniques at once as far as the model bears it, else each by itself, and back where one breaks it."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import bundled, load, parse
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Levels, Prune, Quantize
from autoopt.search import ladder
from autoopt.search.ladder import Held

DEFAULTS = Finetune(epochs=7)
FULL: Mapping[str, object] = {
    "channels": {"ratio": [0.1, 0.3, 0.5]},
    "prune": {"sparsity": {"low": 0.3, "high": 0.8, "step": 0.1}, "schedule": ["polynomial", "constant"]},
    "levels": {"number": [5, 7, 15]},
    "cluster": {"number": [8, 16, 64], "initialisation": ["kmeans++", "linear"]},
    "scheme": ["float32", "dynamic", "int8", "qat_int8"],
    "quantize": {"int4_share": [0, 1]},
    "finetune": {"epochs": {"low": 2, "high": 6}, "learning_rate": {"low": 0.0001, "high": 0.01, "log": True}},
}


def space(**changes: object) -> SearchSpace:
    return parse({k: v for k, v in ({**FULL, **changes}).items() if v is not None}, "test")


def climb(here: SearchSpace, holds: Callable[[Recipe], bool], schemes: list[str] | None = None) -> list[Recipe]:
    """All recipes in the order in which they are begun, if each has ended before the next is asked for."""
    names = schemes if schemes is not None else [n for n in SCHEMES if n in here.knobs["scheme"]]
    became: dict[Recipe, Held] = {}
    while found := ladder.rungs(here, names, DEFAULTS, 5, lambda recipe: became.get(recipe, Held.NEW)):
        became[found[0]] = Held.GOOD if holds(found[0]) else Held.BROKEN
    return list(became)


def parts(recipe: Recipe) -> tuple[Channels | None, Prune | None, Cluster | None, Levels | None]:
    return recipe.channels, recipe.prune, recipe.cluster, recipe.levels


def harmless(recipe: Recipe) -> bool:
    """All techniques at once are too much, each by itself and with another one is not."""
    return recipe.prune is None


LEVELS = [Levels(number=number) for number in (7, 5, 15)]


def test_where_the_model_bears_all_techniques_single_ones_are_tried_once() -> None:
    found = climb(space(), lambda recipe: True)
    assert [parts(r) for r in found] == [
        (None, None, None, LEVELS[0]),
        (Channels(ratio=0.3), Prune(sparsity=0.5), None, LEVELS[0]),
        (Channels(ratio=0.5), Prune(sparsity=0.8), None, LEVELS[1]),
    ]
    assert {(r.scheme, r.seed, r.quantize) for r in found} == {("int8", 5, None)}


def test_where_it_does_not_each_is_tried_by_itself_and_channels_with_weights() -> None:
    found = climb(space(), harmless)
    assert [parts(r) for r in found[:2]] == [
        (None, None, None, LEVELS[0]),
        (Channels(ratio=0.3), Prune(sparsity=0.5), None, LEVELS[0]),
    ]
    assert {parts(r) for r in found[2:]} == {
        (Channels(ratio=0.1), Prune(sparsity=0.3), None, LEVELS[2]),
        (None, None, None, LEVELS[1]),
        (Channels(ratio=0.3), None, None, None),
        (Channels(ratio=0.5), None, None, None),
        (Channels(ratio=0.3), None, None, LEVELS[0]),
        (Channels(ratio=0.5), None, None, LEVELS[1]),
    }


def test_the_first_trainings_are_the_shortest() -> None:
    found = climb(space(), harmless)
    assert {r.finetune.epochs for r in found if r.finetune} == {2}
    assert {r.finetune.learning_rate for r in found if r.finetune and r.channels} == {0.001}


def test_nothing_goes_on_before_what_it_depends_on_has_ended() -> None:
    became: dict[Recipe, Held] = {}
    first = ladder.rungs(space(), ["int8"], DEFAULTS, 0, lambda r: became.get(r, Held.NEW))
    assert [r.prune is None for r in first] == [True, False]
    became |= dict.fromkeys(first, Held.BEGUN)
    beside = ladder.rungs(space(), ["int8"], DEFAULTS, 0, lambda r: became.get(r, Held.NEW))
    assert [parts(r) for r in beside] == [
        (Channels(ratio=0.3), None, None, None),
        (Channels(ratio=0.3), None, None, LEVELS[0]),
    ], "meanwhile single techniques are tried"
    became |= dict.fromkeys(beside, Held.BEGUN)
    assert ladder.rungs(space(), ["int8"], DEFAULTS, 0, lambda r: became.get(r, Held.NEW)) == []


def test_it_goes_harsher_while_the_model_holds_and_halfway_back_where_it_breaks() -> None:
    alone = space(channels=None, levels=None, cluster=None)

    def broken_from(limit: float) -> list[float]:
        found = climb(alone, lambda r: r.prune is not None and r.prune.sparsity < limit)
        return [r.prune.sparsity for r in found if r.prune]

    assert broken_from(0.9) == [0.5, 0.8]
    assert broken_from(0.8) == [0.5, 0.8, 0.7]
    assert broken_from(0.5) == [0.5, 0.3, 0.4]
    assert broken_from(0.3) == [0.5, 0.3]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, (None, None, None, Levels(number=7))),
        ({"levels": None}, (None, None, Cluster(number=16), None)),
        ({"levels": None, "cluster": None}, (None, Prune(sparsity=0.5), None, None)),
        ({"levels": None, "cluster": None, "prune": None}, (Channels(ratio=0.3), None, None, None)),
    ],
)
def test_what_costs_least_comes_first(changes: dict[str, object], first: tuple[object, ...]) -> None:
    assert parts(climb(space(**changes), lambda recipe: True)[0]) == first


def test_the_smallest_scheme_that_the_target_runs_is_taken() -> None:
    assert {r.scheme for r in climb(space(), lambda recipe: True, ["dynamic", "float32"])} == {"dynamic"}
    assert {r.scheme for r in climb(space(levels=None), lambda recipe: True, ["qat_int8"])} == {"qat_int8"}
    assert climb(space(), lambda recipe: True, []) == []


def test_a_space_without_techniques_has_none() -> None:
    bare = space(channels=None, prune=None, levels=None, cluster=None, finetune=None)
    assert climb(bare, lambda recipe: True) == []


def test_weights_have_8_bits_and_the_mildest_mix_first() -> None:
    found = climb(space(quantize={"int4_share": [1, 0.5], "keep": [0, 2, 4]}), lambda recipe: True)
    assert {r.quantize for r in found} == {Quantize(int4_share=0.5, keep=2)}


@given(st.sampled_from(sorted(bundled())), st.randoms(use_true_random=False))
def test_all_lie_inside_the_space_and_it_ends(name: str, chance: object) -> None:
    here = load(bundled()[name])
    found = climb(here, lambda recipe: chance.random() < 0.7)  # type: ignore[attr-defined]
    assert 1 <= len(found) <= 4 * 3
    assert all(here.parameters(recipe, DEFAULTS) is not None for recipe in found)
    assert not any(recipe.tune for recipe in found)


def test_all_begin_from_the_model_that_is_trained_further_where_that_is_settled() -> None:
    begun = space(tune={}).held("tune", True)
    found = climb(begun, lambda recipe: True)
    assert {r.tune for r in found} == {Finetune(epochs=4)}, "half of the epochs of a stage"
    assert [parts(r) for r in found] == [parts(r) for r in climb(space(), lambda recipe: True)]
    never = space(tune={}).held("tune", False)
    assert climb(never, lambda recipe: True) == climb(space(), lambda recipe: True)
