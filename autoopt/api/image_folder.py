"""Pictures in folders, from which a study is made: each is decoded once and written as a row of an array on the disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.api import image_layout, picture_rows, splitting
from autoopt.api.given_data import CLASS_NAMES, PARTS, Filled, Progress, Say
from autoopt.api.image_layout import Layout
from autoopt.api.picture_rows import NAMED, Item, Size, Written, named
from autoopt.errors import ConfigError
from autoopt.execution import input_scaling, likely_scaling
from autoopt.execution.likely_scaling import Choice
from autoopt.models import pictures
from autoopt.models.opaque import ClosedModel
from autoopt.study.layout import PREPARATION

AS_THEY_ARE = "0 to 255"
"""The way of scaling that leaves pixels as they are."""
IMAGENET: Mapping[str, input_scaling.Scale] = {
    "caffe": lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32),
    "torch": lambda x: (x / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
}
"""Of colours, what Keras' `preprocess_input` calls so: ResNet50 and VGG take the first, DenseNet the second."""
SOURCES = {
    "x / 255": "np.divide({x}, 255, dtype=np.float32)",
    "x / 127.5 - 1": "np.divide({x}, 127.5, dtype=np.float32) - np.float32(1)",
    "caffe": "{x}[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)",
    "torch": (
        "(np.divide({x}, 255, dtype=np.float32) - np.array([0.485, 0.456, 0.406], np.float32)) / "
        "np.array([0.229, 0.224, 0.225], np.float32)"
    ),
}
"""How `task.py` writes the ways of `input_scaling.BYTES` and of `IMAGENET`."""
SPLIT = '''\
def split(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, with values of 0 to 255, and labels of a split. They lie on the disk, and are read when they are needed."""
    x = np.load(HERE / f"x_{part}.npy", mmap_mode="r", allow_pickle=False)
    return x, np.load(HERE / f"y_{part}.npy", allow_pickle=False)


'''
"""A function of `task.py` for pixels as they are."""
BATCHES = '''\
def split(part: str) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """What gives inputs and labels of a split in batches: pixels have values of 0 to 255, and the model takes {way}."""
    x = np.load(HERE / f"x_{{part}}.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(HERE / f"y_{{part}}.npy", allow_pickle=False)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in range(0, len(x), 256):
            yield {inputs}, y[i : i + 256]

    return batches


'''
"""A function of `task.py` for pixels that it converts, some at a time."""


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
        size = picture_rows.size_of(model, self.path)
        layout = image_layout.find(self.path)
        _expect_outputs(model, layout, self.path)
        parts = self._split(layout, say)
        if layout.left_out:
            say(f"{self.path}: left out what is no picture: {image_layout.listed(layout.left_out)}")
        choice, itself = self._examine(model, parts, size)
        way, total = choice.way, sum(map(len, parts.values()))
        say(f"{size.how}; {_scaling_told(choice, itself)}")
        written = picture_rows.write(folder, parts, size, 1 if way == AS_THEY_ARE else 4, progress)
        self._judge(written, layout, total, say)
        (folder / CLASS_NAMES).write_text(json.dumps(layout.names, ensure_ascii=False), encoding="utf-8")
        (folder / PREPARATION).write_text(json.dumps(_preparation(size, way), indent=2), encoding="utf-8")
        plain = way == AS_THEY_ARE
        inputs = "" if plain else SOURCES[way].format(x="x[i : i + 256]")
        return Filled(
            look=choice.look,
            imports=("import json",) if plain else ("import json", "from collections.abc import Callable, Iterator"),
            functions=SPLIT if plain else BATCHES.format(way=way, inputs=inputs),
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

    def _examine(self, model: Any, parts: dict[str, Sequence[Item]], size: Size) -> tuple[Choice, str]:
        """How the model wants the values of pixels to be scaled, and what it does to them itself, in words."""
        where = f"{self.path}: train"
        pixels, chosen = picture_rows.some(parts["train"], size, where)
        x = pixels.astype(np.float32)
        ways = {AS_THEY_ARE: x}
        if model.inputs[0].dtype in ("float32", "float16"):
            usual = {**input_scaling.BYTES, **(IMAGENET if size.mode == "RGB" else {})}
            ways = {way: scale(x).astype(np.float32) for way, scale in usual.items()} | ways
        labels = np.array([label for _, label in parts["train"]])
        itself = "" if isinstance(model, ClosedModel) else input_scaling.rescaling(model)
        return likely_scaling.choose(model, ways, labels, chosen, where, AS_THEY_ARE if itself else ""), itself

    def _judge(self, written: Written, layout: Layout, total: int, say: Say) -> None:
        """Say what was left out or turned; refuse too many pictures that can't be read."""
        bad = written.bad
        if bad:
            share = f"{len(bad):,} of {total:,} pictures can't be read: {named(bad)}"
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
        "in_python": SOURCES.get(way, "{x}").format(x="x"),
    }
