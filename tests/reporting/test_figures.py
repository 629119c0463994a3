"""The figure of the front: its numbers, its fallbacks, and what a reader must be able to tell apart."""

import pytest
from nights import HOSTILE, METRICS, baseline, candidate, failure, realistic, results

from autoopt.core.metrics import Metric
from autoopt.reporting.figures import front_figure


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_every_measured_candidate_is_drawn_once_in_its_group():
    night = realistic()
    drawn = traces(front_figure(night))
    statuses = list(night.statuses().values())
    assert len(drawn["front"].x) == statuses.count("front")
    assert len(drawn["dominated"].x) == statuses.count("dominated")
    assert len(drawn["out of budget"].x) == statuses.count("infeasible") - 1  # the baseline has a star of its own
    assert len(drawn["baseline"].x) == len(drawn["the pick"].x) == 1


def test_groups_differ_by_symbol_and_not_by_colour_alone():
    drawn = traces(front_figure(realistic()))
    symbols = {name: trace.marker.symbol or "circle" for name, trace in drawn.items()}
    assert symbols == {
        "front": "circle",
        "dominated": "circle-open",
        "out of budget": "x-thin",
        "baseline": "star",
        "the pick": "circle-open",
    }
    assert drawn["front"].marker.colorscale[0][1] == "#00224e"  # cividis
    assert drawn["the pick"].marker.size > drawn["front"].marker.size


def test_people_see_percent_milliseconds_and_kilobytes():
    first = candidate(1, accuracy=0.86, latency_ms=0.1, compressed=78_900)
    figure = front_figure(results(baseline(), first, candidate(2, accuracy=0.85, latency_ms=0.09, compressed=60_000)))
    front = traces(figure)["front"]
    assert front.y == pytest.approx((86.0, 85.0))
    assert front.x == pytest.approx((0.1, 0.09))
    assert front.marker.color == pytest.approx((78.9, 60.0))
    assert figure.layout.xaxis.title.text == "latency (ms), less is better"
    assert figure.layout.yaxis.title.text == "accuracy (%), more is better"
    assert front.marker.colorbar.title.text == "compressed size (KB)"


def test_megabytes_where_a_model_is_large():
    found = results(baseline(size=4_000_000), candidate(1, size=2_500_000))
    figure = front_figure(found, x="size_bytes")
    assert traces(figure)["front"].x == pytest.approx((2.5,))
    assert figure.layout.xaxis.title.text == "file size (MB), less is better"


def test_error_bars_are_the_intervals():
    one = candidate(1)
    front = traces(front_figure(results(baseline(), one)))["front"]
    quality = one.measurements["accuracy"]
    assert front.error_y.array == pytest.approx((100 * (quality.high - quality.value),))
    assert front.error_y.arrayminus == pytest.approx((100 * (quality.value - quality.low),))
    assert front.error_x.visible
    exact = traces(front_figure(results(baseline(), one), x="size_bytes"))["front"]
    assert not exact.error_x.visible


def test_hover_names_the_recipe_each_metric_and_its_change():
    found = results(baseline(), candidate(1, accuracy=0.86, latency_ms=0.1))
    (text,) = traces(front_figure(found))["front"].hovertext
    assert text.startswith("<b>#1</b> int8<br>accuracy: 86.00 % (84.58 % to 87.31 %; -1.16 points)")
    assert "file size: 95.9 KB (3.32x smaller)" in text


def test_x_falls_back_to_another_objective_that_was_measured():
    found = results(baseline(latency_ms=None), candidate(1, latency_ms=None))
    figure = front_figure(results(*found.candidates, objectives=("accuracy", "compressed_bytes")))
    assert figure.layout.xaxis.title.text == "compressed size (KB), less is better"


def test_a_front_without_the_colouring_metric_has_one_colour():
    found = results(baseline(), candidate(1), candidate(2, accuracy=0.85, latency_ms=0.09))
    assert isinstance(traces(front_figure(found))["front"].marker.color, str)  # both weigh the same
    assert isinstance(traces(front_figure(found, color="memory_bytes"))["front"].marker.color, str)
    assert isinstance(traces(front_figure(found, color="unheard_of"))["front"].marker.color, str)


@pytest.mark.parametrize("found", [(), (failure(0, origin="baseline"),)])
def test_nothing_measured_is_said(found):
    figure = front_figure(results(*found, budgets=["accuracy >= baseline - 1 %"]))
    assert figure.layout.annotations[0].text == "nothing to draw yet: no candidate has two metrics measured"


def test_one_slow_candidate_does_not_squeeze_the_others():
    found = results(baseline(), candidate(1, latency_ms=0.08), candidate(2, latency_ms=2.4))
    axis = front_figure(found).layout.xaxis
    assert axis.type == "log"
    assert "0.2" in axis.ticktext
    assert dict(zip(axis.ticktext, axis.tickvals, strict=True))["0.2"] == 0.2


def test_a_collapsed_accuracy_keeps_a_linear_axis():
    figure = front_figure(results(baseline(), candidate(1, accuracy=0.01)))
    assert figure.layout.yaxis.type is None


def test_budgets_are_lines_unless_they_are_far_off():
    found = (baseline(), candidate(1, latency_ms=0.08), candidate(2, latency_ms=2.4))
    near = front_figure(results(*found, budgets=["latency_ms <= 1", "accuracy >= baseline - 1 %"]))
    *lines, shade = near.layout.shapes
    assert [line.x0 for line in lines] == [1.0, 0]
    assert lines[1].y0 == pytest.approx(86.16)
    assert (shade.type, shade.x1, shade.y0) == ("rect", 1.0, pytest.approx(86.16))
    assert [note.text for note in near.layout.annotations] == ["latency_ms &lt;= 1", "accuracy &gt;= baseline - 1 %"]
    assert near.layout.annotations[0].x == 0.0  # the exponent, on a logarithmic axis
    far = front_figure(results(*found, budgets=["latency_ms <= 500", "size_bytes <= 100 KB"]))
    assert [shape.type for shape in far.layout.shapes] == ["rect"]  # all that is seen is inside


def test_hostile_labels_are_escaped():
    metrics = METRICS | {"accuracy": Metric(name="accuracy", direction="max", unit="fraction", label=HOSTILE)}
    figure = front_figure(results(baseline(), candidate(1), metrics=metrics))
    assert HOSTILE not in str(figure.to_dict())
    assert "&lt;script&gt;" in traces(figure)["front"].hovertext[0]


def test_drawing_changes_nothing():
    night = realistic()
    assert front_figure(night) == front_figure(night)
    assert night == realistic()


def test_other_budgets_can_be_drawn():
    found = results(
        baseline(), candidate(1, latency_ms=0.08), candidate(2, latency_ms=0.2), budgets=["latency_ms <= 1"]
    )
    figure = front_figure(found, budgets=found.parse_budgets(["latency_ms <= 0.1"]))
    assert list(traces(figure)["out of budget"].customdata) == [2]
    assert figure.layout.shapes[0].x0 == 0.1


def test_what_lies_far_out_does_not_squeeze_the_front():
    near = [candidate(n, accuracy=0.86 + n / 1000) for n in range(1, 12)]
    low, high = front_figure(results(baseline(), *near, candidate(20, accuracy=0.1))).layout.yaxis.range
    assert 80 < low < 86.1
    assert high > 87.16
    # unless it is on the front itself
    low, _ = front_figure(results(baseline(), *near, candidate(20, accuracy=0.1, compressed=5))).layout.yaxis.range
    assert low < 10
