"""Tasks: what is checked, how data comes in, and what the fingerprint follows."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import stores
import tensorflow as tf
import tf_keras
import tiny

from autoopt import QualityMetric
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import task as tasks
from autoopt.models.task import Manifest, Split

layers = tf_keras.layers
X, Y = tiny.images(40, 9)
SPARSE = tf_keras.losses.SparseCategoricalCrossentropy


def auc(labels, outputs):
    """Area under the curve of class 0 against the rest: how often its items score higher (Mann and Whitney 1947)."""
    inside, outside = outputs[labels == 0, 0], outputs[labels != 0, 0]
    return float((inside[:, None] > outside[None, :]).mean())


def mae(labels, outputs):
    return float(np.abs(labels - outputs[:, 0]).mean())


def own_loss(labels, outputs):
    return tf_keras.losses.sparse_categorical_crossentropy(labels, outputs)


class OwnLoss(tf_keras.losses.Loss):
    def call(self, labels, outputs):
        return own_loss(labels, outputs)


@pytest.fixture(scope="module")
def cnn():
    return tiny.cnn()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def prepare(cnn, store, tmp_path):
    """Check a task of the tiny model and images, with changes."""

    def prepared(**changes):
        taken = task_checks.prepare(tiny.task(**({"model": cnn} | changes)), tmp_path / "task.py", store)
        return taken.manifest, [*taken.warnings, *(limit.why for limit in taken.limits)]

    return prepared


def split(manifest, name, store):
    return split_store.get(store, manifest.splits[name])


# --- what is checked


def test_a_good_task_passes_without_a_word(prepare):
    manifest, warnings = prepare()
    assert warnings == []
    assert manifest.items == {"train": 256, "validation": 128, "test": 128, "calibration": 256}
    assert (manifest.quality.name, manifest.quality.direction, manifest.quality.unit) == ("accuracy", "max", "fraction")
    assert manifest.quality_function() is None


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X[..., 0], Y), r"input image: expected shape \(items, 8, 8, 1\), got \(40, 8, 8\); add the channel axis: "),
        ((X.reshape(40, 64), Y), r"input image: expected shape \(items, 8, 8, 1\), got \(40, 64\)$"),
        (({"img": X}, Y), "expected inputs named image, got 'img'"),
        ((X[:0], Y[:0]), "empty; expected one item or more"),
        ((X, Y[:30]), "labels: expected 40 labels, one an item, got 30"),
        ((X, []), "labels: expected 40 labels, one an item, got 0"),
        ((X, None), "labels: expected an array with items first, got None"),
        ((3.0, Y), "input image: expected an array with items first, got 3.0"),
        (([X[0], X[1, :4]], [0, 1]), "input image: expected an array, got items of different shapes"),
        ((X, [[1], [2, 3]] * 20), "labels: expected an array, got items of different shapes"),
        ((np.where(X[3] == X, np.nan, X), Y), "input image: holds NaN or infinity in 1 items; clean the data"),
        ((np.where(X[3] == X, np.inf, X), Y), "input image: holds NaN or infinity in 1 items; clean the data"),
        ((X, np.where(np.arange(40) < 2, np.nan, Y)), "labels: hold NaN or infinity in 2 items; clean the data"),
        ((X.astype(str), Y), "input image: expected numbers, got 'dtype <U"),
        ((X.astype(str), Y), "input image: .*; the input image takes text, which the runtimes here"),
        (
            (X.transpose(0, 3, 1, 2), Y),
            r"input image: .*; the channels come last: x.transpose\(0, 2, 3, 1\) gives \(40, 8, 8, 1\)",
        ),
        ((X, Y.astype(str)), r"labels: .*; number the names: np.unique\(labels, return_inverse=True\)\[1\]"),
        ((X.astype(complex), Y), "input image: expected numbers, got 'dtype complex128'"),
        ((X, Y.astype(str)), "labels: expected numbers, got 'dtype <U"),
        (
            (np.where(X[3] == X, 1e39, X.astype(float)), Y),
            "input image: holds numbers over 3.4e38 in 1 items, which float32 does not hold",
        ),
        ((X.astype(np.longdouble), Y), "input image: expected numbers, got 'dtype float128'"),
        ((X, np.ma.masked_equal(Y, 1)), "labels: some values are masked; leave these items out, or fill them"),
        ((np.ma.masked_less(X, 0), Y), "input image: some values are masked"),
        ((X, Y.astype(object)), "labels: expected numbers, got 'dtype object'"),
        ((X, Y + 1), r"labels: expected class indices 0 to 3 \(the model has 4 outputs\), got 4"),
        ((X, Y - 1), "labels: expected class indices 0 to 3 .*, got -1"),
        ((X, Y * 0.5), "labels: expected class indices 0 to 3 .*, got [01].5"),
        ((X, np.eye(5)[Y]), r"labels: expected one class index an item, .* got '?shape \(40, 5\)"),
        (X, r"expected a pair \(inputs, labels\), a tf.data.Dataset .* of such pairs, .* got 'ndarray'"),
        ((X, Y, Y, Y), r"expected a pair \(inputs, labels\)"),
        (None, r"expected a pair \(inputs, labels\), .* got 'NoneType'"),
    ],
)
def test_bad_data_is_refused_naming_file_and_split(part, data, message, prepare):
    with pytest.raises(ConfigError, match=rf"/task\.py: {part}: {message}"):
        prepare(**{part: data})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "nonsense"}, "loss: expected the name of a Keras loss, got 'nonsense'"),
        ({"loss": lambda a, b: 0}, "loss: expected a function defined at the top level of task.py or of a module"),
        ({"loss": 3}, "loss: expected a function defined at the top level"),
        ({"loss": OwnLoss()}, r"loss: expected a loss of Keras, or a function \(labels, outputs\), got 'OwnLoss'"),
        ({"loss": "categorical_crossentropy"}, r"labels: expected one-hot labels of shape \(items, 4\) for the loss"),
        (
            {"metric": "auk"},
            r"metric: expected one of accuracy, .*did you mean 'auc'.*, or an autoopt\.QualityMetric, got 'auk'",
        ),
        ({"metric": QualityMetric(name="my auc", function=auc)}, "metric.name: expected a name of letters"),
        ({"metric": QualityMetric(name="auc", function=auc, unit="ms")}, "metric.unit: expected 'fraction' or ''"),
        ({"metric": QualityMetric(name="auc", function=auc, direction="up")}, "direction: expected 'max' or 'min'"),
        (
            {"metric": QualityMetric(name="auc", function=lambda a, b: 0)},
            "metric.function: expected a function defined",
        ),
        ({"calibration": X[..., 0]}, r"calibration: input image: expected shape \(items, 8, 8, 1\)"),
        ({"calibration": X[:0]}, "calibration: empty"),
    ],
)
def test_bad_losses_metrics_and_calibration_are_refused(changes, message, prepare):
    with pytest.raises(ConfigError, match=message):
        prepare(**changes)


def test_nothing_is_stored_of_a_task_that_is_refused(prepare, store):
    with pytest.raises(ConfigError):
        prepare(test=(X, Y + 1))
    assert not store.root.exists()


def test_items_that_stand_in_two_splits_are_warned_of(prepare):
    x, y = tiny.images(64, 5)
    _, warnings = prepare(train=(x, y), validation=(x[:3], y[:3]), test=(np.concatenate([x[2:4], X]), [0] * 42))
    assert warnings == [
        "3 items of validation also stand in train: its accuracy will come out too high; remove them from train",
        "2 items of test also stand in train: its accuracy will come out too high; remove them from train",
        "1 items of test also stand in validation: what is confirmed will come out too high",
    ]


# --- how data comes in


def pairs():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def generated(**batch):
    """A dataset that says nothing of its shapes."""
    made = tf.data.Dataset.from_generator(lambda: zip(X, Y, strict=True), output_types=(tf.float32, tf.int64))
    return made.batch(**batch) if batch else made


@pytest.mark.parametrize(
    "data",
    [
        lambda: [X, Y],
        lambda: (X.tolist(), Y.tolist()),
        lambda: ({"image": X}, Y),
        lambda: (X, Y[:, None]),
        pairs,
        lambda: pairs().batch(16),
        lambda: pairs().batch(20, drop_remainder=True),
        lambda: pairs().batch(40, drop_remainder=True),
        lambda: pairs().batch(16).map(lambda x, y: ({"image": x}, y)),
        generated,
        lambda: generated(batch_size=16),
        lambda: generated(batch_size=20, drop_remainder=True),
    ],
    ids=[
        "list", "nested lists", "dict", "column of labels", "items", "batches", "whole batches", "one batch",
        "batches of dicts", "generator", "generator in batches", "generator in whole batches",
    ],
)  # fmt: skip
def test_arrays_and_datasets_give_the_same_split(data, prepare, store):
    manifest, _ = prepare(train=data())
    found = split(manifest, "train", store)
    np.testing.assert_array_equal(found.inputs["image"], X)
    np.testing.assert_array_equal(found.labels.ravel(), Y)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: pairs().repeat(), "the dataset never ends"),
        (lambda: pairs().batch(4).repeat(), "the dataset never ends"),
        (lambda: generated().repeat(), "the dataset never ends"),
        (lambda: pairs().take(0), "empty; expected one item or more"),
        (lambda: pairs().map(lambda x, y: x), r"expected a dataset of pairs \(inputs, labels\)"),
        (lambda: pairs().map(lambda x, y: (x, y, y, y)), r"expected a dataset of pairs \(inputs, labels\)"),
        (lambda: tf.data.Dataset.from_tensor_slices((X[..., 0], Y)).batch(16), "got \\(16, 8, 8\\); add the channel"),
        (
            lambda: tf.data.Dataset.from_generator(
                lambda: iter([(X[0], 0), (X[0, :4], 1)]), output_types=(tf.float32, tf.int64)
            ),
            "the dataset's items differ in shape; pad or resize them",
        ),
    ],
)
def test_datasets_that_give_no_arrays_are_refused(data, message, prepare):
    with pytest.raises(ConfigError, match=rf"train: .*{message}"):
        prepare(train=data())


@pytest.mark.parametrize(
    "inputs",
    [
        lambda a, b: {"first": a, "second": b},
        lambda a, b: {"second": b, "first": a},
        lambda a, b: [a, b],
    ],
)
def test_several_inputs_come_by_name_or_in_order(inputs, prepare, store):
    first, second = tf_keras.Input((3,), name="first"), tf_keras.Input((5,), name="second")
    model = tf_keras.Model(
        [first, second], layers.Dense(4, activation="softmax")(layers.Concatenate()([first, second]))
    )
    rng = np.random.default_rng(0)

    def data(n):
        return inputs(rng.random((n, 3)), rng.random((n, 5))), np.zeros(n, int)

    manifest, _ = prepare(model=model, train=data(8), validation=data(4), test=data(4))
    found = split(manifest, "train", store).inputs
    assert {name: array.shape for name, array in found.items()} == {"first": (8, 3), "second": (8, 5)}
    with pytest.raises(ConfigError, match=r"2 inputs as a dict by name \(first, second\)"):
        prepare(model=model, train=(rng.random((8, 3)), np.zeros(8, int)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int8", "int64", "bool"])
def test_splits_come_back_from_bytes_with_their_dtypes(dtype):
    made = Split(inputs={"a/b": X.astype(dtype), "labels": np.arange(40)}, labels=Y.astype("uint8"))
    back = Split.from_bytes(stores.earlier_bytes(made))
    assert list(back.inputs) == ["a/b", "labels"]
    assert back.digest == made.digest
    assert back.inputs["a/b"].dtype == dtype
    np.testing.assert_array_equal(back.inputs["a/b"], X.astype(dtype))


def test_calibration_is_drawn_from_train_alone(prepare, store):
    x, y = tiny.images(600, 7)
    manifest, _ = prepare(train=(x, y))
    drawn = split(manifest, "calibration", store)
    rows = {row.tobytes() for row in drawn.inputs["image"]}
    assert len(rows) == task_checks.CALIBRATION_ITEMS
    assert rows <= {row.tobytes() for row in x}
    for other in ("validation", "test"):
        assert not rows & {row.tobytes() for row in split(manifest, other, store).inputs["image"]}
    assert rows != {row.tobytes() for row in x[: len(rows)]}, "the first items are often of one class"


@pytest.mark.parametrize("given", [X[:5], {"image": X[:5]}, tf.data.Dataset.from_tensor_slices((X[:5], Y[:5]))])
def test_a_calibration_set_of_ones_own_is_used_as_it_is(given, prepare, store):
    manifest, _ = prepare(calibration=given)
    np.testing.assert_array_equal(split(manifest, "calibration", store).inputs["image"], X[:5])


# --- metric and loss


@pytest.mark.parametrize(
    ("function", "direction", "labels", "outputs", "expected"),
    [
        (auc, "max", [0, 0, 1, 2], [[0.9], [0.4], [0.5], [0.1]], 0.75),
        (mae, "min", [1.0, 2.0], [[1.5], [2.5]], 0.5),
    ],
)
def test_a_metric_of_ones_own_is_found_again(function, direction, labels, outputs, expected, prepare):
    manifest, _ = prepare(metric=QualityMetric(name="own", function=function, direction=direction))
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert (again.quality.name, again.quality.direction) == ("own", direction)
    assert again.quality_function()(np.array(labels), np.array(outputs), {}) == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", SPARSE(from_logits=True), own_loss])
def test_the_loss_survives_the_manifest(loss, prepare):
    manifest, _ = prepare(loss=loss)
    found = tf_keras.losses.get(Manifest.from_json(manifest.to_json()).loss_function())
    given = tf_keras.losses.get(loss)
    outputs = np.array([[0.7, 0.1, 0.1, 0.1]] * 3, np.float32)
    np.testing.assert_allclose(found(np.array([0, 1, 2]), outputs), given(np.array([0, 1, 2]), outputs))


@pytest.mark.parametrize(
    ("loss", "last", "threshold"),
    [
        ("binary_crossentropy", "sigmoid", 0.5),
        (tf_keras.losses.BinaryCrossentropy(), "sigmoid", 0.5),
        (tf_keras.losses.BinaryCrossentropy(from_logits=True), None, 0.0),
        (own_loss, "sigmoid", 0.5),
        (own_loss, None, 0.0),
    ],
)
def test_one_output_is_read_as_the_model_gives_it(loss, last, threshold, prepare):
    model = tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(1, activation=last))
    model.set_weights([10 * weight for weight in model.get_weights()])
    data = {
        name: (x, y % 2)
        for name, (x, y) in ((n, tiny.images(40, i)) for i, n in enumerate(("train", "validation", "test")))
    }
    manifest, _ = prepare(loss=loss, model=model, **data)
    assert Manifest.from_json(manifest.to_json()).threshold == threshold


# --- fingerprint


def test_the_fingerprint_follows_everything_that_candidates_follow_from(prepare, cnn):
    other = tf_keras.models.clone_model(cnn)
    validation = tiny.images(128, 2)
    plain = prepare()[0].fingerprint
    assert prepare()[0].fingerprint == plain
    changed = [
        {"model": other},
        {"train": (tiny.images(256, 1)[0] * 1.0001, tiny.images(256, 1)[1])},
        {"validation": (validation[0], np.roll(validation[1], 1))},
        {"test": tiny.images(128, 4)},
        {"calibration": X},
        {"loss": SPARSE()},
        {"loss": SPARSE(from_logits=True)},
        {"metric": QualityMetric(name="own", function=auc)},
        {"metric": QualityMetric(name="own", function=mae)},
        {"metric": QualityMetric(name="own", function=mae, direction="min")},
        {"finetune": Finetune(epochs=7)},
    ]
    assert len({plain, *(prepare(**changes)[0].fingerprint for changes in changed)}) == len(changed) + 1


TASK = """
import numpy as np
import tf_keras
import autoopt

def data(n, seed):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)).astype("float32"), rng.integers(0, 2, n)

def hits(labels, outputs):
    return float((outputs.argmax(axis=1) == labels).mean())

def task():
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2, activation="softmax", name="d")])
    metric = autoopt.QualityMetric(name="hits", function=hits, unit="fraction")
    return autoopt.Task(model=model, train=data(9, 0), validation=data(8, 1), test=data(8, 2), metric=metric)
"""


def test_another_process_finds_the_same_fingerprint_and_the_metric(tmp_path, store):
    path = tmp_path / "task.py"
    path.write_text(TASK)
    tf_keras.backend.clear_session()  # names of layers count up within a process
    manifest = task_checks.prepare(tasks.load(path), path, store).manifest
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from autoopt.execution import task_checks as intake; from autoopt.models import task
        from autoopt.execution.artifact_store import Store
        given = task.Manifest.from_json(sys.stdin.read())
        print(given.quality_function()(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), {}))
        path = Path(sys.argv[1])
        print(intake.prepare(task.load(path), path, Store(path.parent / "other")).manifest.fingerprint)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        input=manifest.to_json(),
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=False,
    )
    assert done.stdout.split() == ["0.5", manifest.fingerprint], done.stderr


def test_the_fingerprint_does_not_follow_the_folder_but_the_metrics_source(tmp_path, store):
    def fingerprint(folder, text):
        path = tmp_path / folder / "task.py"
        path.parent.mkdir()
        path.write_text(text)
        tf_keras.backend.clear_session()
        return task_checks.prepare(tasks.load(path), path, store).manifest.fingerprint

    assert fingerprint("a", TASK) == fingerprint("b", TASK)
    assert fingerprint("c", TASK.replace("== labels", "!= labels")) != fingerprint("d", TASK)


# --- task.py


def test_a_task_imports_what_lies_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("ITEMS = 5\n")
    (tmp_path / "task.py").write_text(TASK.replace("import autoopt", "import autoopt\nfrom beside import ITEMS"))
    assert len(tasks.load(tmp_path / "task.py").train[1]) == 9


def test_a_metric_from_a_neighbouring_file_is_refused_for_jobs_would_not_find_it(tmp_path, store):
    (tmp_path / "neighbour.py").write_text("def hits(labels, outputs):\n    return 1.0\n")
    path = tmp_path / "task.py"
    path.write_text(TASK.replace("def hits", "def other") + "\nfrom neighbour import hits\n")
    with pytest.raises(ConfigError, match=r"hits is imported from neighbour, .*; define hits in task\.py"):
        task_checks.prepare(tasks.load(path), path, store)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def task(:\n", r"task\.py: can't be imported \(line 1\): SyntaxError"),
        ("import nowhere_at_all\n", "can't be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1\n", r"expected a function `def task\(\) -> autoopt.Task`, found none"),
        ("def task():\n    raise ValueError('two\\nlines')\n", r"task\(\) raised ValueError: two lines"),
        ("def task():\n    return 3\n", r"task\(\): expected an autoopt.Task, got 'int'"),
    ],
)
def test_a_task_file_that_gives_no_task_is_refused(text, message, tmp_path):
    (tmp_path / "task.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        tasks.load(tmp_path / "task.py")


def test_a_missing_task_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"task\.py: no such file; a study needs a task\.py"):
        tasks.load(tmp_path / "task.py")


@pytest.mark.parametrize(
    ("items", "changes", "weight"),
    [
        (256, {}, 0.0),
        (150, {}, 0.5),
        (150, {"loss": tf_keras.losses.SparseCategoricalCrossentropy()}, 0.5),
        (150, {"loss": "mse"}, 0.0),
        (150, {"finetune": Finetune(epochs=7)}, 0.0),
    ],
)
def test_where_labels_are_few_the_untouched_model_teaches_too(prepare, items, changes, weight):
    manifest, _ = prepare(train=tiny.images(items, 1), **changes)
    assert Finetune(**manifest.finetune).distillation == weight


def test_what_a_study_had_is_compared_with_what_it_is_given(cnn, store, tmp_path):
    def given(y):
        return tiny.task(model=cnn, train=lambda: iter([(X, y)]))

    path = tmp_path / "task.py"
    first = task_checks.prepare(given(Y), path, store)
    again = task_checks.prepare(given(Y), path, store, before=first.manifest)
    assert again.manifest == first.manifest
    assert again.warnings == first.warnings
    other = task_checks.prepare(given(np.roll(Y, 1)), path, store, before=first.manifest)
    assert other.warnings == [*first.warnings, "train: its data is not what it was when the study last ran"]
