"""The shapes and types of a model's inputs: a `.tflite` is made for fixed sizes, and for numbers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoopt.errors import ConfigError

TEXT_LAYERS = ("TextVectorization", "StringLookup", "Hashing")
"""Layers that make token ids of text."""


def parse(text: str) -> tuple[int, ...]:
    """The sizes in `224x224` or `128`; none in an empty text.

    Raises:
        ConfigError: for any other text.
    """
    if not text:
        return ()
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text.strip().lower()):
        raise ConfigError(f"input size: expected HxW such as 224x224, or one length such as 128, got {text!r}")
    return tuple(int(size) for size in text.strip().lower().split("x"))


def filled(shape: Sequence[int | None], sizes: Sequence[int], where: str) -> tuple[int | None, ...]:
    """A shape with its open axes closed; the first one is the batch's and stays.

    Args:
        shape: of an input; None where an axis is open.
        sizes: of the open axes, in their order; none leaves them open.
        where: for messages.

    Raises:
        ConfigError: if there are more or fewer open axes.
    """
    batch, *axes = shape
    places = [place for place, size in enumerate(axes) if size is None]
    if not sizes or not places:
        return (batch, *axes)
    if len(places) != len(sizes):
        raise ConfigError(
            f"{where}: input_size: {len(sizes)} sizes were given, but the input {_shown(shape)} leaves {len(places)} open"
        )
    for place, size in zip(places, sizes, strict=True):
        axes[place] = size
    return (batch, *axes)


def expect_sizes(sizes: Any, where: str) -> tuple[int, ...]:
    """Sizes that a user gave, as a tuple of whole numbers over 0.

    Raises:
        ConfigError: if they are anything else.
    """
    given = (sizes,) if isinstance(sizes, int) else sizes
    if not isinstance(given, tuple | list) or any(
        not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in given
    ):
        raise ConfigError(f"{where}: input_size: expected sizes such as (224, 224), got {sizes!r}")
    return tuple(given)


def expect_fixed(model: Any, where: str) -> Any:
    """The model, if its inputs leave no axis open but the batch.

    Raises:
        ConfigError: naming the inputs that do, and what to do.
    """
    for end in getattr(model, "inputs", None) or []:
        count = sum(size is None for size in tuple(end.shape)[1:])
        if count:
            example = (224,) * count if count > 1 else (128,)
            option = "x".join(map(str, example))
            raise ConfigError(
                f"{where}: model: expected fixed input shapes (only the batch may vary), got {end.name} {_shown(end.shape)}; "
                f"say for which size to make it, such as input_size={example} (init: --input-size {option})"
            )
    return model


def expect_numbers(model: Any, where: str) -> None:
    """Check that a model's inputs are numbers.

    Raises:
        ConfigError: naming the input, and the layer to cut off where it takes text.
    """
    for end in getattr(model, "inputs", None) or []:
        kind = str(getattr(end.dtype, "name", end.dtype))
        if kind in ("string", "bytes"):
            layers = [layer for layer in getattr(model, "layers", ()) if type(layer).__name__ in TEXT_LAYERS]
            raise ConfigError(f"{where}: model: {text_advice(end.name, layers[0].name if layers else '')}")
        if np.dtype(kind).kind not in "fiub":
            raise ConfigError(f"{where}: model: the input {end.name} is {kind}; expected real numbers")


def text_advice(name: str, layer: str) -> str:
    """What to do about an input that takes text.

    Args:
        name: of the input.
        layer: the name of the layer that makes token ids of it, or ``.
    """
    cut = f"the layer {layer}" if layer else "the layers that split and look up text"
    return (
        f"the input {name} takes text, which the runtimes here don't: cut off {cut}, have the model begin with "
        "token ids (an Input of int32), and give the data as token ids too"
    )


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join(map(str, tuple(shape)))})"
