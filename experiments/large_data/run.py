"""How much memory does each job take, and how long, on sets of images that are larger than memory?

    python experiments/large_data/run.py [--gigabytes 2 8 30]

Each study reads a `tf.data` pipeline of float32 images of 96x96x3 that are made as they are read, keeps them in its
store, trains a small CNN with one recipe, and measures everything that a study measures. Counted is the memory of a
job's own: pages of mapped files are the system's, which takes them away when memory is short, and all jobs share
them. Beforehand it is checked that arrays and a dataset of the same items give the same files, byte for byte. Writes
README.md beside this script.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.execution import job_process
from autoopt.search.progress import Silent
from autoopt.search.search import Search
from autoopt.study.folder import StudyFolder
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
ITEM_BYTES = 96 * 96 * 3 * 4
RECIPE = Recipe(scheme="int8", prune=Prune(sparsity=0.5), finetune=Finetune(epochs=1, batch_size=128))
STUDY = "task: task.py\nspace: smoke\ntrials: 1\nconfirm: true\nmeasuring: quick\n"
TASK = '''\
"""Images whose brightest quarter is their class, made as they are read."""

import tensorflow as tf
import tf_keras

import autoopt

ITEMS, ARRAYS = {items}, {arrays}
layers = tf_keras.layers


def image(number):
    number = tf.cast(number, tf.int32)
    label = number % 4
    row, column = tf.cast(label // 2 * 48, tf.int32), tf.cast(label % 2 * 48, tf.int32)
    bright = tf.pad(tf.ones((48, 48, 3)), [[row, 48 - row], [column, 48 - column], [0, 0]])
    noise = tf.random.stateless_uniform((96, 96, 3), seed=[number, 1], maxval=8, dtype=tf.int32)
    return bright * 0.1 + tf.cast(noise, tf.float32) / 8.0, tf.cast(label, tf.int32)


def images(first, number):
    made = tf.data.Dataset.range(first, first + number).map(image, num_parallel_calls=2).batch(64)
    if not ARRAYS:
        return made.prefetch(2)
    batches = list(made.as_numpy_iterator())
    return tuple(tf.concat(part, axis=0).numpy() for part in zip(*batches))


def task():
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((96, 96, 3)), layers.Conv2D(8, 5, strides=4, activation="relu"), layers.MaxPooling2D(4),
        layers.Flatten(), layers.Dense(4, activation="softmax"),
    ])
    fifth = ITEMS // 5
    return autoopt.Task(
        model=model, train=images(0, ITEMS - 2 * fifth), validation=images(ITEMS - 2 * fifth, fifth),
        test=images(ITEMS - fifth, fifth), loss="sparse_categorical_crossentropy", metric="accuracy",
    )
'''


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a study took.

    Attributes:
        peaks: the most bytes of its own that a job of each name had.
        seconds: of the longest job of each name.
        files: SHA-256 of the files of the candidates.
        again: seconds of the study's next run, which finds everything done.
    """

    peaks: dict[str, int]
    seconds: dict[str, float]
    files: list[str]
    again: float


def study(items: int, *, arrays: bool = False) -> Measured:
    """Run one on so many images."""
    peaks, seconds, names = defaultdict(int), defaultdict(float), dict[int, str]()
    state, watch = job_process._state, job_process._watch

    def watched(process: Any, given: Any, stopped: Callable[[], bool]) -> Any:
        names[process.pid], started = given.job.name, time.monotonic()
        try:
            return watch(process, given, stopped)
        finally:
            seconds[given.job.name] = max(seconds[given.job.name], time.monotonic() - started)

    def noted(pid: int) -> tuple[int, bool]:
        resident, frozen = state(pid)
        peaks[names[pid]] = max(peaks[names[pid]], resident)
        return resident, frozen

    job_process._state, job_process._watch = noted, watched
    try:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as parent:
            path = Path(parent, "images")
            path.mkdir()
            (path / "study.yaml").write_text(STUDY, encoding="utf-8")
            (path / "task.py").write_text(TASK.format(items=items, arrays=arrays), encoding="utf-8")
            search = _run(path)
            started = time.monotonic()
            _run(path)
            done = search.driver.ledger.candidates.values()
            assert not any(c.failed for c in done), [c.reason for c in done]
            return Measured(dict(peaks), dict(seconds), sorted(c.sha256 for c in done), time.monotonic() - started)
    finally:
        job_process._state, job_process._watch = state, watch


def _run(path: Path) -> Search:
    folder = StudyFolder(path)
    with folder.lock(), Silent() as view:
        search = Search(
            folder, folder.config(), view, trials=None, hours=None, scheduler=None, store=None, recipes=[RECIPE]
        )
        search.run()
    return search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2, 8, 30])
    sizes = parser.parse_args().gigabytes
    few = 2000
    same = study(few).files == study(few, arrays=True).files
    print("arrays and dataset give the same files:", same, flush=True)
    found = {}
    for size in sizes:
        items = int(size * 1e9 / ITEM_BYTES)
        found[size] = study(items)
        print(size, "GB:", found[size], flush=True)
    jobs = [name for name in found[sizes[-1]].peaks if name in found[sizes[-1]].seconds]
    memory = psutil.virtual_memory().total / 1e9
    head = "".join(f" {size:g} GB |" for size in sizes)
    lines = [
        "# Sets of images that are larger than memory",
        "",
        f"Written by `run.py`. {processor()}, {os.cpu_count()} cores, {memory:.0f} GB; Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, tf_keras {version('tf-keras')}; {datetime.date.today()}.",
        "",
        "float32 images of 96x96x3 from a `tf.data` pipeline that makes them as they are read; one recipe "
        f"(`{RECIPE.label()}`). Memory is a job's own, in MB; pages of mapped files are not counted.",
        "",
        f"| job |{head}",
        f"|---|{'---|' * len(sizes)}",
        *(f"| {name} |" + "".join(f" {found[s].peaks.get(name, 0) / 1e6:,.0f} MB |" for s in sizes) for name in jobs),
        "",
        "Seconds of the longest job of each kind:",
        "",
        f"| job |{head}",
        f"|---|{'---|' * len(sizes)}",
        *(f"| {name} |" + "".join(f" {found[s].seconds.get(name, 0):,.1f} |" for s in sizes) for name in jobs),
        "| the whole study again, with everything done |" + "".join(f" {found[s].again:,.1f} |" for s in sizes),
        "",
        f"Arrays and a dataset of the same {few:,} items give the same files, byte for byte: {'yes' if same else '**no**'}.",
        "",
    ]
    (HERE / "README.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
