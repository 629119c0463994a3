"""What a model's layers weigh and cost, and how much of that quantization-aware training takes in."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression import quantization_aware
from autoopt.compression.wrapping import kernels

ENOUGH = 0.5
"""Share of weights and of multiply-adds under which quantization-aware training is not worth its time."""


DEAD = 1e-6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one layer.

    Attributes:
        layer: its name.
        kind: its class.
        weights: numbers in its kernels.
        multiply_adds: for one item.
        dead: weights so small (see `DEAD`) that they are zeros in all but name.
    """

    layer: str
    kind: str
    weights: int
    multiply_adds: int
    dead: int


def costs(model: Any) -> list[Cost]:
    """What each layer with kernels costs, in the model's order."""
    return [
        Cost(
            layer=layer.name,
            kind=type(layer).__name__,
            weights=sum(math.prod(kernel.shape) for kernel in kernels(layer)),
            multiply_adds=sum(_multiply_adds(layer, node) for node in layer.inbound_nodes),
            dead=sum(int((np.abs(kernel.numpy()) < DEAD).sum()) for kernel in kernels(layer)),
        )
        for layer in model.layers
        if kernels(layer)
    ]


def _multiply_adds(layer: Any, node: Any) -> int:
    """Of one call: each weight is used once for each place of the output (of the input, where that is spread out)."""
    import tensorflow as tf

    kind = type(layer).__name__
    if kind in ("Embedding", "PReLU"):
        return 0
    tensors = node.input_tensors if "Transpose" in kind else node.outputs
    shape = tuple(tf.nest.flatten(tensors)[0].shape)[1:]
    if kind in ("LSTM", "GRU", "SimpleRNN", "Bidirectional"):
        shape = tuple(tf.nest.flatten(node.input_tensors)[0].shape)[1:]  # each weight once a step
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    places = shape[1:] if first else shape[:-1]
    each: int = math.prod(places) * sum(math.prod(kernel.shape) for kernel in kernels(layer))
    return each


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a model a technique takes in.

    Attributes:
        weights: share of the numbers in kernels.
        multiply_adds: share of the computing.
        left: kinds of the layers that are left out, the heaviest first.
    """

    weights: float
    multiply_adds: float
    left: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether it is worth its time."""
        return min(self.weights, self.multiply_adds) >= ENOUGH


def of_qat(model: Any) -> Coverage:
    """How much of a flat tf_keras model is trained with quantization in the loop."""
    known = {layer.name for layer in model.layers if quantization_aware.choice(layer)[0] in ("whole", "kernel")}
    return share(costs(model), known)


def share(found: list[Cost], known: set[str]) -> Coverage:
    """Coverage of a technique that takes in the layers of these names."""
    left = sorted((cost for cost in found if cost.layer not in known), key=lambda cost: -cost.weights)
    weights, adds = (sum(getattr(c, name) for c in found) for name in ("weights", "multiply_adds"))
    inside = [cost for cost in found if cost.layer in known]
    return Coverage(
        weights=sum(c.weights for c in inside) / weights if weights else 0.0,
        multiply_adds=sum(c.multiply_adds for c in inside) / adds if adds else 1.0,
        left=tuple(dict.fromkeys(cost.kind for cost in left)),
    )
