"""What to try beside what the sampler proposes: recipes that share their training with one that is done.

Training is what a search pays for, so these cost next to nothing.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoopt.core.four_bits import LEVELS
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_RANGES
from autoopt.core.stage_settings import Quantize

T = TypeVar("T")

POOL = 3
"""Proposals of the sampler that wait, of which the one with most of its training done already is tried first."""
PATIENCE = 4
"""A proposal that others went before so often is next, whatever it costs."""


def siblings(
    recipe: Recipe, schemes: Iterable[str], quantize: Quantize | None = None, packed: Quantize | None = None
) -> list[Recipe]:
    """Recipes that share all training with one that is done.

    Args:
        recipe: whose models are trained.
        schemes: post-training ones.
        quantize: how those with ranges are made, where the recipe does not say.
        packed: the same with as many weights in 4 bits as can be: for models on few levels, which lose nothing by it.
    """
    if not (recipe.compresses or recipe.tune):  # nothing was trained, or only for its own scheme
        return []
    how, names = recipe.quantize or quantize, list(schemes)
    found = [dataclasses.replace(recipe, scheme=name, quantize=how) for name in names]
    if packed is not None and recipe.levels is not None and recipe.levels.number <= LEVELS:
        found += [dataclasses.replace(recipe, scheme=name, quantize=packed) for name in names if name in BY_RANGES]
    return [sibling for sibling in dict.fromkeys(found) if sibling != recipe]


@dataclass(frozen=True, kw_only=True)
class Waiting(Generic[T]):
    """A proposal that waits for its turn.

    Attributes:
        proposal: of the sampler.
        passed: how many went before it since it was made.
    """

    proposal: T
    passed: int = 0


def next_of(pool: Sequence[Waiting[T]], work: Callable[[T], float]) -> tuple[T, list[Waiting[T]]]:
    """The proposal with the least work to do, but nobody waits for ever.

    Args:
        pool: one or more, the oldest first.
        work: what a proposal costs, in any unit; of equal ones the oldest goes first.

    Returns:
        the chosen one, and the others.
    """
    oldest = pool[0]
    alone = len(pool) == 1  # then its work, which has to be read from the store, is of no interest
    chosen = oldest if alone or oldest.passed >= PATIENCE else min(pool, key=lambda waiting: work(waiting.proposal))
    others = [dataclasses.replace(w, passed=w.passed + 1) for w in pool if w is not chosen]
    return chosen.proposal, others
