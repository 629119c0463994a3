"""Finds out how values have to be scaled for a model, where nobody says it, by what the model makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core.metrics import difference
from autoopt.errors import CandidateFailed
from autoopt.execution import criteria, input_scaling
from autoopt.models import quality
from autoopt.models.labels import Inferred, Meaning
from autoopt.models.quality import Quality
from autoopt.models.scoring import BUILTIN
from autoopt.models.task import Split

ITEMS = input_scaling.ITEMS
"""On which ways of scaling are tried."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The way of scaling that was chosen.

    Attributes:
        way: its name.
        told: in words, how good the model is with each way that was tried.
        sure: whether it is better than every other, beyond chance.
    """

    way: str
    told: str
    sure: bool


@dataclass(frozen=True, kw_only=True)
class _Tried:
    quality: Quality
    loss: float


def choose(
    model: Any,
    ways: Mapping[str, np.ndarray],
    labels: np.ndarray,
    loss: Inferred,
    meaning: Meaning,
    metric: str,
    prefer: str = "",
) -> Choice:
    """The way of scaling with which a model is best.

    Among those that are as good as the best, as far as its interval tells, it is the preferred one, and else the one with
    the lowest loss: that tells scalings apart on which a classifier's answers do not depend.

    Args:
        model: that was taken in, with one input and one output.
        ways: the inputs by the name of the scaling, each of shape (items, ...), the same items in the same order.
        labels: shape (items, ...).
        loss: that labels and outputs look like.
        meaning: how labels are read.
        metric: a key of `BUILTIN`.
        prefer: what is chosen unless another way is better beyond chance.
    """
    tried = {way: found for way, x in ways.items() if (found := _try(model, x, labels, loss, meaning, metric))}
    if not tried:
        return Choice(way=prefer or next(iter(ways)), told="", sure=False)
    sign = 1 if BUILTIN[metric].direction == "max" else -1
    best = max(tried.values(), key=lambda one: sign * one.quality.measurement.value)
    alike = [way for way, one in tried.items() if not _worse(one, best, sign)]
    chosen = prefer if prefer in alike else min(alike, key=lambda way: tried[way].loss)
    fraction = BUILTIN[metric].unit == "fraction"
    values = {way: one.quality.measurement.value for way, one in tried.items()}
    shown = ", ".join(f"{way}: {f'{value:.1%}' if fraction else f'{value:.4g}'}" for way, value in values.items())
    return Choice(way=chosen, told=f"{metric} of {len(labels)} items with {shown}", sure=len(alike) == 1)


def _try(model: Any, x: np.ndarray, labels: np.ndarray, loss: Inferred, meaning: Meaning, metric: str) -> _Tried | None:
    """What a model makes of inputs; None where that is no finite quality."""
    split = Split(inputs={model.input_names[0]: x}, labels=labels)
    with np.errstate(all="ignore"):
        outputs = criteria.given_by(model, split)
        try:
            found = quality.score(metric, meaning, labels, outputs, "")
        except CandidateFailed:  # an output that is no finite number
            return None
    return _Tried(quality=found, loss=_loss(loss, labels, outputs))


def _loss(loss: Inferred, labels: np.ndarray, outputs: np.ndarray) -> float:
    """The mean loss of some items; infinity where it is no finite number."""
    import tf_keras

    described = loss.described
    made = (
        tf_keras.losses.get(described)
        if isinstance(described, str)
        else tf_keras.losses.deserialize(described["keras"])
    )
    alike = labels.reshape(outputs.shape) if labels.size == outputs.size else labels
    value = float(np.mean(made(alike, outputs)))
    return value if np.isfinite(value) else float("inf")


def _worse(one: _Tried, best: _Tried, sign: int) -> bool:
    """Whether a way is worse than the best beyond chance."""
    return one is not best and min(sign * end for end in difference(best.quality.scores, one.quality.scores)) > 0
