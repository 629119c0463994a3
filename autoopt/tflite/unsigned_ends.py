"""Inputs and outputs of uint8 for a `.tflite` that takes and gives int8.

Older integrations, and Coral's Edge TPU, feed bytes from 0 to 255. The file computes in int8 as before: an operator at each
end moves the zero point by 128, as TensorFlow's own converter does it, and no value changes.
"""

import copy
from typing import Any

import numpy as np

from autoopt.tflite.graph import Graph

SHIFT = 128
"""From int8 to uint8."""
INSIDE = "_int8"
"""Behind the name of the tensor that the graph computes with; the end keeps the name."""


def give(file: bytes) -> bytes:
    """The same file with uint8 in place of quantized int8 at its inputs and outputs.

    Args:
        file: the `.tflite`; its constants lie inside the flatbuffer.

    Returns:
        a `.tflite`; `file` itself where no end is quantized int8. Ends of other types, such as indices, stay.
    """
    graph = Graph(file)
    quantized = [tensor for tensor in dict.fromkeys((*graph.inputs, *graph.outputs)) if _quantized(graph, tensor)]
    moved = {tensor: _inside(graph, tensor) for tensor in quantized if not _passed(graph, tensor)}
    for end, inside in moved.items():
        for place in range(len(graph.operators)):
            graph.read_instead(place, end, inside)
            graph.write_instead(place, end, inside)
    for end in quantized:
        _unsigned(graph.tensors[end])
    for end, inside in moved.items():
        if end in graph.inputs:
            graph.requantize(end, inside, before=0)
        else:
            graph.requantize(inside, end, before=len(graph.operators))
    return graph.to_bytes() if quantized else file


def _quantized(graph: Graph, tensor: int) -> bool:
    """Whether int8 flows in it that stands for other values, with one scale."""
    return graph.dtype(tensor) == "INT8" and len(graph.scale(tensor)) == 1 and not graph.is_constant(tensor)


def _passed(graph: Graph, tensor: int) -> bool:
    """Whether it comes out as it went in, read by nothing: there is nothing to compute with."""
    return tensor in graph.inputs and tensor in graph.outputs and not graph.readers[tensor]


def _inside(graph: Graph, end: int) -> int:
    """A new tensor like this one, which takes its place in the graph."""
    made = graph.add_tensor(end, "INT8", INSIDE)
    graph.tensors[made].quantization = copy.deepcopy(graph.tensors[end].quantization)
    return made


def _unsigned(tensor: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    zero = tensor.quantization.zeroPoint
    tensor.type = schema.TensorType.UINT8
    tensor.quantization.zeroPoint = np.asarray([0] if zero is None else zero, np.int64) + SHIFT
