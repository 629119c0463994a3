import pytest
from builders import METRICS
from hypothesis import given
from hypothesis import strategies as st

from autoopt.budgets import UNITS, from_short_forms, parse
from autoopt.errors import ConfigError
from autoopt.metrics import KINDS

SIZE_UNITS = {"": 1, "B": 1, "KB": 1000, "kb": 1000, "MB": 10**6, "KiB": 1024, "MiB": 1024**2, "GB": 10**9}


@pytest.mark.parametrize(
    ("text", "baseline", "bound"),
    [
        ("latency_ms <= 2", None, 2),
        ("latency_ms<=2ms", None, 2),
        ("latency_ms <= 1.5 s", None, 1500),
        ("latency_ms <= 250 us", None, 0.25),
        ("latency_ms <= 250 µs", None, 0.25),
        ("size_bytes <= 300 KB", None, 300_000),
        ("size_bytes <= 300_000", None, 300_000),
        ("size_bytes <= 3e5", None, 300_000),
        ("size_bytes <= .5MiB", None, 524_288),
        ("size_bytes <= 1.GB", None, 1e9),
        ("size_bytes <= 0.5 * baseline", 1000, 500),
        ("size_bytes <= 0.5*baseline", 1000, 500),
        ("size_bytes <= 25% of baseline", 1000, 250),
        ("size_bytes <= baseline - 1KB", 3000, 2000),
        ("size_bytes <= 0 * baseline", None, 0),
        ("accuracy >= 0.9", None, 0.9),
        ("accuracy >= 90%", None, 0.9),
        ("  accuracy  >=  90 %  ", None, 0.9),
        ("accuracy >= baseline", 0.8, 0.8),
        ("accuracy >= baseline - 1 %", 0.9, 0.89),
        ("accuracy >= baseline - 0.01", 0.9, 0.89),
        ("accuracy >= baseline + 0.5%", 0.9, 0.905),
        ("mae <= baseline + 0.05", 1.0, 1.05),
        ("latency_ratio <= 50%", None, 0.5),
        ("latency_ratio <= 0.5x", None, 0.5),
    ],
)
def test_syntax(text, baseline, bound):
    budget = parse(text, METRICS)
    assert budget.bound(baseline) == pytest.approx(bound, rel=1e-12)
    assert budget.text == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "budget '': expected 'METRIC <= LIMIT' or 'METRIC >= LIMIT'"),
        ("size_bytes", "budget 'size_bytes': expected 'METRIC <= LIMIT'"),
        ("size_bytes < 300", "budget 'size_bytes < 300': expected 'METRIC <= LIMIT'"),
        ("300 KB >= size_bytes", "budget '300 KB >= size_bytes': expected 'METRIC <= LIMIT'"),
        ("size_bytes <= much", "budget 'size_bytes <= much': expected 'METRIC <= LIMIT'"),
        ("size_bytes <= 3 * 4", "expected 'METRIC <= LIMIT'"),
        ("size_bytes <= nan", "expected 'METRIC <= LIMIT'"),
        ("size_byte <= 3", "unknown metric 'size_byte'; did you mean 'size_bytes'?"),
        ("speed <= 3", "unknown metric 'speed'; known: accuracy, "),
        ("size_bytes <= 3 ms", "expected a unit of size_bytes ('b', 'kb', "),
        ("latency_ms <= 3 KB", "expected a unit of latency_ms ('ms', 'us', 'µs', 's'), got 'KB'"),
        ("accuracy >= baseline - 3 ms", "expected a unit of accuracy ('%'), got 'ms'"),
        ("mae <= 3 %", "expected a unit of mae (a bare number), got '%'"),
    ],
)
def test_what_can_not_be_read_is_refused(text, message):
    with pytest.raises(ConfigError) as refused:
        parse(text, METRICS)
    assert repr(text) in str(refused.value)
    assert message in str(refused.value)


@given(st.integers(0, 10**6), st.sampled_from(sorted(SIZE_UNITS)), st.integers(0, 10**12), st.sampled_from("<>"))
def test_margin_is_positive_exactly_outside(number, unit, value, sense):
    bound = number * SIZE_UNITS[unit]
    margin = parse(f"size_bytes {sense}= {number} {unit}", METRICS).margin(value, None)
    assert margin == (value - bound if sense == "<" else bound - value)


@given(st.integers(0, 1000), st.integers(0, 100), st.sampled_from([-1, 0, 0, 1]))
def test_a_value_on_a_limit_in_decimals_is_inside(baseline, points, beyond):
    """0.93 - 0.01 is not 0.92 in binary; a person's limit must not hang on that."""
    budget = parse(f"accuracy >= baseline - {points / 10} %", METRICS)
    value = (baseline - points + beyond) / 1000
    assert (budget.margin(value, baseline / 1000) <= 0) == (beyond >= 0)


@given(st.integers(1, 10**6), st.integers(1, 400), st.integers(1, 10**6))
def test_factors_of_the_baseline(baseline, percent, value):
    inside = 100 * value <= percent * baseline
    for text in (f"size_bytes <= {percent}% of baseline", f"size_bytes <= {percent / 100} * baseline"):
        assert (parse(text, METRICS).margin(value, baseline) <= 0) == inside


@given(st.sampled_from([k for k in METRICS if k != "mae"]), st.floats(0, 1e9), st.data())
def test_text_is_read_again_as_the_same_budget(name, number, data):
    unit = data.draw(st.sampled_from(sorted(UNITS[METRICS[name].unit])))
    form = data.draw(st.sampled_from(["{} {}", "baseline - {} {}", "baseline + {} {}"]))
    budget = parse(f"{name} <= {form.format(number, unit)}", METRICS)
    assert parse(budget.text, METRICS) == budget


def test_relative_limits_need_a_baseline():
    budget = parse("accuracy >= baseline - 1%", METRICS)
    with pytest.raises(ConfigError, match="'accuracy >= baseline - 1%': the baseline has no accuracy"):
        budget.margin(0.9, None)


def test_every_kind_of_metric_has_units_and_takes_a_bare_number():
    assert set(UNITS) == set(KINDS)
    assert all(units[""] == 1 for units in UNITS.values())


def test_short_forms():
    budgets = from_short_forms(METRICS, "accuracy", max_size="300KB", max_latency="2 ms", max_accuracy_drop="1%")
    assert [b.text for b in budgets] == [
        "size_bytes <= 300KB",
        "latency_ms <= 2 ms",
        "accuracy >= baseline - 1%",
    ]
    assert [
        b.text for b in from_short_forms(METRICS, "mae", max_memory="1MB", max_compressed="9", max_accuracy_drop="0.1")
    ] == [
        "memory_bytes <= 1MB",
        "compressed_bytes <= 9",
        "mae <= baseline + 0.1",
    ]
    assert from_short_forms(METRICS, "accuracy") == []


def test_a_bad_short_form_is_refused():
    with pytest.raises(ConfigError, match="'size_bytes <= tiny': expected"):
        from_short_forms(METRICS, "accuracy", max_size="tiny")
