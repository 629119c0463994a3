"""What do weights of 4 bits bring without training? Bytes, accuracy and time of ResNet-8 / CIFAR-10 in each setting.

    python experiments/low_bits/run.py [--items 2500] [--rounds 20]

Settings are compared on the validation images; the test images are told beside them. Writes README.md beside this script. Needs the data
that `studies/cifar10_resnet8/task.py` names; without it nothing is written.
"""

import argparse
import datetime
import os
import platform
import runpy
import statistics
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Quantize
from autoopt.targets.litert_runner import processor
from autoopt.tflite import contents, conversion, proof
from autoopt.tflite.interpreter import compressed_bytes, outputs_of

HERE = Path(__file__).resolve().parent
STUDY = HERE.parents[1] / "studies" / "cifar10_resnet8" / "task.py"
CALIBRATION = 256
PER_RUN = 20
"""Calls that are timed together."""
SHARES = (0.5, 0.8, 1.0)


def recipes() -> Iterator[Recipe]:
    """float32, then each scheme in 8 bits and with shares of its weights in 4."""
    yield Recipe()
    for scheme, others in (("int8", ({}, {"correct_bias": True})), ("dynamic", ({},))):
        for other in others:
            yield Recipe(scheme=scheme, quantize=Quantize(**other))
            for share in SHARES:
                yield Recipe(scheme=scheme, quantize=Quantize(int4_share=share, **other))


def times(files: list[bytes], item: np.ndarray, rounds: int) -> list[float]:
    """The processor's milliseconds for a call of each file, with one thread; medians of interleaved rounds."""
    interpreters = []
    for file in files:
        interpreter = Interpreter(model_content=file, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], item)
        interpreter.invoke()
        interpreters.append(interpreter)
    found: list[list[float]] = [[] for _ in files]
    for _ in range(rounds):
        for interpreter, seen in zip(interpreters, found, strict=True):
            start = time.process_time()
            for _ in range(PER_RUN):
                interpreter.invoke()
            seen.append((time.process_time() - start) / PER_RUN * 1000)
    return [statistics.median(seen) for seen in found]


def accuracy(file: bytes, name: str, split: Any) -> float:
    images, labels = split
    return float((outputs_of(file, {name: images}, 1).argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2500, help="of each split")
    parser.add_argument("--rounds", type=int, default=20, help="of timing")
    arguments = parser.parse_args()
    task = runpy.run_path(str(STUDY))["task"]()
    model = tf_keras.models.load_model(task.model, compile=False)
    name = model.input_names[0]

    def part(split: Any) -> tuple[np.ndarray, np.ndarray]:
        return split[0][: arguments.items].astype(np.float32), split[1][: arguments.items]

    validation, test = part(task.validation), part(task.test)
    chosen = np.random.default_rng(0).permutation(len(task.train[0]))[:CALIBRATION]
    calibration = {name: task.train[0][chosen].astype(np.float32)}
    float32 = conversion.float32(model)
    rows = []
    for recipe in recipes():
        start = time.perf_counter()
        plain = recipe.scheme == "float32"
        file = float32 if plain else conversion.quantize(float32, recipe.scheme, calibration, how=recipe.quantize)
        seconds = time.perf_counter() - start
        inside = contents.read(file)
        proof.prove(inside, recipe, [])
        weights = sum(w.size for w in inside.weights)
        share = sum(w.size for w in inside.weights if w.dtype == "int4") / weights
        scores = [accuracy(file, name, split) for split in (validation, test)]
        rows.append((recipe, file, share, scores, seconds))
        print(recipe.label(), len(file), scores, flush=True)
    milliseconds = times([row[1] for row in rows], validation[0][:1], arguments.rounds)
    (HERE / "README.md").write_text(report(rows, milliseconds, arguments.items))


def report(rows: list[Any], milliseconds: list[float], items: int) -> str:
    """The table with what it was read on."""
    baseline = rows[0][3]
    lines = [
        "# What do weights of 4 bits bring without training?",
        "",
        f"Written by `run.py`: ResNet-8 of MLPerf Tiny on CIFAR-10, {items:,} validation images, and as many for the test; change in points",
        f"against float32. {processor()}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, LiteRT {version('ai-edge-litert')},",
        f"litert-quantizer {version('litert-quantizer')}; {datetime.date.today()}; {os.getloadavg()[0]:.0f} other processes ran beside it.",
        "",
        "| recipe | weights in 4 bits | bytes | gzip -9 | validation | test | CPU ms | seconds to make |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (recipe, file, share, scores, seconds), ms in zip(rows, milliseconds, strict=True):
        shown = [f"{score:.2%} ({100 * (score - best):+.1f})" for score, best in zip(scores, baseline, strict=True)]
        made = f"{seconds:.1f}" if recipe.scheme != "float32" else ""
        lines.append(
            f"| {recipe.label()} | {share:.0%} | {len(file):,} | {compressed_bytes(file):,} | {shown[0]} | {shown[1]} | {ms:.2f} | {made} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
