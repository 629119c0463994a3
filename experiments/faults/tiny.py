"""A study of a few seconds, run as a user runs it, and what must hold of it whatever was done to it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import autoopt

TASK = """
from pathlib import Path

import numpy as np
import tf_keras

import autoopt


def data(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.normal(0, 0.6, (n, 8, 8, 1)).astype(np.float32)
    for k in range(4):
        images[labels == k, 2 * k : 2 * k + 2] += 1.0
    return images, labels


def train(path):
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(momentum=0.8), layers.ReLU(), layers.Flatten()]
    stack += [layers.Dense(16, activation="relu"), layers.Dense(4, activation="softmax")]
    x = inputs = layers.Input((8, 8, 1))
    for layer in stack:
        x = layer(x)
    model = tf_keras.Model(inputs, x)
    model.compile(tf_keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(*data(400, 0), epochs=4, batch_size=32, verbose=0)
    model.save(path)


def task():
    return autoopt.Task(
        model=Path(__file__).with_name("model.h5"),
        train=data(400, 0),
        validation=data(200, 1),
        test=data(200, 2),
        finetune=autoopt.Finetune(epochs=1, learning_rate=0.002, batch_size=32),
    )
"""
STUDY = """\
space:
  prune: {sparsity: [0.5, 0.7], frequency: 2}
  scheme: [float32, dynamic, int8]
objectives: [quality, latency_ms, compressed_bytes]
trials: 5
slots: 2
confirm: false
"""
CARRIED = "AUTOOPT_FAULTS"
"""A variable that all processes of a run carry, by which those left behind are found wherever they hang."""
LONGEST_S = 300
ORPHANS_S = 5


@dataclass
class Study:
    """A study in a folder of its own, with a temporary folder of its own beside it."""

    place: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.place / "study"

    @property
    def temporary(self) -> Path:
        """What `TMPDIR` is."""
        return self.place / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the study's processes."""
        quiet = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
        return {**os.environ, **quiet, "TMPDIR": str(self.temporary), CARRIED: self.token}

    def start(self) -> subprocess.Popen[str]:
        """The driver, in a session of its own."""
        self.temporary.mkdir(exist_ok=True)
        said = (self.place / "said").open("w")
        line = [sys.executable, "-m", "autoopt", "run", str(self.folder)]
        with said:
            return subprocess.Popen(
                line, stdout=said, stderr=said, text=True, env=self.environment, start_new_session=True
            )

    def said(self) -> str:
        """What the last driver wrote."""
        return (self.place / "said").read_text(errors="replace")

    def finish(self) -> list[str]:
        """Run to the end; what is wrong with how that went."""
        driver = self.start()
        try:
            code = driver.wait(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            return [f"not done after {LONGEST_S} s"]
        return [] if code == 0 else [f"ends with code {code}: {last_line(self.said())}"]

    def processes(self) -> list[psutil.Process]:
        """All of its processes that live."""
        mine = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(CARRIED) == self.token:
                    mine.append(process)
        return mine

    def jobs(self, driver: int) -> list[psutil.Process]:
        """Its jobs: what the server of the driver's has forked."""
        with contextlib.suppress(psutil.Error):
            servers = [p for p in psutil.Process(driver).children() if "forkserver" in " ".join(p.cmdline())]
            return [job for server in servers for job in server.children()]
        return []

    def orphans(self) -> list[str]:
        """What still lives some seconds after its driver ended; it is ended then."""
        until = time.monotonic() + ORPHANS_S
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.1)
        wrong = [f"{len(left)} processes are left after {ORPHANS_S} s"] if left else []
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return wrong

    def kept(self) -> dict[str, int]:
        """When each candidate was written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.folder / "out" / "candidates").glob("*.json")}

    def litter(self) -> list[str]:
        """What lies about outside of the study after an orderly end."""
        left = [path for path in self.temporary.rglob("*") if not path.is_dir()]
        private = [path for path in left if path.parent.name.startswith("autoopt-") or path.parent.name == "running"]
        names = sorted({path.name[:24] for path in left if path not in private})
        return (
            [f"leaves {len(left) - len(private)} files in the temporary folder ({', '.join(names[:3])})"]
            if names
            else []
        )


def make(place: Path, model: bytes) -> Study:
    """A study that was not run yet, around this model file."""
    study = Study(place)
    study.folder.mkdir(parents=True)
    study.temporary.mkdir()
    (study.folder / "task.py").write_text(TASK)
    (study.folder / "study.yaml").write_text(STUDY)
    (study.folder / "model.h5").write_bytes(model)
    return study


def model(place: Path) -> bytes:
    """The model file, trained in a process of its own."""
    place.mkdir(parents=True)
    (place / "task.py").write_text(TASK)
    code = "import runpy; runpy.run_path('task.py')['train']('model.h5')"
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, check=True, capture_output=True)
    return (place / "model.h5").read_bytes()


def values(folder: Path) -> dict[str, list[Any]]:
    """What each recipe came to, as far as it does not depend on time."""
    names = ("accuracy", "size_bytes", "compressed_bytes")
    found = autoopt.load(folder).candidates
    return {c.recipe.digest: [c.failed, c.reason, c.sha256, *(c.value(name) for name in names)] for c in found}


def shown_wrongly(folder: Path, reference: dict[str, list[Any]]) -> list[str]:
    """The values that are shown though they were not measured."""
    shown = values(folder)
    other = [recipe for recipe, value in shown.items() if recipe in reference and value != reference[recipe]]
    wrong = [f"{len(other)} candidates are shown with other numbers"] if other else []
    return wrong + [f"a candidate failed: {value[1]}" for value in shown.values() if value[0]][:1]


def incomplete(study: Study, reference: dict[str, list[Any]], before: dict[str, int]) -> list[str]:
    """What does not hold of a study at its end.

    Args:
        study: that was run to its end.
        reference: see `values`, of a run that nothing happened to.
        before: see `Study.kept`, of when something happened to it.
    """
    wrong = shown_wrongly(study.folder, reference)
    kept, out = study.kept(), study.folder / "out"
    if lost := [name for name in before if name not in kept]:
        wrong.append(f"{len(lost)} finished candidates are lost")
    if twice := [name for name in before if kept.get(name, before[name]) != before[name]]:
        wrong.append(f"{len(twice)} finished candidates were made twice")
    numbers = sorted(int(path.stem) for kind in ("candidates", "skipped") for path in (out / kind).glob("*.json"))
    if numbers != list(range(len(numbers))):
        wrong.append(f"numbers have gaps: {numbers}")
    if len(kept) != len(reference):
        wrong.append(f"{len(kept)} candidates in place of {len(reference)}")
    for path in (out / "candidates").glob("*.json"):
        told = json.loads(path.read_text())
        entry = out / "store" / told["file"][:2] / told["file"] if told.get("file") else None
        if entry and hashlib.sha256(entry.read_bytes()[48:]).hexdigest() != told["sha256"]:
            wrong.append(f"{path.name} is of another file than the store's")
    with contextlib.closing(sqlite3.connect(out / "study.db")) as database:
        if running := database.execute("select count(*) from trials where state = 'RUNNING'").fetchone()[0]:
            wrong.append(f"{running} trials are left running")
    return wrong + study.litter()


def last_line(text: str) -> str:
    """The last line that says something."""
    return ([line for line in text.splitlines() if line.strip()] or [""])[-1][:200]


def clear(study: Study) -> None:
    """Remove a study with all that it left."""
    shutil.rmtree(study.place, ignore_errors=True)
