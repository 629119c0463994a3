"""Which layers suffer most from quantization, so that they can stay in float."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.models.task import Inputs
from autoopt.tflite.graph import Graph, Layer, floating
from autoopt.tflite.interpreter import outputs_of

ITEMS = 64
"""Of the calibration set, that layers are compared on: the file is run once for each layer."""


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Signal to quantization noise, in dB.

    Args:
        expected: outputs in float.
        found: of the same shape, with the noise.
    """
    noise = float(np.square(found.astype(np.float64) - expected).mean())
    signal = float(np.square(expected.astype(np.float64)).mean())
    return 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def kept(
    file: bytes,
    how: Quantize,
    made: Callable[[Sequence[int]], bytes],
    inputs: Inputs,
    threads: int,
    named: Collection[int] = (),
) -> list[int]:
    """The operators that stay in float.

    For each layer, a file is made in which it alone stays in float; the nearer its outputs come to the float
    file's, the more the layer's quantization costs. That was nearer to what people get than layers quantized
    one at a time, whose errors do not add up. litert-quantizer's `validate()` is of no use here: the error
    that it tells at a layer is that of all layers before it too, so the last ones always look worst.

    Args:
        file: the float32 `.tflite`.
        how: says how many.
        made: makes the quantized file with the operators at these places of the graph in float.
        inputs: the calibration set, by input name, each of shape (items, ...).
        threads: of the interpreter.
        named: places of layers whose bits are given, which are not chosen.

    Returns:
        their places in the graph.

    Raises:
        CandidateFailed: if nothing would be left to quantize.
    """
    graph = Graph(file)
    layers = graph.layers()
    chosen = [layers[0], layers[-1]] if how.keep_ends and layers else []
    others = [layer for layer in layers if layer not in chosen and layer.place not in named]
    if how.keep >= len(others):
        ends = " and its ends" if how.keep_ends else ""
        raise CandidateFailed(
            "quantize",
            f"the model has {len(layers)} layers with weights: with {how.keep} of them{ends} in float none is left",
        )
    if how.keep:
        some = {name: array[:ITEMS] for name, array in inputs.items()}
        expected = outputs_of(file, some, threads)
        gained = {
            layer.place: sqnr_db(expected, outputs_of(made(_all(graph, [*chosen, layer])), some, threads))
            for layer in others
        }
        chosen += sorted(others, key=lambda layer: -gained[layer.place])[: how.keep]
    return _all(graph, chosen)


def _all(graph: Graph, layers: Sequence[Layer]) -> list[int]:
    """The places of these layers and of what belongs to them."""
    return [*(layer.place for layer in layers), *floating(graph, layers)]
