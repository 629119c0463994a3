"""What do kernels that are solved after channels went bring, before any training and after a short one?

    python experiments/channels/run.py [--seeds 1] [--minutes 30]

Removes channels from the models of three studies: as it is, with batch normalization's statistics estimated anew, and with kernels
solved by least squares. ResNet-8 is then trained for one epoch and for three, from the cut as it is and from the solved one, at two
learning rates. Needs the data that the studies' `task.py` name. Resumable: rows that stand in rows.json are not measured again.
Writes README.md beside this script.
"""

import argparse
import datetime
import functools
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoopt.compression import batchnorm_recalibration, channel_pruning, stages
from autoopt.compression.training import Training, outputs
from autoopt.core.stage_settings import Channels, Finetune, plain
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import loading, quality
from autoopt.models import task as tasks
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
STUDIES = {
    "cifar10_resnet8": "ResNet-8, CIFAR-10",
    "keywords_dscnn": "DS-CNN, keywords (299 items to train on, 150 to measure)",
    "fashion_mnist": "a small CNN, Fashion-MNIST",
}
RATIOS = (0.25, 0.4)
RATES = (3e-4, 3e-3)
EPOCHS = (1, 3)
BATCH = 64


@dataclass(frozen=True)
class Case:
    """A model that was taken in, and its data."""

    packed: bytes
    training: Training
    test: Any

    def model(self) -> Any:
        """The untouched model."""
        return loading.unpack(self.packed)[0]

    def qualities(self, model: Any) -> tuple[float, float]:
        """Accuracy on the validation and the test data, in percent."""
        told = self.training.manifest
        splits = (self.training.validation, self.test)
        first, second = (100 * quality.value(told, split, outputs(model, split)) for split in splits)
        return first, second


def taken_in(study: str, folder: str) -> Case:
    """A study's task."""
    path, store = HERE.parents[1] / "studies" / study / "task.py", Store(Path(folder))
    manifest = task_checks.prepare(tasks.load(path), path, store).manifest
    train, validation, test = (
        split_store.get(store, manifest.splits[name]) for name in ("train", "validation", "test")
    )
    packed = store.get(manifest.model)
    assert packed is not None
    assert train is not None
    assert validation is not None
    training = Training(manifest=manifest, train=train, validation=validation, progress=lambda _: None)
    return Case(packed, training, test)


def settings(ratio: float, solve: bool) -> dict[str, Any]:
    """A cut of so many channels, rounded to what a small model has."""
    return plain(Channels(ratio=ratio, multiple=4 if ratio < 0.4 else 2, solve=solve))


def untrained(case: Case, ratio: float) -> list[str]:
    """Cells of a row: accuracy of the whole model and of the cut one in four ways, and what solving takes."""
    cells = ["{:.1f} / {:.1f}".format(*case.qualities(case.model()))]
    for solve, anew in ((False, False), (False, True), (True, False), (True, True)):
        began = time.process_time()
        model = channel_pruning.wrap(case.model(), settings(ratio, solve), case.training).model
        taken = time.process_time() - began
        if anew:
            batchnorm_recalibration.recalibrate(model, case.training.train)
        cells.append("{:.1f} / {:.1f}".format(*case.qualities(model)))
        if solve and not anew:
            seconds = taken
    return [*cells, f"{seconds:.1f}"]


def trained(case: Case, ratio: float, rate: float, epochs: int, solve: bool, seeds: int) -> str:
    """Accuracy behind a training, as the mean over seeds."""
    found = []
    for seed in range(seeds):
        tuning = Finetune(epochs=epochs, learning_rate=rate, batch_size=BATCH)
        given = settings(ratio, solve) | {"finetune": plain(tuning), "seed": seed}
        model, _ = stages.run("channels", case.model(), given, case.training)
        found.append(case.qualities(model))
    return " / ".join(f"{statistics.mean(values):.1f}" for values in zip(*found, strict=True))


def both_ways(case: Case, ratio: float, rate: float, epochs: int, seeds: int) -> list[str]:
    """Cells of a row: accuracy behind a training that begins with the cut, and with the solved cut."""
    return [trained(case, ratio, rate, epochs, solve, seeds) for solve in (False, True)]


class Rows:
    """Rows that were measured, kept in a file beside the script."""

    def __init__(self, minutes: float) -> None:
        self.path, self.ends = HERE / "rows.json", time.monotonic() + 60 * minutes
        self.rows: dict[str, list[str]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def add(self, label: Sequence[str], measure: Callable[[], Sequence[str]]) -> None:
        """Measure a row that is not there, if there is time."""
        key = " | ".join(label)
        if key not in self.rows and time.monotonic() < self.ends:
            self.rows[key] = list(measure())
            self.path.write_text(json.dumps(self.rows, indent=1) + "\n")
            print(key, *self.rows[key], sep=" | ", flush=True)

    def lines(self, columns: int) -> list[str]:
        """Lines of the table with so many cells a row."""
        lines = [key.split(" | ") + cells for key, cells in self.rows.items()]
        return [f"| {' | '.join(cells)} |" for cells in lines if len(cells) == columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="trainings that each figure is the mean of")
    parser.add_argument("--minutes", type=float, default=30, help="after which no row is begun")
    chosen = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = Rows(chosen.minutes)
    with tempfile.TemporaryDirectory() as folder:
        cases = {study: taken_in(study, folder) for study in STUDIES}
        for study, label in STUDIES.items():
            for ratio in RATIOS:
                rows.add([label, f"{ratio:.0%}"], functools.partial(untrained, cases[study], ratio))
        case = cases["cifar10_resnet8"]
        steps = case.training.steps({"batch_size": BATCH})
        for ratio, epochs, rate in itertools.product(RATIOS, EPOCHS, RATES):
            both = functools.partial(both_ways, case, ratio, rate, epochs, chosen.seeds)
            rows.add([f"{ratio:.0%}", str(epochs * steps), f"{rate:g}"], both)
    text = [
        "# What do kernels that are solved after channels went bring?",
        "",
        f"Written by `run.py`; accuracy in percent on the validation data / on the test data. {processor()}, one of "
        f"{os.cpu_count()} cores; Python {platform.python_version()}, TensorFlow {version('tensorflow')}, tf_keras "
        f"{version('tf-keras')}; {datetime.date.today()}.",
        "",
        "Before any training. Solved: each kernel that lost inputs, or stands behind one that did, is fitted so that it gives out what it gave "
        "in the whole model, on up to 1,000 training items without labels, and batch normalization follows by as much as its inputs moved.",
        "",
        "| model | fewer channels | whole | cut | … batch norm anew | solved | … batch norm anew instead | CPU s to cut and solve |",
        "|---|---|---|---|---|---|---|---|",
        *rows.lines(8),
        "",
        f"ResNet-8 behind a training with labels alone, no augmentation, batches of {BATCH}; "
        f"{'one seed (0)' if chosen.seeds == 1 else f'mean of the seeds 0 to {chosen.seeds - 1}'}.",
        "",
        "| fewer channels | steps | learning rate | from the cut | from the solved cut |",
        "|---|---|---|---|---|",
        *rows.lines(5),
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
