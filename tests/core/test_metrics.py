import json

import numpy as np
import pytest
from builders import measured
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.metrics import (
    INTERVAL,
    KINDS,
    RANGE,
    STANDARD,
    Measurement,
    Metric,
    Scores,
    difference,
    pack_outcomes,
    paired_differences,
    resampled_difference,
    show_bytes,
    unpack_outcomes,
    unseen,
    wilson,
)
from autoopt.errors import ConfigError

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80).map(lambda x: np.array(x).T)


def paired_difference(a, b):
    """Of two models alone."""
    return tuple(paired_differences(a[None], b[None])[0, 0])


def outcomes(both, only_a, only_b, neither):
    """Outcomes of two models from the four cells of the paired table."""
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a), np.array(b)


def metric(unit, direction="min"):
    return Metric(name="some_thing", direction=direction, unit=unit)


# --- Metric


def test_sign_turns_every_metric_into_one_to_minimize():
    assert (metric("", "min").sign, metric("", "max").sign) == (1, -1)


def test_label_follows_from_the_name():
    assert metric("").label == "some thing"
    assert Metric(name="x", direction="max", label="given").label == "given"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"direction": "up"}, "metric x: direction: expected 'max' or 'min', got 'up'"),
        ({"direction": "max", "unit": "dB"}, "metric x: unit: expected one of 'fraction', .*, got 'dB'"),
    ],
)
def test_bad_metrics_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Metric(name="x", **values)


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("fraction", 0.98765, "98.77 %"),
        ("fraction", 1, "100.00 %"),
        ("ms", 0.01234, "0.0123 ms"),
        ("ms", 2, "2 ms"),
        ("ms", 999.4, "999 ms"),
        ("ms", 999.6, "1,000 ms"),
        ("ms", 12345.6, "12,346 ms"),
        ("B", 999, "999 B"),
        ("B", 1000, "1 KB"),
        ("B", 123456, "123.5 KB"),
        ("B", 2_500_000, "2.5 MB"),
        ("ratio", 0.5, "0.5x"),
        ("", 3.14159, "3.142"),
    ],
)
def test_values_are_shown_with_their_unit(unit, value, text):
    assert metric(unit).show(value) == text


@pytest.mark.parametrize(
    ("unit", "value", "reference", "text"),
    [
        ("fraction", 0.95, 0.97, "-2.00 points"),
        ("fraction", 0.97, 0.95, "+2.00 points"),
        ("ms", 1, 2, "2.00x faster"),
        ("ms", 3, 2, "1.50x slower"),
        ("B", 25, 100, "4.00x smaller"),
        ("B", 200, 100, "2.00x larger"),
        ("B", 1001, 1000, "unchanged"),
        ("B", 5, 0, "+5"),
        ("", 1.5, 1, "+0.5"),
        ("", 1, 1.5, "-0.5"),
    ],
)
def test_changes_are_shown_against_a_reference(unit, value, reference, text):
    assert metric(unit).show_change(value, reference) == text


@given(st.integers(0, 10**9))
def test_shown_bytes_read_back_within_half_a_permille(size):
    number, unit = show_bytes(size).split()
    assert float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit] == pytest.approx(size, rel=5e-4)


def test_standard_metrics_are_filed_under_their_names():
    assert all(name == m.name and m.unit in KINDS for name, m in STANDARD.items())
    assert [name for name, m in STANDARD.items() if m.direction == "max"] == ["agreement"]


# --- Measurement


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.lists(st.text(max_size=5), max_size=2))
def test_measurement_json_round_trip(value, spread, flags):
    m = Measurement(value=value, low=value - spread, high=value + spread, n=3, how="so", flags=tuple(flags))
    assert Measurement.from_dict(json.loads(json.dumps(m.to_dict(), allow_nan=False))) == m


def test_a_memory_of_before_is_read_as_the_range_that_it_is():
    old = {
        "value": 3,
        "low": 2,
        "high": 4,
        "n": 2,
        "how": "peak resident, load and one run, fresh process",
        "flags": [],
    }
    assert Measurement.from_dict(old).ends == RANGE
    assert Measurement.from_dict(old | {"how": "so"}).ends == INTERVAL
    again = Measurement.from_dict(old)
    assert Measurement.from_dict(again.to_dict()) == again


def test_exact_has_no_spread():
    m = Measurement.exact(1234, "counted")
    assert (m.value, m.low, m.high, m.n, m.how) == (1234, 1234, 1234, 1, "counted")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
@pytest.mark.parametrize("name", ["value", "low", "high"])
def test_measurements_are_finite(name, value):
    with pytest.raises(ValueError, match="must be finite"):
        Measurement(**({"value": 1, "low": 1, "high": 1, "n": 1, "how": ""} | {name: value}))


def test_numpy_numbers_become_plain():
    json.dumps(measured(np.float32(0.5)).to_dict())


# --- Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_published_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6), st.data())
def test_wilson_contains_the_share_and_stays_a_share(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high
    assert (1 - high, 1 - low) == pytest.approx(wilson(n - successes, n), abs=1e-12)


@given(st.integers(1, 1000), st.data())
def test_wilson_narrows_with_more_items(n, data):
    successes = data.draw(st.integers(0, n))
    (low, high), (low10, high10) = wilson(successes, n), wilson(10 * successes, 10 * n)
    assert high10 - low10 < high - low


# --- outcomes of single items


@given(st.lists(st.booleans(), max_size=200).map(lambda x: np.array(x, dtype=bool)))
def test_outcomes_round_trip(correct):
    text = pack_outcomes(correct)
    back = unpack_outcomes(text, len(correct))
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, correct)
    assert len(text) <= 4 * (len(correct) // 24 + 1)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        # Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness (Bentur et al. 2009).
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),
        # Altman et al. 2000, "Statistics with Confidence", table 6.2.
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),
    ],
)
def test_paired_difference_gives_published_values(cells, expected):
    assert paired_difference(*outcomes(*cells)) == pytest.approx(expected, abs=5e-4)


@given(pairs)
def test_paired_difference_contains_its_estimate(ab):
    a, b = ab
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert -1 - 1e-12 <= low <= difference <= high <= 1 + 1e-12


@given(pairs)
def test_paired_difference_is_antisymmetric(ab):
    a, b = ab
    difference, low, high = paired_difference(a, b)
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low), abs=1e-9)


@given(pairs, st.randoms())
def test_paired_difference_does_not_depend_on_the_order_of_items(ab, rng):
    order = list(range(ab.shape[1]))
    rng.shuffle(order)
    assert paired_difference(*ab) == paired_difference(*ab[:, order])


@given(pairs)
def test_no_number_of_items_makes_sure_that_models_are_the_same(ab):
    difference, low, high = paired_difference(ab[0], ab[0])
    assert difference == 0
    assert -low == high == unseen(ab.shape[1])
    _, low, high = paired_difference(*ab)
    assert low < high


@pytest.mark.parametrize("n", [20, 100, 1000, 50_000])
def test_what_was_never_seen_may_be_as_much_as_the_rule_of_three_says(n):
    """Hanley and Lippman-Hand 1983: 3 / n, one-sided; ours is two-sided, for which 3.7 / n is exact (Clopper-Pearson)."""
    exact = 1 - 0.025 ** (1 / n)
    assert 3 / n * 0.85 < unseen(n) < 4 / n
    assert unseen(n) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("n", [20, 50, 100])
@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0.0, 0.0), (0.02, 0.0), (0.03, 0.01), (0.05, 0.05), (0.1, 0.02), (0.2, 0.1)]
)
@pytest.mark.parametrize("right", [0.5, 0.9, 0.98])
def test_the_paired_interval_covers_the_truth(n, only_a, only_b, right):
    """Simulated from the four cells of the paired table, independently of how the interval is computed."""
    alike = 1 - only_a - only_b
    cells = [alike * right, only_a, only_b, alike * (1 - right)]
    drawn = np.random.default_rng(0).multinomial(n, cells, size=2000)
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    held = 0
    for table, count in zip(tables, times, strict=True):
        _, low, high = paired_difference(*outcomes(*table))
        held += count * (low <= only_a - only_b <= high)
    assert held / 2000 > 0.93


@pytest.mark.parametrize("value", [0.92, 12.5])
def test_resampled_metrics_that_are_the_same_may_differ_elsewhere_too(value):
    same = Scores(measured(value, 0.05), resamples=(value, value + 0.01))
    assert difference(same, same) == (0, pytest.approx(-0.0185, abs=1e-4), pytest.approx(0.0185, abs=1e-4))


def test_resampled_metrics_without_a_spread_may_differ_elsewhere_too():
    perfect = Scores(measured(1.0), resamples=(1.0, 1.0))
    assert difference(perfect, perfect) == (0, -unseen(100), unseen(100))


def test_draws_of_which_none_defines_both_say_nothing():
    a, b = Scores(measured(0.9, 0.03), resamples=(0.9, None)), Scores(measured(0.8, 0.04), resamples=(None, 0.8))
    assert difference(a, b) == pytest.approx((0.1, 0.05, 0.15))


def test_pairing_tells_models_apart_that_their_own_intervals_do_not():
    a, b = outcomes(880, 20, 5, 95)
    (low_a, _), (_, high_b) = wilson(int(a.sum()), len(a)), wilson(int(b.sum()), len(b))
    assert low_a < high_b
    assert paired_difference(a, b)[1] > 0


# --- resampled metrics

values = st.floats(-1e6, 1e6)
draws = st.lists(st.tuples(st.none() | values, st.none() | values), max_size=40)


def defined(pairs):
    return [x - y for x, y in pairs if x is not None and y is not None]


@given(values, values, draws)
def test_resampled_difference_contains_its_value(a, b, pairs):
    difference, low, high = resampled_difference(a, b, [x for x, _ in pairs], [y for _, y in pairs])
    assert difference == a - b
    assert low <= difference <= high
    assert min([difference, *defined(pairs)]) <= low
    assert high <= max([difference, *defined(pairs)])


@given(values, values, draws)
def test_resampled_difference_is_antisymmetric(a, b, pairs):
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    difference, low, high = resampled_difference(a, b, xs, ys)
    assert resampled_difference(b, a, ys, xs) == pytest.approx((-difference, -high, -low), rel=1e-9, abs=1e-6)


@given(values, draws, st.floats(-10, 10))
def test_a_shift_of_every_resample_is_the_difference_for_sure(value, pairs, shift):
    xs = [x for x, _ in pairs]
    found = resampled_difference(value + shift, value, [None if x is None else x + shift for x in xs], xs)
    assert found == pytest.approx((shift, shift, shift), abs=1e-6)


@given(values, values, draws)
def test_resamples_on_which_either_is_not_defined_are_left_out(a, b, pairs):
    both = [(x, y) for x, y in pairs if x is not None and y is not None]
    expected = resampled_difference(a, b, [x for x, _ in both], [y for _, y in both])
    assert resampled_difference(a, b, [x for x, _ in pairs], [y for _, y in pairs]) == expected


def test_resampled_difference_covers_the_middle_95_percent():
    found = resampled_difference(0.5, 0, np.arange(201) / 200, np.zeros(201))
    assert found == pytest.approx((0.5, 0.025, 0.975))


def test_resamples_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="zip"):
        resampled_difference(1, 1, [1.0], [1.0, 2.0])


@given(values, st.lists(values, max_size=20))
def test_the_same_resamples_do_not_differ(value, drawn):
    assert resampled_difference(value, value, drawn, drawn) == (0, 0, 0)
