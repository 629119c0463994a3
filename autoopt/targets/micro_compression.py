"""Weights as indices into tables of their values, which TensorFlow Lite Micro decodes as it runs: what clusters pay for.

The file is one of its own: TFLM's `DECODE` operator is known to no other runtime.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed, one_line, retold
from autoopt.models import flatbuffer

MOST_BITS = 7
"""Of an index, as TFLM has them."""
COSTS = 128
"""Bytes that a decoder, its tensors and its operator add to a file, more or less."""


def compress(file: bytes) -> bytes:
    """The `.tflite` with look-up tables where they save bytes; the file itself where they save nothing.

    Every value stays what it is. A table holds the values of a whole kernel, or one of its channels each.

    Args:
        file: with int8 weights.

    Raises:
        CandidateFailed: if TFLM's compressor can't make it, or the file is damaged.
    """
    from tflite_micro import compression

    specs = list(_specs(file))
    if not specs:
        return file
    with retold(
        lambda error: CandidateFailed("micro", f"TFLM can't make tables of the weights: {one_line(error, 300)}")
    ):
        made = bytes(compression.compress(file, specs))
    return made if len(made) < len(file) else file


def _specs(file: bytes) -> Iterator[Any]:
    """How to compress each tensor that gets smaller."""
    from ai_edge_litert import schema_py_generated as schema
    from tflite_micro.tensorflow.lite.micro.compression import spec

    model = flatbuffer.parse(file, "micro")
    for number, graph in enumerate(model.subgraphs):
        layers = {
            int(operator.inputs[1]): int(model.operatorCodes[operator.opcodeIndex].builtinCode)
            for operator in graph.operators
            if operator.inputs is not None and len(operator.inputs) > 1
        }
        for place, kind in layers.items():
            tensor = graph.tensors[place]
            data = model.buffers[tensor.buffer].data
            if data is None or tensor.type != schema.TensorType.INT8 or len(tensor.shape) < 2:
                continue
            values = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape)
            channels = values.ndim - 1 if kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D else 0
            ways = [
                (axis, bits, size(values, axis, bits)) for axis in (None, channels) if (bits := _bits(values, axis))
            ]
            axis, bits, least = min(ways, key=lambda way: way[2], default=(None, 0, values.size))
            if least + COSTS < values.size:
                mode = spec.PerTensor() if axis is None else spec.PerChannel(axis)
                yield spec.Tensor(number, place, [spec.LookUpTableCompression(bits, mode)])


def _bits(values: np.ndarray, axis: int | None) -> int:
    """Bits of an index into the values, or into those of a channel with the most; 0 if too many."""
    rows = [values] if axis is None else np.moveaxis(values, axis, 0)
    most = max(len(np.unique(row)) for row in rows)
    bits = max(1, (most - 1).bit_length())
    return bits if bits <= MOST_BITS else 0


def size(values: np.ndarray, axis: int | None, bits: int) -> int:
    """Bytes of indices and tables, about.

    Args:
        values: a kernel.
        axis: that has a table for each of its places; None for one table.
        bits: of an index.
    """
    tables = 1 if axis is None else int(values.shape[axis])
    return -(-values.size * bits // 8) + tables * (1 << bits)
