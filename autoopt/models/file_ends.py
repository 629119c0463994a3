"""Inputs and outputs of a `.tflite` by their names, as LiteRT's interpreter tells of them."""

from typing import Any, NamedTuple

import numpy as np


class End(NamedTuple):
    """An input or output of a model; the first axis is the batch's, and open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Details(NamedTuple):
    """What the interpreter tells of each input and each output, by name."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


def signatures(interpreter: Any) -> list[str]:
    """Names of a file's signatures, of which it may have none."""
    return list(interpreter.get_signature_list())


def of_signature(interpreter: Any, signature: str) -> Details:
    """Inputs and outputs by the names that a signature gives them.

    Args:
        interpreter: with the file.
        signature: one of `signatures`.
    """
    runner = interpreter.get_signature_runner(signature)
    return Details(dict(runner.get_input_details()), dict(runner.get_output_details()))


def named(interpreter: Any) -> Details:
    """Inputs and outputs by the names in the only signature, or by their tensors' where there are none or several."""
    names = signatures(interpreter)
    if len(names) == 1:
        return of_signature(interpreter, names[0])
    sides = (interpreter.get_input_details(), interpreter.get_output_details())
    return Details(*({detail["name"]: detail for detail in side} for side in sides))


def read(file: bytes) -> tuple[list[End], list[End]]:
    """Inputs and outputs of a file, with the names that `named` gives them.

    Raises:
        ValueError: if LiteRT can't read the file.
        RuntimeError: likewise.
    """
    from ai_edge_litert.interpreter import Interpreter

    inputs, outputs = (
        [_end(name, detail) for name, detail in side.items()] for side in named(Interpreter(model_content=file))
    )
    return inputs, outputs


def _end(name: str, detail: Any) -> End:
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return End(name, (None, *(None if size < 0 else int(size) for size in sizes[1:])), np.dtype(detail["dtype"]).name)
