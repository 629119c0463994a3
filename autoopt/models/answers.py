"""What a model gives for a split's items, a part at a time: of large maps no process holds all at once.

A metric that is counted item by item takes the parts as they come. What needs all of them gets one array, which is
mapped from a temporary file where it is large.
"""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoopt.models.columns import CHUNK_BYTES, Columns, chunks
from autoopt.system.files import writing

COUNTED = 1 << 20
"""Values that are counted at a time: so many take some ten megabytes while they are looked at."""
Answers = np.ndarray | Iterable[np.ndarray]
"""Outputs of shape (items, ...): as one array, or parts of one in the order of the items, which can be read again."""


@dataclass(frozen=True)
class Parts:
    """Parts of an array, computed anew each time that they are read.

    Attributes:
        begin: gives them in the order of the items, each of shape (some items, ...).
    """

    begin: Callable[[], Iterator[np.ndarray]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.begin()


def peeked(answers: Answers) -> tuple[np.ndarray, Answers]:
    """A first part, by which the shape of all is known, and all of them, that part not computed twice."""
    if isinstance(answers, np.ndarray):
        return answers[:1], answers
    parts = iter(answers)
    first = next(parts)
    return first, itertools.chain((first,), parts)


def at_once(array: np.ndarray) -> int:
    """How many items like these are counted at a time: 1 or more.

    Args:
        array: shape (some items, ...).
    """
    return max(1, COUNTED // max(1, math.prod(array.shape[1:])))


def cut(answers: Answers, items: int) -> Iterator[np.ndarray]:
    """The same outputs in parts of so many items each, but for the last.

    Args:
        answers: outputs of shape (items, ...).
        items: 1 or more.
    """
    held, number = list[np.ndarray](), 0
    for part in [answers] if isinstance(answers, np.ndarray) else answers:
        first = 0
        while len(part) - first >= items - number:
            last = first + items - number
            yield _one([*held, part[first:last]])
            held, number, first = [], 0, last
        if first < len(part):
            held, number = [*held, part[first:]], number + len(part) - first
    if held:
        yield _one(held)


def whole(answers: Answers) -> np.ndarray:
    """All outputs as one array, mapped from a temporary file where they are large.

    Raises:
        TargetUnavailable: if the disk is full.
    """
    if isinstance(answers, np.ndarray):
        return answers
    growing = Growing()
    for part in answers:
        growing.append(part)
    return growing.array()


def shaped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array's items in another shape: where that makes a large copy, it is mapped from a temporary file.

    Args:
        array: shape (items, values), not all in one piece.
        shape: of an item.
    """
    if len(shape) == 1 or array.nbytes <= CHUNK_BYTES:
        return array.reshape(len(array), *shape)
    return whole(part.reshape(len(part), *shape) for part in chunks(array))


class Growing:
    """An array that grows by parts: in memory while it is small, then in a temporary file."""

    def __init__(self) -> None:
        self._held: list[np.ndarray] = []
        self._size = 0
        self._room: tempfile.TemporaryDirectory[str] | None = None
        self._columns: Columns | None = None

    def append(self, part: np.ndarray) -> None:
        """Add the values of more items: shape (some items, ...).

        Raises:
            TargetUnavailable: if the disk is full.
        """
        if self._columns is not None:
            self._columns.append({"outputs": part})
            return
        self._held.append(part)
        self._size += part.nbytes
        if self._size > CHUNK_BYTES:
            self._columns = self._begun()
            for held in self._held:
                self._columns.append({"outputs": held})
            self._held = []

    def _begun(self) -> Columns:
        place = Path(tempfile.gettempdir())
        with writing(place):
            self._room = tempfile.TemporaryDirectory(dir=place, prefix="outputs-", ignore_cleanup_errors=True)
        return Columns(Path(self._room.name))

    def array(self) -> np.ndarray:
        """All of it; a file goes as soon as nobody has it mapped any more.

        Raises:
            TargetUnavailable: if the disk is full.
        """
        if self._columns is None or self._room is None:
            return _one(self._held)
        with self._room:
            with self._columns:
                pass  # finishes the file
            return self._columns.arrays({})["outputs"]


def _one(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
