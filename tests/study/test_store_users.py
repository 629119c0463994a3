"""Studies leave notes in the store that they use, so that each knows what the others need."""

import json
import shutil
from pathlib import Path

import pytest

from autoopt.errors import TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.study import store_users
from autoopt.study.folder import StudyFolder


def study(path: Path) -> StudyFolder:
    path.mkdir(parents=True, exist_ok=True)
    return StudyFolder(path)


def test_a_study_is_known_with_what_it_needs(tmp_path: Path) -> None:
    store, one, other = Store(tmp_path / "store"), study(tmp_path / "one"), study(tmp_path / "other")
    store_users.sign(store, one, {"b", "a"})
    store_users.sign(store, other, set())
    store_users.sign(store, one, {"c"})
    found = {user.folder: user.needs for user in store_users.users(store)}
    assert found == {one.path.resolve(): {"c"}, other.path.resolve(): frozenset()}
    assert store_users.own_needs(store, one) == {"c"}
    assert not store_users.is_older(store)


def test_a_store_in_a_studys_own_folder_moves_with_it(tmp_path: Path) -> None:
    here = study(tmp_path / "here")
    store_users.sign(Store(here.usual_store), here, {"a"})
    shutil.move(here.path, tmp_path / "there")
    there = StudyFolder(tmp_path / "there")
    [user] = store_users.users(Store(there.usual_store))
    assert user.folder == there.path.resolve()
    assert user.note == store_users.note_of(Store(there.usual_store), there)


def test_a_store_of_before_is_known_as_such_until_somebody_says_otherwise(tmp_path: Path) -> None:
    store, here = Store(tmp_path / "store"), study(tmp_path / "here")
    store.put("ab12", b"a result of somebody")
    with pytest.raises(TargetUnavailable, match="held results before studies left their notes in it"):
        store_users.expect_all_known(store, here)
    store_users.sign(store, here, set())
    with pytest.raises(TargetUnavailable, match=r"run each study that uses it once, then delete .*older"):
        store_users.expect_all_known(store, here)
    (store.root / "studies" / "older").unlink()
    store_users.sign(store, here, {"a"})
    store_users.expect_all_known(store, here)


def test_a_new_store_is_not_of_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in ("one", "other"):
        store_users.sign(store, study(tmp_path / name), set())
        store.put("ab12", b"a result")
        store_users.expect_all_known(store, study(tmp_path / name))


def test_a_studys_own_store_of_before_is_its_own(tmp_path: Path) -> None:
    here = study(tmp_path / "here")
    store = Store(here.usual_store)
    store.put("ab12", b"a result of before")
    store_users.sign(store, here, set())
    store_users.expect_all_known(store, here)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": 3, "needs": []}', '{"folder": "a"}', "\xff"])
def test_a_damaged_note_is_named(text: str, tmp_path: Path) -> None:
    store, here = Store(tmp_path / "store"), study(tmp_path / "here")
    store_users.sign(store, here, set())
    note = store_users.note_of(store, here)
    note.write_text(text, encoding="latin-1")
    with pytest.raises(TargetUnavailable, match=f"{note.name}: can't be read .* run its study again, or delete"):
        store_users.users(store)
    assert store_users.own_needs(store, here) == frozenset()
    store_users.sign(store, here, {"a"})  # its next run mends it
    assert json.loads(note.read_text())["needs"] == ["a"]
