"""What lies in a store's folder: its entries with their sizes and ages, all bytes of it, and how entries are let go."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autoopt.errors import TargetUnavailable
from autoopt.execution.artifact_store import Store

_PREFIX = 2
"""Characters of an entry's folder, see `Store.path`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A result that is kept in one file.

    Attributes:
        key: by which the store knows it.
        bytes: of its file.
        written: Unix time.
    """

    key: str
    bytes: int
    written: float


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a store holds.

    Attributes:
        entries: of one file each, by key.
        bytes: of all files under the store's folder: data, notes and logs too.
    """

    entries: dict[str, Entry]
    bytes: int


def look(store: Store) -> Held:
    """Look through a store's folder; what others remove meanwhile is not there."""
    entries, size = {}, 0
    for path, facts in _files(store.root):
        size += facts.st_size
        key = path.name
        if len(path.parent.name) == _PREFIX and key.isalnum() and store.path(key) == path:
            entries[key] = Entry(key=key, bytes=facts.st_size, written=facts.st_mtime)
    return Held(entries=entries, bytes=size)


def remove(store: Store, entries: Iterable[Entry]) -> None:
    """Let entries go, one after the other; each is there as a whole or not at all, whenever this is cut short.

    Raises:
        TargetUnavailable: if the folder can't be written.
    """
    for entry in entries:
        path = store.path(entry.key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise TargetUnavailable(f"{path}: can't be removed ({error.strerror}); mend the folder's rights") from error


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files under a folder, without following links."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:  # gone meanwhile, or not to be read
        for one in found:
            with contextlib.suppress(OSError):
                if one.is_dir(follow_symlinks=False):
                    yield from _files(Path(one.path))
                elif one.is_file(follow_symlinks=False):
                    yield Path(one.path), one.stat(follow_symlinks=False)
