"""Reads tables piece by piece: a `.csv` of any usual delimiter, or a `.parquet`."""

import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autoopt.errors import ConfigError, one_line, retold
from autoopt.system import foreign_files

if TYPE_CHECKING:
    import pandas as pd

ROWS = 50_000
"""Rows that a piece of the table has at most."""
SAMPLE = 1 << 18
"""Characters at the beginning of a `.csv`, by which its delimiter is found."""
LINES = 100
"""Rows of those that are looked at."""
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
TEXTS, PARQUETS = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls the column of an index that has no name."""
WITH_COMMA, WITH_POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d+\.\d+")


class Table(Protocol):
    """A table in a file."""

    @property
    def names(self) -> list[str]:
        """Of the columns, in the file's order."""

    @property
    def decimal(self) -> str:
        """What stands between a number's whole part and its fraction."""

    @property
    def how(self) -> dict[str, str]:
        """How the file is read, in plain values."""

    def pieces(self) -> Iterator["pd.DataFrame"]:
        """The rows, some at a time; columns have the names of `names`, and are texts or numbers."""


def open_table(path: Path) -> Table:
    """The table in a file, which is looked at but not read yet.

    Raises:
        ConfigError: if it is none.
    """
    ending = path.suffix.lower()
    if ending not in (*TEXTS, *PARQUETS):
        kinds = ", ".join((*TEXTS, *PARQUETS))
        raise ConfigError(f"{path}: expected a table whose name ends in one of {kinds}; save it as .csv")
    foreign_files.expect_regular(path)
    table: Table = CsvTable(path) if ending in TEXTS else ParquetTable(path)
    names = table.names
    twice = [name for name, number in Counter(names).items() if number > 1 and name]
    if twice:
        raise ConfigError(f"{path}: several columns are called {twice[0]!r}; give each a name of its own")
    return table


@dataclass(frozen=True)
class CsvTable:
    """A table as text; all of its cells are given as texts.

    Attributes:
        path: of the file.
    """

    path: Path

    @property
    def names(self) -> list[str]:
        """See `Table`."""
        return [name.strip() for name in self._begin[1][0]]

    @property
    def delimiter(self) -> str:
        """What stands between cells: what parts the first rows into most cells, as many in each."""
        return self._begin[0]

    @cached_property
    def decimal(self) -> str:
        """See `Table`; a comma where numbers have one, none has a point, and the delimiter is another."""
        cells = [cell for row in self._begin[1][1:] for cell in row]
        commas = any(WITH_COMMA.fullmatch(cell.strip()) for cell in cells)
        points = any(WITH_POINT.fullmatch(cell.strip()) for cell in cells)
        return "," if self.delimiter != "," and commas and not points else "."

    @property
    def how(self) -> dict[str, str]:
        """See `Table`."""
        return {"delimiter": self.delimiter, "decimal": self.decimal}

    def pieces(self) -> Iterator["pd.DataFrame"]:
        """See `Table`."""
        import pandas as pd

        with retold(self._unread):
            reader = pd.read_csv(
                self.path,
                sep=self.delimiter,
                names=list(range(len(self.names))),
                header=0,
                index_col=False,
                dtype=str,
                skipinitialspace=True,
                encoding="utf-8-sig",
                chunksize=ROWS,
            )
        with reader:
            while (piece := self._next(reader)) is not None:
                yield piece

    def _next(self, reader: Any) -> Any:
        """The next piece; None after the last."""
        import pandas as pd

        with retold(self._unread), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more cells than names
            return next(reader, None)

    @cached_property
    def _begin(self) -> tuple[str, list[list[str]]]:
        """The delimiter, and the first rows."""
        with retold(self._unread):
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                text = stream.read(SAMPLE)
            whole = len(text) < SAMPLE
            found = {delimiter: _parted(text, delimiter, whole) for delimiter in DELIMITERS}
        delimiter = max(found, key=lambda one: _evenness(found[one]))
        rows = found[delimiter]
        if len(rows) < 2:
            raise ConfigError(f"{self.path}: expected a row of names and rows of values, got {len(rows)} rows")
        if len(rows[0]) < 2:
            raise ConfigError(
                f"{self.path}: found one column ({rows[0][0][:40]!r}); expected several, with one of "
                f"{', '.join(DELIMITERS.values())} between them"
            )
        if all(_is_number(cell) for cell in rows[0]):
            raise ConfigError(f"{self.path}: the first row holds numbers; expected the names of the columns there")
        return delimiter, rows

    def _unread(self, error: Exception) -> ConfigError:
        """Why the file can't be read."""
        if isinstance(error, UnicodeDecodeError):
            byte = error.object[error.start]
            return ConfigError(
                f"{self.path}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8, for instance with "
                "iconv -f WINDOWS-1252 -t UTF-8"
            )
        if isinstance(error, OSError):
            return ConfigError(f"{self.path}: can't read it ({error.strerror or error})")
        if type(error).__name__ == "ParserWarning":
            return ConfigError(f"{self.path}: rows have more cells than the {len(self.names)} names in the first row")
        return ConfigError(f"{self.path}: not a table ({one_line(error, 200) or type(error).__name__})")


@dataclass(frozen=True)
class ParquetTable:
    """A table in a `.parquet`, whose columns have types.

    Attributes:
        path: of the file.
    """

    path: Path

    @property
    def names(self) -> list[str]:
        """See `Table`."""
        names = [str(name).strip() for name in self._file.schema_arrow.names]
        return ["" if INDEX.fullmatch(name) else name for name in names]

    @property
    def decimal(self) -> str:
        """See `Table`."""
        return "."

    @property
    def how(self) -> dict[str, str]:
        """See `Table`."""
        return {}

    def pieces(self) -> Iterator["pd.DataFrame"]:
        """See `Table`."""
        with retold(self._unread):
            for batch in self._file.iter_batches(batch_size=ROWS):
                piece = batch.to_pandas(ignore_metadata=True)  # which would make an index of some columns
                piece.columns = list(range(len(self.names)))
                yield piece

    @cached_property
    def _file(self) -> Any:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ConfigError(
                f"{self.path}: a .parquet needs pyarrow, which is not installed; pip install 'autoopt[parquet]', or save the "
                "table as .csv"
            ) from error
        with retold(self._unread):
            return parquet.ParquetFile(self.path)

    def _unread(self, error: Exception) -> ConfigError:
        return ConfigError(f"{self.path}: not a table in Parquet's format ({one_line(error, 200)})")


def _parted(text: str, delimiter: str, whole: bool) -> list[list[str]]:
    """The first rows of a text, without empty ones; the last row of a text that goes on is cut, and left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = [row for row in itertools.islice(reader, LINES + 1) if any(cell.strip() for cell in row)]
    return rows[:LINES] if whole or len(rows) > LINES else rows[:-1]


def _evenness(rows: list[list[str]]) -> tuple[float, int]:
    """How well rows are parted: which share of them has as many cells as the first, and how many those are."""
    if not rows or len(rows[0]) < 2:
        return (0.0, 0)
    alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return (round(alike, 1), len(rows[0]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
