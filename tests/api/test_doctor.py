"""What a machine has and lacks."""

import json
import subprocess
import sys

import psutil
import pytest

from autoopt.api import doctor
from autoopt.system import gpus


def by_topic(**changes):
    return {finding.topic: finding for finding in doctor.examine(**changes)}


def test_this_machine_can_run_autoopt():
    found = doctor.examine()
    assert not [finding for finding in found if finding.state == "bad"]
    topics = [finding.topic for finding in found]
    assert {"python", "libraries", "keras", "processor", "cores", "memory", "disk", "temporary", "target host"} <= set(
        topics
    )
    assert all(finding.advice for finding in found if finding.state != "good")


@pytest.mark.parametrize(
    ("text", "found", "state"),
    [
        ("flags\t\t: fpu sse avx2 avx512f avx512_vnni", "AVX2, AVX-512, AVX-512 VNNI", "good"),
        ("flags\t\t: fpu avx2", "AVX2", "poor"),
        ("Features\t: fp asimd asimddp", "NEON, NEON dot product", "good"),
        ("Features\t: fp asimd", "NEON", "poor"),
        ("flags\t\t: fpu", "none that matter", "poor"),
    ],
)
def test_processors_are_told_apart_by_what_int8_needs(tmp_path, text, found, state):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}\n")
    finding = by_topic(cpuinfo=tmp_path / "cpuinfo")["processor"]
    assert (finding.found, finding.state) == (found, state)
    assert ("int8 may be slower than float32" in finding.advice) == (state == "poor")


def test_a_system_that_does_not_describe_its_processor(tmp_path):
    assert by_topic(cpuinfo=tmp_path / "none")["processor"].state == "good"


def test_a_temporary_folder_that_can_not_be_used_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert by_topic()["temporary"].found.endswith(f"free in {tmp_path}")
    [mine] = tmp_path.iterdir()
    mine.rmdir()
    mine.symlink_to(tmp_path)
    finding = by_topic()["temporary"]
    assert (finding.state, "is a link; remove it, or set TMPDIR" in finding.advice) == ("bad", True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert by_topic()["temporary"].state == "bad"


def test_what_is_missing_is_named(monkeypatch):
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "optuna" else known(name))
    finding = by_topic()["libraries"]
    assert (finding.state, finding.advice) == ("bad", "missing: optuna; install autoopt again")


def test_two_tensorflows_get_into_each_others_way(monkeypatch):
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: known("tensorflow" if name == "tensorflow-cpu" else name))
    assert "both installed" in by_topic()["libraries"].found


def test_little_memory_and_another_keras_are_told(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    memory = psutil.virtual_memory()._replace(available=1 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    found = by_topic()
    assert found["memory"].state == found["keras"].state == "poor"


def test_phones_are_those_that_adb_lists(tmp_path, monkeypatch):
    adb = tmp_path / "adb"
    adb.write_text("#!/bin/sh\nprintf 'List of devices attached\\nR58M12\\tdevice\\nX1\\tunauthorized\\n'\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert by_topic()["target adb"].found == "R58M12"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    found = by_topic()
    assert (found["target adb"].found, found["target ssh"].found) == ("no adb", "no ssh")


def test_the_command_prints_findings_and_json_without_tensorflow():
    shown = subprocess.run([sys.executable, "-m", "autoopt", "doctor"], capture_output=True, text=True, check=True)
    assert "processor" in shown.stdout
    plain = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "autoopt", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"topic", "found", "state", "advice"} == set(json.loads(plain.stdout)[0])
    assert "tensorflow.python" not in plain.stderr


@pytest.mark.parametrize("cuda", ["9.10", ""])
def test_gpus_are_named_with_what_would_use_them(cuda, monkeypatch):
    card = gpus.Gpu(0, "GPU-a", "NVIDIA T4", 16e9, 15e9)
    monkeypatch.setattr(gpus, "found", lambda: [card])
    monkeypatch.setattr(doctor, "_version", lambda name: cuda if name == doctor.CUDA else "1")
    finding = by_topic()["gpu"]
    assert finding.found.startswith("NVIDIA T4, 16 GB, 15 GB free")
    assert (finding.state, "autoopt[gpu]" in finding.advice) == (("good", False) if cuda else ("poor", True))
    monkeypatch.setattr(gpus, "found", list)
    assert by_topic()["gpu"].found == "none is known; trainings use the processor"
