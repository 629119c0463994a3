"""Results -> plotly figures. Pure: nothing is written, and front, pick and ties are asked of `Results`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from autoopt import words
from autoopt.candidate import Candidate
from autoopt.metrics import Metric
from autoopt.results import Results

GREY, ACCENT = "#8a8a8a", "#d55e00"
"""Grey reads on white and on black; vermilion (Okabe and Ito 2008) stands apart from cividis for every eye."""
_LOG_FROM = 15.0
"""A metric (no fraction) whose largest value is this many times its smallest gets a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """How one metric is drawn: `factor * value` is in `unit`."""

    metric: Metric
    factor: float
    unit: str
    low: float
    high: float

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float]) -> "_Axis":
        low, high = min(values), max(values)
        factor, unit = {"fraction": (100.0, "%"), "ratio": (1.0, "x")}.get(metric.unit, (1.0, metric.unit))
        if metric.unit == "B":
            factor, unit = (1e-6, "MB") if high >= 2e6 else (1e-3, "KB")
        return cls(metric=metric, factor=factor, unit=unit, low=low, high=high)

    @property
    def log(self) -> bool:
        return self.metric.unit != "fraction" and self.low > 0 and self.high > _LOG_FROM * self.low

    @property
    def title(self) -> str:
        return escape(f"{self.metric.label} ({self.unit})" if self.unit else self.metric.label)

    def layout(self) -> dict[str, Any]:
        better = "less" if self.metric.direction == "min" else "more"
        shape: dict[str, Any] = {"title": {"text": f"{self.title}, {better} is better"}, "automargin": True}
        if not self.log:
            return shape
        # plotly writes 0.2 as a bare 2 on a logarithmic axis
        decades = range(math.floor(math.log10(self.low)) - 4, math.ceil(math.log10(self.high)) + 8)
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
        return shape | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}

    def near(self, value: float) -> bool:
        """Whether a line at `value` can be drawn without squeezing the points into a corner."""
        if self.log and value <= 0:
            return False
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        slack = (high - low) / 2 or abs(high) / 2
        return low - slack <= at <= high + slack

    def values(self, candidates: Sequence[Candidate]) -> list[float]:
        return [self.factor * c.measurements[self.metric.name].value for c in candidates]

    def errors(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        found = [c.measurements[self.metric.name] for c in candidates]
        return {
            "type": "data",
            "symmetric": False,
            "array": [self.factor * (m.high - m.value) for m in found],
            "arrayminus": [self.factor * (m.value - m.low) for m in found],
            "color": GREY,
            "thickness": 1,
            "width": 3,
            "visible": any(m.low < m.high for m in found),
        }


def front_figure(
    results: Results, x: str = "latency_ms", y: str | None = None, color: str = "compressed_bytes"
) -> go.Figure:
    """The front among all measured candidates, with the baseline, the pick and the budgets.

    Args:
        results: the study's.
        x: metric across; where nobody has it, the first other objective (or metric) that was measured.
        y: metric upwards; the task's own by default, with the same fallback.
        color: metric that colours the front; left out where a front member lacks it or all are equal.
    """
    down = _measured(results, y or results.quality, taken="")
    across = _measured(results, x, taken=down)
    drawn = [c for c in results.candidates if not c.failed and down in c.measurements and across in c.measurements]
    figure = go.Figure(layout=_layout())
    if not drawn:
        text = "nothing to draw yet: no candidate has two metrics measured"
        figure.add_annotation(text=text, showarrow=False, font={"size": 16})
        return figure.update_xaxes(visible=False).update_yaxes(visible=False)

    axes = tuple(_Axis.of(results.metrics[n], [c.measurements[n].value for c in drawn]) for n in (across, down))
    statuses, baseline, pick = results.statuses(), results.baseline, results.pick().candidate
    others: dict[str, list[Candidate]] = {"front": [], "dominated": [], "infeasible": []}
    for candidate in drawn:
        if candidate is not baseline:
            others[statuses[candidate.number]].append(candidate)
    accent = {"color": ACCENT, "size": 17}
    ring = accent | {"symbol": "circle-open", "size": 24, "line": {"width": 2.5}}
    for name, members, errors, marker in (
        ("out of budget", others["infeasible"], False, {"symbol": "x-thin", "size": 8}),
        ("dominated", others["dominated"], False, {"symbol": "circle-open", "size": 8, "opacity": 0.8}),
        ("front", others["front"], True, {"size": 13} | _colouring(results, others["front"], color)),
        ("baseline", [c for c in drawn if c is baseline], True, accent | {"symbol": "star"}),
        ("the pick", [c for c in drawn if c is pick], False, ring),
    ):
        if members:
            bars = {f"error_{a}": axis.errors(members) for a, axis in zip("xy", axes, strict=True)} if errors else {}
            figure.add_scatter(
                x=axes[0].values(members),
                y=axes[1].values(members),
                mode="markers",
                name=name,
                marker={"color": GREY, "line": {"color": GREY, "width": 1.5}} | marker,
                hovertext=[_hover(results, c) for c in members],
                hoverinfo="text",
                **bars,
            )
    _limits(figure, results, *axes)
    return figure.update_xaxes(axes[0].layout()).update_yaxes(axes[1].layout())


def _measured(results: Results, wanted: str, *, taken: str) -> str:
    """`wanted`, or another metric that is not `taken` and that some candidate has."""
    order = dict.fromkeys((wanted, *results.objectives, *results.metrics))
    had = {name for c in results.candidates if not c.failed for name in c.measurements}
    return next((name for name in order if name in had & set(results.metrics) and name != taken), wanted)


def _layout() -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "x": 0,
            "traceorder": "reversed",
            "itemsizing": "constant",
        },
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": GREY, "align": "left", "font": {"color": "#1a1a1a"}},
        "xaxis": {"gridcolor": "#e3e3e3", "zeroline": False, "linecolor": GREY},
        "yaxis": {"gridcolor": "#e3e3e3", "zeroline": False, "linecolor": GREY},
    }


def _colouring(results: Results, front: Sequence[Candidate], color: str) -> dict[str, Any]:
    values = [c.measurements[color].value for c in front if color in c.measurements]
    if color not in results.metrics or len(values) < len(front) or len(set(values)) < 2:
        return {"color": "#3b6ea8"}
    axis = _Axis.of(results.metrics[color], values)
    bar = {"title": {"text": axis.title, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return {"color": axis.values(front), "colorscale": "Cividis", "showscale": True, "colorbar": bar}


def _hover(results: Results, candidate: Candidate) -> str:
    lines = [f"<b>{candidate.name}</b> {escape(candidate.recipe.label())}"]
    for name, metric in results.metrics.items():
        if name not in candidate.measurements:
            continue
        measurement = candidate.measurements[name]
        extra = [words.interval(metric, measurement), words.change(results, candidate, name)]
        shown = "; ".join(text for text in extra if text)
        lines.append(escape(f"{metric.label}: {metric.show(measurement.value)}" + (f" ({shown})" if shown else "")))
    return "<br>".join(lines)


def _limits(figure: go.Figure, results: Results, across: _Axis, down: _Axis) -> None:
    """A dotted line for each budget on one of the two axes."""
    line = {"color": GREY, "width": 1.5, "dash": "dot"}
    for budget in results.budgets:
        limit = words.limit(results, budget)
        text = {
            "text": escape(budget.text),
            "font": {"color": GREY, "size": 11},
            "showarrow": False,
            "xanchor": "right",
        }
        for axis, along, over in ((across, "x", "y"), (down, "y", "x")):
            if limit is None or budget.metric != axis.metric.name or not axis.near(limit):
                continue
            at = axis.factor * limit
            ends = {f"{along}0": at, f"{along}1": at, f"{over}0": 0, f"{over}1": 1}
            figure.add_shape(type="line", line=line, **ends, **{f"{over}ref": "paper"})
            # An annotation on a logarithmic axis wants the exponent, a shape the value.
            place = {along: math.log10(at) if axis.log else at, over: 1, f"{over}ref": "paper"}
            turn = {"textangle": -90, "yanchor": "top"} if along == "x" else {"yanchor": "bottom"}
            figure.add_annotation(**text, **place, **turn)
