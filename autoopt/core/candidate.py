"""A candidate: one recipe and what became of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from autoopt.core.metrics import STANDARD, Measurement, Scores, expect_outcomes
from autoopt.core.recipe import Recipe
from autoopt.core.reprs import short
from autoopt.core.validation import Shape, expect_keys, expect_number, expect_present, expect_shape, fail
from autoopt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What was found when a candidate was measured again, after the search.

    Attributes:
        quality: the task's metric on the test split, which the search never saw.
        outcomes: as of `Candidate`, on the test split.
        resamples: likewise.
        classes: likewise.
        searched: what the search had measured, by metric, where more repeats have replaced it.
    """

    quality: Measurement
    outcomes: str = ""
    resamples: tuple[float | None, ...] = ()
    classes: tuple[tuple[int, int], ...] = ()
    searched: Mapping[str, Measurement] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Confirmation {self.quality}>"

    @property
    def scores(self) -> Scores:
        """What it takes to compare it with another confirmation."""
        return Scores(self.quality, self.outcomes, self.resamples)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        searched = {name: m.to_dict() for name, m in self.searched.items()}
        return plain | {"quality": self.quality.to_dict(), "searched": searched}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: naming the first value that can't be.
        """
        _expect(cls, "confirmation", values, needed=("quality", "searched"))
        searched = {name: _measurement(f"confirmation.{name}", m) for name, m in values["searched"].items()}
        quality = _measurement("confirmation.quality", values["quality"])
        return cls(**{**values, "quality": quality, "searched": searched, **_items("confirmation", values, quality)})


_END = {"name": str, "shape": [int], "dtype": str}
_PROOF = {
    "inputs": [_END],
    "outputs": [_END],
    "ops": {str: int},
    "float_islands": {str: int},
    "activations": {str: int},
    "integer_share": float,
    "weights": [{"name": str, "shape": [int], "dtype": str, "sparsity": float, "distinct_per_channel": int}],
    "parts": [{"part": str, "size_bytes": int, "compressed_bytes": int}],
}
_STAGE = {
    "stage": str,
    "epochs": [{str: float}],
    "best_epoch": int,
    "judged_epoch": int,
    "seconds": float,
    "epoch_seconds": float,
    "touched": [object],
}
_SHAPE = Shape(
    {
        "number": int,
        "origin": str,
        "kind": str,
        "measurements": {str: dict},
        "searched": {str: dict},
        "proof": _PROOF,
        "report": [_STAGE],
        "file": str,
        "sha256": str,
        "outcomes": str,
        "resamples": [(float, None)],
        "classes": [[int]],
        "refused": str,
        "failed_stage": str,
        "reason": str,
        "seconds": float,
        "seconds_saved": float,
        "finished": str,
        "point": ([str], None),
        "score": (float, None),
    }
)
"""Types of what records hold, as far as anything relies on them."""


def _expect(kind: type, where: str, values: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Refuse other keys than a record has, missing ones, and values of other types."""
    expect_keys(where, values, [f.name for f in dataclasses.fields(kind)])
    expect_present(where, values, needed)
    expect_shape(where, values, _SHAPE)
    for name in ("number", "seconds", "seconds_saved"):
        expect_number(f"{where}.{name}", values.get(name, 0), minimum=0)


def _measurement(where: str, values: Any) -> Measurement:
    try:
        return Measurement.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _items(where: str, values: Mapping[str, Any], quality: Measurement | None) -> dict[str, Any]:
    """What was kept of the items that a quality was measured on, with tuples for JSON's lists."""
    classes = values.get("classes", ())
    for pair in classes:
        if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
            fail(f"{where}.classes", "how many items are right, and how many there are", pair)
    expect_outcomes(f"{where}.outcomes", values.get("outcomes", ""), None if quality is None else quality.n)
    return {"resamples": tuple(values.get("resamples", ())), "classes": tuple((right, n) for right, n in classes)}


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A recipe that was not trained, or not to its end, for that could not pay.

    Attributes:
        number: of the trial, unique in the study.
        recipe: that would have made it.
        origin: as of `Candidate`.
        kind: `over budget` or `dominated`.
        reason: a line for people.
        point: how far its training had come: the stage, and `begun` or `done`; None if it had not begun.
        score: the quality there, more is better.
        seconds: spent on finding out.
    """

    number: int
    recipe: Recipe
    origin: str
    kind: str
    reason: str
    point: tuple[str, str] | None = None
    score: float | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"<Skipped {short(f'{self.name} {self.recipe.label()}: {self.reason}')}>"

    @property
    def name(self) -> str:
        """As people refer to it: `#7`."""
        return f"#{self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {"recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: naming the first value that can't be.
        """
        _expect(cls, "skipped", values, needed=("number", "recipe", "origin", "kind", "reason"))
        point = values.get("point")
        if point is not None and len(point) != 2:
            fail("skipped.point", "a stage, and begun or done", point)
        parts = {"recipe": Recipe.from_dict(values["recipe"]), "point": None if point is None else tuple(point)}
        return cls(**{**values, **parts})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One recipe and what became of it.

    Attributes:
        number: of the trial, unique in the study.
        recipe: how it was made.
        origin: `baseline`, `scheme` (a post-training scheme of the baseline), `corner` (an end of the space),
            `sibling` (another scheme of a trained model) or `search`.
        measurements: by metric name; empty if it failed.
        proof: what was found inside the file, see `autoopt.tflite.contents`.
        report: what each training stage touched and skipped.
        file: key of the `.tflite` in the store.
        sha256: of the `.tflite`.
        outcomes: for accuracy, per-item outcomes on the validation split (see `metrics.pack_outcomes`), or ``.
        resamples: for other metrics, the metric on resampled items (see `quality`).
        classes: for accuracy, for each class how many items are right, and how many there are.
        confirmation: what was found when it was measured again, or None.
        refused: why the target can't run it (the float baseline of an integer target), or ``.
        failed_stage: the job in which it failed, or ``.
        reason: why it failed, or ``.
        seconds: spent in its own jobs; what the store already held costs nothing.
        seconds_saved: that the store saved it.
        finished: when the search was done with it, ISO 8601 in UTC, or `` where that was not recorded.
    """

    number: int
    recipe: Recipe
    origin: str = "search"
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)
    report: Sequence[Mapping[str, Any]] = ()
    file: str = ""
    sha256: str = ""
    outcomes: str = ""
    resamples: tuple[float | None, ...] = ()
    classes: tuple[tuple[int, int], ...] = ()
    confirmation: Confirmation | None = None
    refused: str = ""
    failed_stage: str = ""
    reason: str = ""
    seconds: float = 0.0
    seconds_saved: float = 0.0
    finished: str = ""

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name} {STANDARD[name].show(m.value) if name in STANDARD else f'{m.value:.4g}'}"
            for name, m in self.measurements.items()
        )
        what = f"failed in {self.failed_stage}: {self.reason}" if self.failed else values or "not measured"
        return f"<Candidate {short(f'{self.name} {self.recipe.label()}', 90)}: {short(what, 90)}>"

    @property
    def failed(self) -> bool:
        """Whether it went wrong."""
        return bool(self.failed_stage)

    @property
    def name(self) -> str:
        """As people refer to it: `#7`."""
        return f"#{self.number}"

    def value(self, metric: str) -> float | None:
        """A measured value, or None where it was not measured."""
        found = self.measurements.get(metric)
        return None if found is None else found.value

    def scores(self, quality: str) -> Scores:
        """What it takes to compare its quality with another candidate's."""
        return Scores(self.measurements[quality], self.outcomes, self.resamples)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["recipe"] = self.recipe.to_dict()
        plain["measurements"] = {name: m.to_dict() for name, m in self.measurements.items()}
        plain["report"] = list(self.report)
        plain["confirmation"] = None if self.confirmation is None else self.confirmation.to_dict()
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: naming the first value that can't be.
        """
        _expect(cls, "candidate", values, needed=("number", "recipe", "measurements", "report"))
        measurements = {name: _measurement(f"candidate.{name}", m) for name, m in values["measurements"].items()}
        for name, measurement in measurements.items():
            if name in STANDARD and measurement.value < 0:
                fail(f"candidate.{name}", "a value of at least 0", measurement.value)
        again = values.get("confirmation")
        parts: dict[str, Any] = {
            "recipe": Recipe.from_dict(values["recipe"]),
            "measurements": measurements,
            "confirmation": None if again is None else Confirmation.from_dict(again),
            "report": tuple(values["report"]),
        }
        return cls(**{**values, **parts, **_items("candidate", values, None)})
