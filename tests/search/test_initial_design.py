"""What is tried beside the sampler's proposals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.parameters import Choice, Range
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Levels, Prune, Quantize
from autoopt.search import initial_design
from autoopt.search.initial_design import PATIENCE, Waiting, next_of

DEFAULTS = Finetune()
FULL = {
    "prune": {"sparsity": {"low": 0.3, "high": 0.8, "step": 0.1}, "schedule": ["polynomial", "constant"]},
    "cluster": {"number": [8, 16, 64], "initialisation": ["kmeans++", "linear"]},
    "scheme": ["float32", "dynamic", "int8", "qat_int8"],
    "finetune": {"epochs": {"low": 1, "high": 4}, "learning_rate": {"low": 0.0001, "high": 0.01, "log": True}},
}


def space(**changes: object) -> SearchSpace:
    return parse({k: v for k, v in (FULL | changes).items() if v is not None}, "test")


def test_siblings_share_the_training_and_nothing_else_differs() -> None:
    recipe = Recipe(prune=Prune(sparsity=0.5), cluster=Cluster(number=8), scheme="qat_int8", seed=3)
    found = initial_design.siblings(recipe, ["float32", "int8"])
    assert [r.scheme for r in found] == ["float32", "int8"]
    assert {(r.prune, r.cluster, r.finetune, r.seed) for r in found} == {
        (recipe.prune, recipe.cluster, recipe.finetune, 3)
    }
    assert [r.scheme for r in initial_design.siblings(found[0], ["float32", "int8"])] == ["int8"]


def test_siblings_are_quantized_as_the_space_or_the_recipe_says() -> None:
    recipe = Recipe(channels=Channels(ratio=0.5))
    by_space = space(quantize={"keep": [2, 3, 4], "granularity": "tensor"}).quantize
    assert by_space == Quantize(keep=3, granularity="tensor")
    [plain, whole] = initial_design.siblings(recipe, ["dynamic", "int8"], by_space)
    assert (plain.quantize, whole.quantize) == (None, by_space)
    own = Recipe(channels=Channels(ratio=0.5), scheme="int8", quantize=Quantize(keep=1))
    assert [r.quantize for r in initial_design.siblings(own, ["float32", "int8_io"], by_space)] == [
        None,
        Quantize(keep=1),
    ]


@pytest.mark.parametrize("scheme", ["float32", "int8", "qat_int8"])
def test_what_was_trained_for_its_own_scheme_alone_has_no_siblings(scheme: str) -> None:
    assert initial_design.siblings(Recipe(scheme=scheme), ["float32", "int8"]) == []


def test_what_was_trained_further_and_nothing_else_has_siblings() -> None:
    [found] = initial_design.siblings(Recipe(tune=DEFAULTS), ["float32", "int8"])
    assert found == Recipe(tune=DEFAULTS, scheme="int8")


@pytest.mark.parametrize(("number", "packs"), [(7, True), (15, True), (31, False)])
def test_few_levels_have_a_sibling_with_4_bits(number: int, packs: bool) -> None:
    by_space = space(quantize={"int4_share": [0, 0.5, 1]})
    assert (by_space.quantize, by_space.packed) == (Quantize(), Quantize(int4_share=1))
    recipe = Recipe(levels=Levels(number=number), scheme="int8")
    found = initial_design.siblings(recipe, ["dynamic", "int8"], by_space.quantize, by_space.packed)
    assert [(r.scheme, r.quantize) for r in found] == [
        ("dynamic", None),
        *([("int8", Quantize(int4_share=1))] if packs else []),
    ]
    assert space().packed is None


@given(st.lists(st.floats(0, 10), min_size=1, max_size=6))
def test_the_cheapest_goes_next(costs: list[float]) -> None:
    chosen, others = next_of([Waiting(proposal=cost) for cost in costs], float)
    assert chosen == min(costs)
    assert sorted([chosen, *(w.proposal for w in others)]) == sorted(costs)
    assert all(w.passed == 1 for w in others)


def test_nobody_waits_for_ever() -> None:
    pool = [Waiting(proposal=99.0)]
    for turn in range(PATIENCE + 1):
        pool.append(Waiting(proposal=1.0))
        chosen, pool = next_of(pool, float)
        assert chosen == (99.0 if turn == PATIENCE else 1.0)


def test_knobs_know_their_middle() -> None:
    assert Choice(values=(64, 8, 16)).middle() == 16
    assert Choice(values=("b", "a")).middle() == "b"
    assert Choice(values=(False, True)).middle() is False
    assert Range(low=0.3, high=0.8, step=0.1, log=False, whole=False).middle() == 0.6
    assert Range(low=1, high=100, step=1, log=True, whole=True).middle() == 10
    assert Range(low=0.0, high=1.0, step=None, log=False, whole=False).middle() == 0.5
