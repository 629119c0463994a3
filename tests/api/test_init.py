"""`autoopt init`: the study it writes, what it says, and what it leaves behind when it can't."""

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from autoopt.api import array_file, init
from autoopt.cli.commands import main
from autoopt.core import budgets
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import loading as bring
from autoopt.models import quality
from autoopt.models import task as tasks
from autoopt.models.task import Split
from autoopt.study.folder import StudyFolder
from autoopt.tflite import conversion

layers = tf_keras.layers
X, Y = tiny.images(40, 1)


def dense(units, activation=None):
    return tiny.network(layers.Flatten(), layers.Dense(units, activation=activation))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A file for each kind of model."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "softmax": dense(4, "softmax"),
        "softmax layer": tiny.network(layers.Flatten(), layers.Dense(4), layers.Softmax()),
        "logits": dense(4),
        "sigmoid": dense(1, "sigmoid"),
        "logit": dense(1),
        "three": dense(3),
    }
    for name, model in made.items():
        model.save(folder / f"{name}.h5")
    made["softmax"].save(folder / "softmax.keras")
    made["softmax"].save(folder / "softmax")
    return folder


@pytest.fixture
def create(models, tmp_path):
    """Write a study of a model and arrays: its folder, and what was said."""

    def created(model="softmax.h5", target="study", space="smoke", **arrays):
        said = []
        np.savez(tmp_path / "data.npz", **(arrays or {"x_train": X, "y_train": Y}))
        folder = tmp_path / "made" / target
        init.create(folder, models / model, tmp_path / "data.npz", space, 7, said.append)
        return folder, said

    return created


def prepared(folder, store):
    path = folder / "task.py"
    return task_checks.prepare(tasks.load(path), path, Store(store)).manifest


@pytest.mark.parametrize("model", ["softmax.h5", "softmax.keras", "softmax"])
def test_the_study_loads_from_every_format(model, create, tmp_path):
    folder, _ = create(model)
    manifest = prepared(folder, tmp_path / "store")
    config = StudyFolder(folder).config()
    assert (config.trials, config.objectives) == (7, ("quality", "latency_ms", "compressed_bytes"))
    assert StudyFolder(folder).config("micro:64KB").objectives == ("quality", "memory_bytes", "size_bytes")
    assert sum(manifest.items[name] for name in ("train", "validation", "test")) == 40
    assert {path.name for path in folder.iterdir()} >= {"study.yaml", "task.py", "data.npz"}


@pytest.mark.parametrize(
    ("device", "space"),
    [("micro:64KB", "microcontroller"), ("vela:ethos-u55-128", "npu"), ("host", "mobile"), (None, "mobile")],
)
def test_the_device_chooses_the_space_and_both_are_written(device, space, models, tmp_path):
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    folder = tmp_path / "study"
    init.create(folder, models / "softmax.h5", tmp_path / "data.npz", None, 7, lambda text: None, device=device)
    assert f"space: {space} " in (folder / "study.yaml").read_text()
    config = StudyFolder(folder).config()
    assert config.target.name == (device or "host")
    assert not all(config.target.refuses(name) for name in config.space.knobs["scheme"].values)


@pytest.mark.parametrize(("preset", "epochs"), [(None, 15), ("quick", 5), ("thorough", 60)])
def test_the_preset_says_how_long_stages_train(preset, epochs, models, tmp_path):
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    folder, given = tmp_path / "study", {"preset": preset} if preset else {}
    init.create(folder, models / "softmax.h5", tmp_path / "data.npz", "smoke", 7, lambda text: None, **given)
    config = StudyFolder(folder).config()
    assert config.preset == (preset or "night")
    store, path = Store(tmp_path / "store"), folder / "task.py"
    taken = task_checks.prepare(tasks.load(path), path, store, preset=config.preset)
    assert (taken.manifest.finetune["epochs"], taken.tuned) == (epochs, True)
    # Fewer than 50 items a class: what was usual without a preset stays.
    assert taken.manifest.finetune["distillation"] == 0.5


def test_what_is_missing_is_split_off_train_and_said(create, tmp_path):
    folder, said = create()
    manifest = prepared(folder, tmp_path / "store")
    assert {n: manifest.items[n] for n in ("train", "validation", "test")} == {"train": 29, "validation": 6, "test": 5}
    assert [line.split(":")[0] for line in said] == ["no x_validation in the data", "no x_test in the data"]
    assert "6 of 40 training items were split off" in said[0]
    store = Store(tmp_path / "store")
    labels = {row.tobytes(): label for row, label in zip(X, Y, strict=True)}
    seen = set()
    for name in ("train", "validation", "test"):
        found = split_store.get(store, manifest.splits[name])
        for row, label in zip(found.inputs["image"], found.labels, strict=True):
            assert labels[row.tobytes()] == label
            seen.add(row.tobytes())
    assert len(seen) == 40, "an item stands in two splits"


def test_given_splits_are_left_as_they_are(create):
    x, y = tiny.images(20, 2)
    folder, said = create(x_train=X, y_train=Y, x_validation=x[:8], y_validation=y[:8], x_test=x[8:], y_test=y[8:])
    assert said == []
    with np.load(folder / "data.npz") as kept:
        np.testing.assert_array_equal(kept["x_train"], X)
        np.testing.assert_array_equal(kept["y_test"], y[8:])


def test_splitting_is_always_the_same(create):
    first, second = (dict(np.load(create(target=name)[0] / "data.npz")) for name in ("a", "b"))
    assert all((first[name] == second[name]).all() for name in first)


def test_class_names_reach_the_task(create, tmp_path):
    folder, _ = create(x_train=X, y_train=Y, class_names=np.array(["a", "b", "c", "d"]))
    assert prepared(folder, tmp_path / "store").class_names == ("a", "b", "c", "d")


def test_shared_items_are_warned_of(create):
    given = {"x_train": X, "y_train": Y, "x_validation": X[:3], "y_validation": Y[:3]}
    _, said = create(**given, x_test=tiny.images(5, 2)[0], y_test=tiny.images(5, 2)[1])
    assert len(said) == 1
    assert said[0].startswith("warning: 3 items of validation also stand in train")


@pytest.mark.parametrize(
    ("model", "labels", "loss", "metric"),
    [
        ("softmax", Y, "sparse_categorical_crossentropy", "accuracy"),
        ("softmax", Y[:, None].astype("uint8"), "sparse_categorical_crossentropy", "accuracy"),
        ("softmax", Y.astype("float64"), "sparse_categorical_crossentropy", "accuracy"),
        ("softmax layer", Y, "sparse_categorical_crossentropy", "accuracy"),
        ("softmax", np.eye(4)[Y], "categorical_crossentropy", "accuracy"),
        ("logits", Y, "SparseCategoricalCrossentropy", "accuracy"),
        ("logits", np.eye(4, dtype="int8")[Y], "CategoricalCrossentropy", "accuracy"),
        ("sigmoid", Y % 2, "binary_crossentropy", "accuracy"),
        ("sigmoid", (Y % 2).astype("float32"), "binary_crossentropy", "accuracy"),
        ("logit", Y % 2, "BinaryCrossentropy", "accuracy"),
        ("logit", Y + 0.5, "mean_squared_error", "mae"),
        ("logit", Y.astype("float32"), "mean_squared_error", "mae"),
        ("sigmoid", Y / 4 + 0.1, "mean_squared_error", "mae"),
        ("three", np.random.default_rng(0).random((40, 3)), "mean_squared_error", "mae"),
        ("three", np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float), "mean_squared_error", "mae"),
    ],
)
def test_loss_and_metric_follow_from_labels_and_last_layer(model, labels, loss, metric, create, tmp_path):
    folder, _ = create(f"{model}.h5", x_train=X, y_train=labels)
    manifest = prepared(folder, tmp_path / "store")
    found = manifest.loss
    if isinstance(found, dict):
        assert found["keras"]["config"]["from_logits"] is True
        found = found["keras"]["class_name"]
    assert (found, manifest.quality.name) == (loss, metric)
    # The study's whole way works: outputs of the model, its loss and its metric.
    outputs = np.asarray(bring.load(tasks.load(folder / "task.py").model)(X))
    shaped = labels.reshape(-1, 1) if outputs.shape[1] == 1 else labels  # as `fit` does
    assert np.isfinite(tf_keras.losses.get(manifest.loss_function())(shaped, outputs)).all()
    assert quality.quality(manifest, Split(inputs={}, labels=labels), outputs, "here").measurement.n == 40


def test_regression_is_measured_by_its_mean_absolute_error(create, tmp_path):
    folder, _ = create("logit.h5", x_train=X, y_train=Y + 0.5)
    manifest = prepared(folder, tmp_path / "store")
    assert manifest.quality.direction == "min"
    outputs = (Y + 0.5)[:, None] + np.where(np.arange(40) % 2, 0.25, -0.25)[:, None]
    assert quality.value(manifest, Split(inputs={}, labels=Y + 0.5), outputs) == pytest.approx(0.25)
    assert "objectives: [mae," in (folder / "study.yaml").read_text()


def test_mirrored_pictures_are_proposed_for_what_may_be_pictures_and_nothing_else(create, models, tmp_path):
    folder, _ = create()
    path = folder / "task.py"
    assert tasks.load(path).augment is None
    path.write_text(path.read_text().replace('# augment="flip",', 'augment="flip",'))
    assert tasks.load(path).augment == "flip"
    assert prepared(folder, tmp_path / "store").augment
    tiny.network(layers.Dense(4, activation="softmax"), shape=(64,)).save(models / "flat.h5")
    (models / "closed.tflite").write_bytes(conversion.float32(dense(4, "softmax")))
    for model, x in (("flat.h5", X.reshape(40, 64)), ("closed.tflite", X)):
        folder, _ = create(model, target=model, x_train=x, y_train=Y)
        assert "flip" not in (folder / "task.py").read_text()


@pytest.mark.parametrize(
    ("model", "labels", "budget", "limit"),
    [("softmax.h5", Y, "accuracy >= baseline - 5 points", 0.75), ("logit.h5", Y + 0.5, "mae <= 1.25 * baseline", 1.0)],
)
def test_the_quality_has_a_budget(model, labels, budget, limit, create, tmp_path):
    folder, _ = create(model, x_train=X, y_train=labels)
    assert StudyFolder(folder).config().budgets == (budget,)
    metric = prepared(folder, tmp_path / "store").quality
    assert budgets.parse(budget, {metric.name: metric}).bound(0.8) == pytest.approx(limit)


def brightness(scale, offset=0.0):
    """A model that tells dark pictures from bright ones, for pixels of 0 to 255 after this scaling, and for no other."""
    model = tiny.network(layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax"))
    slope = 9 / (255 * scale)
    middle = slope * (110.5 * scale + offset)
    model.layers[-1].set_weights([np.float32([[-slope, slope]]), np.float32([middle, -middle])])
    return model


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("way", "scale", "offset"), [("x / 255", 1 / 255, 0), ("x / 127.5 - 1", 1 / 127.5, -1), ("", 1, 0)]
)
def test_pixels_are_scaled_as_in_the_models_training(way, scale, offset, dtype, create, models):
    model = brightness(scale, offset)
    model.save(models / "bright.h5")
    x = np.random.default_rng(0).integers(0, 210, (300, 1, 1, 1)).repeat(8, 1).repeat(8, 2).astype(dtype)
    folder, said = create("bright.h5", x_train=x, y_train=(x[:, 0, 0, 0] > 110).astype(np.int64))
    with np.load(folder / "data.npz") as kept:
        assert kept["x_train"].dtype == dtype
    images, labels = tasks.load(folder / "task.py").validation
    assert (model.predict(images, verbose=0).argmax(axis=1) == labels).all()
    told = [text for text in said if "in place of x" in text]
    assert len(told) == bool(way)
    assert all(f"gives the model {way} in place" in text and f"{way}: 100.0%" in text for text in told)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"data\.npz: unknown array 'x'; "),
        ({"x_trian": X, "y_train": Y}, "unknown array 'x_trian'; did you mean 'x_train'"),
        ({"x_test": X, "y_test": Y}, "x_train is missing; it has x_test, y_test"),
        ({"x_train": X}, "x_train and y_train go together, and one is missing"),
        ({"x_train": X, "y_train": Y, "y_test": Y}, "x_test and y_test go together"),
        ({"x_train": X, "y_train": Y[:9]}, "y_train: expected 40 labels like x_train, got 9"),
        ({"x_train": X, "y_train": np.array(3)}, "y_train: expected an array with items first"),
        ({"x_train": X[:3], "y_train": Y[:3]}, "3 items are too few to split a validation set off"),
        ({"x_train": X[..., 0], "y_train": Y}, r"data\.npz: train: input image: expected shape"),
        ({"x_train": X, "y_train": Y + 1}, r"data\.npz: train: labels: expected class indices 0 to 3"),
        ({"x_train": X, "y_train": Y.astype(str)}, r"data\.npz: train: labels: expected numbers"),
        ({"x_train": X, "y_train": Y.astype(object)}, r"data\.npz: y_train: expected plain numbers or text"),
    ],
)
def test_bad_data_is_refused_and_nothing_stays(arrays, message, create, tmp_path):
    with pytest.raises(ConfigError, match=message):
        create(**arrays)
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x,y\n1,2\n", "not an .npz of plain arrays"), (None, "can't read it"), (b"", "is empty")],
)
def test_what_is_no_npz_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"data\.npz: {message}"):
        array_file.read(tmp_path / "data.npz")


@pytest.mark.parametrize(("name", "option"), [("photos", "--images"), ("table.csv", "--table, and --label COLUMN")])
def test_other_kinds_of_data_have_options_of_their_own(name, option, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=rf"expected an \.npz, got a .* given with {option}"):
        array_file.read(tmp_path / name)


def test_one_array_alone_is_no_npz(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ConfigError, match=r"x\.npy: not an \.npz of plain arrays"):
        array_file.read(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "mobil"}, "no bundled space 'mobil'; did you mean 'mobile'"),
        ({"model": "nothing.h5"}, r"model: no file .*nothing\.h5"),
    ],
)
def test_a_bad_space_or_model_leaves_nothing(changes, message, create, tmp_path):
    with pytest.raises(ConfigError, match=message):
        create(**changes)
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz"}


def test_a_folder_in_use_is_left_alone(create, tmp_path):
    used = tmp_path / "made" / "study"
    used.mkdir(parents=True)
    (used / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="study: exists already; give a new folder"):
        create()
    assert [path.name for path in used.iterdir()] == ["notes"]
    assert [path.name for path in used.parent.iterdir()] == ["study"]


def test_an_empty_folder_is_filled(create, tmp_path):
    (tmp_path / "made" / "study").mkdir(parents=True)
    folder, _ = create()
    assert (folder / "study.yaml").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["study"]


def test_a_file_is_no_place_for_a_study(create, tmp_path):
    (tmp_path / "made").write_text("a file")
    with pytest.raises(ConfigError, match="made is not a folder"):
        create()


def test_a_place_that_cant_be_written_is_one_line(models, tmp_path):
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    given = (models / "softmax.h5", tmp_path / "data.npz", "smoke", 7, lambda text: None)
    with pytest.raises(TargetUnavailable, match="/proc/study: can't write the study"):
        init.create(Path("/proc/study"), *given)


def test_the_size_of_an_open_input_reaches_the_task(tmp_path):
    x = layers.Input((None, None, 1))
    model = tf_keras.Model(x, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    folder = tmp_path / "study"
    given = (folder, tmp_path / "model.keras", tmp_path / "data.npz", "smoke", 7, lambda text: None)
    with pytest.raises(ConfigError, match="--input-size 224x224"):
        init.create(*given)
    init.create(*given, input_size=(8, 8))
    assert "input_size=(8, 8)," in (folder / "task.py").read_text()
    prepared(folder, tmp_path / "store")


def test_the_signature_reaches_the_task(tmp_path):
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def soft(self, x):
            return {"scores": tf.nn.softmax(x)}

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def twice(self, x):
            return {"double": 2 * x}

    module = Two()
    tf.saved_model.save(module, tmp_path / "model", signatures={"soft": module.soft, "twice": module.twice})
    np.savez(tmp_path / "data.npz", x_train=np.eye(4, dtype=np.float32).repeat(10, 0), y_train=np.arange(40) // 10)
    given = (tmp_path / "study", tmp_path / "model", tmp_path / "data.npz", "smoke", 7, lambda text: None)
    init.create(*given, signature="soft")
    assert 'signature="soft",' in (tmp_path / "study" / "task.py").read_text()


def test_a_model_without_weights_is_refused(tmp_path):
    tiny.network(layers.GlobalAveragePooling2D()).save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x_train=X, y_train=X.mean(axis=(1, 2)))
    given = (tmp_path / "study", tmp_path / "model.keras", tmp_path / "data.npz", "smoke", 7, lambda text: None)
    with pytest.raises(ConfigError, match="has no weights, so there is nothing to make small"):
        init.create(*given)
    assert not (tmp_path / "study").exists()


def test_a_model_that_crashes_what_reads_it_is_one_line(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=X, y_train=Y)
    damaged = tmp_path / "crashing.tflite"
    model = schema.ModelT.InitFromPackedBuf(conversion.float32(dense(4, "softmax")), 0)
    reshape = next(op for op in model.subgraphs[0].operators if len(op.inputs) == 2)
    reshape.inputs, reshape.builtinOptions, reshape.builtinOptionsType = [reshape.inputs[0], -1], None, 0
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    damaged.write_bytes(builder.Output())
    given = ["init", str(tmp_path / "new"), "--model", str(damaged), "--data", str(tmp_path / "data.npz")]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"autoopt: {damaged}: model: LiteRT ended with SIG")
    assert not any("new" in path.name for path in tmp_path.iterdir())
