"""What is inside a `.tflite`, and proof that each technique asked for really took."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.recipe import MOST_SPARSE, SCHEMES, Prune, Recipe, parse_structure

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32), "FLOAT16": np.dtype(np.float16), "INT32": np.dtype(np.int32),
    "UINT8": np.dtype(np.uint8), "INT64": np.dtype(np.int64), "BOOL": np.dtype(np.bool_),
    "INT16": np.dtype(np.int16), "INT8": np.dtype(np.int8), "FLOAT64": np.dtype(np.float64),
}  # fmt: skip
CUSTOM = "CUSTOM"
BORDER = ("QUANTIZE", "DEQUANTIZE")
LOST = 0.005
"""Sparsity may fall by this much on the way into the file: rounding, never a lost mask."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant tensor with two dimensions or more.

    Attributes:
        name: in the file.
        shape: output channels first, as TFLite stores kernels (last for a depthwise kernel).
        dtype: such as `int8`.
        size: number of values.
        sparsity: share of zeros (of the zero point where quantized).
        distinct: distinct values in all.
        distinct_per_channel: the most distinct values in any one output channel. This is what
            clustering shows in: folding batch normalization into a kernel, and scales per channel,
            multiply the distinct values of the whole.
        values: the stored values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    sparsity: float
    distinct: int
    distinct_per_channel: int
    values: np.ndarray = dataclasses.field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is inside a file.

    Attributes:
        inputs: name, shape, dtype, scale and zero point of each; likewise `outputs`. `open_axes` are
            those, the batch aside, whose length the file leaves open.
        weights: constant tensors with two dimensions or more.
        ops: how often each operator occurs.
        float_islands: operators that compute in float, by name, beside the borders.
        activations: how many computing operators take their first input in each dtype.
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
    signatures: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights' values."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = [f.name for f in dataclasses.fields(Weight) if f.name != "values"]
        plain["weights"] = [{name: getattr(w, name) for name in fields} for w in self.weights]
        return plain


def read(file: bytes) -> Contents:
    """Open a `.tflite`.

    Raises:
        CandidateFailed: if it can't be read: truncated, foreign, or without a graph.
    """
    from ai_edge_litert import schema_py_generated as schema

    if file[4:8] != b"TFL3":
        raise CandidateFailed("proof", "not a .tflite file (its identifier is missing)")
    try:
        model = schema.ModelT.InitFromPackedBuf(file, 0)
        graph = model.subgraphs[0]
        return _contents(schema, model, graph, file)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise CandidateFailed("proof", f"the .tflite is damaged: {type(error).__name__} while reading it") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "struct":
            raise
        raise CandidateFailed("proof", "the .tflite is truncated") from error


def _contents(schema: Any, model: Any, graph: Any, file: bytes) -> Contents:
    types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    opcodes = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}

    def dtype(tensor: Any) -> str:
        return str(types[tensor.type])

    weights, finite = [], True
    for tensor in graph.tensors:
        finite &= bool(np.isfinite(_scales(tensor)).all())
        data = _data(model.buffers[tensor.buffer], file)
        if data is None or dtype(tensor) not in DTYPES:
            continue
        shape = tuple(int(d) for d in tensor.shape) if tensor.shape is not None else ()
        values = data.view(DTYPES[dtype(tensor)])
        if values.size != math.prod(shape):
            raise ValueError("a constant does not fill its shape")
        if values.dtype.kind == "f":
            finite &= bool(np.isfinite(values).all())
        if len(shape) >= 2 and values.dtype.kind in "fi" and dtype(tensor) not in ("INT32", "INT64"):
            weights.append(_weight(tensor, shape, values.reshape(shape)))
    ops: Counter[str] = Counter()
    islands: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = opcodes.get(max(code.builtinCode, code.deprecatedBuiltinCode), CUSTOM)
        if name == CUSTOM:
            name = f"{CUSTOM} {_text(code.customCode or '')}"
        ops[name] += 1
        if name in BORDER:
            continue
        first = next((graph.tensors[i] for i in op.inputs if i >= 0), None)
        activations["none" if first is None else dtype(first).lower()] += 1
        if first is None or dtype(first).startswith("FLOAT"):
            islands[name] += 1
    computing = sum(activations.values())
    return Contents(
        inputs=[_end(graph.tensors[i], dtype) for i in graph.inputs],
        outputs=[_end(graph.tensors[i], dtype) for i in graph.outputs],
        weights=weights,
        ops=dict(sorted(ops.items())),
        float_islands=dict(sorted(islands.items())),
        activations=dict(sorted(activations.items())),
        integer_share=(computing - sum(islands.values())) / computing if computing else 0.0,
        finite=finite,
        signatures=[_text(s.signatureKey) for s in model.signatureDefs or ()],
    )


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _data(buffer: Any, file: bytes) -> np.ndarray | None:
    """A buffer's bytes; large ones may lie behind the flatbuffer, named by offset and size."""
    if buffer.data is not None and len(buffer.data):
        return np.ascontiguousarray(np.asarray(buffer.data, dtype=np.uint8))
    if getattr(buffer, "offset", 0) > 1:
        if buffer.offset + buffer.size > len(file):
            raise ValueError("a constant lies behind the end of the file")
        return np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
    return None


def _scales(tensor: Any) -> Any:
    """A tensor's scales: none where it is not quantized, one, or one a channel."""
    quantization = tensor.quantization
    return quantization.scale if quantization is not None and quantization.scale is not None else ()


def _weight(tensor: Any, shape: tuple[int, ...], values: np.ndarray) -> Weight:
    axis = tensor.quantization.quantizedDimension if len(_scales(tensor)) > 1 else 0
    rows = np.moveaxis(values, axis, 0).reshape(shape[axis], -1)
    return Weight(
        name=_text(tensor.name),
        shape=shape,
        dtype=str(values.dtype),
        size=values.size,
        sparsity=float((values == 0).mean()) if values.size else 0.0,
        distinct=len(np.unique(values)),
        distinct_per_channel=max(len(np.unique(row)) for row in rows),
        values=values,
    )


def _end(tensor: Any, dtype: Any) -> dict[str, Any]:
    """An input or output, as a person who feeds it must know it."""
    quantization = tensor.quantization
    scale = _scales(tensor)
    zero = quantization.zeroPoint if quantization is not None else None
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else ()
    return {
        "name": _text(tensor.name),
        "open_axes": [i for i, d in enumerate(signature) if d < 0 and i > 0],
        "shape": [int(d) for d in (tensor.shape if tensor.shape is not None else [])],
        "dtype": dtype(tensor).lower(),
        "scale": float(scale[0]) if len(scale) else None,
        "zero_point": int(zero[0]) if zero is not None and len(zero) else None,
    }


def prove(contents: Contents, recipe: Recipe, reports: Sequence[Mapping[str, Any]]) -> None:
    """Check that the file is what its recipe says.

    Args:
        contents: of the file.
        recipe: that it was made by.
        reports: of its training stages, in order: what each touched.

    Raises:
        CandidateFailed: naming the first technique that did not take.
    """
    if not contents.finite:
        raise CandidateFailed("proof", "the file holds NaN or infinite weights")
    _prove_scheme(contents, recipe.scheme)
    by_stage = {report["stage"]: report for report in reports}
    if recipe.channels is not None:
        _matches(contents, by_stage["channels"]["touched"])  # kernels of the smaller shape
    if recipe.prune is not None:
        _prove_sparsity(contents, by_stage["prune"], recipe)
    if recipe.cluster is not None:
        _prove_clusters(contents, by_stage["cluster"], reports, recipe)


def _prove_scheme(contents: Contents, scheme: str) -> None:
    total = sum(w.size for w in contents.weights)
    shares = {dtype: sum(w.size for w in contents.weights if w.dtype == dtype) / total for dtype in
              ("float32", "float16", "int8")} if total else {}  # fmt: skip
    expected = {"float32": "float32", "float16": "float16"}.get(scheme, "int8")
    if total and shares[expected] < 0.5:
        found = ", ".join(f"{share:.0%} {dtype}" for dtype, share in shares.items() if share)
        raise CandidateFailed("proof", f"{scheme} did not take: of the weights are {found or 'none known'}")
    if SCHEMES[scheme].integer and contents.integer_share < 0.5:
        islands = ", ".join(contents.float_islands)
        raise CandidateFailed(
            "proof",
            f"{scheme} did not take: only {contents.integer_share:.0%} of the operators are integer ({islands})",
        )
    ran = {dtype: contents.activations.get(dtype, 0) for dtype in ("float32", "int8", "int16")}
    wanted = "float32" if not SCHEMES[scheme].integer else "int16" if scheme == "int16x8" else "int8"
    if 2 * ran[wanted] < sum(ran.values()):
        most = max(ran, key=lambda dtype: ran[dtype])
        raise CandidateFailed("proof", f"{scheme} did not take: most operators compute in {most}, not {wanted}")
    for end in (*contents.inputs, *contents.outputs):
        if SCHEMES[scheme].integer_io and end["dtype"] != "int8":
            raise CandidateFailed("proof", f"{scheme} did not take: {end['name']} is {end['dtype']}, not int8")
        if not SCHEMES[scheme].integer_io and end["dtype"] == "int8":
            raise CandidateFailed("proof", f"{scheme} did not take: {end['name']} is int8, not float32")


def _matches(contents: Contents, touched: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[Weight]]]:
    """Pair each touched kernel with the file's tensors of the same dimensions, in any order.

    The converter renames and transposes, so dimensions are what identifies a kernel; where several
    kernels share them, each must find one that satisfies it.
    """
    by_shape: dict[tuple[int, ...], list[Weight]] = defaultdict(list)
    for weight in contents.weights:
        by_shape[_dimensions(weight.shape)].append(weight)
    pairs = []
    for kernel in touched:
        found = by_shape.get(_dimensions(kernel["shape"]), [])
        if not found:
            raise CandidateFailed("proof", f"the kernel of {kernel['layer']} ({kernel['shape']}) is not in the file")
        pairs.append((kernel, found))
    return pairs


def _dimensions(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(d for d in shape if d > 1))


def _prove_sparsity(contents: Contents, report: Mapping[str, Any], recipe: Recipe) -> None:
    assert recipe.prune is not None
    kind, most, of = parse_structure(recipe.prune.structure)
    each = kind == "unstructured" and recipe.prune.allocation == "uniform"
    if kind == "unstructured" and not each:
        _prove_overall_sparsity(report["touched"], recipe.prune)
    used: Counter[str] = Counter()
    for kernel, found in sorted(_matches(contents, report["touched"]), key=lambda pair: -pair[0]["sparsity"]):
        if each and kernel["sparsity"] < recipe.prune.sparsity - _granularity(kernel["shape"]):
            raise CandidateFailed(
                "proof",
                f"pruning did not reach {recipe.prune.sparsity:.1%} in {kernel['layer']}: {kernel['sparsity']:.1%}",
            )
        free = [w for w in found if not used[w.name]] or found
        best = max(free, key=lambda w: w.sparsity)
        used[best.name] += 1
        if best.sparsity < kernel["sparsity"] - LOST:
            raise CandidateFailed(
                "proof",
                f"sparsity was lost: {kernel['layer']} had {kernel['sparsity']:.1%} zeros, "
                f"the file has {best.sparsity:.1%}",
            )
        if kind == "m_by_n" and not m_by_n_holds(best.values, most, of):
            raise CandidateFailed("proof", f"the {most}:{of} pattern was lost in {kernel['layer']}")


def _prove_overall_sparsity(touched: Sequence[Mapping[str, Any]], prune: Prune) -> None:
    """Check what layers with different shares of zeros have together."""
    sizes = [math.prod(kernel["shape"]) for kernel in touched]
    zeros = sum(kernel["sparsity"] * size for kernel, size in zip(touched, sizes, strict=True))
    # Each kernel's share is exact to one of its weights.
    if zeros + len(sizes) < min(prune.sparsity, MOST_SPARSE) * sum(sizes):
        raise CandidateFailed("proof", f"pruning did not reach {prune.sparsity:.1%}: {zeros / sum(sizes):.1%}")


def _granularity(shape: Sequence[int]) -> float:
    """One weight's share of a kernel (and a little): sparsity can't be more exact than that."""
    return 1.0 / math.prod(shape) + LOST


def m_by_n_holds(values: np.ndarray, most: int, of: int) -> bool:
    """Whether every group of `of` consecutive values along the last axis has at most `most` nonzero.

    Args:
        values: a kernel as TFLite stores it: input channels last.
        most: nonzero values allowed.
        of: group size; the last group of a row may be shorter.
    """
    rows = (values != 0).reshape(-1, values.shape[-1])
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % of)))
    return bool((padded.reshape(len(rows), -1, of).sum(axis=2) <= most).all())


def _prove_kept(clustering: Mapping[str, Any], last: Mapping[str, Any], recipe: Recipe, allowed: int) -> None:
    """Check that a stage's model has the clusters, over whole kernels.

    In the file, the folding of batch normalization and per-channel scales hide a loss.
    """
    assert recipe.cluster is not None
    count = "distinct_per_channel" if recipe.cluster.per_channel else "distinct"
    clustered = {kernel["layer"] for kernel in clustering["touched"]}
    for kernel in last["touched"]:
        if kernel["layer"] in clustered and kernel[count] > allowed:
            raise CandidateFailed(
                "proof",
                f"clusters were lost in {last['stage']}: {kernel['layer']} has {kernel[count]} distinct weights, "
                f"{recipe.cluster.number} were asked for",
            )


def _prove_clusters(
    contents: Contents, report: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], recipe: Recipe
) -> None:
    assert recipe.cluster is not None
    allowed = recipe.cluster.number + (1 if recipe.prune is not None else 0)  # zero may stand beside the centroids
    for later in reports[reports.index(report) :]:
        _prove_kept(report, later, recipe, allowed)
    used: Counter[str] = Counter()
    for kernel, found in sorted(_matches(contents, report["touched"]), key=lambda pair: pair[0]["distinct"]):
        free = [w for w in found if not used[w.name]] or found
        best = min(free, key=lambda w: w.distinct_per_channel)
        used[best.name] += 1
        if best.distinct_per_channel > allowed:
            raise CandidateFailed(
                "proof",
                f"clusters were lost: {kernel['layer']} has {best.distinct_per_channel} distinct weights in one "
                f"channel of the file, {recipe.cluster.number} were asked for",
            )
