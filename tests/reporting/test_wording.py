"""What people are told: the same words in every face."""

import dataclasses

import numpy as np
import pytest
from builders import METRICS, candidate, measured, results

from autoopt.core.budgets import parse
from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import Measurement, pack_outcomes
from autoopt.core.recipe import Recipe
from autoopt.reporting import wording


def night() -> list[Candidate]:
    exact = Measurement.exact
    return [
        candidate(0, origin="baseline", accuracy=measured(0.9, 0.01), size_bytes=exact(300_000, "x")),
        candidate(1, accuracy=measured(0.88, 0.01), size_bytes=exact(100_000, "x")),
    ]


def test_values_for_people() -> None:
    found = results(*night())
    assert wording.interval(METRICS["size_bytes"], Measurement.exact(3, "x")) == ""
    assert wording.interval(METRICS["accuracy"], measured(0.5, 0.1)) == "40.00 % to 60.00 %"
    assert wording.change(found, found.candidates[1], "size_bytes") == "3.00x smaller"
    assert wording.change(found, found.candidates[0], "size_bytes") == ""
    assert wording.change(found, Candidate(number=9, recipe=Recipe()), "size_bytes") == ""
    assert wording.quality_change(found, found.candidates[1]).startswith("-2.00 points (")
    assert wording.quality_change(found, found.candidates[0]) == ""


@pytest.mark.parametrize("metric", ["latency_ratio", "agreement"])
def test_what_is_told_against_the_baseline_has_no_change(metric: str) -> None:
    first, second = (candidate(n, origin=o, **{metric: Measurement.exact(v, "x")})
                     for n, o, v in ((0, "baseline", 1.0), (1, "search", 0.5)))  # fmt: skip
    assert wording.change(results(first, second), second, metric) == ""


def test_where_the_bytes_go_the_most_first() -> None:
    sizes = {"weights": 900, "biases": 2_000, "metadata": 0, "names": -3}
    assert wording.parts(sizes) == "after gzip -9: biases 2 KB, weights 900 B"
    assert wording.parts({}) == ""


def test_a_limit_in_the_metrics_unit() -> None:
    budget = parse("size_bytes <= 0.5 * baseline", METRICS)
    assert wording.limit(results(*night()), budget) == 150_000
    assert wording.limit(results(), budget) is None
    assert wording.limit(results(), parse("size_bytes <= 2 KB", METRICS)) == 2000


def test_the_export_command_is_one_that_a_shell_takes() -> None:
    first = night()[0]
    assert wording.export_command(results(first, study="a b; rm -rf"), first) == "autoopt export 'a b; rm -rf' 0"
    assert (
        wording.export_command(results(first, provenance={"folder": "studies/x"}), first)
        == "autoopt export studies/x 0"
    )


def confirm(made: Candidate, seen: int, again: int) -> Candidate:
    quality = Measurement(value=again / 200, low=0.5, high=1.0, n=200, how="made up")
    confirmation = Confirmation(quality=quality, outcomes=pack_outcomes(np.arange(200) < again))
    return dataclasses.replace(
        made,
        outcomes=pack_outcomes(np.arange(200) < seen),
        measurements={**made.measurements, "accuracy": dataclasses.replace(measured(seen / 200, 0.05), n=200)},
        confirmation=confirmation,
    )


def test_what_was_confirmed() -> None:
    first, second = night()
    assert wording.confirmed(results(first, second), second) == ""
    found = results(confirm(first, 190, 190), confirm(second, 190, 180))
    text = wording.confirmed(found, found.candidates[1])
    assert text.startswith("accuracy 90.00 % on the test split, which the search never saw: -5.00 points (")
    assert text.endswith("; the search estimate was 5.00 points too high")
    assert (
        wording.confirmed(found, found.candidates[0])
        == "accuracy 95.00 % on the test split, which the search never saw"
    )
    assert wording.flattery(found).startswith(
        "For the one confirmed candidate of the front, the search estimate was 5.00 points too high: the change of accuracy"
    )
    both = results(*found.candidates, confirm(candidate(2, accuracy=0.95, size_bytes=1), 170, 190))
    assert (
        "For 2 confirmed candidates of the front, on average, the search estimate was 2.50 points too low: "
        in wording.flattery(both)
    )
    assert wording.flattery(results(first, second)) == ""


def test_lost_classes_are_named() -> None:
    first, second = night()
    first = dataclasses.replace(first, classes=((95, 100), (95, 100)))
    second = dataclasses.replace(second, classes=((99, 100), (2, 100)))
    found = results(first, second, provenance={"class_names": ["cat", "dog"]})
    assert wording.lost(found, second) == ("class dog is lost: 2% of its 100 items are right, 95% were before",)
    assert wording.lost(found, first) == ()


def test_failures_and_counts() -> None:
    failed = [Candidate(number=n, recipe=Recipe(seed=n), failed_stage=stage, reason="boom")
              for n, stage in ((2, "qat"), (3, "convert"), (4, "convert"))]  # fmt: skip
    found = results(*night(), *failed)
    assert wording.failures(found) == [("convert", "boom", ["#3", "#4"]), ("qat", "boom", ["#2"])]
    assert wording.summary(found) == "5 candidates: 2 on the front, 3 failed."
    assert wording.summary(results()) == "No candidates yet."


def test_what_misses_says_on_which_split() -> None:
    first, second = night()
    found = results(confirm(first, 190, 190), confirm(second, 190, 180), budgets=["accuracy >= baseline - 1 point"])
    assert wording.misses(found, found.candidates[1], found.budgets) == [
        "misses accuracy >= baseline - 1 point by 4 points on the test split (90.00 %)"
    ]
    bare = results(first, second, budgets=["accuracy >= baseline - 1 point"])
    assert wording.misses(bare, second, bare.budgets) == ["misses accuracy >= baseline - 1 point by 1 points"]


def test_numbers_of_two_splits_are_never_mixed_without_a_word() -> None:
    first, second = night()
    bare = results(first, second)
    assert wording.label(bare, "accuracy") == "accuracy"
    assert wording.unconfirmed(bare, second) == ""
    mixed = results(confirm(first, 180, 180), second)
    assert wording.label(mixed, "accuracy") == "accuracy (validation split)"
    assert wording.label(mixed, "size_bytes") == "file size"
    assert wording.unconfirmed(mixed, mixed.candidates[0]) == ""
    assert wording.unconfirmed(mixed, second) == (
        "not confirmed: its accuracy was measured on the validation split alone, that of others on the test split too"
    )
    assert "on the validation split" in mixed.pick().why


def test_a_range_is_called_a_range() -> None:
    two = Measurement(value=1.1e6, low=1e6, high=1.2e6, n=2, how="x", ends="range")
    assert wording.interval(METRICS["memory_bytes"], two) == "1 MB to 1.2 MB, the range of 2 readings"


@pytest.mark.parametrize(
    ("folder", "typed"), [("studies/a", "studies/a"), ("-a b", "'./-a b'"), ("it's", "'it'\"'\"'s'"), ("a;b", "'a;b'")]
)
def test_a_command_can_be_typed_as_it_is_told(folder: str, typed: str) -> None:
    found = results(*night(), provenance={"folder": folder})
    assert wording.command(found, "pick", "--max-size", "3 KB") == f"autoopt pick {typed} --max-size '3 KB'"
