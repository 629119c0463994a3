"""What is measured: a metric has a name, unit and direction; a measurement is a value and its spread."""

import base64
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from autoopt.core.reprs import short
from autoopt.core.validation import Shape, expect_keys, expect_present, expect_shape, fail
from autoopt.errors import ConfigError

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided intervals of 95 %."""
INTERVAL, RANGE = "95 % interval", "range"
"""What the ends of a measurement can be."""
RESIDENT = "peak resident"
"""How a protocol of resident memory begins."""
KINDS = ("fraction", "ms", "B", "ratio", "")
"""Units that a metric may have; `budgets.UNITS` has a row for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing that is measured of every candidate.

    Attributes:
        name: as in files and budgets, such as `latency_ms`.
        direction: `max` or `min`: which is better.
        unit: `fraction` (shown in percent), `ms`, `B`, `ratio` or `` for a bare number.
        label: for people.
    """

    name: str
    direction: str
    unit: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            fail(f"metric {self.name}: direction", "'max' or 'min'", self.direction)
        if self.unit not in KINDS:
            fail(f"metric {self.name}: unit", f"one of {', '.join(map(repr, KINDS))}", self.unit)
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))

    @classmethod
    def from_dict(cls, where: str, values: Mapping[str, Any]) -> Self:
        """A metric from its fields, which `METRIC_SHAPE` describes.

        Raises:
            ConfigError: for other fields, or without a name and a direction.
        """
        expect_keys(where, values, METRIC_SHAPE)
        if not {"name", "direction"} <= values.keys():
            raise ConfigError(f"{where} needs a name and a direction")
        return cls(**values)

    @property
    def sign(self) -> int:
        """+1 where less is better, -1 where more is: `sign * value` is to be minimized."""
        return 1 if self.direction == "min" else -1

    def show(self, value: float) -> str:
        """The value with its unit, for people."""
        if self.unit == "fraction":
            return f"{value * 100:.2f} %"
        if self.unit == "ms":
            return f"{value:.3g} ms" if value < 999.5 else f"{value:,.0f} ms"
        if self.unit == "B":
            return show_bytes(value)
        if self.unit == "ratio":
            return f"{value:.3g}x"
        return f"{value:.4g}"

    def show_change(self, value: float, reference: float) -> str:
        """The change against a reference: points for fractions, a factor for sizes and times."""
        if self.unit == "fraction":
            return f"{(value - reference) * 100:+.2f} points"
        if self.unit in ("ms", "B", "ratio") and value > 0 and reference > 0:
            factor = value / reference
            if abs(factor - 1) < 0.005:
                return "unchanged"
            if self.unit == "ms":
                return f"{1 / factor:.2f}x faster" if factor < 1 else f"{factor:.2f}x slower"
            return f"{1 / factor:.2f}x smaller" if factor < 1 else f"{factor:.2f}x larger"
        return f"{value - reference:+.4g}"


def show_bytes(value: float) -> str:
    """Bytes with a decimal prefix: 1 KB is 1000 B, as storage and download sizes are stated."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= 0.9995 * size:  # what would read 1000 of the smaller unit
            return f"{value / size:.4g} {unit}"
    return f"{value:.0f} B"


STANDARD: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="latency_ms", direction="min", unit="ms", label="latency"),
        Metric(name="latency_ratio", direction="min", unit="ratio", label="latency, against the baseline"),
        Metric(name="size_bytes", direction="min", unit="B", label="file size"),
        Metric(name="compressed_bytes", direction="min", unit="B", label="compressed size"),
        Metric(name="download_bytes", direction="min", unit="B", label="download size"),
        Metric(name="memory_bytes", direction="min", unit="B", label="peak memory"),
        Metric(name="flash_bytes", direction="min", unit="B", label="flash"),
        Metric(name="agreement", direction="max", unit="fraction", label="agreement with the baseline"),
    )
}


METRIC_SHAPE = {"name": str, "direction": str, "unit": str, "label": str}
"""Types of a metric's fields, see `validation.expect_shape`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value with its spread.

    Attributes:
        value: the estimate, in the metric's unit.
        low: lower end of the 95 % interval; equal to `value` for what is exact, such as a size.
        high: upper end.
        n: repeats or items behind it.
        how: the protocol in one line.
        flags: what a reader must know, such as `wide interval`.
        ends: what `low` and `high` are: `INTERVAL`, or `RANGE` for the least and the most of `n` readings.
    """

    value: float
    low: float
    high: float
    n: int
    how: str
    flags: tuple[str, ...] = ()
    ends: str = INTERVAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", tuple(self.flags))
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not all(math.isfinite(x) for x in (self.value, self.low, self.high)):
            raise ValueError(f"a measurement must be finite, got {self.value} in [{self.low}, {self.high}]")

    def __repr__(self) -> str:
        spread = "exact" if self.low == self.high else f"{self.low:.6g} to {self.high:.6g}, n={self.n}"
        flags = f"; {short(', '.join(self.flags), 80)}" if self.flags else ""
        return f"<Measurement {self.value:.6g} ({spread}){flags}>"

    @classmethod
    def exact(cls, value: float, how: str) -> Self:
        """Something counted, not estimated."""
        return cls(value=value, low=value, high=value, n=1, how=how)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; of a memory that was written down before ranges were told apart, its range.

        Raises:
            ConfigError: for values of other types, and ends between which the value does not lie.
        """
        expect_keys("measurement", values, _SHAPE.example)
        expect_shape("measurement", values, _SHAPE)
        expect_present("measurement", values, ("value", "low", "high", "n", "how"))
        value, low, high = values["value"], values["low"], values["high"]
        slack = ROUNDING * max(abs(low), abs(high), abs(value))
        if not low - slack <= value <= high + slack:
            raise ConfigError(f"measurement: expected low <= value <= high, got {value} in [{low}, {high}]")
        if values["n"] < 0:
            fail("measurement.n", "a whole number of at least 0", values["n"])
        if values.get("ends", INTERVAL) not in (INTERVAL, RANGE):
            fail("measurement.ends", f"{INTERVAL!r} or {RANGE!r}", values["ends"])
        before = "ends" not in values and values["how"].startswith(RESIDENT)
        return cls(**values, ends=RANGE) if before and values["n"] > 1 else cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = dataclasses.asdict(self) | {"flags": list(self.flags)}
        if self.ends == INTERVAL and not self.how.startswith(RESIDENT):  # of a memory its lack means something else
            del plain["ends"]
        return plain


_SHAPE = Shape({"value": float, "low": float, "high": float, "n": int, "how": str, "flags": [str], "ends": str})
ROUNDING = 1e-9
"""How far, as a share, a value may lie outside of its own ends: what sums and products of decimals are off by."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), which stays inside [0, 1] also at the ends.

    Args:
        successes: how many of `n`.
        n: items, 1 or more.
    """
    low, high = _wilson(np.array(successes), n)
    return float(low), float(high)


def _wilson(successes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Rounding may leave the interval of 0 of n (or n of n) a hair off its own value.
    return np.minimum(share, np.maximum(0.0, centre - half)), np.maximum(share, np.minimum(1.0, centre + half))


def pack_outcomes(correct: np.ndarray) -> str:
    """Per-item outcomes, one bit an item, as base64 text.

    Args:
        correct: shape (items,), dtype bool.
    """
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack_outcomes(text: str, n: int) -> np.ndarray:
    """The inverse of `pack_outcomes`: shape (n,), dtype bool."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def expect_outcomes(where: str, text: str, n: int | None) -> None:
    """Refuse what `pack_outcomes` has not written for `n` items, or for any number of them if that is None.

    Raises:
        ConfigError: naming expected and got.
    """
    try:
        packed = base64.b64decode(text, validate=True)
    except ValueError:  # also for what is not ASCII
        fail(where, "base64", text)
    if packed and n is not None and len(packed) != -(-n // 8):
        fail(where, f"one bit for each of {n} items", f"{len(packed)} bytes")


class Scores(NamedTuple):
    """A quality with what it takes to compare it with another on the same items.

    Attributes:
        measurement: of the quality.
        outcomes: for accuracy, per-item outcomes (see `pack_outcomes`), or ``.
        resamples: for other metrics, the metric on resampled items; None where it is not defined there.
    """

    measurement: Measurement
    outcomes: str = ""
    resamples: Sequence[float | None] = ()


def difference(a: Scores, b: Scores) -> tuple[float, float, float]:
    """The first quality minus the second, with the ends of its 95 % interval; see `differences`."""
    value, low, high = differences(a, [b])[0]
    return float(value), float(low), float(high)


def differences(a: Scores, others: Sequence[Scores]) -> np.ndarray:
    """One quality minus each of the others, with 95 % intervals.

    Paired on the same items: Newcombe's interval for accuracy, the bootstrap for other metrics. Where
    neither was kept it is made of the two intervals, as if independent, which is wider.

    Returns:
        shape (others, 3), dtype float: value, low, high.
    """
    found = np.empty((len(others), 3))
    alike = np.array([b.measurement.n == a.measurement.n for b in others], dtype=bool)
    paired = alike & np.array([bool(a.outcomes and b.outcomes) for b in others], dtype=bool)
    same_draws = np.array([_same_draws(a.resamples, b.resamples) for b in others], dtype=bool)
    drawn = alike & ~paired & same_draws
    if paired.any():
        n = a.measurement.n
        theirs = np.stack([unpack_outcomes(b.outcomes, n) for b, chosen in zip(others, paired, strict=True) if chosen])
        found[paired] = paired_differences(unpack_outcomes(a.outcomes, n)[None], theirs)[0]
    for i, b in enumerate(others):
        if drawn[i]:
            found[i] = resampled_difference(a.measurement.value, b.measurement.value, a.resamples, b.resamples)
            if not found[i].any():
                found[i, 1:] = np.array((-1, 1)) * _unseen_by_draws(a.measurement)
        elif not paired[i]:
            found[i] = _independent(a.measurement, b.measurement)
    return found


def _unseen_by_draws(a: Measurement) -> float:
    """Half the interval of two metrics that are the same on all resamples.

    A share of `unseen` items may differ elsewhere, each by what items differ among themselves. That is
    the half width of the metric's own interval, times the square root of their number; where that has
    no width either, by the whole value.
    """
    by = math.sqrt(a.n) * (a.high - a.low) / 2 or abs(a.value)
    return unseen(a.n) * by


def _same_draws(draws_a: Sequence[float | None], draws_b: Sequence[float | None]) -> bool:
    """Whether both were drawn alike and some draw defines both metrics; else nothing is known of their pairing."""
    alike = len(draws_a) == len(draws_b)
    return alike and any(x is not None and y is not None for x, y in zip(draws_a, draws_b, strict=True))


def _independent(a: Measurement, b: Measurement) -> tuple[float, float, float]:
    d = a.value - b.value
    low = d - math.hypot(a.value - a.low, b.high - b.value)
    return d, low, d + math.hypot(a.high - a.value, b.value - b.low)


def resampled_difference(
    a: float, b: float, draws_a: Sequence[float | None], draws_b: Sequence[float | None]
) -> tuple[float, float, float]:
    """Difference of two metrics on the same items, with its 95 % interval (paired percentile bootstrap, Efron 1979).

    Args:
        a: the first model's metric.
        b: the second model's.
        draws_a: the first model's metric on resampled items; None where it is not defined.
        draws_b: the second model's on the very same resampled items.
    """
    both = [x - y for x, y in zip(draws_a, draws_b, strict=True) if x is not None and y is not None]
    difference = a - b
    if not both:
        return difference, difference, difference
    low, high = np.percentile(both, [2.5, 97.5])
    return difference, min(float(low), difference), max(float(high), difference)


def paired_differences(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Differences of accuracies on the same items, each of some against each of others, with 95 % intervals.

    The interval is Newcombe's for paired proportions (1998, method 10), which combines the Wilson
    intervals of both with the correlation between them. Of models that agree on every item it is
    what they may differ by elsewhere (see `unseen`): Newcombe's covers too little there.

    Args:
        rows: shape (m, items), dtype bool: each of m models is right.
        columns: shape (k, items), dtype bool: each of k models is right, same items, same order.

    Returns:
        shape (m, k, 3), dtype float: `(share of the row's) - (share of the column's)`, and the interval's ends.
    """
    n = rows.shape[1]
    # Counts stay exact in float32 up to 2**24 items, and its product is many times faster than one of integers.
    both = np.rint(rows.astype(np.float32) @ columns.astype(np.float32).T).astype(float)
    right_a, right_b = rows.sum(axis=1).astype(float)[:, None], columns.sum(axis=1).astype(float)[None]
    only_a, only_b = right_a - both, right_b - both
    (low_a, high_a), (low_b, high_b) = _wilson(right_a, n), _wilson(right_b, n)
    product = right_a * (n - right_a) * right_b * (n - right_b)
    cross = both * (n - both - only_a - only_b) - only_a * only_b
    cross = np.where(cross > 0, np.maximum(cross - n / 2, 0), cross)  # Newcombe's continuity correction of phi
    correlation = np.divide(cross, np.sqrt(product), out=np.zeros_like(cross), where=product > 0)

    def spread(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(np.maximum(0.0, x * x - 2 * correlation * x * y + y * y)))

    share_a, share_b = right_a / n, right_b / n
    value = share_a - share_b
    low = value - spread(share_a - low_a, high_b - share_b)
    high = value + spread(high_a - share_a, share_b - low_b)
    found = np.stack([value, low, high], axis=-1)
    alike = (only_a == 0) & (only_b == 0)
    found[alike] = (0.0, -unseen(n), unseen(n))
    return found


def unseen(n: int) -> float:
    """Up to which share of all items two models may differ that agree on all of `n`, at 95 % (Wilson 1927).

    It is 3.7 % for 100 items; the rule of three says 3 %, one-sided.
    """
    return wilson(0, n)[1]
