"""What goes into a file and comes out of it, as the code for a device must know it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

PLAIN = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
"""The dtypes that code is written for."""


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output of a file.

    Attributes:
        shape: with the batch in front.
        dtype: such as `int8`.
        scale: of the quantization, or 0 where a value stands for itself.
        zero: the zero point.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero: int = 0

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From what `inspect` found of an input or output."""
        dtype = str(plain["dtype"])
        quantized = bool(plain["scale"]) and dtype in PLAIN and np.dtype(dtype).kind in "iu"
        return cls(
            shape=tuple(plain["shape"]),
            dtype=dtype,
            scale=float(plain["scale"]) if quantized else 0.0,
            zero=int(plain["zero_point"] or 0) if quantized else 0,
        )

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of one item."""
        return self.shape[1:]

    @property
    def size(self) -> int:
        """Values of one item."""
        return math.prod(self.item)

    @property
    def bytes(self) -> int:
        """Bytes of one item."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest value of an integer dtype."""
        found = np.iinfo(self.dtype)
        return int(found.min), int(found.max)

    @property
    def factor(self) -> str:
        """The scale in as few digits as give the same float32 again."""
        return str(np.float32(self.scale))

    def span(self, array: np.ndarray) -> str:
        """What the values that an array stands for lie between, in words."""
        ends = [(float(end) - self.zero) * (self.scale or 1.0) for end in (array.min(), array.max())]
        return " and ".join(f"{end:.4g}" for end in ends)

    @property
    def in_words(self) -> str:
        """The shape of an item for people, such as `28 x 28 x 1`."""
        return " x ".join(map(str, self.item)) or "1"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """How a file is used.

    Attributes:
        title: the candidate in words; escape it.
        inputs: in the file's order.
        output: its only one.
        classes: whether the output holds a score a class; else it is values.
        labels: how many classes have names, in `labels.txt`.
        threshold: over which one output means class 1.
        samples: how many are stored.
        spans: what the stored values of each input lie between, in words; empty if none are stored.
    """

    title: str
    inputs: tuple[End, ...]
    output: End
    classes: bool
    labels: int = 0
    threshold: float = 0.5
    samples: int = 0
    spans: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether code can be written for its dtypes."""
        return bool(self.inputs) and all(end.dtype in PLAIN for end in (*self.inputs, self.output))

    @property
    def binary(self) -> bool:
        """Whether one score decides between two classes."""
        return self.classes and self.output.size == 1

    def doc(self, shapes: str) -> str:
        """A line on what goes in and comes out."""
        what = "One score a class" if self.classes else "The model's values"
        stored = f"; stored samples lie between {', '.join(self.spans)}" if self.spans else ""
        return f"{what}, for one item of shape {shapes} in the values that the model was trained on{stored}."


def offset(zero: int) -> str:
    """Adds a zero point, or nothing."""
    return f" {'-' if zero < 0 else '+'} {abs(zero)}" if zero else ""
