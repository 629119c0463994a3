"""What a teacher said to a split, in the store: an array file for each kind of answer, which trainings map into memory."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping

import numpy as np

from autoopt.errors import TargetUnavailable
from autoopt.execution import split_store
from autoopt.execution.artifact_store import Store
from autoopt.execution.split_store import INDEX, SURE_BYTES
from autoopt.models.columns import Columns, chunks
from autoopt.models.spooling import MB, SPARE_BYTES
from autoopt.system.files import write_atomically, writing

Said = dict[str, np.ndarray]
"""By kind of answer, each of shape (items, ...)."""


def put(store: Store, said: Iterable[Mapping[str, np.ndarray]], items: int) -> tuple[str, Said]:
    """Keep what a teacher says, as it comes.

    Args:
        store: where it goes.
        said: for some items after the others, by kind of answer, each of shape (some items, ...).
        items: how many there are in all.

    Returns:
        its key, and all of it, mapped into memory.

    Raises:
        TargetUnavailable: if the disk can't hold it.
    """
    with split_store.room(store) as place:
        made = place.folder / "taught"
        with writing(place.folder):
            made.mkdir()
        with Columns(made) as columns:
            for number, part in enumerate(said):
                if number == 0:
                    _expect_room(part, items, store)
                columns.append(part)
        arrays = columns.arrays({})
        sizes = {name: (made / f"{name}.npy").stat().st_size for name in arrays}
        write_atomically(made / INDEX, json.dumps({"bytes": sizes}, sort_keys=True).encode())
        key = _digest(arrays)
        if get(store, key) is None:
            split_store.enter(made, store.folder(key))
    return key, arrays


def get(store: Store, key: str) -> Said | None:
    """What was kept, mapped into memory; None where it is not there, or damaged."""
    if (entry := split_store.opened(store.folder(key))) is None:
        return None
    index, arrays = entry
    sure = sum(index["bytes"].values()) > SURE_BYTES or _digest(arrays) == key
    return arrays if sure else None


def _expect_room(part: Mapping[str, np.ndarray], items: int, store: Store) -> None:
    """Check that the disk holds such answers for all items."""
    needed = sum(array.nbytes // len(array) for array in part.values()) * items
    free = shutil.disk_usage(store.root).free - SPARE_BYTES
    if needed > free:
        raise TargetUnavailable(
            f"{store.root}: what the teacher says needs {needed / MB:,.0f} MB, and {max(0, free) / MB:,.0f} MB are free; free "
            "space, name another store (--store), or search without distillation, then run the same command again"
        )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(b"taught")
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}|{array.shape}|{array.dtype}|".encode())
        for part in chunks(array):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
