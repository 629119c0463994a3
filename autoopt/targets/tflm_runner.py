"""Finds the smallest arena for a `.tflite` (from standard input), and compares outputs with LiteRT's.

Prints `{"arena_bytes": N, "off_by": D}`: D is the largest difference between an output of TFLM and of
LiteRT's reference kernels on the same random inputs, 0 if it is within rounding.
"""

import json
import os
import sys
from typing import Any

import numpy as np

LARGEST = 1 << 30
SAMPLES = 4
RELATIVE = 1e-4
"""Float kernels may add up in another order."""


def starts(runtime: Any, file: bytes, arena: int) -> bool:
    """Whether the file can be loaded and run in an arena of so many bytes."""
    try:
        run(runtime, file, arena, None)
    except RuntimeError:
        return False
    return True


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
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(SAMPLES):
        inputs = []
        for detail in reference.get_input_details():
            kind, shape = np.dtype(detail["dtype"]), detail["shape"]
            limits = (-128, 128) if kind == np.int8 else (-(1 << 15), 1 << 15)
            array = rng.random(shape) if kind.kind == "f" else rng.integers(*limits, shape)
            inputs.append(array.astype(kind))
            reference.set_tensor(detail["index"], inputs[-1])
        reference.invoke()
        expected = reference.get_tensor(reference.get_output_details()[0]["index"]).astype(np.float64)
        found = run(runtime, file, arena, inputs)[0].astype(np.float64)
        allowed = 0 if inputs[0].dtype.kind != "f" else RELATIVE * max(1.0, float(np.abs(expected).max()))
        off = float(np.abs(found - expected).max())
        worst = max(worst, off if off > allowed or not np.isfinite(off) else 0.0)
    return worst


if __name__ == "__main__":
    # The runtime says on descriptor 2 why an arena is too small, once a try: only the last word matters.
    from tflite_micro.python.tflite_micro import runtime

    file = sys.stdin.buffer.read()
    said, quiet = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    try:
        arena = smallest_arena(runtime, file)
        answer = {"arena_bytes": arena, "off_by": difference(runtime, file, arena)}
    except RuntimeError:
        os.dup2(said, 2)
        run(runtime, file, 1 << 22, None)
        raise
    os.dup2(said, 2)
    print(json.dumps(answer))
