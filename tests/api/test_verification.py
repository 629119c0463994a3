"""Checking bundles: what is whole passes, what was changed fails, what is no bundle is named."""

import hashlib
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import tiny
import tinybundle
from click.testing import CliRunner

import autoopt
from autoopt.api.verification import compare
from autoopt.cli.commands import main
from autoopt.errors import ConfigError
from autoopt.tflite import contents


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Bundles of an int8 file with int8 in and out, and of one with floats."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        scheme: tinybundle.bundle(folder / scheme, tiny.file(tiny.recipe(scheme)), tiny.split(64, 2), scheme=scheme)
        for scheme in ("int8_io", "float32", "int8")
    }


@pytest.fixture
def bundle(whole, tmp_path):
    """A bundle that a test may spoil."""
    return shutil.copytree(whole["int8_io"], tmp_path / "bundle")


@pytest.fixture
def floats(whole, tmp_path):
    return shutil.copytree(whole["float32"], tmp_path / "bundle")


def cli(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def checks(found):
    return {check.name: check.holds for check in found.checks}


def rewrite(folder, **changes):
    """Change stored samples by name, and tell the card: as somebody would who means it."""
    arrays = tinybundle.samples(folder)
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    out = io.BytesIO()
    np.savez(out, **arrays)
    (folder / "samples.npz").write_bytes(out.getvalue())
    agree(folder, "samples.npz")


def agree(folder, name):
    """Let the card say what the file is now."""
    card = tinybundle.card(folder)
    card["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if name == "model.tflite":
        card["sha256"] = card["files"][name]
    (folder / "card.json").write_text(json.dumps(card))


def flip(path, at=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x40
    path.write_bytes(data)


def test_a_whole_bundle_holds(whole):
    for scheme, folder in whole.items():
        found = autoopt.verify(folder)
        assert found.holds
        assert checks(found) == dict.fromkeys(
            ("model.tflite", "model.tflite.gz", "samples.npz", "labels.txt", "outputs"), True
        )
        assert found.checks[-1].text == "equal on 8 stored samples"
        shown = cli(folder)
        assert shown.exit_code == 0, scheme
        assert "outputs           holds: equal on 8 stored samples" in shown.stdout
        assert "recorded on" in shown.stdout
        assert "ai-edge-litert" in shown.stdout
        plain = json.loads(cli(folder, "--json").stdout)
        assert plain["holds"] is True
        assert plain["recorded_on"]["runtime"] == plain["run_on"]["runtime"]
        assert [c["name"] for c in plain["checks"]] == list(checks(found))


def test_a_file_in_place_of_the_folder_is_told(bundle):
    with pytest.raises(ConfigError, match=r"model.tflite: no such folder, but a file; give the folder of its bundle"):
        autoopt.verify(bundle / "model.tflite")


def test_a_changed_byte_of_the_model_is_seen_and_the_model_not_run(bundle):
    flip(bundle / "model.tflite")
    found = autoopt.verify(bundle)
    assert checks(found) == {
        "model.tflite": False,
        "model.tflite.gz": True,
        "samples.npz": True,
        "labels.txt": True,
        "outputs": None,
    }
    assert "card.json says" in found.checks[0].text
    shown = cli(bundle)
    assert shown.exit_code == 1
    assert "model.tflite      DIFFERS" in shown.stdout
    assert json.loads(cli(bundle, "--json").stdout)["holds"] is False


def test_another_model_with_a_card_to_match_gives_other_outputs(bundle):
    file = (bundle / "model.tflite").read_bytes()
    weights = max(contents.read(file).weights, key=lambda w: w.size).values.tobytes()
    assert file.count(weights) == 1
    (bundle / "model.tflite").write_bytes(file.replace(weights, weights[::-1]))
    agree(bundle, "model.tflite")
    found = autoopt.verify(bundle)
    assert checks(found) == {
        "model.tflite": True,
        "model.tflite.gz": True,
        "samples.npz": True,
        "labels.txt": True,
        "outputs": False,
    }
    assert "steps of the quantization on 8 stored samples; the largest output is the same for" in found.checks[-1].text
    assert cli(bundle).exit_code == 1


def test_a_model_that_can_not_be_run_is_told_in_one_line(bundle):
    (bundle / "model.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + b"\x00" * 64)
    agree(bundle, "model.tflite")
    found = autoopt.verify(bundle)
    assert checks(found)["outputs"] is False
    assert found.checks[-1].text.startswith("LiteRT can't run the file: ")


def test_a_crash_of_the_runtime_is_told_in_one_line(bundle, tmp_path, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr("autoopt.reporting.bundle.samples.REPLAY", crash)
    shown = cli(bundle)
    assert shown.exit_code == 1
    assert "outputs           DIFFERS: LiteRT can't run the file: killed by signal 11\n" in shown.stdout


@pytest.mark.parametrize(("by", "holds"), [(0, True), (1, True), (-1, True), (2, False)])
def test_integers_may_be_one_step_apart(by, holds, bundle):
    output = tinybundle.samples(bundle)["output"]
    output[0, 0] += by if -128 <= int(output[0, 0]) + by <= 127 else -by
    rewrite(bundle, output=output)
    found = autoopt.verify(bundle).checks[-1]
    assert found.holds is holds
    assert {0: "equal on", 1: "equal within 1 step of", 2: "up to 2 steps of"}[abs(by)] in found.text


@pytest.mark.parametrize(("by", "holds"), [(1e-5, True), (1e-3, False)])
def test_floats_may_be_a_small_part_apart(by, holds, floats):
    output = tinybundle.samples(floats)["output"]
    output[0, 0] += by * np.abs(output).max()
    rewrite(floats, output=output)
    found = autoopt.verify(floats).checks[-1]
    assert found.holds is holds
    assert "of the largest output" in found.text


def test_floats_from_integers_may_be_a_step_apart(whole, tmp_path):
    folder = shutil.copytree(whole["int8"], tmp_path / "bundle")
    output = tinybundle.samples(folder)["output"]
    step = np.diff(np.unique(output)).min()
    output[0, 0] += step
    rewrite(folder, output=output)
    assert autoopt.verify(folder).checks[-1].text == "equal within 1 step of the quantization on 8 stored samples"
    output[0, 0] += step
    rewrite(folder, output=output)
    assert autoopt.verify(folder).checks[-1].holds is False


def test_every_output_is_looked_at(tmp_path):
    folder = tinybundle.two_headed(tmp_path)
    found = autoopt.verify(folder)
    assert found.holds
    first, second = (end["key"] for end in tinybundle.card(folder)["outputs"])
    assert found.checks[-1].text == f"{first} equal on 8 stored samples, {second} equal on 8 stored samples"
    rewrite(folder, output_1=tinybundle.samples(folder)["output_1"] + 1)
    found = autoopt.verify(folder)
    assert not found.holds
    assert f"{first} equal on 8 stored samples, {second} up to " in found.checks[-1].text
    rewrite(folder, output_1=None)
    assert "output_1 is missing" in refused(folder)


def test_other_inputs_give_other_outputs(bundle):
    rewrite(bundle, input_0=tinybundle.samples(bundle)["input_0"][::-1])
    assert checks(autoopt.verify(bundle)) == {
        "model.tflite": True, "model.tflite.gz": True, "samples.npz": True, "labels.txt": True, "outputs": False,
    }  # fmt: skip


def test_samples_that_are_not_the_cards_are_seen(bundle):
    card = (bundle / "card.json").read_text()
    rewrite(bundle, labels=None)
    (bundle / "card.json").write_text(card)
    found = autoopt.verify(bundle)
    assert checks(found) == {
        "model.tflite": True,
        "model.tflite.gz": True,
        "samples.npz": False,
        "labels.txt": True,
        "outputs": True,
    }
    assert cli(bundle).exit_code == 1


def test_swapped_labels_are_seen(bundle):
    labels = (bundle / "labels.txt").read_text().splitlines()
    (bundle / "labels.txt").write_text("\n".join(reversed(labels)))
    assert checks(autoopt.verify(bundle))["labels.txt"] is False


def test_a_bundle_without_samples_holds_as_far_as_it_goes(tmp_path):
    folder = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe()), None)
    found = autoopt.verify(folder)
    assert checks(found) == {"model.tflite": True, "model.tflite.gz": True, "labels.txt": True, "outputs": None}
    shown = cli(folder)
    assert shown.exit_code == 0
    assert "outputs           not checked: no stored samples (" in shown.stdout


def test_bundles_from_before_there_were_samples_can_be_checked(bundle):
    card = tinybundle.card(bundle)
    (bundle / "card.json").write_text(json.dumps({k: v for k, v in card.items() if k not in ("samples", "files")}))
    (bundle / "samples.npz").unlink()
    found = autoopt.verify(bundle)
    assert checks(found) == {"model.tflite": True, "outputs": None}
    assert "from before" in found.checks[-1].text


# ---- what is no bundle


def refused(folder):
    """The one line that is said of it."""
    shown = cli(folder)
    assert shown.exit_code == 2, shown.output
    assert shown.stdout == ""
    (line,) = shown.stderr.splitlines()
    return line


def test_what_is_no_bundle_is_refused(tmp_path):
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "card.json is missing" in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "no such folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("name", ["model.tflite", "samples.npz", "labels.txt"])
def test_a_missing_part_is_named(name, bundle):
    (bundle / name).unlink()
    assert f"{name} is missing" in refused(bundle)


@pytest.mark.parametrize("name", ["predict.py", "Classifier.kt", "README.md", "card.md", "REPRODUCE.md", "recipe.json"])
def test_what_people_edit_may_be_edited(name, bundle):
    (bundle / name).unlink()
    assert autoopt.verify(bundle).holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object"),
        ("{}", "sha256: expected a text"),
        ('{"sha256": 7}', "sha256: expected a text"),
        ('{"sha256": "a"}', "inputs: expected a list"),
        ('{"sha256": "a", "inputs": [], "outputs": [7]}', "can't be read"),
        ('{"sha256": "a", "inputs": [], "outputs": [{"shape": [1], "dtype": "string", "scale": null}]}', "can't be read"),
        ('{"sha256": "a", "inputs": [], "outputs": [], "files": []}', "files: expected an object"),
        ('{"sha256": "a", "inputs": [], "outputs": [], "samples": {"items": 8}}', "the sha256 of samples.npz"),
        ('{"sha256": "a", "inputs": [], "outputs": [], "files": {"samples.npz": ""}}', "shape and dtype of each"),
    ],
)  # fmt: skip
def test_a_damaged_card_is_named(text, said, bundle):
    (bundle / "card.json").write_bytes(text.encode("latin-1"))
    line = refused(bundle)
    assert "card.json" in line
    assert said in line


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


INPUT, OUTPUT = np.zeros((2, 8, 8, 1), np.int8), np.zeros((2, 4), np.int8)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (npz(input_0=INPUT, output=OUTPUT)[:300], "damaged"),
        (npz(input_0=INPUT), "output is missing"),
        (npz(output=OUTPUT), "input_0 is missing"),
        (npz(input_0=INPUT, output=OUTPUT.astype(np.float32)), "output: expected int8 of shape (items, 4)"),
        (npz(input_0=INPUT[:, :7], output=OUTPUT), "input_0: expected int8 of shape (items, 8, 8, 1)"),
        (npz(input_0=INPUT[:1], output=OUTPUT), "as many outputs as items"),
        (npz(input_0=INPUT[:0], output=OUTPUT[:0]), "one or more"),
        (npz(input_0=INPUT, output=OUTPUT, labels=np.zeros(3, int)), "as many outputs as items"),
        (npz(input_0=INPUT, output=OUTPUT, labels=np.zeros(2)), "labels: expected one class an item"),
        (npz(input_0=np.array([object()]), output=OUTPUT), "expected plain numbers or text, got Python objects"),
    ],
)
def test_damaged_samples_are_named(data, said, bundle):
    (bundle / "samples.npz").write_bytes(data)
    agree(bundle, "samples.npz")
    line = refused(bundle)
    assert "samples.npz" in line
    assert said in line


def test_a_changed_byte_of_the_samples_is_seen(bundle):
    flip(bundle / "samples.npz")
    assert "samples.npz: damaged (Bad CRC-32" in refused(bundle)


def test_truncated_samples_are_named(bundle):
    data = (bundle / "samples.npz").read_bytes()
    for size in range(0, len(data), 97):
        (bundle / "samples.npz").write_bytes(data[:size])
        with pytest.raises(ConfigError, match=r"samples\.npz: damaged"):
            autoopt.verify(bundle)


def test_a_zip_of_something_else_is_no_samples(bundle):
    with zipfile.ZipFile(bundle / "samples.npz", "w") as archive:
        archive.writestr("input_0.npy", "not an array")
        archive.writestr("output.npy", "nor this")
    assert "samples.npz" in refused(bundle)


@pytest.mark.parametrize("name", ["model.tflite", "samples.npz", "card.json"])
def test_nothing_outside_the_bundle_is_read(name, bundle, tmp_path):
    secret = tmp_path / "secret"
    (bundle / name).rename(secret)
    (bundle / name).symlink_to(secret)
    assert "leads out of the bundle" in refused(bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(bundle):
    (bundle / "model.tflite").unlink()
    os.mkfifo(bundle / "model.tflite")
    assert "model.tflite is missing" in refused(bundle)


def test_names_in_the_card_lead_nowhere(bundle):
    card = tinybundle.card(bundle)
    card["files"] |= {"../../etc/passwd": "0" * 64, "/etc/passwd": "0" * 64}
    card["study"] = "x\x1b[31m\ny"
    (bundle / "card.json").write_text(json.dumps(card))
    found = autoopt.verify(bundle)
    assert found.holds
    assert found.study == "x [31m y"


# ---- comparing


def same(a, b, step=0.0):
    return compare(np.asarray(a), np.asarray(b, np.asarray(a).dtype), step)[0]


def test_what_is_no_number_must_stay_so():
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    assert same([[nan, 1.0]], [[nan, 1.0]])
    assert same([[nan, 1.0]], [[nan, 1.00001]])
    assert not same([[nan, 1.0]], [[nan, 2.0]])
    assert not same([[nan, 1.0]], [[1.0, nan]])
    assert not same([[1.0, 1.0]], [[nan, 1.0]])
    assert same([[inf, 1.0]], [[inf, 1.00001]])
    assert not same([[inf, 1.0]], [[-inf, 1.0]])
    assert not same([[nan, nan]], [[1.0, nan]])


def test_zeros_must_stay_zero():
    assert same([[0.0, 0.0]], [[0.0, 0.0]])
    assert not same([[0.0, 0.0]], [[0.0, 1e-9]])


def test_integers_are_compared_without_wrapping_round():
    assert not same(np.array([[-128, 0]], np.int8), [[127, 0]])
    assert not same(np.array([[0, 0]], np.uint8), [[255, 0]])
    assert same(np.array([[0, 0]], np.uint8), [[1, 0]])
    assert same(np.array([[True, False]]), [[True, True]])
