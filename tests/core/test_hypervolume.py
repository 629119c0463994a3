"""How far a search has come."""

import dataclasses

import pytest
from builders import candidate, failed, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Candidate
from autoopt.core.hypervolume import history


def at(minute: int, made: Candidate) -> Candidate:
    return dataclasses.replace(made, finished=f"2026-11-21T08:{minute:02d}:00+00:00")


def test_two_corners_and_one_that_beats_both() -> None:
    corners = [at(1, candidate(0, accuracy=1.0, size_bytes=10)), at(2, candidate(1, accuracy=0.5, size_bytes=0))]
    between = at(3, candidate(2, accuracy=0.75, size_bytes=5))
    volumes = [volume for _, volume in history(results(*corners, between))]
    assert volumes == [0.0, 0.0, 0.25]
    best = at(4, candidate(3, accuracy=1.0, size_bytes=0))
    assert history(results(*corners, between, best))[-1] == ("2026-11-21T08:04:00+00:00", 1.0)


def test_who_is_outside_a_budget_failed_or_has_no_time_covers_nothing() -> None:
    inside = at(1, candidate(0, accuracy=0.9, size_bytes=5))
    others = [
        at(2, candidate(1, accuracy=0.95, size_bytes=500)),
        at(3, failed(2)),
        candidate(3, accuracy=1.0, size_bytes=1),
    ]
    assert len(history(results(inside, *others, budgets=["size_bytes <= 10"]))) == 1
    assert history(results(*others[1:])) == []


def test_an_objective_in_which_all_are_equal_decides_nothing() -> None:
    made = [at(n, candidate(n, accuracy=0.9, size_bytes=n)) for n in range(3)]
    assert [volume for _, volume in history(results(*made))] == pytest.approx([1, 1, 1])


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50), st.integers(0, 59)), max_size=15))
def test_it_never_falls_and_stays_a_share(values: list[tuple[float, int, int]]) -> None:
    made = [at(minute, candidate(n, accuracy=a, size_bytes=s)) for n, (a, s, minute) in enumerate(values)]
    found = history(results(*made))
    volumes = [volume for _, volume in found]
    assert volumes == sorted(volumes)
    assert all(-1e-12 <= volume <= 1 + 1e-12 for volume in volumes)
    assert [when for when, _ in found] == sorted(when for when, _ in found)
