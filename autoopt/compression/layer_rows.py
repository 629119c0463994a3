"""Layers as matrices: what a convolution or dense layer multiplies its kernel with, at some places of its output."""

import math
from typing import Any

import numpy as np

POINTWISE = ("SeparableConv1D", "SeparableConv2D")
"""Layers of which the second kernel is the one that is meant."""
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
KINDS = ("Conv1D", "Conv2D", "Dense", *DEPTHWISE, *POINTWISE)
"""Layers that are known here."""


def knows(layer: Any) -> bool:
    """Whether a layer of tf_keras can be taken as a matrix."""
    import tf_keras

    kind = type(layer).__name__
    return (
        kind in KINDS
        and type(layer) is getattr(tf_keras.layers, kind)
        and getattr(layer, "data_format", None) != "channels_first"
        and (kind in DEPTHWISE or getattr(layer, "groups", 1) == 1)
    )


def places(layer: Any, inputs: np.ndarray) -> int:
    """How many rows the matrix of a layer has: places of its output, of all items."""
    return math.prod(_extents(layer, inputs))


def rows(layer: Any, inputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What a layer's kernel is multiplied with at some places.

    Args:
        layer: that `knows` accepts.
        inputs: shape (items, ..., channels).
        chosen: numbers of places, counted item by item.

    Returns:
        shape (groups, places, unknowns): a group for each input channel of a depthwise layer, else one.
    """
    kind = type(layer).__name__
    if kind == "Dense":
        return inputs.reshape(1, -1, inputs.shape[-1])[:, chosen]
    found = _windows(layer, inputs, chosen)
    if kind in DEPTHWISE:
        return found.transpose(2, 0, 1)
    if kind in POINTWISE:
        depthwise = layer.depthwise_kernel.numpy().reshape(found.shape[1], found.shape[2], -1)
        found = np.einsum("pkc,kcm->pcm", found, depthwise)
    return found.reshape(1, len(found), -1)


def unknowns(layer: Any) -> int:
    """Weights of one output of a layer, in `kernel`."""
    return int(kernel(layer).shape[1])


def kernel(layer: Any) -> np.ndarray:
    """A layer's kernel, shape (groups, unknowns, outputs), in the order of `rows`."""
    values = _variable(layer).numpy()
    if type(layer).__name__ in DEPTHWISE:
        *_, channels, each = values.shape
        grouped: np.ndarray = values.reshape(-1, channels, each).swapaxes(0, 1)
        return grouped
    flat: np.ndarray = values.reshape(1, -1, values.shape[-1])
    return flat


def put(layer: Any, values: np.ndarray, bias: np.ndarray) -> None:
    """Give a layer a kernel, in the shape of `kernel`, and add to its bias, shape (groups, outputs), if it has one."""
    variable = _variable(layer)
    if type(layer).__name__ in DEPTHWISE:
        values = values.swapaxes(0, 1)
    variable.assign(values.reshape(variable.shape))
    if layer.use_bias:
        layer.bias.assign_add(bias.reshape(-1))


def outputs(layer: Any, matrix: np.ndarray) -> np.ndarray:
    """What a layer gives out at the places of a matrix, before its activation: shape (groups, places, outputs)."""
    values = kernel(layer)
    product: np.ndarray = matrix @ values
    if layer.use_bias:
        product = product + layer.bias.numpy().reshape(len(values), 1, -1)
    return product


def _variable(layer: Any) -> Any:
    kind = type(layer).__name__
    name = "pointwise_kernel" if kind in POINTWISE else "depthwise_kernel" if kind in DEPTHWISE else "kernel"
    return getattr(layer, name)


def _extents(layer: Any, inputs: np.ndarray) -> tuple[int, ...]:
    """Items, and places along each axis of the output."""
    if type(layer).__name__ == "Dense":
        return inputs.shape[:-1]
    sides = [
        (size + sum(pad) - reach) // stride + 1
        for size, pad, reach, stride in zip(
            inputs.shape[1:-1], _pads(layer, inputs), _reaches(layer), layer.strides, strict=True
        )
    ]
    return (len(inputs), *sides)


def _reaches(layer: Any) -> list[int]:
    """How far a kernel reaches along each axis, with its holes."""
    return [(size - 1) * gap + 1 for size, gap in zip(layer.kernel_size, layer.dilation_rate, strict=True)]


def _pads(layer: Any, inputs: np.ndarray) -> list[tuple[int, int]]:
    """Zeros before and behind each axis, as TensorFlow pads."""
    pads = []
    for size, reach, stride in zip(inputs.shape[1:-1], _reaches(layer), layer.strides, strict=True):
        both = max((-(-size // stride) - 1) * stride + reach - size, 0) if layer.padding == "same" else 0
        pads.append((reach - 1, 0) if layer.padding == "causal" else (both // 2, both - both // 2))
    return pads


def _windows(layer: Any, inputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What a kernel lies on at some places: shape (places, positions in the kernel, channels)."""
    padded = np.pad(inputs, [(0, 0), *_pads(layer, inputs), (0, 0)])
    axes = tuple(range(1, inputs.ndim - 1))
    every = np.lib.stride_tricks.sliding_window_view(padded, _reaches(layer), axis=axes)  # a view: nothing is copied
    item, *sides = np.unravel_index(chosen, _extents(layer, inputs))
    found = every[(item, *(side * stride for side, stride in zip(sides, layer.strides, strict=True)))]
    found = found[(..., *(slice(None, None, gap) for gap in layer.dilation_rate))]
    windows: np.ndarray = found.reshape(len(found), inputs.shape[-1], -1).swapaxes(1, 2)
    return windows
