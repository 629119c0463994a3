"""A whole small study in a folder whose name means something to addresses, shells, pages and format strings."""

import json
import os
from pathlib import Path

import pytest
import tinystudy as tiny

import autoopt

NAME = "-a 100% {x}?y=1#z'\"<b>ü[r]%20\nc"
STUDY = """\
space: {scheme: [float32, dynamic]}
objectives: [quality, latency_ms, compressed_bytes]
trials: 2
slots: 1
confirm: false
measuring: quick
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above a study that ran to its end; only a real run comes by every place that takes the name."""
    above = tmp_path_factory.mktemp("names")
    tiny.write(above / NAME, study=STUDY)
    done = tiny.invoke("run", "--plain", above / NAME)
    assert done.returncode == 0, done.stderr
    return above


def test_the_study_lies_in_its_folder_alone(place: Path) -> None:
    assert [path.name for path in place.iterdir()] == [NAME]
    out = place / NAME / "out"
    assert {"study.db", "study.json", "report.html", "candidates", "store"} <= {path.name for path in out.iterdir()}
    assert autoopt.load(place / NAME).study == NAME


@pytest.mark.parametrize("command", ["front", "pick", "status", "report"])
def test_commands_take_the_name_from_where_it_lies(place: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    shown = tiny.invoke(command, "--json", "--", NAME)
    assert shown.returncode == 0, shown.stderr
    json.loads(shown.stdout)


def test_a_bundle_is_written_and_holds(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tiny.invoke("export", place / NAME, 1).returncode == 0
    (made,) = os.listdir()
    assert made == f"{NAME}-1"
    assert tiny.invoke("verify", "--", made).returncode == 0


def test_the_page_holds_the_name_as_text(place: Path) -> None:
    page = (place / NAME / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>ü" not in page
    assert "&lt;b&gt;ü" in page
