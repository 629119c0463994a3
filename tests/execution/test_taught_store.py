"""What a teacher said, in the store: mapped, damaged, lost, and too large for the disk."""

import shutil

import numpy as np
import pytest

from autoopt.errors import TargetUnavailable
from autoopt.execution import taught_store
from autoopt.execution.artifact_store import Store

SAID = {"taught": np.arange(60.0).reshape(20, 3), "mirrored": -np.arange(60.0).reshape(20, 3)}


def parts(size=7):
    return ({name: array[i : i + size] for name, array in SAID.items()} for i in range(0, 20, size))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_it_comes_back_mapped_and_equal_answers_are_kept_once(store):
    key, said = taught_store.put(store, parts(), 20)
    assert taught_store.put(store, parts(5), 20)[0] == key
    found = taught_store.get(store, key)
    for name, array in SAID.items():
        assert isinstance(found[name], np.memmap)
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(said[name], array)
    assert [path.name for path in store.root.iterdir()] == [key[:2]], "nothing else is left in the store"


@pytest.mark.parametrize("name", ["taught.npy", "columns.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_damage_counts_as_absent_and_is_mended(name, kept, store):
    key, _ = taught_store.put(store, parts(), 20)
    path = store.folder(key) / name
    content = bytearray(path.read_bytes())
    content[int(kept * len(content))] ^= 0xFF
    path.write_bytes(content)
    assert taught_store.get(store, key) is None
    taught_store.put(store, parts(), 20)
    np.testing.assert_array_equal(taught_store.get(store, key)["taught"], SAID["taught"])


def test_nothing_is_there_before_it_is_put(store):
    assert taught_store.get(store, "ab" * 32) is None


def test_room_on_the_disk_is_looked_for_first(store, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=int(taught_store.SPARE_BYTES) + 500)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(TargetUnavailable, match="what the teacher says needs 0 MB, and 0 MB are free"):
        taught_store.put(store, parts(), 20)
    assert not store.root.exists()
