"""What came of a check: techniques, schemes and recipes that were tried, and what to expect of a night."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoopt.core.probes import Probes


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One technique or scheme.

    Attributes:
        name: a stage or a scheme.
        reason: why it failed; empty if it works.
        touched: layers that it changes.
        skipped: why it leaves others alone, by layer.
        notes: what it said.
        step_s: seconds that a step of training takes.
        seconds: that all of it took, in its process.
        peak_bytes: resident memory of its process, at most.
        size_bytes: of the file, for schemes.
    """

    name: str
    reason: str = ""
    touched: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    step_s: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of a check.

    Attributes:
        layers: with kernels: `layer`, `kind`, `weights`, `multiply_adds`, `dead`.
        quality: the baseline's on validation, in words.
        stages: training stages of the space.
        schemes: of the space.
        recipes: of which each holds many values of the space's lists, so that all values were tried.
        trial_s: seconds that a trial takes on average, alone; None if nothing of the space works.
        hours: that the study may take.
        trials: that fit into them, one after the other, and with all slots busy; no more than the space has.
        asked: trials that the study asks for, no more than the space has.
        epoch_s: seconds that an epoch of the slowest technique takes, on what the search trains on; 0 if none trains.
        part: where few trials fit and most of the time is training: of how many training items (`search.items`) the search
            could do with, and how many trials would fit then; None otherwise.
        warnings: what a person should know before the night.
        seconds: that the check took.
        metric: the task's: `name`, `direction` and `unit`.
        probes: what each technique does to one layer alone, see `Probes.to_dict`.
        proposals: a mix of techniques by layer for each size that was asked for, see `size_proposals.proposals`.
    """

    layers: list[dict[str, Any]]
    quality: str
    stages: list[Tried]
    schemes: list[Tried]
    trial_s: float | None
    hours: float
    trials: tuple[int, int]
    asked: int
    warnings: list[str]
    seconds: float
    recipes: list[Tried] = field(default_factory=list)
    epoch_s: float = 0.0
    part: tuple[int, int] | None = None
    metric: dict[str, str] = field(default_factory=lambda: {"name": "quality", "direction": "max", "unit": ""})
    probes: dict[str, Any] = field(default_factory=lambda: Probes(reason="it was not probed").to_dict())
    proposals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether the study can be run with all that its space holds."""
        return not any(tried.reason for tried in (*self.stages, *self.schemes, *self.recipes))
