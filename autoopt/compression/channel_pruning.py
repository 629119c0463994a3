"""Structured pruning: removes whole filters and units, and rebuilds the model without them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.compression import channel_importance, kernel_solving
from autoopt.compression.channel_graph import Group, Size, Trace, Use, rounded, trace
from autoopt.compression.training import Training
from autoopt.compression.wrapping import KEPT, Wrapped, kept, kernels
from autoopt.errors import CandidateFailed

LEAST = 0.1
"""The share of its channels that a group keeps, whatever the others' are worth."""
TOLERANCE = 1e-5
"""By which outputs of the smaller model may differ from those of the whole one with its weights at zero, as a share of the largest."""
LOOKS = 8
"""Items on which that is checked."""


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Remove channels; what is trained then is the smaller model.

    Args:
        model: tf_keras model; its weights are changed.
        settings: fields of `Channels`.
        training: for the importance `taylor`, and to solve kernels on; None with other importances, if it is not to be
            trained, and then no kernel is solved.

    Raises:
        CandidateFailed: if the smaller model does not compute the same as the masked one.
    """
    alone = kept(model, settings)
    found = trace(model, alone, KEPT)
    scores = channel_importance.scores(model, found, settings["importance"], training)
    goes, notes = choose(found.groups, scores, settings["ratio"], settings["scope"], settings["multiple"])
    smaller = rebuild(model, found, goes)
    aims = None
    if settings.get("solve") and training is not None:
        aims = kernel_solving.look(model, found, goes, training.train)
    _compare(model, smaller, found, goes, training)
    if aims is not None:
        notes += kernel_solving.solve(smaller, aims)
    touched = [
        layer.name
        for layer, before in zip(smaller.layers, model.layers, strict=True)
        if [w.shape for w in kernels(layer)] != [w.shape for w in kernels(before)]
    ]
    skipped = [
        {
            "layer": layer.name,
            "kind": type(layer).__name__,
            "why": KEPT if layer.name in alone else _why(layer.name, found, settings["multiple"]),
        }
        for layer in model.layers
        if kernels(layer) and layer.name not in touched
    ]
    return Wrapped(model=smaller, unwrap=lambda trained: trained, touched=touched, skipped=skipped, notes=notes)


def _why(layer: str, found: Trace, multiple: int) -> str:
    """Why a layer's kernel keeps its shape."""
    if layer in found.whole:
        return f"its channels stay whole: {found.whole[layer]}"
    if any(layer in group.layers and len(group.channels) <= multiple for group in found.groups):
        return f"it has no more than {multiple} channels"
    uses = [use for use in found.uses if use.layer == layer]
    if not uses:
        return "what its weights have to do with channels is not known for this kind of layer"
    if not any(use.makes for use in uses):
        return "none of the channels that it takes is to go, rounded"
    return "none of its channels is to go, rounded"


def choose(
    groups: Sequence[Group], scores: np.ndarray, ratio: float, scope: str, multiple: int
) -> tuple[np.ndarray, list[str]]:
    """The channels that go.

    Args:
        groups: of channels that may go.
        scores: what each channel is worth, by its number.
        ratio: share to remove.
        scope: see `Channels`.
        multiple: see `Channels`.

    Returns:
        by number whether the channel goes, and notes for people.
    """
    goes, notes = np.zeros(len(scores), dtype=bool), []
    worth = np.concatenate([scores[group.channels] for group in groups]) if groups else np.zeros(0)
    last = min(round(ratio * len(worth)), len(worth) - 1)
    threshold = np.sort(worth)[last] if scope == "global" and len(worth) else 0.0
    for group in groups:
        count = len(group.channels)
        wanted = (1 - ratio) * count if scope == "layer" else float((scores[group.channels] >= threshold).sum())
        least = min(count, max(multiple, LEAST * count))
        if wanted < least:
            notes.append(
                f"{', '.join(group.layers)}: {least:.0f} of {count} channels stay, though {wanted:.0f} were to be left"
            )
        stay = rounded(max(wanted, least), count, multiple)
        worst_first = group.channels[np.argsort(scores[group.channels], kind="stable")]
        goes[worst_first[: count - stay]] = True
    return goes, notes


def rebuild(model: Any, found: Trace, goes: np.ndarray) -> Any:
    """The model without some channels, with the weights of the others.

    Args:
        model: tf_keras model.
        found: its trace.
        goes: by number whether a channel goes.
    """
    import tf_keras

    sizes: Mapping[str, Size] = {size.layer: size for size in found.sizes}

    def smaller(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in sizes:
            size = sizes[layer.name]
            left = int((~goes[size.channels]).sum())
            config[size.setting] = left if size.shape is None else (*size.shape[:-1], left)
        return type(layer).from_config(config)

    made = tf_keras.models.clone_model(model, clone_function=smaller)
    uses: dict[tuple[str, int], list[Use]] = {}
    for use in found.uses:
        uses.setdefault((use.layer, use.weight), []).append(use)
    for old, new in zip(model.layers, made.layers, strict=True):
        weights = old.get_weights()
        for place, values in enumerate(weights):
            for use in uses.get((old.name, place), ()):
                values = np.compress(~goes[use.channels], values, axis=use.axis)
            weights[place] = values
        new.set_weights(weights)
    return made


def mask(model: Any, found: Trace, goes: np.ndarray) -> None:
    """Set every weight of the channels that go to zero."""
    for use in found.uses:
        weight = model.get_layer(use.layer).weights[use.weight]
        shape = [1] * len(weight.shape)
        shape[use.axis] = -1
        weight.assign(weight.numpy() * (~goes[use.channels]).reshape(shape))


def _compare(model: Any, smaller: Any, found: Trace, goes: np.ndarray, training: Training | None) -> None:
    """Check that the smaller model computes what the whole one does without those channels; masks the latter."""
    import tensorflow as tf

    mask(model, found, goes)
    if training is not None:
        inputs = [array[:LOOKS] for array in training.train.inputs.values()]
    else:
        rng = np.random.default_rng(0)
        inputs = [rng.random((LOOKS, *tensor.shape[1:])).astype(tensor.dtype.as_numpy_dtype) for tensor in model.inputs]
    # Called once and never again, so a graph would take longer to build than it saves.
    given = inputs if len(inputs) > 1 else inputs[0]
    wanted, got = (tf.nest.flatten(each(given, training=False)) for each in (model, smaller))
    for one, other in zip(wanted, got, strict=True):
        far = float(np.abs(one - other).max())
        if not far <= TOLERANCE * max(1.0, float(np.abs(one).max())):
            raise CandidateFailed("channels", f"the smaller model's outputs are off by {far:.3g} from the masked one's")
