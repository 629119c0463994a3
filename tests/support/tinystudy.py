"""A tiny study that runs for real: 8x8 patterns with noise, a small CNN, trained once a test session."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import waiting
from click.testing import CliRunner

from autoopt.cli.commands import main

TASK = '''
import os, signal, sys, time
from pathlib import Path

import numpy as np
import tf_keras

import autoopt

HERE = Path(__file__).parent


def data(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.normal(0, 0.6, (n, 8, 8, 1)).astype(np.float32)
    for k in range(4):
        images[labels == k, 2 * k : 2 * k + 2] += 1.0
    return images, labels


def network():
    layers = tf_keras.layers
    inputs = layers.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    return tf_keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def training():
    """Whether this process is fine-tuning, as seen from inside the metric."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "on_epoch_end":
            return True
        frame = frame.f_back
    return False


def taken():
    """The fault of a folder of them that no other training has taken."""
    for place in sorted((HERE / "faults").glob("*")):
        try:
            place.rename(HERE / f"taken-{place.name}")
        except FileNotFoundError:
            continue
        return place.name
    return ""


def accuracy(labels, outputs):
    fault = HERE / "fault"
    what = (fault.read_text().strip() if fault.exists() else taken()) if training() else ""
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "abort":
        os.abort()
    if what == "oom-kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        (HERE / "hangs.part").write_text(str(os.getpid()))
        (HERE / "hangs.part").rename(HERE / "hangs")
        while True:
            time.sleep(0.05)
    if what == "memory":
        hoard = []
        while True:
            hoard.append(np.ones(4_000_000))
            time.sleep(0.01)
    if what == "raise":
        raise RuntimeError("the metric's own trouble")
    if what == "nan":
        return float("nan")
    if what == "exit":
        os._exit(7)
    return float((outputs.argmax(axis=1) == labels).mean())


def task():
    baseline = HERE / "baseline.h5"
    if not baseline.exists():
        tf_keras.utils.set_random_seed(0)
        model = network()
        model.compile(tf_keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
        model.fit(*data(400, 0), epochs=4, batch_size=32, verbose=0)
        model.save(baseline, include_optimizer=False)
    return autoopt.Task(
        model=baseline,
        train=data(400, 0),
        validation=data(200, 1),
        test=data(200, 2),
        metric=METRIC,
        finetune=autoopt.Finetune(epochs=1, learning_rate=0.002, batch_size=32),
    )
'''
PLAIN = 'METRIC = "accuracy"\n'
OWN = 'METRIC = autoopt.QualityMetric(name="hits", function=accuracy, unit="fraction")\n'

STUDY = """\
space:
  prune: {sparsity: [0.5, 0.7], frequency: 2}
  scheme: [float32, dynamic, int8]
objectives: [quality, latency_ms, compressed_bytes]
trials: 5
slots: 2
confirm: false
measuring: quick
"""
TRIALS = 5
"""`STUDY` makes so many candidates: the baseline, two schemes, and two that are trained."""
BASELINE = Path(__file__).with_name("baseline.h5")
"""What `task` trains, kept so that no test has to: `python tests/support/tinystudy.py` makes it anew."""
COMMAND = [sys.executable, "-m", "autoopt"]
ENVIRONMENT = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "120"}


def write(folder: Path, *, own_metric: bool = False, study: str = STUDY, trained: bool = True) -> Path:
    """A study in `folder`; with the trained network beside this file, unless the task is to train its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(TASK + "\n\n" + (OWN if own_metric else PLAIN))
    (folder / "study.yaml").write_text(study)
    if trained:
        shutil.copyfile(BASELINE, folder / "baseline.h5")
    return folder


def invoke(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, where libraries are loaded already: output and exit code are the same."""
    done = CliRunner(env={"COLUMNS": "120"}).invoke(main, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def autoopt(*arguments: str | Path | int, timeout: float = waiting.LONGEST_S) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own: for signals, and for what is said of libraries."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = write(Path(place), trained=False)
        code = "import runpy; runpy.run_path('task.py')['task']()"
        subprocess.run([sys.executable, "-c", code], cwd=made, env=ENVIRONMENT, check=True)
        shutil.copyfile(made / "baseline.h5", BASELINE)
