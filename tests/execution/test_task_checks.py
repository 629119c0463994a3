"""How a task is taken in: tasks that are no plain classification, and what their models can't be put through."""

import random

import keras
import numpy as np
import pytest
import tf_keras
import tiny

from autoopt import QualityMetric, Task
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import loading, quality
from autoopt.models import task as tasks
from autoopt.models.task import Manifest, Split, apart, side_by_side

layers = tf_keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((40, 6), dtype=np.float32)
ROWS = RNG.integers(0, 2, 40)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def take(store, tmp_path):
    def taken(**changes):
        data = {name: changes.pop("data", None) or (X, ROWS) for name in ("train",)}
        given = {"train": data["train"], "validation": data["train"], "test": data["train"]} | changes
        return task_checks.prepare(Task(**given), tmp_path / "task.py", store)

    return taken


def dense(units, activation=None, **others):
    return tiny.network(layers.Dense(units, activation=activation, name="last"), shape=(6,), **others)


# --- losses


@pytest.mark.parametrize(
    ("loss", "units", "hint"),
    [
        ("sparse_categorical_crossentropy", 2, r"SparseCategoricalCrossentropy\(from_logits=True\)"),
        ("binary_crossentropy", 1, r"BinaryCrossentropy\(from_logits=True\)"),
        (tf_keras.losses.BinaryCrossentropy(), 1, r"BinaryCrossentropy\(from_logits=True\)"),
    ],
)
def test_scores_where_the_loss_expects_probabilities_are_refused(loss, units, hint, take):
    model = dense(units)
    model.set_weights([w + 3 for w in model.get_weights()])
    with pytest.raises(
        ConfigError, match=rf"loss: .* expects probabilities, but the output last reaches from .*{hint}"
    ):
        take(model=model, loss=loss)


def test_probabilities_where_the_loss_expects_scores_are_warned_of(take):
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert "leave from_logits out" in take(model=dense(2, "softmax"), loss=loss).warnings[0]
    assert not [w for w in take(model=dense(2), loss=loss).warnings if "from_logits" in w]


@pytest.mark.parametrize(
    ("units", "activation", "labels", "loss", "metric", "said"),
    [
        (2, "softmax", ROWS, "sparse_categorical_crossentropy", "accuracy", 0),
        (2, None, ROWS, "SparseCategoricalCrossentropy", "accuracy", 1),
        (1, "sigmoid", ROWS, "binary_crossentropy", "accuracy", 1),
        (1, None, ROWS * 30 + 7.5, "mean_squared_error", "mae", 2),
        (1, None, np.arange(40), "mean_squared_error", "mae", 2),
        (2, None, X[:, :2], "mean_squared_error", "mae", 2),
        (3, "sigmoid", X[:, :3] > 0.5, "binary_crossentropy", "accuracy", 2),
    ],
)
def test_a_loss_and_metric_that_are_missing_are_inferred_and_said(units, activation, labels, loss, metric, said, take):
    found = take(model=dense(units, activation), data=(X, labels))
    told = found.manifest.loss
    assert (told if isinstance(told, str) else told["keras"]["class_name"]) == loss
    assert found.manifest.quality.name == metric
    lines = [line for line in found.warnings if line.startswith(("loss: none is given", "metric: none is given"))]
    assert len(lines) == said


@pytest.mark.parametrize("labels", [ROWS * 2 - 1, ROWS + 1, ROWS * 255])
@pytest.mark.parametrize("loss", [None, "binary_crossentropy"])
def test_a_yes_in_another_code_is_refused(labels, loss, take):
    with pytest.raises(ConfigError, match=r"labels: expected 0 and 1 .*got -?\d+ (and|to) \d+"):
        take(model=dense(1, "sigmoid"), data=(X, labels), loss=loss)


@pytest.mark.parametrize(
    ("metric", "units", "activation", "labels", "message"),
    [
        (
            "accuracy",
            1,
            None,
            ROWS + 7.25,
            "expected one of mae, rmse, r2, for labels that are 1 value an item, got 'acc",
        ),
        ("mae", 2, "softmax", ROWS, "expected one of accuracy, exact_match, .*for labels that are one of 2 classes"),
        ("f1", 2, "softmax", ROWS, "expected one of accuracy"),
        ("acuracy", 2, "softmax", ROWS, "did you mean 'accuracy'"),
        (3, 2, "softmax", ROWS, r"or an autoopt\.QualityMetric, got 3"),
    ],
)
def test_a_metric_that_the_labels_do_not_have_is_refused(metric, units, activation, labels, message, take):
    with pytest.raises(ConfigError, match=f"metric: .*{message}"):
        take(model=dense(units, activation), data=(X, labels), metric=metric)


def test_what_was_always_read_so_keeps_its_fingerprint(take):
    """Studies of classes, and of a yes or no, go on with what they have measured."""
    for units, activation, loss in ((2, "softmax", None), (1, "sigmoid", "binary_crossentropy")):
        metric = take(model=dense(units, activation), loss=loss).manifest.metric
        assert metric == {"name": "accuracy", "direction": "max", "unit": "fraction", "function": None}
    logits = tf_keras.losses.BinaryCrossentropy(from_logits=True)
    assert "meaning" not in take(model=dense(1), data=(X, ROWS), loss=logits).manifest.metric


def test_probabilities_of_a_loss_that_was_told_scores_turn_at_a_half(take):
    loss = tf_keras.losses.BinaryCrossentropy(from_logits=True)
    found = take(model=dense(1, "sigmoid"), data=(X, ROWS), loss=loss)
    assert found.manifest.threshold == 0.5
    assert "leave from_logits out" in found.warnings[0]


def test_positions_that_the_model_masks_do_not_count(take, store):
    """As in Keras's own evaluation."""
    inputs = layers.Input((6,), dtype="int32", name="image")
    x = layers.Embedding(8, 4, mask_zero=True)(inputs)
    model = tf_keras.Model(inputs, layers.Dense(3, activation="softmax", name="last")(x))
    words = RNG.integers(1, 8, (40, 6)).astype(np.int32)
    words[:, 4:] *= RNG.integers(0, 2, (40, 2)).astype(np.int32)
    labels = RNG.integers(0, 3, (40, 6))
    found = take(model=model, data=(words, labels), validation=(words, labels)).manifest
    split = split_store.get(store, found.splits["validation"])
    np.testing.assert_array_equal(split.counted, words != 0)
    model.compile(loss="sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    outputs = model.predict(words, verbose=0)
    expected = (outputs.argmax(axis=-1) == labels)[words != 0].mean()
    assert quality.value(found, split, outputs) == pytest.approx(expected)
    assert expected == pytest.approx(model.evaluate(words, labels, verbose=0)[1])


# --- metrics that look at inputs: anomaly detection


def reconstruction_auc(labels, outputs, inputs):
    """Share of pairs of a normal and an odd item whose errors are in the right order."""
    error = np.square(inputs["image"] - outputs).mean(axis=1)
    pairs = error[labels == 1][:, None] > error[labels == 0][None]
    if not pairs.size:
        raise ValueError("one class only")
    return float(pairs.mean())


def test_a_metric_of_three_parameters_gets_the_inputs(take):
    model = tiny.network(layers.Dense(6), shape=(6,))
    model.set_weights([np.eye(6), np.zeros(6)])  # what it reconstructs is what it is given
    odd = X + ROWS[:, None] * RNG.normal(size=X.shape).astype(np.float32)
    metric = QualityMetric(name="auc", function=reconstruction_auc)
    manifest = take(model=model, data=(X, X), validation=(odd, ROWS), loss="mse", metric=metric).manifest
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    split = Split(inputs={"image": odd}, labels=ROWS)
    noise = np.abs(RNG.normal(size=X.shape)) * ROWS[:, None]
    found = quality.quality(again, split, odd + noise.astype(np.float32), "by hand")
    assert found.measurement.value == quality.value(again, split, odd + noise.astype(np.float32)) == 1.0
    assert set(found.resamples) <= {1.0, None}


def with_default(labels, outputs, inputs=None):
    return float(len(inputs["image"]))


def by_keyword(labels, outputs, *, inputs):
    return float(len(inputs["image"]))


@pytest.mark.parametrize("function", [with_default, by_keyword])
def test_inputs_are_found_by_their_name(function, take):
    manifest = take(model=dense(2, "softmax"), metric=QualityMetric(name="own", function=function)).manifest
    split = Split(inputs={"image": X}, labels=ROWS)
    assert quality.value(manifest, split, np.zeros((40, 2))) == 40


def four(labels, outputs, inputs, more):
    return 0.0


def test_a_metric_of_four_parameters_is_refused(take):
    with pytest.raises(
        ConfigError, match=r"metric\.function: expected a function of labels, outputs and perhaps inputs"
    ):
        take(model=dense(2, "softmax"), metric=QualityMetric(name="auc", function=four))


# --- several inputs and outputs


def hits_and_error(labels, outputs):
    right = (outputs["kind"].argmax(axis=1) == labels["kind"]).mean()
    return float(right - np.abs(outputs["size"] - labels["size"]).mean())


def two_ends():
    a, b = layers.Input((6,), name="b"), layers.Input((4,), name="a")
    x = layers.Dense(8, activation="relu")(layers.Concatenate()([a, b]))
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    return tf_keras.Model([a, b], [kind, layers.Dense(2, name="size")(x)])


def two_sided(n, seed):
    rng = np.random.default_rng(seed)
    x = {"b": rng.random((n, 6), dtype=np.float32), "a": rng.random((n, 4), dtype=np.float32)}
    kind = x["b"][:, :3].argmax(axis=1)
    return x, {"kind": kind, "size": x["a"][:, :2] * 2}


SEVERAL = {
    "loss": {"kind": "sparse_categorical_crossentropy", "size": "mean_squared_error"},
    "metric": QualityMetric(name="both", function=hits_and_error),
}


def test_what_several_outputs_look_like_is_kept(take):
    manifest = take(model=two_ends(), data=two_sided(20, 9), **SEVERAL).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert [(o.name, o.shape, o.labels) for o in manifest.outputs] == [("kind", (3,), ()), ("size", (2,), (2,))]
    assert [tf_keras.losses.get(loss).__name__ for loss in manifest.loss_function()] == list(SEVERAL["loss"].values())
    labels = two_sided(20, 9)[1]
    together = side_by_side(list(labels.values()))
    for found, given in zip(manifest.targets(together), labels.values(), strict=True):
        np.testing.assert_allclose(found, given)
    outputs = {"kind": np.eye(3)[labels["kind"]], "size": labels["size"] + 0.25}
    split = Split(inputs={}, labels=together)
    assert quality.value(manifest, split, side_by_side(list(outputs.values()))) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "accuracy"}, "metric: expected an autoopt.QualityMetric, because the model has several outputs"),
        ({"loss": "mse"}, r"loss: expected a dict with a loss for each output \(kind, size\)"),
        ({"loss": {"kind": "mse"}}, "loss: expected a dict with a loss for each output"),
        ({"data": (two_sided(9, 0)[0], np.zeros(9))}, "labels of 2 outputs as a dict by name"),
        ({"data": (two_sided(9, 0)[0], {"kind": np.zeros(9)})}, "labels: expected labels named kind, size"),
        (
            {"data": (two_sided(9, 0)[0], {"kind": np.full(9, 3), "size": np.zeros((9, 2))})},
            "labels: kind: expected class indices 0 to 2",
        ),
        (
            {"data": (two_sided(9, 0)[0], {"kind": np.zeros(9), "size": np.zeros((8, 2))})},
            "expected as many labels for each output",
        ),
    ],
)
def test_what_does_not_fit_several_outputs_is_refused(changes, message, take):
    with pytest.raises(ConfigError, match=message):
        take(**({"model": two_ends(), "data": two_sided(9, 0)} | SEVERAL | changes))


def test_what_needs_one_output_is_left_out_with_several(take):
    limit = take(model=two_ends(), data=two_sided(20, 9), **SEVERAL).limits[0]
    space = parse(
        {
            "channels": {"ratio": 0.5, "importance": ["taylor", "l2"]},
            "prune": {"sparsity": 0.5, "allocation": ["sensitivity"]},
            "finetune": {"distillation": {"low": 0.0, "high": 1.0, "step": 0.5}, "temperature": [2, 4]},
            "scheme": ["int8"],
        },
        "here.yaml",
    )
    left = space.without(limit.parts, limit.schemes, limit.why, limit.values)
    for seed in range(40):
        recipe = left.random(random.Random(seed), Finetune())
        assert recipe.finetune is None or recipe.finetune.distillation == 0
        assert recipe.channels is None or recipe.channels.importance == "l2"
        assert recipe.prune is None or recipe.prune.allocation == "uniform"


def test_arrays_side_by_side_come_apart_again():
    arrays = [RNG.random((4, 2, 3)), RNG.random(4), RNG.random((4, 1))]
    found = apart(side_by_side(arrays), [(2, 3), (), (1,)])
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, other)


# --- what a model can't be put through


class Own(tf_keras.Model):
    def call(self, inputs):
        return inputs[:, :2] * 0.5


def test_a_closed_model_leaves_post_training_schemes_alone(take):
    model = Own()
    model(X)
    [limit] = take(model=model, loss="mse", metric=QualityMetric(name="mae", function=four2)).limits
    assert set(limit.parts) == {"tune", "channels", "prune", "cluster", "levels", "finetune"}
    assert set(limit.schemes) == {"qat_int8", "qat_int8_io", "qat_uint8_io", "int16x8"}
    assert "Own is subclassed" in limit.why


def four2(labels, outputs):
    return 0.0


def test_a_model_that_training_with_quantization_hardly_takes_in_is_spared_it(take):
    words = tiny.network(
        layers.Embedding(500, 8), layers.GlobalAveragePooling1D(), layers.Dense(2, activation="softmax"),
        shape=(6,),
    )  # fmt: skip
    [limit] = take(model=words, data=((X * 100).astype(np.int32), ROWS)).limits
    assert set(limit.schemes) == {"qat_int8", "qat_int8_io", "qat_uint8_io"}
    assert "takes in 0% of the weights and 100% of the multiply-adds (not Embedding), under 50%" in limit.why
    assert take(model=dense(2, "softmax")).limits == []


# --- layers of the user's own

OWN = """
import random

import keras
import numpy as np
import tf_keras

import autoopt


class Half(tf_keras.layers.Layer):
    def call(self, inputs):
        return inputs * 0.5


def task():
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    data = (x, (x[:, 0] > 0.5).astype(int))
    model = {model}
    return autoopt.Task(model=model, train=data, validation=data, test=data, custom_objects={{"Half": Half}})
"""
OLD = 'tf_keras.Sequential([tf_keras.layers.Input((6,)), Half(), tf_keras.layers.Dense(2, activation="softmax")])'
NEW = 'keras.Sequential([keras.layers.Input((6,)), type("Half", (keras.layers.Layer,), {"call": Half.call})(), keras.layers.Dense(2, activation="softmax")])'


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("model", [OLD, NEW])
def test_layers_of_ones_own_are_found_again_in_a_job(model, tmp_path, store):
    path = tmp_path / "task.py"
    path.write_text(OWN.format(model=model))
    taken = task_checks.prepare(tasks.load(path), path, store)
    packed = store.get(taken.manifest.model)
    tf_keras.utils.get_custom_objects().pop("Half")
    found, _ = loading.unpack(packed)
    assert [type(layer).__name__ for layer in found.layers][-2] == "Half"
    tf_keras.utils.get_custom_objects().pop("Half")
    again, _ = loading.unpack(loading.pack(found, like=packed))
    np.testing.assert_array_equal(again.predict_on_batch(X), found.predict_on_batch(X))
    path.write_text(OWN.format(model=model).replace("* 0.5", "* 0.25"))
    assert task_checks.prepare(tasks.load(path), path, store).manifest.model != taken.manifest.model


def test_an_unknown_layer_is_named_with_what_to_do(tmp_path):
    class Strange(tf_keras.layers.Layer):
        pass

    tiny.network(Strange(), layers.Dense(2), shape=(6,)).save(tmp_path / "model.h5", save_format="h5")
    with pytest.raises(ConfigError, match=r"Strange.*; give the task the classes of its own layers as custom_objects="):
        loading.load(tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize(("library", "name"), [(tf_keras, "model.h5"), (tf_keras, "model.keras"), (keras, "new.keras")])
def test_code_in_a_file_runs_only_where_it_is_allowed(library, name, tmp_path):
    model = library.Sequential([library.layers.Input((6,)), library.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"allow_code=True \(init: --allow-code\)"):
        loading.load(tmp_path / name)
    found = loading.load(tmp_path / name, allow_code=True)
    again, _ = loading.unpack(loading.pack(found))
    np.testing.assert_allclose(again.predict_on_batch(X), X + 1)


def test_frozen_layers_are_told_of(take):
    model = dense(4, "softmax")
    model.layers[-1].trainable = False
    assert (
        take(model=model)
        .warnings[0]
        .startswith(
            "1 of 1 layers with weights are frozen (trainable=False): they are compressed and trained like the others"
        )
    )
    kept = take(model=model, finetune=Finetune(frozen="keep")).warnings[0]
    assert kept.endswith("they are quantized, but neither pruned, clustered nor trained (finetune.frozen: keep)")
    assert not [warning for warning in take(model=dense(4, "softmax")).warnings if "frozen" in warning]


def test_losses_of_keras_3_are_taken(take):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    described = take(model=dense(4), loss=loss).manifest.loss["keras"]
    assert (described["class_name"], described["config"]["from_logits"]) == ("SparseCategoricalCrossentropy", True)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_metrics_of_keras_are_refused_with_what_to_give(library, take):
    with pytest.raises(ConfigError, match=r"metric: a Keras metric \(AUC\) can't be used.*QualityMetric\(name='auc'"):
        take(model=dense(4, "softmax"), metric=library.metrics.AUC(name="auc"))
