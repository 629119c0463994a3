"""A recipe: the immutable description of one candidate, with canonical JSON, a digest and a label."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from autoopt.core import json_text
from autoopt.core.reprs import short
from autoopt.core.schemes import AFTER_TRAINING, BY_BITS, BY_RANGES, SCHEMES
from autoopt.core.stage_settings import COMPRESSING, PARTS, Channels, Cluster, Finetune, Levels, Prune, Quantize, plain
from autoopt.core.validation import expect_keys, expect_number, fail
from autoopt.errors import ConfigError

MAX_SEED = 2**32 - 1
"""The largest seed that every library takes."""


QUIET = ("tune", "channels", "levels", "quantize")
"""Parts that canonical JSON leaves out where a recipe has none, so that older recipes keep their digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One candidate, described. Two recipes that mean the same are equal and share a digest.

    Attributes:
        tune: how the model is trained further before anything is taken from it, or None for not at all. What it has become
            is then also the teacher of a distillation, where the task gives none.
        channels: structured pruning settings, or None for none.
        prune: pruning settings, or None for none.
        cluster: clustering settings, or None for none.
        levels: settings of learned levels, or None for none; they stand in place of clusters and quantization-aware training.
        scheme: how weights and activations are stored: a key of `SCHEMES`, such as `float32`, `dynamic` or `int8`.
        quantize: how the scheme is made, or None for the usual way.
        finetune: training settings of the stages behind `tune`; None exactly when there are none.
        seed: of every random choice while the candidate is made.
    """

    tune: Finetune | None = None
    channels: Channels | None = None
    prune: Prune | None = None
    cluster: Cluster | None = None
    levels: Levels | None = None
    scheme: str = "float32"
    quantize: Quantize | None = None
    finetune: Finetune | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        expect_number("seed", self.seed, minimum=0, maximum=MAX_SEED, whole=True)
        if not isinstance(self.scheme, str) or self.scheme not in SCHEMES:
            fail("scheme", f"one of {', '.join(SCHEMES)}", self.scheme)
        if self.levels is not None:
            self._expect_levels_alone()
        if self.quantize is not None and (self.cluster or self.levels):
            object.__setattr__(self, "quantize", dataclasses.replace(self.quantize, equalize=False))
        if self.quantize is not None and self.scheme in BY_BITS and self.scheme not in BY_RANGES:
            object.__setattr__(self, "quantize", self.quantize.bits_alone())
        if self.scheme not in BY_BITS or self.quantize == Quantize():
            object.__setattr__(self, "quantize", None)
        if self.tune is not None:  # it has no teacher: what it gives becomes one
            object.__setattr__(self, "tune", dataclasses.replace(self.tune, distillation=0.0))
        if not (self.compresses or SCHEMES[self.scheme].qat):
            object.__setattr__(self, "finetune", None)
        elif self.finetune is None:
            object.__setattr__(self, "finetune", Finetune())
        if self.finetune is not None and self.levels is not None and not (self.channels or self.prune):
            object.__setattr__(self, "finetune", self._tuning_of_levels(self.finetune, self.levels))

    def _expect_levels_alone(self) -> None:
        if self.cluster is not None:
            fail("levels", "either levels or cluster", f"levels and {self.cluster.label()}")
        if SCHEMES[self.scheme].qat:
            fail("levels", f"a scheme that is made after training, such as {AFTER_TRAINING[self.scheme]}", self.scheme)

    @staticmethod
    def _tuning_of_levels(tuning: Finetune, levels: Levels) -> Finetune:
        """How the stage of learned levels trains: like the others, but in parts of each kernel's root mean square."""
        return dataclasses.replace(tuning, learning_rate=levels.rate, optimizer="adam")

    def __repr__(self) -> str:
        return f"<Recipe {short(self.label())}, seed {self.seed}, {self.digest}>"

    @property
    def trains(self) -> bool:
        """Whether any stage fine-tunes."""
        return self.tune is not None or self.compresses or SCHEMES[self.scheme].qat

    @property
    def compresses(self) -> bool:
        """Whether it changes the model, beside how its weights and activations are stored."""
        return any(getattr(self, part) is not None for part in COMPRESSING)

    def stages(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """The training stages in pipeline order, each with its settings as plain values."""
        tuning = {} if self.finetune is None else {"finetune": plain(self.finetune), "seed": self.seed}
        chain: list[tuple[str, dict[str, Any]]] = []
        if self.tune is not None:
            chain.append(("tune", {"finetune": plain(self.tune), "seed": self.seed}))
        if self.channels is not None:
            chain.append(("channels", plain(self.channels) | tuning))
        if self.prune is not None:
            chain.append(("prune", plain(self.prune) | tuning))
        sparse = {"preserve_sparsity": self.prune is not None}
        if self.cluster is not None:
            chain.append(("cluster", plain(self.cluster) | sparse | tuning))
        if self.levels is not None and self.finetune is not None:
            own = {"finetune": plain(self._tuning_of_levels(self.finetune, self.levels))}
            settings = {name: value for name, value in plain(self.levels).items() if name != "rate"}
            chain.append(("levels", settings | sparse | tuning | own))
        if SCHEMES[self.scheme].qat:
            chain.append(("qat", {"preserve_clusters": self.cluster is not None} | sparse | tuning))
        return tuple(chain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` is its inverse."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: plain(value) if name in PARTS and value is not None else value
            for name, value in values.items()
            if not (name in QUIET and value is None)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from plain values.

        Raises:
            ConfigError: for unknown keys and values out of range, naming the path.
        """
        expect_keys("recipe", values, [field.name for field in dataclasses.fields(cls)])
        built = dict(values)
        for name, part in PARTS.items():
            settings = built.get(name)
            if settings is None:
                continue
            expect_keys(name, settings, [field.name for field in dataclasses.fields(part)])
            try:
                built[name] = part(**settings)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{name}: {error}") from error
        return cls(**built)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, so that equal recipes give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: if it is no JSON.
            ConfigError: as of `from_dict`.
        """
        return cls.from_dict(json_text.parse(text))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def label(self) -> str:
        """Words for people, such as `70 % pruned, 16 clusters, int8`."""
        how_long = "" if self.tune is None or self.finetune is not None else f" for {self.tune.label()}"
        parts = [] if self.tune is None else [f"tuned{how_long}"]
        parts += [part.label() for part in (self.channels, self.prune, self.cluster, self.levels) if part]
        parts.append(SCHEMES[self.scheme].label)
        if self.quantize is not None:
            parts.append(self.quantize.label())
        if self.finetune is not None:
            parts.append(self.finetune.label())
        return ", ".join(parts)
