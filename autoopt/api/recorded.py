"""What a bundle's card records of its file: values with intervals, and what the study found against the baseline."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.core.gate import Evidence
from autoopt.core.metrics import STANDARD, Measurement, Metric
from autoopt.core.validation import Shape, expect_shape, fail
from autoopt.errors import ConfigError

MEASUREMENT = ("value", "low", "high", "n", "how", "flags", "ends")
BY = "measured by the study"
COUNTED = ("size_bytes", "compressed_bytes", "download_bytes")
"""Metrics that are the same everywhere."""
METRIC = ("direction", "unit", "label")
_BASELINE: dict[Any, Any] = {"baseline": float, "baseline_low": float, "baseline_high": float}
_CARD = Shape(
    {
        "quality": str,
        "metrics": {str: {str: object, **_BASELINE, "difference": [float]}},
        "confirmed": ({str: object, **_BASELINE, "change": float, "change_low": float, "change_high": float}, None),
        "budgets": {str: object},
        "meaning": [{str: object, "kind": str, "threshold": float}],
        "own_metric": bool,
        "provenance": {str: object},
    }
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A card, read.

    Attributes:
        quality: the task's own metric.
        metrics: all that budgets may limit, by name.
        values: what was measured, by metric; of the quality for each split, the test split last.
        budgets: of the study, as they were written.
        own_metric: whether the quality is a function of the user's own.
        thresholds: over which an output means yes, where the outputs decide so.
        target: that the study measured on.
    """

    quality: Metric
    metrics: Mapping[str, Metric]
    values: Mapping[str, tuple[Evidence, ...]]
    budgets: tuple[str, ...]
    own_metric: bool
    thresholds: tuple[float, ...]
    target: str

    @property
    def best_known(self) -> Evidence | None:
        """What is known of the quality, on the split that the search has not chosen by if there is such a record."""
        found = self.values.get(self.quality.name, ())
        return found[-1] if found else None


def recorded(card: Mapping[str, Any], where: str) -> Recorded:
    """What a card records.

    Args:
        card: of a bundle.
        where: its file, for messages.

    Raises:
        ConfigError: if it does not hold that.
    """
    expect_shape(where, card, _CARD)
    quality, told = card.get("quality", ""), card.get("metrics", {})
    if quality not in told:
        fail(f"{where}: quality", f"one of its metrics ({', '.join(told)})", quality)
    found = {name: _metric(name, values, f"{where}: metrics.{name}") for name, values in told.items()}
    target = str(card.get("provenance", {}).get("target") or "the study's target")
    values: dict[str, tuple[Evidence, ...]] = {
        name: (_evidence(fields, fields.get("difference"), f"{where}: metrics.{name}", _by(name, quality, target)),)
        for name, fields in told.items()
    }
    if card.get("confirmed") is not None:
        values[quality] += (_tested(card["confirmed"], f"{where}: confirmed"),)
    return Recorded(
        quality=found[quality],
        metrics={**STANDARD, **found},
        values=values,
        budgets=tuple(card.get("budgets", ())),
        own_metric=card.get("own_metric", False),
        thresholds=tuple(one["threshold"] for one in card.get("meaning", ()) if "threshold" in one),
        target=target,
    )


def _by(name: str, quality: str, target: str) -> str:
    """Who measured a metric, and on what."""
    if name == quality:
        return f"{BY} on the validation split"
    return BY if name in COUNTED else f"{BY} on the target {target}"


def _tested(values: Mapping[str, Any], where: str) -> Evidence:
    """What was found on the test split."""
    ends = [values.get(name) for name in ("change", "change_low", "change_high")]
    change = None if None in ends else ends
    found = _evidence(values, change, where, f"{BY} on the test split")
    if found.baseline is None and found.change is not None:  # cards of before held the change alone
        return dataclasses.replace(found, baseline=found.value.value - found.change[0])
    return found


def _metric(name: str, values: Mapping[str, Any], where: str) -> Metric:
    return Metric.from_dict(where, {"name": name, **{key: values[key] for key in METRIC if key in values}})


def _evidence(values: Mapping[str, Any], change: Sequence[Any] | None, where: str, by: str) -> Evidence:
    try:
        value = Measurement.from_dict({key: values[key] for key in MEASUREMENT if key in values})
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if change is not None and len(change) != 3:
        fail(f"{where}: difference", "a difference and the ends of its interval", change)
    items = f" ({value.n:,} items)" if change is not None else ""
    return Evidence(
        value=value,
        baseline=values.get("baseline"),
        change=None if change is None else (change[0], change[1], change[2]),
        where=f"{by}{items}",
    )
