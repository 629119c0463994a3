import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.errors import TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.system.files import write_atomically

KEY = "ab12cd"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def files(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


@settings(max_examples=25)
@given(st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=8), st.binary(max_size=300), max_size=5))
def test_round_trip(entries):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for key, data in entries.items():
            store.put(key, data)
        assert {key: store.get(key) for key in entries} == entries
        assert files(store.root) == sorted(store.path(key) for key in entries)


def test_absent_keys(store):
    assert store.get(KEY) is None
    assert store.seconds(KEY) is None
    store.put("ab99", b"a neighbour in the same folder")
    assert store.get(KEY) is None


def test_another_process_sees_what_was_put(store):
    store.put(KEY, b"data")
    assert Store(store.root).get(KEY) == b"data"


@given(st.floats(0, 1e9))
def test_an_entry_knows_what_it_took_to_make(seconds):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.put(KEY, b"data", seconds)
        assert (store.get(KEY), store.seconds(KEY)) == (b"data", seconds)


def test_what_a_damaged_entry_took_is_not_known(store):
    store.put(KEY, b"data", 5.0)
    store.path(KEY).write_bytes(store.path(KEY).read_bytes()[:-1])
    assert store.seconds(KEY) is None
    assert not store.path(KEY).exists()


def test_putting_again_replaces(store):
    store.put(KEY, b"first")
    store.put(KEY, b"second")
    assert store.get(KEY) == b"second"
    assert files(store.root) == [store.path(KEY)]


@pytest.mark.parametrize("data", [b"", b"some data"])
def test_entries_cut_short_anywhere_are_dropped(store, data):
    store.put(KEY, data)
    whole = store.path(KEY).read_bytes()
    for length in range(len(whole)):
        store.path(KEY).write_bytes(whole[:length])
        assert store.get(KEY) is None
        assert not store.path(KEY).exists()
    store.put(KEY, data)
    assert store.get(KEY) == data


def test_entries_with_any_byte_changed_are_dropped(store):
    store.put(KEY, b"some data")
    whole = store.path(KEY).read_bytes()
    for place in range(len(whole)):
        rotten = bytearray(whole)
        rotten[place] ^= 1 << place % 8
        store.path(KEY).write_bytes(rotten)
        assert store.get(KEY) is None
        assert not store.path(KEY).exists()


def test_entries_that_grew_are_dropped(store):
    store.put(KEY, b"some data")
    with store.path(KEY).open("ab") as file:
        file.write(b"!")
    assert store.get(KEY) is None
    assert not store.path(KEY).exists()


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a/b", "a.b", "a b", "a\0"])
def test_keys_can_not_leave_the_folder(store, key):
    for use in (store.get, store.seconds, lambda k: store.put(k, b"")):
        with pytest.raises(ValueError, match="not a key"):
            use(key)


# --- what can go wrong in the world


def test_a_file_in_place_of_the_store(tmp_path):
    (tmp_path / "store").write_text("in the way")
    store = Store(tmp_path / "store")
    with pytest.raises(TargetUnavailable, match=r"can't write .*same command again"):
        store.put(KEY, b"data")
    with pytest.raises(TargetUnavailable, match=r"can't read .*same command again"):
        store.get(KEY)
    assert files(tmp_path) == [tmp_path / "store"]
    assert (tmp_path / "store").read_text() == "in the way"


def test_a_folder_in_place_of_an_entry(store):
    store.path(KEY).mkdir(parents=True)
    with pytest.raises(TargetUnavailable, match="can't write"):
        store.put(KEY, b"data")
    with pytest.raises(TargetUnavailable, match="can't read"):
        store.get(KEY)
    assert files(store.root) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_old_content_and_nothing_else(store, monkeypatch, call):
    store.put(KEY, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(TargetUnavailable, match="No space left on device"):
        store.put(KEY, b"new")
    assert store.get(KEY) == b"old"
    assert files(store.root) == [store.path(KEY)]


def test_damage_that_can_not_be_removed_counts_as_absent(store, monkeypatch):
    store.put(KEY, b"data")
    store.path(KEY).write_bytes(b"rotten")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert store.get(KEY) is None


# --- write_atomically


def test_writing_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "report.html"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert files(tmp_path) == [path]


def test_written_files_are_as_readable_as_any_other(tmp_path):
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_names_of_any_length_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 120)
    write_atomically(path, b"data")
    assert files(tmp_path) == [path]


def test_an_open_reader_keeps_the_old_content(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"


def test_an_entry_that_was_replaced_or_damaged_is_read_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("ab12", b"model", seconds=2.0)
    assert store.seconds("ab12") == store.seconds("ab12") == 2.0
    store.put("ab12", b"another", seconds=3.0)
    assert store.seconds("ab12") == 3.0
    store.path("ab12").write_bytes(b"damaged")
    assert store.seconds("ab12") is None
    store.path("ab12").unlink(missing_ok=True)
    assert store.seconds("ab12") is None
