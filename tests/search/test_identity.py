"""Which study a folder holds, and whether its database is its own."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoopt import targets
from autoopt.errors import ConfigError
from autoopt.execution.job_graph import Setting
from autoopt.search import identity
from autoopt.search.identity import Identity
from autoopt.study import records
from autoopt.study.folder import StudyFolder

NOW = Identity(
    task="print", objectives=("accuracy", "size_bytes"), target="host, 1 threads", space="ab", seed=0,
    measured_on={"machine": "here", "numpy": "2"},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


def database(**facts: Any) -> Any:
    """What a study's database remembers of it."""
    return SimpleNamespace(identity=dict(facts))


def settled(folder: StudyFolder, now: Identity, proposals: Any, has_records: bool = True) -> Identity:
    return identity.settle(folder, now, proposals, has_records)


def test_a_study_gets_a_name_that_stands_in_both_places(folder: StudyFolder) -> None:
    proposals = database()
    begun = settled(folder, NOW, proposals, has_records=False)
    assert begun.study
    assert proposals.identity["study"] == begun.study
    assert identity.read(folder.identity) == begun
    assert settled(folder, NOW, proposals) == begun


@pytest.mark.parametrize(
    "change", [{"task": "other"}, {"objectives": ("accuracy",)}, {"target": "vela, 1 threads"}, {"space": "cd"}, {"seed": 1}]
)  # fmt: skip
@pytest.mark.parametrize("lost", ["nothing", "database", "file"])
def test_what_results_have_in_common_may_not_change(folder: StudyFolder, change: dict[str, Any], lost: str) -> None:
    proposals = database()
    settled(folder, NOW, proposals, has_records=False)
    if lost == "file":
        folder.identity.unlink()
    proposals = database() if lost == "database" else proposals
    with pytest.raises(ConfigError, match=f"its {next(iter(change))} changed since the study began"):
        settled(folder, dataclasses.replace(NOW, **change), proposals)


def test_another_database_is_refused(folder: StudyFolder, tmp_path: Path) -> None:
    settled(folder, NOW, database(), has_records=False)
    other = database()
    (tmp_path / "other").mkdir()
    settled(StudyFolder(tmp_path / "other"), NOW, other, has_records=False)
    with pytest.raises(ConfigError, match="belongs to another study; put the study's own back, or delete it"):
        settled(folder, NOW, other)


def test_a_study_of_an_earlier_version_gets_its_name_later(folder: StudyFolder) -> None:
    proposals = database(**{part: getattr(NOW, part) for part in identity.COMPARED if part != "objectives"}, objectives=["accuracy", "size_bytes"])  # fmt: skip
    assert settled(folder, NOW, proposals).study == proposals.identity["study"]


def test_where_a_study_of_an_earlier_version_was_measured_stands_in_its_header(folder: StudyFolder) -> None:
    device = {"processor": "old", "cores": 4, "runtime": "2.1"}
    quality = {"name": "accuracy", "direction": "max", "unit": "fraction"}
    provenance = {"libraries": {"numpy": "1"}, "device": device}
    header = {"study": "s", "quality": quality, "objectives": ["accuracy"], "budgets": [], "provenance": provenance}
    records.write(folder.header, header)
    assert settled(folder, NOW, database()).measured_on == {"machine": "old 4 2.1", "numpy": "1"}


def test_a_machine_and_libraries_are_remembered_as_they_were(folder: StudyFolder) -> None:
    proposals = database()
    begun = settled(folder, NOW, proposals, has_records=False)
    there = dataclasses.replace(NOW, measured_on={"machine": "there", "numpy": "2"})
    assert settled(folder, there, proposals) == begun


def test_a_deleted_studys_identity_binds_nobody(folder: StudyFolder) -> None:
    settled(folder, NOW, database(), has_records=False)
    settled(folder, dataclasses.replace(NOW, seed=3), database(), has_records=False)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"task": "a", "unknown": 1}', "\ud800"])
def test_a_damaged_one_gets_a_line(folder: StudyFolder, text: str) -> None:
    folder.identity.parent.mkdir()
    folder.identity.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"identity.json: can't be read \(.*\); restore it, or delete it"):
        identity.read(folder.identity)


def test_a_computing_target_is_the_same_on_every_machine() -> None:
    def on(target: str, machine: str) -> dict[str, str]:
        setting = Setting(task="", fingerprint="", model="", target=targets.find(target, 1), machine=machine)
        return identity.measured_on(setting)

    assert on("host", "here") != on("host", "there")
    assert on("vela:ethos-u55-128", "here") == on("vela:ethos-u55-128", "there")
