"""A few recipes that together hold every value of a space's lists, so that each is tried once before a night."""

import random
from collections.abc import Mapping

from autoopt.core.parameters import Choice, Knob, Value
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import OPTIONAL, Finetune

DRAWS = 100
"""Recipes of which the one with the most values not tried yet is taken."""
LONG = 5
"""Longer lists of numbers are tried at their ends and their middle alone."""
USED = 0.75
"""How often a technique is used where its value is open: most recipes are to have several, and some to lack each."""

Pair = tuple[str, Value]


def recipes(space: SearchSpace, defaults: Finetune, seed: int = 0) -> list[Recipe]:
    """Recipes that cover a space; each holds many values at once.

    Args:
        space: of the study.
        defaults: fine-tuning settings where the space names none.
        seed: of the recipes.

    Returns:
        as few as a greedy choice among random ones finds; always the same for the same space.
    """
    wanted = {name: told(knob) for name, knob in space.knobs.items()}
    left = {(name, value) for name, values in wanted.items() for value in values}
    rng, found = random.Random(0), dict[Recipe, None]()
    while left:
        drawn = [_draw(space, wanted, left, defaults, seed, rng) for _ in range(DRAWS)]
        recipe, held = max(drawn, key=lambda pair: len(pair[1] & left))
        if not held & left:  # what is left never applies, such as a temperature without distillation
            break
        left -= held
        found[recipe] = None
    return list(found)


def told(knob: Knob) -> tuple[Value, ...]:
    """The values of a knob that are to be tried: all of a list, the ends of a range."""
    if not isinstance(knob, Choice):
        return tuple(dict.fromkeys(knob.extremes()))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in knob.values)
    if numbers and len(knob.values) > LONG:
        ordered = sorted(knob.values)
        return (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    return knob.values


def _draw(
    space: SearchSpace,
    wanted: Mapping[str, tuple[Value, ...]],
    left: set[Pair],
    defaults: Finetune,
    seed: int,
    rng: random.Random,
) -> tuple[Recipe, set[Pair]]:
    """A recipe at random, with values that are left where there are some; and the pairs that it holds."""
    held: set[Pair] = set()

    def choose(name: str, knob: Knob) -> Value:
        values = wanted[name]
        if name in OPTIONAL:
            value: Value = (rng.random() < USED) if len(values) > 1 else values[0]
        else:
            fresh = [value for value in values if (name, value) in left]
            value = rng.choice(fresh or values)
        held.add((name, value))
        return value

    return space.build(choose, defaults, seed), held
