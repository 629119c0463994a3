"""This machine as a target: real runs of tiny files in fresh processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tf_keras
import tiny

from autoopt import targets
from autoopt.core import latency_statistics
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.targets import litert_runner
from autoopt.tflite import conversion

RUNNER = Path(litert_runner.__file__)


@pytest.fixture(scope="module")
def file():
    return tiny.file(tiny.recipe())


@pytest.fixture(scope="module")
def large():
    """A file with 16 MB of weights that every run reads."""
    layers = tf_keras.layers
    return conversion.float32(tiny.network(layers.Flatten(), layers.Dense(2000), layers.Dense(2000), layers.Dense(4)))


@pytest.fixture
def host():
    return targets.find("host")


def test_a_machine_describes_itself(host):
    told = host.describe()
    assert json.loads(json.dumps(told)) == told
    assert (told["target"], told["cores"]) == ("host", os.cpu_count())
    assert told["processor"]
    assert told["runtime"].startswith("ai-edge-litert ")


def test_a_file_takes_as_long_as_itself(host, file):
    def ratio():
        processes = [host.latency(file, file).rounds for _ in range(4)]
        assert all(len(one) >= 4 and min(map(min, one)) > 0 for rounds in processes for one in rounds)
        return latency_statistics.latency_ratio(processes, "").value

    # Whatever else the machine is at may be in the way once, but not each time.
    assert any(ratio() == pytest.approx(1, rel=0.1) for _ in range(10))


def test_a_larger_file_takes_longer_and_the_candidate_comes_first(host, file, large):
    assert latency_statistics.latency_ratio([host.latency(large, file).rounds], "").value > 5


def test_memory_is_positive_and_grows_with_the_file(host, file, large):
    small, much = (host.memory(x)["memory_bytes"] for x in (file, large))
    assert 0 < small < 4_000_000
    assert 16_000_000 < much < 100_000_000


@pytest.mark.parametrize("text", ["host", "host?xnnpack=off"])
def test_integer_inputs_are_measured_too(text):
    file = tiny.file(tiny.recipe("int8_io"))
    assert targets.find(text).latency(file, file).rounds
    assert targets.find(text).memory(file)["memory_bytes"] > 0


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("what", ["latency", "memory"])
def test_a_file_cut_short_fails_its_candidate(what, share, host, file):
    short = file[: int(len(file) * share)]
    with pytest.raises(CandidateFailed) as caught:
        host.latency(short, file) if what == "latency" else host.memory(short)
    assert caught.value.stage == what
    assert caught.value.reason.startswith("LiteRT can't run the file: ValueError: ")
    assert "\n" not in caught.value.reason


def test_measuring_leaves_no_files(host, file, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    host.memory(file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hots", "target hots: unknown target 'hots'; did you mean 'host'"),
        ("host?xnpack=off", "target .*: unknown option 'xnpack'; did you mean 'xnnpack'"),
        ("host?xnnpack=maybe", "xnnpack: expected one of on, off, got 'maybe'"),
        ("host?xnnpack", r"expected \?option=value&option=value, got \?xnnpack"),
        ("host:here", "expected host alone, got 'here' after it"),
    ],
)
def test_a_target_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        targets.find(text)


def test_the_runner_works_away_from_the_package(file, tmp_path):
    """As on a board: Python, numpy and the interpreter, and nothing of autoopt or TensorFlow."""
    for path in (RUNNER, RUNNER.with_name("warmup.tflite")):
        shutil.copy(path, tmp_path)
    (tmp_path / "model.tflite").write_bytes(file)
    code = """
import runpy, sys
runpy.run_path("litert_runner.py", run_name="__main__")
print(sorted({"autoopt", "tensorflow"} & set(sys.modules)))
"""
    asked = {"what": "memory", "file": "model.tflite", "reference": "", "threads": 1, "xnnpack": True}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=json.dumps(asked), capture_output=True, text=True, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak, foreign = done.stdout.splitlines()
    assert int(peak) > 0
    assert foreign == "[]"
