"""What comes first: the model itself, trained further, and rungs of the ladder; on an engine that takes no time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from world import SPACE, Told, World, run, study, usual_accuracy

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.execution.artifact_store import Store
from autoopt.study.search_options import Strategy

TUNED = {"tune": {}, **SPACE}
ALL, NO_SIBLINGS = Strategy(halving=False), Strategy(siblings=False, halving=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study" / "out" / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


def gaining(gain: float) -> Callable[[Recipe, str], float]:
    """Accuracy where training the model further brings so much."""
    return lambda recipe, split: usual_accuracy(recipe) + gain * (recipe.tune is not None)


def corners(found: dict[int, Candidate]) -> list[Candidate]:
    return [c for c in found.values() if c.origin == "corner"]


def test_the_model_itself_is_among_the_first_trainings_and_everything_begins_from_it_if_it_is_better(
    folder: Path, store: Store
) -> None:
    told = Told()
    found = run(study(folder, World(store, gaining(0.05)), told, space=TUNED, search=NO_SIBLINGS, trials=14))
    first, beside, *others = corners(found)
    assert (first.recipe.tune is not None, first.recipe.compresses, first.recipe.scheme) == (True, False, "float32")
    assert beside.recipe.compresses
    assert all(c.recipe.tune == first.recipe.tune for c in others)
    assert len(others) >= 2
    searched = [c.recipe for c in found.values() if c.origin == "search"]
    assert searched
    assert all(recipe.tune == first.recipe.tune for recipe in searched)
    [note] = [note for note in told.notes if "further" in note]
    assert (
        note
        == f"{first.name} shows that training the model further makes it better: all that follows begins from there"
    )


def test_it_is_held_against_the_untouched_model_in_its_own_scheme(folder: Path, store: Store) -> None:
    """Where a target takes whole numbers alone, these cost more than training brings."""
    costly = gaining(0.02)

    def accuracy(recipe: Recipe, split: str) -> float:
        return costly(recipe, split) - 0.03 * (recipe.scheme == "int8")

    space = {**TUNED, "scheme": ["int8"]}
    found = run(study(folder, World(store, accuracy), space=space, search=NO_SIBLINGS, trials=10))
    tuned, _, *others = corners(found)
    assert (tuned.recipe.scheme, tuned.recipe.compresses) == ("int8", False)
    assert others
    assert all(c.recipe.tune for c in others)


@pytest.mark.parametrize("gain", [-0.05, 0.0])
def test_nothing_begins_from_it_if_it_is_no_better(folder: Path, store: Store, gain: float) -> None:
    told = Told()
    found = run(study(folder, World(store, gaining(gain)), told, space=TUNED, search=NO_SIBLINGS, trials=14))
    assert [c.recipe.compresses for c in found.values() if c.recipe.tune] == [False]
    assert any("no gain beyond chance" in note for note in told.notes)


def test_what_it_begins_from_is_known_anew_after_an_interruption(folder: Path, store: Store) -> None:
    for trials in (6, 9, 14):
        found = run(study(folder, World(store, gaining(0.05)), space=TUNED, search=NO_SIBLINGS, trials=trials))
    late = [c.recipe for number, c in found.items() if number > 6 and c.recipe.trains]
    assert late
    assert all(recipe.tune for recipe in late)


def test_a_training_of_the_model_that_fails_is_done_without(folder: Path, store: Store) -> None:
    def fault(job, times):
        return "failed" if job.name == "tune" else None

    found = run(study(folder, World(store, gaining(0.05), fault), space=TUNED, search=NO_SIBLINGS, trials=12))
    assert [c.failed for c in found.values() if c.recipe.tune] == [True]
    assert len(corners(found)) >= 3, "two rungs beside it"


def test_the_sampler_waits_until_it_is_known_what_to_begin_from(folder: Path, store: Store) -> None:
    world = World(store, gaining(0.05))
    world.seconds = lambda job: 50.0 if job.name == "tune" else 1.0
    driver = study(folder, world, space=TUNED, search=NO_SIBLINGS, trials=14)
    found = run(driver)
    tuned = next(c for c in found.values() if c.recipe.tune)
    assert all(c.recipe.tune for c in found.values() if c.origin == "search")
    assert [c.origin for c in found.values() if c.number < tuned.number] == ["baseline", "scheme"]


def test_the_sampler_waits_for_the_first_training(folder: Path, store: Store) -> None:
    """Before, it would guess how much the model bears; and what it guesses follows from when it was begun."""
    world = World(store)
    world.seconds = lambda job: 50.0 if job.name == "prune" else 1.0
    found = run(study(folder, world, search=NO_SIBLINGS, trials=8))
    begun = [c.origin for c in sorted(found.values(), key=lambda c: c.number)]
    assert begun[:3] == ["baseline", "scheme", "corner"]
    assert begun.index("search") > 2
    at = [now for now, name in world.at if name == "prune"]
    assert at[1] >= at[0] + 50


def test_a_model_that_breaks_is_not_followed_further(folder: Path, store: Store) -> None:
    """Over half of the weights gone, half of the quality is."""

    def accuracy(recipe: Recipe, split: str) -> float:
        sparsity = 0.0 if recipe.prune is None else recipe.prune.sparsity
        return 0.9 if sparsity <= 0.55 else 0.4

    found = run(study(folder, World(store, accuracy), search=ALL, trials=20))
    tried = [c.recipe.prune.sparsity for c in corners(found) if c.recipe.prune]
    assert tried in ([0.5, 0.9], [0.5, 0.9, 0.7]), "the sampler may have tried the step back itself"
    siblings = {c.recipe.prune.sparsity for c in found.values() if c.origin == "sibling" and c.recipe.prune}
    assert siblings <= {
        0.1,
        0.5,
        *(c.recipe.prune.sparsity for c in found.values() if c.origin == "search" and c.recipe.prune),
    }


def test_siblings_have_no_siblings_of_their_own(folder: Path, store: Store) -> None:
    space = {"levels": {"number": [7, 15]}, "scheme": ["dynamic", "int8"], "quantize": {"int4_share": [0, 1]}}
    driver = study(folder, World(store), space=space, search=ALL, trials=12)
    siblings = [c for c in run(driver).values() if c.origin == "sibling"]
    assert {c.recipe.quantize is not None for c in siblings if c.recipe.scheme == "int8"} == {True}
    before = driver.agenda.proposals.enqueued
    for one in siblings:
        driver.agenda.enqueue_siblings(one)
    assert driver.agenda.proposals.enqueued == before
