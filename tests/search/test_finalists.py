"""A search on a part of the data, on an engine that takes no time: what of the front is trained again on all of it."""

import dataclasses
from pathlib import Path

import pytest
from builders import candidate
from world import World, run, study, usual_accuracy

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.execution.artifact_store import Store
from autoopt.search import finalists
from autoopt.search.driver import Driver
from autoopt.search.stopping import ALL_DONE, INTERRUPTED

PART = Finetune(epochs=1, items=100)


def better_on_all(recipe: Recipe, split: str) -> float:
    """More data makes a model better."""
    part = recipe.finetune is not None and recipe.finetune.items > 0
    return usual_accuracy(recipe) - 0.02 * part


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def whole(recipe: Recipe) -> Recipe:
    assert recipe.finetune is not None
    return dataclasses.replace(recipe, finetune=dataclasses.replace(recipe.finetune, items=0))


def with_siblings(driver: Driver) -> set[Recipe]:
    """What is to be made: the front on all items, and all schemes of that training."""
    recipes = finalists.chosen(driver.ledger.results())
    return {*recipes, *(each for recipe in recipes for each in driver.agenda.siblings(recipe))}


def test_the_front_is_trained_again_on_all_items_beyond_the_trials(tmp_path: Path, store: Store) -> None:
    driver = study(tmp_path, World(store, better_on_all), trials=9, defaults=PART)
    searched = dict(run(driver))
    assert len(searched) == 9
    trained = [c for c in searched.values() if c.recipe.trains]
    assert trained
    assert all(c.recipe.finetune and c.recipe.finetune.items == 100 for c in trained)
    front = driver.ledger.results().front()
    expected = {whole(c.recipe) for c in front if c.recipe.trains}
    assert expected <= with_siblings(driver)
    finalists.train(driver)
    added = [c for number, c in driver.ledger.candidates.items() if number not in searched]
    assert {c.recipe for c in added} >= expected
    assert {c.origin for c in added} == {"finalist"}
    assert driver.reason == ALL_DONE
    left = [c for c in driver.ledger.results().front() if c.recipe.trains]
    assert left
    assert all(c.recipe.finetune and not c.recipe.finetune.items for c in left), "more data was better for all"
    finalists.train(driver)
    assert len(driver.ledger.candidates) == len(searched) + len(added), "once is enough"


def test_a_search_on_all_of_the_data_has_no_finalists(tmp_path: Path, store: Store) -> None:
    driver = study(tmp_path, World(store, better_on_all), trials=9)
    assert finalists.chosen(driver.ledger.results()) == []
    run(driver)
    finalists.train(driver)
    assert len(driver.ledger.candidates) == 9


def test_finalists_are_made_whatever_is_to_be_said_against_them(tmp_path: Path, store: Store) -> None:
    """Of one that is worse on all of the data it is known afterwards, and not guessed before."""

    def worse_on_all(recipe: Recipe, split: str) -> float:
        return usual_accuracy(recipe) - 0.3 * (recipe.finetune is not None and recipe.finetune.items == 0)

    driver = study(tmp_path, World(store, worse_on_all), trials=9, defaults=PART, hours=100)
    searched = len(run(driver))
    expected = with_siblings(driver)
    finalists.train(driver)
    assert {c.recipe for n, c in driver.ledger.candidates.items() if n >= searched} == expected
    assert not driver.ledger.skipped


def test_what_was_interrupted_is_taken_up_by_the_next_run(tmp_path: Path, store: Store) -> None:
    world = World(store, better_on_all)
    driver = study(tmp_path, world, trials=9, defaults=PART)
    searched = len(run(driver))
    expected = len(with_siblings(driver))
    driver.turned = lambda: setattr(driver, "reason", INTERRUPTED)
    finalists.train(driver)
    assert driver.reason == INTERRUPTED
    again = study(tmp_path, World(store, better_on_all), trials=9, defaults=PART)
    run(again)
    finalists.train(again)
    assert len(again.ledger.candidates) == searched + expected
    assert sum(c.origin == "finalist" for c in again.ledger.candidates.values()) == expected


def test_both_trainings_are_made_on_all_items() -> None:
    part, all_of_it = Finetune(epochs=1, items=100), Finetune(epochs=1)
    tuned, pruned = Recipe(tune=part), Recipe(tune=part, prune=Prune(sparsity=0.5), finetune=part)
    found = [finalists.on_all(candidate(1, recipe=recipe)) for recipe in (tuned, pruned)]
    assert found == [Recipe(tune=all_of_it), Recipe(tune=all_of_it, prune=Prune(sparsity=0.5), finetune=all_of_it)]
    assert [finalists.on_all(candidate(1, recipe=recipe)) for recipe in found if recipe] == [None, None]


def test_an_earlier_recipe_keeps_its_digest() -> None:
    assert "items" not in Recipe(finetune=Finetune(epochs=1)).to_json()
    assert finalists.defaults(Finetune(), 100, 100) == finalists.defaults(Finetune(), 0, 100) == Finetune()
    assert finalists.defaults(Finetune(), 99, 100).items == 99
    assert Finetune(epochs=2, items=20_000).label() == "2 epochs of 20,000 items at 0.001"
