"""What libraries greet with and complain of never reaches a user's terminal, whatever is run.

The commands are run as a user does, for the greetings are written by native code past Python's own streams. The model is
a `.tflite`, which nothing can train: TensorFlow is loaded all the same.
"""

import os
import re
import subprocess
import sys

import builders
import keras
import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.tflite import conversion

LIBRARIES = re.compile(
    r"absl|oneDNN|cuda|cudart|TensorRT|cpu_feature_guard|TF-TRT|rebuild TensorFlow|Ignored (output|drop)|MLIR|XNNPACK|"
    r"TensorFlow Lite|Compiled the loaded|StreamExecutor|computation_placer|WARNING:|^[IWEF]\d{4} |^\d{4}-\d\d-\d\d .*: [IWEF] |"
    r"Warning:|INFO:|Traceback|HDF5",
    re.MULTILINE,
)
ROOT = builders.ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("quiet")
    layers = tf_keras.layers
    model = tiny.network(layers.Flatten(), layers.Dense(4, activation="softmax"))
    model.save(made / "two.h5")
    model.save(made / "saved")
    (made / "closed.tflite").write_bytes(conversion.float32(model))
    x, y = tiny.images(80, 1)
    keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(4)]).save(
        made / "three.keras"
    )
    np.savez(made / "data.npz", x_train=x, y_train=y)
    return made


def said(folder, *command):
    """What a fresh process writes, without the settings that these tests run under."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_", "PYTHONWARN"))}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env=kept | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def expect_quiet(folder, command):
    text = said(folder, "-m", "autoopt", *command)
    assert text
    assert LIBRARIES.search(text.replace("\n  libraries ", "")) is None, f"{command}: {text}"


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_every_command_that_loads_tensorflow_is_quiet(folder):
    init = ["init", "--data", "data.npz", "--space", "smoke", "--trials", "2"]
    beginnings = [
        [*init, "--model", "two.h5", "two"],
        [*init, "--model", "three.keras", "three"],
        [*init, "--model", "saved", "saved-study"],
        [*init, "--model", "closed.tflite", "study"],
    ]
    commands = [
        ["check", "study"],
        ["run", "study", "--plain"],
        ["export", "study", "0", "--to", "bundle"],
        ["verify", "bundle"],
        ["measure", "closed.tflite", "--data", "data.npz"],
        ["doctor"],
    ]
    for command in beginnings:
        expect_quiet(folder, command)
    with (folder / "study" / "study.yaml").open("a") as settings:
        settings.write("measuring: quick\n")
    for command in commands:
        expect_quiet(folder, command)
    (folder / "call.py").write_text(
        "import autoopt\nfrom autoopt.api import check as rehearsal\n"
        "rehearsal.check('study', say=print)\nprint(autoopt.run('study', trials=2).pick().why)\n"
    )
    assert LIBRARIES.search(said(folder, "call.py")) is None
