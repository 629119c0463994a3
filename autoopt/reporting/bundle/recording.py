"""What a bundle holds of the study's data: a few real items, run once when it is written, and what all are like.

With the items the next person sees that the model still computes the same, and with the rest what to feed it with.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed, TargetUnavailable
from autoopt.execution import split_store
from autoopt.execution.artifact_store import Store
from autoopt.models.labels import BINARY, CLASSES, single
from autoopt.models.task import Inputs, Manifest, Split
from autoopt.reporting.bundle.ends import End
from autoopt.reporting.bundle.samples import Samples, here, run

MOST_ITEMS = 8
MOST_BYTES = 1 << 20
"""Of all items together, inputs and outputs; one item there is in any case."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
"""What data raise that are damaged."""
LOOKED_AT, LOOKED_AT_BYTES = 256, 1 << 26
"""Items at most, and bytes of each input, of which the range is told."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a bundle holds of the data.

    Attributes:
        samples: None where there are none.
        why: there are none.
        where: they were run, see `here`.
        one_hot: whether the labels, where they have several values, have exactly one 1 among zeros.
    """

    samples: Samples | None = None
    why: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    one_hot: bool = False

    def told(self) -> dict[str, Any]:
        """What the card says of it."""
        if self.samples is None:
            return {"items": 0, "why": self.why}
        return {
            "items": len(self.samples),
            "true_classes": len(self.samples.labels) > 0,
            "recorded_on": dict(self.where),
        }


def record(
    file: bytes, manifest: Manifest | None, store: Store, inputs: Sequence[End], outputs: Sequence[End]
) -> Recording:
    """Take a few items of the validation split and run the file over them.

    Args:
        file: the `.tflite`.
        manifest: of the study's task, None where it is not known any more.
        store: the study's.
        inputs: what the file takes.
        outputs: what it gives.

    Returns:
        the samples, or why there are none: a bundle without them is a bundle too.
    """
    if manifest is None:
        return Recording(
            why="the study's store does not know its data any more; running the study again brings it back"
        )
    try:
        split = split_store.get(store, manifest.splits["validation"])
        if split is None:
            return Recording(
                why="the study's store has lost the validation data; running the study again brings it back"
            )
        values = outputs[0].size if of_classes(manifest) and len(outputs) == 1 else 0
        items, labels = few(split, values, sum(end.bytes for end in (*inputs, *outputs)))
        done = run(file, list(items.values()), list(items))
    except (CandidateFailed, TargetUnavailable) as error:
        return Recording(why=getattr(error, "reason", str(error)))
    except UNREADABLE as error:
        return Recording(why=f"the validation data in the study's store can't be read ({type(error).__name__})")
    samples = Samples(inputs=done.inputs, outputs=done.outputs, labels=labels)
    return Recording(samples=samples, where=here(), one_hot=_one_hot(split.labels))


def fed(manifest: Manifest | None, store: Store, inputs: Sequence[End]) -> list[dict[str, Any]] | None:
    """What the model was fed with: for each input of the file, the dtype and the range of the task's own data.

    Of the calibration items, which stand for the training data, or of the validation items where those are gone.

    Args:
        manifest: of the study's task, None where it is not known any more.
        store: the study's.
        inputs: what the file takes.

    Returns:
        by input `dtype`, `low`, `high`, `whole` (whether all values are whole numbers), and of how many items of which
        split; None where the data are gone.
    """
    if manifest is None:
        return None
    for name in ("calibration", "validation"):
        try:
            split = split_store.get(store, manifest.splits[name])
        except (*UNREADABLE, TargetUnavailable):
            continue
        if split is None or len(split.inputs) != len(inputs):
            continue
        known = {end.name for end in inputs} == set(split.inputs)
        arrays = [split.inputs[end.name] for end in inputs] if known else list(split.inputs.values())
        return [_range(array) | {"split": name} for array in arrays]
    return None


def _range(array: np.ndarray) -> dict[str, Any]:
    """Dtype, least and greatest value of some items from all over an array."""
    items, *shape = array.shape
    most = max(1, min(LOOKED_AT, items, LOOKED_AT_BYTES // max(1, math.prod(shape) * array.itemsize)))
    values = array[np.unique(np.linspace(0, items - 1, most).astype(int))]
    return {
        "dtype": array.dtype.name,
        "low": float(values.min()),
        "high": float(values.max()),
        "whole": bool((values == np.floor(values)).all()),
        "items": len(values),
    }


def _one_hot(labels: np.ndarray) -> bool:
    """Whether labels of several values have exactly one 1 among zeros, as far as some of them tell."""
    if labels.ndim < 2 or labels.shape[-1] < 2:
        return False
    some = labels[np.unique(np.linspace(0, len(labels) - 1, LOOKED_AT).astype(int))]
    return bool(np.isin(some, (0, 1)).all() and (some.sum(axis=-1) == 1).all())


def few(split: Split, values: int, bytes_each: int) -> tuple[Inputs, np.ndarray]:
    """A few items of a split, which may be larger than memory.

    Args:
        split: the items.
        values: that the file gives for an item, where they are scores of classes; else 0.
        bytes_each: of an item.

    Returns:
        inputs by name, and the true classes of shape (items,), empty where they are no classes.
    """
    n, labels = len(split.labels), np.zeros(0, np.int64)
    if math.prod(split.labels.shape[1:]) in (1, values) and values:
        given = split.labels.reshape(n, -1)
        if given.shape[1] == 1 or np.allclose(given.sum(axis=1), 1):  # else several classes an item, or none
            labels = single(values).truth(given)[:, 0]
    chosen = choose(n, labels, bytes_each)
    items = {name: array[chosen] for name, array in split.inputs.items()}
    return items, labels[chosen] if len(labels) else labels


def of_classes(manifest: Manifest) -> bool:
    """Whether a task's labels are classes, as indices or one-hot."""
    if manifest.metric["function"] is None:
        meaning = manifest.metric.get("meaning")
        return meaning is None or (meaning["kind"] in (CLASSES, BINARY) and meaning["positions"] == 1)
    loss = manifest.loss.get("keras", {}).get("class_name", "") if isinstance(manifest.loss, dict) else manifest.loss
    return "categorical" in str(loss).lower()


def choose(n: int, labels: np.ndarray, bytes_each: int) -> np.ndarray:
    """Indices of the items to keep: of as many classes as can be, else the first.

    Args:
        n: items there are.
        labels: shape (n,), dtype int64, or empty.
        bytes_each: of an item.

    Returns:
        shape (items,), ascending.
    """
    most = max(1, min(n, MOST_ITEMS, MOST_BYTES // max(1, bytes_each)))
    firsts = sorted(np.unique(labels, return_index=True)[1].tolist())[:most]
    others = (i for i in range(n) if i not in firsts)
    return np.array(sorted([*firsts, *(next(others) for _ in range(most - len(firsts)))]))
