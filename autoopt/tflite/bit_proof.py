"""Proof, from what is inside a `.tflite`, that just those layers have weights of 4 bits that should."""

from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed
from autoopt.tflite.contents import Contents, Weight
from autoopt.tflite.graph import KINDS
from autoopt.tflite.low_bits import ABLE, DENSE, of_layer, share_of


def prove(contents: Contents, how: Quantize) -> None:
    """Check the bits of each layer's weights; those of layers in float are of no concern.

    Args:
        contents: of the file.
        how: says which layers have 4 bits.

    Raises:
        CandidateFailed: naming the first layer that has other bits than it should.
    """
    integer = [w for w in contents.weights if w.dtype != "float32" and not set(w.ops).isdisjoint(KINDS)]
    _prove_names(integer, how)
    named = {id(weight): bits for layer, bits in how.layers.items() for weight in of_layer(layer, integer)}
    free = []
    for weight in integer:
        bits = named.get(id(weight), _usual(weight, how)) if set(weight.ops) & set(ABLE) else 8
        if bits is None:
            free.append(weight)
        elif weight.dtype != f"int{bits}":
            raise CandidateFailed("proof", f"int{bits} did not take: {weight.name} is {weight.dtype}")
    if how.int4_dense and how.bits_alone() == Quantize() and not any(w.dtype == "int4" for w in integer):
        raise CandidateFailed("proof", "int4 did not take: no fully connected layer has it")
    _prove_share([w for w in integer if _able(w)], free, how)


def _prove_names(integer: list[Weight], how: Quantize) -> None:
    for layer in how.layers:
        if not of_layer(layer, integer):
            raise CandidateFailed("proof", f"bits_by_layer did not take: no weights in integers are of {layer}")


def _usual(weight: Weight, how: Quantize) -> int | None:
    """The bits that weights must have whose layer is not named; None where the share decides."""
    if how.int4_dense and DENSE in weight.ops:
        return 4
    return None if how.int4_share and _able(weight) else 8


def _able(weight: Weight) -> bool:
    """Whether a share of weights in 4 bits counts it; see `low_bits.Kernel`."""
    return not set(weight.ops).isdisjoint(ABLE) and not (weight.first and "CONV_2D" in weight.ops)


def _prove_share(every: list[Weight], free: list[Weight], how: Quantize) -> None:
    """Check that weights of 4 bits hold the share asked for, and that none of their layers was more than needed."""
    wanted = share_of(how, sum(w.size for w in every))
    most = min(wanted, sum(w.size for w in every if w.dtype == "int4" or w in free))
    found = sum(w.size for w in every if w.dtype == "int4")
    largest = max((w.size for w in free if w.dtype == "int4"), default=0)
    if found < most or (largest and found - largest >= wanted):
        share = found / max(sum(w.size for w in every), 1)
        raise CandidateFailed(
            "proof", f"int4 did not take: {share:.1%} of the weights have it, {how.int4_share:.1%} were asked for"
        )
    if how.int4_share and not found:
        raise CandidateFailed("proof", "int4 did not take: no layer can have it")
