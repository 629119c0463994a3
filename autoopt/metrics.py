"""What is measured: a metric has a name, unit and direction; a measurement is a value and its spread."""

import base64
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from autoopt.validation import fail

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided intervals of 95 %."""
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
        Metric(name="memory_bytes", direction="min", unit="B", label="peak memory"),
        Metric(name="flash_bytes", direction="min", unit="B", label="flash"),
        Metric(name="agreement", direction="max", unit="fraction", label="agreement with the baseline"),
    )
}


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
    """

    value: float
    low: float
    high: float
    n: int
    how: str
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", tuple(self.flags))
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not all(math.isfinite(x) for x in (self.value, self.low, self.high)):
            raise ValueError(f"a measurement must be finite, got {self.value} in [{self.low}, {self.high}]")

    @classmethod
    def exact(cls, value: float, how: str) -> Self:
        """Something counted, not estimated."""
        return cls(value=value, low=value, high=value, n=1, how=how)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"flags": list(self.flags)}


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), which stays inside [0, 1] also at the ends.

    Args:
        successes: how many of `n`.
        n: items, 1 or more.
    """
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Rounding may leave the interval of 0 of n (or n of n) a hair off its own value.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def pack_outcomes(correct: np.ndarray) -> str:
    """Per-item outcomes, one bit an item, as base64 text.

    Args:
        correct: shape (items,), dtype bool.
    """
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack_outcomes(text: str, n: int) -> np.ndarray:
    """The inverse of `pack_outcomes`: shape (n,), dtype bool."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


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


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Difference of two accuracies on the same items, with its 95 % interval.

    The interval is Newcombe's for paired proportions (1998, method 10), which combines the Wilson
    intervals of both with the correlation between them.

    Args:
        a: shape (items,), dtype bool: the first model is right.
        b: shape (items,), dtype bool: the second model is right, same items, same order.

    Returns:
        `(share of a) - (share of b)`, and the interval's ends.
    """
    n = len(a)
    both, only_a = int((a & b).sum()), int((a & ~b).sum())
    only_b, neither = int((b & ~a).sum()), int((~a & ~b).sum())
    if only_a == only_b == 0:
        return 0.0, 0.0, 0.0
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = wilson(both + only_a, n), wilson(both + only_b, n)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    correlation = 0.0
    if product > 0:
        cross: float = both * neither - only_a * only_b
        if cross > 0:
            cross = max(cross - n / 2, 0)  # Newcombe's continuity correction of phi
        correlation = cross / math.sqrt(product)

    def spread(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))

    difference = share_a - share_b
    low = difference - spread(share_a - low_a, high_b - share_b)
    high = difference + spread(high_a - share_a, share_b - low_b)
    return difference, low, high
