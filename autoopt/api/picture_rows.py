"""Decodes pictures in the size that a model takes, and writes them as rows of arrays on the disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.api.given_data import Progress
from autoopt.api.row_file import RowFile, expect_disk
from autoopt.errors import ConfigError
from autoopt.execution import likely_scaling
from autoopt.models import pictures
from autoopt.reporting.bundle.own_files import colours

NAMED = 5
"""Pictures that a message names."""
COLOURS = {"L": "grey", "RGB": "colour", "RGBA": "colour with transparency"}
Item = tuple[Path, int]
"""The path of a picture, and its class's index."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model takes of pictures.

    Attributes:
        item: shape of an item.
        mode: the colours, by Pillow's name.
    """

    item: tuple[int, ...]
    mode: str

    @property
    def how(self) -> str:
        """Say in words what is done to a picture."""
        return (
            f"pictures are stretched to {self.item[0]} x {self.item[1]} (bilinear, proportions not kept, as Keras' "
            f"image_dataset_from_directory does), {COLOURS[self.mode]}, turned upright where EXIF says so"
        )

    def read(self, path: Path) -> tuple[np.ndarray, bool]:
        """A picture in this size, and whether it was turned; see `pictures.read`."""
        pixels, turned = pictures.read(path, self.mode, *self.item[:2])
        return pixels.reshape(self.item), turned


def size_of(model: Any, path: Path) -> Size:
    """What a model takes of pictures.

    Raises:
        ConfigError: if it takes none.
    """
    item = tuple(int(size) for size in tuple(model.inputs[0].shape)[1:])
    mode = colours(item)
    if mode is None:
        last = "; channels must come last" if len(item) == 3 and item[0] in (1, 3) else ""
        raise ConfigError(
            f"{path}: the model takes {' x '.join(map(str, item)) or 'one number'} an item, which is no picture of height x "
            f"width x 1, 3 or 4 channels{last}; give --data or --table"
        )
    return Size(item=item, mode=mode)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of the pictures.

    Attributes:
        bad: those that can't be read, with the reasons.
        turned: how many were turned upright.
        classes: by split, which classes have pictures that were written.
    """

    bad: Sequence[str]
    turned: int
    classes: Mapping[str, set[int]]


def some(items: Sequence[Item], size: Size, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Some pictures, at random but always the same, of those that can be read: uint8, and which of the items they are.

    Raises:
        ConfigError: if none of them can be read.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(items))[: likely_scaling.ITEMS])
    bad: list[str] = []
    read = {place: _read(items[place][0], size, bad) for place in chosen.tolist()}
    found = {place: picture[0] for place, picture in read.items() if picture is not None}
    if not found:
        raise ConfigError(f"{where}: none of {len(bad)} pictures can be read: {named(bad)}")
    return np.stack(list(found.values())), np.array(list(found))


def _read(path: Path, size: Size, bad: list[str]) -> tuple[np.ndarray, bool] | None:
    """A picture, and whether it was turned; None for one that can't be read, which is added to the bad ones."""
    try:
        return size.read(path)
    except pictures.Unreadable as error:
        bad.append(f"{path} ({error})")
        return None


def write(
    folder: Path,
    parts: Mapping[str, Sequence[Item]],
    size: Size,
    check_bytes: int,
    progress: Progress,
) -> Written:
    """Write `x_train.npy`, `y_train.npy` and so on, one picture after the other.

    Args:
        folder: of the study.
        parts: the pictures of each split.
        size: that they get.
        check_bytes: of a value in the copy that the check of the study writes.
        progress: told how far it is.
    """
    total, done, turned = sum(map(len, parts.values())), 0, 0
    bad: list[str] = []
    classes = {}
    needed = total * math.prod(size.item) * (1 + check_bytes)
    shape = " x ".join(map(str, size.item))
    expect_disk(folder, needed, f"writing {total:,} pictures of {shape} and checking the study")
    for part, items in parts.items():
        labels = []
        with RowFile(folder / f"x_{part}.npy", len(items), size.item, np.uint8) as rows:
            for path, label in items:
                picture = _read(path, size, bad)
                if picture is not None:
                    rows.add(picture[0])
                    labels.append(label)
                    turned += picture[1]
                done += 1
                progress(done, total)
        np.save(folder / f"y_{part}.npy", np.array(labels, dtype=np.int64))
        classes[part] = set(labels)
    return Written(bad=bad, turned=turned, classes=classes)


def named(bad: Sequence[str]) -> str:
    """The first of the pictures that cannot be read, and how many more there are."""
    return ", ".join(bad[:NAMED]) + f" and {len(bad) - NAMED} more" * (len(bad) > NAMED)
