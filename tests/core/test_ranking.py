"""The pick, by look-ups: it must be what the definition says, and what pairs of candidates say."""

import dataclasses

import numpy as np
import pytest
from builders import METRICS, candidate, measured, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement, pack_outcomes, wilson
from autoopt.core.results import Results

ITEMS = 60


@st.composite
def nights(draw: st.DrawFn) -> Results:
    """Candidates with outcomes on the same items, few distinct sizes and latencies, so that there are ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = []
    for number in range(draw(st.integers(1, 12))):
        right = rng.random(ITEMS) < rng.uniform(0.3, 1)
        low, high = wilson(int(right.sum()), ITEMS)
        accuracy = Measurement(value=right.mean(), low=low, high=high, n=ITEMS, how="x")
        latency, size = float(rng.integers(1, 5)), float(rng.integers(1, 4))
        spread = latency * rng.uniform(0, 0.6)
        found = {
            "accuracy": accuracy,
            "latency_ms": Measurement(value=latency, low=latency - spread, high=latency + spread, n=5, how="x"),
            "compressed_bytes": Measurement.exact(size, "x"),
            "size_bytes": Measurement.exact(float(rng.integers(1, 4)), "x"),
        }
        if rng.random() < 0.1:
            del found["latency_ms"]
        made.append(
            dataclasses.replace(
                candidate(number, origin="search" if number else "baseline", **found), outcomes=pack_outcomes(right)
            )
        )
    return results(*made, objectives=("accuracy", "latency_ms", "compressed_bytes"))


def expected(night: Results, able: list[Candidate]) -> tuple[Candidate, set[int]]:
    """The definition in `Ranking.choose`, word by word."""

    def value(c: Candidate, name: str) -> float:
        found = c.value(name)
        return float("inf") if found is None else found

    def cost(c: Candidate) -> tuple[float, ...]:
        return tuple(value(c, n) for n in ("latency_ms", "compressed_bytes", "size_bytes"))

    best = min(able, key=lambda c: (-value(c, "accuracy"), cost(c), c.number))
    tied = [c for c in able if c is best or night.tied(c, best)]
    fastest = min(tied, key=lambda c: (cost(c), c.number))
    if "latency_ms" not in fastest.measurements:
        return fastest, {c.number for c in tied}
    first = fastest.measurements["latency_ms"]
    timed = [(c, c.measurements["latency_ms"]) for c in tied if "latency_ms" in c.measurements]
    as_fast = [c for c, m in timed if m.low <= first.high and m.value <= 1.05 * first.value]
    return min(as_fast, key=lambda c: (cost(c)[1:], c.number)), {c.number for c in tied}


@given(nights(), st.floats(0.5, 4.5))
def test_the_pick_is_what_its_definition_says(night: Results, limit: float) -> None:
    pick = night.pick(f"compressed_bytes <= {limit} B")
    able = [c for c in night.candidates if float(c.value("compressed_bytes") or 0) <= limit]
    if not able:
        assert pick.candidate is None
        return
    chosen, tied = expected(night, able)
    assert pick.candidate is chosen
    assert {c.number for c in pick.tied} == tied


@given(nights())
def test_relations_are_those_of_pairs(night: Results) -> None:
    ranking = night.ranking()
    for place, c in enumerate(ranking.candidates):
        assert ranking.ties(place).tolist() == [night.tied(c, other) or c is other for other in ranking.candidates]
    for place, related in enumerate(ranking.relations()):
        alone = ranking.relation(place)
        assert related.as_good.tolist() == alone.as_good.tolist() == ranking.ties(place).tolist()
        assert related.too_few.tolist() == alone.too_few.tolist()
        assert related.enough == alone.enough
    alone = [
        not ranking.beaten_by(place).any() and bool(ranking.complete[place]) for place in range(len(ranking.candidates))
    ]
    assert {c.number for c, keep in zip(ranking.candidates, alone, strict=True) if keep} == {
        c.number for c in night.front()
    }


def test_who_lacks_an_objective_neither_beats_nor_stands_on_the_front() -> None:
    exact = Measurement.exact
    whole = candidate(0, origin="baseline", accuracy=exact(0.5, "x"), size_bytes=exact(9, "x"))
    part = candidate(1, accuracy=exact(0.9, "x"))
    ranking = results(whole, part, objectives=("accuracy", "size_bytes")).ranking()
    assert [c.number for c in ranking.candidates] == [1, 0]
    assert ranking.complete.tolist() == [False, True]
    assert not ranking.beaten_by(0).any()
    assert not ranking.beaten_by(1).any()


def test_resampled_metrics_are_tied_on_the_same_draws() -> None:
    def one(number: int, value: float) -> Candidate:
        draws = tuple(value + d for d in (-0.3, 0.0, 0.3))
        found = Measurement(value=value, low=value - 0.3, high=value + 0.3, n=50, how="x")
        return dataclasses.replace(candidate(number, mae=found), resamples=draws)

    ranking = results(one(0, 1.0), one(1, 1.1), quality="mae", objectives=("mae",)).ranking()
    assert ranking.ties(0).tolist() == [True, False]  # although each lies in the other's interval
    assert METRICS["mae"].direction == "min"
    assert [c.number for c in ranking.candidates] == [0, 1]


@given(nights(), st.sampled_from(["", "3 points", "10 points", "0.001", "20 % of baseline"]))
def test_the_pick_never_loses_more_than_the_margin(night: Results, margin: str) -> None:
    night = dataclasses.replace(night, equivalence=margin)
    pick = night.pick()
    assert pick.candidate is not None
    best = max(c.value("accuracy") or 0 for c in night.candidates)
    assert best - (pick.candidate.value("accuracy") or 0) <= night.margin + 1e-12
    if not margin:
        assert night.margin == 0.01


@pytest.mark.parametrize(
    ("latency", "spread", "chosen"),
    [(1.04, 0.02, 1), (1.05, 0.05, 1), (1.04, 0.001, 0), (1.5, 0.6, 0)],
)
def test_a_wide_interval_does_not_make_fast(latency: float, spread: float, chosen: int) -> None:
    """The second is smaller; it takes the place of the fastest only where it is about as fast by its estimate, too."""
    made = [
        candidate(0, accuracy=0.9, latency_ms=measured(1.0, spread), compressed_bytes=100),
        candidate(1, accuracy=0.9, latency_ms=measured(latency, spread), compressed_bytes=50),
    ]
    study = results(*made)
    picked = study.pick().candidate
    assert picked is not None
    assert picked.number == chosen


@pytest.mark.parametrize("inside", [[True, True], [False, True]])
def test_choosing_stays_inside(inside: list[bool]) -> None:
    exact = Measurement.exact
    made = [candidate(n, accuracy=exact(0.9 - n / 10, "x"), latency_ms=exact(2 - n, "x")) for n in range(2)]
    ranking = results(*made).ranking()
    place, tied = ranking.choose(np.array(inside))
    assert inside[place]
    assert not (tied & ~np.array(inside)).any()
