"""How long does the conversion of a Keras model take? autoopt's way against `TFLiteConverter.from_keras_model`.

    python experiments/conversion/run.py [--repeats 3]

Both convert the same models, in turn; the files are compared byte by byte. Writes README.md beside this script.
"""

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import tensorflow as tf
import tf_keras

from autoopt.compression import quantization_aware
from autoopt.targets.litert_runner import processor
from autoopt.tflite import conversion

HERE = Path(__file__).parent
layers = tf_keras.layers


def small() -> Any:
    """Two layers."""
    shape = [layers.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.Flatten(), layers.Dense(10)]
    return tf_keras.Sequential(shape)


MODELS: dict[str, Callable[[], Any]] = {
    "a convolution and a dense layer": small,
    "MobileNet, 96 pixels": lambda: tf_keras.applications.MobileNet(weights=None, classes=10, input_shape=(96, 96, 3)),
    "MobileNetV2, 96 pixels": lambda: tf_keras.applications.MobileNetV2(
        weights=None, classes=10, input_shape=(96, 96, 3)
    ),
}


def usual(model: Any, scheme: str) -> bytes:
    """As TensorFlow's documentation has it."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if scheme != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def ours(model: Any, scheme: str) -> bytes:
    """As autoopt's jobs do it."""
    return conversion.float32(model) if scheme == "float32" else conversion.trained(model, scheme)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    rows = []
    for label, make in MODELS.items():
        for scheme in ("float32", "qat_int8"):
            tf_keras.utils.set_random_seed(0)
            settings = {"preserve_sparsity": False, "preserve_clusters": False}
            model = make() if scheme == "float32" else quantization_aware.wrap(make(), settings, None).model
            seconds: dict[Any, list[float]] = {usual: [], ours: []}
            files = {}
            for repeat in range(repeats):
                for way in (usual, ours) if repeat % 2 == 0 else (ours, usual):
                    began = time.perf_counter()
                    files[way] = way(model, scheme)
                    seconds[way].append(time.perf_counter() - began)
            theirs, mine = (statistics.median(seconds[way]) for way in (usual, ours))
            ratios = [a / b for a, b in zip(seconds[usual], seconds[ours], strict=True)]
            same = len(files[usual]) == len(files[ours])
            differing = sum(a != b for a, b in zip(files[usual], files[ours], strict=True)) if same else "another size"
            rows.append(
                f"| {label} | {scheme} | {theirs:.1f} s | {mine:.1f} s | {statistics.median(ratios):.1f} "
                f"({min(ratios):.1f} to {max(ratios):.1f}) | {differing} of {len(files[ours])} |"
            )
            print(rows[-1], flush=True)
            tf_keras.backend.clear_session()
    lines = [
        "# How long does the conversion of a Keras model take?",
        "",
        f"Written by `run.py`; medians of {repeats} interleaved repeats. {processor()}, {os.cpu_count()} cores;",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, tf_keras {version('tf-keras')}; {datetime.date.today()}.",
        "",
        "| model | scheme | from_keras_model | autoopt | times as quick | bytes that differ |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "`from_keras_model` writes a SavedModel with functions of every layer, for training and without, before it converts; autoopt writes",
        "the model as one function. The byte that differs says what a file was converted from.",
    ]  # fmt: skip
    (HERE / "README.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
