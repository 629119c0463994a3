"""Runs a `.tflite` over data with the LiteRT interpreter, in batches."""

import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed, one_line
from autoopt.models import file_ends
from autoopt.models.task import Inputs, side_by_side

BATCH = 32
MOST_BYTES = 1 << 26
"""Of outputs that are computed at a time; of large maps those are fewer than `BATCH`."""


def compressed_bytes(file: bytes) -> int:
    """What a download weighs: bytes after `gzip -9`."""
    return len(gzip.compress(file, 9, mtime=0))


def outputs_of(file: bytes, inputs: Inputs, threads: int, names: Sequence[str] = ()) -> np.ndarray:
    """Run a `.tflite` over data with the LiteRT interpreter, in batches.

    Args:
        file: the `.tflite`.
        inputs: by input name, each of shape (items, ...).
        threads: of the interpreter.
        names: of the outputs, in the order in which they are wanted; by default the file's own.

    Returns:
        the output as float32, shape (items, ...), several ones side by side; integers are scaled back.

    Raises:
        CandidateFailed: if the runtime can't run the file.
    """
    return np.concatenate(list(outputs_in_parts(file, inputs, threads, names)))


def outputs_in_parts(file: bytes, inputs: Inputs, threads: int, names: Sequence[str] = ()) -> Iterator[np.ndarray]:
    """Run a `.tflite` over data, as `outputs_of` does, without holding all that it gives.

    Args:
        file: the `.tflite`.
        inputs: by input name, each of shape (items, ...).
        threads: of the interpreter.
        names: of the outputs, in the order in which they are wanted; by default the file's own.

    Yields:
        in the order of the items the output of some of them, as float32, shape (some items, ...).

    Raises:
        CandidateFailed: if the runtime can't run the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    done = 0
    for most in (BATCH, 1):  # some graphs fix the batch, in a Reshape for instance
        try:
            interpreter = Interpreter(model_content=file, num_threads=threads)
            for part in _run(interpreter, inputs, done, most, names):
                done += len(part)
                yield part
            return
        except (RuntimeError, ValueError) as error:
            if isinstance(error, ValueError) or most == 1:
                raise CandidateFailed("accuracy", f"LiteRT can't run the file: {one_line(error, 300)}") from error


def items_at_once(details: Iterable[Any], most: int) -> int:
    """How many items a file is to be given at once.

    A file that is made for one item at a time may be given more and says nothing, but computes with the first alone.

    Args:
        details: of its inputs, as the interpreter tells them.
        most: that are wanted at once.
    """
    fixed = any(len(detail["shape_signature"]) and detail["shape_signature"][0] == 1 for detail in details)
    return 1 if fixed else most


def _run(interpreter: Any, inputs: Inputs, done: int, most: int, names: Sequence[str]) -> Iterator[np.ndarray]:
    """What a file gives for the items behind those that are done, at most so many at a time."""
    details = input_details(interpreter, inputs)
    outputs = output_details(interpreter, names)
    batch = items_at_once(interpreter.get_input_details(), most)
    values = sum(math.prod(output["shape"][1:]) for output in outputs)
    batch = max(1, min(batch, MOST_BYTES // max(1, 4 * int(values))))
    n, size = len(next(iter(inputs.values()))), 0
    for start in range(done, n, batch):
        stop = min(start + batch, n)
        if stop - start != size:
            size = stop - start
            for name, detail in details.items():
                interpreter.resize_tensor_input(detail["index"], [size, *inputs[name].shape[1:]])
            interpreter.allocate_tensors()
        for name, detail in details.items():
            interpreter.set_tensor(detail["index"], quantize(inputs[name][start:stop], detail))
        interpreter.reset_all_variables()  # what a recurrent layer remembers is of the items before
        interpreter.invoke()
        yield side_by_side([dequantize(interpreter.get_tensor(output["index"]), output) for output in outputs])


def input_details(interpreter: Any, inputs: Inputs) -> dict[str, Any]:
    """The interpreter's input details by the task's input names.

    Files from Keras carry the names in their signature; without one, order decides.
    """
    signatures = file_ends.signatures(interpreter)
    if len(signatures) == 1:
        found = file_ends.of_signature(interpreter, signatures[0]).inputs
        if set(found) == set(inputs):
            return found
    return dict(zip(inputs, interpreter.get_input_details(), strict=True))


def output_details(interpreter: Any, names: Sequence[str] = ()) -> list[Any]:
    """The interpreter's output details in the order of these names; in the file's where none are given.

    Raises:
        ValueError: if the file's outputs have other names.
    """
    details = list(interpreter.get_output_details())
    if len(names) < 2:
        return details
    signatures = file_ends.signatures(interpreter)
    found = file_ends.of_signature(interpreter, signatures[0]).outputs if signatures else {}
    if set(found) != set(names):
        raise ValueError(f"its outputs are named {', '.join(found) or 'nothing'}, not {', '.join(names)}")
    return [found[name] for name in names]


def quantize(array: np.ndarray, detail: Any) -> np.ndarray:
    """Values in the dtype of a tensor, by its scale and zero point if it is quantized."""
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if scale and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        quantized: np.ndarray = np.clip(np.round(array / scale + zero), limits.min, limits.max).astype(dtype)
        return quantized
    return array.astype(dtype)


def dequantize(array: np.ndarray, detail: Any) -> np.ndarray:
    """Values of a tensor as float32."""
    scale, zero = detail["quantization"]
    values: np.ndarray = array.astype(np.float32)
    if scale and array.dtype.kind in "iu":
        values = (values - zero) * np.float32(scale)
    return values
