"""Budgets: hard limits in one syntax everywhere.

    latency_ms <= 2 ms          size_bytes <= 300 KB             size_bytes <= 0.5 * baseline
    accuracy >= 0.9             accuracy >= baseline - 1 point   mae <= baseline + 0.05
    accuracy >= 90 %            accuracy >= baseline - 1 %       mae <= baseline + 5 %

Quantities take a unit of the metric's kind. A bare number is in the metric's own unit, which its name ends with, where it
can't be mistaken; `baseline - 1` of an accuracy could be, and so could 60 of a size: they are refused. KB is 1000 B and KiB is 1024 B. A percentage
is a hundredth: of a fraction such as accuracy it is a point. Of all other metrics, what is added to the baseline or
taken from it in percent is a share of the baseline's value.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autoopt.core.metrics import Metric
from autoopt.core.units import BYTES, MILLISECONDS, NUMBER, TINY, number, summed, text_of
from autoopt.core.validation import fail, nearest
from autoopt.errors import ConfigError

_QUANTITY = rf"(?P<number>{NUMBER})\s*(?P<unit>%|[A-Za-zµμ]+(?:\s+(?i:points?))?|)"
_OF_BASELINE = r"(?P<of>\s*of\s+(?:the\s+)?baseline)?"
_LIMIT = re.compile(r"\s*(?P<metric>[A-Za-z_]\w*)\s*(?P<sense><=|>=)\s*(?P<bound>.+?)\s*")
_ABSOLUTE = re.compile(_QUANTITY)
_OFFSET = re.compile(rf"baseline(?:\s*(?P<sign>[-+])\s*{_QUANTITY}{_OF_BASELINE})?")
_ALLOWANCE = re.compile(rf"{_QUANTITY}{_OF_BASELINE}")
_FACTOR = re.compile(rf"(?P<factor>{NUMBER})\s*(?P<percent>%\s*of\s+(?:the\s+)?|\*\s*)baseline")
SYNTAX = "'METRIC <= LIMIT' or 'METRIC >= LIMIT', such as 'size_bytes <= 300 KB' or 'accuracy >= baseline - 1 point'"
MANY_TIMES = 10
"""A bare ratio over this is asked back: who writes 50 means percent."""
MOST = 1e30
"""No limit is larger."""
LONGEST = 300
"""Characters of a budget."""
AMBIGUOUS = 0.2
"""A bare difference of fractions from this on is asked back: who writes 0.5 means half a point, or half of all."""

SHORT_FORMS = {
    "max_latency": "latency_ms",
    "max_size": "size_bytes",
    "max_compressed": "compressed_bytes",
    "max_download": "download_bytes",
    "max_memory": "memory_bytes",
    "max_flash": "flash_bytes",
}
"""What each short form limits; `max_accuracy_drop` beside them limits the task's own metric."""

POINTS = ("point", "points", "pt", "pts", "pp", "percent", "percentage point", "percentage points")
"""Words for a hundredth of a fraction, beside `%`."""
SPELLED = {
    "fraction": "'%', 'points'",
    "ms": "'ms', 'us', 's', 'min', 'h'",
    "B": "'B', 'KB', 'MB', 'GB', 'TB', 'KiB', 'MiB', 'GiB', 'TiB'",
    "ratio": "'%', 'x'",
    "": "a bare number",
}
"""The units of each kind, as a message names them."""
UNITS: dict[str, dict[str, float]] = {
    "B": {"": 1, **BYTES},
    "ms": {"": 1, **MILLISECONDS},
    "fraction": {"": 1, **dict.fromkeys(("%", *POINTS), 0.01)},
    "ratio": {"": 1, "%": 0.01, "x": 1},
    "": {"": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on one metric: `value <= factor * baseline + share * |baseline| + offset`, or `>=`.

    Attributes:
        metric: the metric's name.
        sense: `<=` or `>=`.
        factor: of the baseline's value; 0 for an absolute limit.
        offset: in the metric's unit.
        text: as the user wrote it.
        share: of the baseline's size, which is added; 0 unless `factor` is 1.
    """

    metric: str
    sense: str
    factor: float
    offset: float
    text: str
    share: float = 0.0

    def bound(self, baseline: float | None) -> float:
        """The limit in the metric's unit.

        Args:
            baseline: the baseline's value; needed only by a limit that is relative to it.
        """
        if self.factor == 0:
            return self.offset
        if baseline is None:
            raise ConfigError(f"budget '{self.text}': the baseline has no {self.metric} to compare with")
        return self.factor * baseline + self.share * abs(baseline) + self.offset

    def margin(self, value: float, baseline: float | None) -> float:
        """How far `value` is outside, in the metric's unit; 0 or less is fine."""
        bound = self.bound(baseline)
        excess = value - bound if self.sense == "<=" else bound - value
        # A limit such as `baseline - 1%` is a sum of decimals: a value that equals it is inside.
        return 0.0 if math.isclose(value, bound, rel_tol=1e-12, abs_tol=1e-15) else excess


def parse(text: str, metrics: Mapping[str, Metric], *, stored: bool = False) -> Budget:
    """Read a budget.

    Args:
        text: see the module's syntax.
        metrics: the metrics that may be limited, by name.
        stored: it was accepted when it was written down, so its bare numbers are taken as they stand.

    Raises:
        ConfigError: for another syntax, an unknown metric, a unit of another kind, or a number that can be mistaken.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        fail("budget", SYNTAX, text)
    found = _LIMIT.fullmatch(text)
    if not found:
        raise ConfigError(f"budget {text!r}: expected {SYNTAX}")
    name, sense, bound = found["metric"], found["sense"], found["bound"]
    if name not in metrics:
        raise ConfigError(f"budget {text!r}: unknown metric {name!r}; {nearest(name, metrics)}")
    metric, where = metrics[name], f"budget {text!r}"
    bound = summed(bound) if metric.unit == "ms" else bound
    factor, share, offset = 0.0, 0.0, 0.0
    if match := _ABSOLUTE.fullmatch(bound):
        offset = _absolute(match, metric, where, stored=stored)
    elif match := _FACTOR.fullmatch(bound):
        factor = _finite(number(match["factor"]), match["factor"], where) * (
            0.01 if match["percent"].startswith("%") else 1
        )
    elif match := _OFFSET.fullmatch(bound):
        factor = 1.0
        if match["sign"]:
            sign = 1 if match["sign"] == "+" else -1
            share, offset = (sign * part for part in _allowance(match, metric, where, stored=stored))
    else:
        raise ConfigError(f"{where}: expected {SYNTAX}")
    return Budget(metric=name, sense=sense, factor=factor, share=share, offset=offset, text=" ".join(text.split()))


def allowance(text: str, metric: Metric, where: str) -> tuple[float, float]:
    """Read by how much a metric may differ, in the syntax of what stands after `baseline -`.

    Args:
        text: such as `1 point`, `0.05` or `2 % of baseline`.
        metric: that it is of.
        where: it was written, for messages.

    Returns:
        a share of the baseline's value, and a difference in the metric's unit; one of them is 0.

    Raises:
        ConfigError: if it can't be read.
    """
    match = _ALLOWANCE.fullmatch(summed(text.strip()) if metric.unit == "ms" else text.strip())
    if match is None:
        example = "'1 point'" if metric.unit == "fraction" else "'0.05' in its own unit, or '5 %'"
        raise ConfigError(f"{where}: expected a difference of {metric.name} such as {example}, or '1 % of baseline'")
    return _allowance(match, metric, where, stored=False)


def _allowance(match: re.Match[str], metric: Metric, where: str, *, stored: bool) -> tuple[float, float]:
    amount, unit = _number(match, where), _unit(match)
    if match["of"]:
        if unit not in ("%", "percent"):
            raise ConfigError(f"{where}: expected a percentage of the baseline, got {match['number']} {unit}".rstrip())
        return amount / 100, 0.0
    if unit in ("%", "percent") and unit not in UNITS[metric.unit]:
        return amount / 100, 0.0
    if unit and not metric.unit:
        raise ConfigError(
            f"{where}: {metric.name} has no unit; write such as '0.05' of its own, or '5 %' of the baseline's"
        )
    if not unit and not stored:
        if metric.unit == "fraction" and amount >= AMBIGUOUS:
            bare = f" or '{amount / 100:g}'" if amount / 100 < AMBIGUOUS else ""
            points = f"'{amount:g} point{'' if amount == 1 else 's'}' (the same as '{amount:g} %'{bare})"
            instead = f", or '{amount * 100:g} points' if that is meant" if amount <= 1 else ""
            raise ConfigError(f"{where}: {amount:g} of what? Write {points}{instead}")
        _expect_likely(amount, metric, where)
    return 0.0, amount * _factor(match, metric, where)


def _absolute(match: re.Match[str], metric: Metric, where: str, *, stored: bool) -> float:
    amount, unit = _number(match, where), _unit(match)
    if not unit and not stored:
        if metric.unit == "fraction" and amount > 1:
            raise ConfigError(f"{where}: {amount:g} is more than all of it; write '{amount:g} %' or '{amount / 100:g}'")
        _expect_likely(amount, metric, where)
    return amount * _factor(match, metric, where)


def _expect_likely(amount: float, metric: Metric, where: str) -> None:
    """Ask back where hardly anybody means a bare amount in the metric's own unit."""
    if metric.unit == "B" and 0 < amount < TINY:
        asked = f"write '{amount:g} KB', or '{amount:g} B' if bytes are meant"
        raise ConfigError(f"{where}: {amount:g} bytes is less than any model takes; {asked}")
    if metric.unit == "ratio" and amount > MANY_TIMES:
        raise ConfigError(f"{where}: {amount:g} of what? Write '{amount:g} %', or '{amount:g}x' if that is meant")


def _number(match: re.Match[str], where: str) -> float:
    return _finite(number(match["number"]), match["number"], where)


def _finite(value: float, written: str, where: str) -> float:
    """The value, if it can be reckoned with; its products with units and baselines must not overflow."""
    if value > MOST:
        raise ConfigError(f"{where}: expected a finite limit, got {written[:40]}")
    return value


def _unit(match: re.Match[str]) -> str:
    return " ".join(match["unit"].lower().split())


def _factor(match: re.Match[str], metric: Metric, where: str) -> float:
    unit, known = _unit(match), UNITS[metric.unit]
    if unit in known:
        return known[unit]
    hint = f"; '{match['number']} % of baseline' is a share of the baseline's" if unit in ("%", "percent") else ""
    raise ConfigError(
        f"{where}: expected a unit of {metric.name} ({SPELLED[metric.unit]}), got {match['unit']!r}{hint}"
    )


Limit = str | float | None
"""A short form's limit: a text with a unit, or a number where that can't be mistaken."""


def from_short_forms(
    metrics: Mapping[str, Metric],
    quality: str,
    *,
    max_size: Limit = None,
    max_latency: Limit = None,
    max_memory: Limit = None,
    max_flash: Limit = None,
    max_compressed: Limit = None,
    max_download: Limit = None,
    max_accuracy_drop: Limit = None,
    max_quality_drop: Limit = None,
) -> list[Budget]:
    """The budgets behind `--max-size 300KB` and its like.

    A bare latency is in milliseconds, a bare size in bytes; one that is too small for that is asked back.

    Args:
        metrics: as for `parse`.
        quality: name of the task's own metric, which `max_accuracy_drop` limits.
        max_size: limit of the file's size, such as `300KB`.
        max_latency: such as `2ms`.
        max_memory: of the peak memory.
        max_flash: of the flash that an NPU's model takes.
        max_compressed: of the size after gzip -9.
        max_download: of the smallest gzip.
        max_accuracy_drop: how much worse than the baseline the quality may be: `1 point` of an accuracy; of a metric
            such as an error `0.05` in its own unit, or `5 %` of the baseline's.
        max_quality_drop: the same by another name, for metrics that are no accuracy.

    Raises:
        ConfigError: as of `parse`.
    """
    limits = {
        "max_size": max_size,
        "max_latency": max_latency,
        "max_memory": max_memory,
        "max_flash": max_flash,
        "max_compressed": max_compressed,
        "max_download": max_download,
    }
    texts = [_spelled(short, limit, metrics) for short, limit in limits.items() if limit is not None]
    if max_accuracy_drop is not None and max_quality_drop is not None:
        raise ConfigError("max_accuracy_drop and max_quality_drop are the same limit: give one of them")
    name = "max_accuracy_drop" if max_quality_drop is None else "max_quality_drop"
    drop = max_accuracy_drop if max_quality_drop is None else max_quality_drop
    if drop is not None:
        written = text_of(drop)
        if not written and drop != "":
            fail(name, "a difference such as '1 point'", drop)
        allowance(written, metrics[quality], f"{name} {written!r}")  # a message names what was written
        better_is_more = metrics[quality].direction == "max"
        texts.append(f"{quality} {'>= baseline -' if better_is_more else '<= baseline +'} {written}")
    return [parse(text, metrics) for text in texts]


def _spelled(short: str, limit: str | float, metrics: Mapping[str, Metric]) -> str:
    """A short form in the full syntax, with the unit that a bare amount has beyond doubt."""
    name, text = SHORT_FORMS[short], text_of(limit).strip()
    if not text:
        fail(short, "a limit with its unit", limit)
    match = _ABSOLUTE.fullmatch(text)
    if match is None or match["unit"]:
        return f"{name} <= {text}"
    unit = metrics[name].unit
    if unit == "B":
        amount = _number(match, f"{short} {text}")
        if amount < TINY:
            raise ConfigError(f"{short} {text}: of what? Write '{text} KB', or '{text} B' for bytes")
    return f"{name} <= {text} {unit}"
