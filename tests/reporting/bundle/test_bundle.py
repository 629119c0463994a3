"""What the bundle holds for the next person: samples, code that runs, a C array; names that try to break out of it."""

import dataclasses
import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import builders  # noqa: F401 - settles hypothesis
import numpy as np
import pytest
import stores
import tensorflow as tf
import tf_keras
import tiny
import tinybundle
from hypothesis import given
from hypothesis import strategies as st

import autoopt
from autoopt import targets
from autoopt.core.schemes import SCHEMES
from autoopt.errors import CandidateFailed
from autoopt.execution import split_store
from autoopt.models.task import Split
from autoopt.reporting.bundle import firmware, python, replay
from autoopt.reporting.bundle.card import card_text
from autoopt.reporting.bundle.ends import End, Interface
from autoopt.reporting.bundle.escaping import code_span, comment, identifier, markdown, one_line
from autoopt.reporting.bundle.kotlin import kotlin
from autoopt.reporting.bundle.readme import FILES
from autoopt.reporting.bundle.recording import MOST_BYTES, choose, fed, few, of_classes
from autoopt.reporting.bundle.samples import run
from autoopt.tflite.interpreter import outputs_of

HOSTILE = (
    'a*/b"""\n#include "/etc/passwd"\r\n\'); import os `rm` | <b>x</b> [y](z) ${q} \\ ??/ /* \u202e\u2028 \x1b[31m'
)
COMPILER = shutil.which("g++") or shutil.which("c++")


@pytest.fixture(scope="module")
def split():
    return tiny.split(64, 2)


@pytest.fixture(scope="module")
def unusual(split):
    """Files whose inputs and outputs are uint8 and int16."""
    model, _ = autoopt.models.loading.unpack(tiny.packed(tiny.recipe()))

    def converted(dtype, ops):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in split.inputs[tiny.INPUT])
        converter.target_spec.supported_ops = [ops]
        converter.inference_input_type = converter.inference_output_type = dtype
        return converter.convert()

    return {
        "uint8": converted(tf.uint8, tf.lite.OpsSet.TFLITE_BUILTINS_INT8),
        "int16": converted(tf.int16, tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8),
    }


def predict(bundle, *arguments, cwd="/"):
    """What `python predict.py` prints, started from elsewhere."""
    command = [sys.executable, "-W", "error", bundle / "predict.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- samples


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8", "int8_io", "uint8_io"])
def test_the_samples_are_real_items_and_the_files_own_outputs(scheme, split, tmp_path):
    file = tiny.file(tiny.recipe(scheme))
    bundle = tinybundle.bundle(tmp_path, file, split, scheme=scheme)
    card, stored = tinybundle.card(bundle), tinybundle.samples(bundle)
    assert stored["input_0"].dtype == stored["output"].dtype == SCHEMES[scheme].io
    assert stored["input_0"].shape == (8, 8, 8, 1)
    assert stored["output"].shape == (8, 4)
    assert set(stored["labels"]) == {0, 1, 2, 3}
    real = stored["input_0"].astype(np.float32)
    if SCHEMES[scheme].integer_io:
        end = card["inputs"][0]
        real = (real - end["zero_point"]) * np.float32(end["scale"])
    expected = outputs_of(file, {tiny.INPUT: real}, 1)
    assert (stored["output"].argmax(axis=1) == expected.argmax(axis=1)).all()
    nearest = [np.abs(split.inputs[tiny.INPUT] - x).max(axis=(1, 2, 3)).argmin() for x in real]
    assert (split.labels[nearest] == stored["labels"]).all()
    told = card["samples"]
    assert told["items"] == 8
    assert told["recorded_on"]["runtime"].startswith("ai-edge-litert ")
    assert told["recorded_on"]["threads"] == 1
    assert "Stored samples: 8" in (bundle / "card.md").read_text()


def test_several_inputs_go_where_the_files_signature_says(tmp_path):
    layers = tf_keras.layers
    a, b = layers.Input((3,), name="zebra"), layers.Input((3,), name="ant")
    model = tf_keras.Model([a, b], layers.Subtract()([a, b]))
    file = autoopt.tflite.conversion.float32(model)
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((20, 3)).astype(np.float32) for name in ("zebra", "ant")}
    bundle = tinybundle.bundle(
        tmp_path, file, Split(inputs=inputs, labels=np.zeros((20, 3))), classes=(), loss="mse",
        metric=tinybundle.ACCURACY | {"name": "mae", "function": {}},
    )  # fmt: skip
    stored = tinybundle.samples(bundle)
    assert np.allclose(stored["output"], (inputs["zebra"] - inputs["ant"])[:8])
    assert "labels" not in stored
    printed = np.array(predict(bundle).strip("[]").split(), dtype=float)
    assert np.allclose(printed, stored["output"][0], atol=1e-6)
    text = (bundle / "Predictor.kt").read_text()
    assert "fun predict(values0: FloatArray, values1: FloatArray): FloatArray" in text
    assert "arrayOf<Any>(input0, input1)" in text
    assert autoopt.verify(bundle).holds


@pytest.mark.parametrize("scheme", ["float32", "int8_io", "uint8_io"])
def test_several_outputs_are_all_there_by_name(scheme, tmp_path):
    bundle = tinybundle.two_headed(tmp_path, scheme)
    card, stored = tinybundle.card(bundle), tinybundle.samples(bundle)
    names = [end["key"] for end in card["outputs"]]
    assert set(names) == {"where", "what"}
    assert {end["key"] for end in card["inputs"]} == {"zebra", "ant"}
    assert "output" not in stored
    assert "labels" not in stored
    real = {}
    for i, end in enumerate(card["outputs"]):
        array = stored[f"output_{i}"]
        assert array.shape == (8, {"where": 2, "what": 5}[end["key"]])
        real[end["key"]] = array if end["scale"] is None else (array - float(end["zero_point"])) * end["scale"]
    assert real["what"].sum(axis=1) == pytest.approx(np.ones(8), abs=0.05)
    printed = dict(line.split(" ", 1) for line in predict(bundle).splitlines())
    for name, values in real.items():
        assert np.fromstring(printed[name].strip("[]"), sep=" ") == pytest.approx(values[0], abs=1e-5)
    code = (bundle / "predict.py").read_text()
    first, second = (end["key"] for end in card["inputs"])
    assert re.search(rf"by output, for one item of shape {first} \(\d,\) and {second} \(\d,\)", code)
    text = (bundle / "Predictor.kt").read_text()
    assert "fun predict(values0: FloatArray, values1: FloatArray): Map<String, FloatArray> {" in text
    assert "mapOf<Int, Any>(0 to output0, 1 to output1)" in text
    assert f'return mapOf("{names[0]}" to FloatArray(' in text
    assert text.count("output1.rewind()") == 2
    assert text.count("{") == text.count("}")


def test_names_that_could_leave_their_quotes_are_numbers_in_the_code(tmp_path):
    plain = {"shape": [1, 3], "dtype": "float32", "scale": None, "zero_point": None}
    ends = tuple(End.of(plain | {"key": name}) for name in ("fine", HOSTILE))
    interface = Interface(title="t", inputs=ends, outputs=ends, classes=False)
    for text in (python.predict_py(interface), kotlin(interface)[1]):
        assert '"output_0"' in text
        assert "passwd" not in text
    twins = tuple(End.of(plain | {"key": "same"}) for _ in range(2))
    assert '"output_1"' in python.predict_py(Interface(title="t", inputs=ends, outputs=twins, classes=False))


def test_a_bundle_without_samples_says_why(split, tmp_path):
    file = tiny.file(tiny.recipe())
    lost = tinybundle.bundle(tmp_path / "lost", file, None)
    assert not (lost / "samples.npz").exists()
    assert "can't be read" in tinybundle.card(lost)["samples"]["why"]
    assert "No stored samples" in (lost / "card.md").read_text()
    assert "There are no stored samples" in (lost / "README.md").read_text()
    assert predict(lost)

    (tmp_path / "study").mkdir()
    results = tinybundle.study(tmp_path / "study", file, split)
    out = results.export(1, tmp_path / "out", samples=False)
    assert tinybundle.card(out)["samples"] == {"items": 0, "why": "they were left out"}
    store = autoopt.execution.artifact_store.Store(results.folder.store())
    stores.lose(store, split.digest)
    assert "has lost the validation data" in tinybundle.card(results.export(1, tmp_path / "a"))["samples"]["why"]
    store.put(split.digest, stores.earlier_bytes(split)[:5000])
    assert "can't be read (BadZipFile)" in tinybundle.card(results.export(1, tmp_path / "cut"))["samples"]["why"]
    store.path(results.manifest).unlink()
    assert "does not know its data" in tinybundle.card(results.export(1, tmp_path / "b"))["samples"]["why"]
    before = dataclasses.replace(results, manifest="")  # run before the header named it
    assert "does not know its data" in tinybundle.card(before.export(1, tmp_path / "c"))["samples"]["why"]
    odd = dataclasses.replace(results, manifest="../../etc/passwd")
    assert odd.task() is None


def test_a_file_that_takes_its_process_with_it_costs_the_samples_alone(split, tmp_path, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text("import os; os.abort()")
    monkeypatch.setattr("autoopt.reporting.bundle.samples.REPLAY", crash)
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe()), split)
    assert tinybundle.card(bundle)["samples"]["why"] == "LiteRT can't run the file: killed by signal 6"


def test_few_items_are_kept_and_of_as_many_classes_as_can_be():
    labels = np.array([1] * 50 + [0] + [2] * 3)
    assert choose(54, labels, 4).tolist() == [0, 1, 2, 3, 4, 5, 50, 51]
    assert choose(3, np.zeros(0, np.int64), 4).tolist() == [0, 1, 2]
    assert choose(54, labels, MOST_BYTES // 2).tolist() == [0, 50]
    assert choose(54, labels, 10 * MOST_BYTES).tolist() == [0]
    assert choose(100, np.arange(100), 1).tolist() == list(range(8))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_few_items_are_read_without_the_others(order, dtype, tmp_path):
    x = np.asarray(np.arange(600).reshape(100, 3, 2) % 256, dtype=dtype, order=order)
    split = Split(inputs={"b": x, "a": -x[:, 0]}, labels=np.eye(10)[np.arange(100) // 10])
    store = autoopt.execution.artifact_store.Store(tmp_path)
    kept = split_store.get(store, stores.put(store, split))
    items, labels = few(kept, 10, 1)
    assert labels.tolist() == list(range(8))
    assert (items["b"] == x[:80:10]).all()
    assert (items["a"] == split.inputs["a"][:80:10]).all()
    assert {array.dtype for array in items.values()} == {np.dtype(dtype)}
    items, labels = few(kept, 0, MOST_BYTES // 2)
    assert (items["b"] == x[:2]).all()
    assert len(labels) == 0


def test_labels_that_are_no_single_class_are_left_out():
    split = Split(inputs={"x": np.zeros((5, 2))}, labels=np.zeros((5, 8, 8), int))
    assert len(few(split, 10, 1)[1]) == 0


@pytest.mark.parametrize(
    ("loss", "metric", "expected"),
    [
        ("mse", None, True),
        ("sparse_categorical_crossentropy", {}, True),
        ({"keras": {"class_name": "CategoricalCrossentropy"}}, {}, True),
        ("mse", {}, False),
        ({"module": "", "name": "own"}, {}, False),
    ],
)
def test_labels_are_classes_where_metric_or_loss_says_so(loss, metric, expected):
    assert of_classes(tiny.manifest(loss, tinybundle.ACCURACY | {"function": metric})) == expected


def test_several_labels_an_item_are_no_true_class():
    split = Split(inputs={"x": np.zeros((5, 2))}, labels=np.ones((5, 3), int))
    assert len(few(split, 3, 1)[1]) == 0


def test_the_runtimes_complaint_is_told():
    with pytest.raises(CandidateFailed, match="LiteRT can't run the file: ValueError"):
        run(b"no model at all", [np.zeros((1, 4), np.float32)])
    with pytest.raises(CandidateFailed, match="takes"):
        run(tiny.file(tiny.recipe()), [np.zeros((1, 4), np.float32)])


# ---- code


def stored_class(bundle):
    return tinybundle.CLASSES[int(tinybundle.samples(bundle)["output"][0].argmax())]


@pytest.mark.parametrize("scheme", ["float32", "int8", "int8_io", "uint8_io"])
def test_predict_names_the_class_that_was_recorded(scheme, split, tmp_path):
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe(scheme)), split, scheme=scheme)
    name, score = predict(bundle).rsplit(" ", 1)
    assert name == stored_class(bundle)
    recorded = tinybundle.samples(bundle)["output"][0]
    end = tinybundle.card(bundle)["outputs"][0]
    real = recorded if end["scale"] is None else (recorded.astype(float) - end["zero_point"]) * end["scale"]
    assert float(score) == pytest.approx(real.max(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_predict_scales_other_integers_too(dtype, unusual, split, tmp_path):
    bundle = tinybundle.bundle(tmp_path, unusual[dtype], split, scheme="int8_io")
    assert tinybundle.samples(bundle)["input_0"].dtype == dtype
    assert predict(bundle).startswith(stored_class(bundle))
    code = (bundle / "Classifier.kt").read_text()
    assert {"uint8": "coerceIn(0, 255).toByte()", "int16": "coerceIn(-32768, 32767).toShort()"}[dtype] in code
    assert {"uint8": "(output.get().toInt() and 0xFF)", "int16": "output.getShort()"}[dtype] in code
    assert autoopt.verify(bundle).holds


@pytest.mark.parametrize("classes", [(), ("off", "on")])
def test_one_score_decides_between_two_classes_at_the_tasks_threshold(classes, tmp_path):
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(tf_keras.layers.Dense(1), shape=(3,), name="x")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    labels = (model.predict(x, verbose=0)[:, 0] > 0).astype(np.int64)
    loss = {"keras": {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}}
    bundle = tinybundle.bundle(
        tmp_path,
        autoopt.tflite.conversion.float32(model),
        Split(inputs={"x": x}, labels=labels),
        classes=classes,
        loss=loss,
    )
    expected = int(tinybundle.samples(bundle)["labels"][0])
    assert predict(bundle).split()[0] == (classes[expected] if classes else str(expected))
    assert "found[0] > 0.0f" in (bundle / "Classifier.kt").read_text()


def grid(loss, metric, last, *, labels, classes=(), shape=(4, 6, 1), flat=False):
    """Of a small model that ends in this layer: its `.tflite`, data, and how `tinybundle.bundle` is told of them."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(*([tf_keras.layers.Flatten()] if flat else []), last, shape=shape, name="x")
    x = np.random.default_rng(0).random((20, *shape)).astype(np.float32)
    x[0].flat[0], x[1].flat[0] = 0, 1
    metric = {"name": metric, "direction": "max", "unit": "fraction", "function": {}}
    made = Split(inputs={"x": x}, labels=labels(np.random.default_rng(1)))
    return (
        model,
        x,
        (autoopt.tflite.conversion.float32(model), made),
        {"loss": loss, "metric": metric, "classes": classes},
    )


LAYERS = tf_keras.layers
TASKS = {
    "mask": lambda: grid(
        "sparse_categorical_crossentropy", "mean_iou", LAYERS.Conv2D(3, 3, padding="same", activation="softmax"),
        labels=lambda rng: rng.integers(0, 3, (20, 4, 6)), classes=("ground", "road", "car"),
    ),
    "labels": lambda: grid(
        "binary_crossentropy", "f1", LAYERS.Dense(3, activation="sigmoid"), flat=True,
        labels=lambda rng: rng.integers(0, 2, (20, 3)) | np.array([1, 1, 0]), classes=("cat", "dog", "car"),
    ),
    "values": lambda: grid("mse", "r2", LAYERS.Dense(1), flat=True, labels=lambda rng: rng.random((20, 1))),
    "classes": lambda: grid(
        {"keras": {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}}, "accuracy",
        LAYERS.Dense(3), flat=True, labels=lambda rng: rng.integers(0, 3, 20), classes=("a", "b", "c"),
    ),
    "binary": lambda: grid(
        "binary_crossentropy", "auc", LAYERS.Dense(1, activation="sigmoid"), flat=True,
        labels=lambda rng: rng.integers(0, 2, 20), classes=("off", "on"),
    ),
}  # fmt: skip
"""A task of each kind."""


def draw_a_photo(path):
    image = pytest.importorskip("PIL.Image", reason="pip install pillow")
    image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("kind", TASKS)
def test_predict_says_what_the_task_means_of_a_persons_own_files(kind, tmp_path):
    model, x, given, told = TASKS[kind]()
    bundle = tinybundle.bundle(tmp_path / "made", *given, **told)
    away, work = tmp_path / "away", tmp_path / "work"
    shutil.copytree(bundle, away)
    work.mkdir()
    assert "autoopt" not in (away / "predict.py").read_text()
    (meaning,) = tinybundle.card(away)["meaning"]
    assert meaning["kind"] == kind
    np.save(work / "x.npy", x[:3])
    np.savetxt(work / "rows.csv", x[:3].reshape(3, -1), delimiter=",")
    lines = predict(away, "x.npy", "rows.csv", cwd=work).splitlines()
    values = model.predict(x[:3], verbose=0)
    assert [line.split(":")[0] for line in lines[:6]] == [f"{n}[{i}]" for n in ("x.npy", "rows.csv") for i in range(3)]
    names = told["classes"]
    if kind == "mask":
        chosen = values.argmax(axis=-1)
        assert (np.load(work / "x_1_predicted.npy") == chosen[1]).all()
        share = 100 * (chosen[1] == 1).mean()
        assert f"{names[1]} {share:.2f} %" in lines[1]
        draw_a_photo(work / "photo.png")
        photo = predict(away, "photo.png", cwd=work).splitlines()
        assert "converted from RGB to L, resized from 30 x 20 to 6 x 4, scaled from 0..255 to 0..1" in photo[0]
        assert (work / "photo_predicted.png").exists()
    elif kind == "labels":
        for i in range(3):
            yes = {name for name, value in zip(names, values[i], strict=True) if value > 0.5}
            assert {name for name in names if name in lines[i].split("; not ")[0]} == yes
    elif kind == "values":
        assert float(lines[1].split()[1]) == pytest.approx(values[1, 0], rel=1e-4)
        assert "in the unit of the labels" in lines[-1]
    elif kind == "classes":
        probabilities = np.exp(values[1]) / np.exp(values[1]).sum()
        assert f"{names[probabilities.argmax()]} {100 * probabilities.max():.2f} %" in lines[1]
        assert "softmax of the model's logits" in lines[1]
    else:
        assert lines[1].startswith(f"x.npy[1]: {names[int(values[1, 0] > 0.5)]} (probability of on ")
    assert predict(away, cwd=work)
    done = subprocess.run([sys.executable, away / "predict.py", "no.npy"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("predict.py: no.npy: no such file")


def test_the_card_says_what_the_model_was_fed_with(split, tmp_path):
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe("int8_io")), split, scheme="int8_io")
    (fact,) = tinybundle.card(bundle)["data"]
    x = split.inputs[tiny.INPUT]
    assert fact == {
        "dtype": "float32", "low": x.min(), "high": x.max(), "whole": False, "items": 64, "split": "validation"
    }  # fmt: skip
    assert "float32 from -1.8" in (bundle / "card.md").read_text()
    assert "float32, -1.8" in (bundle / "README.md").read_text()


def test_the_calibration_data_are_what_the_model_was_fed_with(tmp_path):
    store = autoopt.execution.artifact_store.Store(tmp_path)
    splits = {}
    for name, low in (("calibration", 0), ("validation", 5)):
        arrays = {"b": np.arange(low, low + 200, dtype=np.uint8).reshape(100, 2), "a": np.full((100, 1), 0.5)}
        split = Split(inputs=arrays, labels=np.zeros(100))
        splits[name] = stores.put(store, split)
    manifest = dataclasses.replace(tiny.manifest(), splits=splits)
    ends = [End(shape=(1, n), dtype="float32", name=name) for name, n in (("a", 1), ("b", 2))]
    first, second = fed(manifest, store, ends)
    assert (first["low"], first["high"], first["whole"], first["split"]) == (0.5, 0.5, False, "calibration")
    assert (second["dtype"], second["low"], second["high"], second["whole"]) == ("uint8", 0, 199, True)
    stores.lose(store, splits["calibration"])
    assert fed(manifest, store, ends)[1]["low"] == 5
    assert fed(None, store, ends) is None
    assert fed(dataclasses.replace(manifest, splits={}), store, ends) is None


def test_what_can_not_run_in_a_bundle_is_not_there(split, tmp_path):
    (tmp_path / "study").mkdir()
    results = tinybundle.study(tmp_path / "study", tiny.file(tiny.recipe()), split)
    (tmp_path / "study" / "task.py").write_text("import data_that_stays_behind")
    (tmp_path / "study" / "study.yaml").write_text("space: smoke")
    bundle = results.export(1, tmp_path / "bundle")
    assert not (bundle / "task.py").exists()
    assert "task.py" not in "".join(path.read_text() for path in bundle.glob("*.md"))
    assert "STUDY --recipe recipe.json" in (bundle / "REPRODUCE.md").read_text()
    (bundle / "task.py").write_text("of a bundle of before")
    assert not (results.export(1, bundle, replace=True) / "task.py").exists()


@given(
    kind=st.sampled_from([np.int8, np.uint8, np.int16]),
    scale=st.floats(2.0**-20, 2.0**10, width=32),
    zero=st.integers(-32768, 32767),
)
def test_what_integers_stand_for_is_quantized_to_the_same_integers(kind, scale, zero):
    limits = np.iinfo(kind)
    zero = max(limits.min, min(limits.max, zero))
    end = End(shape=(1, 5), dtype=np.dtype(kind).name, scale=scale, zero=zero)
    assert np.float32(end.factor) == np.float32(scale)
    q = np.linspace(limits.min, limits.max, 999).astype(kind)
    x = eval(python._real("q", end), {"q": q, "np": np})
    assert x.dtype == np.float32
    assert (replay.quantize(x, {"dtype": kind, "quantization": (scale, zero)}) == q).all()
    feed = re.search(r"x = (.*)", python._feed(0, "x", end))
    assert (eval(feed[1], {"x": x, "np": np}) == q).all()


ENDS = {
    "float32": (End(shape=(1, 6), dtype="float32"), "putFloat(v)", "output.getFloat()"),
    "int8": (
        End(shape=(1, 6), dtype="int8", scale=0.5, zero=-128),
        "put(round(v / 0.5f - 128).toInt().coerceIn(-128, 127).toByte())",
        "(output.get() + 128) * 0.5f",
    ),
    "uint8": (
        End(shape=(1, 6), dtype="uint8", scale=0.25, zero=7),
        "put(round(v / 0.25f + 7).toInt().coerceIn(0, 255).toByte())",
        "((output.get().toInt() and 0xFF) - 7) * 0.25f",
    ),
    "int16": (
        End(shape=(1, 6), dtype="int16", scale=0.1),
        "putShort(round(v / 0.1f).toInt().coerceIn(-32768, 32767).toShort())",
        "(output.getShort()) * 0.1f",
    ),
    "int32": (End(shape=(1, 6), dtype="int32"), "putInt(v)", "output.getInt().toFloat()"),
    "int64": (End(shape=(1, 6), dtype="int64"), "putLong(v)", "output.getLong().toFloat()"),
    "bool": (End(shape=(1, 6), dtype="bool"), "put((if (v) 1 else 0).toByte())", "output.get().toFloat()"),
}
"""An input, and what Kotlin compiles and runs to the right bytes: all of these were tried with Kotlin 2.3."""


@pytest.mark.parametrize("dtype", ENDS)
def test_kotlin_fills_and_reads_buffers_of_every_dtype(dtype):
    end, put, read = ENDS[dtype]
    name, text = kotlin(Interface(title="t", inputs=(end,), outputs=(end,), classes=True))
    assert name == "Classifier.kt"
    assert f"for (v in values) input.{put}\n" in text
    assert f"FloatArray(6) {{ {read} }}" in text
    assert f"direct({6 * np.dtype(dtype).itemsize})" in text
    assert ("import kotlin.math.round" in text) == bool(end.scale)
    assert text.count("{") == text.count("}")
    assert ".order(ByteOrder.nativeOrder())" in text


def test_files_of_a_fixed_batch_are_run_item_by_item():
    fixed = dataclasses.replace(ENDS["float32"][0], shape=(4, 6))
    interface = Interface(title="t", inputs=(fixed,), outputs=(fixed,), classes=False)
    assert "interpreter.resizeInput(0, intArrayOf(1, 6))" in kotlin(interface)[1]
    assert 'resize_tensor_input(interpreter.get_input_details()[0]["index"], [1, 6])' in python.predict_py(interface)


def test_kotlin_takes_an_input_and_an_output_without_axes():
    single = dataclasses.replace(ENDS["float32"][0], shape=())
    text = kotlin(Interface(title="t", inputs=(single,), outputs=(single,), classes=False))[1]
    assert "resizeInput" not in text
    assert "FloatArray(1)" in text


def test_no_code_is_written_for_dtypes_that_are_not_known():
    odd = dataclasses.replace(ENDS["float32"][0], dtype="float16")
    assert not Interface(title="t", inputs=(odd,), outputs=(odd,), classes=False).known


# ---- firmware


def compiled_bytes(bundle, tmp_path, symbol):
    """The array as a C++ compiler sees it, with its length and alignment."""
    if COMPILER is None:
        pytest.skip("no C++ compiler is installed")
    (tmp_path / "main.cc").write_text(
        f'#include <cstdio>\n#include <cstdint>\n#include "model_data.h"\n#include "model_data.h"\n'
        f"int main() {{ if (reinterpret_cast<uintptr_t>({symbol}) % 16) return 1;\n"
        f"return fwrite({symbol}, 1, {symbol}_len, stdout) != {symbol}_len; }}\n"
    )
    subprocess.run(
        [COMPILER, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wcomment", "-pedantic", f"-I{bundle}",
         tmp_path / "main.cc", bundle / "model_data.cc", "-o", tmp_path / "main"], check=True,
    )  # fmt: skip
    return subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout


def test_the_download_is_the_model_packed_and_the_card_says_where_its_bytes_go(split, tmp_path):
    file = tiny.file(tiny.recipe("int8_io"))
    bundle = tinybundle.bundle(tmp_path, file, split, scheme="int8_io")
    packed = (bundle / "model.tflite.gz").read_bytes()
    assert gzip.decompress(packed) == file
    assert len(packed) <= len(gzip.compress(file, 9))
    parts = json.loads((bundle / "card.json").read_text())["proof"]["parts"]
    assert sum(part["size_bytes"] for part in parts) == len(file)
    rows = [line.split(" | ")[0] for line in (bundle / "card.md").read_text().splitlines()]
    assert {f"| {part['part']}" for part in parts} | {"| all"} <= set(rows)
    (bundle / "model.tflite.gz").write_bytes(gzip.compress(b"another"))
    assert not autoopt.verify(bundle).holds


def test_the_card_of_a_candidate_of_before_says_nothing_of_them(tmp_path):
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe()), None)
    card = json.loads((bundle / "card.json").read_text())
    assert "Where the bytes go" in card_text(card)
    del card["proof"]["parts"]
    assert "Where the bytes go" not in card_text(card)


def test_a_microcontroller_gets_the_model_as_a_c_array(split, tmp_path):
    file = tiny.file(tiny.recipe("int8_io"))
    bundle = tinybundle.bundle(tmp_path, file, split, scheme="int8_io", target="micro:64KB", name="Räume & 3")
    assert compiled_bytes(bundle, tmp_path, "raume_3_model_data") == file
    header = (bundle / "model_data.h").read_text()
    operators = {"AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddReshape", "AddSoftmax"}
    assert set(re.findall(r"resolver\.(\w+)\(\);", header)) == operators
    assert "MicroMutableOpResolver<5>" in header
    assert "Arena: 5012 bytes" in header
    assert "#ifndef RAUME_3_MODEL_DATA_H_" in header
    assert autoopt.verify(bundle).holds


def test_a_microcontroller_with_look_up_tables_gets_those(split, tmp_path):
    file = tiny.clustered()
    bundle = tinybundle.bundle(
        tmp_path, file, split, scheme="int8_io", target="micro:64KB?weights=tables", name="tables"
    )
    flashed = compiled_bytes(bundle, tmp_path, "tables_model_data")
    assert flashed == targets.find("micro:64KB?weights=tables").flashed(file) != file
    header = (bundle / "model_data.h").read_text()
    assert "resolver.AddDecode();" in header
    assert f"Weights are indices into tables ({len(flashed)} bytes in place of {len(file)})" in header
    assert (bundle / "model.tflite").read_bytes() == file
    assert autoopt.verify(bundle).holds


def test_an_npu_gets_what_vela_compiles(split, tmp_path):
    pytest.importorskip("ethosu.vela", reason="pip install 'autoopt[npu]'")
    file = tiny.file(tiny.recipe("int8_io"))
    bundle = tinybundle.bundle(tmp_path, file, split, scheme="int8_io", target="vela:ethos-u55-128")
    compiled = (bundle / "model_vela.tflite").read_bytes()
    assert compiled != file
    assert compiled_bytes(bundle, tmp_path, "quarters_model_data") == compiled
    header = (bundle / "model_data.h").read_text()
    assert "resolver.AddEthosU();" in header
    assert "for ethos-u55-128" in header
    assert "estimates 5012 bytes of SRAM" in header
    assert autoopt.verify(bundle).holds


def test_what_vela_can_not_compile_is_the_plain_file_and_says_so(split, tmp_path):
    pytest.importorskip("ethosu.vela", reason="pip install 'autoopt[npu]'")
    file = tiny.file(tiny.recipe())
    bundle = tinybundle.bundle(tmp_path, file, split, target="vela:ethos-u55-128")
    assert not (bundle / "model_vela.tflite").exists()
    assert "Not compiled for vela:ethos-u55-128: vela: Vela places none" in (bundle / "model_data.h").read_text()
    assert compiled_bytes(bundle, tmp_path, "quarters_model_data") == file


@pytest.mark.parametrize("target", ["host", "ssh://pi@board", ""])
def test_targets_with_files_get_no_array(target, split, tmp_path):
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe()), None, target=target)
    assert not list(bundle.glob("model_data.*"))


@pytest.mark.parametrize(
    ("operator", "method"),
    [
        ("CONV_2D", "AddConv2D()"),
        ("DEPTHWISE_CONV_2D", "AddDepthwiseConv2D()"),
        ("MAX_POOL_2D", "AddMaxPool2D()"),
        ("L2_NORMALIZATION", "AddL2Normalization()"),
        ("SPACE_TO_BATCH_ND", "AddSpaceToBatchNd()"),
        ("RELU6", "AddRelu6()"),
        ("PADV2", "AddPadV2()"),
        ("SELECT_V2", "AddSelectV2()"),
        ("CUMSUM", "AddCumSum()"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "AddUnidirectionalSequenceLSTM()"),
        ("CUSTOM ethos-u", "AddEthosU()"),
        ("CUSTOM x*/", 'AddCustom("x* /", ...)'),
    ],
)
def test_operators_are_named_as_the_resolver_names_them(operator, method):
    assert firmware.method(operator) == method


# ---- names


@given(st.text())
def test_no_text_leaves_a_comment_a_line_or_a_code_span(text):
    assert one_line(text).isprintable()
    safe = comment(text)
    assert safe.isprintable()
    assert not any(mark in safe for mark in ("*/", "/*", "\\", "??"))
    assert "`" not in code_span(text)
    assert re.search(r"(?<!\\)(\\\\)*[`<|\[]", markdown(text)) is None
    assert re.fullmatch(r"[a-z](_?[a-z0-9]+)*", identifier(text))


def test_hostile_names_break_out_of_nothing(split, tmp_path):
    file = tiny.file(tiny.recipe("int8_io"))
    bundle = tinybundle.bundle(
        tmp_path, file, split, scheme="int8_io", name=HOSTILE, classes=(HOSTILE,) * 4, target="micro:64KB"
    )
    labels = (bundle / "labels.txt").read_text(encoding="utf-8")
    assert len(labels.splitlines()) == labels.count("\n") == 4
    assert predict(bundle).startswith("a*/b")
    symbol = re.search(r"extern const unsigned char (\w+)\[\]", (bundle / "model_data.h").read_text())[1]
    assert compiled_bytes(bundle, tmp_path, symbol) == file
    for name in ("predict.py", "Classifier.kt", "model_data.h"):
        text = (bundle / name).read_text(encoding="utf-8")
        kept = [line for line in text.split("\n") if "/etc/passwd" in line]
        assert len(kept) == 1
        assert kept[0].startswith(("# ", "// "))
        assert "*/b" not in text
    for name in ("README.md", "card.md", "REPRODUCE.md"):
        text = (bundle / name).read_text(encoding="utf-8")
        assert "passwd" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not any(line.startswith("#include") for line in text.splitlines())
    assert "<b>" not in (bundle / "README.md").read_text().replace("\\<b\\>", "")
    found = autoopt.verify(bundle)
    assert found.holds
    assert "\x1b" not in found.text()


@pytest.mark.parametrize(
    ("text", "name"),
    [("digits", "digits"), ("9 lives", "study_9_lives"), ("", "study"), ("日本", "study"), ("Größe--x_", "groe_x")],
)
def test_identifiers_come_from_the_studys_name(text, name):
    assert identifier(text) == name


# ---- the whole


@pytest.mark.parametrize("target", ["host", "micro:64KB"])
def test_the_readme_names_every_file_and_no_other(target, split, tmp_path):
    bundle = tinybundle.bundle(tmp_path, tiny.file(tiny.recipe("int8_io")), split, scheme="int8_io", target=target)
    named = set(re.findall(r"^\| `([\w.]+)` \|", (bundle / "README.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in bundle.iterdir()} - {"README.md"}
    assert named <= set(FILES)


def test_exporting_stays_quick_and_imports_no_tensorflow(split, tmp_path):
    (tmp_path / "study").mkdir()
    tinybundle.study(tmp_path / "study", tiny.file(tiny.recipe("int8_io")), split, scheme="int8_io")
    code = (
        "import sys; from autoopt.cli.commands import main\n"
        f"main(['export', {str(tmp_path / 'study')!r}, '1', '--to', {str(tmp_path / 'out')!r}, '--json'], "
        "standalone_mode=False)\n"
        "print([name for name in ('tensorflow', 'tf_keras', 'optuna', 'ai_edge_litert') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    printed, loaded = done.stdout.splitlines()
    assert json.loads(printed)["candidate"] == 1
    assert loaded == "[]"
    assert autoopt.verify(tmp_path / "out").holds
