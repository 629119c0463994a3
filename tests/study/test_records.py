"""Records are sealed, checked when they are read, and set aside where they are damaged."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest
from builders import METRICS, candidate
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sound import candidates, skips

from autoopt.api.live_study import Watched
from autoopt.api.saved_study import load
from autoopt.cli import commands
from autoopt.core import budgets, json_text
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Prune
from autoopt.errors import ConfigError
from autoopt.execution.artifact_store import Store
from autoopt.study import records
from autoopt.study.folder import StudyFolder
from autoopt.study.ledger import Ledger
from autoopt.study.objectives import Terms
from autoopt.study.records import Damage, Header

FILE = b"pretend this is a model"
TERMS = Terms(
    quality=METRICS["accuracy"],
    metrics={"accuracy": METRICS["accuracy"], **{k: v for k, v in METRICS.items() if k.endswith(("ms", "bytes"))}},
    objectives=("accuracy", "size_bytes"),
    budgets=(budgets.parse("size_bytes <= 1 KB", METRICS),),
)
BASELINE = candidate(0, origin="baseline", accuracy=0.9, size_bytes=1000.0)
SMALL = dataclasses.replace(
    candidate(1, accuracy=0.8, size_bytes=float(len(FILE))), file="a" * 64, sha256=hashlib.sha256(FILE).hexdigest()
)
SKIPPED = Skipped(
    number=2, recipe=Recipe(prune=Prune(sparsity=0.5)), origin="search", kind="dominated", reason="at best 80 %"
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path)
    Store(folder.store()).put(SMALL.file, FILE)
    ledger = Ledger(folder, TERMS)
    ledger.keep(BASELINE)
    ledger.keep(SMALL)
    ledger.skip(SKIPPED)
    ledger.write_header("", {"target": "host"})
    return folder


def files(study: StudyFolder) -> list[Path]:
    return [study.header, study.candidate_file(0), study.candidate_file(1), study.skipped_file(2)]


def everything(study: StudyFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(study.path.rglob("*")) if path.is_file()}


def test_what_was_written_is_read(study: StudyFolder) -> None:
    found = records.read(study)
    assert found.candidates == (BASELINE, SMALL)
    assert found.skipped == (SKIPPED,)
    assert found.damaged == ()
    assert found.header is not None
    assert found.header.budgets == TERMS.budgets
    assert all(json_text.CHECKSUM in json.loads(path.read_text()) for path in files(study))


@given(st.data())
def test_one_changed_character_is_never_read_as_something_else(tmp_path_factory, data) -> None:
    folder = StudyFolder(tmp_path_factory.mktemp("study"))
    one = data.draw(candidates | skips)
    path = folder.candidate_file(one.number) if isinstance(one, Candidate) else folder.skipped_file(one.number)
    records.write(path, one.to_dict())
    text = path.read_text()
    place = data.draw(st.integers(0, len(text) - 1))
    path.write_text(text[:place] + data.draw(st.sampled_from('0123456789-.eE"{}[]:, az')) + text[place + 1 :])
    read = records.read_candidate if isinstance(one, Candidate) else records.read_skipped
    found = read(folder, one.number)
    assert isinstance(found, Damage) or found == one


@pytest.mark.parametrize("which", range(4))
def test_what_an_earlier_version_wrote_without_a_checksum_is_read(study: StudyFolder, which: int) -> None:
    before = records.read(study)
    path = files(study)[which]
    values = json.loads(path.read_text())
    del values[json_text.CHECKSUM]
    path.write_text(json.dumps(values))
    assert records.read(study) == before


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"{}", b"null", b"\x00", b"\xff\xfe", b"[" * 100_000, b'{"number": NaN}', b'{"a": 1e999}',
             b'{"number": ' + b"9" * 5000 + b"}", b'{"number": 2, "number": 2}', b'"text"', b"7"]
)  # fmt: skip
def test_what_is_no_record_is_damaged(study: StudyFolder, which: int, text: bytes) -> None:
    path = files(study)[which]
    path.write_bytes(text)
    (damage,) = records.read(study).damaged
    assert damage.path == path
    assert damage.reason
    assert "\n" not in damage.reason
    assert len(damage.reason) < 400


@pytest.mark.parametrize("which", range(4))
def test_what_is_no_file_is_damaged_and_nobody_waits_for_it(study: StudyFolder, which: int) -> None:
    path = files(study)[which]
    path.unlink()
    os.mkfifo(path)
    assert [(d.path, d.reason) for d in records.read(study).damaged] == [(path, "it is no file")]
    path.unlink()
    path.mkdir()
    assert [(d.path, d.reason) for d in records.set_aside(study)] == [(path, "it is no file")]
    path.symlink_to("nowhere")
    assert [d.reason for d in records.read(study).damaged] == ["it is a link to nothing"]


def changed(path: Path, /, **values: object) -> None:
    """A record as somebody edits it who takes the checksum out."""
    plain = json.loads(path.read_text()) | values
    del plain[json_text.CHECKSUM]
    path.write_text(json.dumps(plain))


def test_a_size_is_that_of_the_stored_file(study: StudyFolder) -> None:
    path = study.candidate_file(1)
    plain = SMALL.to_dict()["measurements"]
    changed(
        path, measurements=plain | {"size_bytes": plain["size_bytes"] | dict.fromkeys(("value", "low", "high"), 9.0)}
    )
    (damage,) = records.read(study).damaged
    assert damage.reason == "size_bytes: expected 23, the size of its file in the store, got 9"
    stored = Store(study.store()).path(SMALL.file)
    stored.write_bytes(stored.read_bytes()[:-3])  # now nobody knows which of the two is right
    assert records.read(study).damaged == ()
    stored.unlink()
    assert records.read(study).damaged == ()


def test_a_record_has_the_number_of_its_name(study: StudyFolder) -> None:
    os.rename(study.candidate_file(1), study.candidate_file(3))
    os.rename(study.skipped_file(2), study.skipped_file(4))
    assert [d.reason for d in records.read(study).damaged] == [
        "expected the number in its name, 3, got 1",
        "expected the number in its name, 4, got 2",
    ]


def test_a_metric_that_the_study_does_not_have_is_refused(study: StudyFolder) -> None:
    plain = SMALL.to_dict()
    plain["measurements"]["f1"] = plain["measurements"]["accuracy"]
    records.write(study.candidate_file(1), plain)
    assert [d.reason for d in records.read(study).damaged] == ["the study has no metric f1"]
    records.write(study.candidate_file(1), SMALL.to_dict() | {"measurements": {}})
    assert [d.reason for d in records.read(study).damaged] == ["accuracy is missing, and it did not fail"]
    records.write(study.candidate_file(1), SMALL.to_dict() | {"outcomes": "AAAA"})
    assert [d.reason for d in records.read(study).damaged] == [
        "outcomes: expected one bit for each of 100 items, got '3 bytes'"
    ]
    records.write(study.candidate_file(1), SMALL.to_dict() | {"measurements": {}, "failed_stage": "prune"})
    assert records.read(study).damaged == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quality": {"name": "accuracy"}}, "quality needs a name and a direction"),
        ({"quality": {"name": "accuracy", "direction": "up"}}, "direction: expected 'max' or 'min', got 'up'"),
        ({"quality": 3}, "header.quality: expected a mapping"),
        ({"objectives": []}, "expected objectives among"),
        ({"objectives": ["speed"]}, "expected objectives among .*, got \\['speed'\\]"),
        ({"budgets": "size_bytes <= 1 KB"}, "header.budgets: expected a list"),
        ({"budgets": ["size_bytes <= soon"]}, "budget 'size_bytes <= soon'"),
        ({"equivalence": "1 mile"}, "equivalence '1 mile'"),
        ({"provenance": {"time": {"jobs_s": "long"}}}, "header.provenance.time.jobs_s: expected a number"),
        ({"provenance": {"time": {"jobs_s": 1.0}}}, "expected times jobs_s, saved_by_store_s, overhead_s"),
        ({"provenance": {"class_names": 3}}, "header.provenance.class_names: expected a list"),
        ({"study": 5}, "header.study: expected a text"),
    ],
)
def test_what_makes_no_sense_in_a_header_is_named(study: StudyFolder, change: dict[str, object], words: str) -> None:
    changed(study.header, **change)
    with pytest.raises(ConfigError, match=rf"study.json: can't be read \(.*{words}.*\); run `autoopt run"):
        load(study.path)


@pytest.mark.parametrize(
    "name",
    [
        "00001 (conflicted copy 2026).json",
        "00001 2.json",
        "00001~.json",
        "00001.json~",
        "00001.sync-conflict-20261127-020000-ABCDEFG.json",
        "000001.json",
        "1.json",
        "00001.JSON",
        ".00001.json",
        "00001.json.damaged",
        "00001.json.tmp",
        "٠٠٠٠٧.json",
        "+0001.json",
        "1" * 200 + ".json",
    ],
)
def test_copies_by_other_names_are_no_records(study: StudyFolder, name: str) -> None:
    before = records.read(study)
    (study.candidates / name).write_bytes(study.candidate_file(1).read_bytes())
    (study.skipped / name).write_text("{")
    assert records.read(study) == before
    assert records.set_aside(study) == ()


def test_who_holds_the_study_sets_damaged_records_aside(study: StudyFolder) -> None:
    for path in files(study):
        path.write_text("{")
    assert {d.path: d.aside for d in records.set_aside(study)} == {p: f"{p.name}.damaged" for p in files(study)}
    assert all(path.with_name(f"{path.name}.damaged").read_text() == "{" for path in files(study))
    assert not any(path.exists() for path in files(study))
    assert records.set_aside(study) == ()


def test_what_was_set_aside_before_is_not_overwritten(study: StudyFolder) -> None:
    path = study.candidate_file(1)
    for text in ("{", "[", "]"):
        path.write_text(text)
        records.set_aside(study)
    kept = [path.with_name(f"{path.name}.damaged{end}").read_text() for end in ("", ".2", ".3")]
    assert kept == ["{", "[", "]"]


@pytest.mark.parametrize("command", ["front", "pick", "status", "report", "compare"])
def test_commands_that_read_name_what_is_damaged_and_write_nothing(study: StudyFolder, command: str) -> None:
    path = study.candidate_file(1)
    path.write_text(path.read_text().replace('"value": 23.0', '"value": 13.0'))
    before = everything(study)
    more = {"report": ["--to", str(study.path.parent / "r.html")], "compare": ["0", "0"]}.get(command, [])
    shown = CliRunner().invoke(commands.main, [command, str(study.path), *more])
    assert shown.exit_code in (0, 1, 2), shown.output
    said = [line for line in shown.stderr.splitlines() if line.startswith("warning: ")]
    assert said == [
        f"warning: {path} is damaged and left out (its content does not match its checksum); "
        f"`autoopt run {study.path}` restores what it can"
    ]
    assert everything(study) == before


def test_many_damaged_records_are_one_line(study: StudyFolder) -> None:
    for number in range(9):
        study.candidate_file(number).write_text("{")
    results = load(study.path)
    assert (len(results.damaged), len(results.reasons), results.candidates) == (9, 9, ())
    assert results.warning().startswith("9 records are damaged and left out (")
    assert "and 6 more" in results.warning()
    assert "\n" not in results.warning()


def test_a_header_round_trip() -> None:
    header = Header(
        study="toy", quality=METRICS["accuracy"], objectives=("accuracy", "latency_ms"), budgets=TERMS.budgets,
        equivalence="2 points", manifest="k", provenance={"time": dict.fromkeys(records.TIMES, 1.0), "items": {"train": 3}},
    )  # fmt: skip
    assert Header.from_dict(header.to_dict()) == header


def test_whoever_watches_is_warned_once(study: StudyFolder) -> None:
    said: list[str] = []
    watched = Watched([study.path], warn=said.append)
    assert watched.results(0).damaged == ()
    assert said == []
    study.candidate_file(1).unlink()
    study.candidate_file(1).write_text("{")
    for _ in range(2):
        assert len(watched.results(0).damaged) == 1
        records.write(study.candidate_file(5), dataclasses.replace(BASELINE, number=5).to_dict())
    assert [text.partition(" (")[0] for text in said] == [f"{study.candidate_file(1)} is damaged and left out"]


@pytest.mark.parametrize("text", ["[]", "5", "{", "[" * 10**5, "NaN"])
def test_a_damaged_note_of_what_runs_shows_nothing(study: StudyFolder, text: str) -> None:
    study.now.write_text(text)
    with study.lock():
        assert Watched([study.path]).now(0) == {"running": []}
