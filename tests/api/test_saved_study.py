"""Reading results back and writing bundles; the end to end is in test_study."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from builders import candidate, measured, results
from saved_study import END, FILE, candidates, study  # noqa: F401 - the fixture

import autoopt
from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import Measurement, pack_outcomes
from autoopt.core.recipe import Recipe
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.reporting.bundle.card import card_text, make_card
from autoopt.study.folder import StudyFolder


def test_results_come_back_as_they_were(study: Path) -> None:  # noqa: F811
    results = autoopt.load(study)
    assert list(results.candidates) == candidates()
    assert [c.number for c in results.front()] == [1]
    assert results.statuses() == {0: "infeasible", 1: "front", 2: "failed"}
    assert list(results.table().index) == [0, 1, 2]


def test_a_bundle_holds_all_that_the_next_person_needs(study: Path, tmp_path: Path) -> None:  # noqa: F811
    target = autoopt.load(study).export("#1", tmp_path / "bundle")
    assert (target / "model.tflite").read_bytes() == FILE
    card = json.loads((target / "card.json").read_text())
    assert card["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert card["inputs"] == [END]
    assert card["metrics"]["latency_ms"]["change"] == "2.00x faster"
    assert Recipe.from_json((target / "recipe.json").read_text()) == Recipe(scheme="int8_io")
    text = (target / "card.md").read_text()
    for words in (
        "int8 (int8 in/out)",
        "2.00x faster",
        "| input | `image` | 1 x 8 x 8 x 1 | int8 | 0.5 | -128 |",
        "1 SOFTMAX",
    ):
        assert words in text
    assert "autoopt run STUDY --recipe recipe.json" in (target / "REPRODUCE.md").read_text()
    assert (target / "study.yaml").read_text() == "space: smoke"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_bundle_does_not_tell_whom_the_night_told(study: Path, tmp_path: Path) -> None:  # noqa: F811
    (study / "study.yaml").write_text("space: smoke\non_end: https://x.org/secret\nseed: 1\n")
    target = autoopt.load(study).export(1, tmp_path / "bundle")
    assert (target / "study.yaml").read_text() == "space: smoke\nseed: 1\n"
    assert all(b"secret" not in path.read_bytes() for path in target.iterdir())


def test_a_bundle_tells_what_was_done_to_the_data_where_init_did_it(study: Path, tmp_path: Path) -> None:  # noqa: F811
    assert "preparation.json" not in (autoopt.load(study).export(1, tmp_path / "without") / "README.md").read_text()
    (study / "preparation.json").write_text('{"kind": "table"}')
    target = autoopt.load(study).export(1, tmp_path / "with")
    assert (target / "preparation.json").read_text() == '{"kind": "table"}'
    text = (target / "README.md").read_text()
    assert "| `preparation.json` | what was done" in text
    assert "a number becomes `(number - subtract) / divide`" in text
    assert autoopt.load(study).export(1, target, replace=True) == target


def test_nothing_is_overwritten_silently(study: Path, tmp_path: Path) -> None:  # noqa: F811
    results = autoopt.load(study)
    target = results.export(1, tmp_path / "bundle")
    with pytest.raises(ConfigError, match="exists already"):
        results.export(1, target)
    (target / "model.tflite").write_bytes(b"old")
    assert (results.export(1, target, replace=True) / "model.tflite").read_bytes() == FILE
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        results.export(1, other, replace=True)


def test_errors_name_arguments_in_python_and_options_on_the_command_line(study: Path, tmp_path: Path) -> None:  # noqa: F811
    results = autoopt.load(study)
    target = results.export(1, tmp_path / "bundle")
    with pytest.raises(ConfigError, match="or force=True for an earlier bundle") as caught:
        results.export(1, target)
    assert caught.value.command_line.endswith("or --force for an earlier bundle")
    assert results.export(1, target, force=True) == target
    Store(StudyFolder(study).store()).path("a" * 64).unlink()
    with pytest.raises(TargetUnavailable, match=r"autoopt.run\('.*', recipes=\[candidate.recipe\]\)") as lost:
        results.export(1, tmp_path / "b")
    assert "--recipe RECIPE.json` makes it again" in lost.value.command_line


def test_a_candidate_and_a_pick_can_be_exported_as_they_are(study: Path, tmp_path: Path) -> None:  # noqa: F811
    results = autoopt.load(study)
    for place, what in enumerate((results.pick(), results.front()[0])):
        card = json.loads((results.export(what, tmp_path / str(place)) / "card.json").read_text())
        assert card["candidate"] == 1
    with pytest.raises(ConfigError, match="nothing was picked, so nothing is exported: nothing fits"):
        results.export(results.pick("latency_ms <= 0.1 ms"), tmp_path / "none")


def test_what_can_not_be_exported_says_why(study: Path, tmp_path: Path) -> None:  # noqa: F811
    results = autoopt.load(study)
    with pytest.raises(ConfigError, match="no candidate 9"):
        results.export(9, tmp_path / "b")
    with pytest.raises(ConfigError, match=r"#2 failed \(proof: clusters were lost\)"):
        results.export(2, tmp_path / "b")
    Store(StudyFolder(study).store()).path("a" * 64).unlink()
    with pytest.raises(TargetUnavailable, match="has lost the file of #1"):
        results.export(1, tmp_path / "b")


def test_what_is_of_no_bundle_is_not_swept_away(study: Path, tmp_path: Path) -> None:  # noqa: F811
    target = autoopt.load(study).export(1, tmp_path / "bundle")
    (target / "notes.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"holds notes.txt, which is of no bundle"):
        autoopt.load(study).export(1, target, replace=True)
    assert (target / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "change", [{"objectives": ["nothing"]}, {"objectives": None}, {"provenance": []}, {"budgets": ["x"]}]
)
def test_a_header_that_was_tampered_with_is_told_in_one_line(change: dict[str, object], study: Path) -> None:  # noqa: F811
    header = json.loads(StudyFolder(study).header.read_text()) | change
    StudyFolder(study).header.write_text(json.dumps({k: v for k, v in header.items() if v is not None}))
    with pytest.raises(ConfigError, match=r"can't be read \(.*\); run `autoopt run .*` to restore it"):
        autoopt.load(study)


@pytest.mark.parametrize("change", [{"number": "12"}, {"seconds": None}])
def test_a_candidate_of_other_types_is_left_out(change: dict[str, object], study: Path) -> None:  # noqa: F811
    path = StudyFolder(study).candidate_file(1)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    results = autoopt.load(study)
    assert [c.number for c in results.candidates] == [0, 2]
    assert results.damaged == (str(path),)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_header_says_how_to_restore_it(text: str, study: Path) -> None:  # noqa: F811
    StudyFolder(study).header.write_text(text)
    with pytest.raises(ConfigError, match=r"run `autoopt run .*` to restore it"):
        autoopt.load(study)


def test_a_study_that_never_ran_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results yet; run `autoopt run"):
        autoopt.load(tmp_path)


def test_a_bundle_does_not_tell_where_the_study_lay(study: Path, tmp_path: Path) -> None:  # noqa: F811
    header = json.loads(StudyFolder(study).header.read_text())
    header["provenance"] |= {"folder": "/home/anna/secret/toy", "space": "/home/anna/secret/toy/study.yaml: space"}
    StudyFolder(study).header.write_text(json.dumps(header))
    target = autoopt.load(study).export(1, tmp_path / "bundle")
    card = json.loads((target / "card.json").read_text())
    assert (card["provenance"]["folder"], card["provenance"]["space"]) == ("toy", "toy/study.yaml: space")
    assert not any(b"anna" in path.read_bytes() for path in target.iterdir())


def test_the_card_tells_what_was_confirmed_and_what_was_lost() -> None:
    def half(right: int) -> str:
        return pack_outcomes(np.arange(200) < right)

    def one(number: int, seen: int, again: int, classes: tuple[tuple[int, int], ...]) -> Candidate:
        quality = Measurement(value=again / 200, low=0.5, high=1.0, n=200, how="made up")
        made = candidate(number, origin="search" if number else "baseline", accuracy=measured(seen / 200, 0.05, 200))
        confirmation = Confirmation(quality=quality, outcomes=half(again))
        return dataclasses.replace(made, outcomes=half(seen), classes=classes, confirmation=confirmation)

    found = results(one(0, 190, 190, ((95, 100), (95, 100))), one(1, 190, 180, ((100, 100), (2, 100))))
    card = make_card(found, found.candidates[1])
    assert card["confirmed"]["change"] == pytest.approx(-0.05)
    assert card["confirmed"]["search_flattered_by"] == pytest.approx(0.05)
    assert [c["name"] for c in card["classes"] if c["lost"]] == ["1"]
    text = card_text(card)
    assert "Confirmed: accuracy 90.00 % on the test split" in text
    assert "-5.00 points (" in text
    assert "Class 1 is lost: 2% of its 100 items are right, 95% were before." in text
