"""Makes inputs of a table's columns: scaled numbers, categories as one value each or as their index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.api.table_columns import CATEGORY, WORDS, Column, listed
from autoopt.errors import ConfigError

ONE_HOT, ORDINAL = "one-hot", "ordinal"
AS_THEY_ARE, STANDARDISED = "as they are", "standardised"
BYTES: Mapping[str, tuple[float, float]] = {"x / 255": (0.0, 255.0), "x / 127.5 - 1": (127.5, 127.5)}
"""What is subtracted from whole numbers of 0 to 255, and what they are divided by then."""

CONSTANT = 1e-12
"""Share of its mean, up to which the spread of a column is rounding: it holds one value."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How categories become values.

    Attributes:
        name: `ONE_HOT` or `ORDINAL`.
        missing: whether a missing category is one of its own, where there is any.
    """

    name: str
    missing: bool = True

    def categories(self, column: Column) -> int:
        """How many categories a column has, with the one of what is missing."""
        return len(column.categories) + (self.missing and bool(column.missing.any()))

    def width(self, column: Column) -> int:
        """How many values a column becomes."""
        return self.categories(column) if self.name == ONE_HOT and column.kind == CATEGORY else 1


CODINGS = (Coding(name=ONE_HOT), Coding(name=ONE_HOT, missing=False), Coding(name=ORDINAL))
"""In the order in which they are tried."""


def fitting(columns: Sequence[Column], width: int, where: str) -> Coding:
    """The coding with which columns become so many values.

    Raises:
        ConfigError: if there is none, with what each column becomes.
    """
    for coding in CODINGS:
        if sum(coding.width(column) for column in columns) == width:
            return coding
    each = [(column.name, CODINGS[0].width(column)) for column in columns]
    numbers = sum(column.kind != CATEGORY for column in columns)
    hint = "; its columns of numbers alone are as many: remove the others" if numbers == width else ""
    ordinal = f", or {len(columns)} with a category as its index" if numbers < len(columns) else ""
    raise ConfigError(
        f"{where}: its columns become {sum(n for _, n in each)} values an item ({listed(each)}){ordinal}, but the model takes "
        f"{width}{hint}"
    )


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to make inputs of columns.

    Attributes:
        scaling: of numbers.
        order: indices of the columns, in the order in which their values stand.
        label: for people.
    """

    scaling: str
    order: tuple[int, ...]
    label: str


def ways(columns: Sequence[Column]) -> list[Way]:
    """The ways that a model may have been trained on: scalings, in the table's order or with the numbers in front."""
    numbers = [place for place, column in enumerate(columns) if column.kind != CATEGORY]
    others = [place for place, column in enumerate(columns) if column.kind == CATEGORY]
    scalings = [STANDARDISED, AS_THEY_ARE] if numbers else [AS_THEY_ARE]
    if numbers and all(_bytes(columns[place].values) for place in numbers):
        scalings += BYTES if any(np.nanmax(columns[place].values, initial=0) > 1 for place in numbers) else ()
    inorder = tuple(range(len(columns)))
    return [
        Way(scaling=scaling, order=order, label=f"{scaling}{'' if order == inorder else ', numbers first'}")
        for order in dict.fromkeys([inorder, (*numbers, *others)])
        for scaling in scalings
    ]


def _bytes(values: np.ndarray) -> bool:
    known = values[~np.isnan(values)]
    return bool((known >= 0).all() and (known <= 255).all() and (known == np.floor(known)).all())


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Makes values of the columns of a table, with what was learnt of the training rows.

    Attributes:
        steps: a plain mapping for each column, in the order of their values; see `learn`.
        width: values an item.
    """

    steps: Sequence[Mapping[str, Any]]
    width: int

    def encode(self, columns: Sequence[Column]) -> np.ndarray:
        """The values of rows: shape (rows, width), dtype float32.

        Args:
            columns: of these rows, in the table's order.
        """
        by_name = {column.name: column for column in columns}
        x = np.zeros((len(columns[0].values), self.width), np.float32)
        for step in self.steps:
            column, (first, last) = by_name[step["column"]], step["values"]
            if step["kind"] != CATEGORY:
                values = np.where(column.missing, step["missing"], column.values)
                x[:, first] = (values - step["subtract"]) / step["divide"]
                continue
            codes = np.where(column.missing, len(column.categories), column.values)
            if step["coding"] == ORDINAL:
                x[:, first] = codes
                continue
            there = np.flatnonzero(codes < last - first)  # what is missing may be no value of its own
            x[there, first + codes[there]] = 1
        return x


def learn(columns: Sequence[Column], train: np.ndarray, coding: Coding, way: Way) -> Encoder:
    """What has to be done to each column.

    Args:
        columns: of all rows.
        train: indices of the training rows, by which numbers are scaled, and missing ones filled.
        coding: of categories.
        way: scaling and order.
    """
    steps, place = [], 0
    for column in (columns[one] for one in way.order):
        width = coding.width(column)
        step: dict[str, Any] = {"column": column.name, "kind": column.kind, "values": [place, place + width]}
        if column.kind == CATEGORY:
            own = coding.categories(column) > len(column.categories)
            step |= {"coding": coding.name, "categories": list(column.categories)}
            step |= {"missing": len(column.categories) if own else None}
        else:
            step |= _scaling(column.values[train], way.scaling)
            step |= {"read_as": WORDS} if column.kind != "number" else {}
        steps.append(step)
        place += width
    return Encoder(steps=steps, width=place)


def _scaling(values: np.ndarray, scaling: str) -> dict[str, float]:
    """What stands for a missing number, and what is subtracted and divided by then."""
    known = values[~np.isnan(values)]
    middle = float(np.median(known)) if len(known) else 0.0
    subtract, divide = BYTES.get(scaling, (0.0, 1.0))
    if scaling == STANDARDISED:
        filled = np.where(np.isnan(values), middle, values)
        subtract, spread = float(filled.mean()), float(filled.std())
        divide = spread if spread > CONSTANT * abs(subtract) else 1.0
    return {"missing": middle, "subtract": subtract, "divide": divide}
