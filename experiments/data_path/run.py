"""Does fine-tuning keep the machine busy with the step itself? Steps per second against a bare `model.fit`.

    python experiments/data_path/run.py [--repeats 5]

Three ways, interleaved, on models of three sizes with random data: a bare `fit` of the plain model; a bare `fit` of
the model with tensorflow-model-optimization's technique in it, with only the callbacks that it demands; and
autoopt's training stage. The last against the second is what autoopt costs; the second against the first is what
the technique costs. Writes README.md beside this script.
"""

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tf_keras

from autoopt.compression import batches, stages
from autoopt.compression import training as finetune
from autoopt.compression.batches import feed
from autoopt.compression.wrapping import keep_skipped
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.models.task import Manifest, Split
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).parent
BATCH = 32
LOSS = "sparse_categorical_crossentropy"
layers = tf_keras.layers
STAGES = {
    "prune": Recipe(prune=Prune(sparsity=0.5), finetune=Finetune(epochs=3, batch_size=BATCH)),
    "cluster": Recipe(cluster=Cluster(number=16), finetune=Finetune(epochs=3, batch_size=BATCH)),
    "qat": Recipe(scheme="qat_int8", finetune=Finetune(epochs=3, batch_size=BATCH)),
}


def small() -> Any:
    """A CNN for 8x8 digits."""
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def middle() -> Any:
    """A CNN for 28x28 images."""
    return tf_keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def large() -> Any:
    """ResNet-8 of MLPerf Tiny, for 32x32x3 images."""
    x = inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, strides=strides, padding="same")(x)))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        x = x if strides == 1 else layers.Conv2D(filters, 1, strides=strides)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return tf_keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "CNN, 8x8 (digits)": (small, 12000),
    "CNN, 28x28": (middle, 4000),
    "ResNet-8, 32x32x3": (large, 1280),
}
FROM_FILES = ("CNN, 28x28", "ResNet-8, 32x32x3")
"""Models that are also trained with data that stays in files, as a set does that is larger than memory."""


def bare(model: Any, data: Split, callbacks: list[Any]) -> float:
    """Steps per second of Keras alone; the first epoch, with the tracing, is left out."""
    seen: list[float] = []

    class Clock(tf_keras.callbacks.Callback):  # type: ignore[misc]
        _supports_tf_logs = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(time.perf_counter())

    model.compile(tf_keras.optimizers.Adam(1e-3), LOSS)
    model.fit(feed(data), data.labels, BATCH, epochs=3, verbose=0, callbacks=[*callbacks, Clock()])
    return 2 * -(-len(data) // BATCH) / (seen[2] - seen[0])


def wrapped(model: Any, name: str, settings: dict[str, Any], data: Split) -> Any:
    """The model with a technique in it."""
    made = stages.STAGES[name](model, settings, training(data, data, lambda _: None))
    return made, keep_skipped(made, settings)


def training(data: Split, few: Split, clock: Callable[[str], None]) -> finetune.Training:
    """What a stage trains with."""
    told = Manifest(
        model="", splits={}, items={}, loss=LOSS, finetune={}, class_names=(), source="", path="",
        metric={"name": "accuracy", "direction": "max", "unit": "fraction", "function": None},
    )  # fmt: skip
    return finetune.Training(manifest=told, train=data, validation=few, progress=clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = []
    ways = [(label, make, n, False) for label, (make, n) in MODELS.items()]
    ways += [(f"{label}, from files", *MODELS[label], True) for label in FROM_FILES]
    held = batches.IN_MEMORY
    for label, make, n, from_files in ways:
        batches.IN_MEMORY = 0 if from_files else held
        rng = np.random.default_rng(0)
        shape = make().input_shape[1:]
        data = Split(inputs={"x": rng.random((n, *shape), dtype=np.float32)}, labels=rng.integers(0, 10, n))
        mapped = data
        if from_files:
            np.save(Path(tempfile.gettempdir(), "data_path.npy"), data.inputs["x"])
            array = np.load(Path(tempfile.gettempdir(), "data_path.npy"), mmap_mode="r")
            mapped = Split(inputs={"x": array}, labels=data.labels)
        few = Split(inputs={"x": data.inputs["x"][:32]}, labels=data.labels[:32])
        for name, recipe in STAGES.items():
            [(_, settings)] = recipe.stages()
            found: dict[str, list[float]] = {"plain": [], "bare": [], "autoopt": []}
            for _ in range(repeats):
                found["plain"].append(bare(make(), data, []))
                made, _ = wrapped(make(), name, settings, data)
                found["bare"].append(bare(made.model, data, made.callbacks))
                made, keep = wrapped(make(), name, settings, data)
                made.callbacks.append(keep)
                begins: list[float] = []
                clock = lambda _: begins.append(time.perf_counter())  # noqa: B023, E731 - used at once
                finetune.fit(name, made, settings["finetune"], training(mapped, few, clock), seed=0)
                # Between the beginnings of the second and the third epoch lies a whole one, with its validation.
                found["autoopt"].append(-(-len(data) // BATCH) / (begins[2] - begins[1]))
                tf_keras.backend.clear_session()
            ratios = [ours / theirs for ours, theirs in zip(found["autoopt"], found["bare"], strict=True)]
            costs = [b / p for b, p in zip(found["bare"], found["plain"], strict=True)]
            median = {key: statistics.median(values) for key, values in found.items()}
            rows.append(
                f"| {label} | {name} | {median['plain']:.0f} | {median['bare']:.0f} | {median['autoopt']:.0f} | "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(costs):.2f} |"
            )
            print(rows[-1], flush=True)
    text = [
        "# Does fine-tuning keep the machine busy with the step itself?",
        "",
        f"Written by `run.py`; medians of {repeats} interleaved repeats, batches of {BATCH}. {processor()}, {os.cpu_count()} cores;",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, tf_keras {version('tf-keras')}, "
        f"tensorflow-model-optimization {version('tensorflow-model-optimization')}; {datetime.date.today()}.",
        "",
        "| model | stage | plain model, bare fit (steps/s) | with the technique, bare fit | autoopt's stage | autoopt / bare fit "
        "with the technique | technique / plain |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "autoopt's epochs are timed with everything that they do beside the steps: callbacks, a copy of the weights, one batch",
        "of validation. The goal is 0.95 or more in the column before the last; the last column is what",
        "tensorflow-model-optimization's own operations and callbacks cost.",
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
