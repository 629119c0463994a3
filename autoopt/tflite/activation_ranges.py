"""Ranges of activations narrower than the extremes: by percentile, or with the least squared error.

litert-quantizer knows the extremes of activations alone; its OCTAV and MSE choose ranges of weights. So its
calibration result is given other ends here, found in histograms of what flows through the float file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from autoopt.models.task import Inputs
from autoopt.tflite.activation_reader import batches
from autoopt.tflite.graph import Graph

BINS = 2048
OUTSIDE = 1e-4
"""Share of a tensor's values that `percentile` leaves out at each end."""
STEPS = 50
"""Ends that `mse` tries on either side, from the extreme inwards."""
LEVELS = 255
FIXED = ("SOFTMAX", "LOGISTIC", "TANH")
"""Operators whose output's range the runtime prescribes."""


def narrow(file: bytes, calibrated: dict[str, Any], inputs: Inputs, how: str, threads: int) -> dict[str, Any]:
    """A calibration result with narrower ranges.

    Args:
        file: the float32 `.tflite`.
        calibrated: litert-quantizer's result: `min` and `max` by tensor's name.
        inputs: the calibration set, by input name, each of shape (items, ...).
        how: `percentile` or `mse`.
        threads: of the interpreter.
    """
    graph = Graph(file)
    fixed = {int(i) for n, op in enumerate(graph.operators) if graph.kind(n) in FIXED for i in op.outputs}
    ends, counts = {}, {}
    for index in range(len(graph.tensors)):
        found = calibrated.get(graph.name(index))
        if index not in fixed and found and np.ravel(found["min"])[0] < np.ravel(found["max"])[0]:
            ends[index] = float(np.ravel(found["min"])[0]), float(np.ravel(found["max"])[0])
            counts[index] = np.zeros(BINS)
    for value in batches(file, inputs, threads):
        for index, between in ends.items():
            values = value(index)
            # Zero is stored exactly whatever the range; the many that a ReLU leaves must not count.
            counts[index] += np.histogram(values[values != 0], bins=BINS, range=between)[0]
    narrowed = dict(calibrated)
    for index, between in ends.items():
        before = calibrated[graph.name(index)]
        low, high = WAYS[how](counts[index], *between)
        narrowed[graph.name(index)] = {
            **before, "min": np.full_like(before["min"], low), "max": np.full_like(before["max"], high)
        }  # fmt: skip
    return narrowed


def percentile(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range without the outermost values, `OUTSIDE` of them at each end; zero is always inside.

    Args:
        counts: a histogram of equal bins between the extremes, shape (bins,).
        low: the least value.
        high: the greatest value.
    """
    total, edges = counts.sum(), np.linspace(low, high, len(counts) + 1)
    if not total:
        return low, high
    below = np.cumsum(counts)
    first = int(np.searchsorted(below, OUTSIDE * total, side="right"))
    last = int(np.searchsorted(below, (1 - OUTSIDE) * total, side="left"))
    return min(float(edges[first]), max(low, 0.0)), max(float(edges[min(last, len(counts) - 1) + 1]), min(high, 0.0))


def mse(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range with the least squared error: of values cut off, and of rounding those inside (a step squared / 12).

    Args: as of `percentile`.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    shrink = np.linspace(1, 1 / STEPS, STEPS)
    lows = low * shrink if low < 0 else np.array([low])
    highs = high * shrink if high > 0 else np.array([high])
    cut_low = [(counts * np.square(np.minimum(middle - end, 0))).sum() for end in lows]
    cut_high = [(counts * np.square(np.maximum(middle - end, 0))).sum() for end in highs]
    step = (np.maximum(highs, 0)[None] - np.minimum(lows, 0)[:, None]) / LEVELS
    errors = np.add.outer(cut_low, cut_high) + counts.sum() * step**2 / 12
    i, j = np.unravel_index(np.argmin(errors), errors.shape)
    return float(lows[i]), float(highs[j])


WAYS: dict[str, Callable[[np.ndarray, float, float], tuple[float, float]]] = {"percentile": percentile, "mse": mse}
"""By the name in `recipe.RANGES`; `minmax` leaves ranges as they are."""
