"""What lies in a store's folder, told from what lies beside it."""

import os
from pathlib import Path

import pytest

from autoopt.errors import TargetUnavailable
from autoopt.execution import store_entries
from autoopt.execution.artifact_store import Store

KEY, OTHER = "ab" + 62 * "0", "cd" + 62 * "1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    found.put(KEY, b"x" * 1000)
    found.put(OTHER, b"y" * 10)
    return found


def test_entries_are_told_with_their_sizes_and_ages(store: Store) -> None:
    os.utime(store.path(KEY), (5, 5))
    held = store_entries.look(store)
    assert set(held.entries) == {KEY, OTHER}
    assert held.entries[KEY].bytes == store.path(KEY).stat().st_size > 1000
    assert held.entries[KEY].written == 5
    assert held.bytes == sum(store.path(key).stat().st_size for key in (KEY, OTHER))


def test_data_logs_and_notes_count_and_are_no_entries(store: Store) -> None:
    before = store_entries.look(store)
    for place, size in ((store.folder(KEY) / "labels.npy", 500), (store.root / "logs" / f"{KEY}.log", 70)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"0" * size)
    (store.path(KEY).parent / ".ab00-x.tmp").write_bytes(b"12")  # what a killed process has left
    (store.root / "ab" / "elsewhere").symlink_to(store.path(OTHER))
    held = store_entries.look(store)
    assert held.entries == before.entries
    assert held.bytes == before.bytes + 572


def test_what_is_gone_is_absent_and_may_go_again(store: Store) -> None:
    found = store_entries.look(store).entries
    store_entries.remove(store, [found[KEY]])
    store_entries.remove(store, [found[KEY]])
    assert store.get(KEY) is None
    assert store.get(OTHER) == b"y" * 10
    assert set(store_entries.look(store).entries) == {OTHER}


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    held = store_entries.look(Store(tmp_path / "none"))
    assert (held.entries, held.bytes) == ({}, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(store: Store) -> None:
    found = store_entries.look(store).entries
    store.path(KEY).parent.chmod(0o500)
    try:
        with pytest.raises(TargetUnavailable, match="can't be removed"):
            store_entries.remove(store, [found[KEY]])
    finally:
        store.path(KEY).parent.chmod(0o700)
