"""How far can a latency be trusted? autoopt's protocol against the ways that tutorials measure, idle and under load.

    python experiments/latency_noise/run.py [--repeats 40]

Measures a float32 file against itself (A/A: the truth is 1) and an int8 file against the float32 one (A/B: the
truth is not known, but repeats should agree), and writes README.md beside this script.
"""

import argparse
import contextlib
import datetime
import json
import math
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
from scipy import stats

from autoopt import targets
from autoopt.core import latency_statistics
from autoopt.targets import benchmark
from autoopt.targets.litert_runner import processor
from autoopt.tflite import conversion

HERE = Path(__file__).parent
RUNS = 50
"""Of each file, as tutorials do it."""
TUTORIAL = """
import json, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
i = Interpreter(sys.argv[1], num_threads=1)
i.allocate_tensors()
d = i.get_input_details()[0]
i.set_tensor(d["index"], np.random.default_rng(0).random(d["shape"]).astype(d["dtype"]))
i.invoke()
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    i.invoke()
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""
Interval = tuple[float, float, float]
Protocol = Callable[[bytes, bytes], Interval]


def autoopt(file: bytes, reference: bytes, fewest: int, most: int) -> Interval:
    """The ratio with its interval, by autoopt's own protocol."""
    host = targets.find("host")
    timings = benchmark.steady(lambda: host.latency(file, reference), fewest=fewest, most=most)
    found = latency_statistics.latency_ratio([t.rounds for t in timings], "")
    return found.value, found.low, found.high


def tutorial(file: bytes, reference: bytes, middle: str) -> Interval:
    """One process a file, `RUNS` runs each; the ratio of means (or medians), with the textbook's interval."""
    values, errors = [], []
    for one in (file, reference):
        with tempfile.NamedTemporaryFile(suffix=".tflite") as path:
            path.write(one)
            path.flush()
            line = [sys.executable, "-I", "-c", TUTORIAL, path.name, str(RUNS)]
            times = np.array(json.loads(subprocess.run(line, capture_output=True, check=True).stdout))
        values.append(float(times.mean() if middle == "mean" else np.median(times)))
        # The error of a median of normal values is 1.2533 times that of their mean.
        errors.append(float(times.std(ddof=1)) / math.sqrt(RUNS) * (1 if middle == "mean" else 1.2533) / values[-1])
    half = float(stats.t.ppf(0.975, RUNS - 1)) * math.hypot(*errors)
    ratio = values[0] / values[1]
    return ratio, ratio * (1 - half), ratio * (1 + half)


PROTOCOLS: dict[str, Protocol] = {
    "autoopt, while searching": lambda a, b: autoopt(a, b, benchmark.FEWEST, benchmark.MOST),
    "autoopt, confirming": lambda a, b: autoopt(a, b, benchmark.CONFIRM_FEWEST, benchmark.CONFIRM_MOST),
    f"mean of {RUNS}": lambda a, b: tutorial(a, b, "mean"),
    f"median of {RUNS}": lambda a, b: tutorial(a, b, "median"),
}


def spin() -> None:
    """Keep a core busy, with arithmetic and with memory."""
    a = np.random.default_rng(0).random((400, 400))
    while True:
        a = a @ a
        a /= np.abs(a).max()


@contextlib.contextmanager
def load(busy: bool) -> Iterator[None]:
    """Every core busy with something else, or none."""
    workers = [multiprocessing.Process(target=spin, daemon=True) for _ in range(os.cpu_count() or 1)] if busy else []
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def files() -> tuple[bytes, bytes]:
    """A small CNN in float32 and in int8; what its weights are does not matter here."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    model = tf_keras.Sequential([
        layers.Input((32, 32, 3)),
        layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"), layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    float32 = conversion.float32(model)
    calibration = {model.input_names[0]: np.random.default_rng(0).random((128, 32, 32, 3), np.float32)}
    return float32, conversion.quantize(float32, "int8", calibration)


def row(name: str, where: str, same: list[Interval], other: list[Interval]) -> str:
    """One line of the table."""
    held = sum(low <= 1 <= high for _, low, high in same) / len(same)
    widths = [high - low for _, low, high in same]
    off = max(abs(value - 1) for value, _, _ in same)
    ratios = np.array([value for value, _, _ in other])
    spread = ratios.std(ddof=1) / ratios.mean()
    narrow = sum((high - low) / value <= latency_statistics.WIDE for value, low, high in other) / len(other)
    return (
        f"| {name} | {where} | {held:.0%} | {np.median(widths):.2%} | {max(widths):.2%} | {off:.2%} | "
        f"{np.median(ratios):.3f} | {spread:.2%} | {narrow:.0%} |"
    )


def main() -> None:
    """Measure in turn, so that all protocols see the same spells, then write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=40)
    repeats = arguments.parse_args().repeats
    float32, int8 = files()
    lines = []
    for where in ("idle", "all cores busy"):
        same: dict[str, list[Interval]] = {name: [] for name in PROTOCOLS}
        other: dict[str, list[Interval]] = {name: [] for name in PROTOCOLS}
        with load(where != "idle"):
            for number in range(repeats):
                for name, protocol in PROTOCOLS.items():
                    same[name].append(protocol(float32, float32))
                    other[name].append(protocol(int8, float32))
                print(f"{where}: {number + 1} of {repeats}", file=sys.stderr, flush=True)
        lines += [row(name, where, same[name], other[name]) for name in PROTOCOLS]
    text = f"""# How far can a latency be trusted?

Written by `run.py`; {repeats} repeats of each, interleaved. {processor()}, {os.cpu_count()} cores (a virtual machine that shares
its processor with others); Python {platform.python_version()}, ai-edge-litert {version("ai-edge-litert")};
{datetime.datetime.now(datetime.UTC).date()}; seed 0.

A/A measures a float32 CNN against itself: the interval should hold 1 at least 95 % of the time, and be narrow. A/B measures the
int8 file against the float32 one: repeats should agree.

| protocol | load | A/A held 1 | A/A width, middle | A/A width, widest | A/A farthest off | A/B ratio, middle | A/B spread (sd) | A/B under 2 % wide |
|---|---|---|---|---|---|---|---|---|
""" + "\n".join(lines) + "\n"  # fmt: skip
    text += """
The tutorials' way runs each file in a process of its own and takes the mean or the median of its runs; its interval knows
nothing of what differs from process to process, or of other load that comes and goes. autoopt interleaves both files in fresh
processes, loads them anew several times in each, counts the calm rounds alone, and goes on until the interval is under
2 % wide or its limit of processes is reached. What stays wider is flagged as a wide interval.
"""
    (HERE / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
