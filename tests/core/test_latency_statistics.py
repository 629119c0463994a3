"""What readings come to: latency against the baseline, and intervals that hold what they say."""

import numpy as np
import pytest
from builders import measured
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import latency_statistics
from autoopt.core.metrics import INTERVAL, RANGE, Measurement

# --- latency against the baseline


def runs(ratio, seed, processes=8, rounds=6, pairs=40, spells=0.0, bursts=0.0, spikes=0.0):
    """Rounds as a target gives them.

    With jitter, slow spells of a whole round in which the two don't slow down alike, bursts of load that slow
    both runs of a pair, and spikes that hit one run.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(processes):
        place = np.exp(rng.normal(0, 0.004, 2))  # where this process's memory lies
        one = []
        for _ in range(rounds):
            slow = np.array([1.3, 1.5]) if rng.random() < spells else np.ones(2)
            both = np.array([ratio, 1.0]) * 1e6 * place * slow * (1 + rng.gamma(2, 0.005, (pairs, 2)))
            both *= np.where(rng.random((pairs, 1)) < bursts, rng.uniform(1.5, 10, (pairs, 1)), 1)
            both *= np.where(rng.random((pairs, 2)) < spikes, rng.uniform(1.5, 10, (pairs, 2)), 1)
            one.append([(int(a), int(b)) for a, b in both])
        made.append(one)
    return made


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_intervals_hold_the_true_ratio_about_as_often_as_they_say(ratio):
    found = [latency_statistics.latency_ratio(runs(ratio, seed), "") for seed in range(100)]
    assert sum(m.low <= ratio <= m.high for m in found) >= 95
    assert np.median([(m.high - m.low) / m.value for m in found]) < 0.02
    assert all(m.n == 8 * 6 * 40 for m in found)


@pytest.mark.parametrize(
    "load", [{"spells": 0.6}, {"bursts": 0.2}, {"spikes": 0.15}, {"spells": 0.5, "bursts": 0.1, "spikes": 0.1}]
)
def test_load_on_the_machine_hardly_moves_the_ratio(load):
    for seed in range(20):
        found = latency_statistics.latency_ratio(runs(0.5, seed, **load), "")
        assert found.value == pytest.approx(0.5, rel=0.015)


pair = st.tuples(st.integers(100, 10**9), st.integers(100, 10**9))
times = st.lists(
    st.lists(st.lists(pair, min_size=1, max_size=5), min_size=1, max_size=3),
    min_size=1,
    max_size=5,
)


def each(processes, change):
    return [[[change(a, b) for a, b in one] for one in rounds] for rounds in processes]


@given(times)
def test_swapping_the_two_inverts_the_ratio(processes):
    forth = latency_statistics.latency_ratio(processes, "")
    back = latency_statistics.latency_ratio(each(processes, lambda a, b: (b, a)), "")
    assert forth.low <= forth.value * (1 + 1e-12)
    assert forth.value <= forth.high * (1 + 1e-12)
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((forth.value, forth.low, forth.high))


@given(times)
def test_a_file_that_takes_the_same_as_the_baseline_has_ratio_one(processes):
    same = latency_statistics.latency_ratio(each(processes, lambda a, _: (a, a)), "")
    assert same.value == 1
    assert same.low <= 1 <= same.high


SAME = [[(100, 100)]] * 2


@pytest.mark.parametrize(
    ("processes", "flags"),
    [
        ([SAME] * 3, ()),
        ([[[(100, 100)]], [[(102, 100)]], [[(98, 100)]]], ("wide interval",)),
        ([SAME] * 2, ("wide interval",)),
        (
            [[[(100, 100)]], [[(100, 100)]], [[(130, 130)]], [[(130, 130)]]],
            ("the reference became 30% slower meanwhile: throttling, or other load", "wide interval"),
        ),
    ],
)
def test_what_a_reader_must_know_of_a_latency_is_flagged(processes, flags):
    assert latency_statistics.latency_ratio(processes, "").flags == flags


def test_with_too_few_calm_processes_next_to_nothing_is_claimed():
    found = latency_statistics.latency_ratio([SAME] * 2, "")
    assert found.low < 0.6 < 1.6 < found.high


def test_the_targets_own_flags_are_kept():
    assert latency_statistics.latency_ratio([SAME] * 3, "", ["on the GPU", "on the GPU"]).flags == ("on the GPU",)


def test_computed_times_are_exact():
    found = latency_statistics.latency_ratio([[[(150, 100)]]], "", exact=True)
    assert (found.value, found.low, found.high, found.flags) == (pytest.approx(1.5), found.value, found.value, ())


def test_scaling_keeps_interval_and_flags():
    wide = latency_statistics.latency_ratio([[[(100, 100)]], [[(102, 100)]], [[(98, 100)]]], "")
    ms = latency_statistics.scale(wide, Measurement.exact(4.0, "x"), "times 4 ms")
    assert (ms.value, ms.low, ms.high) == pytest.approx((4 * wide.value, 4 * wide.low, 4 * wide.high))
    assert (ms.n, ms.how, ms.flags) == (3, "times 4 ms", ("wide interval",))
    assert latency_statistics.scale(measured(2.0), Measurement.exact(0.5, "x"), "").value == 1.0


def test_milliseconds_are_as_uncertain_as_the_ratio_and_the_reference_together():
    """0.5 within 1 % times 4 ms within 10 %: errors that are independent add as their squares."""
    ratio = Measurement(value=0.5, low=0.5 / 1.01, high=0.5 * 1.01, n=5, how="x")
    reference = Measurement(value=4.0, low=4 / 1.1, high=4 * 1.1, n=5, how="x")
    ms = latency_statistics.scale(ratio, reference, "")
    factor = np.exp(np.hypot(np.log(1.01), np.log(1.1)))
    assert (ms.value, ms.low, ms.high) == pytest.approx((2.0, 2 / factor, 2 * factor))
    assert ms.high / ms.value > 1.1


def test_a_time_over_processes_has_students_interval():
    """Checked by hand: ln of 2.0, 2.1, 1.9, 2.05, 1.95 ms has the standard deviation 0.0396, and t(0.99, 4) is 3.747."""
    found = latency_statistics.over_processes([2.0, 2.1, 1.9, 2.05, 1.95], "so", ["on the GPU"])
    half = np.hypot(3.747 * 0.03958 / 5**0.5, latency_statistics.RESOLUTION)
    mean = np.exp(np.mean(np.log([2.0, 2.1, 1.9, 2.05, 1.95])))
    assert (found.value, found.n, found.how, found.flags, found.ends) == (2.0, 5, "so", ("on the GPU",), INTERVAL)
    assert (found.low, found.high) == pytest.approx((mean * np.exp(-half), mean * np.exp(half)), rel=1e-3)


def test_a_computed_time_is_exact():
    found = latency_statistics.over_processes([2.0], "so")
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_the_interval_over_processes_covers_the_truth():
    rng = np.random.default_rng(0)
    made = [latency_statistics.over_processes(np.exp(rng.normal(0, 0.05, 5)), "") for _ in range(500)]
    assert np.mean([m.low <= 1 <= m.high for m in made]) > 0.94


def test_a_few_readings_have_a_range_which_is_no_interval():
    found = latency_statistics.repeated([5, 3, 4], "thrice")
    assert (found.value, found.low, found.high, found.n) == (4, 3, 5, 3)
    assert (found.how, found.ends) == ("thrice; range of 3 readings", RANGE)
    assert Measurement.from_dict(found.to_dict()) == found
    alone = latency_statistics.repeated([5], "computed")
    assert (alone.how, alone.ends) == ("computed", INTERVAL)
    assert "ends" not in alone.to_dict()
