"""Runs a `.tflite` and prints raw readings as JSON. Stands alone, so that it can be copied to a board.

Reads from standard input `{"what": "latency" | "memory", "file": PATH, "reference": PATH, "threads": N}`.
Prints for latency a list of [file ns, reference ns], for memory a number of bytes.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

WARM_UP = 5
PAIRS = 30
MOST_PAIRS = 200
ENOUGH_S = 0.25
LIMIT_S = 10.0
FEWEST_PAIRS = 5
WARM = Path(__file__).with_name("warmup.tflite")


def load(path: str, threads: int) -> Any:
    """An interpreter with its inputs set: floats at random, integers at random in int8, else zero."""
    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        if dtype.kind == "f":
            values = rng.random(shape).astype(dtype)
        elif dtype == np.int8:
            values = rng.integers(-128, 128, shape).astype(dtype)
        else:
            values = np.zeros(shape, dtype)  # wider integers are indices as a rule
        interpreter.set_tensor(detail["index"], values)
    return interpreter


def latency(file: str, reference: str, threads: int) -> list[tuple[int, int]]:
    """Runs of both files in turn, in nanoseconds: enough pairs for a steady tenth percentile."""
    both = [load(path, threads) for path in (file, reference)]
    for interpreter in both * WARM_UP:
        interpreter.invoke()
    pairs: list[tuple[int, int]] = []
    started = time.perf_counter()
    while len(pairs) < MOST_PAIRS:
        spent = time.perf_counter() - started
        if (len(pairs) >= PAIRS and spent > ENOUGH_S) or (len(pairs) >= FEWEST_PAIRS and spent > LIMIT_S):
            break
        order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)  # neither always follows the other
        times = [0, 0]
        for which in order:
            start = time.perf_counter_ns()
            both[which].invoke()
            times[which] = time.perf_counter_ns() - start
        pairs.append((times[0], times[1]))
    return pairs


def memory(file: str, threads: int) -> int:
    """Growth of the peak resident size over load and one run, in bytes.

    A tiny model is run first, so that the runtime's own start-up is not counted; writing 5 to
    `clear_refs` makes Linux forget the peak so far.
    """
    load(str(WARM), threads).invoke()
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak so far is what it grows from
        before = status("VmHWM")
    else:
        before = status("VmRSS")
    load(file, threads).invoke()
    return max(0, status("VmHWM") - before)


def status(name: str) -> int:
    """A size of this process from the kernel, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if asked["what"] == "latency":
        answer: Any = latency(asked["file"], asked["reference"], asked["threads"])
    else:
        answer = memory(asked["file"], asked["threads"])
    print(json.dumps(answer))
