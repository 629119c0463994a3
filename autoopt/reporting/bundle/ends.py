"""What goes into a file and comes out of it, as the code for a device must know it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

PLAIN = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
"""The dtypes that code is written for."""
_SAFE = re.compile(r"[A-Za-z0-9_./:-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output of a file.

    Attributes:
        name: in the file's signature, as the study's model has it; empty where the file does not tell one that is safe in code.
        shape: with the batch in front.
        dtype: such as `int8`.
        scale: of the quantization, or 0 where a value stands for itself.
        zero: the zero point.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero: int = 0
    name: str = ""

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
            name=found[0] if (found := _SAFE.fullmatch(str(plain.get("key", "")))) else "",
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

    def real(self, array: np.ndarray) -> np.ndarray:
        """The values that an array of the end's dtype stands for."""
        found: np.ndarray = (array.astype(np.float32) - self.zero) * np.float32(self.scale) if self.scale else array
        return found

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
        outputs: likewise.
        classes: whether the only output holds a score a class; else it is values.
        labels: how many classes have names, in `labels.txt`.
        threshold: over which one output means class 1.
        samples: how many are stored.
        spans: what the stored values of each input lie between, in words; empty if none are stored.
    """

    title: str
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    classes: bool
    labels: int = 0
    threshold: float = 0.5
    samples: int = 0
    spans: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether code can be written for its dtypes."""
        return bool(self.inputs) and all(end.dtype in PLAIN for end in (*self.inputs, *self.outputs))

    @property
    def binary(self) -> bool:
        """Whether one score decides between two classes."""
        return self.classes and self.outputs[0].size == 1

    def doc(self, shapes: Sequence[str]) -> str:
        """A line on what goes in and comes out.

        Args:
            shapes: of the inputs, in words.
        """
        what = "One score a class" if self.classes else "The model's values"
        what += " by output" if len(self.outputs) > 1 else ""
        if len(shapes) > 1:
            shapes = [f"{name} {shape}" for name, shape in zip(names(self.inputs, "input"), shapes, strict=True)]
        stored = f"; stored samples lie between {', '.join(self.spans)}" if self.spans else ""
        return (
            f"{what}, for one item of shape {' and '.join(shapes)} in the values that the model was trained on{stored}."
        )


def names(ends: Sequence[End], kind: str) -> list[str]:
    """What inputs or outputs are called, each differently: their own names, or by number."""
    known = [end.name for end in ends]
    return known if all(known) and len(set(known)) == len(known) else [f"{kind}_{i}" for i in range(len(known))]


def offset(zero: int) -> str:
    """Adds a zero point, or nothing."""
    return f" {'-' if zero < 0 else '+'} {abs(zero)}" if zero else ""
