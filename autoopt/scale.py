"""How a metric is drawn, whatever it is drawn with: its unit for people, and whether logarithmically."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.metrics import Metric

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
