"""Says when more training can't help, for the model knows its training data by heart."""

import math
from collections.abc import Mapping, Sequence

from autoopt.core.metrics import Metric

NEAR_ZERO = 0.1
"""A training loss of at most this share of the first epoch's is near zero."""
STILL = 3
"""Quality stood still if it did not rise in the last one of so many parts of the epochs."""
EPOCHS = 4
"""In fewer of them nothing can be told."""


def notes(history: Sequence[Mapping[str, float]], quality: Metric, first: int = 0) -> list[str]:
    """A line for people where the training data are what holds the quality back; else none.

    Args:
        history: `loss` of the training data and the quality on the validation data, by epoch.
        quality: the metric.
        first: the first epoch, counting from 0, whose quality counts.
    """
    values = [quality.sign * epoch[quality.name] for epoch in history[first:]]
    perfect = 0.0 if quality.sign > 0 else -1.0 if quality.unit == "fraction" else -math.inf
    if len(values) < EPOCHS or min(values) <= perfect:
        return []
    best = first + values.index(min(values)) + 1
    began, ended = history[0]["loss"], history[-1]["loss"]
    still = len(history) - best >= -(-len(values) // STILL)
    if not still or began <= 0 or ended > NEAR_ZERO * began:
        return []
    share = "0 %" if ended <= 0 else f"{ended / began:.1%}".replace("%", " %")
    return [
        f"data is the limit: the training loss fell to {share} of its first epoch's, and {quality.name} on the validation "
        f"data has not been better since epoch {best} of {len(history)}; more epochs bring nothing, but more training "
        "items, random changes to them (augment) or a teacher (distillation) may"
    ]
