"""Which recipes take less from a model than others do: their milder relatives.

A night has thousands of recipes and millions of pairs of them, so one is compared with all others at once.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np

from autoopt.core import meaning
from autoopt.core.meaning import Milder
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import FIELDS

PRECISION = {"float32": 0, "float16": 0, "int16x8": 1, "dynamic": 1, "int8": 2, "int8_io": 2, "uint8_io": 2}
"""Post-training schemes, the mildest first."""
INTEGER = 2
"""Precision of schemes whose quality hangs on how their ranges are found, and of those whose weights may have 4 bits."""
NEVER = -1
"""Stands for a part that a recipe does not have."""

ORDERED = ("channels", "prune", "cluster", "levels", "finetune")
"""Parts of which a recipe that has none takes nothing; else which takes less follows from the meaning of their settings."""


def _named(part: str, *kinds: Milder) -> dict[str, Milder]:
    """Settings of a part that are compared in such a way."""
    found = {name: meaning.of(field).milder for name, field in FIELDS[part].items()}
    return {name: milder for name, milder in found.items() if milder in kinds}


ORDERS = {part: _named(part, Milder.LESS, Milder.MORE) for part in ORDERED}
"""By part the settings whose higher or lower values take less."""
ALIKE = {part: tuple(_named(part, Milder.SAME)) for part in ORDERED}
"""By part the settings that must be equal for two recipes to be compared."""


def milder(a: Recipe, b: Recipe) -> bool:
    """Whether `a` takes no more from the model than `b` does, in every technique, and trains it no less."""
    return bool(Relatives([a]).milder_than(b)[0])


class Relatives:
    """Recipes as columns of numbers, to be compared with one recipe at a time.

    Args:
        recipes: the first ones, in order; `add` appends more.
    """

    def __init__(self, recipes: list[Recipe] | None = None) -> None:
        self._codes: dict[Hashable, int] = {}
        self._rows = np.empty((16, len(COLUMNS)))
        self._number = 0
        for recipe in recipes or ():
            self.add(recipe)

    def add(self, recipe: Recipe) -> None:
        """Append a recipe."""
        if self._number == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._number] = self._row(recipe)
        self._number += 1

    def milder_than(self, recipe: Recipe) -> Any:
        """Which recipes take no more from the model than this one, and train it no less; bool, shape (recipes,)."""
        return _takes_less(self._columns(), dict(zip(COLUMNS, self._row(recipe), strict=True)))

    def harsher_than(self, recipe: Recipe) -> Any:
        """Which recipes this one is milder than; bool, shape (recipes,)."""
        return _takes_less(dict(zip(COLUMNS, self._row(recipe), strict=True)), self._columns())

    def _columns(self) -> dict[str, Any]:
        return dict(zip(COLUMNS, self._rows[: self._number].T, strict=True))

    def _row(self, recipe: Recipe) -> list[float]:
        row: list[float] = [
            self._code(recipe),
            self._code(recipe.scheme),
            SCHEMES[recipe.scheme].qat,
            INTEGER if recipe.quantize is not None else PRECISION.get(recipe.scheme, NEVER),
            self._code(recipe.quantize),
            recipe.trains,
            self._code(recipe.tune),
        ]
        for part in ORDERED:
            settings = getattr(recipe, part)
            if settings is None:
                row += [NEVER, *(0.0 for _ in ORDERS[part])]
            else:
                row.append(self._code((part, *(getattr(settings, name) for name in ALIKE[part]))))
                row += [getattr(settings, name) for name in ORDERS[part]]
        return row

    def _code(self, value: Hashable) -> int:
        """A number for a value, the same one for equal values."""
        return self._codes.setdefault(value, len(self._codes))


COLUMNS = (
    "recipe", "scheme", "qat", "precision", "quantize", "trains", "tune",
    *(f"{part}{name}" for part in ORDERED for name in ("", *(f".{name}" for name in ORDERS[part]))),
)  # fmt: skip


def _takes_less(a: dict[str, Any], b: dict[str, Any]) -> Any:
    """Whether `a` is milder than `b`; one of both holds arrays."""
    untouched = (a["trains"] == 0) & (a["precision"] == 0)
    aware = (a["qat"] == 1) | (b["qat"] == 1)
    integers = (a["precision"] == INTEGER) & (b["precision"] == INTEGER)
    stores_more = np.where(
        aware,
        (a["scheme"] == b["scheme"]) | untouched,
        np.where(integers, a["quantize"] == b["quantize"], a["precision"] <= b["precision"]),
    )
    # What begins from a better model may well be better, whatever is taken from it.
    found = (a["recipe"] != b["recipe"]) & stores_more & (a["tune"] == b["tune"])
    for part in ORDERED:
        both = a[part] == b[part]
        for name, milder in ORDERS[part].items():
            one, other = a[f"{part}.{name}"], b[f"{part}.{name}"]
            both = both & (one <= other if milder == Milder.LESS else one >= other)
        found = found & ((a[part] == NEVER) | both)
    return found
