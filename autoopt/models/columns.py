"""Arrays with items first, one a file, written item by item and mapped into memory: no process holds one whole.

The files are plain `.npy`: `numpy.load(path, mmap_mode="r")` reads them.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from autoopt.system.files import writing

CHUNK_BYTES = 1 << 26
"""Of an array, that are worked on at a time."""
Place = tuple[int, tuple[int, ...], tuple[int, ...], str]
"""See `where_it_lies`."""
Files = dict[Place, tuple[Path, np.ndarray]]
"""Array files by where a process has their values, with the array that keeps them there."""


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array's items, so many at a time that it takes little memory to work on them.

    Args:
        array: shape (items, ...).

    Yields:
        arrays of shape (some items, ...).
    """
    size = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    step = max(1, CHUNK_BYTES // max(1, size))
    for first in range(0, len(array), step):
        yield array[first : first + step]


def mapped(path: Path) -> np.ndarray:
    """An array file, mapped into memory to be read.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no array of numbers, or shorter than it says.
    """
    found: np.ndarray = np.load(path, mmap_mode="r" if _has_items(path) else None, allow_pickle=False)
    return found


def _has_items(path: Path) -> bool:
    """Whether an array holds anything: nothing can't be mapped."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = head(file)
    return 0 not in shape


class Column:
    """An array file that grows item by item.

    Attributes:
        path: of the file.
        items: that it holds.
    """

    def __init__(self, path: Path, first: np.ndarray) -> None:
        """Begin one for items like these; they are not written yet.

        Args:
            path: of a new file.
            first: shape (items, ...).
        """
        self.path, self.items = path, 0
        self.shape, self.dtype = first.shape[1:], first.dtype
        self._file: IO[bytes] = path.open("wb")
        self._head()

    def append(self, items: np.ndarray) -> None:
        """Write more items.

        Args:
            items: shape (items, ...), of the column's dtype.
        """
        for part in chunks(items):
            self._file.write(np.ascontiguousarray(part, dtype=self.dtype).data)
        self.items += len(items)

    def _head(self) -> None:
        """Write how many items there are; numpy leaves room in a header for any number of them."""
        self._file.seek(0)
        descr = np.lib.format.dtype_to_descr(self.dtype)
        told = {"descr": descr, "fortran_order": False, "shape": (self.items, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, told)

    def close(self) -> None:
        """Finish the file, so that it is on the disk whatever happens to the machine."""
        with self._file:
            self._head()
            self._file.flush()
            os.fsync(self._file.fileno())

    def drop(self) -> None:
        """Leave it unfinished."""
        with contextlib.suppress(OSError):
            self._file.close()


class Columns:
    """Array files in one folder that grow together; a context that closes them, finished where nothing was raised."""

    def __init__(self, folder: Path) -> None:
        """Begin none yet.

        Args:
            folder: that exists.
        """
        self.folder = folder
        self._columns: dict[str, Column] = {}

    def __enter__(self) -> "Columns":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for column in self._columns.values():
            if kind is None:
                with writing(self.folder):
                    column.close()
            else:
                column.drop()

    def append(self, items: Mapping[str, np.ndarray]) -> None:
        """Write more items of each column, which the first ones begin.

        Args:
            items: by the file's name without its ending, each of shape (items, ...).

        Raises:
            TargetUnavailable: if the disk is full.
        """
        with writing(self.folder):
            for name, array in items.items():
                if name not in self._columns:
                    self._columns[name] = Column(self.folder / f"{name}.npy", array)
                self._columns[name].append(array)

    def arrays(self, files: Files) -> dict[str, np.ndarray]:
        """What was written, mapped into memory; only after the context.

        Args:
            files: the files are added to it.
        """
        found = {name: mapped(column.path) for name, column in self._columns.items()}
        files |= {where_it_lies(array): (self._columns[name].path, array) for name, array in found.items()}
        return found


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal bit for bit, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return bool(np.array_equal(first, second))


def where_it_lies(array: np.ndarray) -> Place:
    """Where an array's values lie in memory, and how: the same for any view of all of them."""
    address: int = array.__array_interface__["data"][0]
    return address, array.shape, array.strides, array.dtype.str
