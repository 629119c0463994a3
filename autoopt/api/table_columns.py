"""The columns of a table: what each holds, over all of its rows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.api.table_reading import Table
from autoopt.errors import ConfigError
from autoopt.system import foreign_files

if TYPE_CHECKING:
    import pandas as pd

NUMBER, TRUTH, CATEGORY = "number", "truth", "category"
MOST = 10_000
"""Different texts in a column, beyond which it is free text or names, and no category."""
LARGEST = 1e37
"""What a number may be, with room for arithmetic in float32."""
WORDS = {"true": 1.0, "false": 0.0}
"""Texts, in small letters, that are read as a truth value."""
DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]+\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
    r"|\d{1,2}[ -][A-Za-z]{3,9}[ ,-]+\d{2,4}.*|[A-Za-z]{3,9} \d{1,2}, \d{4}.*"
)
"""A date, a time, or both."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: in the file.
        kind: `NUMBER`, `TRUTH` (a number that is 0 or 1) or `CATEGORY`.
        values: shape (rows,): numbers, NaN where one is missing; of a category its index, -1 where it is missing.
        categories: sorted.
    """

    name: str
    kind: str
    values: np.ndarray = field(repr=False)
    categories: tuple[str, ...] = ()

    @property
    def missing(self) -> np.ndarray:
        """Shape (rows,), dtype bool: where nothing is given."""
        found: np.ndarray = self.values < 0 if self.kind == CATEGORY else np.isnan(self.values)
        return found

    def rows(self, chosen: np.ndarray) -> "Column":
        """Make a column of these rows alone."""
        return Column(name=self.name, kind=self.kind, values=self.values[chosen], categories=self.categories)


def read(table: Table, path: Path) -> list[Column]:
    """All columns of a table that have a name.

    It is read twice, piece by piece: what a column holds is only known at its end, and only numbers are kept.

    Args:
        table: that is read.
        path: of the file, for messages.

    Raises:
        ConfigError: naming the first column that can't be taken.
    """
    kinds = _kinds(table, path)
    builders = {place: _Builder(name=table.names[place], kind=kind, path=path) for place, kind in kinds.items()}
    for piece in table.pieces():
        for place, builder in builders.items():
            builder.add(piece[place], table.decimal)
    return [builder.column() for builder in builders.values()]


def _kinds(table: Table, path: Path) -> dict[int, str]:
    """What each column with a name holds, by its place."""
    looked = {place: _Looked() for place, name in enumerate(table.names) if name}
    rows = 0
    for piece in table.pieces():
        rows += len(piece)
        foreign_files.expect_room(rows * 8 * len(looked), f"{path}: is too large")
        for place, column in looked.items():
            column.look(piece[place], table.decimal)
    if not rows:
        raise ConfigError(f"{path}: has no rows")
    return {place: column.kind(f"{path}: column {table.names[place]!r}") for place, column in looked.items()}


class _Looked:
    """What all values of a column have in common, as far as they were looked at."""

    def __init__(self) -> None:
        self.some = self.endless = self.nested = False
        self.numbers = self.truths = self.dates = True

    def look(self, cells: "pd.Series[Any]", decimal: str) -> None:
        """Look at some more values."""
        given = cells.dropna()
        if not len(given):
            return
        self.some = True
        kind = given.dtype.kind
        if kind in "biuf":
            self.dates = False
            self.truths &= kind == "b"
            self.numbers &= kind != "b"
            self.endless |= kind == "f" and bool((np.abs(given.to_numpy(np.float64)) > LARGEST).any())
            return
        if kind in "mM":
            self.numbers = self.truths = False
            return
        self.nested |= kind == "O" and any(isinstance(one, list | dict | tuple | np.ndarray) for one in given)
        if self.numbers:
            values = _numbers(given, decimal)
            self.numbers = not np.isnan(values).any()
            self.endless |= bool((np.abs(values) > LARGEST).any())
        if self.truths or self.dates:  # most columns are neither, as their first values show
            texts = _texts(given)
            self.truths = self.truths and bool(texts.str.lower().isin(list(WORDS)).all())
            self.dates = self.dates and bool(texts.str.fullmatch(DATE.pattern).all())

    def kind(self, where: str) -> str:
        """What the column holds.

        Raises:
            ConfigError: if that can't be made numbers of.
        """
        if not self.some:
            raise ConfigError(f"{where}: all values are missing; remove the column")
        if self.nested:
            raise ConfigError(f"{where}: holds lists or the like; give each of their values a column")
        if self.numbers:
            if self.endless:
                raise ConfigError(
                    f"{where}: holds infinity, or numbers over {LARGEST:.1g}; scale it, or leave those cells empty"
                )
            return NUMBER
        if self.truths:
            return TRUTH
        if self.dates:
            raise ConfigError(
                f"{where}: holds dates or times; make numbers of them, such as days since the first, month or weekday, as in "
                "the model's training, or remove the column"
            )
        return CATEGORY


@dataclass(kw_only=True)
class _Builder:
    """A column while it is read."""

    name: str
    kind: str
    path: Path
    parts: list[np.ndarray] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)

    def add(self, cells: "pd.Series[Any]", decimal: str) -> None:
        """Keep some more values."""
        if self.kind == CATEGORY:
            self.parts.append(self._codes(cells))
            return
        if cells.dtype.kind in "biuf":
            self.parts.append(cells.to_numpy(np.float64))
            return
        if self.kind == NUMBER:
            self.parts.append(_numbers(cells, decimal))
            return
        values = np.full(len(cells), np.nan)
        there = cells.notna().to_numpy()
        values[there] = _texts(cells[there]).str.lower().map(WORDS)
        self.parts.append(values)

    def _codes(self, cells: "pd.Series[Any]") -> np.ndarray:
        there = cells.notna().to_numpy()
        texts = _texts(cells[there])
        for text in texts.unique():
            self.known.setdefault(text, len(self.known))
        if len(self.known) > MOST:
            raise ConfigError(
                f"{self.path}: column {self.name!r}: more than {MOST:,} different texts, such as {next(iter(self.known))[:40]!r}: "
                "free text or names are no categories; remove the column"
            )
        codes = np.full(len(cells), -1, dtype=np.int32)
        codes[there] = texts.map(self.known)
        return codes

    def column(self) -> Column:
        """The column of all values, with its categories sorted."""
        values = np.concatenate(self.parts)
        self.parts.clear()
        if self.kind != CATEGORY:
            return Column(name=self.name, kind=self.kind, values=values)
        names = sorted(self.known)
        place = np.full(len(names) + 1, -1, dtype=np.int32)  # the last is what is missing
        for new, name in enumerate(names):
            place[self.known[name]] = new
        return Column(name=self.name, kind=self.kind, values=place[values], categories=tuple(names))


def _texts(given: "pd.Series[Any]") -> Any:
    return given.astype(str).str.strip()


def _numbers(cells: "pd.Series[Any]", decimal: str) -> np.ndarray:
    """The numbers that cells stand for; NaN where one stands for none."""
    import pandas as pd

    plain = cells.str.replace(",", ".", regex=False) if decimal == "," else cells
    found: np.ndarray = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64)
    return found


def listed(columns: Iterable[tuple[str, int]], most: int = 8) -> str:
    """Names with numbers, the largest first: `city 12, age 1`."""
    ranked: Sequence[tuple[str, int]] = sorted(columns, key=lambda pair: -pair[1])
    return ", ".join(f"{name} {number}" for name, number in ranked[:most]) + ", …" * (len(ranked) > most)
