"""Files of other people: looked at before they are read, for what would block, flood the memory or lead elsewhere."""

import contextlib
import math
import os
import stat
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import psutil

from autoopt.errors import ConfigError, one_line, retold

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What else than a file a path can name."""
NO_ARRAYS = "not an .npz of plain arrays"
"""What is said of a file that holds no arrays, or others than plain ones."""


def room() -> int:
    """Bytes of memory that are free on this machine."""
    return int(psutil.virtual_memory().available)


def expect_regular(path: Path, where: str = "", *, empty: bool = False) -> None:
    """Check that a path names a file with something in it, which memory can hold.

    Args:
        path: of the file.
        where: for messages, in front of the path.
        empty: whether it may hold nothing.

    Raises:
        ConfigError: saying what it is instead.
    """
    begin = f"{where}: {path}" if where else str(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{begin}: can't read it ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise ConfigError(f"{begin}: can't read it (expected a file, got {kind})")
    if found.st_size == 0 and not empty:
        raise ConfigError(f"{begin}: is empty; copy it anew")
    expect_room(found.st_size, f"{begin}: is too large")


def expect_room(size: int, begin: str) -> None:
    """Check that memory can hold so many bytes.

    Raises:
        ConfigError: whose text begins with `begin`.
    """
    if size > (free := room()):
        raise ConfigError(f"{begin}: it takes {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free")


def read(path: Path, where: str = "", *, empty: bool = False) -> bytes:
    """The bytes of a file, which may be none where `empty` says so.

    Raises:
        ConfigError: if it is no file, or can't be read.
    """
    expect_regular(path, where, empty=empty)
    try:
        return path.read_bytes()
    except OSError as error:
        begin = f"{where}: {path}" if where else str(path)
        raise ConfigError(f"{begin}: can't read it ({error.strerror or error})") from error


def expect_packed(archive: zipfile.ZipFile, begin: str) -> None:
    """Check that all members of a zip stay inside, and that memory can hold them.

    The sizes that its directory gives are not trusted but kept to: Python reads no more of a member than it says there.

    Args:
        archive: the zip.
        begin: of messages.

    Raises:
        ConfigError: naming the member.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ConfigError(f"{begin} holds {member.filename!r}, which leads out of it; get the file anew")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ConfigError(f"{begin} holds {member.filename!r}, which is a link; get the file anew")
    if len(set(names)) < len(names):
        raise ConfigError(f"{begin} holds two members of one name; get the file anew")
    expect_room(sum(member.file_size for member in members), f"{begin} is too large unpacked")


def arrays(
    source: Path | IO[bytes],
    begin: str,
    wanted: Collection[str] | None = None,
    damaged: str = NO_ARRAYS,
) -> dict[str, np.ndarray]:
    """The plain arrays of an `.npz`, of which nothing is unpickled, and nothing unpacked that memory can't hold.

    Args:
        source: path, or the open file.
        begin: of messages.
        wanted: names of those to read; all by default.
        damaged: what is said of one that can't be read.

    Raises:
        ConfigError: if it is no `.npz`, or can't be read.
    """
    if isinstance(source, Path):
        expect_regular(source)
    with retold(lambda error: _unread(error, begin, damaged)), _loaded(source) as archive:
        expect_packed(archive.zip, begin)
        names = [name for name in archive.files if wanted is None or name in wanted]
        sizes = [_size(archive.zip, name, begin) for name in names]
        expect_room(sum(sizes), f"{begin}: its arrays are too large")
        return {name: np.asarray(archive[name]) for name in names}


def names(path: Path) -> list[str]:
    """The names of the arrays of an `.npz`.

    Raises:
        ConfigError: if it is none.
    """
    expect_regular(path)
    with retold(lambda error: _unread(error, str(path), NO_ARRAYS)), _loaded(path) as archive:
        return list(archive.files)


def _unread(error: Exception, begin: str, damaged: str) -> ConfigError:
    """Why an `.npz` can't be read: by the disk's fault, or by its own, of which numpy and zipfile raise many kinds."""
    if isinstance(error, OSError):
        return ConfigError(f"{begin}: can't read it ({error.strerror or error})")
    return ConfigError(f"{begin}: {damaged} ({one_line(error, 200) or type(error).__name__})")


@contextlib.contextmanager
def _loaded(source: Path | IO[bytes]) -> Iterator[Any]:
    """An open `.npz`; a lone `.npy`, which NumPy would read at once, is none."""
    with contextlib.ExitStack() as held:
        stream = held.enter_context(source.open("rb")) if isinstance(source, Path) else source
        if not zipfile.is_zipfile(stream):
            raise ValueError("it is no zip of .npy files: write it with np.savez")
        stream.seek(0)
        yield held.enter_context(np.load(stream, allow_pickle=False))


def _size(archive: zipfile.ZipFile, name: str, begin: str) -> int:
    """Bytes of an array, by its header."""
    member = name if name in archive.namelist() else f"{name}.npy"
    with archive.open(member) as stream:
        begins = stream.read(len(np.lib.format.MAGIC_PREFIX))
        if begins != np.lib.format.MAGIC_PREFIX:
            return archive.getinfo(member).file_size  # a text or the like, which NumPy gives as it is
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:  # 3.0 is for names of fields, which no plain array has
            raise ValueError(f"{name} is not a plain array")
        shape, _, dtype = read_header[version](stream)
        room_for_values = archive.getinfo(member).file_size - stream.tell()
    if dtype.hasobject:
        raise ConfigError(f"{begin}: {name}: expected plain numbers or text, got Python objects; convert them")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > room_for_values:
        raise ConfigError(f"{begin}: {name}: its header says {shape} of {dtype}, which is more than it holds")
    return size
