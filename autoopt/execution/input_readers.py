"""Who reads a model's input, and how: by looking it up in a table, or by leaving steps out by their value."""

import math
from dataclasses import dataclass
from typing import Any

from autoopt.models.graph_replay import functional, nodes
from autoopt.models.keras_internals import mask_of

TABLES = ("Embedding", "CategoryEncoding", "IntegerLookup", "Hashing")
LOOKUPS = ("gather", "gather_nd", "one_hot", "embedding_lookup")
"""Functions of TensorFlow that take indices, behind `tf.` and its modules."""
COMPARES = ("equal", "not_equal", "eq", "ne")
BINS = "Discretization"
"""The layer that makes indices of values, so that what is before it may change a little."""
BY_PLACE = ("Activation", "Softmax", "ReLU", "LeakyReLU", "Rescaling", "Dropout", "BatchNormalization", "TFOpLambda")
"""Layers whose outputs stand where their inputs stood."""


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Layers that take an input for something else than values.

    Attributes:
        looks_up: the name of one that looks an input up; empty for none.
        masks: the name of one that masks steps by their value; empty for none.
        bins: one puts values into bins, so that a model gives the same for values that are near.
    """

    looks_up: str = ""
    masks: str = ""
    bins: bool = False


def found(model: Any) -> Readers:
    """The readers of a model's inputs; none of a model without a graph.

    Args:
        model: of Keras 2, flat.
    """
    import tensorflow as tf

    raw = {id(tensor) for tensor in model.inputs}
    looks_up, masks, bins = "", "", False
    for node in nodes(functional(model)) if functional(model) is not None else ():
        given = node.keras_inputs
        reads = [id(tensor) in raw for tensor in given]
        made = tf.nest.flatten(node.outputs)
        if any(reads) and _looks_up(node, raw):
            looks_up = looks_up or node.layer.name
        compared = any(reads) and _function(node) in COMPARES
        masked = any(mask_of(t) is not None for t in made) and all(mask_of(t) is None for t in given)
        if compared or masked:
            masks = masks or node.layer.name
        if any(reads) and type(node.layer).__name__ == BINS:
            bins = True
        elif any(reads) and not node.layer.weights:
            raw |= {id(tensor) for tensor in made}  # still the input: it was cast, cut, or put elsewhere
    return Readers(looks_up=looks_up, masks=masks, bins=bins)


def _function(node: Any) -> str:
    """The function of TensorFlow that is called, without its module; empty for a layer."""
    return str(getattr(node.layer, "symbol", "")).rpartition(".")[2].strip("_")


def _looks_up(node: Any, raw: set[int]) -> bool:
    """Whether a call takes an input as indices."""
    if type(getattr(node.layer, "layer", node.layer)).__name__ in TABLES:  # perhaps within a wrapper
        return True
    name = _function(node)
    if name not in LOOKUPS:
        return False
    place = 0 if name == "one_hot" else 1
    indices = node.call_args[place] if len(node.call_args) > place else node.call_kwargs.get("indices")
    return id(indices) in raw


def ends_in_places(model: Any) -> bool:
    """Whether a model's only output is a map of several places, laid flat: nothing joins them behind the map."""
    graph = functional(model)
    if graph is None:
        return False
    makers = {id(tensor): node for node in nodes(graph) for tensor in _listed(node.outputs)}
    node = makers.get(id(model.outputs[0]))
    while node is not None:
        given = node.keras_inputs
        if type(node.layer).__name__ in ("Flatten", "Reshape") or _function(node) == "reshape":
            shape = tuple(given[0].shape)
            if len(shape) > 3:
                return math.prod(int(size or 1) for size in shape[1:-1]) > 1
        elif type(node.layer).__name__ not in BY_PLACE or tuple(given[0].shape) != tuple(
            _listed(node.outputs)[0].shape
        ):
            return False
        node = makers.get(id(given[0]))
    return False


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]
