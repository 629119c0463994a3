"""What libraries greet with and complain of never reaches a user's terminal, whatever is run.

What is written past Python's own streams counts, for the greetings are written by native code, once a process. So each command
has a process that has loaded no library before; but the jobs and the looks at files of all of them are forked from one server,
but for those of the first command and the last, which are run as a user does. The study's model is a `.tflite`, which nothing
can train: TensorFlow is loaded all the same.
"""

import json
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
COMMANDS = """
import json, os, sys
from multiprocessing import forkserver
import forked
from autoopt.cli.commands import main
from autoopt.execution import starting
from autoopt.system import isolation

isolation.start = forked.start
server, _ = starting.process(id)
server.join()
forkserver._forkserver.ensure_running = lambda: None  # it asks as a parent does, which none of the commands is
for line in sys.stdin:
    assert {"tensorflow", "keras", "tf_keras", "ai_edge_litert"}.isdisjoint(sys.modules)
    if (process := os.fork()) == 0:
        with open("said", "wb") as said:
            os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
        main(json.loads(line), prog_name="autoopt")
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_", "PYTHONWARN"))},
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support"))),
}
"""A user's, without the settings that these tests run under."""


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


@pytest.fixture
def commands(folder):
    """Runs commands, as the module's docstring has it."""
    pipe = subprocess.PIPE
    with (
        (folder / "server").open("wb") as server,
        subprocess.Popen(
            [sys.executable, "-c", COMMANDS],
            cwd=folder,
            stdin=pipe,
            stdout=pipe,
            stderr=server,
            text=True,
            env=ENVIRONMENT,
        ) as process,
    ):

        def run(command):
            print(json.dumps(command), file=process.stdin, flush=True)
            code = process.stdout.readline()
            text = (folder / "said").read_text()
            assert code == "0\n", text + (folder / "server").read_text()
            return text

        yield run
    assert (folder / "server").read_text() == ""


def afresh(folder, *command):
    """What a command writes that is run as a user does."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def expect_quiet(text):
    assert text
    assert LIBRARIES.search(text.replace("\n  libraries ", "")) is None, text


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_every_command_that_loads_tensorflow_is_quiet(folder, commands):
    init = ["init", "--data", "data.npz", "--space", "smoke", "--trials", "2"]
    expect_quiet(afresh(folder, "-m", "autoopt", *init, "--model", "two.h5", "two"))
    for command in (
        [*init, "--model", "three.keras", "three"],
        [*init, "--model", "saved", "saved-study"],
        [*init, "--model", "closed.tflite", "study"],
    ):
        expect_quiet(commands(command))
    with (folder / "study" / "study.yaml").open("a") as settings:
        settings.write("measuring: quick\n")
    for command in (
        ["check", "study"],
        ["run", "study", "--plain"],
        ["export", "study", "0", "--to", "bundle"],
        ["verify", "bundle"],
        ["measure", "closed.tflite", "--data", "data.npz"],
        ["doctor"],
    ):
        expect_quiet(commands(command))
    (folder / "call.py").write_text(
        "import autoopt\nfrom autoopt.api import check as rehearsal\n"
        "rehearsal.check('study', say=print)\nprint(autoopt.run('study', trials=2).pick().why)\n"
    )
    expect_quiet(afresh(folder, "call.py"))
