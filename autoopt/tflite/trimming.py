"""A `.tflite` without what no runtime reads: long names, ranges, notes of the converter, buffers without bytes.

It computes the same to the last bit. What names an input, an output, an entry point or a layer's weights stays.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import flatbuffers
import numpy as np

from autoopt.models import flatbuffer

NOTES = ("CONVERSION_METADATA",)
"""Metadata that tell how a file was converted; other ones, such as the oldest runtime that has the operators, are read."""
ALIGNMENT = 16
"""The bytes of constants begin at multiples of this, as the format asks for: runtimes read them where they lie."""


def trim(file: bytes, *, names: bool = False) -> bytes:
    """The file without what no runtime reads.

    Args:
        file: the `.tflite`.
        names: give every tensor a short name of its own, for what is made of the file later tells tensors apart by
            them; by default what flows has none.

    Returns:
        a `.tflite`; `file` itself where constants lie behind the flatbuffer, in which nothing may move.
    """
    model = flatbuffer.parse(file, "convert")
    if any(flatbuffer.outside(buffer) for buffer in model.buffers):
        return file
    model.description = None
    model.metadata = [one for one in model.metadata or () if _text(one.name) not in NOTES] or None
    for graph in model.subgraphs:
        _rename(graph, model.buffers, names)
        for tensor in graph.tensors or ():
            _forget_ranges(tensor)
    _leave_out_buffers(model)
    return _pack(model)


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")


def _filled(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _rename(graph: Any, buffers: Any, names: bool) -> None:
    """Shorten the names of all tensors but a graph's inputs and outputs; those of weights stay different.

    Of weights that several operators read, the converter says nowhere whose they are but by what these write: such names stay.
    """
    ends = {int(i) for places in (graph.inputs, graph.outputs) if places is not None for i in places}
    taken = {_text(graph.tensors[i].name) for i in ends}
    telling = _of_shared_weights(graph, buffers)
    taken |= {_text(graph.tensors[i].name) for i in telling}
    for place, tensor in enumerate(graph.tensors or ()):
        if place in ends or place in telling:
            continue
        is_weight = _is_weight(tensor, buffers)
        if not is_weight and not names:
            tensor.name = ""
            continue
        whole = _text(tensor.name)
        # Of operators that became one, the converter strings all names together: the first is the layer's.
        first = whole.partition(";")[0] if is_weight else str(place)
        tensor.name = _free((first, whole, f"{first}_{place}"), taken)
        taken.add(tensor.name)


def _is_weight(tensor: Any, buffers: Any) -> bool:
    return _filled(buffers[tensor.buffer]) and tensor.shape is not None and len(tensor.shape) > 1


def _of_shared_weights(graph: Any, buffers: Any) -> set[int]:
    """What is written by operators that share their weights with others."""
    written: dict[int, list[int]] = defaultdict(list)
    for op in graph.operators or ():
        for place in {int(i) for i in op.inputs if i >= 0} if op.inputs is not None else ():
            if _is_weight(graph.tensors[place], buffers):
                written[graph.tensors[place].buffer] += [int(i) for i in op.outputs]
    return {place for places in written.values() if len(places) > 1 for place in places}


def _free(names: Iterable[str], taken: set[str]) -> str:
    """The first name that no other tensor has; the last one with strokes behind it where all are taken."""
    name = ""
    for name in names:
        if name and name not in taken:
            return name
    while name in taken:
        name += "_"
    return name


def _forget_ranges(tensor: Any) -> None:
    """Leave out the range that a tensor's scale was found by, and a quantization that says nothing."""
    quantization = tensor.quantization
    if quantization is None:
        return
    quantization.min = quantization.max = None
    if quantization.scale is None and quantization.zeroPoint is None and quantization.details is None:
        tensor.quantization = None


def _leave_out_buffers(model: Any) -> None:
    """Keep the buffers that hold bytes which somebody reads, and the first one, which stands for no bytes."""
    from ai_edge_litert import schema_py_generated as schema

    before, after = model.buffers, [schema.BufferT()]
    places: dict[int, int] = {}

    def moved(place: int) -> int:
        if not _filled(before[place]):
            return 0
        if place not in places:
            places[place] = len(after)
            after.append(before[place])
        return places[place]

    for graph in model.subgraphs:
        for tensor in graph.tensors or ():
            tensor.buffer = moved(tensor.buffer)
    for one in model.metadata or ():
        one.buffer = moved(one.buffer)
    model.metadataBuffer = None  # places of buffers again, by which no runtime finds metadata any more
    model.buffers = after


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes constants where the format wants them, and equal lists of zero points once."""

    def __init__(self) -> None:
        super().__init__(1024)
        self._written: dict[bytes, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - the name that the library calls
        if x.dtype == np.uint8:
            self.Prep(ALIGNMENT, x.size)
        if x.dtype != np.int64:  # what zero points are, and little else
            return int(super().CreateNumpyVector(x))
        values = x.tobytes()
        if values not in self._written:
            self._written[values] = int(super().CreateNumpyVector(x))
        return self._written[values]


def _pack(model: Any) -> bytes:
    """The `.tflite` of LiteRT's objects; each channel's zero point is 8 bytes of zeros, which all layers share."""
    builder = _Builder()
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    return bytes(builder.Output())
