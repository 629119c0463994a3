"""What became of each recipe, in memory and on disk."""

import dataclasses
from pathlib import Path

import pytest
from builders import METRICS, candidate, failed

from autoopt.api.saved_study import load
from autoopt.core import budgets, reference_values
from autoopt.core.candidate import Skipped
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Prune
from autoopt.study.folder import StudyFolder
from autoopt.study.ledger import Ledger
from autoopt.study.objectives import Terms

TERMS = Terms(
    quality=METRICS["accuracy"],
    metrics=METRICS,
    objectives=("accuracy", "size_bytes"),
    budgets=(budgets.parse("size_bytes <= 0.5 * baseline", METRICS),),
)
BASELINE = candidate(0, origin="baseline", accuracy=0.9, size_bytes=1000.0)
SMALL = candidate(1, accuracy=0.8, size_bytes=250.0)
SKIPPED = Skipped(
    number=2, recipe=Recipe(prune=Prune(sparsity=0.5)), origin="search", kind="dominated", reason="at best 80 %",
    point=("prune", "begun"), score=0.7, seconds=3.0,
)  # fmt: skip


def ledger(path: Path) -> Ledger:
    return Ledger(StudyFolder(path), TERMS)


def test_another_run_recalls_what_was_kept(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.keep(BASELINE)
    first.keep(SMALL)
    first.skip(SKIPPED)
    again = ledger(tmp_path)
    assert [again.recall(n) for n in range(4)] == [BASELINE, SMALL, SKIPPED, None]
    assert again.results() == first.results()
    assert again.results().candidates == (BASELINE, SMALL)
    assert again.results().skipped == (SKIPPED,)


def test_what_is_made_after_all_is_skipped_no_more(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.skip(SKIPPED)
    made = dataclasses.replace(SMALL, number=SKIPPED.number)
    kept.keep(made)
    assert kept.skipped == {}
    assert ledger(tmp_path).recall(SKIPPED.number) == made


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": 2}', '{"number": 2, "recipe": {"scheme": "int3"}}'])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, text: str) -> None:
    kept = ledger(tmp_path)
    kept.skip(SKIPPED)
    kept.folder.skipped_file(SKIPPED.number).write_text(text)
    assert ledger(tmp_path).recall(SKIPPED.number) is None


def test_a_sampler_is_told_objectives_and_how_far_outside(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.keep(BASELINE)
    assert kept.told(BASELINE) == ([0.9, 1000.0], {"size_bytes <= 0.5 * baseline": 1.0})
    assert kept.told(SMALL) == ([0.8, 250.0], {"size_bytes <= 0.5 * baseline": -0.5})
    assert kept.told(failed(3)) == (None, {})
    assert kept.told(candidate(4, accuracy=0.9)) == (None, {})


@pytest.mark.parametrize("margin", ["", "2 points"])
def test_the_margin_is_written_down_for_who_reads_the_study(tmp_path: Path, margin: str) -> None:
    kept = Ledger(StudyFolder(tmp_path), dataclasses.replace(TERMS, equivalence=margin))
    kept.keep(BASELINE)
    kept.write_header("", {})
    assert kept.results().equivalence == load(tmp_path).equivalence == margin
    assert load(tmp_path).margin == (0.02 if margin else 0.01)
    assert ("equivalence" in StudyFolder(tmp_path).header.read_text()) == bool(margin)


def test_budgets_that_were_written_down_are_read_as_they_were(tmp_path: Path) -> None:
    """A bare drop of 1 was 100 points once, and a study that has it must still be read."""
    limits = (budgets.parse("accuracy >= baseline - 1", METRICS, stored=True),)
    kept = Ledger(StudyFolder(tmp_path), dataclasses.replace(TERMS, budgets=limits))
    kept.keep(BASELINE)
    kept.write_header("", {})
    assert load(tmp_path).budgets == limits


def test_a_budget_is_read_against_the_first_scheme_where_the_target_refuses_the_baseline(tmp_path: Path) -> None:
    terms = dataclasses.replace(TERMS, budgets=(budgets.parse("latency_ms <= 0.5 * baseline", METRICS),))
    kept = Ledger(StudyFolder(tmp_path), terms)
    kept.keep(dataclasses.replace(candidate(0, origin="baseline", accuracy=0.9), refused="runs int8 alone"))
    assert kept.told(kept.candidates[0]) == (None, {})
    second = candidate(2, origin="scheme", accuracy=0.88, size_bytes=900.0, latency_ms=3.0)
    first = candidate(1, origin="scheme", accuracy=0.89, size_bytes=900.0, latency_ms=2.0)
    fast = candidate(3, accuracy=0.8, size_bytes=800.0, latency_ms=0.5)
    for one in (second, first, fast):  # the order in which they ended plays no part
        kept.keep(one)
    results = kept.results()
    (text,) = (budget.text for budget in terms.budgets)
    assert results.margins(fast) == {text: -0.5}
    assert kept.told(fast) == ([0.8, 800.0], {text: -0.5})
    for one in (first, second, fast):
        assert (
            (kept.told(one)[1][text] <= 0)
            == results.fits(one)
            == reference_values.inside(one, terms.budgets, results.candidates)
        )
