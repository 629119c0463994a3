"""How good a file's outputs are: the task's metric with its 95 % interval, of items that are resampled as a whole.

Metrics that autoopt knows by name are in `scoring`; others are functions of the user's own.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core.metrics import Measurement, Scores, pack_outcomes, wilson
from autoopt.errors import CandidateFailed, one_line, retold
from autoopt.models.answers import Answers, peeked, whole
from autoopt.models.columns import CHUNK_BYTES
from autoopt.models.labels import Meaning
from autoopt.models.scoring import Score, rounded
from autoopt.models.task import Inputs, Manifest, Split

RESAMPLES = 200
PATIENCE_S = 20.0
"""What the resamples of one file may take; a metric that takes longer is resampled by groups of items."""
GROUPS = 20
"""Groups that a slow metric is computed on, once each."""
IN_MEMORY = 1 << 28
"""Bytes of labels, outputs and inputs, of which a metric of the user's own gets resampled items; of more it gets groups."""
SORTED_MOST = 1_000_000
"""Outputs that are sorted again for each resample of an AUC; where there are more, groups of items are resampled."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The task's metric on one split, with what is needed to compare two files on the same items.

    Attributes:
        measurement: with a 95 % interval.
        outcomes: for the accuracy of one label an item, per item whether it is right (see `metrics.pack_outcomes`), else ``.
        resamples: for other metrics, the metric on resampled items, the same draws for every file.
        classes: for each class how many of its positions are right, and how many there are; empty for values.
        predictions: for the accuracy of one label an item, the class that each item was given, else empty.
        protocol: how resamples were drawn: `bootstrap` or `groups`; `` where there are none.
    """

    measurement: Measurement
    outcomes: str = ""
    resamples: tuple[float | None, ...] = ()
    classes: tuple[tuple[int, int], ...] = ()
    predictions: tuple[int, ...] = ()
    protocol: str = ""

    @property
    def scores(self) -> Scores:
        """What it takes to compare it with another file's."""
        return Scores(self.measurement, self.outcomes, self.resamples)


def value(manifest: Manifest, split: Split, outputs: Answers) -> float:
    """The task's metric.

    Args:
        manifest: says which.
        split: the items.
        outputs: shape (items, ...), of the same items, or parts of it.
    """
    function = manifest.quality_function()
    if function is not None:
        return function(split.labels, whole(outputs), manifest.seen(split.inputs))
    some, outputs = peeked(outputs)
    return Score(manifest.quality.name, manifest.meaning(some), split.labels, outputs, split.counted).value()


def quality(manifest: Manifest, split: Split, outputs: Answers, how: str, protocol: str = "") -> Quality:
    """The task's metric, with a 95 % interval.

    The interval is Wilson's for the accuracy of one label an item, else the percentile bootstrap's (Efron 1979) over
    items: the pixels of one image hang together.

    Args:
        manifest: says which metric.
        split: the items.
        outputs: shape (items, ...), of the same items, or parts of it.
        how: the protocol in words.
        protocol: how the baseline's resamples were drawn, so that this file's are drawn alike.

    Raises:
        CandidateFailed: if the metric is no finite number or its function raises.
    """
    function = manifest.quality_function()
    if function is None:
        some, outputs = peeked(outputs)
        return score(manifest.quality.name, manifest.meaning(some), split.labels, outputs, how, split.counted)
    given = (split.labels, whole(outputs), manifest.seen(split.inputs))
    return resampled(manifest.quality.name, function, given, how, protocol)


def score(
    name: str,
    meaning: Meaning,
    labels: np.ndarray,
    outputs: Answers,
    how: str,
    mask: np.ndarray | None = None,
) -> Quality:
    """One of the metrics known by name.

    Args:
        name: a key of `BUILTIN`.
        meaning: how labels and outputs are read.
        labels: shape (items, ...).
        outputs: shape (items, ...), or parts of it.
        how: the protocol in words.
        mask: shape (items, ...), dtype bool: positions that count, or None if all do.

    Raises:
        CandidateFailed: if the metric is no finite number.
    """
    made = Score(name, meaning, labels, outputs, mask)
    classes, one_class = made.classes(), made.one_class()
    if name == "accuracy" and one_class is not None:
        (predicted, right), n = one_class, made.items
        low, high = wilson(int(right.sum()), n)
        return Quality(
            measurement=Measurement(value=right.mean(), low=low, high=high, n=n, how=how),
            outcomes=pack_outcomes(right),
            classes=classes,
            predictions=tuple(predicted.tolist()),
        )
    try:
        found = made.value()
    except ValueError as error:  # such as the AUC of items of one class
        raise CandidateFailed("accuracy", f"{name} is not defined here: {one_line(error, 300)}") from error
    if not math.isfinite(found):
        raise CandidateFailed("accuracy", f"{name} is {found}")
    if name == "auc" and made.values > SORTED_MOST:
        given = (labels, made.outputs()) if mask is None else (labels, made.outputs(), mask)
        draws = _by_groups(lambda *some: Score(name, meaning, *some).value(), given, found)
        return _interval(found, draws, made.items, how, "groups", classes)
    draws = [made.resampled(chosen) for chosen in _chosen(made.items)]
    return _interval(found, draws, made.items, how, "bootstrap", classes)


def resampled(
    name: str, function: Callable[..., float], given: tuple[np.ndarray | Inputs, ...], how: str, protocol: str = ""
) -> Quality:
    """A metric of the user's own.

    It is called once for the items, and for its interval on 200 sets of resampled ones, as long as that takes no
    longer than `PATIENCE_S`, and what it is given is small. Otherwise it is called once for each of 20 groups of items, and
    the groups are resampled.

    Args:
        name: of the metric.
        function: of what is given.
        given: arrays with items first, the labels before others, or dicts of such.
        how: the protocol in words.
        protocol: `bootstrap` or `groups`; by default what its time allows.

    Raises:
        CandidateFailed: if the metric is no finite number or its function raises.
    """
    started = time.monotonic()
    found = _value(function, given, f"{name}'s function")
    if not math.isfinite(found):
        raise CandidateFailed("accuracy", f"{name} is {found}")
    slow = (time.monotonic() - started) * RESAMPLES > PATIENCE_S
    large = sum(array.nbytes for one in given for array in _arrays(one)) > IN_MEMORY
    protocol = protocol or ("groups" if slow or large else "bootstrap")
    n = len(given[0])
    draws = _by_groups(function, given, found) if protocol == "groups" else _by_items(function, given)
    return _interval(found, draws, n, how, protocol)


def _interval(
    found: float,
    draws: Sequence[float | None],
    n: int,
    how: str,
    protocol: str,
    classes: tuple[tuple[int, int], ...] = (),
) -> Quality:
    """A metric with its interval from resamples."""
    drawn = [x for x in draws if x is not None]
    flags = () if len(drawn) >= RESAMPLES // 2 else ("interval from few resamples",)
    if drawn and min(drawn) == max(drawn):
        flags = (*flags, "interval unknown: all resamples give the same")
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (found, found)
    what = f"bootstrap of {len(drawn)} resamples" + (f" of {GROUPS} groups of items" if protocol == "groups" else "")
    measured = Measurement(
        value=found, low=min(float(low), found), high=max(float(high), found), n=n, how=f"{how}; {what}", flags=flags
    )
    return Quality(measurement=measured, resamples=tuple(draws), classes=classes, protocol=protocol)


def _chosen(n: int) -> Iterator[np.ndarray]:
    """The items of each resample; they follow from the number of items alone."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, n, n) for _ in range(RESAMPLES))


def _by_items(function: Callable[..., float], given: tuple[np.ndarray | Inputs, ...]) -> list[float | None]:
    """The metric on resampled items."""
    return [_tried(function, [_some(one, items) for one in given]) for items in _chosen(len(given[0]))]


def _by_groups(
    function: Callable[..., float], given: tuple[np.ndarray | Inputs, ...], found: float
) -> list[float | None]:
    """The metric on resampled groups of items: its value for all, moved by what the groups' mean moves.

    That is the bootstrap of a mean over groups, which all metrics that are near to one follow (batch means,
    Schmeiser 1982). It costs about one more call on all items.
    """
    order = np.random.default_rng(0).permutation(len(given[0]))
    groups = [part for part in np.array_split(order, GROUPS) if len(part)]
    values = [_tried(function, [_some(one, np.sort(part)) for one in given]) for part in groups]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or len(known) < GROUPS:
        return [None] * RESAMPLES
    each = np.array(known)
    return [rounded(found + float(each[chosen].mean() - each.mean())) for chosen in _chosen(len(each))]


def _value(function: Callable[..., float], given: Sequence[Any], what: str = "the metric") -> float:
    """What a metric of the user's own gives.

    Raises:
        CandidateFailed: if its function raises, whatever that is.
    """
    with retold(
        lambda error: CandidateFailed("accuracy", f"{what} raised {type(error).__name__}: {one_line(error, 300)}"),
        passing=(),  # the function may raise our errors too, and ask for more memory than there is
    ):
        return float(function(*given))


def _tried(function: Callable[..., float], given: Sequence[Any]) -> float | None:
    """A metric of the user's own on other items than it was meant for; None where it is not defined there."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return rounded(_value(function, given))
        except CandidateFailed:  # such as for a draw of one class
            return None


def _arrays(given: np.ndarray | Inputs) -> list[np.ndarray]:
    """An array, or those of a dict."""
    return list(given.values()) if isinstance(given, dict) else [given]


def _some(given: np.ndarray | Inputs, items: np.ndarray) -> np.ndarray | Inputs:
    """The items of an array, or of each array of a dict; those of large ones are mapped from a file, as these are."""
    if isinstance(given, dict):
        return {name: _rows(array, items) for name, array in given.items()}
    return _rows(given, items)


def _rows(array: np.ndarray, items: np.ndarray) -> np.ndarray:
    row = array.nbytes // max(1, len(array))
    if row * len(items) <= CHUNK_BYTES:
        chosen: np.ndarray = array[items]
        return chosen
    step = max(1, CHUNK_BYTES // row)
    return whole(array[items[first : first + step]] for first in range(0, len(items), step))


def agreement(mine: Sequence[int], baseline: Sequence[int]) -> Measurement:
    """Share of items that are given the same class as by the baseline, right or wrong, with Wilson's interval."""
    same = sum(a == b for a, b in zip(mine, baseline, strict=True))
    low, high = wilson(same, len(mine))
    return Measurement(value=same / len(mine), low=low, high=high, n=len(mine), how="items given the same class")
