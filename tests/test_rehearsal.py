"""`autoopt check`: what it tries, what it warns of, what it costs."""

import json
from pathlib import Path

import pytest
import tinystudy as tiny
from click.testing import CliRunner

from autoopt import checklist, rehearsal
from autoopt.cli import main
from autoopt.errors import ConfigError
from autoopt.rehearsal import Checked, Tried

STUDY = """\
space:
  channels: {ratio: 0.25, multiple: 1}
  prune: {sparsity: 0.5}
  cluster: {number: [4, 8]}
  scheme: [float32, int8, qat_int8]
trials: 7
hours: 2
"""


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.train_baseline(tmp_path_factory.mktemp("baseline"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> tuple[Checked, list[str], Path]:
    folder = tiny.write(tmp_path_factory.mktemp("check") / "study", study=STUDY, baseline=baseline)
    said: list[str] = []
    return rehearsal.check(folder, say=said.append), said, folder


def test_everything_of_the_space_is_tried_and_nothing_is_left(found: tuple[Checked, list[str], Path]) -> None:
    checked, said, folder = found
    assert checked.works
    assert [tried.name for tried in checked.stages] == ["channels", "prune", "cluster", "qat"]
    assert [tried.name for tried in checked.schemes] == ["float32", "int8", "qat_int8"]
    assert all(tried.step_s > 0 and tried.peak_bytes > 1e8 for tried in checked.stages)
    sizes = {tried.name: tried.size_bytes for tried in checked.schemes}
    assert 0 < sizes["int8"] < sizes["float32"]
    assert [row["kind"] for row in checked.layers] == ["Conv2D", "Dense", "Dense"]
    assert not (folder / "out").exists()
    assert said[0].startswith("reading ")


def test_a_night_is_counted_in_trials(found: tuple[Checked, list[str], Path]) -> None:
    checked = found[0]
    assert checked.trial_s is not None
    least, most = checked.trials
    assert least == int(2 * 3600 / checked.trial_s)
    assert most % least == 0
    assert (checked.hours, checked.asked) == (2, 7)


def test_the_text_has_a_row_a_layer(found: tuple[Checked, list[str], Path]) -> None:
    text = checklist.text(found[0])
    [head, *rows] = text.splitlines()[:4]
    assert head.split() == ["layer", "kind", "weights", "multiply-adds", "channels", "prune", "cluster", "qat"]
    assert [row.split()[-3:] for row in rows] == [["yes"] * 3] * 3
    assert "all of the space works" in text


def test_a_model_that_knows_nothing_is_suspicious(tmp_path: Path, baseline: Path) -> None:
    folder = tiny.write(tmp_path / "study", study="space: {scheme: [float32, int8]}\n", baseline=baseline)
    task = (folder / "task.py").read_text()
    (folder / "task.py").write_text(task.replace("return images, labels", "return images * 0 + 255.0, labels"))
    [*warnings] = rehearsal.check(folder, say=lambda text: None).warnings
    assert any("no better than always saying the most frequent class" in warning for warning in warnings)
    assert any("items of the calibration set are all one value" in warning for warning in warnings)
    assert any("the calibration set hardly holds 3 of 4 classes" in warning for warning in warnings)


DEAD = """

whole = task


def task():
    import dataclasses

    found = whole()
    model = tf_keras.models.load_model(found.model)
    for layer in model.layers[-2:]:
        layer.kernel.assign(np.where(np.abs(layer.kernel) < np.quantile(np.abs(layer.kernel), 0.6), 1e-12, layer.kernel))
    return dataclasses.replace(found, model=model)
"""


def test_what_does_not_work_is_said_and_costs_the_exit_code(tmp_path: Path, baseline: Path) -> None:
    study = "space: {prune: {sparsity: 0.5, structure: 64x64}, scheme: [float32]}\n"
    folder = tiny.write(tmp_path / "study", study=study, baseline=baseline)
    (folder / "task.py").write_text((folder / "task.py").read_text() + DEAD)
    done = CliRunner().invoke(main, ["check", str(folder)])
    assert done.exit_code == 1, done.output
    assert "prune: fails: no layer of this model can take it" in done.stdout
    assert "of the weights are dead already" in " ".join(done.stdout.split())
    assert "not all of the space works" in done.stdout
    plain = json.loads(CliRunner().invoke(main, ["check", str(folder), "--json"]).stdout)
    assert plain["stages"][0]["reason"] == "no layer of this model can take it"


SORTED = """

whole = task


def both(labels, outputs):
    assert len(np.unique(labels)) == 4, "a class is missing"
    return float((outputs.argmax(axis=1) == labels).mean())


def task():
    import dataclasses

    found = whole()
    order = np.argsort(found.validation[1], kind="stable")
    validation = tuple(array[order] for array in found.validation)
    return dataclasses.replace(found, validation=validation, metric=autoopt.QualityMetric(name="both", function=both))
"""


def test_a_few_items_are_not_those_of_one_class(tmp_path: Path, baseline: Path) -> None:
    study = "space: {prune: {sparsity: 0.5}, scheme: [float32]}\nobjectives: [both, size_bytes]\n"
    folder = tiny.write(tmp_path / "study", study=study, baseline=baseline)
    (folder / "task.py").write_text((folder / "task.py").read_text() + SORTED)
    checked = rehearsal.check(folder, say=lambda text: None)
    assert checked.works, checked.warnings


def test_a_task_that_is_wrong_is_refused(tmp_path: Path, baseline: Path) -> None:
    folder = tiny.write(tmp_path / "study", study=STUDY, baseline=baseline)
    (folder / "task.py").write_text("def task():\n    return 3\n")
    with pytest.raises(ConfigError, match=r"task\(\): expected an autoopt.Task, got 'int'"):
        rehearsal.check(folder, say=lambda text: None)


def test_a_long_model_is_shown_by_its_heaviest_layers() -> None:
    rows = [{"layer": f"l{i}", "kind": "Dense", "weights": i, "multiply_adds": i, "dead": 0} for i in range(100)]
    prune = Tried(name="prune", touched=("l99",), skipped={"l98": "too\x1b[31m small"}, step_s=0.01)
    plain = Checked(
        layers=rows, quality="accuracy 0.9", stages=[prune], schemes=[], trial_s=None, hours=10, trials=(0, 0),
        asked=5, warnings=[], seconds=3,
    )  # fmt: skip
    text = checklist.text(plain)
    assert "l99" in text
    assert "l39 " not in text
    assert "and 40 lighter ones" in text
    assert "no recipe of the space works" in text
    assert "\x1b" not in text
