"""Which studies use a store: each leaves a note in it, so that none removes what another one needs.

STORE/studies/own.json          the study in whose folder the store lies, by its relative path: both may be moved together
STORE/studies/3f2a….json        another one, by its absolute path
STORE/studies/older             the store held results of others before there were notes
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.errors import TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.execution.store_entries import look
from autoopt.study.folder import StudyFolder
from autoopt.system.files import write_atomically

NOTES, OWN, OLDER = "studies", "own.json", "older"


@dataclass(frozen=True, kw_only=True)
class User:
    """A study that uses a store.

    Attributes:
        note: its file in the store.
        folder: the study's.
        needs: keys of what its candidates that are not done need, as it last said.
    """

    note: Path
    folder: Path
    needs: frozenset[str]


def note_of(store: Store, folder: StudyFolder) -> Path:
    """Where a study's note is in a store."""
    name = OWN if _lies_inside(store, folder) else f"{hashlib.sha256(_absolute(folder).encode()).hexdigest()[:16]}.json"
    return store.root / NOTES / name


def sign(store: Store, folder: StudyFolder, needs: Collection[str]) -> None:
    """Leave a study's note in a store, or bring it up to date.

    Args:
        store: that it uses.
        folder: the study's.
        needs: see `User`.

    Raises:
        TargetUnavailable: if it can't be written.
    """
    if not _lies_inside(store, folder) and not (store.root / NOTES).is_dir() and is_older(store):
        write_atomically(store.root / NOTES / OLDER, b"")  # before the first note: without that the folder is not there
    place = os.path.relpath(folder.path.resolve(), store.root.resolve()) if _lies_inside(store, folder) else None
    values = {"folder": place or _absolute(folder), "needs": sorted(needs)}
    write_atomically(note_of(store, folder), json.dumps(values).encode())


def users(store: Store) -> list[User]:
    """The studies that left a note.

    Raises:
        TargetUnavailable: if a note can't be read: what its study needs is not known then.
    """
    return [_read(note, store) for note in sorted((store.root / NOTES).glob("*.json"))]


def own_needs(store: Store, folder: StudyFolder) -> frozenset[str]:
    """What a study said that it needs when it last ran; nothing where it left no note that can be read."""
    with contextlib.suppress(TargetUnavailable):
        return _read(note_of(store, folder), store).needs
    return frozenset()


def is_older(store: Store) -> bool:
    """Whether studies that left no note may have used it: it holds results from before there were notes."""
    notes = store.root / NOTES
    return (notes / OLDER).exists() if notes.is_dir() else bool(look(store).entries)


def expect_all_known(store: Store, folder: StudyFolder) -> None:
    """Check that no study uses a store without its note; a store in a study's own folder is taken for its own.

    Raises:
        TargetUnavailable: if that is not so.
    """
    if not _lies_inside(store, folder) and is_older(store):
        raise TargetUnavailable(
            f"{store.root}: held results before studies left their notes in it, and what others need there is not known; "
            f"run each study that uses it once, then delete {store.root / NOTES / OLDER}"
        )


def _lies_inside(store: Store, folder: StudyFolder) -> bool:
    return store.root.resolve() == folder.usual_store.resolve()


def _absolute(folder: StudyFolder) -> str:
    return str(folder.path.resolve())


def _read(note: Path, store: Store) -> User:
    try:
        values: Any = json.loads(note.read_bytes())
        folder, needs = Path(store.root.resolve(), values["folder"]), frozenset(map(str, values["needs"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetUnavailable(f"{note}: can't be read ({error}); run its study again, or delete the note") from error
    with contextlib.suppress(OSError):
        folder = folder.resolve()
    return User(note=note, folder=folder, needs=needs)
