"""Weights fitted to what they are to give out, that leave where they began only as far as items held out bear it."""

import numpy as np

RIDGES = (1e-6, 1e-4, 1e-2, 1.0)
"""What is tried to hold weights where they began, as shares of the mean square of what they are multiplied with."""
HELD_OUT = 5
"""One in so many rows is held out to choose the ridge by."""


def fit(taken: np.ndarray, wanted: np.ndarray, start: np.ndarray, *, offset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Solve for weights of which `taken @ weights + bias` is nearest to `wanted` (ridge regression towards the start).

    The ridge is the one with the least error on the last rows, which the weights that it is judged by were not fitted
    to; so rows should come item by item. Where none helps there, or a number is not finite, the weights stay as they are.

    Args:
        taken: shape (groups, rows, unknowns).
        wanted: shape (groups, rows, outputs).
        start: weights to begin with, shape (groups, unknowns, outputs).
        offset: whether there is a bias too, which nothing holds.

    Returns:
        weights, of the shape of `start`, and biases, shape (groups, outputs), zero without `offset`; both float64.
    """
    taken, wanted, start = (array.astype(np.float64) for array in (taken, wanted, start))
    if not (np.isfinite(taken).all() and np.isfinite(wanted).all()):  # a model that overflows on some item
        return start, np.zeros((len(start), start.shape[2]))
    gap = wanted - taken @ start
    cut = taken.shape[1] - max(1, taken.shape[1] // HELD_OUT)
    ridge = None
    if cut > 0:
        (before, behind), (gap_before, gap_behind) = (np.split(array, [cut], axis=1) for array in (taken, gap))
        changes = dict(zip((None, *RIDGES), _changes(before, gap_before, (None, *RIDGES), offset), strict=True))
        errors = {
            one: float(np.square(gap_behind - behind @ change - bias[:, None]).sum())
            for one, (change, bias) in changes.items()
        }
        ridge = min(errors, key=errors.__getitem__)
    [(change, bias)] = _changes(taken, gap, (ridge,), offset)
    return start + change, bias


def _changes(
    taken: np.ndarray, gap: np.ndarray, ridges: tuple[float | None, ...], offset: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """By ridge the change of weights, and the bias, that close a gap best; without a ridge the bias alone."""
    groups, rows, unknowns = taken.shape
    taken_mean = taken.mean(axis=1, keepdims=True) * offset
    gap_mean = gap.mean(axis=1, keepdims=True) * offset
    taken, gap = taken - taken_mean, gap - gap_mean
    turned = taken.swapaxes(1, 2)
    square = taken @ turned if rows < unknowns else turned @ taken  # both ways give the same, one is smaller
    against = gap if rows < unknowns else turned @ gap
    size = np.square(taken).sum(axis=(1, 2)) / unknowns
    found = []
    for ridge in ridges:
        change = np.zeros((groups, unknowns, gap.shape[2]))
        if ridge is not None:
            held = (ridge * np.where(size > 0, size, 1.0))[:, None, None] * np.eye(square.shape[1])
            change = np.linalg.solve(square + held, against)
            change = turned @ change if rows < unknowns else change
        found.append((change, (gap_mean - taken_mean @ change)[:, 0]))
    return found
