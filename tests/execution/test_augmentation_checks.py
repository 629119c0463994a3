"""What is wrong with an augmentation is said in one line, before anything is trained."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt import QualityMetric, Task
from autoopt.compression import augmentation, goals, training
from autoopt.compression.batches import batches
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import loading
from autoopt.models.task import Manifest
from autoopt.study import space_fitting

RNG = np.random.default_rng(0)


def taller(x, y):
    return tf.concat([x, x], axis=1), y


def half(x, y):
    return tf.cast(x, tf.float16), y


def fewer(x, y):
    return x[1:], y[1:]


def by_numpy(x, y):
    return np.abs(x), y


def by_values(x, y):
    return x * float(x.numpy().mean()), y


def frozen(x, y):
    return x + np.random.normal(size=(8, 8, 1)).astype("float32"), y


def frozen_too(x, y):
    return x + float(RNG.normal()), y


def no_number(x, y):
    return tf.math.log(x), y


def alone(x, y):
    return x


def other_labels(x, y):
    return x, y + 4


def text_labels(x, y):
    return x, tf.strings.as_string(y)


def float_labels(x, y):
    return x, tf.cast(y, tf.float32)


def listed(x, y):
    return [x, x], y


def broken(x, y):
    return x.no_such_thing, y


def wrong_sum(x, y):
    return x, y * 0.5


def fails_later(x, y):
    return x + tf.random.uniform([7, 1, 1, 1]), y


def for_one_size(x, y):
    return x + tf.random.uniform([32, 1, 1, 1])[: tf.maximum(tf.shape(x)[0], 2)], y


def in_python(x, y):
    return tf.ensure_shape(tf.numpy_function(lambda a: a[:, ::-1], [x], tf.float32), x.shape), y


def made_inside(x, y):
    return tf_keras.layers.RandomFlip()(x, training=True), y


FLIP = tf_keras.layers.RandomFlip()


def made_once(x, y):
    return FLIP(x, training=True), y


def good(x, y):
    if tf.reduce_mean(x) > 100.0:  # as autograph takes it
        x = -x
    return tf.image.random_flip_left_right(x), y


def take(tmp_path, **changes):
    path = tmp_path / "task.py"
    path.write_text("")
    return task_checks.prepare(tiny.task(tiny.cnn(), **changes), path, Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (taller, r"augment: taller: inputs: expected the shape \(32, 8, 8, 1\) back, got \(32, 16, 8, 1\)"),
        (half, "augment: half: inputs: expected the type float32 back, got float16; end in tf.cast"),
        (fewer, r"augment: fewer: inputs: expected as many items back \(32\), got 31"),
        (by_numpy, r"augment: by_numpy: NotImplementedError: .*no numpy and no .numpy\(\)"),
        (by_values, r"augment: by_values: AttributeError: .*numpy.*; it is traced once, and runs on tensors"),
        (frozen, "augment: frozen: something in it differs from one time to the next.*use tf.random"),
        (frozen_too, "augment: frozen_too: something in it differs"),
        (no_number, "augment: no_number: inputs: NaN or infinity came back, and none went in"),
        (alone, r"augment: alone: expected a pair \(inputs, labels\) back, got SymbolicTensor"),
        (other_labels, r"augment: other_labels: labels: expected class indices 0 to 3"),
        (text_labels, "augment: text_labels: labels: expected the type int64 back"),
        (float_labels, "augment: float_labels: labels: expected the type int64 back, got float32"),
        (listed, "augment: listed: inputs: expected one tensor back, got list"),
        (broken, "augment: broken: AttributeError: .*no_such_thing"),
        (fails_later, "augment: fails_later: fails on a batch of 32 items: "),
        (for_one_size, r"augment: for_one_size: inputs: expected as many items back \(1\), got 2"),
        (in_python, r"augment: in_python: runs Python in every step \(tf.py_function, tf.numpy_function\)"),
        (
            made_inside,
            "augment: made_inside: makes a variable, as a layer does; make it once, at the top level of task.py",
        ),
        (lambda x, y: (x, y), "augment: expected a function defined at the top level"),
        ("flop", "augment: unknown augmentation 'flop'; did you mean 'flip'"),
        (["flip", "flip"], "augment: flip stands there twice; give it another name"),
        (["flip", 3], "augment: expected a function defined at the top level"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, augment, message):
    with pytest.raises(ConfigError, match=message) as caught:
        take(tmp_path, augment=augment)
    assert "\n" not in str(caught.value)


def test_one_hot_labels_have_to_stay_shares(tmp_path):
    hot = {
        name: (x, np.eye(4, dtype=np.float32)[y])
        for name, (x, y) in {"train": tiny.images(64, 1), "validation": tiny.images(64, 2), "test": tiny.images(64, 3)}.items()
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"augment: wrong_sum: labels: expected labels that sum to 1"):
        take(tmp_path, **hot, loss="categorical_crossentropy", augment=wrong_sum)
    assert take(tmp_path, **hot, loss="categorical_crossentropy", augment=["mixup"]).manifest.augment


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("flip", (6,), np.float32, "augment: flip: expected inputs of 4 axes, the items' among them, got shape"),
        ("specaugment", (6,), np.float32, "specaugment: expected inputs of 3 axes or of 4 axes"),
        ("mixup", (6,), np.int32, "mixup: adds up values of inputs, but these are whole numbers"),
        ("noise", (6,), np.int64, "noise: adds up values of inputs"),
    ],
)
def test_what_is_known_by_name_is_for_data_of_its_kind(tmp_path, name, shape, dtype, message):
    rng = np.random.default_rng(0)
    inputs = tf_keras.Input(shape)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3, activation="softmax")(inputs))
    data = [(rng.integers(0, 9, (40, *shape)).astype(dtype), rng.integers(0, 3, 40)) for _ in range(3)]
    splits = dict(zip(("train", "validation", "test"), data, strict=True))
    path = tmp_path / "task.py"
    path.write_text("")
    with pytest.raises(ConfigError, match=message):
        task_checks.prepare(Task(model=model, **splits, augment=name), path, Store(tmp_path / "store"))


def test_an_augmentation_is_part_of_the_fingerprint_where_there_is_one(tmp_path):
    without = take(tmp_path).manifest
    assert "augment" not in without.to_json()
    several = [take(tmp_path, augment=augment).manifest for augment in (good, "flip", ["flip", good])]
    assert len({each.fingerprint for each in (without, *several)}) == 4
    for each in (without, *several):
        assert Manifest.from_json(each.to_json()) == each
    assert several[2].augment == ({"ready": "flip"}, {"module": __name__, "name": "good"})
    own = dataclasses.replace(several[0], source="def good(x, y): ...")
    assert own.fingerprint != several[0].fingerprint


def test_what_is_fine_is_taken(tmp_path):
    for augment in (good, made_once, "flip", ("noise", "shift"), [good, "mixup"]):
        assert take(tmp_path, augment=augment).manifest.augment


def swapped(inputs, labels):
    """Of two inputs and two outputs, by name."""
    assert set(inputs) == {"image", "more"}
    return {"image": -inputs["image"], "more": inputs["more"]}, {
        "scores": labels["scores"],
        "value": labels["value"] * 2,
    }


def unnamed(inputs, labels):
    return inputs["image"], labels


@pytest.fixture
def two_ends():
    image, more = tf_keras.Input((8, 8, 1), name="image"), tf_keras.Input((3,), name="more")
    flat = tf_keras.layers.Concatenate()([tf_keras.layers.Flatten()(image), more])
    scores = tf_keras.layers.Dense(4, activation="softmax", name="scores")(flat)
    model = tf_keras.Model([image, more], [scores, tf_keras.layers.Dense(1, name="value")(flat)])

    def data(seed):
        x, y = tiny.images(40, seed)
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(40, 1)).astype(np.float32)
        return {"image": x, "more": rng.normal(size=(40, 3)).astype(np.float32)}, {"scores": y, "value": values}

    losses = {"scores": "sparse_categorical_crossentropy", "value": "mse"}
    metric = QualityMetric(name="right", function=right)
    return Task(model=model, train=data(1), validation=data(2), test=data(3), loss=losses, metric=metric)


def right(labels, outputs):
    return float((outputs["scores"].argmax(axis=1) == labels["scores"][:, 0]).mean())


def test_of_several_inputs_and_outputs_a_function_gets_dicts(tmp_path, two_ends):
    path, store = tmp_path / "task.py", Store(tmp_path / "store")
    path.write_text("")
    taken = task_checks.prepare(dataclasses.replace(two_ends, augment=swapped), path, store)
    train = split_store.get(store, taken.manifest.splits["train"])
    model, _ = loading.unpack(store.get(taken.manifest.model))
    aim = goals.of("prune", taken.manifest, train, goals.Lessons(), {}, model, training.outputs)
    raw = list(batches(train, 16, range(1), 0, aim.targets))
    changed = list(augmentation.mapped(batches(train, 16, range(1), 0, aim.targets), aim.change, 0, 0))
    for (inputs, labels), (new, others) in zip(raw, changed, strict=True):
        np.testing.assert_array_equal(new[0], -inputs[0])
        np.testing.assert_array_equal(new[1], inputs[1])
        np.testing.assert_array_equal(others[1], 2 * labels[1])
    with pytest.raises(
        ConfigError, match="augment: unnamed: inputs: expected a dict with image, more back, got Symbolic"
    ):
        task_checks.prepare(dataclasses.replace(two_ends, augment=unnamed), path, store)
    with pytest.raises(
        ConfigError, match="augment: flip: is for models with one input and one output; give a function"
    ):
        task_checks.prepare(dataclasses.replace(two_ends, augment="flip"), path, store)


def test_the_setting_names_what_the_task_has(tmp_path):
    assert take(tmp_path, augment="flip", finetune=Finetune(augment="flip")).manifest.finetune["augment"] == "flip"
    with pytest.raises(ConfigError, match=r"finetune.augment: unknown augmentation 'shift'"):
        take(tmp_path, augment="flip", finetune=Finetune(augment="shift"))
    with pytest.raises(ConfigError, match=r"finetune.augment: expected all, none, or the name"):
        Finetune(augment=3)


def test_a_space_names_what_the_task_has():
    facts = {"limits": [], "groups": None, "finetune": {}, "tuned": False, "augment": ["flip"]}
    space = parse({"scheme": ["qat_int8"], "finetune": {"augment": ["none", "flip", "all"]}}, "mine.yaml")
    assert "finetune.augment" in space_fitting.fitted(space, facts).space.knobs
    with pytest.raises(ConfigError, match=r"mine.yaml: finetune.augment: the task has no augmentation 'flip'"):
        space_fitting.fitted(space, facts | {"augment": []})
