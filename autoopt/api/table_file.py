"""A table in a file, from which a study is made: a row an item, of whose columns one holds the labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.api import splitting, table_columns, table_encoding, table_labels, table_reading
from autoopt.api.given_data import CLASS_NAMES, PARTS, Filled, Progress, Say
from autoopt.api.row_file import expect_disk
from autoopt.api.table_columns import Column
from autoopt.api.table_encoding import AS_THEY_ARE, Coding, Encoder
from autoopt.api.table_labels import Labels
from autoopt.api.table_reading import Table
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.execution import likely_scaling
from autoopt.execution.likely_scaling import Choice
from autoopt.models.opaque import ClosedModel
from autoopt.study.layout import PREPARATION

SPLIT = '''\
def split(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a split, made of the table as `preparation.json` says."""
    x = np.load(HERE / f"x_{part}.npy", mmap_mode="r", allow_pickle=False)
    return x, np.load(HERE / f"y_{part}.npy", allow_pickle=False)


'''
"""A function of `task.py`."""


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A `.csv` or `.parquet`.

    Attributes:
        path: of the file.
        label: name of the column with the labels.
    """

    path: Path
    label: str

    def fill(self, folder: Path, model: Any, say: Say, progress: Progress) -> Filled:
        """Write the rows into a study's folder as arrays; see `GivenData`."""
        table = table_reading.open_table(self.path)
        self._expect_label(table)
        item = _item(model, self.path)
        columns, labels = self._read(table, model, say)
        coding = table_encoding.fitting(columns, int(np.prod(item, dtype=np.int64)), str(self.path))
        parts = self._split(labels, say)
        encoder, choice = self._choose(model, columns, labels, parts["train"], coding, item, say)
        expect_disk(folder, len(labels.y) * (encoder.width * 4 + 8) * 2, "writing the rows and checking the study")
        for part, rows in parts.items():
            x = encoder.encode([column.rows(rows) for column in columns])
            np.save(folder / f"x_{part}.npy", x.reshape(len(rows), *item))
            np.save(folder / f"y_{part}.npy", labels.y[rows])
        if labels.names:
            (folder / CLASS_NAMES).write_text(json.dumps(labels.names, ensure_ascii=False), encoding="utf-8")
        told = {
            "kind": "table",
            "read": table.how,
            "label": {"column": self.label, "classes": list(labels.names) or None},
            "inputs": list(item),
            "numbers": choice.way,
            "columns": encoder.steps,
        }
        (folder / PREPARATION).write_text(json.dumps(told, indent=2, ensure_ascii=False), encoding="utf-8")
        return Filled(
            look=choice.look,
            imports=("import json",) if labels.names else (),
            functions=SPLIT,
            splits={part: f'split("{part}")' for part in PARTS},
            class_names=f'tuple(json.loads((HERE / "{CLASS_NAMES}").read_text(encoding="utf-8")))' * bool(labels.names),
        )

    def _expect_label(self, table: Table) -> None:
        names = [name for name in table.names if name]
        if self.label not in names:
            raise ConfigError(f"{self.path}: no column {self.label!r} for the labels; {nearest(self.label, names)}")
        if len(names) < 2:
            raise ConfigError(f"{self.path}: has no other columns than {self.label!r}, so there are no inputs")

    def _read(self, table: Table, model: Any, say: Say) -> tuple[list[Column], Labels]:
        """The columns of inputs and the labels, of all rows that have one."""
        columns = {column.name: column for column in table_columns.read(table, self.path)}
        unnamed = [str(place) for place, name in enumerate(table.names, 1) if not name]
        if unnamed:
            say(f"{self.path}: left out column {', '.join(unnamed)}, which has no name, as an index that pandas writes")
        label = columns.pop(self.label)
        lost = int(label.missing.sum())
        rows = np.flatnonzero(~label.missing)
        if lost:
            say(f"{self.path}: left out {lost:,} of {len(label.values):,} rows, in which {self.label!r} is missing")
        return [column.rows(rows) for column in columns.values()], table_labels.read(
            label.rows(rows), model, f"{self.path}: column {self.label!r}"
        )

    def _split(self, labels: Labels, say: Say) -> dict[str, np.ndarray]:
        """The rows of each split: all of them but train are split off, of each class alike where there are classes."""
        parts = {"train": np.arange(len(labels.y))}
        for part in PARTS[1:]:
            rows, give = parts["train"], "give more rows"
            if labels.classes:
                stay, taken = splitting.by_class(labels.y[rows], str(self.path), part, give)
            else:
                stay, taken = splitting.at_random(len(rows), str(self.path), part, give)
            parts |= {"train": rows[stay], part: rows[taken]}
            how = ", of each class alike" if labels.classes else ""
            say(splitting.told(f"{self.path}", len(taken), len(rows), part, how))
        return parts

    def _choose(
        self,
        model: Any,
        columns: list[Column],
        labels: Labels,
        train: np.ndarray,
        coding: Coding,
        item: tuple[int, ...],
        say: Say,
    ) -> tuple[Encoder, Choice]:
        """The way to make inputs of the columns with which the model is best on some of the training rows."""
        chosen = train[np.sort(np.random.default_rng(0).permutation(len(train))[: likely_scaling.ITEMS])]
        some = [column.rows(chosen) for column in columns]
        ways = {way.label: way for way in table_encoding.ways(columns)}
        encoders = {name: table_encoding.learn(columns, train, coding, way) for name, way in ways.items()}
        inputs = {name: one.encode(some).reshape(-1, *item) for name, one in encoders.items()}
        itself = _normalizing(model)
        raw = next((name for name, way in ways.items() if way.scaling == AS_THEY_ARE), "")
        where = f"{self.path}: train"
        choice = likely_scaling.choose(model, inputs, labels.y, chosen, where, raw if itself else "")
        say(f"{self.path}: {_told(columns, coding, choice, itself)}")
        return encoders[choice.way], choice


def _item(model: Any, path: Path) -> tuple[int, ...]:
    """The shape of an item.

    Raises:
        ConfigError: if the model takes no fractions.
    """
    tensor = model.inputs[0]
    if tensor.dtype not in ("float32", "float16", "float64"):
        raise ConfigError(
            f"{path}: expected a model whose input takes fractions, for a table, got {getattr(tensor.dtype, 'name', tensor.dtype)}; give --data"
        )
    return tuple(int(size) for size in tuple(tensor.shape)[1:])


def _normalizing(model: Any) -> str:
    """The name of the layer by which a model standardises its inputs itself, or ``."""
    if isinstance(model, ClosedModel):
        return ""
    return next((layer.name for layer in model.layers if type(layer).__name__ in ("Normalization", "Rescaling")), "")


def _told(columns: list[Column], coding: Coding, choice: Choice, itself: str) -> str:
    """Say in words what is done to the columns."""
    missing = [(column.name, int(column.missing.sum())) for column in columns if column.missing.any()]
    categories = [(column.name, coding.width(column)) for column in columns if column.kind == table_columns.CATEGORY]
    told = [f"numbers {choice.way} ({choice.told})"]
    if itself:
        told.append(f"the model scales its inputs itself ({itself})")
    if categories:
        told.append(f"categories {coding.name} ({table_columns.listed(categories)})")
    if missing:
        filled = "numbers with the median of train, categories as " + ("one of their own" if coding.missing else "none")
        told.append(f"missing values filled ({table_columns.listed(missing)}): {filled}")
    return f"{'; '.join(told)}; written to {PREPARATION}"
