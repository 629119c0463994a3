"""Words of a job that takes long."""

from pathlib import Path

import pytest

from autoopt.api import hearing


def test_each_new_word_is_passed_on_once_and_nothing_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    note = tmp_path / "note"
    ask = hearing.listener(note, said.append)
    assert not ask()
    monkeypatch.setattr(hearing, "EVERY_S", 0.0)
    for text in ("", "train: reading 10 items", "train: reading 10 items", "train: reading 20 items"):
        note.write_text(text)
        assert not ask()
    note.unlink()
    assert not ask()
    assert said == ["train: reading 10 items", "train: reading 20 items"]


def test_a_short_job_needs_no_word(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "note").write_text("epoch 1/2")
    assert not hearing.listener(tmp_path / "note", said.append)()
    assert said == []
