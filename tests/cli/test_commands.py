"""Every command: help, text, JSON, exit codes. What they compute is tested where it is computed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import builders
import pytest
import tiny
import tinybundle
from click.testing import CliRunner, Result
from saved_study import study  # noqa: F401 - the fixture

from autoopt.cli.commands import main

PAGES = (builders.ROOT / "README.md", *sorted((builders.ROOT / "docs").glob("*.md")))
"""What documents the commands."""


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help_and_is_documented(name: str) -> None:
    shown = cli(name, "--help")
    assert shown.exit_code == 0
    assert "--json" in shown.stdout
    assert "--debug" in shown.stdout
    text = "\n".join(page.read_text() for page in PAGES)
    assert f"autoopt {name}" in text
    for option in re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown.stdout, re.MULTILINE):
        assert option in text, f"README and docs do not name {option}"


def test_front_is_a_table_csv_or_json(study: Path) -> None:  # noqa: F811
    assert "#1" in cli("front", study).stdout
    assert "#2" in cli("front", study, "--all").stdout
    assert cli("front", study, "--csv").stdout.splitlines()[1].startswith("1,front,")
    assert [row["number"] for row in json.loads(cli("front", study, "--json").stdout)] == [1]
    assert json.loads(cli("front", study, "--json", "-b", "latency_ms <= 0.1").stdout) == []


def test_front_has_a_plot_for_people_only(study: Path) -> None:  # noqa: F811
    assert "┌" in cli("front", study).stdout
    for option in ("--no-plot", "--csv", "--json"):
        assert "┌" not in cli("front", study, option).stdout


def test_front_takes_budgets_in_place_of_the_studys(study: Path) -> None:  # noqa: F811
    shown = cli("front", study, "-b", "latency_ms <= 3", "--all").stdout
    assert "infeasible" not in shown
    assert "[dominated]" in shown
    assert "0 of 3 candidates on the front" in cli("front", study, "--max-latency", "1us").stdout


def test_pick_explains_itself(study: Path) -> None:  # noqa: F811
    shown = cli("pick", study)
    assert shown.exit_code == 0
    assert "pick: #1 int8 (int8 in/out)" in shown.stdout
    assert "why:" in shown.stdout


def test_pick_with_nothing_inside_names_what_binds_and_the_nearest(study: Path) -> None:  # noqa: F811
    shown = cli("pick", study, "--max-latency", "1us", "--max-accuracy-drop", "1%")
    assert shown.exit_code == 1
    assert "pick: none" in shown.stdout
    assert "keeps them out: latency_ms <= 1us" in shown.stdout
    assert "nearest: #1" in shown.stdout
    assert "misses latency_ms <= 1us by 99,900 %" in shown.stdout
    plain = json.loads(cli("pick", study, "--max-latency", "1us", "--json").stdout)
    assert plain["candidate"] is None
    assert plain["nearest"][0]["number"] == 1


def test_pick_asks_only_where_asked_and_attended(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    refused = cli("pick", study, "--ask")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("autoopt: --ask needs a terminal")
    assert len(refused.stderr.splitlines()) == 1
    monkeypatch.setattr("autoopt.cli.prompts.attended", lambda: True)
    shown = CliRunner().invoke(main, ["pick", str(study), "--ask"], input="\n3ms\n\n\n")
    assert shown.exit_code == 0
    assert "latency: 1 ms to 2 ms among the 2 of 2 candidates that fit so far" in shown.stderr
    assert "pick: #1 int8 (int8 in/out)" in shown.stdout
    assert re.search(r"^autoopt export \S+ 1$", shown.stdout, re.MULTILINE)
    plain = CliRunner().invoke(main, ["pick", str(study), "--ask", "--json"], input="\n\n\n\n").stdout
    assert json.loads(plain[plain.index("{") :])["candidate"]["number"] == 1
    assert "autoopt export" not in cli("pick", study).stdout


def test_compare_prints_candidates_side_by_side(study: Path) -> None:  # noqa: F811
    shown = cli("compare", study, 0, "#1")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0].split() == ["#0", "#1"]
    assert re.search(r"^scheme +float32 +int8 \(int8 in/out\)$", shown.stdout, re.MULTILINE)
    assert "2.00x faster" in shown.stdout
    plain = json.loads(cli("compare", study, 0, 1, "--json").stdout)
    assert plain["settings"] == {"scheme": ["float32", "int8 (int8 in/out)"]}
    assert plain["metrics"]["latency_ms"][1]["value"] == 1.0


def test_status_counts_and_groups(study: Path) -> None:  # noqa: F811
    shown = cli("status", study).stdout
    assert "3 candidates, not running" in shown
    assert "failed in proof (1): clusters were lost" in shown
    assert json.loads(cli("status", study, "--json").stdout)["counts"] == {"infeasible": 1, "front": 1, "failed": 1}


def test_summary_is_one_paragraph(study: Path) -> None:  # noqa: F811
    shown = cli("summary", study)
    assert shown.exit_code == 0
    (text,) = shown.stdout.splitlines()
    assert text.startswith(
        "The study toy looks for the best accuracy and latency, inside latency_ms <= 1.5 ms. 3 candidates"
    )
    assert "The pick is #1 (int8 (int8 in/out)): accuracy 90.00 %" in text
    plain = json.loads(cli("summary", study, "--json").stdout)
    assert plain["text"] == text
    assert plain["pick"]["candidate"] == json.loads(cli("pick", study, "--json").stdout)["candidate"]


def test_export_and_report_write_files(study: Path, tmp_path: Path) -> None:  # noqa: F811
    assert cli("export", study, "1", "--to", tmp_path / "bundle").exit_code == 0
    assert cli("export", study, "--to", tmp_path / "bundle").exit_code == 2
    assert cli("export", study, "--to", tmp_path / "bundle", "--force").exit_code == 0
    assert cli("export", study, "--to", tmp_path / "x", "--max-latency", "1us").exit_code == 1
    assert cli("report", study, "--to", tmp_path / "r.html").exit_code == 0
    assert "<html" in (tmp_path / "r.html").read_text()


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_report_writes_pictures_and_then_itself_only_if_told_where(study: Path, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("kaleido")
    png, svg, page = (tmp_path / f"made.{kind}" for kind in ("png", "svg", "html"))
    assert json.loads(cli("report", study, "--png", png, "--json").stdout) == {"png": str(png)}
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not list(study.rglob("report.html"))
    assert cli("report", study, "--svg", svg, "--to", page).stdout.split() == [str(svg), str(page)]
    assert "<svg" in svg.read_text()
    assert "<html" in page.read_text()


def test_space_prints_knobs_and_counts() -> None:
    shown = cli("space", "smoke").stdout
    assert "recipes: 381" in shown
    assert "recipes: without end (finetune.learning_rate is continuous)" in cli("space", "mobile").stdout
    assert json.loads(cli("space", "smoke", "--json").stdout)["recipes"] == 381


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("front", "nowhere"), 2, "no such folder"),
        (("space", "nothing.yaml"), 2, "nothing.yaml: can't read it"),
        (("pick", "STUDY", "-b", "latency_ms < 2"), 2, "expected 'METRIC <= LIMIT'"),
        (("pick", "STUDY", "--max-size", "3 parsecs"), 2, "expected a unit of size_bytes"),
        (("pick", "STUDY", "--max-size", "60"), 2, "max_size 60: of what? Write '60 KB', or '60 B' for bytes"),
        (("pick", "STUDY", "--max-accuracy-drop", "1"), 2, "1 of what? Write '1 point' (the same as '1 %' or '0.01')"),
        (("pick", "STUDY", "--max-quality-drop", "2 ms"), 2, "expected a unit of accuracy ('%', 'points'), got 'ms'"),
        (("export", "STUDY", "99"), 2, "no candidate 99"),
        (("compare", "STUDY", "1"), 2, "expected 2 to 4 candidates, got 1"),
        (("compare", "STUDY", "1", "1"), 2, "#1 is given twice"),
        (("compare", "STUDY", "1", "2"), 2, "#2 failed (proof: clusters were lost)"),
        (("compare", "STUDY"), 2, "Missing argument"),
        (("report", "STUDY", "--png", "front.svg"), 2, "expected a name that ends in .png"),
        (("run", "STUDY", "--trials", "0"), 2, "--trials"),
        (("run", "STUDY", "--recipe", "nothing.json"), 2, "can't read the recipe"),
        (("run", "STUDY", "--scheduler", "tcp://127.0.0.1:9"), 1, "no Dask scheduler answers"),
        (("frnt",), 2, "No such command"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    arguments: tuple[str, ...], code: int, words: str, study: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr("autoopt.execution.dask_engine.CONNECT_S", 1)
    shown = cli(*[study if a == "STUDY" else a for a in arguments])
    assert shown.exit_code == code, shown.output
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in cli("front", "nowhere", "--debug").stderr
    assert "Traceback" not in cli("front", "nowhere").stderr


def test_a_closed_pipe_is_no_error(study: Path) -> None:  # noqa: F811
    command = f"{sys.executable} -m autoopt front {study} --csv | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_statuses_are_told_for_the_budgets_that_were_asked_for(study: Path) -> None:  # noqa: F811
    def statuses(*options: str) -> dict[int, str]:
        rows = json.loads(cli("front", study, "--all", "--json", *options).stdout)
        return {row["number"]: row["status"] for row in rows}

    assert statuses()[0] == "infeasible"  # by the study's own budget
    assert "infeasible" not in statuses("--no-budget").values()
    assert statuses("--max-latency", "1us")[1] == "infeasible"
    nearest = json.loads(cli("pick", study, "--json", "--max-latency", "1us").stdout)["nearest"]
    assert {row["status"] for row in nearest} == {"infeasible"}
    assert "infeasible" not in cli("front", study, "--all", "--csv", "--no-budget").stdout


def test_budgets_and_none_contradict_each_other(study: Path) -> None:  # noqa: F811
    shown = cli("pick", study, "--no-budget", "--max-latency", "2ms")
    assert shown.exit_code == 2
    assert "expected budgets or none, got both" in shown.stderr


def test_export_takes_a_number_or_budgets(study: Path, tmp_path: Path) -> None:  # noqa: F811
    shown = cli("export", study, 1, "--max-latency", "2ms", "--to", tmp_path / "b")
    assert shown.exit_code == 2
    assert "expected a candidate's number or budgets, got both" in shown.stderr
    nothing = cli("export", study, "--max-latency", "1us", "--json", "--to", tmp_path / "b")
    assert nothing.exit_code == 1
    assert json.loads(nothing.stdout)["candidate"] is None


def test_a_limit_must_be_finite(study: Path) -> None:  # noqa: F811
    shown = cli("pick", study, "-b", "latency_ms <= 1e400")
    assert shown.exit_code == 2
    assert "expected a finite limit, got 1e400" in shown.stderr


@pytest.mark.parametrize("drop", ["50 points", "50 point", "50pp", "50%", "50 percentage points", "0.1"])
@pytest.mark.parametrize("option", ["--max-accuracy-drop", "--max-quality-drop"])
def test_drops_are_read_as_people_say_them(study: Path, option: str, drop: str) -> None:  # noqa: F811
    assert cli("pick", study, option, drop, "--max-latency", "3").exit_code == 0


@pytest.mark.parametrize(("said", "shown"), [("Unable to allocate 9 TiB", " (Unable to allocate 9 TiB)"), ("", "")])
def test_a_lack_of_memory_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, said: str, shown: str) -> None:
    def exhausted(**given: object) -> None:
        raise MemoryError(said)

    monkeypatch.setattr(main.commands["front"], "callback", exhausted)
    result = cli("front", "study")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"autoopt: no memory was left for it{shown}; end other programs")
    assert len(result.stderr.splitlines()) == 1


def test_clean_says_what_can_go_and_removes_it_when_told(tmp_path: Path) -> None:
    tinybundle.study(tmp_path, tiny.file(tiny.recipe()), tiny.split(64, 2))
    store = tmp_path / "out" / "store"
    before = sorted(path for path in store.rglob("*") if path.is_file())
    shown = cli("clean", tmp_path)
    assert (shown.exit_code, shown.stdout.endswith("; nothing can go\n")) == (0, True)
    plain = json.loads(cli("clean", tmp_path, "--keep", "front", "--yes", "--json").stdout)
    assert plain == {
        "store": str(store), "bytes": sum(path.stat().st_size for path in before), "freed": 0, "removed": True,
        "kinds": {kind: {"number": 0, "bytes": 0} for kind in ("training states", "trained models", "files")},
    }  # fmt: skip
    assert sorted(path for path in store.rglob("*") if path.is_file()) == before
    assert cli("clean", tmp_path, "--keep", "all").exit_code == 2


def test_clean_of_what_is_no_study_says_so(tmp_path: Path) -> None:
    shown = cli("clean", tmp_path)
    assert (shown.exit_code, shown.stderr.count("\n")) == (2, 1)
    assert "no results yet" in shown.stderr


def test_an_export_to_trackers_takes_all_candidates(study: Path, tmp_path: Path) -> None:  # noqa: F811
    refused = cli("export", study, "1", "--tensorboard", tmp_path / "logs")
    assert refused.exit_code == 2
    assert "take all candidates and write no bundle" in refused.stderr
    pytest.importorskip("tensorboard")
    shown = cli("export", study, "--tensorboard", tmp_path / "logs", "--json")
    assert json.loads(shown.stdout) == {"tensorboard": {"address": str(tmp_path / "logs"), "runs": 2}}


def test_a_bundle_may_have_a_model_card(study: Path, tmp_path: Path) -> None:  # noqa: F811
    assert cli("export", study, "1", "--to", tmp_path / "bundle", "--model-card").exit_code == 0
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: tflite\n")
    assert "autoopt verify ." in text
    assert "| latency | 1 ms |" in text
