"""Proof that a `.tflite` holds the very levels that were trained: it is by counts that they are compared."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.tflite.contents import Weight
from autoopt.tflite.graph import KINDS

LEVELS_OF_4_BITS = 15
"""So many, with as many on both sides of zero, weights of 4 bits hold; finer kernels are rounded where a recipe asks for 4 bits."""


def prove(
    pairs: Sequence[tuple[Mapping[str, Any], Sequence[Weight]]], scheme: str, normalized: Collection[str]
) -> None:
    """Check that every trained kernel is in the file, with as many weights on each level as were trained.

    Where the file can't hold the levels themselves (in half precision, int16x8, 4 bits for more of them, behind a normalization
    that was not folded, with a step for each channel), no channel of it may have more distinct weights than there are levels.

    Args:
        pairs: each kernel as the stage tells of it, and the tensors of the file with its dimensions.
        scheme: of the file.
        normalized: layers that batch normalization follows in the trained model.

    Raises:
        CandidateFailed: naming the first kernel that is not there.
    """
    used: Counter[str] = Counter()
    for kernel, found in sorted(pairs, key=lambda pair: int(pair[0]["number"])):
        exactly = scheme != "int16x8" and kernel["steps"] == 1 and kernel["layer"] not in normalized
        fit = [w for w in found if _holds(w, kernel, exactly=exactly)]
        free = [w for w in fit if not used[w.name]] or fit
        if not free:
            most = min(w.distinct_per_channel for w in found)
            raise CandidateFailed(
                "proof",
                f"levels were lost: {kernel['layer']} was trained on {kernel['number']}, "
                f"the file has other weights ({most} distinct ones in one channel)",
            )
        used[free[0].name] += 1


def _holds(weight: Weight, kernel: Mapping[str, Any], *, exactly: bool) -> bool:
    """Whether a tensor can be a trained kernel."""
    whole = weight.dtype == "int8" or (weight.dtype == "int4" and kernel["number"] <= LEVELS_OF_4_BITS)
    if exactly and whole and not set(weight.ops).isdisjoint(KINDS):
        return counts(weight.values) == counts_told(kernel["counts"])
    return weight.distinct_per_channel <= int(kernel["number"])


def counts(values: np.ndarray) -> dict[int, int]:
    """How often each whole number occurs, in units of their greatest common divisor."""
    levels, numbers = np.unique(values.astype(np.int64), return_counts=True)
    return _reduced(dict(zip(levels.tolist(), numbers.tolist(), strict=True)))


def counts_told(told: Mapping[str, int]) -> dict[int, int]:
    """The same of a stage's report."""
    return _reduced({int(level): number for level, number in told.items()})


def _reduced(found: dict[int, int]) -> dict[int, int]:
    unit = math.gcd(*found) or 1
    return {level // unit: number for level, number in found.items()}
