"""What does a job cost beside its work, and what does it save that the server of jobs translates functions for all of them?

    python experiments/job_start/run.py [--repeats 5]

A tiny model with hardly any data goes through each stage and is converted, so that a job is little but its start. Counted
are CPU seconds, user and system, of each job's process, and of the server until it has forked its first job; with a
server as it is, and with one that translates nothing and looks for garbage while it loads its libraries. Interleaved, each
with a server of its own. Writes README.md beside this script.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from multiprocessing import forkserver
from pathlib import Path

import psutil

from autoopt import targets
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Levels, Prune
from autoopt.execution import job_graph, starting
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.execution.job_process import run
from autoopt.execution.workplace import Workplace
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
TUNING = Finetune(epochs=1, learning_rate=0.002, batch_size=32)
RECIPES = {
    "prune": Recipe(prune=Prune(sparsity=0.5, frequency=2), finetune=TUNING),
    "cluster": Recipe(cluster=Cluster(number=8), finetune=TUNING),
    "levels": Recipe(levels=Levels(number=15), finetune=TUNING),
    "qat": Recipe(scheme="qat_int8", finetune=TUNING),
}
SERVER = "the server, once"
ROWS = (SERVER, *RECIPES, "convert", "float32")
LABELS = {"convert": "convert (behind qat)", "float32": "float32 (behind the others)"}
TASK = """
import numpy as np
import tf_keras
import autoopt

layers = tf_keras.layers

def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(64, 8, 8, 1)).astype(np.float32), rng.integers(0, 4, 64)

def task():
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dense(4, activation="softmax"),
    ])
    return autoopt.Task(model=model, train=data(0), validation=data(1), test=data(2))
"""


def cpu_seconds() -> tuple[float, float]:
    """What the server has taken, and what its jobs have that have ended."""
    spent = psutil.Process(vars(forkserver._forkserver)["_forkserver_pid"]).cpu_times()
    return spent.user + spent.system, spent.children_user + spent.children_system


def done(job: Job, place: Workplace) -> float:
    """CPU seconds of a job's process."""
    before = cpu_seconds()[1]
    outcome = run(job, place, lambda: False)
    if outcome.state != "done":
        raise SystemExit(f"{job.name}: {outcome.reason}")
    while (now := cpu_seconds()[1]) == before:  # until the server has heard of its end
        time.sleep(0.01)
    return now - before


def measured() -> dict[str, float]:
    """CPU seconds of each row of the table, with the server that this process starts."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        (folder / "marks").mkdir()
        (folder / "marks" / "here").touch()
        (folder / "task.py").write_text(TASK, encoding="utf-8")
        place = Workplace(store=str(folder), mark="here", threads=1, job_seconds=600, job_bytes=4 << 30)
        reading = job_graph.job("task", {"path": str(folder / "task.py")})
        done(reading, place)
        rows = {SERVER: cpu_seconds()[0]}
        facts = json.loads(Store(folder).get(reading.key) or b"")
        given = {"task": facts["manifest"], "fingerprint": facts["fingerprint"], "model": facts["model"]}
        setting = Setting(**given, target=targets.find("host"), machine="here")
        jobs = {job.key: job for recipe in RECIPES.values() for job in job_graph.plan(recipe, setting).jobs}
        for job in jobs.values():
            if job.name in ROWS:
                rows[job.name] = done(job, place)
        return rows


def afresh(mode: str) -> dict[str, float]:
    """The same in a process of its own."""
    path = os.pathsep.join([str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, __file__, "--server", mode],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--server", choices=("as it is", "as it was"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.server:
        if given.server == "as it was":
            starting.PRELOADED = ("autoopt.system.lifeline", "untranslated", "autoopt.execution.job_process")
        print(json.dumps(measured()))
        return
    pairs = [(afresh("as it was"), afresh("as it is")) for _ in range(given.repeats)]
    rows = []
    for name in ROWS:
        before, now = (statistics.median(each[name] for each in side) for side in zip(*pairs, strict=True))
        ratios = [after[name] / first[name] for first, after in pairs]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append(f"| {LABELS.get(name, name)} | {before:.1f} | {now:.1f} | {spread} |")
    text = [
        "# What does a job cost beside its work?",
        "",
        f"CPU seconds of each job's process. Written by `run.py`; medians of {given.repeats} interleaved repeats. {processor()}, "
        f"{os.cpu_count()} cores;",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, tf_keras {version('tf-keras')}, "
        f"tensorflow-model-optimization {version('tensorflow-model-optimization')}; {datetime.date.today()}.",
        "",
        "The server of jobs has TensorFlow translate (autograph) what all trainings call, and looks for no garbage while it loads "
        "its libraries.",
        "",
        "| job | without (s) | as autoopt does (s) | ratio |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
