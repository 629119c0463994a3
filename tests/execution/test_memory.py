"""Memory of real jobs on maps: it doesn't grow with the number of items, whatever the model gives for them."""

import dataclasses
import itertools
import sys
import threading
from pathlib import Path

import psutil
import pytest
from real_jobs import never, taken_in, workplace

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.execution import job_graph
from autoopt.execution.job_process import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="own memory is told from mapped files on Linux alone"),
]
SIDE, CLASSES = 64, 16
MORE = 800
MORE_BYTES = MORE * SIDE * SIDE * CLASSES * 4
"""By which the outputs of a larger set are larger: 210 MB."""
TASK = """
import numpy as np
import tf_keras
import autoopt

def masks(seed, items):
    rng = np.random.default_rng(seed)
    for first in range(0, items, 100):
        x = rng.integers(0, 256, (100, {side}, {side}, 1)).astype(np.uint8)
        yield x, (x[..., 0] // {step}).astype(np.uint8), np.ones(x.shape[:3], np.float32)

def task():
    x = tf_keras.Input(({side}, {side}, 1))
    y = tf_keras.layers.Conv2D({classes}, 1, activation="softmax")(tf_keras.layers.Rescaling(1 / 255)(x))
    return autoopt.Task(
        model=tf_keras.Model(x, y), train=lambda: masks(0, {items}), validation=lambda: masks(1, {items}),
        test=lambda: masks(2, 100), loss="sparse_categorical_crossentropy", metric={metric},
    )

def error(labels, outputs):
    wrong, step = 0, 50
    for first in range(0, len(labels), step):
        wrong += (outputs[first : first + step].argmax(axis=-1) != labels[first : first + step]).sum()
    return wrong / labels.size
"""


class Peak(threading.Thread):
    """Sees what the processes of jobs have at most of memory that is their own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.over = 0, threading.Event()

    def run(self) -> None:
        family: list[psutil.Process] = []
        looks = itertools.count()
        while not self.over.wait(0.01):
            if next(looks) % 20 == 0:  # looking for them takes more than looking at them
                family = psutil.Process().children(recursive=True)
            for process in family:
                try:
                    facts = process.memory_info()
                except psutil.Error:
                    continue
                self.bytes = max(self.bytes, facts.rss - facts.shared)

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def most(folder: Path, items: int, metric: str) -> int:
    """Bytes that a task's jobs have at most: taking it in, teaching, training, evaluating."""
    folder.mkdir()
    place = dataclasses.replace(workplace(folder / "store"), job_seconds=600.0)
    text = TASK.format(side=SIDE, classes=CLASSES, step=256 // CLASSES, items=items, metric=metric)
    recipe = Recipe(prune=Prune(sparsity=0.3, frequency=10), finetune=Finetune(epochs=1, distillation=0.5))
    with Peak() as peak:
        setting, _ = taken_in(folder, place, text)
        plan = job_graph.plan(recipe, setting)
        assert {job.name for job in plan.jobs} >= {"teach", "prune", "accuracy"}
        for job in plan.jobs:
            if job.name not in ("memory", "latency"):  # those run the file alone
                outcome = run(job, place, never)
                assert outcome.state == "done", (job.name, outcome.reason)
    return peak.bytes


@pytest.mark.parametrize(
    ("metric", "few"),
    [
        ("'mean_iou'", 400),
        # Of fewer, a metric of the user's own is given one set after the other that is resampled, in memory.
        ("autoopt.QualityMetric(name='wrong', function=error, direction='min')", 1100),
    ],
    ids=["mean_iou", "own"],
)
def test_it_does_not_grow_with_the_outputs(tmp_path: Path, metric: str, few: int) -> None:
    """Real jobs and a real training: whatever holds a whole set anywhere on the way would be seen."""
    less, more = (most(tmp_path / str(items), items, metric) for items in (few, few + MORE))
    assert more - less < MORE_BYTES / 2
