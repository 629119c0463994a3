"""Splits in the store: a folder an entry with an array file a column, which every job maps into memory.

All jobs of a machine share the pages of these files, and none holds a split whole.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.execution.artifact_store import Store
from autoopt.models.columns import CHUNK_BYTES, Columns, Files, mapped, where_it_lies
from autoopt.models.spooling import Spool
from autoopt.models.task import MORE, Split, side_by_side
from autoopt.system import scratch
from autoopt.system.files import open_to_readers, write_atomically, writing

INDEX = "columns.json"
"""In a split's folder: the names of its inputs in their order, and the bytes of each file."""
LABELS = "labels"
SURE_BYTES = 64_000_000
"""A split of no more is read whole each time it is opened, to see that it is what it was; a larger one by its files' lengths."""
ROWS = 1024
"""That are gathered at a time."""
ROOMS = ".reading"
"""In the store's folder: where data is written until it is whole."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """A folder beside a store's entries for data that is not whole yet; what is whole is moved into an entry.

    Attributes:
        store: whose it is.
        folder: the folder.
        files: that were written in it.
        progress: told how far the reading is.
    """

    store: Store
    folder: Path
    files: Files = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _: None

    def spool(self, name: str, before: str | None) -> Spool:
        """A place for the stream of one split.

        Args:
            name: of the split.
            before: key of what the study had when it last ran; None if it is new.
        """
        place = self.folder / name
        with writing(self.folder):
            place.mkdir()
        return Spool(
            folder=place,
            before=None if before is None else get(self.store, before),
            progress=lambda told: self.progress(f"{name}: {told}"),
            files=self.files,
        )


@contextlib.contextmanager
def room(store: Store, progress: Callable[[str], None] = lambda _: None) -> Iterator[Room]:
    """A folder for data that is not whole yet, gone after; those of processes that were killed go too."""
    root = store.root / ROOMS
    with contextlib.ExitStack() as left:
        left.callback(_give_up, root)
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            folder = left.enter_context(scratch.beside(root, "run-"))
        yield Room(store=store, folder=folder, progress=progress)


def _give_up(root: Path) -> None:
    """Remove the folder of rooms, and that of the store, where they are empty."""
    with contextlib.suppress(OSError):  # somebody else is reading too, or the store holds something
        root.rmdir()
        root.parent.rmdir()


def beside(room: Room, name: str, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of several outputs as a split has them, side by side: in a file of the room where they are large.

    Args:
        room: of the store.
        name: of the split.
        labels: of each output, shape (items, ...).

    Raises:
        TargetUnavailable: if the disk is full.
    """
    size = sum(math.prod(array.shape) for array in labels) * np.result_type(*labels).itemsize
    if len(labels) == 1 or size <= CHUNK_BYTES:
        return side_by_side(labels)
    step = max(1, CHUNK_BYTES // max(1, size // len(labels[0])))
    with Columns(room.spool(f"{name}-labels", None).folder) as columns:
        for first in range(0, len(labels[0]), step):
            part = side_by_side([array[first : first + step] for array in labels])
            columns.append({LABELS: part.astype(np.result_type(*labels), copy=False)})
    return columns.arrays(room.files)[LABELS]


def put(room: Room, split: Split) -> str:
    """Keep a split; an equal one that is there already stays.

    Args:
        room: of the store.
        split: its arrays are copied, or moved where the room's files hold them.

    Returns:
        its key.

    Raises:
        TargetUnavailable: if the disk is full.
    """
    key = split.digest
    entry = room.store.folder(key)
    if _read(entry, key, whole=True) is not None:
        return key
    with writing(room.folder):
        made = Path(tempfile.mkdtemp(prefix="entry-", dir=room.folder))
    arrays = _columns(split)
    for name, array in arrays.items():
        known = room.files.pop(where_it_lies(array), None)
        if known is None:
            with Columns(made) as columns:
                columns.append({name: array})
        else:
            with writing(made):
                os.replace(known[0], made / f"{name}.npy")
    sizes = {name: (made / f"{name}.npy").stat().st_size for name in arrays}
    index = {"inputs": list(split.inputs), "bytes": sizes}
    write_atomically(made / INDEX, json.dumps(index, sort_keys=True).encode())
    enter(made, entry)
    return key


def enter(made: Path, entry: Path) -> None:
    """Make a folder that is whole the entry of a store.

    Args:
        made: in a room of the store.
        entry: where it goes; what is there already is damaged, and goes.

    Raises:
        TargetUnavailable: if it can't be moved there.
    """
    with writing(entry):
        open_to_readers(made)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if entry.exists():  # damaged
            os.replace(entry, made.with_name(f"{made.name}-damaged"))
        try:
            os.replace(made, entry)
        except OSError:
            if not entry.exists():  # else another process was quicker, and its files are equal
                raise


def get(store: Store, key: str) -> Split | None:
    """A split, mapped into memory; None where it is not there, or damaged.

    Raises:
        TargetUnavailable: if the folder can't be read.
    """
    found = _read(store.folder(key), key)
    if found is None and (kept := store.get(key)) is not None:  # as it was kept before there were columns
        return Split.from_bytes(kept)
    return found


def part(store: Store, key: str, whole: Split, items: int) -> Split:
    """So many of a split's items at random, the same ones each time, kept as a split of their own.

    Args:
        store: that holds it.
        key: of the split.
        whole: the split.
        items: fewer than it has.

    Raises:
        TargetUnavailable: if the disk is full.
    """
    note = hashlib.sha256(f"{items} items of {key}".encode()).hexdigest()
    known = store.get(note)
    if known is not None and (found := get(store, known.decode())) is not None:
        return found
    chosen = whole.chosen(items)
    with room(store) as place:
        spool = place.spool("part", None)
        with Columns(spool.folder) as columns:
            for first in range(0, items, ROWS):
                rows = chosen[first : first + ROWS]
                columns.append({name: array[rows] for name, array in _columns(whole).items()})
        arrays = columns.arrays(place.files)
        made = put(place, _split(list(whole.inputs), arrays))
    store.put(note, made.encode())
    return _split(list(whole.inputs), arrays)


def _split(names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Split:
    """The inverse of `_columns`."""
    return Split(
        inputs={name: arrays[f"input_{i}"] for i, name in enumerate(names)},
        labels=arrays[LABELS],
        **{name: arrays[name] for name in MORE if name in arrays},
    )


def _columns(split: Split) -> dict[str, np.ndarray]:
    """A split's arrays by the names of their files."""
    found = {f"input_{i}": array for i, array in enumerate(split.inputs.values())}
    more = {name: array for name in MORE if (array := getattr(split, name)) is not None}
    return found | {LABELS: split.labels} | more


def opened(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The index of an entry of array files, and these by name, mapped into memory; None for one cut short, or not there."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sizes: Mapping[str, int] = index["bytes"]
        if any((folder / f"{name}.npy").stat().st_size != size for name, size in sizes.items()):
            return None
        return index, {name: mapped(folder / f"{name}.npy") for name in sizes}
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path, key: str, *, whole: bool = False) -> Split | None:
    """The split of an entry.

    Args:
        folder: of the entry.
        key: by which its content is known.
        whole: check all of it, however large it is.
    """
    if (entry := opened(folder)) is None:
        return None
    index, arrays = entry
    try:
        split = _split(index["inputs"], arrays)
    except (ValueError, KeyError, TypeError):  # no split's index
        return None
    sure = not whole and sum(index["bytes"].values()) > SURE_BYTES
    return split if sure or split.digest == key else None
