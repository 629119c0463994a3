"""What a stage trains with, beside Keras itself doing the same by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.compression import optimizing, stages, training
from autoopt.compression.batches import batches
from autoopt.compression.training_state import Progress
from autoopt.compression.wrapping import Wrapped
from autoopt.core import optimizers
from autoopt.core.metrics import Metric
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune, plain

layers = tf_keras.layers
SIZE, STEPS, EPOCHS, PEAK = 16, 4, 2, 0.05
TRAIN, VALIDATION = tiny.split(SIZE * STEPS, 1), tiny.split(32, 2)
kinds = tf_keras.optimizers


def model():
    tf_keras.utils.set_random_seed(0)
    return tiny.network(layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(4, "softmax"))


def fitted(**tuning):
    """The weights behind the last step of a training by autoopt, whichever epoch was best."""
    settings = plain(Finetune(epochs=EPOCHS, learning_rate=PEAK, batch_size=SIZE, **tuning))
    wrapped = Wrapped(model=model(), unwrap=lambda trained: trained, touched=[], skipped=[])
    told = training.Training(manifest=tiny.manifest(), train=TRAIN, validation=VALIDATION, progress=lambda _: None)
    return training.fit("prune", wrapped, settings, told, seed=3).weights


def rate(step, warmup=0.0):
    """The learning rate of a step, written out."""
    total = STEPS * EPOCHS
    rising = round(warmup * total)
    if step < rising:
        return PEAK * step / rising
    return PEAK * (1 + math.cos(math.pi * (step - rising) / (total - rising))) / 2


def by_hand(optimizer, warmup=0.0, most=None):
    """The same training, a step at a time, with a bare optimizer whose learning rate is set before each."""
    net, loss = model(), tf_keras.losses.SparseCategoricalCrossentropy()
    optimizer.build(net.trainable_variables)
    for step, (x, y) in enumerate(batches(TRAIN, SIZE, range(EPOCHS), 3, TRAIN.labels)):
        optimizer.learning_rate = rate(step, warmup)
        with tf.GradientTape() as tape:
            value = loss(y, net(x, training=True))
        gradients = tape.gradient(value, net.trainable_variables)
        if most is not None:
            norm = math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
            gradients = [g * min(1.0, most / norm) for g in gradients]
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
    return net.get_weights()


@pytest.mark.parametrize(
    ("tuning", "bare", "more"),
    [
        ({}, lambda: kinds.Adam(), {}),
        ({"optimizer": "sgd"}, lambda: kinds.SGD(momentum=0.9, nesterov=True), {}),
        ({"optimizer": "adamw"}, lambda: kinds.AdamW(), {}),
        ({"optimizer": "rmsprop"}, lambda: kinds.RMSprop(), {}),
        ({"optimizer": {"name": "sgd"}}, lambda: kinds.SGD(), {}),
        ({"optimizer": {"name": "sgd", "momentum": 0.5}}, lambda: kinds.SGD(momentum=0.5), {}),
        ({"optimizer": {"name": "adam", "beta_1": 0.7, "amsgrad": True}}, lambda: kinds.Adam(beta_1=0.7, amsgrad=True), {}),
        ({"optimizer": {"name": "rmsprop", "centered": True}}, lambda: kinds.RMSprop(centered=True), {}),
        ({"optimizer": "adamw", "weight_decay": 0.1}, lambda: kinds.AdamW(weight_decay=0.1), {}),
        ({"weight_decay": 0.1}, lambda: kinds.AdamW(weight_decay=0.1), {}),
        ({"optimizer": "sgd", "weight_decay": 0.1}, lambda: kinds.SGD(momentum=0.9, nesterov=True, weight_decay=0.1), {}),
        ({"warmup": 0.5}, lambda: kinds.Adam(), {"warmup": 0.5}),
        ({"optimizer": "sgd", "clip_norm": 0.1}, lambda: kinds.SGD(momentum=0.9, nesterov=True), {"most": 0.1}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_it_is_what_keras_does_with_the_same(tuning, bare, more):
    """Trained, for what an optimizer was told shows in the weights alone."""
    found, wanted = fitted(**tuning), by_hand(bare(), **more)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    if tuning:
        assert not all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, fitted(), strict=True))


@pytest.mark.parametrize("name", list(optimizers.ARGUMENTS))
def test_the_arguments_are_those_of_keras_with_its_defaults(name):
    kind = {"adam": kinds.Adam, "sgd": kinds.SGD, "adamw": kinds.AdamW, "rmsprop": kinds.RMSprop}[name]
    settings = kind().get_config()
    for key, value in optimizers.ARGUMENTS[name].items():
        assert settings[key] == pytest.approx(value)


def test_mixed_precision_without_a_gpu_says_so_and_changes_nothing():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    [(name, values)] = Recipe(
        prune=Prune(sparsity=0.5), finetune=Finetune(epochs=1, mixed_precision=True, batch_size=SIZE)
    ).stages()
    told = tiny.training(data=(TRAIN, VALIDATION))
    _, report = stages.run(name, model(), values, told)
    assert optimizing.NO_GPU in report["notes"]
    assert all(np.array_equal(a, b) for a, b in zip(fitted(mixed_precision=True), fitted(), strict=True))


# --- patience

SCRIPT = []


def scripted(labels, outputs):
    return SCRIPT.pop(0)


def epochs_of(values, patience, until=None, begun=None, first_epoch=0, direction="max"):
    """Train with a metric that takes these values: the progress, and the weights that are left."""
    SCRIPT[:] = values
    function = {"module": __name__, "name": "scripted"}
    metric = {"name": "scripted", "direction": direction, "unit": "", "function": function}
    wrapped = Wrapped(model=model(), unwrap=lambda trained: trained, touched=[], skipped=[], first_epoch=first_epoch)
    told = training.Training(
        manifest=tiny.manifest(metric=metric), train=TRAIN, validation=VALIDATION, progress=lambda _: None
    )
    settings = plain(Finetune(epochs=6, learning_rate=PEAK, batch_size=SIZE, patience=patience))
    reached = training.fit("prune", wrapped, settings, told, seed=3, until=until, begun=begun)
    return reached, wrapped.model.get_weights()


@pytest.mark.parametrize(
    ("values", "patience", "first_epoch", "epochs", "best"),
    [
        ([0.5, 0.6, 0.4, 0.5, 0.5, 0.5], 0, 0, 6, 2),
        ([0.5, 0.6, 0.4, 0.5, 0.7, 0.5], 2, 0, 4, 2),
        ([0.5, 0.6, 0.4, 0.5, 0.7, 0.5], 3, 0, 6, 5),
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.5], 2, 0, 3, 1),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 2, 0, 3, 3),
        ([0.9, 0.8, 0.5, 0.4, 0.4, 0.4], 2, 2, 5, 3),
    ],
    ids=["without", "two epochs", "it pays", "at once", "as good is no better", "from where the technique is in force"],
)
def test_it_stops_after_epochs_without_improvement(values, patience, first_epoch, epochs, best):
    reached, weights = epochs_of(values, patience, first_epoch=first_epoch)
    assert (len(reached.history), reached.best) == (epochs, best)
    assert all(np.array_equal(a, b) for a, b in zip(weights, reached.best_weights, strict=True))


def test_where_less_is_better_patience_counts_the_other_way():
    assert len(epochs_of([5, 4, 3, 2, 3, 4], 2, direction="min")[0].history) == 6
    assert len(epochs_of([2, 3, 4, 1, 1, 1], 2, direction="min")[0].history) == 3
    assert Metric(name="x", direction="min").sign == 1


def test_it_stops_at_the_same_epoch_when_it_goes_on_from_the_first():
    values = [0.5, 0.6, 0.4, 0.5, 0.7, 0.5]
    begun, _ = epochs_of(values, 2, until=2)
    kept = Progress.from_bytes(begun.to_bytes())
    reached, weights = epochs_of(values[2:], 2, begun=kept)
    whole, wanted = epochs_of(values, 2)
    assert reached.history == whole.history
    assert all(np.array_equal(a, b) for a, b in zip(weights, wanted, strict=True))
    again, weights = epochs_of([], 2, begun=Progress.from_bytes(reached.to_bytes()))
    assert again.history == whole.history
    assert all(np.array_equal(a, b) for a, b in zip(weights, wanted, strict=True))
