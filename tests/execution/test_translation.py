"""What the server of jobs has TensorFlow translate is what jobs need, and changes nothing that they make."""

import sys
from pathlib import Path

import pytest
import tinystudy
import translating

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Levels, Prune
from autoopt.execution import starting, translation
from autoopt.models.keras_internals import function_at

TUNING = Finetune(epochs=1, learning_rate=0.002, batch_size=32)
RECIPES = [
    Recipe(
        prune=Prune(sparsity=0.5, frequency=2),
        cluster=Cluster(number=8),
        scheme="qat_int8",
        finetune=TUNING,
    ),
    Recipe(levels=Levels(number=15), finetune=TUNING),
]
"""All stages that change what is computed in training."""


def test_each_function_is_there() -> None:
    for module, path, _ in translation.translated():
        assert function_at(module, path).__name__ == path.rpartition(".")[2]


def test_what_can_not_be_translated_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "GIVEN", {"no.such.module": ("function",)})
    monkeypatch.setattr(translation, "OWN_GIVEN", {"autoopt.execution.translation": ("nothing", "translated")})
    for table in ("TRAINED_BY", "OWN"):
        monkeypatch.setattr(translation, table, {})
    translation.prepare()  # no module, no function, and a generator, which TensorFlow refuses


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")
def test_jobs_translate_nothing_and_make_the_same_files_as_if_they_did(tmp_path: Path) -> None:
    """Trains each stage twice, in two processes: what a training calls shows nowhere else, nor does what comes of it."""
    study = tinystudy.write(tmp_path / "study")
    recipes = [recipe.to_json() for recipe in RECIPES]
    told, files = {}, {}
    for afresh in (False, True):
        folder = tmp_path / f"{afresh}"
        folder.mkdir()
        process, hear = starting.process(translating.make, str(folder), str(study / "task.py"), recipes, afresh)
        told[afresh] = hear.recv()
        process.join()
        files[afresh] = [(folder / f"{number}.tflite").read_bytes() for number, _ in enumerate(recipes)]
    assert told[False] == []
    assert len(told[True]) > 30
    assert files[False] == files[True]
    assert all(files[False])
