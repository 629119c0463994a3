"""A few candidates side by side: what differs in how they were made, and in what was measured."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core import equivalence, meaning
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement, Metric
from autoopt.core.recipe import Recipe
from autoopt.core.reprs import html_table, short
from autoopt.core.results import Results
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import FIELDS, told
from autoopt.errors import ConfigError
from autoopt.reporting import wording

FEWEST, MOST = 2, 4
"""How many can be compared: more columns can't be taken in at once."""
ABSENT = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One knob in which the recipes differ.

    Attributes:
        name: in words.
        values: one text a candidate, `ABSENT` where the recipe has no such knob.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One metric of the candidates.

    Attributes:
        metric: which.
        measurements: one a candidate, None where it was not measured.
    """

    metric: Metric
    measurements: tuple[Measurement | None, ...]

    def change(self, place: int) -> str:
        """The change against the first candidate in words, or `` where there is nothing to compare."""
        mine, first = self.measurements[place], self.measurements[0]
        if place == 0 or mine is None or first is None or self.metric.name in wording.UNCOMPARED:
            return ""
        return self.metric.show_change(mine.value, first.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A candidate's quality minus the first one's, on the same items.

    Attributes:
        value: in the metric's unit.
        low: lower end of the 95 % interval.
        high: upper end.
        margin: by which the two may differ and count as as good, see `equivalence`.
        items: that both were measured on.
    """

    value: float
    low: float
    high: float
    margin: float
    items: int

    @property
    def tied(self) -> bool:
        """Whether the two are as good."""
        return bool(equivalence.as_good(self._found, self.margin))

    @property
    def enough(self) -> int:
        """About how many items would do, where these are too few to tell; else 0."""
        return equivalence.enough(self.items, self._found[None], self.margin)

    @property
    def _found(self) -> np.ndarray:
        return np.array([self.value, self.low, self.high])

    def text(self) -> str:
        """What follows from it, in words."""
        standing = "as good" if self.tied else "not as good"
        return f"{standing}, but too few items to tell: about {self.enough:,} would do" if self.enough else standing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassShares:
    """One class of which the candidates get different shares right.

    Attributes:
        name: of the class.
        items: of the class in the validation split.
        shares: right, one a candidate.
    """

    name: str
    items: int
    shares: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidates side by side; every tuple has one entry a candidate.

    Attributes:
        candidates: what is compared; the first is what the others are told against.
        quality: the task's own metric.
        settings: the knobs in which the recipes differ.
        readings: every metric that any of them has.
        differences: of quality on the validation split, None for the first and where it was not measured.
        tested: likewise on the test split, None unless both are confirmed.
        classes: for accuracy, the classes whose share differs, the worst first.
        confirmed: what was found on the test split in words, or ``.
    """

    candidates: tuple[Candidate, ...]
    quality: Metric
    settings: tuple[Setting, ...]
    readings: tuple[Reading, ...]
    differences: tuple[Difference | None, ...]
    tested: tuple[Difference | None, ...]
    classes: tuple[ClassShares, ...]
    confirmed: tuple[str, ...]

    def __repr__(self) -> str:
        first, *others = (c.name for c in self.candidates)
        what = short(", ".join(setting.name for setting in self.settings) or "nothing", 100)
        return f"<Comparison of {', '.join(others)} with {first}: the recipes differ in {what}>"

    def _repr_html_(self) -> str:
        rows = [[setting.name, *setting.values] for setting in self.settings]
        for reading in self.readings:
            cells = (
                ABSENT if m is None else f"{reading.metric.show(m.value)} {reading.change(place)}".strip()
                for place, m in enumerate(reading.measurements)
            )
            rows.append([reading.metric.label, *cells])
        for name, differences in (("validation", self.differences), ("test", self.tested)):
            if any(d is not None for d in differences):
                told = ("" if d is None else self._told(d) for d in differences)
                rows.append([f"{self.quality.label} on {name}, same items", *told])
        for found in self.classes:
            rows.append([f"class {found.name}, {found.items} items", *(f"{share:.1%} right" for share in found.shares)])
        return html_table(["", *(f"{c.name} {c.recipe.label()}" for c in self.candidates)], rows)

    def _told(self, d: Difference) -> str:
        value, low, high = (self.quality.show_change(x, 0) for x in (d.value, d.low, d.high))
        return f"{value} ({low} to {high}){', tied' if d.tied else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

        def plain(differences: tuple[Difference | None, ...]) -> list[dict[str, Any] | None]:
            return [
                None if d is None else dataclasses.asdict(d) | {"tied": d.tied, "enough_items": d.enough}
                for d in differences
            ]

        return {
            "candidates": [{"number": c.number, "recipe": c.recipe.label()} for c in self.candidates],
            "quality": self.quality.name,
            "settings": {s.name: list(s.values) for s in self.settings},
            "metrics": {
                r.metric.name: [
                    None if m is None else {"value": m.value, "low": m.low, "high": m.high, "change": r.change(place)}
                    for place, m in enumerate(r.measurements)
                ]
                for r in self.readings
            },
            "differences": plain(self.differences),
            "test_differences": plain(self.tested),
            "classes": [dataclasses.asdict(c) | {"shares": list(c.shares)} for c in self.classes],
            "confirmed": list(self.confirmed),
        }


def compare(results: Results, candidates: Iterable[Candidate | int | str]) -> Comparison:
    """Candidates side by side, each against the first.

    Args:
        results: the study's.
        candidates: 2 to 4 of them, or their numbers.

    Returns:
        what differs: settings of the recipes, measurements in the metrics' units, and quality on the same items with a
        95 % interval.

    Raises:
        ConfigError: for fewer or more, one given twice, one that failed, or a number that is not there.
    """
    given = (candidates,) if isinstance(candidates, Candidate | int | str) else tuple(candidates)
    if not FEWEST <= len(given) <= MOST:
        raise ConfigError(f"compare: expected {FEWEST} to {MOST} candidates, got {len(given)}")
    chosen = tuple(c if isinstance(c, Candidate) else results.find(c) for c in given)
    for place, candidate in enumerate(chosen):
        if any(candidate.number == other.number for other in chosen[:place]):
            raise ConfigError(f"compare: {candidate.name} is given twice; expected different candidates")
        if candidate.failed:
            why = f"{candidate.failed_stage}: {candidate.reason}"
            raise ConfigError(f"compare: {candidate.name} failed ({why}); it has nothing to compare")
    first = chosen[0]
    readings = (
        Reading(metric=metric, measurements=tuple(c.measurements.get(name) for c in chosen))
        for name, metric in results.metrics.items()
    )
    return Comparison(
        candidates=chosen,
        quality=results.metrics[results.quality],
        settings=_settings(chosen),
        readings=tuple(r for r in readings if any(m is not None for m in r.measurements)),
        differences=tuple(_difference(results, c, first) for c in chosen),
        tested=tuple(_tested(results, c, first) for c in chosen),
        classes=_classes(results, chosen),
        confirmed=tuple(wording.confirmed(results, c) for c in chosen),
    )


def _difference(results: Results, candidate: Candidate, first: Candidate) -> Difference | None:
    if candidate is first or any(c.value(results.quality) is None for c in (candidate, first)):
        return None
    items = first.measurements[results.quality].n
    return _difference_of(results, results.difference(candidate, first), items)


def _difference_of(results: Results, found: tuple[float, float, float], items: int) -> Difference:
    value, low, high = found
    return Difference(value=value, low=low, high=high, margin=results.margin, items=items)


def _tested(results: Results, candidate: Candidate, first: Candidate) -> Difference | None:
    found = None if candidate is first else results.confirmed_difference(candidate, first)
    again = first.confirmation
    return None if found is None or again is None else _difference_of(results, found, again.quality.n)


def _names() -> list[str]:
    """What `settings` can tell of a recipe, in the order in which it does."""
    parts = {field.name: FIELDS.get(field.name, {}) for field in dataclasses.fields(Recipe)}
    return [
        name
        for part, fields in parts.items()
        for name in ([_named(part, meaning.of(f).label) for f in fields.values()] or [part])
    ]


def _settings(candidates: tuple[Candidate, ...]) -> tuple[Setting, ...]:
    each = [settings(c.recipe) for c in candidates]
    rows = (Setting(name=n, values=tuple(texts.get(n, ABSENT) for texts in each)) for n in _names())
    return tuple(row for row in rows if len(set(row.values)) > 1)


def _classes(results: Results, candidates: tuple[Candidate, ...]) -> tuple[ClassShares, ...]:
    rows = []
    for label, counts in enumerate(zip(*(c.classes for c in candidates), strict=False)):
        if all(n for _, n in counts):
            name = results.class_name(label)
            rows.append(ClassShares(name=name, items=counts[0][1], shares=tuple(right / n for right, n in counts)))
    differing = (row for row in rows if len(set(row.shares)) > 1)
    return tuple(sorted(differing, key=lambda row: min(row.shares) - row.shares[0]))


def settings(recipe: Recipe) -> dict[str, str]:
    """Every knob of a recipe in words, in the order of the pipeline.

    What does not apply is left out, and so are rarer knobs where they are as usual.

    Two recipes differ exactly if these do.
    """
    found: dict[str, str] = {}
    for name, value in ((field.name, getattr(recipe, field.name)) for field in dataclasses.fields(recipe)):
        if name == "scheme":
            found[name] = SCHEMES[value].label
        elif name == "seed":
            found[name] = str(value)
        elif value is not None:
            found |= {_named(name, label): text for label, text in told(value).items()}
    return found


def _named(part: str, label: str) -> str:
    """What a setting of a part is called: there are two trainings."""
    return f"tuned first: {label}" if part == "tune" else label
