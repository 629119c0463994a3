"""What does the first step of a training cost, before anything is learnt? With the optimizer's variables made ahead, and not.

    python experiments/first_step/run.py [--repeats 5]

TensorFlow builds the graph of a step anew where its first run has made variables. autoopt's stages make the optimizer's
ahead. Each row is one `fit` of one batch on a model with pruning in it, both ways, interleaved. Writes README.md beside
this script.
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

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras

from autoopt.targets.litert_runner import processor

HERE = Path(__file__).parent
BATCH = 4
layers = tf_keras.layers


def digits() -> Any:
    """A CNN for 8x8 digits."""
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def mobilenet() -> Any:
    """MobileNetV2 of a quarter of its width, for 96x96 images."""
    return tf_keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)


def resnet() -> Any:
    """ResNet-50, for 64x64 images."""
    return tf_keras.applications.ResNet50(input_shape=(64, 64, 3), weights=None, classes=10)


MODELS: dict[str, Callable[[], Any]] = {"CNN, 8x8": digits, "MobileNetV2 0.35, 96x96": mobilenet, "ResNet-50": resnet}


def seconds(make: Callable[[], Any], ahead: bool) -> float:
    """How many seconds one `fit` of one batch takes.

    Args:
        make: builds the model.
        ahead: the optimizer's variables are made before the step, instead of in it.
    """
    model = tfmot.sparsity.keras.prune_low_magnitude(make())
    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, *model.input_shape[1:]), dtype=np.float32), rng.integers(0, 10, BATCH)
    model.compile(tf_keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    began = time.perf_counter()
    if ahead:
        model.optimizer.build(model.trainable_variables)
    model.fit(x, y, BATCH, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    taken = time.perf_counter() - began
    tf_keras.backend.clear_session()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = []
    seconds(digits, ahead=True)  # what is loaded at the first use of all
    for label, make in MODELS.items():
        pairs = [(seconds(make, ahead=False), seconds(make, ahead=True)) for _ in range(repeats)]
        before, now = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        rows.append(
            f"| {label} | {before:.1f} | {now:.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
        print(rows[-1], flush=True)
    text = [
        "# What does the first step of a training cost?",
        "",
        f"Written by `run.py`; medians of {repeats} interleaved repeats, one batch of {BATCH}, with pruning. {processor()}, {os.cpu_count()} cores;",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, tf_keras {version('tf-keras')}, "
        f"tensorflow-model-optimization {version('tensorflow-model-optimization')}; {datetime.date.today()}.",
        "",
        "| model | variables made in the first step (s) | made ahead, as autoopt does (s) | ratio |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
