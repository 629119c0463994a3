"""Does a GPU train as fast through autoopt as by itself? Steps per second of ResNet-8, to be run where a GPU is at hand.

    python experiments/gpu/run.py              # writes README.md beside this script
    python experiments/gpu/run.py --cpu        # the same on a processor, on few images; only prints

Both train ResNet-8 of MLPerf Tiny for two epochs on random uint8 images of 32x32x3, in processes of their own: autoopt in
the jobs of a study, with pruning in it, once from memory and once from files; and Keras by a bare `fit` of the same
model with the same pruning. The first epoch, in which the graph is built, is left out.
"""

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from importlib.metadata import version
from pathlib import Path

from autoopt import targets
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Setting
from autoopt.execution.job_process import run
from autoopt.execution.workplace import Workplace
from autoopt.models import loading
from autoopt.system import gpus
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
BATCH, EPOCHS = 128, 3
TASK = """\
import os
os.environ |= {{"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}}
import numpy as np
import tf_keras

layers = tf_keras.layers
ITEMS = {items}


def model():
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, strides=strides, padding="same")(x)))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        x = x if strides == 1 else layers.Conv2D(filters, 1, strides=strides)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return tf_keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def images(items):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (items, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, items)


def task():
    import autoopt
    return autoopt.Task(model=model(), train=images(ITEMS), validation=images(256), test=images(256))
"""
BARE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import task
import tf_keras
import tensorflow as tf
import tensorflow_model_optimization as tfmot

seen = []
clock = tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(time.perf_counter()))
x, y = task.images(task.ITEMS)
schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=10)

def pruned(layer):
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
    return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if isinstance(layer, kinds) else layer

made = tf_keras.models.clone_model(task.model(), clone_function=pruned)
made.compile(tf_keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
made.fit(x, y, int(sys.argv[2]), epochs=int(sys.argv[3]), verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), clock])
print(json.dumps({"seconds": (seen[-1] - seen[0]) / (len(seen) - 1), "gpus": len(tf.config.list_physical_devices("GPU"))}))
"""


def bare(folder: Path, gpu: str | None) -> tuple[float, int]:
    """Seconds of an epoch, and how many GPUs TensorFlow saw."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(folder), str(BATCH), str(EPOCHS)],
        env=os.environ | gpus.environment(gpu),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["gpus"]


def through_autoopt(folder: Path, use: int | None) -> float:
    """Seconds of an epoch."""
    store = Store(folder / "store")
    place = Workplace(
        store=str(store.root), mark=uuid.uuid4().hex, threads=os.cpu_count() or 1, job_seconds=math.inf, job_bytes=1 << 40, gpus=use
    )  # fmt: skip
    with place.claimed():
        reading = job_graph.job("task", {"path": str(folder / "task.py")}, salt="")
        outcome = run(reading, place, lambda: False)
        assert outcome.state == "done", outcome.reason
        facts = json.loads(store.get(reading.key) or b"")
        setting = Setting(
            task=facts["manifest"], fingerprint=facts["fingerprint"], model=facts["model"], target=targets.find("host"), machine=""
        )  # fmt: skip
        recipe = Recipe(
            prune=Prune(sparsity=0.5, schedule="constant"), finetune=Finetune(epochs=EPOCHS, batch_size=BATCH)
        )
        [job] = [job for job in job_graph.plan(recipe, setting).jobs if job.name == "prune"]
        outcome = run(job, place, lambda: False)
        assert outcome.state == "done", outcome.reason
    [report] = loading.reports_of(store.get(job.key) or b"")
    return float(report["epoch_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="try the script where there is no GPU")
    on_cpu = parser.parse_args().cpu
    there = gpus.found()
    if not there and not on_cpu:
        sys.exit("no GPU is known here; --cpu tries the script without one")
    name = "a processor" if on_cpu else there[0].name
    rows = []
    for items in (1_000,) if on_cpu else (40_000, 200_000):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent)
            (folder / "task.py").write_text(TASK.format(items=items), encoding="utf-8")
            alone, seen = bare(folder, gpus.NONE if on_cpu else there[0].uuid)
            assert on_cpu or seen == 1, "TensorFlow sees no GPU: pip install 'autoopt[gpu]'"
            ours, steps = through_autoopt(folder, 0 if on_cpu else 1), -(-items // BATCH)
        size = items * 32 * 32 * 3 / 1e6
        rows.append(f"| {items:,} ({size:,.0f} MB) | {steps / alone:.0f} | {steps / ours:.0f} | {alone / ours:.2f} |")
        print(rows[-1], flush=True)
    text = [
        "# Does a GPU train as fast through autoopt as by itself?",
        "",
        f"Written by `run.py`. {name}; {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}; {datetime.date.today()}.",
        "",
        f"ResNet-8 with pruning, batches of {BATCH}. Sets of more than 134 MB are read from files, batch by batch.",
        "",
        "| images | bare fit (steps/s) | through autoopt | autoopt / bare fit |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    if on_cpu:
        print("\n".join(text))
    else:
        (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
