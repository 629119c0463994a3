"""How a study is drawn, whatever it is drawn with: which metrics, in which unit, and as what each candidate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.results import Results

LOG_FROM = 15.0
"""A metric (no fraction) whose largest value is this many times its smallest gets a logarithmic axis."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """`factor * value` is in `unit`.

    Attributes:
        metric: that is drawn.
        factor: from the metric's own unit to `unit`.
        unit: for people.
        log: whether the axis is logarithmic.
    """

    metric: Metric
    factor: float
    unit: str
    log: bool

    @property
    def title(self) -> str:
        """The metric with its unit."""
        return f"{self.metric.label} ({self.unit})" if self.unit else self.metric.label

    def place(self, value: float) -> float:
        """Where a value of the metric stands on the axis: exponents on a logarithmic one."""
        return math.log10(self.factor * value) if self.log else self.factor * value


def fitting(metric: Metric, values: Sequence[float]) -> dict[str, Any]:
    """The fields of a `Scale` for these values (one or more)."""
    low, high = min(values), max(values)
    factor, unit = {"fraction": (100.0, "%"), "ratio": (1.0, "x")}.get(metric.unit, (1.0, metric.unit))
    if metric.unit == "B":
        factor, unit = (1e-6, "MB") if high >= 2e6 else (1e-3, "KB")
    log = metric.unit != "fraction" and low > 0 and high > LOG_FROM * low
    return {"metric": metric, "factor": factor, "unit": unit, "log": log}


def chosen_axes(
    results: Results, x: str = "latency_ms", y: str | None = None, color: str = "compressed_bytes"
) -> tuple[str, str, str]:
    """What is drawn across, upwards and as colour: the wanted metrics, or others where nobody has them."""
    down = measured(results, y or results.quality, taken="")
    across = measured(results, x, taken=down)
    return across, down, measured(results, color, taken="")


def measured(results: Results, wanted: str, *, taken: str) -> str:
    """`wanted`, or another metric that is not `taken` and that some candidate has."""
    order = dict.fromkeys((wanted, *results.objectives, *results.metrics))
    had = {name for c in results.candidates if not c.failed for name in c.measurements}
    return next((name for name in order if name in had & set(results.metrics) and name != taken), wanted)


def role_of(results: Results, statuses: Mapping[int, str], candidate: Candidate) -> str:
    """What a measured candidate is drawn as: `baseline`, `front`, `dominated` or `out of budget`.

    Args:
        results: the study's.
        statuses: by candidate number, see `Results.statuses`.
        candidate: one that did not fail.
    """
    if candidate is results.baseline:
        return "baseline"
    status = statuses[candidate.number]
    return "out of budget" if status == "infeasible" else status
