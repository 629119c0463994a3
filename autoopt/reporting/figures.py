"""Results -> plotly figures. Pure: nothing is written, and front, pick and ties are asked of `Results`."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.results import Results
from autoopt.reporting import wording
from autoopt.reporting.axes import Scale, chosen_axes, fitting, role_of

GREY, ACCENT, FLAT = "#8a8a8a", "#d55e00", "#3b6ea8"
"""Grey reads on white and on black; vermilion (Okabe and Ito 2008) stands apart from cividis for every eye."""
_LINE = {"color": GREY, "width": 1.5}
ROLES: dict[str, dict[str, Any]] = {
    "out of budget": {"color": GREY, "symbol": "x-thin", "size": 8, "line": _LINE},
    "dominated": {"color": GREY, "symbol": "circle-open", "size": 8, "opacity": 0.8, "line": _LINE},
    "front": {"color": FLAT, "size": 13, "line": _LINE},
    "baseline": {"color": ACCENT, "symbol": "star", "size": 17, "line": _LINE},
    "the pick": {"color": ACCENT, "symbol": "circle-open", "size": 24, "line": {"color": GREY, "width": 2.5}},
    "selected": {"color": ACCENT, "symbol": "square-open", "size": 24, "line": {"color": GREY, "width": 2.5}},
}
"""What a point can be, and how it looks; drawn in this order."""
WITH_ERRORS = ("front", "baseline")
"""Roles that show their intervals."""
COLOURING: dict[str, Any] = {
    "colorscale": "Cividis",
    "showscale": True,
    "colorbar": {"thickness": 12, "outlinewidth": 0},
}
"""Of the front by a third metric; Cividis is made for every eye (Nunez, Anderton and Renslow 2018)."""
SHADE = "rgba(0, 158, 115, 0.09)"
"""Of the region inside the budgets: Okabe and Ito's bluish green."""
_FAR_OUT = 3.0
_MARGIN = 0.06
"""Left free beside the outermost points, as a share of the axis."""


@dataclass(frozen=True, kw_only=True)
class Axis(Scale):
    """A scale with what plotly must know.

    Attributes:
        low: the smallest value, in the metric's own unit.
        high: the largest.
        inner: the smallest and largest value without those far out (Tukey 1977: three spreads of the quartiles).
    """

    low: float
    high: float
    inner: tuple[float, float]

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float]) -> "Axis":
        """An axis for these values (one or more)."""
        first, third = np.quantile(values, [0.25, 0.75])
        fence = _FAR_OUT * (third - first) or np.inf
        near = [v for v in values if first - fence <= v <= third + fence]
        return cls(**fitting(metric, values), low=min(values), high=max(values), inner=(min(near), max(near)))

    def layout(self) -> dict[str, Any]:
        """Title and ticks."""
        better = "less" if self.metric.direction == "min" else "more"
        shape: dict[str, Any] = {
            "title": {"text": f"{escape(self.title, quote=False)}, {better} is better"},
            "automargin": True,
        }
        if not self.log:
            return shape
        # plotly writes 0.2 as a bare 2 on a logarithmic axis
        decades = range(math.floor(math.log10(self.low)) - 4, math.ceil(math.log10(self.high)) + 8)
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
        return shape | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}

    def range(self, shown: Iterable[float]) -> list[float]:
        """Both ends, as plotly wants them: exponents on a logarithmic axis.

        Args:
            shown: values that must be seen even if they are far out, in the metric's own unit.
        """
        ends = [self.place(v) for v in (*self.inner, *shown)]
        low, high = min(ends), max(ends)
        margin = _MARGIN * (high - low) or 0.1 * abs(high) or 1.0
        return [low - margin, high + margin]

    def near(self, value: float) -> bool:
        """Whether a line at `value` can be drawn without squeezing the points into a corner."""
        if self.log and value <= 0:
            return False
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        slack = (high - low) / 2 or abs(high) / 2
        return low - slack <= at <= high + slack

    def values(self, candidates: Sequence[Candidate]) -> list[float]:
        """What is drawn, one value a candidate."""
        return [self.factor * c.measurements[self.metric.name].value for c in candidates]

    def errors(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """The intervals, as plotly's error bars."""
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
    results: Results,
    x: str = "latency_ms",
    y: str | None = None,
    color: str = "compressed_bytes",
    budgets: Iterable[Budget] | None = None,
) -> go.Figure:
    """The front among all measured candidates, with the baseline, the pick and the budgets.

    Args:
        results: the study's.
        x: metric across; where nobody has it, the first other objective (or metric) that was measured.
        y: metric upwards; the task's own by default, with the same fallback.
        color: metric that colours the front; left out where a front member lacks it or all are equal.
        budgets: the study's own by default.
    """
    chosen = results.budgets if budgets is None else tuple(budgets)
    across, down, _ = chosen_axes(results, x, y)
    drawn = [c for c in results.candidates if not c.failed and down in c.measurements and across in c.measurements]
    figure = go.Figure(layout=front_layout())
    if not drawn:
        text = "nothing to draw yet: no candidate has two metrics measured"
        figure.add_annotation(text=text, showarrow=False, font={"size": 16})
        return figure.update_xaxes(visible=False).update_yaxes(visible=False)

    axes = tuple(Axis.of(results.metrics[n], [c.measurements[n].value for c in drawn]) for n in (across, down))
    statuses, pick = results.statuses(chosen), results.pick_within(chosen).candidate
    members: dict[str, list[Candidate]] = {role: [] for role in ROLES}
    for candidate in drawn:
        members[role_of(results, statuses, candidate)].append(candidate)
    members["the pick"] = [c for c in drawn if c is pick]
    for role, marker in ROLES.items():
        if not members[role]:
            continue
        bars = {f"error_{a}": axis.errors(members[role]) for a, axis in zip("xy", axes, strict=True)}
        figure.add_scatter(
            x=axes[0].values(members[role]),
            y=axes[1].values(members[role]),
            mode="markers",
            name=role,
            marker=marker | (_colouring(results, members[role], color) if role == "front" else {}),
            hovertext=[_hover(results, c) for c in members[role]],
            hoverinfo="text",
            customdata=[c.number for c in members[role]],
            **(bars if role in WITH_ERRORS else {}),
        )
    seen = [c for role, kept in members.items() if role not in ("out of budget", "dominated") for c in kept]
    _limits(figure, results, chosen, axes, seen)
    return figure


def history_figure(history: Sequence[tuple[str, float]]) -> go.Figure:
    """How far a search has come, see `hypervolume.history`."""
    figure = go.Figure(layout=front_layout() | {"uirevision": "history", "showlegend": False})
    when, volumes = [time for time, _ in history], [100 * volume for _, volume in history]
    figure.add_scatter(x=when, y=volumes, mode="lines+markers", line={"shape": "hv", "color": FLAT}, marker={"size": 5})
    if not history:
        figure.add_annotation(text="nothing has been finished yet", showarrow=False)
    figure.update_xaxes(title="finished (UTC)")
    return figure.update_yaxes(title="of the box from worst to best (%)", range=[0, 102])


def front_layout() -> dict[str, Any]:
    """What the figure looks like, whatever is drawn."""
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
        "uirevision": "kept",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": GREY, "align": "left", "font": {"color": "#1a1a1a"}},
        "xaxis": {"gridcolor": "#e3e3e3", "zeroline": False, "linecolor": GREY},
        "yaxis": {"gridcolor": "#e3e3e3", "zeroline": False, "linecolor": GREY},
    }


def _colouring(results: Results, front: Sequence[Candidate], color: str) -> dict[str, Any]:
    values = [c.measurements[color].value for c in front if color in c.measurements]
    if color not in results.metrics or len(values) < len(front) or len(set(values)) < 2:
        return {"color": FLAT}
    axis = Axis.of(results.metrics[color], values)
    bar = COLOURING["colorbar"] | {"title": {"text": escape(axis.title, quote=False), "side": "right"}}
    return COLOURING | {"color": axis.values(front), "colorbar": bar}


def _hover(results: Results, candidate: Candidate) -> str:
    lines = [f"<b>{candidate.name}</b> {escape(candidate.recipe.label())}"]
    for name, metric in results.metrics.items():
        if name not in candidate.measurements:
            continue
        measurement = candidate.measurements[name]
        extra = [wording.interval(metric, measurement), wording.change(results, candidate, name)]
        shown = "; ".join(text for text in extra if text)
        lines.append(escape(f"{metric.label}: {metric.show(measurement.value)}" + (f" ({shown})" if shown else "")))
    return "<br>".join(lines)


def _limits(
    figure: go.Figure, results: Results, budgets: Iterable[Budget], axes: tuple[Axis, ...], seen: Sequence[Candidate]
) -> None:
    """A dotted line for each budget on one of the two axes, and what is inside all of them shaded."""
    limits = [(budget, limit) for budget in budgets if (limit := wording.limit(results, budget)) is not None]
    ranges = {}
    for axis, along, over in zip(axes, "xy", "yx", strict=True):
        own = [(b, v) for b, v in limits if b.metric == axis.metric.name and axis.near(v)]
        found = [c.measurements[axis.metric.name] for c in seen]
        ranges[along] = axis.range(
            [*(end for m in found for end in (m.low, m.high) if end > 0 or not axis.log), *(v for _, v in own)]
        )
        figure.update_layout({f"{along}axis": axis.layout() | {"range": ranges[along]}})
        for budget, limit in own:
            at = axis.factor * limit
            ends = {f"{along}0": at, f"{along}1": at, f"{over}0": 0, f"{over}1": 1}
            line = {"color": GREY, "width": 1.5, "dash": "dot"}
            figure.add_shape(type="line", line=line, **ends, **{f"{over}ref": "paper"})
            # An annotation on a logarithmic axis wants the exponent, a shape the value.
            place = {along: math.log10(at) if axis.log else at, over: 1, f"{over}ref": "paper"}
            turn = {"textangle": -90, "yanchor": "top"} if along == "x" else {"yanchor": "bottom"}
            text = {"text": escape(budget.text), "font": {"color": GREY, "size": 11}, "xanchor": "right"}
            figure.add_annotation(showarrow=False, **text, **place, **turn)
    ends = {}
    for axis, along in zip(axes, "xy", strict=True):
        low, high = (10**end if axis.log else end for end in ranges[along])
        for budget, limit in limits:
            if budget.metric == axis.metric.name and budget.sense == "<=":
                high = min(high, axis.factor * limit)
            elif budget.metric == axis.metric.name:
                low = max(low, axis.factor * limit)
        ends |= {f"{along}0": low, f"{along}1": high}
    limited = {budget.metric for budget, _ in limits} & {axis.metric.name for axis in axes}
    if limited and ends["x0"] < ends["x1"] and ends["y0"] < ends["y1"]:
        figure.add_shape(type="rect", fillcolor=SHADE, line={"width": 0}, layer="below", **ends)
