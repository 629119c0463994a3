"""What is tried beside the sampler's proposals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.parameters import Choice, Range
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
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


def test_corners_remove_channels_at_both_ends() -> None:
    wide = space(channels={"ratio": [0.25, 0.5, 0.75]})
    centre, smallest, mildest = initial_design.corners(wide, list(FULL["scheme"]), DEFAULTS)  # type: ignore[arg-type]
    assert (centre.channels, smallest.channels) == (Channels(ratio=0.5), Channels(ratio=0.75))
    assert (mildest.channels, mildest.prune) == (None, None)
    only = space(channels={"ratio": [0.25, 0.75]}, prune=None, cluster=None)
    assert [r.channels.ratio for r in initial_design.corners(only, ["int8"], DEFAULTS) if r.channels] == [
        0.75,
        0.75,
        0.25,
    ]


@pytest.mark.parametrize("scheme", ["float32", "int8", "qat_int8"])
def test_what_was_trained_for_its_own_scheme_alone_has_no_siblings(scheme: str) -> None:
    assert initial_design.siblings(Recipe(scheme=scheme), ["float32", "int8"]) == []


def test_corners_are_the_centre_and_the_ends_of_the_space() -> None:
    centre, smallest, mildest = initial_design.corners(space(), list(FULL["scheme"]), DEFAULTS, seed=5)  # type: ignore[arg-type]
    assert smallest.prune is not None
    assert smallest.cluster is not None
    assert (smallest.prune.sparsity, smallest.cluster.number, smallest.scheme) == (0.8, 8, "int8")
    assert mildest.prune is None
    assert mildest.cluster is not None
    assert (mildest.cluster.number, mildest.scheme) == (64, "float32")
    assert centre.prune is not None
    assert centre.cluster is not None
    assert (centre.prune.sparsity, centre.cluster.number, centre.scheme) == (0.6, 16, "dynamic")
    assert {r.finetune.epochs for r in (smallest, mildest) if r.finetune} == {4}
    assert smallest.finetune is not None
    assert smallest.finetune.learning_rate == pytest.approx(0.001)
    assert {r.seed for r in (centre, smallest, mildest)} == {5}


def test_where_there_are_levels_they_come_first_and_alone() -> None:
    wide = space(levels={"number": [5, 7, 15]}, channels={"ratio": [0.25, 0.5]})
    first, smallest, mildest = initial_design.corners(wide, list(FULL["scheme"]), DEFAULTS)  # type: ignore[arg-type]
    assert (first.levels, first.channels, first.prune, first.scheme) == (Levels(number=7), None, None, "int8")
    assert smallest.levels == Levels(number=5)
    assert None not in (smallest.channels, smallest.prune)
    assert (mildest.levels, mildest.channels, mildest.prune) == (Levels(number=15), None, None)


def test_without_clusters_the_mildest_end_prunes_least() -> None:
    _, _, mildest = initial_design.corners(space(cluster=None), ["float32", "int8"], DEFAULTS)
    assert mildest.prune is not None
    assert mildest.prune.sparsity == 0.3


def test_corners_keep_to_what_the_target_runs() -> None:
    assert {r.scheme for r in initial_design.corners(space(), ["dynamic"], DEFAULTS)} == {"dynamic"}
    assert initial_design.corners(space(), [], DEFAULTS) == []


def test_a_space_without_training_has_no_corners() -> None:
    assert initial_design.corners(space(prune=None, cluster=None, finetune=None), ["float32", "int8"], DEFAULTS) == []


@given(st.sampled_from([None, FULL["prune"], {"sparsity": [0.5]}]), st.sampled_from([None, FULL["cluster"]]))
def test_corners_lie_inside_the_space(prune: object, cluster: object) -> None:
    here = space(prune=prune, cluster=cluster)
    for recipe in initial_design.corners(here, [n for n in SCHEMES if n in here.knobs["scheme"]], DEFAULTS):
        assert here.parameters(recipe, DEFAULTS) is not None


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
