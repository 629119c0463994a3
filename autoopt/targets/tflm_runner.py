"""Finds the smallest arena for a `.tflite`, and compares outputs with LiteRT's.

On standard input lie the plain file, of as many bytes as the argument says, and the one that goes into flash: the same, or
one with look-up tables. Prints `{"arena_bytes": N, "off_by": D, "same": S}`: N is of the latter, S says whether both give
the very same outputs. D is the largest difference between the outputs of TFLM and of
LiteRT's reference kernels on the same random inputs, 0 if it is within rounding.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 1 << 30
SAMPLES = 4
RELATIVE = 1e-3
"""Of the largest output: float kernels may add up in another order."""
STEPS = 8
"""Of the output's quantization: some kernels round otherwise, and what differs by one step differs by more in
later layers. Weights that TFLM can't find make a difference of a good part of all steps."""


def starts(runtime: Any, file: bytes, arena: int, inputs: Sequence[np.ndarray]) -> bool:
    """Whether the file can be loaded and run on these inputs in an arena of so many bytes.

    Tried in a fork: where an arena is too small for a layer's many channels, the runtime crashes. Without inputs there
    would be anything in the arena, and a table that is looked up has no such row.
    """
    child = os.fork()
    if child == 0:
        try:
            run(runtime, file, arena, inputs)
        except RuntimeError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def run(runtime: Any, file: bytes, arena: int, inputs: Sequence[np.ndarray] = (), outputs: int = 0) -> list[np.ndarray]:
    """One run in TFLM: so many of its outputs."""
    interpreter = runtime.Interpreter.from_bytes(file, arena_size=arena)
    for i, array in enumerate(inputs):
        interpreter.set_input(array, i)
    interpreter.invoke()
    return [interpreter.get_output(i) for i in range(outputs)]


def at_random(interpreter: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Inputs of the shapes and dtypes that LiteRT's interpreter tells.

    Integers of over two bytes are indices as a rule: of rows that every table has, and not 0, which often stands for
    nothing; 0 where no table is looked up.
    """
    arrays, rows = [], fewest_rows(interpreter)
    for detail in interpreter.get_input_details():
        kind, shape = np.dtype(detail["dtype"]), detail["shape"]
        if kind.kind == "f":
            array = rng.random(shape)
        elif kind.kind in "iu" and kind.itemsize <= 2:
            array = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, endpoint=True)
        else:
            array = rng.integers(1, rows, shape) if rows > 1 else np.zeros(shape)
        arrays.append(array.astype(kind))
    return arrays


def operators(interpreter: Any) -> Sequence[Any]:
    """Name, inputs and outputs of each operator, which LiteRT's interpreter gives under no public name."""
    found: Sequence[Any] = interpreter._get_ops_details()
    return found


def fewest_rows(interpreter: Any) -> int:
    """Rows of the smallest table that is looked up; 0 where there is none."""
    shapes = {detail["index"]: detail["shape"] for detail in interpreter.get_tensor_details()}
    lookups = [op["inputs"][0] for op in operators(interpreter) if op["op_name"] == "GATHER"]
    return min((int(shapes[table][0]) for table in lookups if len(shapes[table])), default=0)


def smallest_arena(runtime: Any, file: bytes, inputs: Sequence[np.ndarray]) -> int:
    """By bisection, exact to the byte.

    Args:
        runtime: TFLM's module.
        file: the `.tflite`.
        inputs: that it takes.

    Raises:
        RuntimeError: with the runtime's reason, if the file runs in no arena.
    """
    most = 1 << 14
    while not starts(runtime, file, most, inputs):
        if most >= LARGEST:
            run(runtime, file, LARGEST, inputs)
        most *= 4
    least = 0  # too small
    while most - least > 1:
        middle = (least + most) // 2
        if starts(runtime, file, middle, inputs):
            most = middle
        else:
            least = middle
    return most


def difference(runtime: Any, file: bytes, arena: int) -> float:
    """How far TFLM's outputs are from LiteRT's reference kernels, which share its arithmetic."""
    reference = litert(file)
    details, outputs = reference.get_input_details(), reference.get_output_details()
    rng = np.random.default_rng(0)
    allowed, worst = [STEPS * step(reference, output["index"]) for output in outputs], [0.0] * len(outputs)
    for _ in range(SAMPLES):
        inputs = at_random(reference, rng)
        for detail, array in zip(details, inputs, strict=True):
            reference.set_tensor(detail["index"], array)
        reference.invoke()
        for i, (output, given) in enumerate(zip(outputs, run(runtime, file, arena, inputs, len(outputs)), strict=True)):
            scale = output["quantization"][0] or 1.0  # 0: the output is no integer
            expected = scale * reference.get_tensor(output["index"]).astype(np.float64)
            found = scale * given.astype(np.float64)
            allowed[i] = max(allowed[i], RELATIVE * float(np.nanmax(np.abs(expected), initial=0)))
            worst[i] = float(np.maximum(worst[i], np.abs(found - expected).max()))  # NaN stays NaN
    off = [far for far, limit in zip(worst, allowed, strict=True) if not far <= limit]
    return float(np.max(off, initial=0.0))


def alike(runtime: Any, file: bytes, other: bytes, arena: int) -> bool:
    """Whether two files with the same inputs give the very same outputs in TFLM."""
    reference, rng = litert(file), np.random.default_rng(1)
    outputs = len(reference.get_output_details())
    for _ in range(SAMPLES):
        inputs = at_random(reference, rng)
        one, two = (run(runtime, each, arena, inputs, outputs) for each in (file, other))
        if not all(map(np.array_equal, one, two)):
            return False
    return True


def litert(file: bytes) -> Any:
    """LiteRT's own interpreter with its reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    found = Interpreter(model_content=file, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    found.allocate_tensors()
    return found


def step(interpreter: Any, tensor: int) -> float:
    """The smallest difference between two values of a tensor: of integers, or dequantized from them; else 0."""
    scales = {detail["index"]: detail["quantization"][0] for detail in interpreter.get_tensor_details()}
    for operator in operators(interpreter):
        if operator["op_name"] == "DEQUANTIZE" and tensor in operator["outputs"]:
            return float(scales[operator["inputs"][0]])
    return float(scales[tensor])


if __name__ == "__main__":
    # The runtime says on descriptor 2 why an arena is too small, once a try: only the last word matters.
    from tflite_micro.python.tflite_micro import runtime

    both = sys.stdin.buffer.read()
    file, flashed = both[: int(sys.argv[1])], both[int(sys.argv[1]) :]
    said, quiet = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    zeros: list[np.ndarray] = []
    try:
        zeros = [np.zeros(detail["shape"], detail["dtype"]) for detail in litert(file).get_input_details()]
        arena = smallest_arena(runtime, flashed, zeros)
        answer = {"arena_bytes": arena, "off_by": 0.0, "same": True}
        if flashed == file:
            answer["off_by"] = difference(runtime, file, arena)
        else:
            roomy = 2 * max(arena, smallest_arena(runtime, file, zeros))
            answer["off_by"] = difference(runtime, file, roomy)
            answer["same"] = alike(runtime, file, flashed, roomy)
    except (RuntimeError, ValueError):
        os.dup2(said, 2)
        run(runtime, flashed, 1 << 22, zeros)
        raise
    os.dup2(said, 2)
    print(json.dumps(answer))
