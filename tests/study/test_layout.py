"""Where a study's files lie: the names are those of studies of before, and nothing else is taken for a record."""

import tempfile
from pathlib import Path

import pytest
from builders import METRICS, candidate
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Skipped
from autoopt.core.recipe import Recipe
from autoopt.study.folder import StudyFolder
from autoopt.study.layout import Layout, place_aside, record
from autoopt.study.ledger import Ledger
from autoopt.study.objectives import Terms

TERMS = Terms(quality=METRICS["accuracy"], metrics=METRICS, objectives=("accuracy",), budgets=())


def test_a_study_of_before_is_laid_out_the_same(tmp_path: Path) -> None:
    """The names are in users' folders, scripts and backups, so they are written out here."""
    layout = Layout(tmp_path)
    assert layout.settings == tmp_path / "study.yaml"
    names = {
        "driver.lock": layout.lock_file,
        "study.db": layout.database,
        "identity.json": layout.identity,
        "study.json": layout.header,
        "candidates": layout.candidates,
        "skipped": layout.skipped,
        "candidates.csv": layout.table,
        "report.html": layout.report,
        "now.json": layout.now,
        "pick": layout.pick,
        "store": layout.usual_store,
        "store.path": layout.store_note,
        "candidates/00003.json": layout.candidate_file(3),
        "skipped/123456.json": layout.skipped_file(123456),
    }
    assert {name: tmp_path / "out" / name for name in names} == names


def test_what_a_ledger_writes_lies_where_the_layout_says(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    ledger = Ledger(folder, TERMS)
    ledger.keep(candidate(4, accuracy=0.5))
    ledger.skip(Skipped(number=7, recipe=Recipe(), origin="search", kind="dominated", reason="why"))
    ledger.write_header("", {"folder": "here"})
    written = {path for path in folder.out.rglob("*") if path.is_file()}
    assert written == {folder.header, folder.candidate_file(4), folder.skipped_file(7)}
    assert folder.candidate_files() == {4: folder.candidate_file(4)}
    assert folder.skipped_files() == {7: folder.skipped_file(7)}


def test_a_study_that_has_not_begun_has_no_records(tmp_path: Path) -> None:
    assert Layout(tmp_path).candidate_files() == Layout(tmp_path).skipped_files() == {}


@given(st.sets(st.integers(0, 10**18 - 1), max_size=8))
def test_every_number_has_a_name_and_comes_back_in_order(numbers: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(folder)
        layout.candidates.mkdir(parents=True)
        for number in numbers:
            layout.candidate_file(number).touch()
        assert list(layout.candidate_files().items()) == [(n, layout.candidate_file(n)) for n in sorted(numbers)]


@pytest.mark.parametrize(
    "name",
    [
        "1.json",
        "000001.json",
        "00001.json.damaged",
        "00001 (copy).json",
        "00001.part",
        "-0001.json",
        "00001.JSON",
        "٠٠٠٠١.json",
    ],
)
def test_copies_and_leftovers_are_no_records(name: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.skipped.mkdir(parents=True)
    (layout.skipped / name).touch()
    assert layout.skipped_files() == {}


def test_what_is_set_aside_takes_no_others_place(tmp_path: Path) -> None:
    path = tmp_path / record(3)
    for expected in ("00003.json.damaged", "00003.json.damaged.2", "00003.json.damaged.3"):
        assert place_aside(path).name == expected
        place_aside(path).symlink_to("nowhere")  # a link to nothing takes a place too
