"""Makes labels of a table's column: classes, or values to come close to, as the model's outputs ask."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoopt.api.table_columns import CATEGORY, TRUTH, Column
from autoopt.errors import ConfigError

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of all rows.

    Attributes:
        y: shape (rows,): class indices as int64, or values as float32.
        names: of the classes; empty for values, and where the column holds class indices itself.
    """

    y: np.ndarray = field(repr=False)
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> bool:
        """Whether they are classes."""
        return self.y.dtype.kind == "i"


def read(column: Column, model: Any, where: str) -> Labels:
    """The labels that a column holds for a model; none of them is missing.

    Args:
        column: of the rows that have a label.
        model: that was taken in.
        where: for messages.

    Raises:
        ConfigError: if they are not such as the model's outputs.
    """
    shape = tuple(model.outputs[0].shape)[1:]
    if len(shape) > 1:
        raise ConfigError(f"{where}: the model gives {' x '.join(map(str, shape))} values an item; a column holds one")
    outputs = int(shape[0]) if shape else 1
    different: Sequence[Any] = np.unique(column.values).tolist()
    if len(different) < 2:
        name = column.categories[int(different[0])] if column.kind == CATEGORY else f"{different[0]:g}"
        raise ConfigError(f"{where}: one class only ({name}); expected two or more")
    if column.kind == CATEGORY:
        return _classes(column, [column.categories[int(code)] for code in different], outputs, where)
    if column.kind == TRUTH:
        return _classes(column, ["false", "true"], outputs, where)
    whole = all(value == int(value) for value in different)
    if outputs == 1 and not (whole and len(different) == 2):
        return Labels(y=column.values.astype(np.float32))
    if not whole:
        raise ConfigError(
            f"{where}: expected classes, because the model has {outputs} outputs, got numbers with fractions from "
            f"{different[0]:g} to {different[-1]:g}"
        )
    if outputs > 1 and len(different) != outputs and different[0] >= 0 and different[-1] < outputs:
        return Labels(y=column.values.astype(np.int64))  # class indices, of which some do not occur
    return _classes(column, [str(int(value)) for value in different], outputs, where)


def _classes(column: Column, names: Sequence[str], outputs: int, where: str) -> Labels:
    if len(names) != (2 if outputs == 1 else outputs):
        shown = ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN)
        expected = "2, for a yes or no" if outputs == 1 else "as many as the model has outputs"
        raise ConfigError(
            f"{where}: {len(names)} classes ({shown}), but the model has {outputs} outputs; expected {expected}"
        )
    y = np.unique(column.values, return_inverse=True)[1].astype(np.int64)
    plain = list(names) == [str(number) for number in range(len(names))]
    return Labels(y=y, names=() if plain else tuple(names))
