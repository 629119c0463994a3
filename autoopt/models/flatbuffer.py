"""The flatbuffer that a `.tflite` is, as objects to look through and change, and written back."""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed

IDENTIFIER = b"TFL3"
"""Stands at the fifth byte of every `.tflite`."""


class Damaged(CandidateFailed):
    """A file is no `.tflite`, or is not whole."""


def parse(file: bytes, stage: str) -> Any:
    """Read a `.tflite` into LiteRT's own objects.

    Args:
        file: the `.tflite`.
        stage: the job that reads it, for messages.

    Returns:
        LiteRT's `ModelT`, which has a graph, and whose constants all lie inside the file.

    Raises:
        Damaged: if the bytes are foreign, truncated or damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    if file[4:8] != IDENTIFIER:
        raise Damaged(stage, "not a .tflite file (its identifier is missing)")
    with reading(stage):
        model = schema.ModelT.InitFromPackedBuf(file, 0)
        _expect_whole(model, len(file))
        return model


@contextlib.contextmanager
def reading(stage: str) -> Iterator[None]:
    """Say in one line that a file is damaged, where looking through it raises what sound ones never do.

    Args:
        stage: the job that reads the file, for messages.

    Raises:
        Damaged: if the file is truncated or damaged.
    """
    try:
        yield
    except struct.error as error:  # a number would lie behind the end
        raise Damaged(stage, "the .tflite is truncated") from error
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise Damaged(stage, f"the .tflite is damaged: {type(error).__name__} while reading it") from error


def pack(model: Any) -> bytes:
    """The `.tflite` of LiteRT's objects."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def outside(buffer: Any) -> bool:
    """Whether a constant lies behind the flatbuffer, where large ones may be, named by offset and size."""
    return bool(buffer.offset > 1)


def data(buffer: Any, file: bytes) -> np.ndarray | None:
    """The bytes of a constant, wherever in its file they lie.

    Args:
        buffer: of a model that `parse` made.
        file: what it was made of.

    Returns:
        shape (bytes,), dtype uint8; None where the buffer is empty, as those of tensors that are computed are.
    """
    if buffer.data is not None and len(buffer.data):
        return np.ascontiguousarray(np.asarray(buffer.data, dtype=np.uint8))
    return np.frombuffer(file, np.uint8, buffer.size, buffer.offset) if outside(buffer) else None


def _expect_whole(model: Any, size: int) -> None:
    """Check that there is a graph, and that the constants behind the flatbuffer end inside the file."""
    if not model.subgraphs:
        raise ValueError("there is no graph")
    if any(outside(buffer) and buffer.offset + buffer.size > size for buffer in model.buffers or ()):
        raise ValueError("a constant lies behind the end of the file")
