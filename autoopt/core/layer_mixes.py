"""The form that each layer of a model should have for a size budget, as far as probes of single layers can tell.

The predicted error of a mix is the sum of its layers' errors, as if they did not hang together: a first guess, from which
training goes on.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autoopt.core.mixing import Mix, best, joined, unbeaten
from autoopt.core.probes import EIGHT_BITS, FEWER_CHANNELS, FORMS, FOUR_BITS, Cut, ProbedLayer, Probes, decibels

FOUR_BIT_KINDS = ("Conv1D", "Conv2D", "Dense")
"""Layers that have kernels for weights of 4 bits; the first layer of a model is never proposed for them."""

EVERY = (*FORMS, FEWER_CHANNELS)
"""All that may be proposed."""
BITS = {EIGHT_BITS: 8, FOUR_BITS: 4}
"""Forms that a space can name for each layer, and the bits that `quantize.bits_by_layer` has for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is proposed for a budget.

    Attributes:
        budget: in bytes.
        compressed: whether it is of the file after gzip.
        forms: by layer its form; empty where nothing fits.
        cuts: layers whose channels go in part, those that are tied to each other in one tuple.
        size: predicted bytes of the file; where nothing fits, those of the smallest mix.
        error: predicted, before any training; see `probes.Effect`.
        reason: why there is none; `` if there is.
    """

    budget: float
    compressed: bool
    forms: Mapping[str, str]
    cuts: tuple[tuple[str, ...], ...]
    size: float
    error: float
    reason: str = ""

    @property
    def db(self) -> float | None:
        """Predicted signal to noise in dB; None without any noise."""
        return decibels(self.error)


def propose(
    probes: Probes, budget: float, file: float, *, compressed: bool, allowed: Collection[str] = EVERY
) -> Proposal:
    """The mix of the least predicted error within a budget.

    Args:
        probes: of the model's layers.
        budget: in bytes.
        file: bytes of the whole model with all weights in 8 bits: what is no weight in it stays as it is.
        compressed: whether both are of files after gzip.
        allowed: names of the forms that layers may have, `EIGHT_BITS` among them.
    """
    whole = [probed for probed in probes.layers if probed.forms]
    rest = max(0.0, file - sum(_bytes(probed, EIGHT_BITS, compressed) for probed in whole))
    mixes = joined(_things(probes, whole, compressed, allowed))
    mix = best(mixes, budget - rest) if whole else None
    if mix is None:
        reason = probes.reason or ("even the smallest mix is larger" if whole else "no layer was probed")
        least = rest + _size(probes, whole, mixes[0], compressed) if whole else float(file)
        return Proposal(budget=budget, compressed=compressed, forms={}, cuts=(), size=least, error=0.0, reason=reason)
    forms, cuts = _parts(probes, mix)
    size = rest + _size(probes, whole, mix, compressed)
    return Proposal(budget=budget, compressed=compressed, forms=forms, cuts=cuts, size=size, error=mix.error)


def _things(probes: Probes, whole: list[ProbedLayer], compressed: bool, allowed: Collection[str]) -> list[list[Mix]]:
    """What is chosen at once: a layer by itself, or those whose channels go together, with their channels and without."""
    forms = {probed.layer: _forms(probed, allowed, first=probed is probes.layers[0]) for probed in whole}
    by_name = {probed.layer: probed for probed in whole}
    least = {
        name: min(_bytes(by_name[name], form, compressed) for form in known) * _own_share(probes, name)
        for name, known in forms.items()
    }

    def one(name: str, share: float = 1.0) -> list[Mix]:
        probed = by_name[name]
        return [
            Mix(
                forms=((name, form),),
                size=share * _bytes(probed, form, compressed),
                error=probed.forms[form].effect.error,
            )
            for form in forms[name]
        ]

    cuts = probes.cuts if FEWER_CHANNELS in allowed else ()
    tied = [cut for cut in cuts if all(name in by_name for name in cut.layers)]
    inside = {name for cut in tied for name in cut.layers}
    return [
        *(one(name) for name in by_name if name not in inside),
        *(
            unbeaten(
                [
                    *joined(one(name) for name in cut.layers),
                    *(
                        _cut(cut, mix, least)
                        for mix in joined(one(name, cut.left.get(name, 1.0)) for name in cut.layers)
                    ),
                ]
            )
            for cut in tied
        ),
    ]


def _cut(cut: Cut, mix: Mix, least: Mapping[str, float]) -> Mix:
    """A mix of layers without some channels. What others save that take them counts as if those were as small as can be."""
    saved = sum(
        (1 - share) * least[name] for name, share in cut.left.items() if name in least and name not in cut.layers
    )
    gone = tuple((name, FEWER_CHANNELS) for name in cut.layers)
    return Mix(forms=mix.forms + gone, size=mix.size - saved, error=mix.error + cut.effect.error)


def _forms(probed: ProbedLayer, allowed: Collection[str], first: bool) -> list[str]:
    """Forms that a layer may be proposed for."""
    four = not first and probed.kind in FOUR_BIT_KINDS
    return [name for name in probed.forms if name in allowed and (four or name != FOUR_BITS)]


def _own_share(probes: Probes, name: str) -> float:
    """The share of its weights that a layer keeps when its own channels are cut."""
    return min((cut.left.get(name, 1.0) for cut in probes.cuts if name in cut.layers), default=1.0)


def _bytes(probed: ProbedLayer, form: str, compressed: bool) -> int:
    found = probed.forms[form]
    return min(found.compressed, found.size) if compressed else found.size


def _parts(probes: Probes, mix: Mix) -> tuple[dict[str, str], tuple[tuple[str, ...], ...]]:
    """Of a mix the forms of its layers, in the order of the model, and what is cut."""
    chosen = {name: form for name, form in mix.forms if form != FEWER_CHANNELS}
    gone = {name for name, form in mix.forms if form == FEWER_CHANNELS}
    forms = {probed.layer: chosen[probed.layer] for probed in probes.layers if probed.layer in chosen}
    return forms, tuple(cut.layers for cut in probes.cuts if set(cut.layers) <= gone)


def _size(probes: Probes, whole: list[ProbedLayer], mix: Mix, compressed: bool) -> float:
    """Bytes of the weights of a mix, no more than the mix itself says: with what takers of fewer channels really save."""
    forms, cuts = _parts(probes, mix)

    gone = [cut for cut in probes.cuts if cut.layers in cuts]

    def share(name: str) -> float:
        own = math.prod(cut.left.get(name, 1.0) for cut in gone if name in cut.layers)
        taken = sum(1 - cut.left.get(name, 1.0) for cut in gone if name not in cut.layers)  # of one axis, the inputs'
        return own * (1 - taken)

    return sum(_bytes(probed, forms[probed.layer], compressed) * share(probed.layer) for probed in whole)
