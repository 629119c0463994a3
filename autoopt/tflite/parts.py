"""Where the bytes of a `.tflite` go: what of it are weights, and what is not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers.table import Table

from autoopt.models import flatbuffer
from autoopt.tflite.interpreter import compressed_bytes

PARTS = {
    "weights": "constants with two dimensions or more",
    "biases": "all other constants",
    "scales": "scales, zero points and ranges of quantized tensors",
    "names": "of tensors",
    "metadata": "notes that are no part of the computation",
    "structure": "operators, shapes, and what holds the file together",
}
"""What the bytes are divided into; those that would be two things are the first of them."""
REST = "structure"
_GRAPHS, _TENSORS, _NAME = 8, 4, 10
"""Where the format keeps a model's graphs, a graph's tensors and a tensor's name; such places never change, so that old
files stay readable."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a file.

    Attributes:
        part: one of `PARTS`.
        size_bytes: that it takes in the file.
        compressed_bytes: by how much the file is smaller after gzip -9 without it, and without the parts before it.
    """

    part: str
    size_bytes: int
    compressed_bytes: int


def parts(file: bytes) -> list[Part]:
    """The parts of a `.tflite`, each byte in one: they add up to the file, before gzip and after.

    Raises:
        CandidateFailed: if it can't be read.
    """
    of_byte = np.full(len(file), list(PARTS).index(REST), np.uint8)
    with flatbuffer.reading("proof"):
        for part, start, size in sorted(_ranges(file), key=lambda one: -list(PARTS).index(one[0])):
            of_byte[start : start + size] = list(PARTS).index(part)
    found, left = [], np.frombuffer(file, np.uint8)
    for number, part in enumerate(PARTS):
        before = compressed_bytes(left.tobytes())
        size = int((of_byte == number).sum())
        left, of_byte = left[of_byte != number], of_byte[of_byte != number]
        # Of the last part nothing is left behind, of which gzip would still make a header.
        after = compressed_bytes(left.tobytes()) if len(left) else 0
        found.append(Part(part=part, size_bytes=size, compressed_bytes=before - after))
    return found


def _ranges(file: bytes) -> Iterator[tuple[str, int, int]]:
    """Part, first byte and number of bytes of all that is not the rest."""
    model = flatbuffer.parse(file, "proof")
    whole = np.frombuffer(file, np.uint8)

    def place(values: Any) -> tuple[int, int]:
        """Where in the file the bytes lie that an array of the model looks at."""
        return (values.ctypes.data - whole.ctypes.data, values.nbytes) if isinstance(values, np.ndarray) else (0, 0)

    for one in model.metadata or ():
        yield "metadata", *place(flatbuffer.data(model.buffers[one.buffer], file))
    for graph in model.subgraphs:
        for tensor in graph.tensors or ():
            dimensions = 0 if tensor.shape is None else len(tensor.shape)
            data = flatbuffer.data(model.buffers[tensor.buffer], file)
            yield "weights" if dimensions > 1 else "biases", *place(data)
            quantization = tensor.quantization
            for name in ("scale", "zeroPoint", "min", "max") if quantization is not None else ():
                yield "scales", *place(getattr(quantization, name))
    root = Table(file, int.from_bytes(file[:4], "little"))
    for tensor in (tensor for graph in _tables(root, _GRAPHS) for tensor in _tables(graph, _TENSORS)):
        if where := tensor.Offset(_NAME):
            yield "names", tensor.Vector(where), tensor.VectorLen(where)


def _tables(table: Any, field: int) -> list[Any]:
    """The tables that one of the format's tables lists."""
    place = table.Offset(field)
    starts = range(table.Vector(place), table.Vector(place) + 4 * table.VectorLen(place), 4) if place else ()
    return [Table(table.Bytes, table.Indirect(start)) for start in starts]
