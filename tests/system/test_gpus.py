"""GPUs, by what NVIDIA's tool prints; the tool is played here, for the machine may have none."""

import threading

import pytest

from autoopt.system import gpus
from autoopt.system.gpus import Gpu

PRINTED = """\
0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 81559, 80000
1, GPU-bbbb-2, "NVIDIA T4, passive", 15360, 15000
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a tool that prints this, and ends so, in front of all others."""

    def put(text, code=0):
        script = tmp_path / "bin" / "nvidia-smi"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
        gpus._asked.cache_clear()

    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setenv("AUTOOPT_TMPDIR", str(tmp_path))
    yield put
    gpus._asked.cache_clear()


def never():
    return False


def test_gpus_are_read_with_names_and_memory(tool):
    tool(PRINTED)
    first, second = gpus.found()
    assert first == Gpu(0, "GPU-aaaa-1", "NVIDIA H100 80GB HBM3", 81559 * 2**20, 80000 * 2**20)
    assert (second.name, first.jobs, second.jobs) == ("NVIDIA T4, passive", 4, 2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9),
        ("No devices were found\n", 0),
        ("", 0),
        ("0, GPU-aaaa-1, card, [N/A], [N/A]\n", 0),
    ],
)
def test_a_machine_without_a_working_gpu_has_none(tool, text, code):
    tool(text, code)
    assert gpus.found() == []
    with gpus.lent(None, never) as gpu:
        assert gpu == ""


def test_a_machine_without_the_tool_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus._asked.cache_clear()
    assert gpus.found() == []
    gpus._asked.cache_clear()


@pytest.mark.parametrize(
    ("variable", "left"),
    [("0", [0]), ("1,0", [1, 0]), ("1", [1]), ("", []), ("-1", []), ("0,7,1", [0]), ("GPU-bbbb", [1]), ("GPU-", []), ("x", [])],
)  # fmt: skip
def test_the_variable_of_cuda_is_honoured(tool, monkeypatch, variable, left):
    tool(PRINTED)
    monkeypatch.setenv(gpus.VISIBLE, variable)
    assert [gpu.index for gpu in gpus.found()] == left


def test_jobs_are_spread_over_gpus_before_they_share_one(tool):
    tool(PRINTED)
    lent = [gpus.lent(None, never) for _ in range(6)]
    given = [one.__enter__() for one in lent]
    assert given == ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-aaaa-1", "GPU-bbbb-2", "GPU-aaaa-1", "GPU-aaaa-1"]
    with gpus.lent(None, lambda: True) as gpu:
        assert gpu is None, "all are taken, and whoever waits is stopped"
    lent[1].__exit__(None, None, None)
    with gpus.lent(None, never) as gpu:
        assert gpu == "GPU-bbbb-2"
    for one in lent[:1] + lent[2:]:
        one.__exit__(None, None, None)


def test_whoever_comes_late_waits_until_one_is_free(tool):
    tool("0, GPU-aaaa-1, small, 4096, 4000\n")
    taken = []

    def work():
        with gpus.lent(None, never) as gpu:
            taken.append(gpu)

    with gpus.lent(None, never) as gpu:
        other = threading.Thread(target=work)
        other.start()
        other.join(3 * gpus.POLL_S)
        assert (gpu, taken) == ("GPU-aaaa-1", [])
    other.join(60)
    assert taken == ["GPU-aaaa-1"]


def test_a_study_may_use_fewer_or_none(tool):
    tool(PRINTED)
    with gpus.lent(1, never) as first, gpus.lent(1, never) as second:
        assert (first, second) == ("GPU-aaaa-1", "GPU-aaaa-1")
    with gpus.lent(0, never) as gpu:
        assert gpu == gpus.NONE


def test_a_job_sees_its_own_gpu_or_none():
    assert gpus.environment("GPU-1") == {"CUDA_VISIBLE_DEVICES": "GPU-1", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    assert gpus.environment(None) == {"CUDA_VISIBLE_DEVICES": "-1"}
    assert gpus.environment("") == {}
