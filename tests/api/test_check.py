"""`autoopt check`: what it tries, what it warns of, what it costs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import tinystudy as tiny
from click.testing import CliRunner

from autoopt.api import check
from autoopt.api.checked import Checked, Tried
from autoopt.cli import checklist
from autoopt.cli.commands import main
from autoopt.errors import ConfigError

STUDY = """\
space:
  channels: {ratio: 0.25, multiple: 1}
  prune: {sparsity: 0.5}
  cluster: {number: [4, 8]}
  scheme: [float32, int8, qat_int8]
trials: 7
hours: 2
measuring: quick
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checked, list[str], Path]:
    folder = tiny.write(tmp_path_factory.mktemp("check") / "study", study=STUDY)
    said: list[str] = []
    return check.check(folder, say=said.append), said, folder


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
    assert not any("scal" in warning for warning in checked.warnings)
    assert said[0].startswith("reading ")


def test_a_night_is_counted_in_trials(found: tuple[Checked, list[str], Path]) -> None:
    checked = found[0]
    assert checked.trial_s is not None
    least, most = checked.trials
    whole = 2 * 2 * 3 * 3  # the baseline is one of them
    assert least == min(whole, int(2 * 3600 / checked.trial_s))
    assert least <= most <= whole
    assert (checked.hours, checked.asked) == (2, 7)


def test_the_text_has_a_row_a_layer(found: tuple[Checked, list[str], Path]) -> None:
    text = checklist.text(found[0])
    [head, *rows] = text.splitlines()[:4]
    assert head.split() == ["layer", "kind", "weights", "multiply-adds", "channels", "prune", "cluster", "qat"]
    assert [row.split()[-3:] for row in rows] == [["yes"] * 3] * 3
    assert "all of the space works" in text


def test_a_model_that_knows_nothing_is_suspicious(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", study="space: {scheme: [float32, int8]}\nmeasuring: quick\n")
    task = (folder / "task.py").read_text()
    (folder / "task.py").write_text(task.replace("return images, labels", "return images * 0 + 255.0, labels"))
    [*warnings] = check.check(folder, say=lambda text: None).warnings
    [guessing] = [w for w in warnings if "no better than always saying the most frequent class" in w]
    assert "scaling the inputs otherwise does not help (x / 255: " in guessing
    assert any("items of the calibration set are all one value" in warning for warning in warnings)
    assert any("the calibration set has very few items of 3 of 4 classes" in warning for warning in warnings)


def softplus(folder: Path) -> None:
    """Give a study a network with an operator that TensorFlow Lite Micro has in float32 and int8 alone."""
    task = (folder / "task.py").read_text()
    (folder / "task.py").write_text(task.replace("layers.ReLU()(x)", 'layers.Activation("softplus")(x)'))


def test_what_the_target_cannot_run_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    study = "space: {scheme: [int8_io, int16x8]}\ntarget: micro:64KB\n"
    folder = tiny.write(tmp_path / "study", study=study, trained=False)
    softplus(folder)
    checked = check.check(folder, say=lambda text: None)
    reasons = {tried.name: tried.reason for tried in checked.schemes}
    assert reasons["int8_io"] == ""
    assert "TFLM can't run the file" in reasons["int16x8"]
    assert not checked.works


def test_a_space_of_which_the_target_runs_nothing_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("space: mobile\ntask: missing.py\n")
    with pytest.raises(ConfigError, match=r"space: the target vela:ethos-u55-128 can run none of .*; use space: npu"):
        check.check(tmp_path, target="vela:ethos-u55-128", say=lambda text: None)


VALUES = """\
space:
  prune: {sparsity: 0.5, structure: [unstructured, "64x64"]}
  scheme: [float32]
  finetune: {epochs: 1, distillation: [0, 0.5]}
trials: 50
measuring: quick
"""


def test_every_value_of_the_space_is_tried_and_no_more_trials_counted_than_it_has(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", study=VALUES)
    said: list[str] = []
    checked = check.check(folder, say=said.append)
    assert [tried.reason for tried in (*checked.stages, *checked.schemes)] == ["", ""]
    assert not checked.works
    reasons = [tried.reason for tried in checked.recipes]
    assert "no layer of this model can take it" in "".join(reasons)
    assert any("64x64" in reason for reason in reasons)
    assert any("distilled" in text for text in said)
    assert (checked.asked, max(checked.trials)) == (5, 5)
    assert "recipes work that together hold every value of the space's lists" in " ".join(
        checklist.text(checked).split()
    )


SCALED = "return images / 255, labels"


def test_data_that_is_scaled_wrongly_is_told_with_the_better_way(tmp_path: Path) -> None:
    study = "space: {scheme: [float32]}\nmeasuring: quick\n"
    folder = tiny.write(tmp_path / "study", study=study)
    task = (folder / "task.py").read_text()
    (folder / "task.py").write_text(task.replace("return images, labels", SCALED))
    warnings = check.check(folder, say=lambda text: None).warnings
    [scaled] = [warning for warning in warnings if "scaled" in warning]
    assert re.search(
        r"where the accuracy .* is [2-4]\d\.\d% \(.*varies 0\.00\d+ times.*with x \* 255 it is \d+\.\d% ", scaled
    ), scaled


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


def test_what_does_not_work_is_said_and_costs_the_exit_code(tmp_path: Path) -> None:
    study = "space: {prune: {sparsity: 0.5, structure: 64x64}, scheme: [float32]}\nmeasuring: quick\n"
    folder = tiny.write(tmp_path / "study", study=study)
    (folder / "task.py").write_text((folder / "task.py").read_text() + DEAD)
    done = CliRunner().invoke(main, ["check", str(folder)])
    assert done.exit_code == 1, done.output
    assert "prune: fails: no layer of this model can take it" in done.stdout
    assert "of the weights are as good as zero already" in " ".join(done.stdout.split())
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


def test_a_few_items_are_not_those_of_one_class(tmp_path: Path) -> None:
    study = "space: {prune: {sparsity: 0.5}, scheme: [float32]}\nobjectives: [both, size_bytes]\nmeasuring: quick\n"
    folder = tiny.write(tmp_path / "study", study=study)
    (folder / "task.py").write_text((folder / "task.py").read_text() + SORTED)
    checked = check.check(folder, say=lambda text: None)
    assert checked.works, checked.warnings


def test_a_task_that_is_wrong_is_refused(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", study=STUDY)
    (folder / "task.py").write_text("def task():\n    return 3\n")
    with pytest.raises(ConfigError, match=r"task\(\): expected an autoopt.Task, got 'int'"):
        check.check(folder, say=lambda text: None)


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
    assert "and 40 smaller layers" in text
    assert "no recipe of the space works" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("there", "fits", "most", "then", "expected"),
    [
        (100_000, 12, 1e9, 90, (10_000, 90)),
        (100_000, 30, 1e9, 200, None),
        (100_000, 12, 12, 12, None),
        (19_999, 12, 1e9, 90, None),
        (100_000, 12, 1e9, 23, None),
    ],
    ids=["few fit", "enough fit", "the space has no more", "few items", "training is not what takes long"],
)
def test_a_part_of_the_data_is_offered_where_it_helps(
    there: int, fits: int, most: float, then: int, expected: tuple[int, int] | None
) -> None:
    assert check.part(there, fits, most, lambda items: then) == expected


def test_the_text_says_what_an_epoch_takes_and_how_to_hold_more(found: tuple[Checked, list[str], Path]) -> None:
    whole = re.sub(r"\s+", " ", checklist.text(found[0]))
    assert "an epoch takes about" in whole
    assert "that is few" not in whole
    few = dataclasses.replace(found[0], part=(10_000, 90), epoch_s=600.0)
    text = re.sub(r"\s+", " ", checklist.text(few))
    assert "an epoch takes about 10 min" in text
    assert "`search: {items: 10000}` in study.yaml" in text
    assert "2 hours are enough for 90" in text


def test_each_layer_is_probed_and_a_mix_proposed_for_each_size(tmp_path: Path) -> None:
    study = "space: {scheme: [float32]}\nmeasuring: quick\n"
    folder = tiny.write(tmp_path / "study", study=study)
    sizes = ["--size", "6 KB", "--compressed", "3 KB"]
    done = CliRunner(env={"COLUMNS": "120"}).invoke(main, ["check", str(folder), *sizes])
    assert done.exit_code == 0, done.output
    _, _, table = done.stdout.partition("which layer hurts")
    head, *rows = table[table.index("\nlayer") :].splitlines()[1:5]
    assert head.split()[:4] == ["layer", "weights", "int8", "bytes"]
    assert [row.split()[:2] for row in rows] == [["conv2d", "72"], ["dense", "8,192"], ["dense_1", "64"]]
    assert re.search(r"^for 6 KB: (about|no mix is proposed: even)", done.stdout, re.MULTILINE)
    assert re.search(r"^for 3 KB after gzip: (about|no mix is proposed: even)", done.stdout, re.MULTILINE)


def test_a_closed_model_says_why_its_layers_are_not_probed(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", study="space: {scheme: [float32]}\nmeasuring: quick\n")
    (folder / "task.py").write_text((folder / "task.py").read_text() + CLOSED)
    checked = check.check(folder, sizes={"size_bytes": 1e4}, say=lambda text: None)
    assert checked.probes["layers"] == []
    assert "Closed is subclassed" in checked.probes["reason"]
    assert "which layer hurts can't be told: " in checklist.text(checked)
    assert checked.proposals[0]["reason"] == checked.probes["reason"]


CLOSED = """

whole = task


class Closed(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.last = tf_keras.layers.Dense(4, activation="softmax")

    def call(self, inputs):
        return self.last(tf_keras.layers.Flatten()(inputs))


def task():
    import dataclasses

    model = Closed()
    model(np.zeros((1, 8, 8, 1), np.float32))
    return dataclasses.replace(whole(), model=model)
"""


def test_a_size_that_is_none_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", str(tmp_path), "--size", "60"])
    assert done.exit_code == 2
    assert done.stderr == (
        "autoopt: --size: expected a size such as '60 KB', got 60: of what? Write '60 KB', or '60 B'\n"
    )
