"""Which layers of a `.tflite` have weights of 4 bits, and whether they compute what they should."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from autoopt.core import validation
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.models.task import Inputs, side_by_side
from autoopt.tflite.activation_reader import batches
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import ITEMS, sqnr_db
from autoopt.tflite.packing import in_8_bits, nearest, write

ABLE = ("CONV_2D", "FULLY_CONNECTED")
"""Operators with kernels for weights of 4 bits."""
DENSE = "FULLY_CONNECTED"
LOST_DB = 10.0
"""By so much less like the same file in 8 bits than that is like the float file, the kernels compute something else."""
NOISE_DB = 3.0
"""Outputs further from float than this say next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Weights that one operator reads, or several.

    Attributes:
        name: of the tensor.
        writes: names of what the operators write.
        kind: of the operators, see `graph.KINDS`.
        places: of the operators in the graph.
        size: number of weights.
        first: the model's inputs reach it through no other weights.
    """

    name: str
    writes: tuple[str, ...]
    kind: str
    places: tuple[int, ...]
    size: int
    first: bool

    @property
    def able(self) -> bool:
        """Whether a share of weights in 4 bits may count it."""
        return self.kind in ABLE and not (self.first and self.kind == "CONV_2D")


def kernels(graph: Graph) -> list[Kernel]:
    """The weights of a float graph's layers, each once, in the order in which they are first read."""
    first = set(graph.first())
    found: dict[int, list[int]] = {}
    layers = {layer.place: layer for layer in graph.layers()}
    for place, layer in layers.items():
        found.setdefault(graph.tensors[layer.weights].buffer, []).append(place)
    return [
        Kernel(
            name=graph.name(layers[places[0]].weights),
            writes=tuple(graph.name(layers[place].output) for place in places),
            kind=layers[places[0]].kind,
            places=tuple(places),
            size=math.prod(graph.shape(layers[places[0]].weights)),
            first=not first.isdisjoint(places),
        )
        for places in found.values()
    ]


class Named(Protocol):
    """Weights in a file, with what their names are."""

    @property
    def name(self) -> str:
        """Of the tensor."""

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of what the operators that read it write."""


T = TypeVar("T", bound=Named)


def of_layer(layer: str, every: Iterable[T]) -> list[T]:
    """The weights of a layer, by their names.

    TensorFlow's converter names weights after their layer (`model/conv2d_3/Conv2D`), but for those that several operators
    share: there what these write tells.

    Args:
        layer: its name in the Keras model, or a tensor's whole name.
        every: weights of the file.
    """
    known = list(every)
    return [w for w in known if _says(w.name, layer)] or [
        w for w in known if any(_says(name, layer) for name in w.writes)
    ]


def _says(name: str, layer: str) -> bool:
    """Whether a tensor's name, several of which are joined by `;` where operators were made one, says a layer's."""
    return name == layer or any(f"/{layer}/" in f"/{part}" for part in re.split(r"[;|]", name))


def named(every: Sequence[Kernel], bits: Mapping[str, int]) -> dict[Kernel, int]:
    """Bits of the kernels whose layers are named.

    Args:
        every: the model's kernels.
        bits: by the name of a layer.

    Raises:
        CandidateFailed: for a layer that the file does not have, or that has no kernels for its bits.
    """
    found = {}
    for layer, number in bits.items():
        mine = of_layer(layer, every)
        if not mine:
            known = dict.fromkeys(part for kernel in every for part in kernel.name.split("/")[-2:-1] or [kernel.name])
            raise CandidateFailed(
                "quantize",
                f"bits_by_layer: no layer with weights is named {layer!r}; {validation.nearest(layer, known)}",
            )
        if number == 4 and not any(kernel.kind in ABLE for kernel in mine):
            raise CandidateFailed(
                "quantize",
                f"bits_by_layer: {layer}: no kernel takes 4 bits for {mine[0].kind}, only for {', '.join(ABLE)}",
            )
        # The depthwise half of a separable convolution stays at 8.
        found |= {kernel: number if kernel.kind in ABLE else 8 for kernel in mine}
    return found


def chosen(
    file: bytes,
    how: Quantize,
    floats: Sequence[int],
    made: Callable[[Sequence[int]], bytes],
    inputs: Inputs,
    threads: int,
) -> list[int]:
    """The operators whose weights have 4 bits.

    Layers are named, or dense, or taken for a share of the weights: those first whose 4 bits, alone in a file of 8,
    bring the least noise for each weight, until they hold the share.

    Args:
        file: the float32 `.tflite`.
        how: says which.
        floats: places of operators that stay in float.
        made: makes the quantized file with the operators at these places in 4 bits.
        inputs: the calibration set, by input name, each of shape (items, ...).
        threads: of the interpreter.

    Returns:
        their places in the graph.

    Raises:
        CandidateFailed: if none is left, or a layer is named that the file does not have.
    """
    every = kernels(Graph(file))
    by_name = named(every, how.layers)
    if left := [kernel.name for kernel in by_name if not set(floats).isdisjoint(kernel.places)]:
        raise CandidateFailed(
            "quantize", f"bits_by_layer: {left[0]} is one of the layers that stay in float (keep, keep_ends)"
        )
    whole = [kernel for kernel in every if set(floats).isdisjoint(kernel.places)]
    always = [kernel for kernel in _always(every, how) if kernel in whole]
    free = [kernel for kernel in whole if kernel.able and kernel not in always and kernel not in by_name]
    rest = share_of(how, sum(k.size for k in whole if k.able)) - sum(k.size for k in always if k.able)
    if rest > 0 and sum(kernel.size for kernel in free) > rest:
        free = _cheapest(file, free, rest, _places(always), made, inputs, threads)
    taken = [*always, *(free if rest > 0 else ())]
    if not taken and how.int4:
        which = "fully connected layer" if how.bits_alone() == Quantize() else "layer that can have 4 bits"
        raise CandidateFailed("quantize", f"4 bits did not take: no {which} is left in integers")
    return _places(taken)


def asked(graph: Graph, how: Quantize) -> tuple[list[int], list[int]]:
    """The operators that have 4 bits whatever a share takes, and those whose layers are named: places in the graph."""
    every = kernels(graph)
    return _places(_always(every, how)), _places(list(named(every, how.layers)))


def _always(some: Sequence[Kernel], how: Quantize) -> list[Kernel]:
    """The kernels that have 4 bits for their names or their kind."""
    bits = dict.fromkeys((k for k in some if how.int4_dense and k.kind == DENSE), 4) | named(some, how.layers)
    return [kernel for kernel in some if bits.get(kernel) == 4]


def stored(graph: Graph, file: bytes, places: Sequence[int], how: Quantize) -> bytes:
    """The file with some layers' weights on the nearest grid of 4 bits.

    Args:
        graph: of the float32 file.
        file: made of it, with weights of 8 bits.
        places: of the layers' operators in `graph`.
        how: says whether each channel has a scale of its own.
    """
    apart = how.granularity == "channel"
    numbered = {n: layer for n, layer in enumerate(graph.layers()) if layer.place in places}
    grids = {n: nearest(graph.real(la.weights), la.axis, per_channel=apart) for n, la in numbered.items()}
    return write(file, grids) if grids else file


def share_of(how: Quantize, size: int) -> int:
    """How many weights of those that can have 4 bits shall have them at least, by the share asked for."""
    return math.ceil(round(how.int4_share * size, 6))


def _places(some: Sequence[Kernel]) -> list[int]:
    return sorted(place for kernel in some for place in kernel.places)


def _cheapest(
    file: bytes,
    free: Sequence[Kernel],
    wanted: int,
    always: Sequence[int],
    made: Callable[[Sequence[int]], bytes],
    inputs: Inputs,
    threads: int,
) -> list[Kernel]:
    """The kernels whose 4 bits bring the least noise for each weight, as many as hold the weights that are wanted.

    Args:
        file: in float32.
        free: that may be taken.
        wanted: number of weights.
        always: places of operators that have 4 bits whatever is taken.
        made: as of `chosen`, as `inputs` and `threads` are.
        inputs: the calibration set.
        threads: of the interpreter.
    """
    some = {name: array[:ITEMS] for name, array in inputs.items()}
    expected = outputs_of(file, some, threads)

    def noise(places: Sequence[int]) -> float:
        return float(10 ** (-sqnr_db(expected, outputs_of(made(places), some, threads)) / 10))

    before = noise(always)
    cost = {kernel: max(noise([*always, *kernel.places]) - before, 0.0) / kernel.size for kernel in free}
    taken: list[Kernel] = []
    for kernel in sorted(free, key=lambda kernel: (cost[kernel], -kernel.size)):
        if sum(k.size for k in taken) < wanted:
            taken.append(kernel)
    return taken


def expect_right(file: bytes, made: bytes, inputs: Inputs, threads: int) -> None:
    """Check that layers of 4 bits compute what they should, by two sets of kernels.

    Not every runtime has kernels for them, and one that has none may compute with whatever it reads. What they should
    compute is what the same integers in 8 bits do.

    Args:
        file: in float32.
        made: with weights of 4 bits.
        inputs: the calibration set, by input name, each of shape (items, ...).
        threads: of the interpreter.

    Raises:
        CandidateFailed: if they compute something else.
    """
    some = {name: array[:ITEMS] for name, array in inputs.items()}
    wide, graph = in_8_bits(made), Graph(made)
    expected = outputs_of(wide, some, threads)
    right = max(NOISE_DB, sqnr_db(outputs_of(file, some, threads), expected) - LOST_DB)
    plain = [side_by_side([value(output) for output in graph.outputs]) for value in batches(made, some, threads)]
    found = {"fast": outputs_of(made, some, threads), "plain": np.concatenate(plain)}
    for kind, outputs in found.items():
        if (near := sqnr_db(expected, outputs)) < right and not np.array_equal(outputs, expected):
            raise CandidateFailed(
                "quantize",
                f"4 bits compute something else: the runtime's {kind} kernels are {near:.1f} dB from the same weights in 8",
            )
