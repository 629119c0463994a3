"""Weights of items and of classes: how they come in, what is refused, that training counts them and the metric does not."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt import QualityMetric, Task
from autoopt.compression import losses, stages
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.errors import ConfigError
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import task as tasks
from autoopt.models import user_code

layers = tf_keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
ROWS = RNG.integers(0, 2, 40)
WEIGHTS = RNG.uniform(0, 3, 40).astype(np.float32)
PLAIN = (X, ROWS)


def dense(units=2, activation="softmax"):
    return tiny.network(layers.Dense(units, activation=activation, name="last"), shape=(6,))


@pytest.fixture
def take(tmp_path):
    """The training split of a task, and all that was taken in."""

    def taken(**changes):
        store = Store(tmp_path / "store")
        given = {"model": dense(), "train": PLAIN, "validation": PLAIN, "test": PLAIN} | changes
        found = task_checks.prepare(Task(**given), tmp_path / "task.py", store)
        return split_store.get(store, found.manifest.splits["train"]), found

    return taken


def dataset(batch=0):
    made = tf.data.Dataset.from_tensor_slices((X, ROWS, WEIGHTS))
    return made.batch(batch) if batch else made


@pytest.mark.parametrize(
    "given",
    [
        lambda: (X, ROWS, WEIGHTS),
        lambda: (X, ROWS, WEIGHTS[:, None]),
        lambda: (X, ROWS, WEIGHTS.tolist()),
        dataset,
        lambda: dataset(7),
    ],
)
def test_weights_stand_third(given, take):
    split, _ = take(train=given())
    np.testing.assert_allclose(split.weights, WEIGHTS)


def test_tasks_without_weights_are_what_they_were(take):
    model = dense()
    split, plain = take(model=model)
    assert split.weights is None
    assert take(model=model, train=(X, ROWS, None))[1].manifest == plain.manifest
    assert take(model=model, train=(X, ROWS, WEIGHTS))[1].manifest.fingerprint != plain.manifest.fingerprint


@pytest.mark.parametrize("labels", [ROWS, ROWS[:, None], np.eye(2)[ROWS]])
def test_weights_of_classes_are_those_of_keras(labels, take):
    loss = "categorical_crossentropy" if labels.shape[1:] == (2,) else "sparse_categorical_crossentropy"
    pair = {"train": (X, labels), "validation": (X, labels), "test": (X, labels), "loss": loss}
    by_class = {0: 1.0, 1: 9.0}
    np.testing.assert_allclose(take(**pair, class_weight=by_class)[0].weights, np.where(ROWS, 9, 1))
    split, _ = take(**(pair | {"train": (X, labels, WEIGHTS)}), class_weight=by_class)
    np.testing.assert_allclose(split.weights, WEIGHTS * np.where(ROWS, 9, 1))
    model = dense()
    model.compile(loss=loss, weighted_metrics=[])
    start = model.get_weights()
    wanted = model.fit(X, labels, class_weight=by_class, sample_weight=WEIGHTS, batch_size=40, verbose=0).history[
        "loss"
    ][0]
    model.set_weights(start)
    assert losses.of_model(model, loss, split)() == pytest.approx(wanted, rel=1e-5)


def test_one_output_has_two_classes(take):
    split, _ = take(model=dense(1, "sigmoid"), loss="binary_crossentropy", class_weight={0: 0.5, 1: 2})
    np.testing.assert_allclose(split.weights, np.where(ROWS, 2, 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (X, ROWS, WEIGHTS[:9])}, r"train: weights: expected shape \(40,\), one weight an item, got 'shape \(9,\)'"),
        ({"train": (X, ROWS, -WEIGHTS)}, "train: weights: expected finite numbers, 0 or more, got -"),
        ({"train": (X, ROWS, WEIGHTS * np.nan)}, "train: weights: expected finite numbers, 0 or more, got nan"),
        ({"train": (X, ROWS, 0 * WEIGHTS)}, "train: weights: expected a weight over 0, all are 0"),
        ({"train": (X, ROWS, "balanced")}, "train: weights: expected one number an item, got str"),
        ({"train": (X, ROWS, [1.0] * 38 + [None, 1.0])}, "train: weights: expected numbers, got None for item 38"),
        ({"train": (X, ROWS, [[1.0]] * 5 + [["high"]] * 35)}, "train: weights: expected numbers, got high for item 5"),
        ({"train": (X, ROWS, [1.0, [2.0]] * 20)}, "train: weights: expected one number an item, got list"),
        ({"class_weight": {0: None, 1: 9.0}}, "class_weight: expected numbers by class index, got 0: None"),
        ({"class_weight": {0: 1.0, 2: 9.0}}, "class_weight: expected classes 0 to 1, got 2"),
        ({"class_weight": {1: 9.0}}, "class_weight: expected a weight for each class, got 'none for class 0'"),
        ({"class_weight": {0: 1.0, 1: -9.0}}, "class_weight: class 1: expected a finite number, 0 or more, got -9.0"),
        ({"class_weight": {"no": 1.0}}, "class_weight: expected numbers by class index, got 'no': 1.0"),
        ({"class_weight": "balanced"}, "class_weight: expected a dict of weights by class"),
        (
            {"model": dense(1, None), "loss": "mse", "train": (X, 7.5 * ROWS), "class_weight": {0: 1.0, 1: 2.0}},
            "class_weight: needs labels that are classes 0 to 1, got 7.5; give train=",
        ),
        (
            {"model": dense(2, "sigmoid"), "loss": "binary_crossentropy", "train": (X, np.ones((40, 2))), "class_weight": {0: 1.0}},
            "class_weight: needs labels of one class an item",
        ),
    ],
)  # fmt: skip
def test_weights_that_mean_nothing_are_refused(changes, message, take):
    labels = changes["train"][1] if "train" in changes else ROWS
    with pytest.raises(ConfigError, match=message):
        take(**({"validation": (X, labels), "test": (X, labels)} | changes))


def test_weights_of_other_splits_are_left_out_with_a_word(take):
    _, found = take(validation=(X, ROWS, WEIGHTS))
    assert [w for w in found.warnings if "the metric counts every item alike" in w] == [
        "validation: weights of items are for training; the metric counts every item alike, and they are left out"
    ]


# --- maps and several outputs


def test_maps_take_a_weight_an_item_or_a_place(take):
    model = tiny.network(layers.Conv2D(3, 1, activation="softmax"), shape=(4, 4, 1))
    x, labels = RNG.normal(size=(8, 4, 4, 1)).astype(np.float32), RNG.integers(0, 3, (8, 4, 4))
    pair = {
        "model": model,
        "validation": (x, labels),
        "test": (x, labels),
        "metric": QualityMetric(name="own", function=no_metric),
    }
    for weights in (RNG.uniform(0, 2, 8), RNG.uniform(0, 2, (8, 4, 4))):
        split, _ = take(**pair, train=(x, labels, weights))
        whole = np.broadcast_to(weights.reshape(8, *weights.shape[1:], *[1] * (3 - weights.ndim)), (8, 4, 4))
        loss = tf_keras.losses.get("sparse_categorical_crossentropy")(labels, model.predict_on_batch(x)).numpy()
        found = losses.of_model(model, "sparse_categorical_crossentropy", split)()
        assert found == pytest.approx((loss * whole).mean(), rel=1e-5)


def no_metric(labels, outputs):
    return 0.5


def two_ends():
    inputs = layers.Input((6,), name="image")
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    return tf_keras.Model(inputs, [layers.Dense(2, "softmax", name="kind")(x), layers.Dense(1, name="size")(x)])


def test_outputs_have_weights_of_their_own(take):
    """Sizes that count nothing are a million off, and yet nothing diverges."""
    sizes = np.full((40, 1), 1e6, np.float32)
    labels = {"kind": ROWS, "size": sizes}
    given = {"kind": WEIGHTS, "size": np.r_[1.0, np.zeros(39)]}
    sizes[0] = 0
    split, found = take(
        model=two_ends(),
        train=(X, labels, given),
        validation=(X, labels),
        test=(X, labels),
        loss={"kind": "sparse_categorical_crossentropy", "size": "mse"},
        metric=QualityMetric(name="own", function=no_metric),
    )
    np.testing.assert_allclose(split.weights, np.stack([WEIGHTS, given["size"]], axis=1))
    [(name, values)] = Recipe(prune=Prune(sparsity=0.5, frequency=1), finetune=Finetune(epochs=1)).stages()
    _, report = stages.run(name, two_ends(), values, tiny.training(found.manifest, (split, split)))
    assert report["epochs"][0]["loss"] < 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": (X, {"kind": ROWS, "size": ROWS}, {"sort": WEIGHTS})}, "train: weights: expected weights named kind, size, got 'sort'"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, r"class_weight: needs a model with one output; give train=\(inputs, labels, weights\)"),
    ],
)  # fmt: skip
def test_weights_of_outputs_that_are_not_there_are_refused(given, message, take):
    pair = (X, {"kind": ROWS, "size": ROWS})
    with pytest.raises(ConfigError, match=message):
        take(
            **({"model": two_ends(), "train": pair, "validation": pair, "test": pair} | given),
            loss={"kind": "sparse_categorical_crossentropy", "size": "mse"},
            metric=QualityMetric(name="own", function=no_metric),
        )


# --- weighted losses that a function makes


MADE = """
import functools

import numpy as np
import tensorflow as tf
import tf_keras

import autoopt


def weighted(factor):
    def loss(labels, outputs):
        labels = tf.cast(labels, outputs.dtype)
        return tf.reduce_mean((1 + (factor - 1) * labels) * tf.abs(labels - outputs), axis=-1)
    return loss


def by_factor(labels, outputs, factor):
    return weighted(factor)(labels, outputs)


class Weighted(tf_keras.losses.Loss):
    def call(self, labels, outputs):
        return weighted(9.0)(labels, outputs)


made = weighted(9.0)
part = functools.partial(by_factor, factor=9.0)
whole = Weighted()


def task():
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    data = (x, (x[:, 0] > 0.5).astype(int))
    model = tf_keras.Sequential([tf_keras.layers.Input((6,)), tf_keras.layers.Dense(1, activation="sigmoid")])
    return autoopt.Task(model=model, train=data, validation=data, test=data, loss=LOSS)
"""


@pytest.mark.parametrize("loss", ["made", "part", "whole"])
def test_a_weighted_loss_with_a_name_at_the_top_level_is_found_by_jobs(loss, tmp_path):
    path = tmp_path / "task.py"
    path.write_text(MADE.replace("LOSS", loss))
    manifest = task_checks.prepare(tasks.load(path), path, Store(tmp_path / "store")).manifest
    found = losses.of_batch(manifest.loss_function())
    assert float(found(np.array([0, 1]), np.array([[0.5], [0.5]], np.float32))) == pytest.approx((0.5 + 4.5) / 2)


@pytest.mark.parametrize("loss", ["weighted(9.0)", "functools.partial(by_factor, factor=9.0)", "Weighted()"])
def test_a_loss_that_jobs_cannot_find_says_what_to_do(loss, tmp_path):
    path = tmp_path / "task.py"
    path.write_text(MADE.replace("LOSS", loss))
    with pytest.raises(ConfigError) as refused:
        task_checks.prepare(tasks.load(path), path, Store(tmp_path / "store"))
    assert str(refused.value).startswith(f"{path}: loss: expected ")
    assert user_code.BIND in str(refused.value)
