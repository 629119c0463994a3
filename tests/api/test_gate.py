"""The gate, on real bundles and files: what is kept, what is broken, and what can't be judged here."""

import dataclasses
import json
import shutil

import nights
import numpy as np
import pytest
import tf_keras
import tinybundle
from builders import candidate, measured, results
from click.testing import CliRunner

from autoopt.api.gate import judge
from autoopt.api.recorded import recorded
from autoopt.cli.commands import main
from autoopt.core.candidate import Confirmation
from autoopt.core.metrics import Measurement, pack_outcomes
from autoopt.errors import ConfigError
from autoopt.models.task import Split
from autoopt.reporting.bundle.card import make_card
from autoopt.tflite import conversion

CLASSES = 4


def file(*, right=CLASSES):
    """A classifier of one-hot items that knows the first `right` classes, and takes the others for class 0."""
    layer = tf_keras.layers.Dense(CLASSES, activation="softmax", use_bias=False)
    inputs = tf_keras.layers.Input((CLASSES,), name="x")
    model = tf_keras.Model(inputs, layer(inputs))
    weights = 9.0 * np.eye(CLASSES, dtype=np.float32)
    for label in range(right, CLASSES):
        weights[label] = weights[0]
    layer.set_weights([weights])
    return conversion.float32(model)


def data(path, *counts):
    """So many items of each class."""
    labels = np.repeat(np.arange(CLASSES), counts)
    np.savez(path, x_test=np.eye(CLASSES, dtype=np.float32)[labels], y_test=labels)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle whose card records an accuracy of 90 % against the baseline's 90.5 %, and files beside it."""
    folder = tmp_path_factory.mktemp("made")
    labels = np.arange(40) % CLASSES
    split = Split(inputs={"x": np.eye(CLASSES, dtype=np.float32)[labels]}, labels=labels)
    bundle = tinybundle.bundle(folder / "bundle", file(), split)
    card = tinybundle.card(bundle)
    quality = Measurement(value=0.9, low=0.88, high=0.92, n=1000, how="made up").to_dict()
    card["metrics"]["accuracy"] |= quality | {"baseline": 0.905, "difference": [-0.005, -0.012, 0.002]}
    card["metrics"]["size_bytes"]["baseline"] = 4 * card["metrics"]["size_bytes"]["value"]
    latency = Measurement(value=2.0, low=1.9, high=2.1, n=5, how="made up").to_dict()
    card["metrics"]["latency_ms"] = latency | {"direction": "min", "unit": "ms", "label": "latency", "baseline": 4.0}
    card["budgets"] = {"accuracy >= baseline - 1 point": -0.005, "latency_ms <= 3 ms": -1.0}
    (bundle / "card.json").write_text(json.dumps(card))
    (folder / "new.tflite").write_bytes(file(right=3))
    (folder / "baseline.tflite").write_bytes(file() + bytes(16))
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made / "bundle" / "bundle", tmp_path / "bundle")


def verdicts(found):
    return [ruling.verdict for ruling in found.rulings]


def cli(*arguments):
    return CliRunner().invoke(main, ["gate", *map(str, arguments)])


def test_what_the_study_recorded_counts_for_the_bundle_s_own_file(bundle):
    found = judge(bundle)
    assert verdicts(found) == ["inside", "inside"]
    assert found.exit_code == 0
    first, second = found.text().splitlines()
    assert first == (
        "inside      accuracy >= baseline - 1 point: got 90.00 % (88.00 % to 92.00 %), limit 89.50 %, -0.50 points "
        "(-1.20 points to +0.20 points) against the baseline; measured by the study on the validation split (1,000 items); "
        "too few items to be sure"
    )
    assert second.endswith("got 2 ms (1.9 ms to 2.1 ms), limit 3 ms; measured by the study on the target host")


def test_budgets_that_are_given_count_in_place_of_the_study_s(bundle):
    assert verdicts(judge(bundle, ["accuracy >= baseline", "size_bytes <= 0.3 * baseline"])) == ["outside", "inside"]
    shown = cli(bundle, "-b", "latency_ms <= 1 ms", "--budget", "size_bytes <= 1 MB")
    assert shown.exit_code == 1
    assert [line.split("  ")[0] for line in shown.stdout.splitlines()] == ["outside", "inside"]


def test_new_data_are_measured_and_held_against_what_was_recorded_of_the_baseline(made, bundle, tmp_path):
    found = judge(
        bundle, ["accuracy >= baseline - 1 point", "accuracy >= 99 %"], data=data(tmp_path / "d.npz", 20, 20, 20, 20)
    )
    assert verdicts(found) == ["inside", "inside"]
    assert found.rulings[0].evidence.value.value == 1.0
    assert found.rulings[0].limit == pytest.approx(0.895)
    assert "the baseline's is of other items" in found.text()


def test_a_new_file_is_compared_with_the_bundle_s_on_the_same_items(made, bundle, tmp_path):
    budgets = ["accuracy >= baseline - 1 point", "size_bytes <= 1 MB"]
    new, items = made / "new.tflite", data(tmp_path / "d.npz", 300, 300, 300, 3)
    found = judge(bundle, budgets, file=new, data=items)
    assert verdicts(found) == ["inside", "inside"]  # -0.33 points, and -0.5 recorded
    change = found.rulings[0].evidence.change
    assert change[0] == pytest.approx(-3 / 903 - 0.005)
    assert change[1] < change[0] < change[2]
    assert "by way of the bundle's file on the same items" in found.text()
    worse = judge(bundle, budgets, file=new, data=data(tmp_path / "e.npz", 20, 20, 20, 20))
    assert verdicts(worse) == ["outside", "inside"]
    assert worse.exit_code == 1
    assert worse.rulings[0].sure


def test_with_the_baseline_s_file_both_run_over_the_same_items(made, bundle, tmp_path):
    items = data(tmp_path / "d.npz", 50, 50, 50, 2)
    budgets = ["accuracy >= baseline - 2 points", "agreement >= 98 %", "latency_ms <= 3 ms"]
    found = judge(bundle, budgets, file=made / "new.tflite", data=items, baseline=made / "baseline.tflite")
    assert verdicts(found) == ["inside", "inside", "not judged"]
    assert found.rulings[0].evidence.baseline == 1.0
    assert found.rulings[0].evidence.change[0] == pytest.approx(-2 / 152)
    assert found.rulings[1].evidence.value.value == pytest.approx(150 / 152)
    assert found.exit_code == 3


def test_what_can_not_be_judged_is_said_with_what_to_do(made, bundle):
    budgets = ["accuracy >= 50 %", "latency_ms <= 3 ms", "agreement >= 50 %", "size_bytes <= 1 MB"]
    shown = cli(bundle, "--file", made / "new.tflite", *(word for text in budgets for word in ("-b", text)))
    assert shown.exit_code == 3
    lines = shown.stdout.splitlines()
    assert lines[0] == "not judged  accuracy >= 50 %: the accuracy of a new file is measured on data: give --data"
    assert "has to be measured on the target: `autoopt measure " in lines[1]
    assert lines[1].endswith("--target host`")
    assert "give --baseline and --data" in lines[2]
    assert lines[3].startswith("inside")
    plain = json.loads(cli(bundle, "--json").stdout)
    assert plain["exit_code"] == 0
    assert [one["verdict"] for one in plain["budgets"]] == ["inside", "inside"]


def test_a_broken_budget_counts_more_than_one_that_can_not_be_judged(made, bundle):
    assert judge(bundle, ["size_bytes <= 10 B", "latency_ms <= 3"], file=made / "new.tflite").exit_code == 1


def test_the_same_file_under_another_name_is_the_bundle_s_own(bundle, tmp_path):
    shutil.copy(bundle / "model.tflite", tmp_path / "again.tflite")
    assert judge(bundle, file=tmp_path / "again.tflite").exit_code == 0


def test_a_file_that_the_card_does_not_tell_of_is_not_judged_by_it(made, bundle):
    shutil.copy(made / "new.tflite", bundle / "model.tflite")
    with pytest.raises(ConfigError, match=r"differ from what card.json tells of.*give a new file with --file"):
        judge(bundle)


def test_where_the_file_gives_other_outputs_than_recorded_the_record_does_not_count(bundle):
    """As with another version of the runtime: here the samples are another's, which comes to the same."""
    import hashlib
    import io

    arrays = tinybundle.samples(bundle)
    out = io.BytesIO()
    np.savez(out, **arrays | {"output": arrays["output"][:, ::-1]})
    (bundle / "samples.npz").write_bytes(out.getvalue())
    card = tinybundle.card(bundle)
    card["files"]["samples.npz"] = hashlib.sha256(out.getvalue()).hexdigest()
    (bundle / "card.json").write_text(json.dumps(card))
    found = judge(bundle)
    assert verdicts(found) == ["not judged", "inside"]
    assert "gives other outputs here" in found.text()
    assert found.text().splitlines()[-1].startswith("note: the bundle's outputs differ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"own_metric": True}, "not judged  accuracy >= baseline - 1 point: accuracy is a function of the task's own"),
        ({"meaning": []}, "inside      accuracy >= baseline - 1 point"),
    ],
)
def test_a_metric_of_the_task_s_own_is_not_measured(change, said, bundle, tmp_path):
    (bundle / "card.json").write_text(json.dumps(tinybundle.card(bundle) | change))
    assert said in judge(bundle, data=data(tmp_path / "d.npz", 5, 5, 5, 5)).text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-b", "accuracy >= 2"], "is more than all of it"),
        (["-b", "speed <= 2"], "unknown metric 'speed'"),
        (["--baseline", "x.tflite"], "leave --baseline out"),
        (["--data", "none.npz"], "none.npz"),
        (["--file", "none.tflite"], "none.tflite"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2(bundle, arguments, said):
    shown = cli(bundle, *arguments)
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_labels_of_another_kind_are_refused(bundle, tmp_path):
    x = np.eye(CLASSES, dtype=np.float32)
    np.savez(tmp_path / "d.npz", x_test=x, y_test=x * 0.3 + 2)
    assert cli(bundle, "--data", tmp_path / "d.npz").exit_code == 2


def test_a_study_without_budgets_needs_some(bundle):
    card = tinybundle.card(bundle)
    card["budgets"] = {}
    (bundle / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="no budget: the bundle's study has none"):
        judge(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"quality": "speed"}, {"quality": 3}, {"metrics": []}, {"metrics": {"accuracy": {}}}, {"budgets": ["x"]},
        {"confirmed": {"value": 1}}, {"confirmed": {"change": 0.1, "change_low": 0.1, "change_high": 0.1}}, {"meaning": [{"threshold": "x"}]},
    ],
)  # fmt: skip
def test_a_card_that_holds_something_else_is_named(bundle, change):
    (bundle / "card.json").write_text(json.dumps(tinybundle.card(bundle) | change))
    shown = cli(bundle, "-b", "size_bytes <= 1 MB")
    assert shown.exit_code == 2
    assert "card.json" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_card_records_what_the_results_say():
    night = nights.realistic()
    c = night.pick().candidate
    found = recorded(json.loads(json.dumps(make_card(night, c))), "card")
    (known,) = found.values["accuracy"]
    assert known.value == c.measurements["accuracy"]
    assert known.change == pytest.approx(night.difference(c, night.baseline))
    assert known.baseline == night.baseline.value("accuracy")
    assert [b.text for b in night.budgets] == list(found.budgets)


def confirmed(number, seen, again, **more):
    """A candidate that had so many of 200 items right, and again so many of the test split."""
    right = [pack_outcomes(np.arange(200) < n) for n in (seen, again)]
    quality = [dataclasses.replace(measured(n / 200, 0.05), n=200) for n in (seen, again)]
    return dataclasses.replace(
        candidate(number, accuracy=quality[0], **more),
        outcomes=right[0],
        confirmation=Confirmation(quality=quality[1], outcomes=right[1]),
    )


def test_a_confirmed_candidate_is_recorded_on_both_splits():
    night = results(confirmed(0, 190, 190, origin="baseline"), confirmed(1, 190, 180))
    made = json.loads(json.dumps(make_card(night, night.candidates[1])))
    for card in (made, made | {"confirmed": {k: v for k, v in made["confirmed"].items() if "baseline" not in k}}):
        validation, test = recorded(card, "card").values["accuracy"]
        assert validation.change[0] == pytest.approx(0.0)
        assert test.change[0] == pytest.approx(-0.05)
        assert test.baseline == pytest.approx(0.95)
