"""Which recipes take less from a model than others do: their milder relatives.

A night has thousands of recipes and millions of pairs of them, so one is compared with all others at once.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES

PRECISION = {"float32": 0, "float16": 0, "int16x8": 1, "dynamic": 1, "int8": 2, "int8_io": 2}
"""Post-training schemes, the mildest first."""
INTEGER = 2
"""Precision of schemes whose quality hangs on how their ranges are found."""
NEVER = -1
"""Stands for a part that a recipe does not have."""


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
        cut, prune, cluster, tuning = recipe.channels, recipe.prune, recipe.cluster, recipe.finetune
        return [
            self._code(recipe),
            NEVER if cut is None else self._code(dataclasses.replace(cut, ratio=0.5)),
            0.0 if cut is None else cut.ratio,
            NEVER if prune is None else self._code((prune.structure, prune.allocation)),
            0.0 if prune is None else prune.sparsity,
            NEVER if cluster is None else cluster.number,
            0.0 if cluster is None else cluster.per_channel,
            self._code(recipe.scheme),
            SCHEMES[recipe.scheme].qat,
            PRECISION.get(recipe.scheme, NEVER),
            self._code(recipe.quantize),
            recipe.trains,
            NEVER if tuning is None else tuning.epochs,
            0.0 if tuning is None else tuning.distillation,
        ]

    def _code(self, value: Hashable) -> int:
        """A number for a value, the same one for equal values."""
        return self._codes.setdefault(value, len(self._codes))


COLUMNS = (
    "recipe", "channels", "ratio", "prune", "sparsity", "clusters", "per_channel",
    "scheme", "qat", "precision", "quantize", "trains", "epochs", "distillation",
)  # fmt: skip


def _takes_less(a: dict[str, Any], b: dict[str, Any]) -> Any:
    """Whether `a` is milder than `b`; one of both holds arrays."""
    cuts_less = (a["channels"] == NEVER) | ((a["channels"] == b["channels"]) & (a["ratio"] <= b["ratio"]))
    prunes_less = (a["prune"] == NEVER) | ((a["prune"] == b["prune"]) & (a["sparsity"] <= b["sparsity"]))
    both_cluster = (a["clusters"] != NEVER) & (b["clusters"] != NEVER)
    finer = (a["clusters"] >= b["clusters"]) & (a["per_channel"] >= b["per_channel"])
    clusters_less = (a["clusters"] == NEVER) | (both_cluster & finer)
    untouched = (a["trains"] == 0) & (a["precision"] == 0)
    aware = (a["qat"] == 1) | (b["qat"] == 1)
    integers = (a["precision"] == INTEGER) & (b["precision"] == INTEGER)
    stores_more = np.where(
        aware,
        (a["scheme"] == b["scheme"]) | untouched,
        np.where(integers, a["quantize"] == b["quantize"], a["precision"] <= b["precision"]),
    )
    both_train = (a["epochs"] != NEVER) & (b["epochs"] != NEVER)
    longer = (a["epochs"] >= b["epochs"]) & (a["distillation"] >= b["distillation"])
    trains_more = (a["epochs"] == NEVER) | (both_train & longer)
    return (a["recipe"] != b["recipe"]) & cuts_less & prunes_less & clusters_less & stores_more & trains_more
