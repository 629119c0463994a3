"""Runs a `.tflite` and prints raw readings as JSON. Stands alone, so that it can be copied to a board.

Reads from standard input `{"what": "facts" | "latency" | "memory", "file": PATH, "reference": PATH,
"threads": N, "xnnpack": true | false, "alone": true | false}`. Prints for latency rounds of [file ns, reference ns], for memory
a number of bytes. Ends with code 3 where ai-edge-litert is not installed.
"""

import contextlib
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WARM_UP = 5
ROUNDS = 6
"""Times that both files are loaded anew: where their memory lies moves times by percents."""
PAIRS = 40
MOST_PAIRS = 200
ENOUGH_S = 0.05
LIMIT_S = 1.5
FEWEST_PAIRS = 4
WARM = Path(__file__).with_name("warmup.tflite")
NOT_INSTALLED = 3


def load(path: str, threads: int, xnnpack: bool) -> Any:
    """An interpreter with its inputs set: floats and 8-bit integers that stand for such at random, others zero."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(path, num_threads=threads, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        if dtype.kind == "f":
            values = rng.random(shape).astype(dtype)
        elif dtype == np.int8 or (dtype == np.uint8 and detail["quantization"][0]):
            limits = np.iinfo(dtype)
            values = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
        else:
            values = np.zeros(shape, dtype)  # wider integers are indices as a rule
        interpreter.set_tensor(detail["index"], values)
    return interpreter


def latency(file: str, reference: str, threads: int, xnnpack: bool) -> list[list[tuple[int, int]]]:
    """Rounds of runs of both files in turn, in nanoseconds."""
    rounds = []
    for number in range(ROUNDS):
        # Neither is always loaded first: that alone made a difference of 0.1 %.
        swapped = number % 2 == 1
        first, second = (load(path, threads, xnnpack) for path in ((reference, file) if swapped else (file, reference)))
        both = (second, first) if swapped else (first, second)
        for interpreter in both * WARM_UP:
            interpreter.invoke()
        rounds.append(one_round(both))
    return rounds


def one_round(both: tuple[Any, Any]) -> list[tuple[int, int]]:
    """Enough pairs for a steady median."""
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


def memory(file: str, threads: int, xnnpack: bool) -> int:
    """Growth of the peak resident size over load and one run, in bytes.

    A tiny model is run first, so that the runtime's own start-up is not counted; writing 5 to
    `clear_refs` makes Linux forget the peak so far.
    """
    load(str(WARM), threads, xnnpack).invoke()
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak so far is what it grows from
        before = status("VmHWM")
    else:
        before = status("VmRSS")
    load(file, threads, xnnpack).invoke()
    return max(0, status("VmHWM") - before)


def status(name: str) -> int:
    """A size of this process from the kernel, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def facts() -> dict[str, Any]:
    """What a reader must know of this machine, as far as it can be read."""
    from importlib.metadata import version

    found: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "system": f"{platform.system()} {platform.machine()}",
    }
    if governor := read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"):
        found["governor"] = governor
    if degrees := read("/sys/class/thermal/thermal_zone0/temp"):
        with contextlib.suppress(ValueError):
            found["temperature_c"] = round(int(degrees) / 1000, 1)
    return found


def processor() -> str:
    """The processor's name; on boards that don't tell, the board's."""
    lines = read("/proc/cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[-1] if names else read("/proc/device-tree/model") or platform.processor() or platform.machine()


def read(path: str) -> str:
    """A small text file of the system's, or ``."""
    try:
        return Path(path).read_text().strip("\0\n ")
    except OSError:
        return ""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One measurement at a time on this board, whoever asked for it from wherever.

    Not for the machine that the search runs on: a job that is frozen there might hold the lock.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl
    import tempfile

    with open(Path(tempfile.gettempdir(), f"autoopt-{os.getuid()}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    try:
        import ai_edge_litert.interpreter  # noqa: F401 - asks whether it is there, and whole
    except ImportError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_INSTALLED) from error
    if asked["what"] == "facts":
        answer: Any = facts()
    else:
        settings = (asked["threads"], asked["xnnpack"])
        with alone() if asked.get("alone") else contextlib.nullcontext():
            if asked["what"] == "latency":
                answer = latency(asked["file"], asked["reference"], *settings)
            else:
                answer = memory(asked["file"], *settings)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
