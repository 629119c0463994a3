"""A small study as it lies in its folder."""

import hashlib
import json
from pathlib import Path

import pytest

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement
from autoopt.core.recipe import Recipe
from autoopt.execution.artifact_store import Store
from autoopt.study.folder import StudyFolder

FILE = b"pretend this is a model"
END = {"name": "image", "shape": [1, 8, 8, 1], "dtype": "int8", "scale": 0.5, "zero_point": -128}


def exact(value: float) -> Measurement:
    return Measurement.exact(value, "made up")


def candidates() -> list[Candidate]:
    measured = {"accuracy": 0.9, "latency_ms": 2.0, "size_bytes": 23.0, "compressed_bytes": 20.0}
    smaller = measured | {"latency_ms": 1.0, "compressed_bytes": 10.0}
    proof = {
        "inputs": [END],
        "outputs": [END | {"name": "scores", "scale": None, "zero_point": None}],
        "ops": {"CONV_2D": 2},
        "float_islands": {"SOFTMAX": 1},
        "integer_share": 0.5,
        "weights": [{"name": "w", "shape": [2, 3], "dtype": "int8", "sparsity": 0.5, "distinct_per_channel": 3}],
    }
    digest = hashlib.sha256(FILE).hexdigest()
    return [
        Candidate(
            number=0, recipe=Recipe(), origin="baseline", measurements={n: exact(v) for n, v in measured.items()}
        ),
        Candidate(
            number=1,
            recipe=Recipe(scheme="int8_io"),
            measurements={n: exact(v) for n, v in smaller.items()},
            proof=proof,
            file="a" * 64,
            sha256=digest,
        ),
        Candidate(number=2, recipe=Recipe(scheme="dynamic"), failed_stage="proof", reason="clusters were lost"),
    ]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = StudyFolder(tmp_path)
    folder.candidates.mkdir(parents=True)
    header = {
        "study": "toy",
        "quality": {"name": "accuracy", "direction": "max", "unit": "fraction"},
        "objectives": ["accuracy", "latency_ms"],
        "budgets": ["latency_ms <= 1.5 ms"],
        "provenance": {"libraries": {"numpy": "2"}, "task": "f00d"},
    }
    folder.header.write_text(json.dumps(header))
    for c in candidates():
        folder.candidate_file(c.number).write_text(json.dumps(c.to_dict()))
    Store(folder.store()).put("a" * 64, FILE)
    (tmp_path / "study.yaml").write_text("space: smoke")
    return tmp_path
