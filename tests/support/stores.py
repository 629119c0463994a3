"""Data in a store, as a study puts it there, and as studies of before did."""

import io

import numpy as np

from autoopt.execution import split_store


def put(store, split):
    """Keep a split; returns its key."""
    with split_store.room(store) as room:
        return split_store.put(room, split)


def lose(store, key):
    """Remove a split."""
    for file in store.folder(key).iterdir():
        file.unlink()
    store.folder(key).rmdir()


def earlier_bytes(split):
    """A split as stores of before kept it: an uncompressed `.npz`."""
    out = io.BytesIO()
    more = {name: array for name in ("counted", "weights") if (array := getattr(split, name)) is not None}
    arrays = {f"input_{i}": array for i, array in enumerate(split.inputs.values())}
    np.savez(out, names=np.array(list(split.inputs)), labels=split.labels, **more, **arrays)
    return out.getvalue()
