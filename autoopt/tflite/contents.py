"""What is inside a `.tflite`."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.models import flatbuffer
from autoopt.tflite.graph import KINDS, reaching, unpacked

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32), "FLOAT16": np.dtype(np.float16), "INT32": np.dtype(np.int32),
    "UINT8": np.dtype(np.uint8), "INT64": np.dtype(np.int64), "BOOL": np.dtype(np.bool_),
    "INT16": np.dtype(np.int16), "INT8": np.dtype(np.int8), "FLOAT64": np.dtype(np.float64),
    "INT4": np.dtype(np.int8),
}  # fmt: skip
CUSTOM = "CUSTOM"
BORDER = ("QUANTIZE", "DEQUANTIZE")
SHAPES = ("SHAPE", "RANK")
"""Operators that look at no values."""
REAL = ("FLOAT32", "FLOAT16", "FLOAT64", "INT4", "INT8", "UINT8", "INT16")
"""Types that values are computed in; integers of more bits are indices and shapes."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant tensor with two dimensions or more.

    Attributes:
        name: in the file.
        shape: output channels first, as TFLite stores kernels (last for a depthwise kernel).
        dtype: such as `int8`, or `int4`.
        ops: the operators that read it.
        scales: how many it has: none, one, or one a channel.
        size: number of values.
        sparsity: share of zeros (of the zero point where quantized).
        distinct: distinct values in all.
        distinct_per_channel: the most distinct values in any one output channel. This is what
            clustering shows in: folding batch normalization into a kernel, and scales per channel,
            multiply the distinct values of the whole.
        first: whether the model's inputs reach it through no other weights.
        writes: names of what the operators that read it write.
        values: the stored values, less the zero point; those of 4 bits as int8.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    ops: tuple[str, ...]
    scales: int
    size: int
    sparsity: float
    distinct: int
    distinct_per_channel: int
    first: bool = False
    writes: tuple[str, ...] = dataclasses.field(default=(), repr=False, compare=False)
    values: np.ndarray = dataclasses.field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is inside a file.

    Attributes:
        inputs: name, shape, dtype, scale and zero point of each; likewise `outputs`. `open_axes` are
            those, the batch aside, whose length the file leaves open; `key` is its name in the only signature.
        weights: constant tensors with two dimensions or more.
        ops: how often each operator occurs.
        float_islands: operators that compute in float, by name, beside the borders.
        kept: how many of them hold a layer's weights in float, or hang on one that does without a border between.
        activations: how many operators compute in each dtype: that of the first values that flow into them, and of
            indices or shapes where none do.
        integer_share: share of the computing operators with integer inputs.
        finite: whether every float constant and every scale is finite.
        signatures: names of the file's entry points.
    """

    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    weights: Sequence[Weight]
    ops: Mapping[str, int]
    float_islands: Mapping[str, int]
    activations: Mapping[str, int]
    integer_share: float
    finite: bool
    kept: int = 0
    signatures: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights' values and what they are read for."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = [f.name for f in dataclasses.fields(Weight) if f.name not in ("values", "writes")]
        plain["weights"] = [{name: getattr(w, name) for name in fields} for w in self.weights]
        return plain


def read(file: bytes) -> Contents:
    """Open a `.tflite`.

    Raises:
        CandidateFailed: if it can't be read: truncated, foreign, or without a graph.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.parse(file, "proof")
    with flatbuffer.reading("proof"):
        return _contents(schema, model, model.subgraphs[0], file)


def _contents(schema: Any, model: Any, graph: Any, file: bytes) -> Contents:
    types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    opcodes = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}

    def dtype(tensor: Any) -> str:
        return str(types[tensor.type])

    def name_of(op: Any) -> str:
        code = model.operatorCodes[op.opcodeIndex]
        return str(opcodes.get(max(code.builtinCode, code.deprecatedBuiltinCode), CUSTOM))

    readers: dict[int, list[str]] = defaultdict(list)
    writes: dict[int, list[str]] = defaultdict(list)
    for op in graph.operators:
        for place in op.inputs:
            readers[int(place)].append(name_of(op))
            writes[int(place)] += [_text(graph.tensors[int(i)].name) for i in op.outputs]
    constants = {i for i, t in enumerate(graph.tensors) if flatbuffer.data(model.buffers[t.buffer], file) is not None}
    first = _first(graph, [name_of(op) for op in graph.operators], constants)
    weights, finite = [], True
    for place, tensor in enumerate(graph.tensors):
        finite &= bool(np.isfinite(_scales(tensor)).all())
        data = flatbuffer.data(model.buffers[tensor.buffer], file)
        if data is None or dtype(tensor) not in DTYPES:
            continue
        shape = tuple(int(d) for d in tensor.shape) if tensor.shape is not None else ()
        values = unpacked(data, math.prod(shape)) if dtype(tensor) == "INT4" else data.view(DTYPES[dtype(tensor)])
        if values.size != math.prod(shape):
            raise ValueError("a constant does not fill its shape")
        if values.dtype.kind == "f":
            finite &= bool(np.isfinite(values).all())
        if len(shape) >= 2 and values.dtype.kind in "fi" and dtype(tensor) not in ("INT32", "INT64"):
            found = _weight(tensor, shape, values.reshape(shape), dtype(tensor).lower(), tuple(readers[place]))
            weights.append(dataclasses.replace(found, first=place in first, writes=tuple(writes[place])))
    ops: Counter[str] = Counter()
    islands: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    in_float = []
    for op in graph.operators:
        name = name_of(op)
        if name == CUSTOM:
            name = f"{CUSTOM} {_text(model.operatorCodes[op.opcodeIndex].customCode or '')}"
        ops[name] += 1
        if name in BORDER:
            continue
        given = [int(i) for i in op.inputs if i >= 0]
        flowing = [graph.tensors[i] for i in given if i not in constants and dtype(graph.tensors[i]) in REAL]
        if name in SHAPES:
            flowing = [graph.tensors[int(i)] for i in op.outputs]
        leading = next(iter(flowing), None) or next((graph.tensors[i] for i in given), None)
        activations["none" if leading is None else dtype(leading).lower()] += 1
        if leading is None or dtype(leading).startswith("FLOAT"):
            islands[name] += 1
            in_float.append((name, [int(i) for i in (*op.inputs, *op.outputs) if i >= 0]))
    signatures = model.signatureDefs or ()
    inputs, outputs = _keys(signatures, "inputs"), _keys(signatures, "outputs")
    computing = sum(activations.values())
    return Contents(
        inputs=[_end(graph.tensors[i], inputs.get(int(i), ""), dtype) for i in graph.inputs],
        outputs=[_end(graph.tensors[i], outputs.get(int(i), ""), dtype) for i in graph.outputs],
        weights=weights,
        ops=dict(sorted(ops.items())),
        float_islands=dict(sorted(islands.items())),
        activations=dict(sorted(activations.items())),
        integer_share=(computing - sum(islands.values())) / computing if computing else 0.0,
        finite=finite,
        kept=_kept(in_float, constants),
        signatures=[_text(s.signatureKey) for s in signatures],
    )


def _first(graph: Any, names: Sequence[str], constants: Collection[int]) -> set[int]:
    """The constants of operators that the model's inputs reach through no other weights.

    Args:
        graph: of the file.
        names: of its operators.
        constants: of its tensors.
    """
    given = [[int(i) for i in op.inputs if i >= 0] for op in graph.operators]
    shapes = [() if tensor.shape is None else tensor.shape for tensor in graph.tensors]
    operators = [
        (
            name,
            [i for i in tensors if i not in constants],
            [int(i) for i in op.outputs],
            any(i in constants and len(shapes[i]) > 1 for i in tensors),
        )
        for name, op, tensors in zip(names, graph.operators, given, strict=True)
    ]
    places = reaching(operators, [int(i) for i in graph.inputs])
    return {tensor for place in places for tensor in given[place] if tensor in constants}


def _kept(in_float: Sequence[tuple[str, Sequence[int]]], constants: Collection[int]) -> int:
    """How many operators in float are layers, or are joined to one by others in float.

    Args:
        in_float: the operators' names and tensors.
        constants: tensors that join nothing.
    """
    reached: set[int] = set()
    rest, count = list(in_float), 0
    while found := [one for one in rest if one[0] in KINDS or not reached.isdisjoint(one[1])]:
        reached |= {tensor for _, tensors in found for tensor in tensors} - set(constants)
        rest = [one for one in rest if one not in found]
        count += len(found)
    return count


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _scales(tensor: Any) -> Any:
    """A tensor's scales: none where it is not quantized, one, or one a channel."""
    quantization = tensor.quantization
    return quantization.scale if quantization is not None and quantization.scale is not None else ()


def _weight(tensor: Any, shape: tuple[int, ...], stored: np.ndarray, dtype: str, ops: tuple[str, ...]) -> Weight:
    zero = _zero(tensor)
    values = stored.astype(np.int16) - zero if zero else stored  # a table that is looked up has one, as activations do
    axis = tensor.quantization.quantizedDimension if len(_scales(tensor)) > 1 else 0
    rows = np.moveaxis(values, axis, 0).reshape(shape[axis], -1)
    return Weight(
        name=_text(tensor.name),
        shape=shape,
        dtype=dtype,
        ops=ops,
        scales=len(_scales(tensor)),
        size=values.size,
        sparsity=float((values == 0).mean()) if values.size else 0.0,
        distinct=len(np.unique(values)),
        distinct_per_channel=max(len(np.unique(row)) for row in rows),
        values=values,
    )


def _zero(tensor: Any) -> int:
    """A tensor's zero point; 0 where it has none, or one a channel (which are 0 in TFLite)."""
    quantization = tensor.quantization
    points = quantization.zeroPoint if quantization is not None else None
    return int(points[0]) if points is not None and len(points) == 1 and len(_scales(tensor)) == 1 else 0


def _keys(signatures: Sequence[Any], kind: str) -> dict[int, str]:
    """Names of the `inputs` or the `outputs` by tensor; none where a file has not just one signature."""
    if len(signatures) != 1:
        return {}
    return {int(end.tensorIndex): _text(end.name) for end in getattr(signatures[0], kind) or ()}


def _end(tensor: Any, key: str, dtype: Any) -> dict[str, Any]:
    """An input or output, as a person who feeds it must know it."""
    quantization = tensor.quantization
    scale = _scales(tensor)
    zero = quantization.zeroPoint if quantization is not None else None
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else ()
    return {
        "name": _text(tensor.name),
        "key": key,
        "open_axes": [i for i, d in enumerate(signature) if d < 0 and i > 0],
        "shape": [int(d) for d in (tensor.shape if tensor.shape is not None else [])],
        "dtype": dtype(tensor).lower(),
        "scale": float(scale[0]) if len(scale) else None,
        "zero_point": int(zero[0]) if zero is not None and len(zero) else None,
    }
