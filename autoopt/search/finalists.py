"""A search on a part of the training data, and what comes of it: the front is trained again on all of them."""

import dataclasses

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.stage_settings import Finetune
from autoopt.search.agenda import FINALIST
from autoopt.search.driver import Driver


def defaults(tuning: Finetune, items: int, there: int) -> Finetune:
    """Fine-tuning settings of a search.

    Args:
        tuning: of the task.
        items: that the search trains on; 0 for all.
        there: training items that there are.
    """
    return dataclasses.replace(tuning, items=items) if 0 < items < there else tuning


def chosen(results: Results) -> list[Recipe]:
    """What is to be trained again: the recipes of front and pick that saw a part of the data, on all of it."""
    pick = results.pick().candidate
    shown = {c.number: c for c in (*results.front(), *((pick,) if pick else ()))}
    return list(dict.fromkeys(whole for c in shown.values() if (whole := on_all(c)) is not None))


def on_all(candidate: Candidate) -> Recipe | None:
    """A candidate's recipe on all of the training data; None where it was that already."""
    recipe = candidate.recipe
    whole = dataclasses.replace(recipe, tune=_on_all(recipe.tune), finetune=_on_all(recipe.finetune))
    return None if whole == recipe else whole


def _on_all(training: Finetune | None) -> Finetune | None:
    return None if training is None else dataclasses.replace(training, items=0)


def _with_siblings(driver: Driver) -> list[Recipe]:
    """What is chosen, with the other schemes of the same training where the search tries those: they take seconds."""
    agenda, recipes = driver.agenda, chosen(driver.ledger.results())
    more = [each for recipe in recipes for each in agenda.siblings(recipe)] if agenda.config.search.siblings else []
    return list(dict.fromkeys([*recipes, *more]))


def train(driver: Driver) -> None:
    """Train the front again on all of the training data, also when the time is up: what is shipped has seen all."""
    before, driver.reason = driver.reason, None
    while driver.reason is None:
        recipes = [r for r in _with_siblings(driver) if r.digest not in driver.agenda.seen]
        if not recipes:
            break
        what = "a candidate" if len(recipes) == 1 else f"{len(recipes)} candidates"
        driver.view.note(f"training {what} of the front again, on all items")
        driver.make(recipes, FINALIST)
    driver.reason = driver.reason or before
