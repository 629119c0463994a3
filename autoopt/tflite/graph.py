"""The graph inside a `.tflite`, to be looked through and changed: operators with weights, who reads what, constants."""

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.models import flatbuffer

KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators that hold a layer's weights."""
NONE = -1
"""Stands for a tensor that an operator does without."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator with constant weights. Tensors are given by their index.

    Attributes:
        place: of the operator in the graph.
        kind: one of `KINDS`.
        input: what it reads.
        weights: its kernel: output channels first, but last for `DEPTHWISE_CONV_2D`.
        bias: `NONE` if it has none.
        output: what it writes.
        activation: that is fused into it, such as `NONE`, `RELU`, `RELU6`.
        options: TFLite's, such as strides.
    """

    place: int
    kind: str
    input: int
    weights: int
    bias: int
    output: int
    activation: str
    options: Any = dataclasses.field(repr=False)

    @property
    def axis(self) -> int:
        """The kernel's axis of output channels."""
        return 3 if self.kind == "DEPTHWISE_CONV_2D" else 0


class Graph:
    """The first subgraph of a `.tflite`; all its constants must lie inside the flatbuffer.

    Args:
        file: the `.tflite`.

    Raises:
        flatbuffer.Damaged: if it is not whole.
    """

    def __init__(self, file: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model = flatbuffer.parse(file, "quantize")
        self._schema = schema
        graph = self.model.subgraphs[0]
        self.tensors, self.operators = graph.tensors, graph.operators
        self.inputs, self.outputs = [int(i) for i in graph.inputs], [int(i) for i in graph.outputs]
        self.readers: dict[int, list[int]] = defaultdict(list)
        for place, op in enumerate(self.operators):
            for tensor in op.inputs:
                self.readers[int(tensor)].append(place)

    def kind(self, place: int) -> str:
        """An operator's name, such as `CONV_2D`."""
        code = self.model.operatorCodes[self.operators[place].opcodeIndex]
        return _name(self._schema.BuiltinOperator, max(code.builtinCode, code.deprecatedBuiltinCode))

    def scope(self, place: int) -> str:
        """An operator's name as litert-quantizer matches it."""
        return "".join(f"{self.name(int(i))};" for i in self.operators[place].outputs)

    def name(self, tensor: int) -> str:
        """A tensor's name."""
        name = self.tensors[tensor].name
        return str(name.decode() if isinstance(name, bytes) else name)

    def layers(self) -> list[Layer]:
        """The operators with constant weights, in the order in which they run."""
        found = []
        for place, op in enumerate(self.operators):
            kind = self.kind(place)
            if kind not in KINDS or self._data(int(op.inputs[1])) is None:
                continue
            activation = _name(self._schema.ActivationFunctionType, op.builtinOptions.fusedActivationFunction)
            bias = int(op.inputs[2]) if len(op.inputs) > 2 else NONE
            found.append(
                Layer(
                    place=place,
                    kind=kind,
                    input=int(op.inputs[0]),
                    weights=int(op.inputs[1]),
                    bias=bias,
                    output=int(op.outputs[0]),
                    activation=activation,
                    options=op.builtinOptions,
                )
            )
        return found

    def first(self) -> list[int]:
        """The places of the operators with weights that the model's inputs reach through no other; see `reaching`."""
        told = []
        for place, op in enumerate(self.operators):
            constant = any(i != NONE and self.is_constant(int(i)) and len(self.shape(int(i))) > 1 for i in op.inputs)
            told.append((self.kind(place), self.flowing(place), [int(i) for i in op.outputs], constant))
        return reaching(told, self.inputs)

    def flowing(self, place: int) -> list[int]:
        """The tensors that an operator reads, without constants."""
        return [int(i) for i in self.operators[place].inputs if i != NONE and self._data(int(i)) is None]

    def dtype(self, tensor: int) -> str:
        """A tensor's type, such as `INT8`."""
        return _name(self._schema.TensorType, self.tensors[tensor].type)

    def constant(self, tensor: int) -> np.ndarray:
        """A constant's stored values; those of 4 bits as int8.

        Returns:
            of the tensor's shape, a copy.
        """
        told, shape, data = self.tensors[tensor], self.shape(tensor), self._data(tensor)
        kinds = self._schema.TensorType
        if told.type == kinds.INT4:
            return unpacked(data, int(np.prod(shape))).reshape(shape)
        dtypes = {kinds.FLOAT32: np.float32, kinds.INT8: np.int8, kinds.INT32: np.int32, kinds.INT64: np.int64}
        return np.frombuffer(data.tobytes(), dtypes[told.type]).reshape(shape).copy()  # type: ignore[union-attr]

    def real(self, tensor: int) -> np.ndarray:
        """A constant's values in float64, scaled back where it is quantized; shape as the tensor's."""
        values: np.ndarray = self.constant(tensor).astype(np.float64)
        scale = self.scale(tensor)
        if not len(scale):
            return values
        shape = [1] * values.ndim
        if len(scale) > 1:
            shape[self.tensors[tensor].quantization.quantizedDimension] = -1
        scaled: np.ndarray = values * scale.reshape(shape)
        return scaled

    def scale(self, tensor: int) -> np.ndarray:
        """A tensor's scales: none, one, or one a channel; shape (scales,), dtype float64."""
        quantization = self.tensors[tensor].quantization
        scales = None if quantization is None else quantization.scale
        return np.asarray([] if scales is None else scales, dtype=np.float64)

    def store(self, tensor: int, values: np.ndarray, dtype: str = "") -> None:
        """Give a constant other values, of the shape that it has; of another type where one is named, such as `INT8`."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        before = self.tensors[tensor].buffer
        if dtype:
            self.tensors[tensor].type = getattr(self._schema.TensorType, dtype)
        if dtype and sum(t.buffer == before for t in self.tensors) > 1:  # others read the bytes as they are
            self.tensors[tensor].buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        else:
            self.model.buffers[before].data = buffer.data

    def set_scale(self, tensor: int, scale: float) -> None:
        """Give a tensor one scale, and zero as its zero point."""
        self.set_scales(tensor, np.array([scale]))

    def set_scales(self, tensor: int, scales: np.ndarray, axis: int = 0) -> None:
        """Give a tensor these scales, one or one a channel of an axis, and zeros as its zero points."""
        quantization = self._schema.QuantizationParametersT()
        quantization.scale = np.asarray(scales, np.float32)
        quantization.zeroPoint = np.zeros(len(scales), np.int64)
        quantization.quantizedDimension = axis if len(scales) > 1 else 0
        self.tensors[tensor].quantization = quantization

    def is_constant(self, tensor: int) -> bool:
        """Whether a tensor's values stand in the file."""
        return self._data(tensor) is not None

    def add_tensor(self, like: int, dtype: str, suffix: str) -> int:
        """A new tensor that an operator writes, of another's shape.

        Args:
            like: the other.
            dtype: such as `INT8`.
            suffix: of its name, after the other's.

        Returns:
            its index.
        """
        made = copy.deepcopy(self.tensors[like])
        made.name, made.buffer, made.quantization = self.name(like) + suffix, 0, None
        made.type = getattr(self._schema.TensorType, dtype)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def read_instead(self, place: int, before: int, after: int) -> None:
        """Let an operator read another tensor."""
        self.operators[place].inputs = _swapped(self.operators[place].inputs, before, after)

    def write_instead(self, place: int, before: int, after: int) -> None:
        """Let an operator write another tensor."""
        self.operators[place].outputs = _swapped(self.operators[place].outputs, before, after)

    def dequantize(self, source: int, to: int, before: int) -> None:
        """Put in an operator that makes float32 of a tensor.

        Args:
            source: in half precision or integers.
            to: in float32.
            before: the place where it stands; the operators from there on move up, which `readers` doesn't follow.
        """
        self._insert("DEQUANTIZE", 3, source, to, before)  # version 3: of halves

    def requantize(self, source: int, to: int, before: int) -> None:
        """Put in an operator that gives integers another type, scale or zero point; places move as by `dequantize`.

        Args:
            source: quantized.
            to: quantized in another way.
            before: the place where it stands.
        """
        self._insert("QUANTIZE", 1, source, to, before)

    def _insert(self, name: str, version: int, source: int, to: int, before: int) -> None:
        """Put in an operator of one input and one output, of this version where the file has none of the name."""
        kind = getattr(self._schema.BuiltinOperator, name)
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in self.model.operatorCodes]
        if kind not in codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = kind
            code.version = version
            self.model.operatorCodes.append(code)
            codes.append(kind)
        made = self._schema.OperatorT()
        made.opcodeIndex = codes.index(kind)
        made.inputs, made.outputs = np.array([source], np.int32), np.array([to], np.int32)
        self.operators.insert(before, made)

    def add_constant(self, like: int, values: np.ndarray, scale: np.ndarray) -> int:
        """A new constant, for the operator that is then given it.

        Args:
            like: the constant whose type, shape and name it has.
            values: to be stored, whole numbers; what does not fit is cut off.
            scale: its scales, as of `scale`.

        Returns:
            its index.
        """
        made, buffer = copy.deepcopy(self.tensors[like]), self._schema.BufferT()
        limits = np.iinfo(self.constant(like).dtype)
        stored = np.clip(values, limits.min, limits.max).astype(limits.dtype)
        buffer.data = np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8)
        made.buffer = len(self.model.buffers)
        made.quantization.scale = scale.astype(np.float32)
        self.model.buffers.append(buffer)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def own(self, tensor: int) -> bool:
        """Whether a constant is read by one operator alone, and shares its bytes with no other tensor."""
        buffer = self.tensors[tensor].buffer
        sharing = sum(t.buffer == buffer for t in self.tensors)
        return len(self.readers[tensor]) == 1 and sharing == 1

    def to_bytes(self) -> bytes:
        """The `.tflite`."""
        return flatbuffer.pack(self.model)

    def shape(self, tensor: int) -> list[int]:
        """A tensor's shape; of a scalar, and of one that names none, empty."""
        shape = self.tensors[tensor].shape
        return [] if shape is None else [int(d) for d in shape]

    def _data(self, tensor: int) -> np.ndarray | None:
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return None if data is None or not len(data) else np.asarray(data, dtype=np.uint8)


def unpacked(data: Any, size: int) -> np.ndarray:
    """Values of 4 bits, two to a byte, the lower half first.

    Args:
        data: bytes.
        size: how many values; an odd one leaves the last half byte unused.

    Returns:
        shape (size,), dtype int8, in [-8, 7].

    Raises:
        ValueError: if there are more or fewer bytes.
    """
    packed = np.asarray(data, dtype=np.uint8)
    if packed.size != (size + 1) // 2:
        raise ValueError("a constant of 4 bits does not fill its shape")
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:size].astype(np.int8)
    values: np.ndarray = np.where(halves > 7, halves - 16, halves).astype(np.int8)
    return values


def floating(graph: Graph, kept: Sequence[Layer]) -> list[int]:
    """The operators without weights that belong to layers in float: they lie between them, or between one and an end.

    Such as the softmax behind a last layer: quantized, it would throw away what the layer has gained.

    Args:
        graph: in float.
        kept: the layers that stay in float.

    Returns:
        their places in the graph.
    """
    layers, inside = {layer.place for layer in graph.layers()}, {layer.place for layer in kept}
    real = {*graph.inputs, *(layer.output for layer in kept)}
    for place, op in enumerate(graph.operators):
        flowing = graph.flowing(place)
        if place not in layers and flowing and real.issuperset(flowing):
            inside.add(place)
            real |= {int(i) for i in op.outputs}
    for place in reversed(range(len(graph.operators))):
        outputs = [int(i) for i in graph.operators[place].outputs]
        if place in inside - layers and any(not inside.issuperset(graph.readers[i]) for i in outputs):
            inside.remove(place)
    return sorted(inside - layers)


def reaching(operators: Sequence[tuple[str, Sequence[int], Sequence[int], bool]], inputs: Sequence[int]) -> list[int]:
    """The operators with weights that the model's inputs reach through no other operator with weights.

    Args:
        operators: of each, in the order in which they run: its name, the tensors that flow into it, those that it writes,
            and whether it reads a constant of two dimensions or more.
        inputs: tensors of the model.

    Returns:
        their places.
    """
    untouched, found = set(inputs), []
    for place, (kind, flowing, outputs, constant) in enumerate(operators):
        if not flowing or not untouched.issuperset(flowing):
            continue
        if constant and kind in (*KINDS, "GATHER", "EMBEDDING_LOOKUP"):
            found.append(place)
        else:
            untouched |= set(outputs)
    return found


def _swapped(tensors: Any, before: int, after: int) -> np.ndarray:
    """Tensors' indices with one for another; they are written as they lie in memory, so of 32 bits."""
    return np.array([after if i == before else i for i in tensors], np.int32)


def _name(names: Any, value: int) -> str:
    return str(next(k for k, v in vars(names).items() if v == value and not k.startswith("_")))
