"""Any .tflite, also one that autoopt never made: what is measured of it, and what is refused with one clear line."""

import functools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from autoopt import targets
from autoopt.api import measure_file
from autoopt.cli.commands import main
from autoopt.core.deflate import smallest_gzip
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.targets import benchmark
from autoopt.tflite import conversion, interpreter

HOST = targets.find("host")
VELA = targets.find("vela:ethos-u55-128")
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


@pytest.fixture
def micro():
    """The fastest real target: computed, and without latency."""
    pytest.importorskip("tflite_micro")
    return targets.find("micro:1MB")


# --- files


def foreign(function, *shape, dtype=tf.float32):
    """A file by TensorFlow's converter alone, of a plain function."""
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype, name="x")])
    return tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()]).convert()


@functools.cache
def product():
    """Not made by autoopt, without a signature: what comes in times `WEIGHTS`."""
    return foreign(lambda x: tf.matmul(x, tf.constant(WEIGHTS)), 1, 4)


@functools.cache
def total():
    """Likewise: the sum of four numbers, which is a regression."""
    return shifted(0.0)


def shifted(by):
    """The sum of four numbers and one more."""
    return foreign(lambda x: tf.matmul(x, tf.ones((4, 1))) + by, 1, 4)


def custom():
    """A file with an operator that nobody knows."""
    model = schema.ModelT.InitFromPackedBuf(product(), 0)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Mine"
    for operator in model.subgraphs[0].operators:
        operator.builtinOptions, operator.builtinOptionsType = None, 0
    return repacked(model)


def repacked(model):
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class Two(tf.Module):
    """Two functions in one file."""

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    def twice(self, x):
        return x * 2.0

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    def more(self, x):
        return x + 2.0


def two_signatures(folder):
    module = Two()
    tf.saved_model.save(module, folder, signatures={"twice": module.twice, "more": module.more})
    return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["twice", "more"]).convert()


@functools.cache
def unsigned():
    """Takes uint8 pixels, and stores them as shares of 255."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(4), shape=(4, 1))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    grid = np.linspace(0, 1, 256, dtype=np.float32)
    converter.representative_dataset = lambda: ([grid[i : i + 4].reshape(1, 4, 1)] for i in range(0, 256, 4))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    return conversion.float32(model), converter.convert()


@pytest.fixture
def write(tmp_path):
    """Writes a file, and says where."""

    def written(content, name="model.tflite"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return written


@pytest.fixture
def arrays(tmp_path):
    """Writes an `.npz`, and says where."""

    def written(**found):
        path = tmp_path / "data.npz"
        np.savez(path, **found)
        return path

    return written


def refusal(call, *arguments, **options):
    """The message of a ConfigError, which is one line."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- measuring on this machine


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The float32 file on this machine, against the int8 one, on images."""
    folder = tmp_path_factory.mktemp("compared")
    for scheme in ("float32", "int8"):
        (folder / f"{scheme}.tflite").write_bytes(tiny.file(tiny.recipe(scheme)))
    x, y = tiny.images(100, 3)
    np.savez(folder / "data.npz", x_test=x, y_test=y)
    return measure_file.measure_file(
        folder / "float32.tflite", HOST, against=folder / "int8.tflite", data=folder / "data.npz"
    )


def test_sizes_are_exact(compared):
    file = tiny.file(tiny.recipe())
    sizes = {
        "size_bytes": len(file),
        "compressed_bytes": interpreter.compressed_bytes(file),
        "download_bytes": len(smallest_gzip(file)),
    }
    for name, size in sizes.items():
        found = compared.measurements[name]
        assert (found.value, found.low, found.high) == (size, size, size)


def test_latency_and_memory_have_intervals_of_many_repeats(compared):
    latency, memory = compared.measurements["latency_ms"], compared.measurements["memory_bytes"]
    assert 0 < latency.low <= latency.value <= latency.high < 1000  # no other unit
    assert latency.n >= benchmark.CONFIRM_FEWEST
    assert latency.how == f"batch 1, {latency.n} fresh processes, 10th percentiles"
    assert 0 < memory.low <= memory.value <= memory.high


def test_against_another_gives_a_ratio_a_paired_difference_and_agreement(compared):
    ratio = compared.measurements["latency_ratio"]
    assert 0 < ratio.low < ratio.value < ratio.high
    x, y = tiny.images(100, 3)
    outputs = [
        interpreter.outputs_of(tiny.file(tiny.recipe(scheme)), {tiny.INPUT: x}, 1) for scheme in ("float32", "int8")
    ]
    right = [each.argmax(axis=1) == y for each in outputs]
    assert compared.measurements["accuracy"].value == right[0].mean()
    difference, low, high = compared.difference
    assert difference == pytest.approx(right[0].mean() - right[1].mean())
    assert low <= difference <= high
    same = (outputs[0].argmax(axis=1) == outputs[1].argmax(axis=1)).mean()
    assert compared.measurements["agreement"].value == pytest.approx(same)


def test_what_was_measured_is_described(compared):
    assert compared.device["target"] == "host"
    assert compared.contents.ops["CONV_2D"] == 2
    assert set(compared.measurements) <= set(measure_file.METRICS)


def test_a_file_against_itself_is_about_as_fast(write):
    found = measure_file.self_test(write(tiny.file(tiny.recipe())), HOST, 3)
    assert len(found) == 3
    assert all(m.low <= m.value <= m.high and m.value == pytest.approx(1, rel=0.1) for m in found)


# --- other targets


def test_vela_says_that_it_estimates(write):
    pytest.importorskip("ethosu.vela")
    path = write(tiny.file(tiny.recipe("int8_io")))
    found = measure_file.measure_file(path, VELA, against=path)
    assert found.measurements["latency_ratio"].value == 1
    for name in ("latency_ms", "latency_ratio", "memory_bytes", "flash_bytes"):
        m = found.measurements[name]
        assert "estimated" in m.flags
        assert m.low == m.value == m.high
        assert m.value > 0
    assert found.measurements["latency_ms"].how == "computed by vela:ethos-u55-128"
    assert found.measurements["size_bytes"].flags == ()


def test_there_is_no_noise_to_test_where_times_are_computed(write, micro):
    path = write(tiny.file(tiny.recipe("int8_io")))
    for target in (VELA, micro):
        said = refusal(measure_file.self_test, path, target, 3)
        assert said == f"target {target.name} times nothing, so there is no noise to test"


def test_a_target_without_latency_gives_none(write, micro):
    path = write(product())
    found = measure_file.measure_file(path, micro, against=path)
    assert set(found.measurements) == {"memory_bytes", "size_bytes", "compressed_bytes", "download_bytes"}
    assert found.difference is None


def test_a_file_that_the_target_cannot_run_fails(write, micro):
    with pytest.raises(CandidateFailed, match="TFLM can't run the file"):
        measure_file.measure_file(write(tiny.file(tiny.recipe("dynamic"))), micro)


# --- quality


def scores(x):
    return x @ WEIGHTS


def test_a_file_that_autoopt_never_made_is_measured(write, arrays, micro):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    y = scores(x).argmax(axis=1)
    y[:10] = (y[:10] + 1) % 3
    found = measure_file.measure_file(write(product()), micro, data=arrays(x=x, y=y))
    assert found.contents.signatures == []
    accuracy = found.measurements["accuracy"]
    assert (accuracy.value, accuracy.n) == (0.8, 50)
    assert accuracy.low < 0.8 < accuracy.high


@pytest.mark.parametrize(
    "stored",
    [lambda y: y[:, None], lambda y: y.astype(np.float64), lambda y: np.eye(3)[y], lambda y: np.eye(3, dtype=bool)[y]],
    ids=["a column", "floats", "one-hot", "one-hot bools"],
)
def test_classes_are_classes_however_they_are_stored(stored, write, arrays, micro):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    data = arrays(x=x, y=stored(scores(x).argmax(axis=1)))
    assert measure_file.measure_file(write(product()), micro, data=data).measurements["accuracy"].value == 1


@pytest.mark.parametrize("names", measure_file.PAIRS, ids=" and ".join)
def test_inputs_and_labels_have_one_of_four_pairs_of_names(names, write, arrays, micro):
    x = np.ones((3, 4), np.float32)
    found = measure_file.measure_file(
        write(product()), micro, data=arrays(**dict(zip(names, (x, [2, 2, 2]), strict=True)))
    )
    assert found.measurements["accuracy"].value == 1


def test_the_test_split_goes_before_the_others(write, arrays, micro):
    x = np.ones((3, 4), np.float32)
    data = arrays(x_train=x, y_train=[0, 0, 0], x_test=x, y_test=[2, 2, 2])
    assert measure_file.measure_file(write(product()), micro, data=data).measurements["accuracy"].value == 1


def test_images_may_lack_the_channel_axis(write, arrays, micro):
    x, y = tiny.images(60, 3)
    path = write(tiny.file(tiny.recipe()))
    with_axis, without = (
        measure_file.measure_file(path, micro, data=arrays(x_test=each, y_test=y)) for each in (x, x[..., 0])
    )
    assert with_axis.measurements["accuracy"] == without.measurements["accuracy"]


def test_numbers_as_labels_give_the_mean_absolute_error(write, arrays, micro):
    x = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    off = np.tile([0.5, -1.5], 40)
    found = measure_file.measure_file(write(total()), micro, data=arrays(x=x, y=x.sum(axis=1) + off))
    error = found.measurements["mae"]
    assert "accuracy" not in found.measurements
    assert error.value == pytest.approx(1, rel=1e-5)
    assert 0.5 < error.low < error.value < error.high < 1.5


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_numbers_beyond_0_and_1_of_one_output_are_no_classes(dtype, write, arrays, micro):
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    data = arrays(x=x, y=x.sum(axis=1).astype(dtype))
    assert measure_file.measure_file(write(total()), micro, data=data).measurements["mae"].value == 0


def test_several_numbers_an_item_are_no_classes(write, arrays, micro):
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    found = measure_file.measure_file(write(product()), micro, data=arrays(x=x, y=scores(x)))
    assert found.measurements["mae"].value == pytest.approx(0, abs=1e-5)


def test_errors_of_two_files_are_compared_on_the_same_items(write, arrays, micro):
    """Each error is far from certain; that the one file is off by 0.1 more everywhere is not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    data = arrays(x=x, y=x.sum(axis=1) - rng.exponential(5, 80))
    found = measure_file.measure_file(
        write(shifted(0.1), "a.tflite"), micro, against=write(total(), "b.tflite"), data=data
    )
    difference, low, high = found.difference
    assert difference == pytest.approx(0.1, abs=1e-4)
    assert high - low < 0.01 < found.measurements["mae"].high - found.measurements["mae"].low
    assert "agreement" not in found.measurements


def test_items_in_the_integers_that_the_file_takes_are_taken_as_they_are(write, arrays, micro):
    file, stored = unsigned()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 1)).astype(np.uint8)
    expected = interpreter.outputs_of(file, {tiny.INPUT: pixels.astype(np.float32) / 255}, 1).argmax(axis=1)
    found = measure_file.measure_file(
        write(stored, "a.tflite"), targets.find("micro:1MB"), data=arrays(x=pixels, y=expected)
    )
    assert found.measurements["accuracy"].value > 0.9


# --- files that are refused


def test_files_that_are_none_are_refused(write, tmp_path):
    assert refusal(measure_file.examine, tmp_path / "none.tflite").endswith("can't read it (No such file or directory)")
    assert refusal(measure_file.examine, tmp_path).endswith("can't read it (expected a file, got a folder)")
    said = refusal(measure_file.examine, write(b"PK\x03\x04 a zip archive"))
    assert said == f"{tmp_path / 'model.tflite'}: not a .tflite file (its identifier is missing)"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, write):
    file = tiny.file(tiny.recipe())
    assert "the .tflite is " in refusal(measure_file.examine, write(file[: int(share * len(file))]))


def test_custom_operators_are_refused_by_name(write):
    assert "holds custom operators (Mine)" in refusal(measure_file.examine, write(custom()))


def test_several_signatures_are_refused_by_name(write, tmp_path):
    said = refusal(measure_file.examine, write(two_signatures(tmp_path / "saved")))
    assert "expected one signature, got 2 (" in said
    assert "twice" in said
    assert "more" in said


def test_an_open_axis_is_refused_and_an_open_batch_is_not(write):
    said = refusal(measure_file.examine, write(foreign(tf.nn.relu, 1, None)))
    assert said.endswith("input x leaves the length of axis 1 open; convert it with a fixed shape")
    assert measure_file.examine(write(foreign(tf.nn.relu, None, 4)))[1].inputs[0]["shape"] == [1, 4]


@pytest.mark.parametrize("as_other", [False, True])
def test_both_files_are_examined_before_anything_is_measured(as_other, write, tmp_path):
    good, bad = write(product()), tmp_path / "none.tflite"
    said = refusal(measure_file.measure_file, *((good, HOST) if as_other else (bad, HOST)), against=bad)
    assert said.startswith(str(bad))


# --- data that is refused

X, Y = np.ones((3, 4), np.float32), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"x": X[:, :3], "y": Y}, "x: expected shape (items, 4) as "),
        ({"x": X[..., None], "y": Y}, "got (3, 4, 1)"),
        ({"x_test": X, "labels": Y}, "expected x_test and y_test, x_validation and y_validation,"),
        ({"x_test": X, "labels": Y}, "; got x_test, labels"),
        ({}, "; got nothing"),
        ({"x": X, "y": Y[:2]}, "expected as many labels as items, one or more, got 2 and 3"),
        ({"x": X[:0], "y": Y[:0]}, "expected as many labels as items, one or more, got 0 and 0"),
        ({"x": X, "y": np.array([{}, 1, 2], dtype=object)}, "y: expected plain numbers or text, got Python objects"),
        ({"x": X, "y": np.array(["a", "b", "c"])}, "y: expected numbers, items first, got <U1 (3,)"),
        ({"x": X, "y": 3}, "y: expected numbers, items first, got int64 ()"),
        ({"x": X, "y": Y + 1}, "y: labels: expected class indices 0 to 2 (the model has 3 outputs), got 3; subtract 1"),
        ({"x": X, "y": Y - 1}, "y: labels: expected class indices 0 to 2 (the model has 3 outputs), got -1"),
        ({"x": X, "y": Y + 0.5}, "y: labels: expected class indices 0 to 2 (the model has 3 outputs), got 0.5"),
        ({"x": X, "y": np.ones((3, 2))}, "y: labels: expected one class index an item, or labels of the outputs' own shape (items, 3), got shape (3, 2)"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused(found, words, write, arrays, micro):
    data = arrays(**found)
    said = refusal(measure_file.measure_file, write(product()), micro, data=data)
    assert said.startswith(str(data))
    assert words in said


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    return bytes(content)


@pytest.mark.parametrize(
    "change",
    [lambda _: b"hello", lambda path: path.read_bytes()[:-200], damaged],
    ids=["text", "truncated", "damaged"],
)
def test_what_is_no_npz_is_refused(change, write, arrays):
    data = arrays(x=X, y=Y)
    data.write_bytes(change(data))
    assert refusal(measure_file.measure_file, write(product()), HOST, data=data).startswith(
        f"{data}: not an .npz of plain arrays ("
    )


def test_one_array_alone_text_in_an_archive_and_nothing_are_no_npz(write, tmp_path):
    path = write(product())
    np.save(tmp_path / "one.npy", X)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x", "hello")
        archive.writestr("y", "hello")
    assert "not an .npz" in refusal(measure_file.measure_file, path, HOST, data=tmp_path / "one.npy")
    assert "x: expected numbers" in refusal(measure_file.measure_file, path, HOST, data=tmp_path / "text.npz")
    said = refusal(measure_file.measure_file, path, HOST, data=tmp_path / "none.npz")
    assert said == f"{tmp_path / 'none.npz'}: can't read it (No such file or directory)"


def test_data_for_a_file_with_two_inputs_is_refused(write, arrays):
    layers = tf_keras.layers
    ends = [layers.Input((4,), name=name) for name in ("left", "right")]
    path = write(conversion.float32(tf_keras.Model(ends, layers.Add()(ends))))
    said = refusal(measure_file.measure_file, path, HOST, data=arrays(x=X, y=Y))
    assert said == f"{path}: has 2 inputs; data can be given for files with one"


def test_data_for_a_file_with_two_outputs_is_refused(write, arrays):
    layers = tf_keras.layers
    x = layers.Input((8, 8, 1))
    flat = layers.Flatten()(x)
    path = write(conversion.float32(tf_keras.Model(x, [layers.Dense(4)(flat), layers.Dense(1)(flat)])))
    said = refusal(measure_file.measure_file, path, HOST, data=arrays(x=X, y=Y))
    assert said == f"{path}: has 2 outputs; data can be given for files with one"


def test_files_with_other_ends_are_not_compared_on_data(write, arrays, micro):
    path, data = write(product(), "a.tflite"), arrays(x=X, y=Y)
    fewer, wider = write(total(), "fewer.tflite"), write(foreign(lambda x: x[:, :3] * 2, 1, 5), "wider.tflite")
    said = refusal(measure_file.measure_file, path, micro, against=fewer, data=data)
    assert said == f"{fewer}: gives 1 values an item and {path} gives 3; expected as many"
    said = refusal(measure_file.measure_file, path, micro, against=wider, data=data)
    assert said == f"{data}: x: expected shape (items, 5) as {wider} takes it, got (3, 4)"


# --- the command


def cli(*arguments):
    return CliRunner().invoke(main, ["measure", *map(str, arguments)])


def test_the_command_prints_what_was_found(write, arrays, micro):
    x, y = tiny.images(100, 3)
    data, path = arrays(x_test=x, y_test=y), write(tiny.file(tiny.recipe()))
    shown = cli(path, "--target", micro.name, "--data", data, "--against", write(tiny.file(tiny.recipe("int8")), "b"))
    assert shown.exit_code == 0, shown.output
    assert "2 CONV_2D" in shown.stdout
    assert "in   serving_default_image:0: float32 1 x 8 x 8 x 1" in shown.stdout
    for words in (
        "accuracy",
        "agreement with",
        "peak memory",
        "file size",
        "compressed size",
        "download size",
        "after gzip -9: weights",
    ):
        assert words in shown.stdout
    assert "difference of accuracy against" in shown.stdout
    assert " points (" in shown.stdout


def test_the_command_shows_a_difference_in_the_metrics_own_unit(write, arrays, micro):
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    shown = cli(
        write(shifted(2.0), "a"), "--against", write(total(), "b"), "--data", arrays(x=x, y=x.sum(axis=1)),
        "--target", micro.name,
    )  # fmt: skip
    line = next(line for line in shown.stdout.splitlines() if "difference of" in line)
    assert "difference of mean absolute error" in line
    assert ": +2 (" in line
    assert "points" not in line


def test_the_command_prints_json(write, arrays, micro):
    shown = cli(write(product()), "--target", micro.name, "--json", "--data", arrays(x=X, y=Y))
    plain = json.loads(shown.stdout)
    assert plain["metrics"]["size_bytes"]["value"] == len(product())
    assert set(plain) == {"file", "metrics", "difference", "device", "misfit", "contents", "parts"}
    assert sum(part["size_bytes"] for part in plain["parts"]) == len(product())
    assert plain["contents"]["ops"] == {"FULLY_CONNECTED": 1}
    assert plain["difference"] is None


def test_the_command_marks_estimates(write):
    pytest.importorskip("ethosu.vela")
    shown = cli(write(tiny.file(tiny.recipe("int8_io"))), "--target", VELA.name)
    assert shown.exit_code == 0, shown.output
    latency = next(line for line in shown.stdout.splitlines() if line.strip().startswith("latency"))
    assert latency.endswith("*")
    assert "* estimated" in shown.stdout


def test_the_command_tests_itself(write):
    shown = cli(write(tiny.file(tiny.recipe())), "--self-test", "--repeats", 1)
    assert shown.exit_code == 0
    assert "measured 1 times against itself: the 95 % interval contained 1, which is no difference, in " in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none.tflite",), 2, "none.tflite: can't read it"),
        (("MODEL", "--against", "none.tflite"), 2, "none.tflite: can't read it"),
        (("MODEL", "--data", "none.npz"), 2, "none.npz: can't read it"),
        (("MODEL", "--target", "hots"), 2, "did you mean 'host'"),
        (("MODEL", "--target", "vela:ethos-u55-128", "--self-test"), 2, "times nothing"),
        (("MODEL", "--threads", "0"), 2, "--threads"),
        ((), 2, "MODEL.tflite"),
    ],
)
def test_the_command_refuses_bad_input_with_one_line(arguments, code, words, write):
    path = write(product())
    shown = cli(*[path if a == "MODEL" else a for a in arguments])
    assert shown.exit_code == code, shown.output
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_command_ends_with_1_where_the_target_cannot_run_the_file(write, micro):
    shown = cli(write(tiny.file(tiny.recipe("dynamic"))), "--target", micro.name)
    assert shown.exit_code == 1
    assert "TFLM can't run the file" in shown.stderr


def test_the_command_needs_no_tensorflow(write):
    """As installed: in a process of its own, on a file and data that are wrong."""
    code = (
        "import sys; from autoopt.cli.commands import main; sys.argv = ['autoopt', 'measure', sys.argv[1], '--data', 'none.npz']\n"
        "try: main()\nexcept SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    )
    path: Path = write(product())
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_command_ends_with_1_where_the_file_does_not_fit(form, write):
    path = write(tiny.file(tiny.recipe("int8_io")))
    needs = targets.find("micro:1MB").memory(path.read_bytes())["memory_bytes"]
    shown = cli(path, "--target", "micro:1KB", *form)
    assert shown.exit_code == 1
    [line] = shown.stderr.splitlines()
    assert line == (
        f"autoopt: {path} does not fit micro:1KB: it needs {needs / 1000:.4g} KB of memory, and there are 1 KB"
    )
    assert shown.stdout
    shown = cli(path, "--target", f"micro:{needs - 1}", *form)
    assert (shown.exit_code, "does not fit" in shown.stderr) == (1, True)
    assert cli(path, "--target", f"micro:{needs}", *form).exit_code == 0


@functools.cache
def crashing():
    """A file that LiteRT reads and does not survive: a Reshape that is told no shape."""
    model = schema.ModelT.InitFromPackedBuf(foreign(lambda x: tf.matmul(tf.reshape(x, (1, 4)), WEIGHTS), 1, 2, 2), 0)
    reshape = model.subgraphs[0].operators[0]
    reshape.inputs = [reshape.inputs[0], -1]
    return repacked(model)


def test_a_file_that_crashes_the_runtime_is_one_line(write, arrays):
    path, data = write(crashing()), arrays(x=np.ones((3, 2, 2), np.float32), y=np.zeros(3, np.int64))
    for more in ((), ("--data", str(data))):
        done = CliRunner().invoke(main, ["measure", str(path), *more])
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("autoopt: ")
        assert done.stderr.count("\n") == 1
        assert "SIGSEGV" in done.stderr or "killed by signal 11" in done.stderr
