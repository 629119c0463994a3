"""Which layers of a model can have weights of 4 bits, by the names that people know them by."""

from typing import Any

from autoopt.compression.wrapping import kernels
from autoopt.models.opaque import ClosedModel

WITHOUT = ("DepthwiseConv", "DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose", "Conv3D", "Embedding")
"""Classes of Keras' layers, for which no kernels take 4 bits."""


def able(model: Any) -> dict[str, bool] | None:
    """By the name of each layer with a kernel: whether kernels take 4 bits for it; None where the layers aren't known.

    Args:
        model: tf_keras model, or a `ClosedModel`.
    """
    if isinstance(model, ClosedModel):
        return None
    return {
        layer.name: not any(kind.__name__ in WITHOUT for kind in type(layer).__mro__)
        for layer in model.layers
        if kernels(layer)
    }
