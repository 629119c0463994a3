"""What becomes of a model with a quarter fewer channels in one place, without training: the channels that are tied go together."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression import channel_importance, kernel_solving
from autoopt.compression.batchnorm_recalibration import recalibrate
from autoopt.compression.channel_graph import Group, Trace, trace
from autoopt.compression.channel_pruning import choose, rebuild
from autoopt.compression.wrapping import kernels
from autoopt.core.probes import Cut, Effect
from autoopt.errors import one_line
from autoopt.models.task import Split

SHARE = 0.25
"""This share of the channels goes in each cut."""
SOLVED = 100
"""Layers that are solved in all cuts together, at most: each takes some tenths of a second."""
UNSOLVED = (
    "it is a large model: after channels were cut only batch normalization was estimated anew, where the stage `channels` "
    "can solve kernels too"
)


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What was found of all channels.

    Attributes:
        cuts: in the order of the model.
        whole: why a layer's channels stay whole, by layer.
        notes: what people should know.
    """

    cuts: tuple[Cut, ...] = ()
    whole: dict[str, str]
    notes: tuple[str, ...] = ()


def cuts(
    model: Any,
    data: Split,
    layers: Collection[str],
    effect: Callable[[Any], Effect],
    progress: Callable[[str], None],
) -> Cuts:
    """Cut each set of tied channels alone, and solve the kernels behind by least squares where the model is not large.

    Args:
        model: a flat tf_keras model; it is left as it was.
        data: inputs that kernels are solved on.
        layers: names of those of which at least one must make the channels.
        effect: tells what has become of a smaller model's outputs.
        progress: is told which layers are at hand.
    """
    try:
        found = trace(model)
        scores = channel_importance.scores(model, found, "l2", None)
        whole, made, sets = dict(found.whole), list[Cut](), tied(found.groups)
        solve = len(sets) * sum(bool(kernels(layer)) for layer in model.layers) <= SOLVED
        for groups in sets:
            names = tuple(dict.fromkeys(name for group in groups for name in group.layers))
            if not set(names) & set(layers):
                continue
            progress(f"probing channels of {', '.join(names)}")
            goes, _ = choose(groups, scores, SHARE, "layer", 1)
            if not goes.any():
                count = max(len(group.channels) for group in groups)
                whole |= dict.fromkeys(names, f"a quarter of {count} channel{'s' if count > 1 else ''} is none")
                continue
            smaller = _mended(model, found, goes, data, solve)
            made.append(Cut(layers=names, effect=effect(smaller), left=_left(model, smaller)))
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:  # as of a stage that can't take a model
        return Cuts(whole={}, notes=(f"no channels were probed: they can't be cut here: {one_line(error, 200)}",))
    notes = () if solve or not made else (UNSOLVED,)
    return Cuts(cuts=tuple(made), whole={**_unknown(model, found), **whole}, notes=notes)


def _mended(model: Any, found: Trace, goes: np.ndarray, data: Split, solve: bool) -> Any:
    """The model without some channels, with what can be made good without training."""
    aims = kernel_solving.look(model, found, goes, data) if solve else None
    smaller = rebuild(model, found, goes)
    if aims is None:
        recalibrate(smaller, data)
    else:
        kernel_solving.solve(smaller, aims)
    return smaller


def tied(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups of channels that have makers in common, in one list each: a layer is cut in one way only."""
    found: list[list[Group]] = []
    for group in groups:
        near = [others for others in found if any(set(group.layers) & set(other.layers) for other in others)]
        found = [others for others in found if others not in near]
        found.append([*(other for others in near for other in others), group])
    return found


def _left(model: Any, smaller: Any) -> dict[str, float]:
    """The share of its weights that each layer keeps, of those that lose any."""

    def weights(layer: Any) -> int:
        return sum(int(kernel.shape.num_elements()) for kernel in kernels(layer))

    pairs = [(old.name, weights(old), weights(new)) for old, new in zip(model.layers, smaller.layers, strict=True)]
    return {name: after / before for name, before, after in pairs if after < before}


def _unknown(model: Any, found: Trace) -> dict[str, str]:
    """Layers with kernels that make no channels of their own, as far as is known."""
    makers = {use.layer for use in found.uses if use.makes}
    uses = {use.layer for use in found.uses}
    return {
        layer.name: "its channels go with those that it takes"
        if layer.name in uses
        else "what its weights have to do with channels is not known for this kind of layer"
        for layer in model.layers
        if kernels(layer) and layer.name not in makers
    }
