"""Pictures in folders, from which a study is made: each is decoded once and written as a row of an array on the disk."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.api import image_layout, splitting
from autoopt.api.given_data import CLASS_NAMES, PARTS, Filled, Progress, Say
from autoopt.api.image_layout import Layout
from autoopt.api.row_file import RowFile, expect_disk
from autoopt.errors import ConfigError
from autoopt.execution import input_scaling, likely_scaling
from autoopt.execution.likely_scaling import Choice
from autoopt.models import pictures
from autoopt.models.opaque import ClosedModel
from autoopt.reporting.bundle.own_files import colours
from autoopt.study.layout import PREPARATION

AS_THEY_ARE = "0 to 255"
"""The way of scaling that leaves pixels as they are."""
SOURCES = {
    "x / 255": "np.divide(x, 255, dtype=np.float32)",
    "x / 127.5 - 1": "np.divide(x, 127.5, dtype=np.float32) - np.float32(1)",
}
"""How `task.py` writes the ways of `input_scaling.BYTES`."""
NAMED = 5
"""Pictures that a message names."""
COLOURS = {"L": "grey", "RGB": "colour", "RGBA": "colour with transparency"}
SPLIT = '''\
def split(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a split. {words}"""
    x = np.load(HERE / f"x_{{part}}.npy", mmap_mode="r", allow_pickle=False)
    return {inputs}, np.load(HERE / f"y_{{part}}.npy", allow_pickle=False)


'''
"""A function of `task.py`."""
Item = tuple[Path, int]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What became of the pictures.

    Attributes:
        bad: those that can't be read, with the reasons.
        turned: how many were turned upright.
        classes: by split, which classes have pictures that were written.
    """

    bad: Sequence[str]
    turned: int
    classes: Mapping[str, set[int]]


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A folder with pictures in a folder a class, or with such folders in `train`, `validation` and `test`.

    Attributes:
        path: of the folder.
        skip_bad: up to which share pictures that can't be read are left out; None where one of them is an error.
    """

    path: Path
    skip_bad: float | None = None

    def fill(self, folder: Path, model: Any, say: Say, progress: Progress) -> Filled:
        """Write the pictures into a study's folder as arrays; see `GivenData`."""
        pictures.expect_pillow()
        size = _size(model, self.path)
        layout = image_layout.find(self.path)
        _expect_outputs(model, layout, self.path)
        parts = self._split(layout, say)
        if layout.left_out:
            say(f"{self.path}: left out what is no picture: {image_layout.listed(layout.left_out)}")
        choice = self._examine(model, parts, size, say)
        way = choice.way
        written = _write(folder, parts, size, way != AS_THEY_ARE, progress)
        self._judge(written, layout, sum(map(len, parts.values())), say)
        (folder / CLASS_NAMES).write_text(json.dumps(layout.names, ensure_ascii=False), encoding="utf-8")
        (folder / PREPARATION).write_text(json.dumps(_preparation(size, way), indent=2), encoding="utf-8")
        words = "They lie on the disk, and are read when they are needed."
        if way != AS_THEY_ARE:
            words = f"The pictures have values of 0 to 255, and the model was trained on {way}."
        return Filled(
            look=choice.look,
            imports=("json",),
            functions=SPLIT.format(words=words, inputs=SOURCES.get(way, "x")),
            splits={part: f'split("{part}")' for part in PARTS},
            class_names=f'tuple(json.loads((HERE / "{CLASS_NAMES}").read_text(encoding="utf-8")))',
        )

    def _split(self, layout: Layout, say: Say) -> dict[str, Sequence[Item]]:
        """The pictures of all splits; what is missing is split off train, class by class."""
        parts = dict(layout.parts)
        for part in PARTS[1:]:
            if part in parts:
                continue
            items = parts["train"]
            labels = np.array([label for _, label in items])
            stay, taken = splitting.by_class(labels, str(self.path), part, f"give a folder {part}")
            parts[part] = [items[i] for i in taken]
            parts["train"] = [items[i] for i in stay]
            say(
                splitting.told(
                    f"no folder {part} in {self.path}", len(taken), len(items), part, ", of each class alike"
                )
            )
        return parts

    def _examine(self, model: Any, parts: dict[str, Sequence[Item]], size: "Size", say: Say) -> Choice:
        """How the model wants the values of pixels to be scaled, and what it makes of some pictures then."""
        where = f"{self.path}: train"
        pixels, chosen = _some(parts["train"], size, where)
        x = pixels.astype(np.float32)
        ways = {AS_THEY_ARE: x}
        if model.inputs[0].dtype in ("float32", "float16"):
            ways = {way: scale(x).astype(np.float32) for way, scale in input_scaling.BYTES.items()} | ways
        labels = np.array([label for _, label in parts["train"]])
        itself = "" if isinstance(model, ClosedModel) else input_scaling.rescaling(model)
        choice = likely_scaling.choose(model, ways, labels, chosen, where, AS_THEY_ARE if itself else "")
        say(f"{size.how}; {_scaling_told(choice, itself)}")
        return choice

    def _judge(self, written: _Written, layout: Layout, total: int, say: Say) -> None:
        """Say what was left out or turned; refuse too many pictures that can't be read."""
        bad = written.bad
        if bad:
            share = f"{len(bad):,} of {total:,} pictures can't be read: {_shown(bad)}"
            if self.skip_bad is None:
                raise ConfigError(f"{self.path}: {share}; mend or remove them, or leave them out with --skip-bad")
            if len(bad) > self.skip_bad * total:
                raise ConfigError(f"{self.path}: {share}; more than the {100 * self.skip_bad:g} % of --skip-bad")
            say(f"{self.path}: left out: {share}")
        lost = [name for label, name in enumerate(layout.names) if label not in written.classes["train"]]
        if lost or not all(written.classes.values()):
            which = (
                f"train of class {lost[0]}" if lost else next(p for p, found in written.classes.items() if not found)
            )
            raise ConfigError(f"{self.path}: no picture can be read in {which}")
        if written.turned:
            say(f"{self.path}: {written.turned:,} pictures were turned upright, as their EXIF data says")


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
        """What is done to a picture, in words."""
        return (
            f"pictures are stretched to {self.item[0]} x {self.item[1]} (bilinear, proportions not kept, as Keras' "
            f"image_dataset_from_directory does), {COLOURS[self.mode]}, turned upright where EXIF says so"
        )

    def read(self, path: Path) -> tuple[np.ndarray, bool]:
        """A picture in this size, and whether it was turned; see `pictures.read`."""
        pixels, turned = pictures.read(path, self.mode, *self.item[:2])
        return pixels.reshape(self.item), turned


def _size(model: Any, path: Path) -> Size:
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


def _expect_outputs(model: Any, layout: Layout, path: Path) -> None:
    """Check that a model has an output a class."""
    shape, names = tuple(model.outputs[0].shape)[1:], layout.names
    if len(shape) == 1 and (shape[0] == len(names) or (shape[0] == 1 and len(names) == 2)):
        return
    shown = ", ".join(names[:NAMED]) + ", …" * (len(names) > NAMED)
    has = " x ".join(map(str, shape)) or "one"
    more = ""
    if len(shape) == 1 and int(shape[0]) > len(names):
        more = ", an empty place for none: classes are numbered by their sorted names"
    raise ConfigError(
        f"{path}: {len(names)} class folders ({shown}), but the model has {has} outputs; expected a folder for each output{more}"
    )


def _some(items: Sequence[Item], size: Size, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Some pictures, at random but always the same, of those that can be read: uint8, and which of the items they are.

    Raises:
        ConfigError: if none of them can be read.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(items))[: likely_scaling.ITEMS])
    bad: list[str] = []
    read = {place: _read(items[place][0], size, bad) for place in chosen.tolist()}
    found = {place: picture[0] for place, picture in read.items() if picture is not None}
    if not found:
        raise ConfigError(f"{where}: none of {len(bad)} pictures can be read: {_shown(bad)}")
    return np.stack(list(found.values())), np.array(list(found))


def _read(path: Path, size: Size, bad: list[str]) -> tuple[np.ndarray, bool] | None:
    """A picture, and whether it was turned; None for one that can't be read, which is added to the bad ones."""
    try:
        return size.read(path)
    except pictures.Unreadable as error:
        bad.append(f"{path} ({error})")
        return None


def _write(folder: Path, parts: Mapping[str, Sequence[Item]], size: Size, wide: bool, progress: Progress) -> _Written:
    """Write `x_train.npy`, `y_train.npy` and so on, one picture after the other.

    Args:
        folder: of the study.
        parts: the pictures of each split.
        size: that they get.
        wide: whether `task.py` makes float32 of them, of which the check of the study writes a copy.
        progress: told how far it is.
    """
    total, done, turned = sum(map(len, parts.values())), 0, 0
    bad: list[str] = []
    classes = {}
    needed = total * math.prod(size.item) * (5 if wide else 2)
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
    return _Written(bad=bad, turned=turned, classes=classes)


def _shown(bad: Sequence[str]) -> str:
    return ", ".join(bad[:NAMED]) + f" and {len(bad) - NAMED} more" * (len(bad) > NAMED)


def _scaling_told(choice: Choice, itself: str) -> str:
    """What was found of how pixels are to be scaled, in words."""
    kept = f"their values stay {AS_THEY_ARE}"
    does = kept if choice.way == AS_THEY_ARE else f"{kept} on the disk, and task.py gives the model {choice.way}"
    model = f"; the model scales its inputs itself ({itself})" if itself else ""
    return f"{does} ({choice.told}{model})"


def _preparation(size: Size, way: str) -> dict[str, object]:
    """What was done to a picture before the model saw it, for `preparation.json`."""
    return {
        "kind": "pictures",
        "height": size.item[0],
        "width": size.item[1],
        "colours": size.mode,
        "orientation": "turned upright as EXIF says",
        "resize": "stretched to height x width, bilinear without antialiasing (tf.image.resize), rounded to whole numbers",
        "scaling": way,
    }
