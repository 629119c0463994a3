"""The front in text."""

import itertools
import math
import re

import pytest
from builders import METRICS, candidate, failed, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.results import Results
from autoopt.reporting.text_plot import ROWS, Axis, draw

values = st.floats(1e-6, 1e9)


def plot(study: Results, width: int = 80, **more: bool) -> list[str]:
    return draw(study, study.statuses(), width, **more).splitlines()


def marks(lines: list[str]) -> str:
    """What stands inside the frame."""
    inside = [re.split(r"[│┤]", line)[1] for line in lines if line.count("│") + line.count("┤") >= 2]
    return "".join(inside).replace(" ", "")


FOUR = results(
    candidate(0, origin="baseline", accuracy=0.95, latency_ms=9.0, size_bytes=9e6),
    candidate(1, accuracy=0.94, latency_ms=3.0, size_bytes=3e6),
    candidate(2, accuracy=0.93, latency_ms=5.0, size_bytes=5e6),
    candidate(3, accuracy=0.92, latency_ms=8.0, size_bytes=8e6),
    failed(4),
    budgets=["latency_ms <= 6"],
    objectives=("accuracy", "latency_ms"),
)


def test_each_kind_has_its_mark_and_the_legend_says_so() -> None:
    lines = plot(FOUR)
    assert sorted(marks(lines)) == sorted("*o.x")
    assert lines[0].startswith("accuracy (%)")
    assert lines[0].endswith("* baseline  o front  x out of budget  . dominated")
    assert lines[-1].strip() == "latency (ms)"


def test_better_is_higher_up_and_faster_further_left() -> None:
    lines = plot(FOUR)
    at = {mark: (row, line.index(mark)) for row, line in enumerate(lines[1:-1]) for mark in "*o.x" if mark in line[5:]}
    assert at["*"][0] < at["o"][0] < at["."][0] < at["x"][0]
    assert at["o"][1] < at["."][1] < at["x"][1] < at["*"][1]


def test_statuses_are_those_given() -> None:
    budgets = FOUR.parse_budgets(["latency_ms <= 4"])
    assert sorted(marks(draw(FOUR, FOUR.statuses(budgets), 80).splitlines())) == sorted("*oxx")


def test_sizes_stand_in_for_a_latency_that_was_not_measured() -> None:
    study = results(candidate(0, accuracy=0.9, size_bytes=4e6), candidate(1, accuracy=0.8, size_bytes=1e6))
    assert plot(study)[-1].strip() == "file size (MB)"


def test_one_point_is_no_plot() -> None:
    assert draw(results(candidate(0, accuracy=0.9, size_bytes=4)), {0: "front"}, 80) == ""
    assert draw(results(failed(0), candidate(1, accuracy=0.9)), {0: "failed", 1: "dominated"}, 80) == ""


def test_a_hopeless_candidate_does_not_squeeze_the_front() -> None:
    front = [candidate(n, accuracy=0.95 + n / 1000, latency_ms=1.0 + n) for n in range(5)]
    lines = plot(results(*front, candidate(9, accuracy=0.1, latency_ms=2.0), objectives=("accuracy", "latency_ms")))
    rows = [row for row, line in enumerate(lines[1:]) if "o" in line]
    assert rows[-1] - rows[0] > 0.8 * (ROWS - 1)
    assert lines[-1].strip() == "latency (ms), 1 more beyond the edges"


def test_a_wide_range_gets_a_logarithmic_axis() -> None:
    study = results(*(candidate(n, accuracy=0.9 + n / 100, latency_ms=10.0**n) for n in range(4)), objectives=("accuracy", "latency_ms"))  # fmt: skip
    columns = [line.index("o") for line in reversed(plot(study)[1:-1]) if "o" in line]
    steps = {b - a for a, b in itertools.pairwise(columns)}
    assert len(columns) == 4
    assert max(steps) - min(steps) <= 1
    assert re.findall(r"\d+", plot(study)[-2]) == ["1", "10", "100", "1000"]


def test_colours_only_where_they_are_asked_for() -> None:
    assert "\x1b" not in "".join(plot(FOUR))
    assert "\x1b" in "".join(plot(FOUR, colour=True))


@given(st.lists(st.tuples(st.floats(0, 1), values), min_size=2, max_size=12), st.integers(40, 120))
def test_any_values_give_a_plot_of_the_width_with_every_candidate(
    points: list[tuple[float, float]], width: int
) -> None:  # fmt: skip
    study = results(*(candidate(n, accuracy=a, latency_ms=ms) for n, (a, ms) in enumerate(points)), objectives=("accuracy", "latency_ms"))  # fmt: skip
    lines = plot(study, width)
    assert max(map(len, lines)) <= width
    beyond = re.search(r"(\d+) more beyond", lines[-1])
    assert 1 <= len(marks(lines)) <= len(points) - (int(beyond[1]) if beyond else 0)
    assert "o" in marks(lines)


@given(st.sampled_from(sorted(METRICS)), st.lists(values, min_size=1), st.integers(3, 10))
def test_ticks_are_few_and_in_order_and_stand_where_they_say(name: str, seen: list[float], most: int) -> None:
    axis = Axis.of(METRICS[name], seen, seen)
    ticks = axis.ticks(most)
    places = [place for place, _ in ticks]
    assert 1 <= len(ticks) <= most + 1
    assert places == sorted(set(places))
    assert all(axis.low <= place <= axis.high for place in places)
    for place, text in ticks:
        at = math.log10(float(text)) if axis.log else float(text)
        assert at == pytest.approx(place, abs=0.01 * (axis.high - axis.low))


@given(st.lists(values, min_size=1), st.integers(0, 100))
def test_what_matters_is_never_cut_off(seen: list[float], n: int) -> None:
    anchors = seen[: 1 + n % len(seen)]
    axis = Axis.of(METRICS["latency_ms"], seen, anchors)
    assert all(axis.holds(value) for value in anchors)
