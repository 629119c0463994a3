"""Writes arrays that memory need not hold: one row after the other, into a file that is reserved beforehand."""

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from autoopt.errors import TargetUnavailable

MAPPED_BYTES = 64 << 20
"""After so much the map is opened anew: what was written through it counts as this process's memory until then."""


def expect_disk(folder: Path, needed: int, what: str) -> None:
    """Check that a disk has room for so many bytes.

    Raises:
        TargetUnavailable: with what is needed, and what is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TargetUnavailable(
            f"{folder}: {what} needs {_shown(needed)} of disk, and {_shown(free)} are free; "
            "make room, or give a folder on another disk"
        )


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.2f} MB"


class RowFile:
    """An `.npy` file that takes one row after the other through a memory map.

    All of it is reserved on the disk at once, for a full disk would end a process that writes through a map.

    Args:
        path: of the file.
        rows: how many may come.
        item: shape of a row.
        dtype: of the values.

    Raises:
        TargetUnavailable: if the disk has no room for all rows.
    """

    def __init__(self, path: Path, rows: int, item: tuple[int, ...], dtype: Any) -> None:
        self._path, self._rows, self._map, self._written = path, 0, None, 0
        try:
            self._map = np.lib.format.open_memmap(path, "w+", dtype=np.dtype(dtype), shape=(rows, *item))
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise TargetUnavailable(f"{path}: can't be written ({error.strerror or error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, row: np.ndarray) -> None:
        """Write the next row."""
        assert self._map is not None
        self._map[self._rows] = row
        self._rows += 1
        self._written += row.nbytes
        if self._written >= MAPPED_BYTES:
            self._map.flush()
            self._map, self._written = None, 0
            self._map = np.lib.format.open_memmap(self._path, "r+")

    def close(self) -> None:
        """End the file where the last row ends, with a header that says so."""
        if self._map is None:
            return
        whole, dtype, begin = self._map.shape, self._map.dtype, self._map.offset
        self._map.flush()
        self._map = None
        if self._rows == whole[0]:
            return
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (self._rows, *whole[1:]),
        }
        with self._path.open("r+b") as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # NumPy leaves room in it for any number of rows
            assert stream.tell() == begin
            stream.truncate(begin + self._rows * int(np.prod(whole[1:])) * dtype.itemsize)
