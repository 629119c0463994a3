"""Proof, from what is inside a `.tflite`, that each technique asked for really took."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_RANGES, SCHEMES
from autoopt.core.stage_settings import MOST_SPARSE, Prune, Quantize, parse_structure
from autoopt.errors import CandidateFailed
from autoopt.tflite import bit_proof, learned_levels
from autoopt.tflite.contents import Contents, Weight
from autoopt.tflite.graph import KINDS

HOLDING = (
    *KINDS, "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE", "BATCH_MATMUL", "GATHER", "EMBEDDING_LOOKUP", "DEQUANTIZE",
    "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN", "SVDF",
)  # fmt: skip
"""Operators that read weights; other constants, such as what is added to an image, no scheme is about."""
AS_ACTIVATIONS = {"GATHER", "BATCH_MATMUL"}
"""Operators whose constants have 16 bits in int16x8, as what flows has."""
INDICES = ("int32", "int64", "bool")
LOST = 0.005
"""Sparsity may fall by this much on the way into the file: rounding, never a lost mask."""


def prove(
    contents: Contents, recipe: Recipe, reports: Sequence[Mapping[str, Any]], normalized: Collection[str] = ()
) -> None:
    """Check that the file is what its recipe says.

    Args:
        contents: of the file.
        recipe: that it was made by.
        reports: of its training stages, in order: what each touched.
        normalized: layers that batch normalization follows, so that each channel of the file has a factor of its own.

    Raises:
        CandidateFailed: naming the first technique that did not take.
    """
    if not contents.finite:
        raise CandidateFailed("proof", "the file holds NaN or infinite weights")
    _prove_scheme(contents, recipe.scheme, recipe.quantize or Quantize())
    if recipe.quantize is not None:
        if recipe.scheme in BY_RANGES:
            _prove_quantize(contents, recipe.quantize, own_steps=recipe.levels is not None)
        bit_proof.prove(contents, recipe.scheme, recipe.quantize)
    by_stage = {report["stage"]: report for report in reports}
    if recipe.channels is not None:
        _matches(contents, by_stage["channels"]["touched"])  # kernels of the smaller shape
    if recipe.prune is not None:
        _prove_sparsity(contents, by_stage["prune"], recipe)
    if recipe.cluster is not None:
        _prove_clusters(contents, by_stage["cluster"], reports, recipe, normalized)
    if recipe.levels is not None:
        learned_levels.prove(_matches(contents, by_stage["levels"]["levels"]), recipe.scheme, normalized)


def _prove_scheme(contents: Contents, scheme: str, how: Quantize) -> None:
    allowed = bool(how.keep or how.keep_ends)  # how many is for `_prove_quantize` to say
    holding = [w for w in contents.weights if not set(w.ops).isdisjoint(HOLDING)]
    if not holding and scheme in ("float16", "dynamic"):
        raise CandidateFailed("proof", f"{scheme} did not take: the file has no weights that it stores in another way")
    weights = [w for w in holding if not (allowed and _in_float(w))]
    kept = contents.kept if allowed else 0
    total = sum(w.size for w in weights)
    shares = {dtype: sum(w.size for w in weights if w.dtype == dtype) / total for dtype in
              ("float32", "float16", "int8", "int4", "int16")} if total else {}  # fmt: skip
    expected = [{"float32": "float32", "float16": "float16"}.get(scheme, "int8"), *(["int4"] if how.int4 else [])]
    tables = sum(w.size for w in weights if scheme == "int16x8" and w.dtype == "int16" and set(w.ops) <= AS_ACTIVATIONS)
    if total and sum(shares[dtype] for dtype in expected) + tables / total < 0.5:
        found = ", ".join(f"{share:.0%} {dtype}" for dtype, share in shares.items() if share)
        raise CandidateFailed("proof", f"{scheme} did not take: of the weights are {found or 'none known'}")
    computing, islands = sum(contents.activations.values()), sum(contents.float_islands.values())
    share = (computing - islands) / max(computing - kept, 1)
    if SCHEMES[scheme].integer and share < 0.5:
        raise CandidateFailed(
            "proof",
            f"{scheme} did not take: only {share:.0%} of the operators are integer ({', '.join(contents.float_islands)})",
        )
    ran = {dtype: contents.activations.get(dtype, 0) for dtype in ("float32", "int8", "int16")}
    ran["float32"] -= kept
    for weight in holding:
        if set(weight.ops) == {"GATHER"} and weight.dtype in ran:  # rows come out as they are stored
            ran[weight.dtype] -= len(weight.ops)
    wanted = "float32" if not SCHEMES[scheme].integer else "int16" if scheme == "int16x8" else "int8"
    if 2 * ran[wanted] < sum(ran.values()):
        most = max(ran, key=lambda dtype: ran[dtype])
        raise CandidateFailed("proof", f"{scheme} did not take: most operators compute in {most}, not {wanted}")
    _prove_ends(contents, scheme)


def _prove_ends(contents: Contents, scheme: str) -> None:
    """Check the dtypes of inputs and outputs, and that integers tell what they stand for."""
    io = SCHEMES[scheme].io
    for end in (*contents.inputs, *contents.outputs):
        # Indices, such as those of words, are integers of another kind in every scheme.
        if io != "float32" and end["dtype"] not in (io, *INDICES):
            raise CandidateFailed("proof", f"{scheme} did not take: {end['name']} is {end['dtype']}, not {io}")
        # A model may take bytes that stand for themselves; what it computes has a scale.
        if io == "float32" and (end["dtype"] == "int8" or (end["dtype"] == "uint8" and end["scale"] is not None)):
            raise CandidateFailed("proof", f"{scheme} did not take: {end['name']} is {end['dtype']}, not float32")
        if io == "uint8" and end["dtype"] == io and end["scale"] is None and end in contents.outputs:
            raise CandidateFailed("proof", f"{scheme} did not take: {end['name']} is uint8 without a scale")


def _in_float(weight: Weight) -> bool:
    """Whether it is a layer's kernel in float."""
    return weight.dtype == "float32" and not set(weight.ops).isdisjoint(KINDS)


def _prove_quantize(contents: Contents, how: Quantize, *, own_steps: bool) -> None:
    """Check what shows in the file: ranges, equalization and corrected biases are other numbers in the same places."""
    layers = [(w, op) for w in contents.weights for op in w.ops if op in KINDS]
    found, asked = sum(w.dtype == "float32" for w, _ in layers), how.keep + (2 if how.keep_ends else 0)
    if found != asked:
        raise CandidateFailed("proof", f"layers in float: {asked} were asked for, the file has {found}")
    integer = [(w, op) for w, op in layers if w.dtype != "float32"]
    if how.granularity == "tensor" and not own_steps and (several := [w.name for w, _ in integer if w.scales != 1]):
        raise CandidateFailed("proof", f"one scale per tensor did not take: {several[0]} has one a channel")


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
        shapes = [kernel["shape"], *_flattened(kernel["shape"])]
        found = next((by_shape[_dimensions(shape)] for shape in shapes if _dimensions(shape) in by_shape), [])
        if not found:
            raise CandidateFailed("proof", f"the kernel of {kernel['layer']} ({kernel['shape']}) is not in the file")
        pairs.append((kernel, found))
    return pairs


def _dimensions(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(d for d in shape if d > 1))


def _flattened(shape: Sequence[int]) -> list[list[int]]:
    """What the converter makes of a kernel with an axis for heads (attention, `EinsumDense`): two dimensions."""
    return (
        [[math.prod(shape[:at]), math.prod(shape[at:])] for at in range(len(shape) - 1, 0, -1)]
        if len(shape) == 3
        else []
    )


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
    clustered = {(kernel["layer"], *kernel["shape"]) for kernel in clustering["touched"]}
    for kernel in last["touched"]:
        if (kernel["layer"], *kernel["shape"]) in clustered and kernel[count] > allowed:
            raise CandidateFailed(
                "proof",
                f"clusters were lost in {last['stage']}: {kernel['layer']} has {kernel[count]} distinct weights, "
                f"{recipe.cluster.number} were asked for",
            )


def _prove_clusters(
    contents: Contents,
    report: Mapping[str, Any],
    reports: Sequence[Mapping[str, Any]],
    recipe: Recipe,
    normalized: Collection[str],
) -> None:
    assert recipe.cluster is not None
    per_tensor = recipe.quantize is not None and recipe.quantize.granularity == "tensor"
    allowed = recipe.cluster.number + (1 if recipe.prune is not None else 0)  # zero may stand beside the centroids
    for later in reports[reports.index(report) :]:
        _prove_kept(report, later, recipe, allowed)
    used: Counter[str] = Counter()
    for kernel, found in sorted(_matches(contents, report["touched"]), key=lambda pair: pair[0]["distinct"]):
        free = [w for w in found if not used[w.name]] or found
        # One scale keeps equal weights of all channels equal, where nothing else sets channels apart.
        whole = per_tensor and not recipe.cluster.per_channel and kernel["layer"] not in normalized
        count, where = ("distinct", "") if whole else ("distinct_per_channel", "one channel of ")
        best = min(free, key=lambda w: int(getattr(w, count)))
        used[best.name] += 1
        if getattr(best, count) > allowed:
            raise CandidateFailed(
                "proof",
                f"clusters were lost: {kernel['layer']} has {getattr(best, count)} distinct weights in {where}"
                f"the file, {recipe.cluster.number} were asked for",
            )
