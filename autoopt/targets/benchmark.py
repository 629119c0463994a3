"""Reads times and bytes off a target, again and again, until they say enough."""

import dataclasses
from collections.abc import Callable

from autoopt.core.latency_statistics import WIDE, Rounds, latency_ratio
from autoopt.core.metrics import Measurement
from autoopt.targets.protocol import Target, Timing

FEWEST, MOST = 5, 14
"""Fresh processes while searching."""
CONFIRM_FEWEST, CONFIRM_MOST = 8, 30
"""Fresh processes for a confirmed figure."""
REPEATS = {
    "usual": ((FEWEST, MOST), (CONFIRM_FEWEST, CONFIRM_MOST)),
    "quick": ((1, 1), (1, 1)),  # the interval of one process says next to nothing, and is flagged
}
"""How thoroughly times are read, by the name that `study.yaml` has for it: fewest and most processes, searching and confirming."""


def steady(once: Callable[[], Timing], *, fewest: int, most: int, width: float = WIDE) -> list[Timing]:
    """Time again, in fresh processes, until the interval is narrow enough.

    Args:
        once: one process.
        fewest: processes, before the interval is looked at.
        most: processes, narrow or not.
        width: of the interval of the ratio, as a share of it.
    """
    timings: list[Timing] = []
    while len(timings) < most:
        timings.append(once())
        if len(timings) >= fewest:
            ratio = latency_ratio([t.rounds for t in timings], "")
            if (ratio.high - ratio.low) / ratio.value < width:
                break
    return timings


def timed(target: Target, file: bytes, reference: bytes, *, fewest: int, most: int) -> tuple[list[Rounds], list[str]]:
    """Rounds of several fresh processes (one where the target computes its times), and what must be known of them.

    See `steady` for the other arguments.
    """
    if target.exact:
        fewest = most = 1
    timings = steady(lambda: target.latency(file, reference), fewest=fewest, most=most)
    return [timing.rounds for timing in timings], sorted({flag for timing in timings for flag in timing.flags})


def readings(target: Target, file: bytes) -> list[dict[str, int]]:
    """Bytes by metric that a file takes, of two fresh processes (one where the target computes them)."""
    return [target.memory(file) for _ in range(1 if target.exact else 2)]


def flagged(measurement: Measurement, target: Target) -> Measurement:
    """An estimate never passes for a measurement."""
    if not target.estimated:
        return measurement
    return dataclasses.replace(measurement, flags=("estimated", *measurement.flags))
