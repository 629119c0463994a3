"""What a person reads: 80 columns, numbers whole, nothing for machines."""

import dataclasses
import itertools
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from builders import METRICS, candidate, failed, measured, recipes, results
from compared import STUDY as COMPARED
from compared import confirmed, judged
from hypothesis import given
from hypothesis import strategies as st

from autoopt.cli import output
from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import Measurement
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.reporting import wording as words
from autoopt.reporting.comparison import compare

LONG = Recipe(
    prune=Prune(sparsity=0.5, structure="2:4"),
    cluster=Cluster(number=16, per_channel=True),
    scheme="qat_int8_io",
    finetune=Finetune(epochs=12, learning_rate=0.0005),
)
FIVE = ("accuracy", "latency_ms", "compressed_bytes", "memory_bytes")
"""Objectives; with the file's size, five columns of numbers."""


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def full(number: int, recipe: Recipe = LONG, *, flags: tuple[str, ...] = (), **more: object) -> Candidate:
    latency = Measurement(value=0.0815 * number, low=0.08 * number, high=0.083 * number, n=5, how="x", flags=flags)
    sizes = {"size_bytes": 128_900.0 * number, "compressed_bytes": 122_300.0, "memory_bytes": 583_700.0}
    made = candidate(number, recipe=recipe, accuracy=0.98 - 0.001 / number, latency_ms=latency, **sizes)
    return dataclasses.replace(made, **more)


def front(study: Results, capsys: pytest.CaptureFixture[str], **more: object) -> str:
    output.print_front(study, **more)
    return capsys.readouterr().out


def test_a_table_of_five_numbers_and_long_recipes_stays_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(full(1, flags=("wide interval",)), full(12), full(103), objectives=FIVE)
    shown = front(study, capsys)
    assert max(map(len, shown.splitlines())) <= 80
    assert "0.0815 ms*" in shown
    assert "0.978 ms " in shown, "digits stand below digits"
    assert "* wide interval" in shown
    for whole in ("128.9 KB", "583.7 KB", "50 % pruned (2:4)"):
        assert whole in shown


def test_a_recipe_wraps_in_its_own_column_with_a_hanging_indent(capsys: pytest.CaptureFixture[str]) -> None:
    lines = front(results(full(1), objectives=FIVE), capsys).splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("#1"))
    column = lines[first].index("50 %")
    assert len(lines) > first + 1
    for line in lines[first + 1 :]:
        assert line[: column + 2].strip() == ""
        assert line[column + 2] != " "


def test_headings_are_no_wider_than_what_stands_below(capsys: pytest.CaptureFixture[str]) -> None:
    lines = front(results(full(1), objectives=FIVE), capsys).splitlines()
    assert lines[1].split() == ["compressed", "peak", "file"]
    assert lines[2].split() == ["accuracy", "latency", "size", "memory", "size", "recipe"]


def test_all_says_what_became_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(
        candidate(0, "baseline", accuracy=0.9, size_bytes=9), candidate(1, accuracy=0.8, size_bytes=9), failed(2)
    )
    assert "[dominated]" not in front(study, capsys)
    shown = front(study, capsys, everything=True)
    assert "float32 (baseline)" in shown
    assert "float32 [dominated]" in shown
    assert re.search(r"#2 +- +- +float32: failed in prune:\s+no layer can be pruned", shown)


def test_budgets_asked_for_decide_who_is_on_the_front(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(
        *(candidate(n, accuracy=0.9 + n / 100, size_bytes=n) for n in (1, 2, 3)), budgets=["size_bytes <= 1"]
    )
    assert "1 of 3 candidates on the front" in front(study, capsys)
    shown = front(study, capsys, budgets=study.parse_budgets(["size_bytes <= 2 B"]), everything=True)
    assert "2 of 3 candidates on the front" in shown
    assert shown.count("[infeasible]") == 1


def test_the_plot_stands_above_the_table_and_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(full(1), full(2), objectives=FIVE)
    with_plot = front(study, capsys, plot=True)
    assert with_plot.index("┌") < with_plot.index("#1")
    assert max(map(len, with_plot.splitlines())) == 80
    assert "\x1b" not in with_plot
    assert "┌" not in front(study, capsys)
    assert "┌" not in front(results(), capsys, plot=True)


def test_a_wide_terminal_is_not_filled_by_the_plot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    study = results(full(1), full(2), objectives=FIVE)
    lines = front(study, capsys, plot=True).splitlines()
    assert max(len(line) for line in lines if "│" in line) == 100
    assert any(LONG.label() in line for line in lines), "and the table has room for a recipe in one line"


SHOW = """
import sys; sys.path[:0] = ["tests/support", "tests/cli"]
from test_output import FIVE, full, results, output
output.print_front(results(full(1), full(2), objectives=FIVE), plot=True)
"""


def test_colours_are_for_terminals_that_want_them() -> None:
    def shown(**environment: str) -> str:
        reader, writer = pty.openpty()
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment
        process = subprocess.Popen([sys.executable, "-c", SHOW], stdout=writer, env=env)
        os.close(writer)
        text = b""
        try:
            while part := os.read(reader, 4096):
                text += part
        except OSError:  # how Linux says that the other end was closed
            pass
        os.close(reader)
        assert process.wait() == 0
        return text.decode()

    assert "\x1b[38;5;6mo" in shown()
    assert "\x1b[38" not in shown(NO_COLOR="1")


def test_a_terminal_without_box_characters_gets_ascii() -> None:
    env = os.environ | {"PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run([sys.executable, "-c", SHOW], env=env, capture_output=True, check=True).stdout
    assert b"+-----" in shown
    assert b"?" not in shown


@given(recipes, st.integers(10, 60))
def test_wrapping_loses_nothing_and_breaks_no_number_from_its_unit(recipe: Recipe, width: int) -> None:
    text = f"{recipe.label()} (scheme): 12.5 KB or 3 ms"
    lines = output.wrap(text, width, "  ")
    assert " ".join(line.strip() for line in lines) == text
    for line, after in itertools.pairwise(lines):
        assert not (re.search(r"(^|\s)[\d.]+$", line) and re.match(r"\s*[%a-zA-Z]", after))
    too_long = [line.split() for line in lines if len(line) > width]
    # What ends in a digit may be a number, also in a layer's name.
    assert all(len(words) == 1 or (len(words) == 2 and re.search(r"[\d.]$", words[0])) for words in too_long)


# ---- picking


def pick(study: Results, capsys: pytest.CaptureFixture[str], *texts: str) -> list[str]:
    limits = study.parse_budgets(texts)
    output.print_pick(study, study.pick_within(limits), limits)
    return capsys.readouterr().out.splitlines()


def test_the_nearest_say_which_budget_they_miss_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(
        candidate(0, "baseline", accuracy=0.95, latency_ms=2.24, size_bytes=9000),
        candidate(1, accuracy=0.935, latency_ms=1.0, size_bytes=2002),
        candidate(2, accuracy=0.94, size_bytes=1000),
    )
    shown = pick(study, capsys, "latency_ms <= 2", "accuracy >= baseline - 1%", "size_bytes <= 2 KB")
    assert shown[0].startswith("pick: none.")
    told = {}
    for line in shown:
        if found := re.match(r"  nearest: (#\d)", line):
            name = found[1]
        elif "misses" in line:
            told.setdefault(name, []).append(line.strip())
    assert told == {
        "#0": ["misses latency_ms <= 2 by 12 %", "misses size_bytes <= 2 KB by 350 %"],
        "#1": ["misses accuracy >= baseline - 1% by 0.5 points", "misses size_bytes <= 2 KB by 0.1 %"],
        "#2": ["misses latency_ms <= 2: latency was not measured"],
    }


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_who_misses_nothing_fits(value: float, limit: float) -> None:
    study = results(candidate(0, accuracy=0.9, latency_ms=value))
    budgets = study.parse_budgets([f"latency_ms <= {limit!r}"])
    assert (words.misses(study, study.candidates[0], budgets) == []) == study.fits(study.candidates[0], budgets)


def test_a_pick_says_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    again = Confirmation(quality=Measurement.exact(0.9, "x"))
    baseline = candidate(0, "baseline", accuracy=measured(0.9, 0.03), latency_ms=measured(1.0), size_bytes=9)
    faster = candidate(1, accuracy=measured(0.9, 0.03), latency_ms=measured(0.5), size_bytes=9)
    lines = "\n".join(pick(results(dataclasses.replace(baseline, confirmation=again), faster), capsys))
    assert "accuracy (validation split)" in lines
    assert "not confirmed: its accuracy was measured on the validation split alone" in lines
    assert "too few items to tell: with 100 items it is open whether" in lines
    worse = [dataclasses.replace(c, confirmation=again) for c in (
        baseline, candidate(1, accuracy=measured(0.95, 0.01), latency_ms=measured(2), size_bytes=12))]  # fmt: skip
    lines = "\n".join(pick(results(*worse, objectives=FIVE), capsys))
    assert "not worth it: keep the untouched model, #0; #1 is better in no objective" in lines
    assert "not confirmed" not in lines


def test_what_goes_to_a_file_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(full(1), full(2), full(3))
    assert any(line.startswith("  why: ") and len(line) > 80 for line in pick(study, capsys))


# ---- comparing


def shown_comparison(study: Results, numbers: list[int], capsys: pytest.CaptureFixture[str]) -> list[str]:
    output.print_comparison(compare(study, numbers))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("numbers", [[1, 2], [1, 2, 3], [1, 2, 3, 4]])
def test_candidates_are_columns_within_80_columns(numbers: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    others = [full(3, Recipe(scheme="int16x8"), flags=("wide interval",)), full(4, Recipe(scheme="float16"))]
    study = results(full(1), full(2, Recipe()), *others, objectives=FIVE)
    lines = shown_comparison(study, numbers, capsys)
    assert lines[0].split() == [f"#{n}" for n in numbers]
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert re.search(r"^prune sparsity +50 % +–", text, re.MULTILINE)
    assert re.search(r"^file size +128\.9 KB +257\.8 KB", text, re.MULTILINE)
    assert "2.00x larger" in text
    assert ("* wide interval" in text) == (3 in numbers)


def test_quality_says_whether_they_are_tied(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown_comparison(COMPARED, [0, 1, 2], capsys))
    assert re.search(r"^  against #0 +-18\.67 points +\+0\.33 points", text, re.MULTILINE)
    assert re.search(r"^ +not as good +as good", text, re.MULTILINE)
    assert re.search(r"^  dog +95\.0% +40\.0% +95\.0%$", text, re.MULTILINE)


def test_the_test_split_is_told_where_both_were_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(*(judged(n, [90 - n], confirmation=confirmed(n, 88 - n)) for n in (0, 1)))
    text = "\n".join(shown_comparison(study, [0, 1], capsys))
    assert re.search(r"^  on test split +-1\.00 points", text, re.MULTILINE)
    assert "#1 confirmed: accuracy 87.00 % on the test split" in text


def test_of_many_classes_the_worst_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(judged(0, [90] * 30), judged(1, list(range(60, 90))))
    lines = shown_comparison(study, [0, 1], capsys)
    begin = lines.index("right, by class")
    assert lines[begin + 1].split() == ["0", "90.0%", "60.0%"]
    assert lines[begin + 1 + output.CLASSES] == "  and 20 more (see --json)"


def test_wide_letters_keep_the_columns_in_line(capsys: pytest.CaptureFixture[str]) -> None:
    study = results(judged(0, [90, 80]), judged(1, [80, 70]), provenance={"class_names": ["猫", "dog"]})
    rows = [line for line in shown_comparison(study, [0, 1], capsys) if line.startswith(("  猫", "  dog"))]
    assert len({len(row) + row.count("猫") for row in rows}) == 1


@given(st.lists(st.sampled_from(sorted(METRICS)), unique=True), st.integers(0, 3))
def test_anything_measured_can_be_printed(names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [{name: measured(rng.uniform(0, 1e7), 0.01) for name in names} for _ in range(3)]
    study = results(*(candidate(n, **v) for n, v in enumerate(values)), objectives=tuple(names) or ("accuracy",))
    output.print_front(study, everything=True, plot=True)
    output.print_comparison(compare(study, [0, 1, 2]))


def test_names_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[2Jb\u202ec"
    found = results(candidate(0, "baseline", accuracy=0.9, latency_ms=1.0, size_bytes=5.0), study=evil)
    output.print_front(found, everything=True, plot=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "a\\x1b[2Jb\\u202ec" in shown
