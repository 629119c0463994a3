"""What is measured again at the end: the front, the baseline, the pick, and what may be as good."""

import dataclasses

import numpy as np
import pytest
from builders import candidate, failed, measured, results
from hypothesis import given
from hypothesis import strategies as st
from random_studies import studies

from autoopt.core.candidate import Confirmation
from autoopt.core.metrics import pack_outcomes
from autoopt.search.confirmation import EXACT_TIE, NEAR_TIES, choose, left, surely_beats

OBJECTIVES = ("accuracy", "latency_ms")


def numbers(study):
    return [c.number for c in choose(study)]


def point(number, accuracy, latency, spread=0.0, **more):
    """Accuracy that is as good as certain, and a latency with an interval."""
    return candidate(number, accuracy=measured(accuracy, 1e-4), latency_ms=measured(latency, spread), **more)


BASELINE = point(0, 0.95, 10, origin="baseline")


def test_the_baseline_its_schemes_and_the_front_are_chosen():
    study = results(
        BASELINE, point(1, 0.5, 9, origin="scheme"), point(2, 0.9, 5), point(3, 0.8, 3), point(4, 0.7, 6), failed(5),
        objectives=OBJECTIVES,
    )  # fmt: skip
    assert [c.number for c in study.front()] == [0, 2, 3]
    assert numbers(study) == [0, 1, 2, 3]


def test_a_baseline_outside_the_budgets_is_chosen_all_the_same():
    study = results(BASELINE, point(1, 0.9, 5), objectives=OBJECTIVES, budgets=["latency_ms <= 6"])
    assert numbers(study) == [0, 1]
    refused = dataclasses.replace(BASELINE, refused="the target runs integers alone")
    assert numbers(dataclasses.replace(study, candidates=(refused, study.candidates[1]))) == [0, 1]


def test_the_pick_is_chosen_though_others_beat_it():
    """Of statistically tied ones the fastest is picked, here one that is not traded by latency and so not on the front."""
    rng = np.random.default_rng(0)
    outcomes = rng.random(100) < 0.9
    other = outcomes.copy()
    other[np.flatnonzero(outcomes)[0]] = False
    study = results(
        candidate(
            0, accuracy=measured(outcomes.mean()), size_bytes=100, latency_ms=3, outcomes=pack_outcomes(outcomes)
        ),
        candidate(1, accuracy=measured(other.mean()), size_bytes=150, latency_ms=1, outcomes=pack_outcomes(other)),
    )
    assert [c.number for c in study.front()] == [0]
    assert study.pick().candidate.number == 1
    assert numbers(study) == [0, 1]


@pytest.mark.parametrize(("latency", "chosen"), [(5.15, True), (5.25, False), (9.0, False)])
def test_a_near_tie_is_one_whose_interval_overlaps(latency, chosen):
    study = results(BASELINE, point(1, 0.9, 5, 0.1), point(2, 0.9, latency, 0.1), objectives=OBJECTIVES)
    assert (2 in numbers(study)) == chosen


@pytest.mark.parametrize(("size", "chosen"), [(1005, True), (1010, True), (1020, False), (3000, False)])
def test_exact_sizes_tie_within_a_hundredth(size, chosen):
    study = results(
        candidate(1, accuracy=measured(0.9, 1e-4), size_bytes=1000),
        candidate(2, accuracy=measured(0.9, 1e-4), size_bytes=size),
        candidate(3, accuracy=measured(0.99, 1e-4), size_bytes=9000),
    )
    assert EXACT_TIE == 0.01
    assert (2 in numbers(study)) == chosen


def test_one_with_surely_less_quality_at_the_same_cost_is_out():
    study = results(BASELINE, point(1, 0.9, 5, 0.1), point(2, 0.8, 5, 0.1), objectives=OBJECTIVES)
    assert numbers(study) == [0, 1]


def test_what_failed_lies_outside_or_was_not_measured_is_out():
    study = results(
        BASELINE,
        point(1, 0.9, 5, 0.1),
        dataclasses.replace(point(2, 0.9, 5.05, 0.1), refused="not this one"),
        candidate(3, accuracy=measured(0.9, 1e-4)),
        failed(4),
        point(5, 0.9, 5.05, 0.1, size_bytes=9),
        objectives=OBJECTIVES,
        budgets=["size_bytes <= 5"],
    )
    inside = [dataclasses.replace(c, measurements={**c.measurements, "size_bytes": measured(1)})
              if c.measurements and c.number != 5 else c for c in study.candidates]  # fmt: skip
    assert numbers(dataclasses.replace(study, candidates=tuple(inside))) == [0, 1]


def test_nothing_measured_gives_nothing_to_confirm():
    assert choose(results()) == []
    assert choose(results(failed(0))) == []


def test_near_ties_are_few_and_the_pick_goes_first():
    many = [point(n, 0.9, 5.0 + n / 1000, 0.1) for n in range(1, 20)]
    study = results(BASELINE, *many, objectives=OBJECTIVES)
    found = numbers(study)
    assert len(found) == 2 + NEAR_TIES
    assert found[:2] == [0, 1]
    assert study.pick("latency_ms <= 6").candidate.number in found


@given(studies())
def test_every_front_member_and_the_pick_are_always_chosen_and_few_more(study):
    found = numbers(study)
    front = {c.number for c in study.front()}
    first = {c.number for c in study.candidates if c.origin in ("baseline", "scheme") and not c.failed}
    assert found == sorted(set(found))
    assert front | first <= set(found)
    assert len(set(found) - front - first) <= NEAR_TIES
    pick = study.pick().candidate
    assert pick is None or pick.number in found
    for number in set(found) - first:
        assert study.fits(study.find(number))


@given(studies(budgets=False), st.data())
def test_to_beat_surely_is_to_beat_and_never_mutual(study, data):
    able = [c for c in study.candidates if all(name in c.measurements for name in study.objectives)]
    a, b = data.draw(st.sampled_from(able)), data.draw(st.sampled_from(able))
    assert not surely_beats(study, a, a)
    if surely_beats(study, a, b):
        assert not surely_beats(study, b, a)
        assert b not in dataclasses.replace(study, candidates=(a, b)).front()


@given(studies(budgets=False))
def test_nothing_beats_surely_what_is_on_the_front(study):
    front = study.front()
    assert not any(surely_beats(study, a, b) for a in study.candidates for b in front)


def test_a_pick_that_takes_the_place_of_confirmed_ones_is_confirmed_too():
    """On the test split the first front misses the budget; what comes after it was never held to that split."""
    study = results(
        dataclasses.replace(BASELINE, confirmation=Confirmation(quality=measured(0.95))),
        *(point(n, 0.945, 5 - n / 10) for n in range(1, 7)),
        *(point(n, 0.942, 6 - n / 10) for n in range(7, 30)),
        objectives=OBJECTIVES, budgets=["accuracy >= baseline - 1 %"],
    )  # fmt: skip
    tried: set[int] = set()
    rounds = 0
    while chosen := left(study, tried):
        tried |= {c.number for c in chosen}
        again = [
            dataclasses.replace(c, confirmation=Confirmation(quality=measured(0.9 if rounds == 0 else 0.95)))
            if c in chosen
            else c
            for c in study.candidates
        ]
        study = dataclasses.replace(study, candidates=tuple(again))
        rounds += 1
    assert rounds >= 2
    assert study.pick().candidate.confirmation is not None
    assert all(c.confirmation is not None for c in study.front())


def test_who_could_not_be_confirmed_is_not_tried_for_ever():
    study = results(BASELINE, point(1, 0.9, 5), objectives=OBJECTIVES)
    assert [c.number for c in left(study)] == [0, 1]
    assert left(study, {0, 1}) == []


def test_latencies_that_share_a_reference_are_told_apart_by_their_ratios():
    wide = {"accuracy": measured(0.9, 1e-4), "latency_ms": measured(5, 2)}
    a = candidate(1, **wide, latency_ratio=measured(0.5, 0.01))
    b = candidate(2, **wide, latency_ratio=measured(0.6, 0.01))
    study = results(BASELINE, a, b, objectives=OBJECTIVES)
    assert surely_beats(study, a, b)
    assert not surely_beats(study, b, a)
