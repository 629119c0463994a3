"""How long do people wait for a study of thousands of candidates?

    python experiments/large_study/run.py [--candidates 3000]

Runs a tiny study for real, then lays records of as many other recipes of its space beside the ones that it made, with values
that are drawn at random, and times what people do with such a study. Writes README.md beside this script.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
AUTOOPT = [sys.executable, "-m", "autoopt"]
QUIET = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "COLUMNS": "120"}
TASK = """
import numpy as np
import tf_keras

import autoopt


def data(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    x = rng.normal(0, 0.6, (n, 16)).astype(np.float32)
    x[np.arange(n), labels] += 2
    return x, labels


def task():
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [layers.Input((16,)), layers.Dense(32, activation="relu"), layers.Dense(4, activation="softmax")]
    )
    model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*data(400, 0), epochs=3, verbose=0)
    return autoopt.Task(model=model, train=data(400, 0), validation=data(200, 1), test=data(200, 2), metric="accuracy")
"""
STUDY = """\
space:
  prune: {optional: true, sparsity: {low: 0.05, high: 0.95, step: 0.01}, frequency: 2}
  cluster: {optional: true, number: {low: 4, high: 64, step: 2}}
  finetune: {epochs: [1, 2, 3]}
  scheme: [float32, float16, dynamic, int8]
objectives: [quality, latency_ms, compressed_bytes]
trials: 5
confirm: false
"""
REPEATS = 3


def grow(folder: Path, number: int) -> None:
    """Lay records of other recipes beside those that a study has made."""
    from autoopt.api.saved_study import load
    from autoopt.core.stage_settings import Finetune
    from autoopt.search.sampler import Proposals
    from autoopt.study.folder import StudyFolder
    from autoopt.study.ledger import Ledger
    from autoopt.study.objectives import Terms

    results = load(folder)
    study = StudyFolder(folder)
    terms = Terms(
        quality=results.metrics[results.quality],
        metrics=results.metrics,
        objectives=results.objectives,
        budgets=results.budgets,
    )
    ledger = Ledger(study, terms)
    config = study.config()
    metrics = [terms.metrics[name] for name in terms.objectives]
    proposals = Proposals(study.database, config.space, Finetune(learning_rate=1e-3), metrics, "tpe", config.seed)
    model = next(c for c in results.candidates if not c.failed and c.number > 0)
    seen = {c.recipe.digest for c in results.candidates}
    rng = random.Random(0)
    for candidate in results.candidates:
        ledger.recall(candidate.number)
    at = len(results.candidates)
    while at < number:
        recipe = config.space.random(rng, Finetune(learning_rate=1e-3), config.seed)
        if recipe.digest in seen:
            continue
        seen.add(recipe.digest)
        values = {
            name: dataclasses.replace(m, value=m.value * f, low=m.low * f, high=m.high * f)
            for name, m in model.measurements.items()
            if (f := 1.0 if name == "size_bytes" else rng.uniform(0.7, 1.0))
        }
        made = dataclasses.replace(model, number=at, recipe=recipe, origin="search", measurements=values)
        ledger.keep(made)
        trial = proposals.put_back(made)
        proposals.tell(trial, *ledger.told(made))
        at += 1


def timed(*command: str | Path) -> float:
    """Median seconds of a command."""
    seconds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        subprocess.run([*AUTOOPT, *map(str, command)], check=True, capture_output=True, env=QUIET)
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def resumed(folder: Path, trials: int) -> float:
    """Seconds from the command to the first job of a candidate."""
    logs = folder / "out" / "store" / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    began = time.monotonic()
    command = [*AUTOOPT, "run", str(folder), "--trials", str(trials)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=QUIET) as driver:
        try:
            while len(list(logs.glob("*.log"))) < 2:  # the first is the task's
                if driver.poll() is not None:
                    raise SystemExit("the run ended before it began a job")
                time.sleep(0.02)
            seconds = time.monotonic() - began
        finally:
            driver.send_signal(signal.SIGKILL)
    return seconds


def refreshed(folder: Path) -> float:
    """Seconds in which the page is drawn anew after one candidate more, median."""
    from autoopt.api.live_study import Watched
    from autoopt.server import dashboard
    from autoopt.system.files import write_atomically

    watched = Watched([folder])
    seconds = []
    for number in range(REPEATS + 1):
        record = folder / "out" / "candidates" / f"{number:05d}.json"
        write_atomically(record, record.read_bytes())
        began = time.monotonic()
        dashboard._shown(watched, 0, {})
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    """Time it, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=3000)
    number = parser.parse_args().candidates
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "study")
        folder.mkdir()
        (folder / "task.py").write_text(TASK)
        (folder / "study.yaml").write_text(STUDY)
        subprocess.run([*AUTOOPT, "run", str(folder)], check=True, env=QUIET)
        grow(folder, number)
        rows = [
            ("`autoopt front`", timed("front", folder), 1.5),
            ("`autoopt pick`", timed("pick", folder), 1.5),
            ("`autoopt status`", timed("status", folder), 1.5),
            (
                "`autoopt run`, to its first job",
                statistics.median(resumed(folder, number + 50) for _ in range(REPEATS)),
                10.0,
            ),
            ("a refresh of the dashboard", refreshed(folder), 1.0),
        ]
    lines = [f"| {what} | {seconds:.2f} s | {goal:g} s |" for what, seconds, goal in rows]
    text = f"""# A study of {number:,} candidates

What people wait for, median of {REPEATS}: the dashboard's refresh is what its server computes when a candidate was added.
Written by `python experiments/large_study/run.py --candidates {number}`.

| what | takes | goal |
|---|---|---|
{chr(10).join(lines)}

{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, autoopt {version("autoopt")}, Optuna {version("optuna")}
"""
    (HERE / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
