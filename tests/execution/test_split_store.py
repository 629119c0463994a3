"""Splits in the store: what is kept, what is mapped, and what becomes of damage."""

import contextlib
import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import stores
import tiny
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import TargetUnavailable
from autoopt.execution import split_store
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Split

X, Y = tiny.images(40, 0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def split():
    return Split(
        inputs={"a/b": X, "labels": X[:, 0, 0].astype("uint8")}, labels=Y, counted=X > 0, weights=Y.astype(np.float32)
    )


def equal(one, other):
    assert list(one.inputs) == list(other.inputs)
    for mine, yours in [*zip(one.inputs.values(), other.inputs.values(), strict=True), (one.labels, other.labels)]:
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine, yours)


def test_a_split_comes_back_mapped_and_read_only(store, split):
    key = stores.put(store, split)
    found = split_store.get(store, key)
    equal(found, split)
    np.testing.assert_array_equal(found.counted, split.counted)
    np.testing.assert_array_equal(found.weights, split.weights)
    assert found.digest == key == split.digest
    assert all(isinstance(array, np.memmap) for array in found.inputs.values())
    with pytest.raises(ValueError, match="read-only"):
        found.labels[0] = 1
    assert sorted(path.name for path in store.folder(key).iterdir()) == [
        "columns.json", "counted.npy", "input_0.npy", "input_1.npy", "labels.npy", "weights.npy",
    ]  # fmt: skip
    assert [path.name for path in store.root.iterdir()] == [key[:2]], "nothing else is left in the store"


def test_a_set_without_labels_is_kept_too(store):
    split = Split(inputs={"image": X}, labels=np.zeros(0, np.int8))
    equal(split_store.get(store, stores.put(store, split)), split)


def test_a_split_of_before_is_still_read(store, split):
    store.put(split.digest, stores.earlier_bytes(split), seconds=1.5)
    found = split_store.get(store, split.digest)
    equal(found, split)
    assert found.digest == split.digest


def test_nothing_is_there_before_it_is_put(store):
    assert split_store.get(store, "ab" * 32) is None
    with pytest.raises(ValueError, match="not a key"):
        split_store.get(store, "../../etc/passwd")


@given(
    name=st.sampled_from(["columns", "input_0", "labels", "counted"]), kept=st.floats(0, 0.999), rotten=st.booleans()
)
def test_damage_of_any_kind_counts_as_absent_and_is_mended(name, kept, rotten, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    split = Split(inputs={"image": X}, labels=Y, counted=X > 0)
    key = stores.put(store, split)
    path = store.folder(key) / (f"{name}.json" if name == "columns" else f"{name}.npy")
    content = bytearray(path.read_bytes())
    at = int(kept * len(content))
    content[at] ^= 0xFF
    path.write_bytes(content if rotten else content[:at])
    found = split_store.get(store, key)
    assert found is None or found.digest == key
    assert stores.put(store, split) == key
    equal(split_store.get(store, key), split)


def test_a_large_split_is_not_read_whole_to_be_opened(store, split, monkeypatch):
    key = stores.put(store, split)
    monkeypatch.setattr(split_store, "SURE_BYTES", 1000)
    monkeypatch.setattr(Split, "digest", property(lambda _: pytest.fail("reads all of it")))
    equal(split_store.get(store, key), split)


def test_a_large_split_that_has_rotted_is_mended_when_its_data_is_read_again(store, split, monkeypatch):
    monkeypatch.setattr(split_store, "SURE_BYTES", 1000)
    key = stores.put(store, split)
    path = store.folder(key) / "input_0.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    stores.put(store, split)
    equal(split_store.get(store, key), split)


def spooled(room):
    """Where a room has read a split, and its arrays there."""
    spool = room.spool("train", None)
    with split_store.Columns(spool.folder) as columns:
        columns.append({"input_0": X, "labels_0": Y})
    return spool, columns.arrays(spool.files)


def test_what_was_read_in_the_room_is_moved_not_copied(store):
    with split_store.room(store) as room:
        spool, arrays = spooled(room)
        inode = (spool.folder / "input_0.npy").stat().st_ino
        key = split_store.put(room, Split(inputs={"image": np.asarray(arrays["input_0"])}, labels=arrays["labels_0"]))
    assert (store.folder(key) / "input_0.npy").stat().st_ino == inode
    np.testing.assert_array_equal(arrays["input_0"], X)


def test_labels_of_several_outputs_lie_in_a_file_where_they_are_large(store, monkeypatch):
    one, other = Y[:, None].astype(np.int32), np.random.default_rng(0).random((40, 3, 2)).astype(np.float32)
    with split_store.room(store) as room:
        whole = split_store.beside(room, "train", [one, other])
        assert not isinstance(whole, np.memmap)
        monkeypatch.setattr(split_store, "CHUNK_BYTES", 300)
        found = split_store.beside(room, "train", [one, other])
        assert isinstance(found, np.memmap)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole)
        written = len(room.files)
        key = split_store.put(room, Split(inputs={"image": X}, labels=found))
        assert len(room.files) < written, "it is moved, not copied"
    np.testing.assert_array_equal(split_store.get(store, key).labels, whole)


def test_a_part_of_what_was_read_is_copied(store):
    with split_store.room(store) as room:
        _, arrays = spooled(room)
        part = Split(inputs={"image": arrays["input_0"][:10]}, labels=arrays["labels_0"][:10])
        key = split_store.put(room, part)
    equal(split_store.get(store, key), Split(inputs={"image": X[:10]}, labels=Y[:10]))


def test_a_room_is_gone_after_whatever_happens(store):
    with contextlib.suppress(RuntimeError), split_store.room(store) as room:
        room.spool("train", None)
        raise RuntimeError
    assert not store.root.exists()


def test_a_killed_process_leaves_a_room_that_the_next_one_sweeps(store, tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from autoopt.execution import split_store\n"
        "from autoopt.execution.artifact_store import Store\n"
        "with split_store.room(Store(Path(sys.argv[1]))) as room:\n"
        "    (room.spool('train', None).folder / 'input_0.npy').write_bytes(b'x' * 1000)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    [left] = (store.root / split_store.ROOMS).iterdir()
    with split_store.room(store) as room:
        assert not left.exists()
        other = room.folder
        with split_store.room(store):
            assert other.exists(), "a living process keeps its room"
    assert not store.root.exists()


def test_a_full_disk_leaves_no_half_of_a_split(store, split, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TargetUnavailable, match=r"can't write \(No space left on device\)"):
            stores.put(store, split)
    assert split_store.get(store, split.digest) is None
    assert not store.root.exists()
    stores.put(store, split)
    equal(split_store.get(store, split.digest), split)


def test_who_is_slower_finds_the_same(store, split, monkeypatch):
    """Two runs that share a store put the same data at once."""
    replace = os.replace

    def later(made, entry):
        if str(entry).endswith(".columns") and not os.path.exists(entry):
            monkeypatch.undo()
            stores.put(store, split)
        replace(made, entry)

    monkeypatch.setattr(os, "replace", later)
    key = stores.put(store, split)
    equal(split_store.get(store, key), split)


# --- a part of a split


@given(items=st.integers(1, 39), rows=st.integers(1, 50))
def test_a_part_is_the_same_items_each_time(items, rows, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    split = Split(inputs={"image": X}, labels=Y, weights=np.arange(40, dtype=np.float32))
    key = stores.put(store, split)
    kept = split_store.get(store, key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_store, "ROWS", rows)
        made = split_store.part(store, key, kept, items)
    expected = split.some(items)
    assert len(made) == items
    assert made.digest == expected.digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Split, "chosen", lambda *_: pytest.fail("it is kept"))
        assert split_store.part(store, key, kept, items).digest == expected.digest
    stores.lose(store, expected.digest)
    assert split_store.part(store, key, kept, items).digest == expected.digest


def test_a_part_takes_items_that_count_first():
    weights = np.zeros(40, np.float32)
    weights[[3, 30, 31]] = 1
    split = Split(inputs={"image": X}, labels=Y, weights=weights)
    for items in (1, 2, 3):
        assert set(split.chosen(items)) <= {3, 30, 31}
    assert {3, 30, 31} <= set(split.chosen(10))
    assert len(split.chosen(10)) == 10
