"""Budgets: hard limits in one syntax everywhere.

    latency_ms <= 2 ms          size_bytes <= 300 KB         size_bytes <= 0.5 * baseline
    accuracy >= 0.9             accuracy >= baseline - 1 %   mae <= baseline + 0.05

Quantities take a unit of the metric's kind; a bare number is in the metric's own unit. KB is 1000 B
and KiB is 1024 B. A percentage is a hundredth: of a fraction such as accuracy it is a point.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autoopt.errors import ConfigError
from autoopt.metrics import Metric
from autoopt.validation import nearest

_NUMBER = r"(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = rf"(?P<number>{_NUMBER})\s*(?P<unit>[A-Za-zµ%]*)"
_LIMIT = re.compile(r"\s*(?P<metric>[A-Za-z_]\w*)\s*(?P<sense><=|>=)\s*(?P<bound>.+?)\s*")
_ABSOLUTE = re.compile(_QUANTITY)
_OFFSET = re.compile(rf"baseline(?:\s*(?P<sign>[-+])\s*{_QUANTITY})?")
_FACTOR = re.compile(rf"(?P<factor>{_NUMBER})\s*(?P<percent>%\s*of\s+|\*\s*)baseline")
SYNTAX = "'METRIC <= LIMIT' or 'METRIC >= LIMIT', such as 'size_bytes <= 300 KB' or 'accuracy >= baseline - 1%'"

SHORT_FORMS = {
    "max_latency": "latency_ms",
    "max_size": "size_bytes",
    "max_compressed": "compressed_bytes",
    "max_memory": "memory_bytes",
    "max_flash": "flash_bytes",
}
"""What each short form limits; `max_accuracy_drop` beside them limits the task's own metric."""

UNITS: dict[str, dict[str, float]] = {
    "B": {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024, "mib": 1024**2, "gib": 1024**3},
    "ms": {"": 1, "ms": 1, "us": 1e-3, "µs": 1e-3, "s": 1e3},
    "fraction": {"": 1, "%": 0.01},
    "ratio": {"": 1, "%": 0.01, "x": 1},
    "": {"": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on one metric: `value <= factor * baseline + offset`, or `>=`.

    Attributes:
        metric: the metric's name.
        sense: `<=` or `>=`.
        factor: of the baseline's value; 0 for an absolute limit.
        offset: in the metric's unit.
        text: as the user wrote it.
    """

    metric: str
    sense: str
    factor: float
    offset: float
    text: str

    def bound(self, baseline: float | None) -> float:
        """The limit in the metric's unit.

        Args:
            baseline: the baseline's value; needed only by a limit that is relative to it.
        """
        if self.factor == 0:
            return self.offset
        if baseline is None:
            raise ConfigError(f"budget '{self.text}': the baseline has no {self.metric} to compare with")
        return self.factor * baseline + self.offset

    def margin(self, value: float, baseline: float | None) -> float:
        """How far `value` is outside, in the metric's unit; 0 or less is fine."""
        bound = self.bound(baseline)
        excess = value - bound if self.sense == "<=" else bound - value
        # A limit such as `baseline - 1%` is a sum of decimals: a value that equals it is inside.
        return 0.0 if math.isclose(value, bound, rel_tol=1e-12, abs_tol=1e-15) else excess


def parse(text: str, metrics: Mapping[str, Metric]) -> Budget:
    """Read a budget.

    Args:
        text: see the module's syntax.
        metrics: the metrics that may be limited, by name.

    Raises:
        ConfigError: for another syntax, an unknown metric, or a unit of another kind.
    """
    found = _LIMIT.fullmatch(text)
    if not found:
        raise ConfigError(f"budget {text!r}: expected {SYNTAX}")
    name, sense, bound = found["metric"], found["sense"], found["bound"]
    if name not in metrics:
        raise ConfigError(f"budget {text!r}: unknown metric {name!r}; {nearest(name, metrics)}")
    metric = metrics[name]

    def quantity(match: re.Match[str]) -> float:
        unit = match["unit"]
        known = UNITS[metric.unit]
        if unit.lower() not in known:
            allowed = ", ".join(repr(u) for u in known if u) or "a bare number"
            raise ConfigError(f"budget {text!r}: expected a unit of {name} ({allowed}), got {unit!r}")
        amount = float(match["number"].replace("_", "")) * known[unit.lower()]
        if not math.isfinite(amount):
            raise ConfigError(f"budget {text!r}: expected a finite limit, got {match['number']}")
        return amount

    if match := _ABSOLUTE.fullmatch(bound):
        factor, offset = 0.0, quantity(match)
    elif match := _FACTOR.fullmatch(bound):
        factor = float(match["factor"].replace("_", "")) * (0.01 if match["percent"].startswith("%") else 1)
        offset = 0.0
    elif match := _OFFSET.fullmatch(bound):
        factor, offset = 1.0, 0.0
        if match["sign"]:
            offset = quantity(match) * (1 if match["sign"] == "+" else -1)
    else:
        raise ConfigError(f"budget {text!r}: expected {SYNTAX}")
    return Budget(metric=name, sense=sense, factor=factor, offset=offset, text=" ".join(text.split()))


def from_short_forms(
    metrics: Mapping[str, Metric],
    quality: str,
    *,
    max_size: str | None = None,
    max_latency: str | None = None,
    max_memory: str | None = None,
    max_flash: str | None = None,
    max_compressed: str | None = None,
    max_accuracy_drop: str | None = None,
) -> list[Budget]:
    """The budgets behind `--max-size 300KB` and its like.

    Args:
        metrics: as for `parse`.
        quality: name of the task's own metric, which `max_accuracy_drop` limits.
        max_size: limit of the file's size, such as `300KB`.
        max_latency: such as `2ms`.
        max_memory: of the peak memory.
        max_flash: of the flash that an NPU's model takes.
        max_compressed: of the size after gzip -9.
        max_accuracy_drop: how much worse than the baseline the quality may be, such as `1%`.
    """
    limits = {
        "max_size": max_size,
        "max_latency": max_latency,
        "max_memory": max_memory,
        "max_flash": max_flash,
        "max_compressed": max_compressed,
    }
    texts = [f"{SHORT_FORMS[short]} <= {limit}" for short, limit in limits.items() if limit is not None]
    if max_accuracy_drop is not None:
        better_is_more = metrics[quality].direction == "max"
        texts.append(f"{quality} {'>= baseline -' if better_is_more else '<= baseline +'} {max_accuracy_drop}")
    return [parse(text, metrics) for text in texts]
