"""Folds batch normalization into the kernels before it, as the converter would do later."""

from collections.abc import Collection
from typing import Any

import numpy as np

FOLDED_INTO = ("Conv1D", "Conv2D", "Conv2DTranspose", "DepthwiseConv1D", "DepthwiseConv2D", "Dense")
"""Layers whose kernels can take it in."""


def source_of(layer: Any, kinds: Collection[str]) -> Any:
    """The layer of one of these kinds before a batch normalization, or None: it feeds nothing else, and is linear."""
    if type(layer).__name__ != "BatchNormalization" or len(layer.inbound_nodes) != 1:
        return None
    source = layer.inbound_nodes[0].inbound_layers
    alone = (
        type(source).__name__ in kinds
        and len(source.outbound_nodes) == 1
        and getattr(source.activation, "__name__", "") == "linear"
    )
    return source if alone else None


def before(layer: Any, kinds: Collection[str] = FOLDED_INTO) -> Any:
    """The layer of one of these kinds that a batch normalization can be folded into here, or None."""
    source = source_of(layer, kinds)
    if source is None or len(source.inbound_nodes) != 1:
        return None
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    rank = len(layer.inbound_nodes[0].output_shapes)
    return source if [axis % rank for axis in axes] == [rank - 1] else None


def fold(model: Any, kinds: Collection[str] = FOLDED_INTO, apart: Collection[str] = ()) -> Any:
    """The same function with batch normalization inside the kernels, as far as that goes.

    What is clustered afterwards keeps its clusters in the file; the layers' names stay, and a layer without effect
    stands where a normalization stood.

    Args:
        model: a flat tf_keras model.
        kinds: of the layers whose kernels are to take it in.
        apart: names of layers whose kernels are not to change.
    """
    import tf_keras

    found = {layer.name: before(layer, kinds) for layer in model.layers}
    sources = {name: None if source is None or source.name in apart else source for name, source in found.items()}
    folded = {source.name: model.get_layer(name) for name, source in sources.items() if source is not None}
    if not folded:
        return model

    def choose(layer: Any) -> Any:
        if sources[layer.name] is not None:
            return tf_keras.layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        return type(layer).from_config(config | ({"use_bias": True} if layer.name in folded else {}))

    made = tf_keras.models.clone_model(model, clone_function=choose)
    for old, new in zip(model.layers, made.layers, strict=True):
        if old.name in folded:
            new.set_weights(_together(old, folded[old.name]))
        elif new.weights:
            new.set_weights(old.get_weights())
    return made


def _together(layer: Any, norm: Any) -> list[np.ndarray]:
    """Kernel and bias that compute layer and normalization at once."""
    kernel, *bias = layer.get_weights()
    scale = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = (bias[0] if bias else 0) - norm.moving_mean.numpy()
    moved = shift * scale + (norm.beta.numpy() if norm.center else 0)
    kind = type(layer).__name__
    if kind.startswith("Depthwise"):
        by_channel = scale.reshape(kernel.shape[-2:])
    else:
        by_channel = scale[:, np.newaxis] if kind == "Conv2DTranspose" else scale
    return [(kernel * by_channel).astype(kernel.dtype), moved.astype(kernel.dtype)]
