"""What fine-tuning can add: distillation, averaged weights, batch normalization's statistics anew."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.compression import batchnorm_recalibration, distillation, stages
from autoopt.compression.training import outputs
from autoopt.compression.training_state import Progress
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Prune
from autoopt.models import loading
from autoopt.models.task import Split

FULL = {"distillation": 1.0, "temperature": 4.0}
TRAIN, VALIDATION = tiny.split(256, 1), tiny.split(128, 2)


def baseline():
    return loading.unpack(tiny.packed(Recipe()))[0]


def stage(epochs=2, parts=None, data=None, **tuning):
    """Run the only stage of a recipe: the model, its report."""
    recipe = Recipe(
        **(parts or {"prune": Prune(sparsity=0.5, frequency=2)}), finetune=Finetune(epochs=epochs, **tuning)
    )
    [(name, values)] = recipe.stages()
    taught = outputs(baseline(), TRAIN) if tuning.get("distillation") else None
    training = tiny.training(data=(data or TRAIN, VALIDATION), taught=taught)
    return stages.run(name, baseline(), values, training)


# --- distillation


def loss_of(loss, labels, taught, output, **tuning):
    found, targets = distillation.goal(loss, np.asarray(labels), np.asarray(taught, np.float32), FULL | tuning)
    return float(found(tf.constant(targets), tf.constant(output, tf.float32)))


@pytest.mark.parametrize(
    ("loss", "labels", "taught"),
    [
        ("sparse_categorical_crossentropy", [0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]),
        ("categorical_crossentropy", [[1, 0, 0], [0, 0, 1]], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]),
        ("binary_crossentropy", [[1], [0]], [[0.9], [0.2]]),
        ("mse", [[1.0], [0.0]], [[0.9], [0.2]]),
        (tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), [0, 1], [[3.0, -1.0], [0.0, 2.0]]),
    ],
)
def test_nothing_is_left_to_learn_where_the_outputs_are_the_same(loss, labels, taught):
    assert loss_of(loss, labels, taught, taught) == pytest.approx(0, abs=1e-5)
    assert loss_of(loss, labels, taught, np.roll(taught, 1, axis=0)) > 0.1


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probabilities_and_their_logits_give_the_same_loss(temperature):
    rng = np.random.default_rng(0)
    taught, output = rng.normal(size=(2, 8, 3)).astype(np.float32)
    labels = np.zeros(8, int)
    logits = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    by_logits = loss_of(logits, labels, taught, output, temperature=temperature)
    shares = [tf.nn.softmax(each).numpy() for each in (taught, output)]
    by_shares = loss_of("sparse_categorical_crossentropy", labels, *shares, temperature=temperature)
    assert by_shares == pytest.approx(by_logits, rel=1e-4)
    p, q = (tf.nn.softmax(each / temperature).numpy() for each in (taught, output))
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert by_logits == pytest.approx(expected, rel=1e-4)


def test_weights_go_from_the_tasks_loss_to_the_difference():
    labels, taught, output = [0, 1], [[0.6, 0.4], [0.3, 0.7]], [[0.5, 0.5], [0.2, 0.8]]
    name = "sparse_categorical_crossentropy"
    own = float(tf.reduce_mean(tf_keras.losses.get(name)(np.array(labels), np.array(output, np.float32))))
    far = loss_of(name, labels, taught, output)
    assert loss_of(name, labels, taught, output, distillation=0.25) == pytest.approx(0.75 * own + 0.25 * far, rel=1e-5)
    assert distillation.goal(name, np.array(labels), None, FULL) == (name, pytest.approx(np.array(labels)))


def test_a_distilled_model_is_more_like_the_untouched_one():
    """Labels at random teach nothing; what was taught does."""
    rng = np.random.default_rng(0)
    wrong = dataclasses.replace(TRAIN, labels=rng.integers(0, 4, len(TRAIN)))
    parts = {"channels": Channels(ratio=0.5, multiple=4)}
    wanted = outputs(baseline(), VALIDATION).argmax(axis=1)
    agreement = {}
    for weight in (0.0, 1.0):
        model, _ = stage(3, parts, data=wrong, distillation=weight)
        agreement[weight] = (outputs(model, VALIDATION).argmax(axis=1) == wanted).mean()
    assert agreement[1.0] > 0.85 > agreement[0.0]


# --- averaging


@pytest.mark.parametrize(
    "parts",
    [
        {"channels": Channels(ratio=0.5, multiple=4)},
        {"prune": Prune(sparsity=0.5, frequency=2)},
        {"cluster": Cluster(number=6)},
        {"scheme": "qat_int8"},
    ],
    ids=["channels", "prune", "cluster", "qat"],
)
def test_averaged_weights_differ_keep_the_technique_and_go_on_from_the_first_epochs(parts):
    usual, before = stage(3, parts)
    averaged, report = stage(3, parts, averaging=0.9, recalibrate=True)
    assert report["epochs"][-1]["accuracy"] > 0.8
    assert report["epochs"][0]["loss"] == pytest.approx(before["epochs"][0]["loss"], rel=1e-3)
    assert not all(np.array_equal(a, b) for a, b in zip(usual.get_weights(), averaged.get_weights(), strict=True))
    for now, then in zip(report["touched"], before["touched"], strict=True):
        assert now["sparsity"] == pytest.approx(then["sparsity"], abs=0.01)
        if "cluster" in parts:
            assert now["distinct"] <= 6
    recipe = Recipe(**parts, finetune=Finetune(epochs=3, averaging=0.9, recalibrate=True))
    [(name, values)] = recipe.stages()
    begun = Progress.from_bytes(stages.begin(name, baseline(), values, tiny.training()).to_bytes())
    resumed, again = stages.run(name, baseline(), values, tiny.training(), begun)
    assert again["epochs"] == report["epochs"]
    assert all(np.array_equal(a, b) for a, b in zip(averaged.get_weights(), resumed.get_weights(), strict=True))


# --- batch normalization


def test_statistics_become_those_of_the_data():
    model = baseline()
    norm = model.get_layer("norm")
    norm.moving_mean.assign(norm.moving_mean + 1)
    norm.moving_variance.assign(norm.moving_variance * 9)
    batchnorm_recalibration.recalibrate(model, TRAIN)
    before = tf_keras.Model(model.inputs, model.get_layer("conv").output).predict_on_batch(TRAIN.inputs[tiny.INPUT])
    np.testing.assert_allclose(norm.moving_mean.numpy(), before.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), before.var(axis=(0, 1, 2)), rtol=1e-3)
    assert "call" not in vars(norm)


def test_recalibration_restores_what_wrong_statistics_broke():
    model, data = baseline(), TRAIN
    right = outputs(model, VALIDATION).argmax(axis=1)
    norm = model.get_layer("norm")
    norm.moving_mean.assign(norm.moving_mean + 3)
    assert (outputs(model, VALIDATION).argmax(axis=1) == right).mean() < 0.9
    batchnorm_recalibration.recalibrate(model, data)
    assert (outputs(model, VALIDATION).argmax(axis=1) == right).mean() > 0.95


def test_a_model_without_batch_normalization_is_left_alone():
    model = tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(4))
    before = model.get_weights()
    batchnorm_recalibration.recalibrate(model, Split(inputs=TRAIN.inputs, labels=TRAIN.labels))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_after_the_first_epoch_it_is_said_how_long_all_will_take():
    told = []
    training = dataclasses.replace(tiny.training(data=(TRAIN, VALIDATION)), foretell=told.append)
    [(name, values)] = Recipe(
        prune=Prune(sparsity=0.5, frequency=2), finetune=Finetune(epochs=3, learning_rate=1e-3)
    ).stages()
    _, report = stages.run(name, baseline(), values, training)
    [seconds] = told
    assert seconds >= 3 * report["epoch_seconds"] > 0
