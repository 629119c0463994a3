"""Objectives and budgets, once the task's own metric is known."""

from pathlib import Path

import pytest

from autoopt.errors import ConfigError
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.study.objectives import settle

MAE = {"name": "mae", "direction": "min", "unit": ""}


def config(folder: Path, text: str) -> StudyConfig:
    (folder / "study.yaml").write_text(f"space: smoke\n{text}\n")
    return StudyFolder(folder).config()


def test_quality_stands_for_the_tasks_own_metric(tmp_path: Path) -> None:
    found = settle(config(tmp_path, "budgets: mae <= baseline + 0.1"), MAE, "study.yaml")
    assert found.objectives == ("mae", "latency_ms", "compressed_bytes")
    assert (found.quality.name, found.quality.direction) == ("mae", "min")
    assert [budget.metric for budget in found.budgets] == ["mae"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objectives: [quality, speed]", "study.yaml: objectives: unknown metric 'speed'"),
        ("budgets: speed <= 1", "study.yaml: .*speed"),
        ("equivalence: 1 point", "study.yaml: equivalence '1 point': mae has no unit"),
        (
            "target: micro:64KB\nobjectives: [quality, latency_ms]",
            "study.yaml: objectives: the target micro:64KB does not measure latency_ms; it measures memory_bytes",
        ),
        ("budgets: flash_bytes <= 1 MB", "study.yaml: budgets: the target host does not measure flash_bytes"),
    ],
)
def test_what_can_never_be_measured_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(config(tmp_path, text), MAE, "study.yaml")


def test_a_latency_ratio_comes_with_latency(tmp_path: Path) -> None:
    found = settle(config(tmp_path, "budgets: latency_ratio <= 0.5x"), MAE, "study.yaml")
    assert found.budgets[0].metric == "latency_ratio"


def test_the_margin_goes_with_the_terms(tmp_path: Path) -> None:
    assert settle(config(tmp_path, "equivalence: 2 %"), MAE, "study.yaml").equivalence == "2 %"
