import dataclasses
import io
import sys
import types

import pytest
from builders import candidate as made
from builders import results as made_results
from rich.console import Console

from autoopt.core.metrics import STANDARD, Metric
from autoopt.search import views
from autoopt.search.progress import Silent, Snapshot
from autoopt.search.views import Live, Notebook, Plain, describe, summary, usual

VALUES = {"accuracy": 0.9, "latency_ms": 0.5, "compressed_bytes": 1000.0}
METRICS = {"accuracy": Metric(name="accuracy", direction="max", unit="fraction"), **STANDARD}


class Spent:
    jobs, saved, wall, hits, overhead = 90.0, 30.0, 100.0, 7, 5.0


def test_the_summary_says_where_the_time_went() -> None:
    text = summary(Snapshot(done=4, failed=1, total=4), Spent(), "time is up")
    assert text.startswith("time is up: 4 candidates, 1 failed, in 1 min 40 s.")
    assert "In jobs 90.0 s, saved by the store 30.0 s (7 results), overhead 5.0 s (5.0% of the time)" in text


def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Plain() as view:
        view.note("reading")
        view.candidate(made(3, **VALUES), METRICS, None)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split("] ")[1][:8] for line in shown.err.splitlines()] == ["reading", "#3 float"]


def test_plain_lines_tell_of_a_long_reading_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Snapshot(done=0, failed=0, total=8, reading="train: reading 20,000 items, 2,200 MB (11%)")
    with Plain() as view:
        view.update(reading)
        assert capsys.readouterr().err == "", "a short reading needs no word"
        monkeypatch.setattr(views, "READING_S", 0.0)
        view.update(reading)
        view.update(Snapshot(done=0, failed=0, total=8))
    assert [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()] == [reading.reading]


def test_failures_are_described_with_stage_and_reason() -> None:
    failed = dataclasses.replace(made(5), failed_stage="prune", reason="the loss became nan")
    assert describe(failed, METRICS, None).endswith("failed in prune: the loss became nan")


def test_the_live_view_shows_progress_jobs_and_the_front() -> None:
    screen = io.StringIO()
    study = made_results(made(0, origin="baseline", **VALUES, size_bytes=9), made(1, **VALUES, size_bytes=8))
    snapshot = Snapshot(
        done=2,
        failed=0,
        total=8,
        running=((2, "50 % pruned [bold]", "prune", "epoch 1/3"),),
        hits=3,
        elapsed_s=10,
        candidates=study.candidates,
        objectives=study.objectives,
        metrics=study.metrics,
        quality=study.quality,
    )
    with Live(Console(file=screen, force_terminal=True, width=120)) as view:
        view.update(snapshot)
        view.note("a [note]")
    text = screen.getvalue()
    for words in ("2 of 8 candidates", "epoch 1/3", "[bold]", "front so far", "a [note]"):
        assert words in text
    bar = next(line for line in text.splitlines() if "━" in line)
    assert "candidates" not in bar, "the bar has a line of its own"


class Cell:
    """The output of a notebook's cell: what it shows now, and how often that changed."""

    def __init__(self) -> None:
        self.text, self.shown = "", 0

    def display(self, shown: dict[str, str], *, raw: bool, display_id: bool) -> "Cell":
        assert display_id
        assert self.shown == 0, "one output, that is redrawn"
        self.update(shown, raw=raw)
        return self

    def update(self, shown: dict[str, str], *, raw: bool) -> None:
        assert raw
        assert set(shown) == {"text/html", "text/plain"}
        self.text, self.shown = shown["text/html"], self.shown + 1


def busy() -> Snapshot:
    study = made_results(made(0, origin="baseline", **VALUES, size_bytes=9), made(1, **VALUES, size_bytes=8))
    return Snapshot(
        done=2, failed=0, total=8, running=((2, "<b>50 %</b> pruned", "prune", "epoch 1/3"),), elapsed_s=10,
        candidates=study.candidates, objectives=study.objectives, metrics=study.metrics, quality=study.quality,
    )  # fmt: skip


def test_a_notebook_shows_progress_in_one_place_with_names_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "NOTEBOOK_S", 1000)
    cell = Cell()
    with Notebook(cell.display) as view:
        view.update(busy())
        for number in range(100):
            view.candidate(made(number, **VALUES), METRICS, None)
            view.update(busy())
        assert cell.shown == 1, "not at each of several updates a second"
        for words in ("2 of 8 candidates", "epoch 1/3", "&lt;b&gt;50 %&lt;/b&gt; pruned", "front so far"):
            assert words in cell.text
        view.note("<i>a note</i>")
        assert "&lt;i&gt;a note&lt;/i&gt;" in cell.text
        assert "#99 float32" in cell.text
        assert "#50 float32" not in cell.text, "the last few alone"
        view.finish(busy(), Spent(), "time is up")
    assert "time is up: 2 candidates" in cell.text
    assert "epoch 1/3" not in cell.text


def test_a_notebook_that_can_not_show_stops_no_search() -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError("the browser is gone")

    with Notebook(gone) as view:
        view.note("reading")
        view.update(busy())
        view.finish(busy(), Spent(), "done")


class TerminalInteractiveShell:
    """What `ipython` runs in a terminal."""


@pytest.mark.parametrize(("shell", "view"), [(None, Silent), (object(), Notebook), (TerminalInteractiveShell(), Plain)])
def test_the_usual_view_is_that_of_the_place(shell: object, view: type, monkeypatch: pytest.MonkeyPatch) -> None:
    python, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    python.get_ipython = lambda: shell  # type: ignore[attr-defined]
    shown.display = print  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    assert type(usual()) is view


def test_without_ipython_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert type(usual()) is Silent
