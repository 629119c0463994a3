"""Finds the smallest arena for a `.tflite`, and compares outputs with LiteRT's.

On standard input lie the plain file, of as many bytes as the argument says, and the one that goes into flash: the same, or
one with look-up tables. Prints `{"arena_bytes": N, "off_by": D, "same": S}`: N is of the latter, S says whether both give
the very same outputs. D is the largest difference between the first output of TFLM and of
LiteRT's reference kernels on the same random inputs, 0 if it is within rounding.
"""

import json
import os
import sys
from typing import Any

import numpy as np

LARGEST = 1 << 30
SAMPLES = 4
RELATIVE = 1e-3
"""Of the largest output: float kernels may add up in another order."""
STEPS = 8
"""Of the output's quantization: some kernels round otherwise, and what differs by one step differs by more in
later layers. Weights that TFLM can't find make a difference of a good part of all steps."""


def starts(runtime: Any, file: bytes, arena: int) -> bool:
    """Whether the file can be loaded and run in an arena of so many bytes.

    Tried in a fork: where an arena is too small for a layer's many channels, the runtime crashes.
    """
    child = os.fork()
    if child == 0:
        try:
            run(runtime, file, arena, None)
        except RuntimeError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def run(runtime: Any, file: bytes, arena: int, inputs: list[np.ndarray] | None) -> list[np.ndarray]:
    """One run in TFLM; with inputs, its outputs."""
    interpreter = runtime.Interpreter.from_bytes(file, arena_size=arena)
    for i, array in enumerate(inputs or ()):
        interpreter.set_input(array, i)
    interpreter.invoke()
    return [] if inputs is None else [interpreter.get_output(0)]


def smallest_arena(runtime: Any, file: bytes) -> int:
    """By bisection, exact to the byte.

    Raises:
        RuntimeError: with the runtime's reason, if the file runs in no arena.
    """
    most = 1 << 14
    while not starts(runtime, file, most):
        if most >= LARGEST:
            run(runtime, file, LARGEST, None)
        most *= 4
    least = 0  # too small
    while most - least > 1:
        middle = (least + most) // 2
        if starts(runtime, file, middle):
            most = middle
        else:
            least = middle
    return most


def difference(runtime: Any, file: bytes, arena: int) -> float:
    """How far TFLM's outputs are from LiteRT's reference kernels, which share its arithmetic."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    reference = Interpreter(model_content=file, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    output = reference.get_output_details()[0]
    scale = output["quantization"][0] or 1.0  # 0: the output is no integer
    rng = np.random.default_rng(0)
    allowed, worst = STEPS * step(reference, output["index"]), 0.0
    for _ in range(SAMPLES):
        inputs = []
        for detail in reference.get_input_details():
            kind, shape = np.dtype(detail["dtype"]), detail["shape"]
            limits = (-128, 128) if kind == np.int8 else (-(1 << 15), 1 << 15)
            array = rng.random(shape) if kind.kind == "f" else rng.integers(*limits, shape)
            inputs.append(array.astype(kind))
            reference.set_tensor(detail["index"], inputs[-1])
        reference.invoke()
        expected = scale * reference.get_tensor(output["index"]).astype(np.float64)
        found = scale * run(runtime, file, arena, inputs)[0].astype(np.float64)
        allowed = max(allowed, RELATIVE * float(np.nanmax(np.abs(expected), initial=0)))
        worst = float(np.maximum(worst, np.abs(found - expected).max()))  # NaN stays NaN
    return 0.0 if worst <= allowed else worst


def alike(runtime: Any, file: bytes, other: bytes, arena: int) -> bool:
    """Whether two files with the same inputs give the very same outputs in TFLM."""
    details = runtime.Interpreter.from_bytes(file, arena_size=arena).get_input_details(0)
    kind, rng = np.dtype(details["dtype"]), np.random.default_rng(1)
    for _ in range(SAMPLES):
        shape = details["shape"]
        array = (rng.random(shape) if kind.kind == "f" else rng.integers(-128, 128, shape)).astype(kind)
        one, two = (run(runtime, each, arena, [array])[0] for each in (file, other))
        if not np.array_equal(one, two):
            return False
    return True


def step(interpreter: Any, tensor: int) -> float:
    """The smallest difference between two values of a tensor: of integers, or dequantized from them; else 0."""
    scales = {detail["index"]: detail["quantization"][0] for detail in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
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
    try:
        arena = smallest_arena(runtime, flashed)
        answer = {"arena_bytes": arena, "off_by": 0.0, "same": True}
        if flashed == file:
            answer["off_by"] = difference(runtime, file, arena)
        else:
            roomy = 2 * max(arena, smallest_arena(runtime, file))
            answer["off_by"] = difference(runtime, file, roomy)
            answer["same"] = alike(runtime, file, flashed, roomy)
    except RuntimeError:
        os.dup2(said, 2)
        run(runtime, flashed, 1 << 22, None)
        raise
    os.dup2(said, 2)
    print(json.dumps(answer))
