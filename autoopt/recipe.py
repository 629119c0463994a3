"""A recipe: the immutable description of one candidate, with canonical JSON, a digest and a label."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from autoopt.errors import ConfigError
from autoopt.validation import expect_keys, expect_number, fail

SCHEDULES = ("constant", "polynomial")
INITIALISATIONS = ("linear", "density", "kmeans++", "random")
_M_BY_N = re.compile(r"([1-9]\d*):([1-9]\d*)")
_BLOCK = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How weights and activations are stored in the `.tflite`.

    Attributes:
        label: for people.
        integer: weights and activations are integers, so a calibration set is needed.
        integer_io: the file's inputs and outputs are int8 too.
        qat: the model is trained with quantization in the loop first.
    """

    label: str
    integer: bool = False
    integer_io: bool = False
    qat: bool = False


SCHEMES: dict[str, Scheme] = {
    "float32": Scheme(label="float32"),
    "float16": Scheme(label="float16 weights"),
    "dynamic": Scheme(label="dynamic int8"),
    "int8": Scheme(label="int8", integer=True),
    "int8_io": Scheme(label="int8 (int8 in/out)", integer=True, integer_io=True),
    "int16x8": Scheme(label="int16x8", integer=True),
    "qat_int8": Scheme(label="QAT int8", integer=True, qat=True),
    "qat_int8_io": Scheme(label="QAT int8 (int8 in/out)", integer=True, integer_io=True, qat=True),
}


AFTER_TRAINING = {"qat_int8": "int8", "qat_int8_io": "int8_io"}
"""The post-training scheme that stores a model as a quantization-aware one does."""


def parse_structure(text: str) -> tuple[str, int, int]:
    """Split a sparsity pattern's name.

    Args:
        text: `unstructured`, `M:N` (at most M nonzero of every N, such as `2:4`) or `RxC` (blocks).

    Returns:
        `("unstructured", 1, 1)`, `("m_by_n", M, N)` or `("block", R, C)`.

    Raises:
        ValueError: for any other text.
    """
    if text == "unstructured":
        return "unstructured", 1, 1
    if (found := _M_BY_N.fullmatch(text)) and int(found[1]) < int(found[2]):
        return "m_by_n", int(found[1]), int(found[2])
    if found := _BLOCK.fullmatch(text):
        return "block", int(found[1]), int(found[2])
    raise ValueError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Magnitude pruning (Zhu and Gupta 2017), by tensorflow-model-optimization.

    Attributes:
        sparsity: share of weights that become zero, in [0, 1). With an M:N structure it follows
            from the structure and any value given is replaced.
        schedule: `constant` or `polynomial` (from 0 to `sparsity` with exponent 3).
        begin: when pruning starts, as a share of the fine-tuning steps.
        end: when the final sparsity is reached, as a share of the fine-tuning steps; a constant
            schedule has no use for it and any value given is replaced by 1.
        frequency: steps between two updates of the mask.
        structure: see `parse_structure`.
    """

    sparsity: float
    schedule: str = "polynomial"
    begin: float = 0.0
    end: float = 0.5
    frequency: int = 10
    structure: str = "unstructured"

    def __post_init__(self) -> None:
        try:
            kind, m, n = parse_structure(self.structure)
        except ValueError:
            fail("prune.structure", "'unstructured', 'M:N' such as '2:4', or 'RxC' such as '1x4'", self.structure)
        if kind == "m_by_n":
            object.__setattr__(self, "sparsity", 1 - m / n)
        if self.schedule == "constant":
            object.__setattr__(self, "end", 1.0)
        for name in ("sparsity", "begin", "end"):  # + 0.0 turns -0.0 into 0.0: equal, so of one digest
            object.__setattr__(self, name, round(float(getattr(self, name)), 10) + 0.0)
        if not 0 <= self.sparsity < 1:
            fail("prune.sparsity", "a number in [0, 1)", self.sparsity)
        if self.schedule not in SCHEDULES:
            fail("prune.schedule", f"one of {', '.join(SCHEDULES)}", self.schedule)
        if not 0 <= self.begin < 1:
            fail("prune.begin", "a share of the training in [0, 1)", self.begin)
        if not self.begin < self.end <= 1:
            fail("prune.end", f"a share of the training over begin ({self.begin:g}) and at most 1", self.end)
        expect_number("prune.frequency", self.frequency, minimum=1, whole=True)

    def label(self) -> str:
        """Words for people, such as `70 % pruned`."""
        how = "" if self.structure == "unstructured" else f" ({self.structure})"
        return f"{self.sparsity * 100:g} % pruned{how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Weight clustering (Han et al. 2016), by tensorflow-model-optimization.

    Attributes:
        number: distinct weights per tensor (per output channel with `per_channel`), 2 or more.
        initialisation: how centroids start: `linear`, `density`, `kmeans++` or `random`.
        per_channel: separate centroids for each output channel of a convolution.
    """

    number: int
    initialisation: str = "kmeans++"
    per_channel: bool = False

    def __post_init__(self) -> None:
        expect_number("cluster.number", self.number, minimum=2, whole=True)
        if self.initialisation not in INITIALISATIONS:
            fail("cluster.initialisation", f"one of {', '.join(INITIALISATIONS)}", self.initialisation)
        if not isinstance(self.per_channel, bool):
            fail("cluster.per_channel", "true or false", self.per_channel)

    def label(self) -> str:
        """Words for people, such as `16 clusters`."""
        return f"{self.number} clusters{' per channel' if self.per_channel else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune:
    """How each stage trains.

    Attributes:
        epochs: passes over the training data, 1 or more.
        learning_rate: the peak; it decays to zero along a cosine.
        batch_size: items per step.
    """

    epochs: int = 2
    learning_rate: float = 1e-3
    batch_size: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", float(f"{float(self.learning_rate):.6g}"))
        expect_number("finetune.epochs", self.epochs, minimum=1, whole=True)
        if not 0 < self.learning_rate < 100:
            fail("finetune.learning_rate", "a number over 0", self.learning_rate)
        expect_number("finetune.batch_size", self.batch_size, minimum=1, whole=True)

    def label(self) -> str:
        """Words for people, such as `2 epochs at 0.001`."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{epochs} at {self.learning_rate:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One candidate, described. Two recipes that mean the same are equal and share a digest.

    Attributes:
        prune: pruning settings, or None for none.
        cluster: clustering settings, or None for none.
        scheme: a key of `SCHEMES`.
        finetune: training settings; None exactly when no stage trains.
        seed: of every random choice while the candidate is made.
    """

    prune: Prune | None = None
    cluster: Cluster | None = None
    scheme: str = "float32"
    finetune: Finetune | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        expect_number("seed", self.seed, minimum=0, whole=True)
        if not isinstance(self.scheme, str) or self.scheme not in SCHEMES:
            fail("scheme", f"one of {', '.join(SCHEMES)}", self.scheme)
        if not self.trains:
            object.__setattr__(self, "finetune", None)
        elif self.finetune is None:
            object.__setattr__(self, "finetune", Finetune())

    @property
    def trains(self) -> bool:
        """Whether any stage fine-tunes."""
        return self.prune is not None or self.cluster is not None or SCHEMES[self.scheme].qat

    def stages(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """The training stages in pipeline order, each with its settings as plain values."""
        tuning = {} if self.finetune is None else {"finetune": dataclasses.asdict(self.finetune), "seed": self.seed}
        chain: list[tuple[str, dict[str, Any]]] = []
        if self.prune is not None:
            chain.append(("prune", dataclasses.asdict(self.prune) | tuning))
        sparse = {"preserve_sparsity": self.prune is not None}
        if self.cluster is not None:
            chain.append(("cluster", dataclasses.asdict(self.cluster) | sparse | tuning))
        if SCHEMES[self.scheme].qat:
            chain.append(("qat", {"preserve_clusters": self.cluster is not None} | sparse | tuning))
        return tuple(chain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from plain values.

        Raises:
            ConfigError: for unknown keys and values out of range, naming the path.
        """
        parts: dict[str, type[Prune] | type[Cluster] | type[Finetune]]
        parts = {"prune": Prune, "cluster": Cluster, "finetune": Finetune}
        expect_keys("recipe", values, [field.name for field in dataclasses.fields(cls)])
        built = dict(values)
        for name, part in parts.items():
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
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def label(self) -> str:
        """Words for people, such as `70 % pruned, 16 clusters, int8`."""
        parts = [part.label() for part in (self.prune, self.cluster) if part is not None]
        parts.append(SCHEMES[self.scheme].label)
        if self.finetune is not None:
            parts.append(self.finetune.label())
        return ", ".join(parts)
