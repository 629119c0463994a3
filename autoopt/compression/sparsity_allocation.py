"""How zeros are shared out among layers, so that all together have the sparsity that is asked for."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from autoopt.compression import losses
from autoopt.compression.training import Training
from autoopt.core.stage_settings import MOST_SPARSE

LEVELS = (0.5, 0.7, 0.85, MOST_SPARSE)
"""Sparsities at which a layer's sensitivity is measured."""
ITEMS = 512
"""Of the training data, that it is measured on."""

Kernels = Mapping[str, list[Any]]
"""By layer its prunable weights."""


def shares(
    how: str, sparsity: float, prunable: Kernels, model: Any = None, training: Training | None = None
) -> dict[str, float]:
    """The sparsity of each layer.

    Args:
        how: see `Prune.allocation`.
        sparsity: of all weights together, at most `MOST_SPARSE` where it is not `uniform`.
        prunable: the model's.
        model: tf_keras model, for `sensitivity`; it is left as it was.
        training: data and loss, for `sensitivity`.
    """
    if how == "uniform":
        return dict.fromkeys(prunable, sparsity)
    sparsity = min(sparsity, MOST_SPARSE)
    if how == "global":
        return by_threshold(sparsity, {name: _magnitudes(weights) for name, weights in prunable.items()})
    assert training is not None
    sizes = {name: sum(int(np.prod(w.shape)) for w in weights) for name, weights in prunable.items()}
    return by_cost(sparsity, sizes, _costs(model, prunable, training))


def by_threshold(sparsity: float, magnitudes: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of each layer's weights under one threshold, at which all together have a sparsity.

    Args:
        sparsity: of all together, at most `MOST_SPARSE`.
        magnitudes: by layer, shape (weights,).
    """

    def under(threshold: float) -> dict[str, float]:
        return {name: min(MOST_SPARSE, float((values < threshold).mean())) for name, values in magnitudes.items()}

    total = sum(map(len, magnitudes.values()))
    candidates = np.unique(np.concatenate([*magnitudes.values(), [np.inf]]))
    first, last = 0, len(candidates) - 1
    while first < last:  # the lowest threshold that gives enough zeros
        middle = (first + last) // 2
        if sum(share * len(magnitudes[name]) for name, share in under(candidates[middle]).items()) < sparsity * total:
            first = middle + 1
        else:
            last = middle
    return under(candidates[first])


def by_cost(sparsity: float, sizes: Mapping[str, int], costs: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """Zeros where they cost least, until all together have a sparsity.

    Each layer's cost is taken as its lower convex hull over sparsity, on which the cheapest next step is the best.

    Args:
        sparsity: of all together, at most `MOST_SPARSE`.
        sizes: weights by layer.
        costs: by layer, what some of its sparsities cost, up to `MOST_SPARSE`.
    """
    steps = []
    for name, known in costs.items():
        hull = _hull([(0.0, 0.0), *sorted((level, max(0.0, cost)) for level, cost in known.items())])
        for (before, less), (after, more) in pairwise(hull):
            steps.append(((more - less) / ((after - before) * sizes[name]), name, before, after))
    found, left = dict.fromkeys(sizes, 0.0), sparsity * sum(sizes.values())
    for _, name, before, after in sorted(steps):
        zeros = min(left, (after - before) * sizes[name])
        found[name] = before + zeros / sizes[name]
        left -= zeros
        if left <= 0:
            break
    return found


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull of points in order."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append((x, y))
    return hull


def _magnitudes(weights: list[Any]) -> np.ndarray:
    return np.concatenate([np.abs(w.numpy()).ravel() for w in weights])


def _costs(model: Any, prunable: Kernels, training: Training) -> dict[str, dict[float, float]]:
    """By layer, how much the loss grows with zeros in it alone."""
    loss = losses.of_model(model, training.loss(), training.train.some(ITEMS))
    whole, found = loss(), dict[str, dict[float, float]]()
    for name, weights in prunable.items():
        kept = [w.numpy() for w in weights]
        found[name] = {}
        for level in LEVELS:
            for weight, values in zip(weights, kept, strict=True):
                threshold = np.quantile(np.abs(values), level)
                weight.assign(np.where(np.abs(values) < threshold, 0, values))
            found[name][level] = loss() - whole
        for weight, values in zip(weights, kept, strict=True):
            weight.assign(values)
    return found
