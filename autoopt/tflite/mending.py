"""What converters leave wrong in an integer file, put right."""

import copy

import numpy as np

from autoopt.core.four_bits import packed
from autoopt.tflite.graph import NONE, Graph, Layer

BIASED = dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (0, 1, 2)) | {"TRANSPOSE_CONV": (2, 1, 3)}
"""Operators that add a bias in the scale of their input times that of their weights: the places of these three."""
LIMITS = np.iinfo(np.int32)
ROOM = 2.0**20
"""What a bias comes to at most, where its scale was too fine for it: kernels take no scale that is far finer."""
OFF = 1e-3
"""By this share a scale may be off: it is stored with 24 bits."""


def separate_biases(file: bytes) -> bytes:
    """Each operator with a bias in its own scale.

    TensorFlow's converter to int16x8 stores a bias that several operators share (a layer that is called twice, a recurrent
    layer's step) once, in the scale of the first, and the others add something else.

    Args:
        file: in integers.

    Returns:
        a `.tflite` in which each such operator has a bias of its own; `file` itself where there is none.
    """
    graph, changed = Graph(file), False
    for place, op in enumerate(graph.operators):
        places = BIASED.get(graph.kind(place), (len(op.inputs),))
        if len(op.inputs) <= max(places) or int(op.inputs[places[-1]]) == NONE:
            continue
        given, weights, bias = (int(op.inputs[i]) for i in places)
        expected, stored = graph.scale(given) * graph.scale(weights), graph.scale(bias)
        if not len(expected) or not len(stored) or np.allclose(stored, expected, rtol=OFF, atol=0):
            continue
        values = np.round(graph.real(bias) / expected)
        op.inputs = np.array(op.inputs, np.int32)  # what was read can't be written to
        op.inputs[places[-1]] = graph.add_constant(bias, values, expected)
        changed = True
    return graph.to_bytes() if changed else file


def type_unread_outputs(file: bytes) -> bytes:
    """Outputs that nobody reads in the type of those beside them.

    litert-quantizer leaves them in float, and the runtime refuses a split whose parts differ in type.

    Args:
        file: in integers, or partly.

    Returns:
        a `.tflite` with the same values; `file` itself where all are alike.
    """
    graph, changed = Graph(file), False
    for op in graph.operators:
        outputs = [int(i) for i in op.outputs]
        read = [i for i in outputs if graph.readers[i] or i in graph.outputs]
        for unread in set(outputs) - set(read):
            if read and graph.dtype(unread) == "FLOAT32" != graph.dtype(read[0]):
                graph.tensors[unread].type = graph.tensors[read[0]].type
                graph.tensors[unread].quantization = copy.deepcopy(graph.tensors[read[0]].quantization)
                changed = True
    return graph.to_bytes() if changed else file


def hold_biases(real: Graph, file: bytes) -> bytes:
    """Biases as they were in float, where weights next to zero left them a scale that is too fine to hold them.

    The bias of a channel without weights, such as pruning makes, would be cut off to next to nothing, or turn its sign.

    Args:
        real: in float32.
        file: made of it, in integers.

    Returns:
        a `.tflite`; `file` itself where every bias is held.
    """
    graph, changed = Graph(file), False
    if len(real.layers()) != len(graph.layers()):
        return file  # weights that lie outside of the flatbuffer can't be looked into
    for mine, layer in zip(real.layers(), graph.layers(), strict=True):
        if layer.bias == NONE or not len(graph.scale(layer.bias)) or not len(graph.scale(layer.weights)):
            continue
        wanted = np.abs(real.real(mine.bias)) / graph.scale(layer.input)
        lost = wanted / np.maximum(graph.scale(layer.weights), np.finfo(np.float64).tiny) > LIMITS.max
        if lost.any() and graph.own(layer.weights) and graph.own(layer.bias):
            _coarsen(graph, layer, np.where(lost, wanted / ROOM, 0.0), real.real(mine.bias))
            changed = True
    return graph.to_bytes() if changed else file


def _coarsen(graph: Graph, layer: Layer, least: np.ndarray, bias: np.ndarray) -> None:
    """Give a layer's weights scales that are no finer than these, and its bias those that follow."""
    before = graph.scale(layer.weights)
    scales = np.maximum(before, least if len(before) > 1 else least.max()).astype(np.float32).astype(np.float64)
    rows = np.moveaxis(graph.constant(layer.weights), layer.axis, 0)
    moved = np.round(rows * (before / scales).reshape(-1, *[1] * (rows.ndim - 1)))
    whole = np.moveaxis(moved, 0, layer.axis).astype(np.int8)
    four = graph.dtype(layer.weights) == "INT4"
    graph.store(layer.weights, packed(whole) if four else whole, "INT4" if four else "INT8")
    graph.set_scales(layer.weights, scales, layer.axis)
    of_bias = graph.scale(layer.input) * scales
    graph.store(layer.bias, np.clip(np.round(bias / of_bias), LIMITS.min, LIMITS.max).astype(np.int32))
    graph.set_scales(layer.bias, of_bias)
