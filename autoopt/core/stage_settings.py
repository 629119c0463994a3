"""The settings of each part of a recipe: what they mean, which values they take, and their words for people."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoopt.core import layer_bits, meaning
from autoopt.core.fine_tuning import FROZEN as FROZEN
from autoopt.core.fine_tuning import Finetune as Finetune
from autoopt.core.meaning import Milder, percent, setting, yes_or_no
from autoopt.core.setting_values import expect_one_of, expect_truth, rounded
from autoopt.core.validation import expect_number, fail

SCHEDULES = ("constant", "polynomial")
IMPORTANCES = ("l2", "bn_scale", "taylor")
SCOPES = ("layer", "global")
ALLOCATIONS = ("uniform", "global", "sensitivity")
GRANULARITIES = ("channel", "tensor")
RANGES = ("minmax", "percentile", "mse")
INITIALISATIONS = ("linear", "density", "kmeans++", "random")
BITS = ("int4_share", "bits_by_layer")
"""Settings of `Quantize` that hold where activations stay in float, too."""
_M_BY_N = re.compile(r"([1-9]\d*):([1-9]\d*)")
_BLOCK = re.compile(r"([1-9]\d*)x([1-9]\d*)")

COMPRESSING = ("channels", "prune", "cluster", "levels")
"""Parts that take something from the model; a recipe has each or has it not."""
OPTIONAL = ("tune", *COMPRESSING)
"""Parts that a recipe has or has not, in the order of the pipeline."""
MOST_LEVELS = 255
"""What 8 bits hold, with as many levels on both sides of zero."""
MOST_SPARSE = 0.98
"""Where layers may differ, none loses more of its weights than this: one without any passes nothing on."""


def plain(part: Any) -> dict[str, Any]:
    """A part's settings as plain values, without quiet ones at their defaults."""
    return {
        f.name: getattr(part, f.name)
        for f in dataclasses.fields(part)
        if not (meaning.of(f).quiet and getattr(part, f.name) == f.default)
    }


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


def applies(part: str, name: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a setting means anything beside others of its part.

    Args:
        part: one of `PARTS`.
        name: of the setting.
        chosen: the others by name; those that are not there are at their defaults.
    """
    fields = FIELDS[part]
    return meaning.of(fields[name]).applies(lambda other: chosen.get(other, fields[other].default))


def told(part: Any) -> dict[str, str]:
    """What the settings of a part are called and have for values, in words; without what does not apply or is as usual."""
    found = {}
    for field in dataclasses.fields(part):
        means, value = meaning.of(field), getattr(part, field.name)
        about = means.follows or means.applies(lambda name: getattr(part, name))
        if about and not (means.rare and value == field.default):
            found[means.label] = means.words(value)
    return found


def _of_training(share: float) -> str:
    return f"{percent(share)} of the training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Structured pruning: whole filters and units are removed, and the model is a smaller one from then on.

    Attributes:
        ratio: share of the channels to remove, in (0, 1).
        importance: which channels go first: those with the smallest weights (`l2`, Li et al. 2017), the smallest
            batch-normalization scale (`bn_scale`, Liu et al. 2017), or the least first-order effect on the loss
            (`taylor`, Molchanov et al. 2019).
        scope: the share holds in each `layer`, or of all channels together (`global`).
        multiple: channel counts are rounded to a multiple of this, which kernels like.
        solve: before any training, each kernel that lost inputs is solved by least squares, so that it gives out what
            it gave in the whole model (He et al. 2017); a few seconds, and no labels.
    """

    ratio: float = setting(label="channels removed", words=percent, milder=Milder.LESS)
    importance: str = setting("l2", label="channel importance", milder=Milder.SAME)
    scope: str = setting("layer", label="channel scope", milder=Milder.SAME)
    multiple: int = setting(8, label="channel multiple", milder=Milder.SAME)
    solve: bool = setting(False, label="kernels solved", words=yes_or_no, milder=Milder.SAME, rare=True, quiet=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", rounded("channels.ratio", self.ratio))
        if not 0 < self.ratio < 1:
            fail("channels.ratio", "a number in (0, 1)", self.ratio)
        expect_one_of("channels.importance", self.importance, IMPORTANCES)
        expect_one_of("channels.scope", self.scope, SCOPES)
        expect_number("channels.multiple", self.multiple, minimum=1, whole=True)
        expect_truth("channels.solve", self.solve)

    def label(self) -> str:
        """Words for people, such as `50 % fewer channels`."""
        return f"{self.ratio * 100:g} % fewer channels"


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
        structure: `unstructured`, `M:N` (at most M nonzero of every N, such as `2:4`) or `RxC` (blocks, such as `1x4`).
        allocation: how zeros are shared out among layers: each has the same share (`uniform`), one threshold of
            magnitude holds for all (`global`), or layers whose zeros cost less have more (`sensitivity`). Patterns
            have the same everywhere, and any value given is replaced.
    """

    sparsity: float = setting(
        label="prune sparsity",
        words=percent,
        milder=Milder.LESS,
        applies=lambda get: parse_structure(get("structure"))[0] != "m_by_n",
        follows=True,
    )
    schedule: str = setting("polynomial", label="prune schedule")
    begin: float = setting(0.0, label="prune begin", words=_of_training)
    end: float = setting(
        0.5, label="prune end", words=_of_training, applies=lambda get: bool(get("schedule") == "polynomial")
    )  # a constant schedule has its sparsity from the beginning on
    frequency: int = setting(
        10, label="prune frequency", words=lambda n: "every step" if n == 1 else f"every {n} steps"
    )
    structure: str = setting("unstructured", label="prune structure", milder=Milder.SAME)
    allocation: str = setting(
        "uniform",
        label="prune allocation",
        milder=Milder.SAME,
        applies=lambda get: parse_structure(get("structure"))[0] == "unstructured",
        rare=True,
        quiet=True,
    )

    def __post_init__(self) -> None:
        try:
            kind, m, n = parse_structure(self.structure)
        except ValueError:
            fail("prune.structure", "'unstructured', 'M:N' such as '2:4', or 'RxC' such as '1x4'", self.structure)
        if kind == "m_by_n":
            object.__setattr__(self, "sparsity", 1 - m / n)
        if self.schedule == "constant":
            object.__setattr__(self, "end", 1.0)
        for name in ("sparsity", "begin", "end"):
            object.__setattr__(self, name, rounded(f"prune.{name}", getattr(self, name)))
        if not 0 <= self.sparsity < 1:
            fail("prune.sparsity", "a number in [0, 1)", self.sparsity)
        expect_one_of("prune.schedule", self.schedule, SCHEDULES)
        expect_one_of("prune.allocation", self.allocation, ALLOCATIONS)
        if kind != "unstructured":
            object.__setattr__(self, "allocation", "uniform")
        if not 0 <= self.begin < 1:
            fail("prune.begin", "a share of the training in [0, 1)", self.begin)
        if not self.begin < self.end <= 1:
            fail("prune.end", f"a share of the training over begin ({self.begin:g}) and at most 1", self.end)
        expect_number("prune.frequency", self.frequency, minimum=1, whole=True)

    def label(self) -> str:
        """Words for people, such as `70 % pruned`."""
        how = "" if self.structure == "unstructured" else f" ({self.structure})"
        how = how if self.allocation == "uniform" else f" (by {self.allocation})"
        return f"{self.sparsity * 100:g} % pruned{how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Weight clustering (Han et al. 2016), by tensorflow-model-optimization.

    Attributes:
        number: distinct weights per tensor (per output channel with `per_channel`), 2 or more.
        initialisation: how centroids start: `linear`, `density`, `kmeans++` or `random`.
        per_channel: separate centroids for each output channel of a convolution.
        fold: batch normalization is folded into the kernels before, as the converter would do after: so the file has
            `number` distinct weights in a whole kernel, where its scales are per tensor too (see `Quantize`).
    """

    number: int = setting(label="clusters", milder=Milder.MORE)
    initialisation: str = setting("kmeans++", label="cluster initialisation")
    per_channel: bool = setting(False, label="clusters per channel", words=yes_or_no, milder=Milder.MORE)
    fold: bool = setting(False, label="clusters in folded kernels", words=yes_or_no, rare=True, quiet=True)

    def __post_init__(self) -> None:
        expect_number("cluster.number", self.number, minimum=2, whole=True)
        expect_one_of("cluster.initialisation", self.initialisation, INITIALISATIONS)
        for name in ("per_channel", "fold"):
            expect_truth(f"cluster.{name}", getattr(self, name))

    def label(self) -> str:
        """Words for people, such as `16 clusters`."""
        folded = " in folded kernels" if self.fold else ""
        return f"{self.number} clusters{' per channel' if self.per_channel else ''}{folded}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Weights on a learned uniform grid of few levels (LSQ, Esser et al. 2020), in place of clustering and quantization-aware training.

    Batch normalization is folded into the kernels before. Each kernel has a step that is learned with its weights, which
    are whole multiples of it; the file holds the multiples, and the step as their scale.

    Attributes:
        number: levels of the largest kernel, odd and from 3 to 255: zero and as many to both sides.
        by_size: how much finer smaller kernels are: the levels grow by (largest / size) to this power, in [0, 1]. Half is
            what theory gives where all kernels are equally sensitive; 0 is the same number for all.
        ends: the first and the last layer have at least so many.
        per_channel: a step for each output channel of a kernel; depthwise kernels always have that.
        rate: the learning rate, of Adam. All weights are trained in parts of their kernel's root mean square, so the rate
            of other stages would be another thing here.
        penalty: what the sum of the squares of all weights in such parts costs, beside the loss (L2), in [0, 1). It keeps
            weights that bring nothing from growing; regularizers of the model do not count here.
    """

    number: int = setting(label="levels", milder=Milder.MORE)
    by_size: float = setting(0.0, label="finer small kernels", words="{:g}".format, milder=Milder.MORE, rare=True)
    ends: int = setting(63, label="levels at the ends", milder=Milder.MORE, rare=True)
    per_channel: bool = setting(False, label="levels per channel", words=yes_or_no, milder=Milder.MORE)
    rate: float = setting(2e-3, label="levels' learning rate", words="{:g}".format, rare=True)
    penalty: float = setting(1e-4, label="levels' penalty", words="{:g}".format, rare=True)

    def __post_init__(self) -> None:
        for name in ("number", "ends"):
            value = getattr(self, name)
            expect_number(f"levels.{name}", value, minimum=3, maximum=MOST_LEVELS, whole=True)
            if value % 2 == 0:
                fail(f"levels.{name}", "an odd number: zero, and as many levels to both sides", value)
        for name in ("by_size", "rate", "penalty"):
            object.__setattr__(self, name, rounded(f"levels.{name}", getattr(self, name)))
        if not 0 <= self.by_size <= 1:
            fail("levels.by_size", "a power in [0, 1]", self.by_size)
        if not 0 < self.rate < 1:
            fail("levels.rate", "a number over 0 and under 1", self.rate)
        if not 0 <= self.penalty < 1:
            fail("levels.penalty", "a number in [0, 1)", self.penalty)
        expect_truth("levels.per_channel", self.per_channel)

    def label(self) -> str:
        """Words for people, such as `7 levels`."""
        return f"{self.number} levels{' per channel' if self.per_channel else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """How a post-training integer scheme is made (see `BY_RANGES`); `dynamic` knows those of `BITS` alone.

    Attributes:
        keep: so many layers, those whose quantization costs most, stay in float.
        keep_ends: the first and the last layer stay in float.
        granularity: weights have a scale for each output `channel`, or one for the whole `tensor`: coarser, but
            equal weights stay equal, so that clusters survive. Kernels on learned levels have their own steps in any case.
        ranges: of activations: the extremes of the calibration set (`minmax`), without the outermost of its values
            (`percentile`), or with the least squared error (`mse`).
        equalize: weights are rescaled between layers before (cross-layer equalization, Nagel et al. 2019). That would
            break clusters and learned levels, so with them any value given is replaced.
        correct_bias: biases make up for the mean error of quantized weights (Nagel et al. 2019).
        int4_dense: weights of fully connected layers have 4 bits.
        int4_share: this share of the weights of convolutions and fully connected layers has 4 bits, with a scale each
            channel: whole layers, those first in which that costs least for each weight. Convolutions that read the
            model's input never do, for their few weights would cost most, and depthwise ones have no such kernels.
        bits_by_layer: 4 or 8 bits for the weights of layers that are named, whatever else is said of them, such as
            `{conv2d_3: 4}`.
    """

    keep: int = setting(0, label="layers in float", rare=True)
    keep_ends: bool = setting(False, label="ends in float", words=yes_or_no, rare=True)
    granularity: str = setting("channel", label="weight scales", words="per {}".format, rare=True)
    ranges: str = setting("minmax", label="ranges", rare=True)
    equalize: bool = setting(False, label="equalized", words=yes_or_no, rare=True)
    correct_bias: bool = setting(False, label="bias corrected", words=yes_or_no, rare=True)
    int4_dense: bool = setting(False, label="int4 dense", words=yes_or_no, rare=True)
    int4_share: float = setting(0.0, label="int4 share", words=percent, milder=Milder.LESS, rare=True, quiet=True)
    bits_by_layer: str = setting(
        "", label="bits by layer", words=layer_bits.words, written=layer_bits.written, rare=True, quiet=True
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "int4_share", rounded("quantize.int4_share", self.int4_share))
        if not 0 <= self.int4_share <= 1:
            fail("quantize.int4_share", "a share of the weights in [0, 1]", self.int4_share)
        object.__setattr__(self, "bits_by_layer", layer_bits.written(self.bits_by_layer))
        if not isinstance(self.bits_by_layer, str):
            fail(layer_bits.WHERE, layer_bits.EXPECTED, self.bits_by_layer)
        expect_number("quantize.keep", self.keep, minimum=0, whole=True)
        expect_one_of("quantize.granularity", self.granularity, GRANULARITIES)
        expect_one_of("quantize.ranges", self.ranges, RANGES)
        for name in ("keep_ends", "equalize", "correct_bias", "int4_dense"):
            expect_truth(f"quantize.{name}", getattr(self, name))

    @property
    def int4(self) -> bool:
        """Whether any weights have 4 bits."""
        return self.int4_dense or self.int4_share > 0 or 4 in self.layers.values()

    @property
    def layers(self) -> dict[str, int]:
        """Bits by the name of a layer, of those that are named."""
        return layer_bits.parse(self.bits_by_layer)

    def bits_alone(self) -> "Quantize":
        """What it says of bits, and the usual way of all else."""
        return Quantize(**{name: getattr(self, name) for name in BITS})

    def label(self) -> str:
        """Words for people, such as `2 layers in float, scale per tensor`."""
        words = {
            f"{self.keep} layer{'s' if self.keep > 1 else ''} in float": self.keep,
            "ends in float": self.keep_ends,
            "one scale per tensor": self.granularity == "tensor",
            f"{self.ranges} ranges": self.ranges != "minmax",
            "equalized": self.equalize,
            "bias corrected": self.correct_bias,
            "int4 dense": self.int4_dense,
            f"int4 for {percent(self.int4_share)} of the weights": self.int4_share,
            layer_bits.words(self.bits_by_layer): self.bits_by_layer,
        }
        return ", ".join(word for word, applies in words.items() if applies)


Part = Channels | Prune | Cluster | Levels | Quantize | Finetune
PARTS: dict[str, type[Part]] = {
    "tune": Finetune,
    "channels": Channels,
    "prune": Prune,
    "cluster": Cluster,
    "levels": Levels,
    "quantize": Quantize,
    "finetune": Finetune,
}
"""A recipe's parts with settings of their own, in the order of the pipeline."""
FIELDS = {part: {field.name: field for field in dataclasses.fields(kind)} for part, kind in PARTS.items()}
"""By part its settings' fields, by name; see `meaning.of`."""
