"""What probes of a model's layers found: what each technique does to one layer alone, measured without training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

EIGHT_BITS, FOUR_BITS, HALF_ZEROS, FEWER_CHANNELS = "8 bits", "4 bits", "50 % zeros", "25 % fewer channels"
"""Names of forms that a layer may have."""
LEVELS = (15, 11, 9, 7)
"""Numbers of levels that a layer's weights may have, from the mildest on."""


def of_levels(number: int) -> str:
    """The name of the form in which a layer's weights have so many levels."""
    return f"{number} levels"


SEVEN_LEVELS = of_levels(7)
FORMS = (EIGHT_BITS, FOUR_BITS, *(of_levels(number) for number in LEVELS), HALF_ZEROS)
"""The forms of a layer's weights."""
TECHNIQUES = (FOUR_BITS, SEVEN_LEVELS, HALF_ZEROS, FEWER_CHANNELS)
"""Those of which people see what they do to each layer."""


def decibels(error: float | None) -> float | None:
    """Signal to noise in dB, of the noise's power as a share of the signal's; None where there is no noise."""
    return None if not error else -10 * math.log10(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a change of one layer does to the model's output.

    Attributes:
        error: power of the output's error as a share of the output's power, each output of several counting alike; its
            power itself where the untouched output is all zeros.
        change: of the task's metric, where that can be had; negative is worse of a metric that is to be large.
    """

    error: float
    change: float | None

    @property
    def db(self) -> float | None:
        """Signal to noise in dB; None where the output stayed the same."""
        return decibels(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The weights of one layer in one form.

    Attributes:
        name: such as `4 bits` or `7 levels`.
        size: bytes of its weights and scales in a file.
        compressed: the same after gzip.
        effect: on the output, with all other layers as they were.
    """

    name: str
    size: int
    compressed: int
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedLayer:
    """One layer with kernels.

    Attributes:
        layer: its name.
        kind: its class.
        weights: numbers in its kernels.
        forms: by name; empty where it was not probed.
    """

    layer: str
    kind: str
    weights: int
    forms: Mapping[str, Form] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Channels that go together: those of layers that are tied to each other.

    Attributes:
        layers: that make the channels.
        effect: of a quarter fewer of them, after what can be made good without training.
        left: by layer, the share of its weights that is left, for each that loses any.
    """

    layers: tuple[str, ...]
    effect: Effect
    left: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What was found of a whole model.

    Attributes:
        items: of the training data, on which outputs were compared.
        quality: the untouched model's metric on them; None where it can't be had.
        layers: in the order of the model.
        cuts: of channels.
        whole: why a layer's channels stay whole, by layer.
        notes: what people should know of how it was measured.
        reason: why nothing was probed; `` if it was.
    """

    items: int = 0
    quality: float | None = None
    layers: tuple[ProbedLayer, ...] = ()
    cuts: tuple[Cut, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""

    def effect(self, layer: str, technique: str) -> Effect | None:
        """What a technique does to a layer alone; None where that is not known, or it can't take the layer.

        Args:
            layer: its name.
            technique: one of `TECHNIQUES`.
        """
        if technique == FEWER_CHANNELS:
            return next((cut.effect for cut in self.cuts if layer in cut.layers), None)
        forms = next((probed.forms for probed in self.layers if probed.layer == layer), {})
        return forms[technique].effect if technique in forms else None

    def most_sensitive(self, technique: str) -> str | None:
        """The layer to which a technique does most harm; None where it changes the output with none."""
        found = [(effect.error, p.layer) for p in self.layers if (effect := self.effect(p.layer, technique))]
        error, layer = max(found, key=lambda pair: pair[0], default=(0.0, None))
        return layer if error else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with decibels beside each error; `from_dict` is its inverse."""
        return {
            "items": self.items,
            "quality": self.quality,
            "layers": [_layer(probed) for probed in self.layers],
            "cuts": [{"layers": [*cut.layers], "left": {**cut.left}, **_effect(cut.effect)} for cut in self.cuts],
            "whole": {**self.whole},
            "notes": [*self.notes],
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build it from plain values, as a job left them."""
        return cls(
            items=values["items"],
            quality=values["quality"],
            layers=tuple(
                ProbedLayer(
                    **{k: row[k] for k in ("layer", "kind", "weights")},
                    forms={
                        name: Form(
                            name=name,
                            effect=_told(form),
                            **{k: form[k] for k in ("size", "compressed")},
                        )
                        for name, form in row["forms"].items()
                    },
                )
                for row in values["layers"]
            ),
            cuts=tuple(Cut(layers=tuple(row["layers"]), left=row["left"], effect=_told(row)) for row in values["cuts"]),
            whole=values["whole"],
            notes=tuple(values["notes"]),
            reason=values["reason"],
        )


def _layer(probed: ProbedLayer) -> dict[str, Any]:
    forms = {
        name: {"size": f.size, "compressed": f.compressed, **_effect(f.effect)} for name, f in probed.forms.items()
    }
    return {"layer": probed.layer, "kind": probed.kind, "weights": probed.weights, "forms": forms}


def _effect(effect: Effect) -> dict[str, float | None]:
    return {"error": effect.error, "db": effect.db, "change": effect.change}


def _told(values: Mapping[str, Any]) -> Effect:
    return Effect(error=values["error"], change=values["change"])
