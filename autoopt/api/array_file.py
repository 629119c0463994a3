"""Arrays in an `.npz`, from which a study is made as they are; `task.py` scales them where the model was trained on scaled ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.api import splitting
from autoopt.api.given_data import PARTS, Filled, Progress, Say
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.execution import criteria, input_scaling, likely_scaling
from autoopt.execution.likely_scaling import Choice
from autoopt.models import user_data
from autoopt.models.task import Split
from autoopt.system import foreign_files

KEYS = ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test", "class_names")
OTHERS = (".csv", ".tsv", ".parquet")
"""How the names of tables end."""
FILE = "data.npz"
"""In the study's folder."""
AS_THEY_ARE = "x"
SCALED = '''\
def scaled(x: np.ndarray) -> np.ndarray:
    """Inputs of shape (items, ...) as the model takes them."""
    x = x.astype(np.float32)
    return {way}


'''
"""A function of `task.py`."""


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """An `.npz` with the arrays named in `KEYS`.

    Attributes:
        path: of the file.
    """

    path: Path

    def fill(self, folder: Path, model: Any, say: Say, progress: Progress) -> Filled:
        """Write the arrays into a study's folder; see `GivenData`."""
        arrays = read(self.path)
        split(arrays, say)
        where = f"{self.path}: train"
        train = Split(inputs={model.input_names[0]: arrays["x_train"]}, labels=arrays["y_train"])
        user_data.check_split(train, where, model)
        choice = _scaling(model, train, where)
        plain = choice.way == AS_THEY_ARE
        if not plain:
            say(f"{self.path}: task.py gives the model {choice.way} in place of x ({choice.told})")
        np.savez(folder / FILE, **arrays)  # type: ignore[arg-type]
        inputs = 'data["x_{part}"]' if plain else 'scaled(data["x_{part}"])'
        return Filled(
            look=choice.look,
            functions="" if plain else SCALED.format(way=choice.way),
            begin=f'    data = np.load(HERE / "{FILE}", allow_pickle=False)\n',
            splits={part: f'({inputs.format(part=part)}, data["y_{part}"])' for part in PARTS},
            class_names='tuple(str(name) for name in data["class_names"])' if "class_names" in arrays else "",
        )


def _scaling(model: Any, train: Split, where: str) -> Choice:
    """How the model wants values to be scaled: as they are, unless another usual way is clearly better.

    Arrays are mostly made for a model, but those that data sets are published with hold pixels of 0 to 255.
    """
    [x] = train.inputs.values()
    if model.inputs[0].dtype in ("float32", "float16") and x.dtype.kind in "fiu":
        chosen = train.chosen(input_scaling.ITEMS)
        few = x[chosen].astype(np.float32)
        ways = {AS_THEY_ARE: few, **{way: scale(few) for way, scale in input_scaling.usual(few).items()}}
        found = likely_scaling.choose(model, ways, train.labels, chosen, where, prefer=AS_THEY_ARE)
        if found.way != AS_THEY_ARE:
            return found
    look = likely_scaling.look(model, train.labels, train.some(criteria.SEEN), where)
    return Choice(way=AS_THEY_ARE, look=look, told="")


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a data file.

    Raises:
        ConfigError: if it is no `.npz`, or lacks what is needed.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: expected an .npz, got a folder; pictures in folders are given with --images")
    if path.suffix.lower() in OTHERS:
        raise ConfigError(f"{path}: expected an .npz, got a table; it is given with --table, and --label COLUMN")
    arrays = foreign_files.arrays(path, str(path))
    for name, array in arrays.items():
        if name not in KEYS:
            raise ConfigError(f"{path}: unknown array {name!r}; {nearest(name, KEYS)}")
        if array.ndim == 0:
            raise ConfigError(f"{path}: {name}: expected an array with items first, got {array.item()!r}")
    for part in PARTS:
        x, y = f"x_{part}", f"y_{part}"
        if part == "train" and x not in arrays:
            raise ConfigError(f"{path}: x_train is missing; it has {', '.join(arrays) or 'nothing'}")
        if (x in arrays) != (y in arrays):
            raise ConfigError(f"{path}: {x} and {y} go together, and one is missing")
        if x in arrays and len(arrays[x]) != len(arrays[y]):
            raise ConfigError(f"{path}: {y}: expected {len(arrays[x])} labels like {x}, got {len(arrays[y])}")
    return arrays


def split(arrays: dict[str, np.ndarray], say: Callable[[str], None]) -> None:
    """Split what is missing off the training items, at random but always the same, and say so."""
    for part in PARTS[1:]:
        if f"x_{part}" in arrays:
            continue
        n = len(arrays["x_train"])
        stay, taken = splitting.at_random(n, "x_train", part, f"give x_{part} and y_{part}")
        for name in ("x", "y"):
            whole = arrays[f"{name}_train"]
            arrays[f"{name}_{part}"] = whole[taken]
            arrays[f"{name}_train"] = whole[stay]
        say(splitting.told(f"no x_{part} in the data", len(taken), n, part))
