"""Finds out how values have to be scaled for a model, where nobody says it, by what the model makes of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoopt.core.metrics import difference
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.execution import criteria, input_scaling
from autoopt.models import labels as labels_of
from autoopt.models import quality, user_data
from autoopt.models.labels import Inferred, Meaning
from autoopt.models.opaque import ClosedModel
from autoopt.models.quality import Quality
from autoopt.models.scoring import BUILTIN
from autoopt.models.task import Split

ITEMS = input_scaling.ITEMS
"""On which ways of scaling are tried."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a model makes of some items.

    Attributes:
        loss: that all labels and these outputs look like.
        meaning: how labels are read.
        outputs: shape (items, ...).
    """

    loss: Inferred
    meaning: Meaning
    outputs: np.ndarray = field(repr=False)

    @property
    def metric(self) -> str:
        """The metric that suits the labels, a key of `BUILTIN`."""
        return "mae" if self.meaning.kind == labels_of.VALUES else "accuracy"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The way of scaling that was chosen.

    Attributes:
        way: its name.
        look: what the model makes of items that are scaled so.
        told: in words, how good the model is with each way that was tried.
    """

    way: str
    look: Look
    told: str


def look(model: Any, labels: np.ndarray, some: Split, where: str) -> Look:
    """The loss that labels and outputs look like, and how they are read.

    Args:
        model: that was taken in, with one input and one output.
        labels: shape (items, ...), of all items.
        some: of the items.
        where: for messages.

    Raises:
        ConfigError: if items are not such as the model takes, or labels fit no loss.
    """
    user_data.check_split(some, where, model)
    outputs = criteria.given_by(model, some)
    loss = labels_of.infer_loss(labels, outputs, some.labels, where)
    meaning = labels_of.read(labels, outputs, some.labels, loss.described, where)
    return Look(loss=loss, meaning=meaning, outputs=outputs)


def choose(
    model: Any, ways: Mapping[str, np.ndarray], labels: np.ndarray, chosen: np.ndarray, where: str, prefer: str = ""
) -> Choice:
    """The way of scaling with which a model is best.

    Those that are as good as the best, as far as its interval tells, are told apart by what arrives at the first
    normalization, where the model has one; else by the loss, unless the model makes no mistakes: then a larger scale lowers
    it in any case, and the order of the ways decides.

    Args:
        model: that was taken in, with one input and one output.
        ways: some inputs by the name of the scaling, each of shape (some, ...), the likeliest first.
        labels: shape (items, ...), of all items.
        chosen: shape (some,), indices of the items that the inputs are of.
        where: for messages.
        prefer: what is chosen unless another way is better beyond chance.

    Raises:
        ConfigError: if the labels fit the model with no way of scaling.
    """
    looks, refused = {}, []
    for way, x in ways.items():
        split = Split(inputs={model.input_names[0]: x}, labels=labels[chosen])
        try:
            with np.errstate(all="ignore"):
                looks[way] = look(model, labels, split, where)
        except ConfigError as error:  # outputs may look like others where inputs are scaled as they should not be
            refused.append(error)
    if not looks:
        raise refused[0]
    metric = next(iter(looks.values())).metric
    tried = {way: found for way, one in looks.items() if (found := _quality(one, labels[chosen], metric))}
    if not tried:
        way = prefer if prefer in looks else next(iter(looks))
        return Choice(way=way, look=looks[way], told=f"no {metric} that is a number could be had")
    sign = 1 if BUILTIN[metric].direction == "max" else -1
    best = max(tried.values(), key=lambda one: sign * one.measurement.value)
    alike = [way for way, one in tried.items() if not _worse(one, best, sign)]
    way = prefer if prefer in alike else _likeliest(model, alike, ways, looks, labels[chosen], tried)
    doubt = "" if len(alike) == 1 else "; which is no sure sign"
    if metric == "accuracy" and not _over_chance(best, labels[chosen]):
        doubt += (
            "; that is no better than chance: is the model trained, and are the classes in the order of its outputs?"
        )
    return Choice(way=way, look=looks[way], told=_told(tried, metric, len(chosen)) + doubt)


def _likeliest(
    model: Any,
    alike: list[str],
    ways: Mapping[str, np.ndarray],
    looks: Mapping[str, Look],
    labels: np.ndarray,
    tried: Mapping[str, Quality],
) -> str:
    """The likeliest of several ways with which a model is about as good."""
    spread = None if isinstance(model, ClosedModel) else input_scaling.first_normalization(model)[1]
    if spread is not None:
        found = {way: spread({model.input_names[0]: ways[way]}) for way in alike}
        if all(0 < value < math.inf for value in found.values()):
            return min(alike, key=lambda way: abs(math.log(found[way])))
    faultless = [way for way in alike if looks[way].metric == "accuracy" and tried[way].measurement.value == 1]
    return faultless[0] if faultless else min(alike, key=lambda way: _loss(looks[way], labels))


def _quality(one: Look, labels: np.ndarray, metric: str) -> Quality | None:
    """How good outputs are; None where they are no finite numbers, or labels are read otherwise than by the metric."""
    if one.metric != metric:
        return None
    try:
        return quality.score(metric, one.meaning, labels, one.outputs, "")
    except CandidateFailed:
        return None


def _loss(one: Look, labels: np.ndarray) -> float:
    """The mean loss of some items; infinity where it is no finite number."""
    import tf_keras

    described = one.loss.described
    plain = isinstance(described, str)
    made = tf_keras.losses.get(described) if plain else tf_keras.losses.deserialize(described["keras"])
    shaped = labels.reshape(one.outputs.shape) if labels.size == one.outputs.size else labels
    value = float(np.mean(made(shaped.astype(np.float32), one.outputs)))
    return value if math.isfinite(value) else math.inf


def _worse(one: Quality, best: Quality, sign: int) -> bool:
    """Whether a way is worse than the best beyond chance."""
    return one is not best and min(sign * end for end in difference(best.scores, one.scores)) > 0


def _over_chance(best: Quality, labels: np.ndarray) -> bool:
    """Whether an accuracy is better than that of always saying the most frequent class."""
    most = np.unique(labels, return_counts=True)[1].max() / len(labels)
    return bool(best.measurement.low > most)


def _told(tried: Mapping[str, Quality], metric: str, items: int) -> str:
    values = {way: one.measurement.value for way, one in tried.items()}
    shown = [
        f"{way}: {value:.1%}" if BUILTIN[metric].unit == "fraction" else f"{way}: {value:.4g}"
        for way, value in values.items()
    ]
    return f"{metric} of {items} items with {', '.join(shown)}"
