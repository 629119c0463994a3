"""A loss is what tf_keras's `evaluate` says, whatever shape labels, outputs and weights have."""

import builders  # noqa: F401 - its profile for hypothesis
import numpy as np
import pytest
import stores
import tensorflow as tf
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.compression import channel_importance, distillation, losses, sparsity_allocation, stages, training
from autoopt.compression.channel_graph import trace
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Finetune, Prune
from autoopt.models.task import Split, broadcast

layers = tf_keras.layers
ITEMS = 6
NUMBERS = (
    "mse",
    "mae",
    "binary_crossentropy",
    "hinge",
    tf_keras.losses.Huber(),
    tf_keras.losses.BinaryFocalCrossentropy(),
)
CLASSES = ("sparse_categorical_crossentropy", tf_keras.losses.SparseCategoricalCrossentropy())


def own(labels, outputs):
    """A user's function, as Keras' documentation writes them."""
    return tf.reduce_mean(tf.abs(tf.cast(labels, outputs.dtype) - outputs) ** 3, axis=-1)


@st.composite
def batches(draw):
    """A loss, labels, outputs and weights that Keras takes."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    single = draw(st.booleans())
    shape = draw(st.sampled_from([(1,), (4, 1), (2, 3, 1)] if single else [(3,), (4, 3), (2, 2, 3)]))
    outputs = rng.uniform(0.05, 0.95, (ITEMS, *shape)).astype(np.float32)
    if single or draw(st.booleans()):
        loss = draw(st.sampled_from([*NUMBERS, own]))
        labels = rng.integers(0, 2, (ITEMS, *shape)).astype(
            draw(st.sampled_from([np.int64, np.uint8, np.float32, np.float64]))
        )
        if single and draw(st.booleans()) and not (loss is own and len(shape) > 1):
            labels = labels[..., 0]
    else:
        outputs /= outputs.sum(axis=-1, keepdims=True)
        loss = draw(st.sampled_from(CLASSES))
        labels = rng.integers(0, 3, (ITEMS, *shape[:-1], *([1] * draw(st.booleans()))))
    weights = broadcast(rng.uniform(0, 3, ITEMS).astype(np.float32), shape)
    return loss, labels, outputs, draw(st.sampled_from([None, weights]))


def evaluated(loss, labels, outputs, weights, batch_size=ITEMS):
    model = tf_keras.Sequential([layers.Input(outputs.shape[1:]), layers.Activation("linear")])
    model.compile(loss=loss, run_eagerly=True, weighted_metrics=[])
    return model.evaluate(outputs, labels, sample_weight=weights, batch_size=batch_size, verbose=0)


@settings(max_examples=25)
@given(batches())
def test_every_loss_is_that_of_evaluate(batch):
    loss, labels, outputs, weights = batch
    wanted = pytest.approx(evaluated(*batch), rel=1e-5, abs=1e-6)
    assert float(losses.of_batch(loss)(labels, tf.constant(outputs), weights)) == wanted
    model = tf_keras.Sequential([layers.Input(outputs.shape[1:]), layers.Activation("linear")])
    split = Split(inputs={"image": outputs}, labels=labels, weights=weights)
    assert losses.of_model(model, loss, split)() == wanted
    # Distilled with next to no weight, by `fit`'s own way of calling a loss.
    mixed, targets = distillation.goal(loss, labels, outputs, {"distillation": 1e-9})
    assert evaluated(mixed, targets, outputs, weights) == wanted


@pytest.mark.parametrize("shape", [(1,), (3,), (4, 1), (2, 2, 1), (2, 2, 3)])
def test_what_was_taught_is_compared_place_by_place(shape):
    """Nothing is left to learn from the same outputs, and the mean square is that of all values."""
    rng = np.random.default_rng(0)
    taught, outputs = rng.uniform(0.1, 0.9, (2, ITEMS, *shape)).astype(np.float32)
    labels = rng.integers(0, 2, (ITEMS, *shape))
    for loss in ("mse", "binary_crossentropy"):
        mixed, targets = distillation.goal(loss, labels, taught, {"distillation": 1.0})
        assert evaluated(mixed, targets, taught, None) == pytest.approx(0, abs=1e-6)
        if loss == "mse":
            assert evaluated(mixed, targets, outputs, None) == pytest.approx(
                np.square(taught - outputs).mean(), rel=1e-5
            )
    weights = broadcast(np.array([1.0, *[0.0] * (ITEMS - 1)], np.float32), shape)
    mixed, targets = distillation.goal("mse", labels, taught, {"distillation": 1.0})
    first = np.square(taught - outputs)[0].mean() / ITEMS
    assert evaluated(mixed, targets, outputs, weights) == pytest.approx(first, rel=1e-5)


def test_probabilities_are_told_by_the_outputs_not_by_the_loss():
    """A loss with `from_logits` over a softmax, which Keras sees through, softens no probabilities as if they were scores."""
    rng = np.random.default_rng(0)
    taught, found = (tf.nn.softmax(3 * each).numpy() for each in rng.normal(size=(2, ITEMS, 3)).astype(np.float32))
    labels = np.zeros(ITEMS, int)
    tuning = {"distillation": 1.0}
    by_name, targets = distillation.goal("sparse_categorical_crossentropy", labels, taught, tuning)
    object_ = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    by_object, _ = distillation.goal(object_, labels, taught, tuning)
    assert float(by_object(targets, found)) == pytest.approx(float(by_name(targets, found)), rel=1e-5)


def test_what_is_masked_counts_in_no_loss():
    """Padding that an Embedding masks is left out, distilled or not, as `evaluate` leaves it out."""
    tf_keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (ITEMS, 5))
    tokens[:, 3:] = 0
    labels, weights = rng.integers(0, 3, (ITEMS, 5)), rng.uniform(0, 2, ITEMS).astype(np.float32)
    model = tf_keras.Sequential(
        [
            layers.Input((5,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.LSTM(4, return_sequences=True),
            layers.Dense(3, "softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"

    def by_keras(loss, labels):
        model.compile(loss=loss, weighted_metrics=[], run_eagerly=True)
        return model.evaluate(tokens, labels, sample_weight=weights, batch_size=ITEMS, verbose=0)

    wanted = by_keras(loss, labels)
    split = Split(inputs={"tokens": tokens}, labels=labels, weights=weights)
    assert losses.of_model(model, loss, split)() == pytest.approx(wanted, rel=1e-5)
    taught = model.predict_on_batch(tokens)
    mixed, targets = distillation.goal(loss, labels, taught, {"distillation": 1e-9})
    assert by_keras(mixed, targets) == pytest.approx(wanted, rel=1e-5)
    taught[:, 3:] = [1, 0, 0]  # what is said of padding is not to be learnt
    mixed, targets = distillation.goal(loss, labels, taught, {"distillation": 1.0})
    assert by_keras(mixed, targets) == pytest.approx(0, abs=1e-5)


def regression():
    """A tiny network that is right but for noise, its data, labels of shape (items,)."""
    tf_keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8)).astype(np.float32)
    y = (x @ rng.normal(size=8) + 0.1 * rng.normal(size=256)).astype(np.float32)
    model = tiny.network(layers.Dense(16, "relu", name="hidden"), layers.Dense(1, name="value"), shape=(8,))
    model.compile(tf_keras.optimizers.Adam(0.02), "mse")
    model.fit(x, y, epochs=30, verbose=0)
    return model, Split(inputs={tiny.INPUT: x}, labels=y)


def mean_absolute(labels, outputs):
    return float(np.abs(labels.reshape(-1) - outputs[:, 0]).mean())


MANIFEST = tiny.manifest(
    "mse", {"name": "mae", "direction": "min", "unit": "", "function": {"module": __name__, "name": "mean_absolute"}}
)


def test_labels_without_a_last_axis_are_learnt_and_chosen_by():
    model, split = regression()
    before = mean_absolute(split.labels, model.predict_on_batch(split.inputs[tiny.INPUT]))
    taught = training.outputs(model, split)
    start = model.get_weights()
    column = Split(inputs=split.inputs, labels=split.labels[:, None])
    both = [tiny.training(MANIFEST, (data, data), taught=taught) for data in (split, column)]
    first, second = (channel_importance.scores(model, trace(model), "taylor", training) for training in both)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    prunable = {name: [model.get_layer(name).kernel] for name in ("hidden", "value")}
    first, second = (sparsity_allocation.shares("sensitivity", 0.6, prunable, model, training) for training in both)
    assert first == pytest.approx(second)
    recipe = Recipe(prune=Prune(sparsity=0.1, frequency=2), finetune=Finetune(epochs=2, distillation=0.5))
    [(name, values)] = recipe.stages()
    _, report = stages.run(name, model, values, both[0])
    assert report["epochs"][-1]["mae"] < 1.5 * before + 0.1
    again = tf_keras.models.clone_model(model)
    again.set_weights(start)
    _, same = stages.run(name, again, values, both[1])
    assert same["epochs"][-1] == pytest.approx(report["epochs"][-1], rel=1e-3)


# --- weights of items


def test_weights_count_in_training_distilled_or_not_and_where_channels_are_chosen():
    """Items that count nothing have labels that would spoil everything."""
    model, split = regression()
    start, taught = model.get_weights(), training.outputs(model, split)
    spoilt = split.labels.copy()
    spoilt[::2] = 1000
    weights = np.ones(len(split), np.float32)
    weights[::2] = 0
    weighted = Split(inputs=split.inputs, labels=spoilt, weights=weights)
    taught[::2] = 1000
    taylor = {"channels": Channels(ratio=0.25, multiple=1, importance="taylor")}
    for parts, tuning in (
        (taylor, {}),
        (taylor, {"distillation": 0.5}),
        ({"scheme": "qat_int8"}, {"distillation": 0.5}),
    ):
        again = tf_keras.models.clone_model(model)
        again.set_weights(start)
        [(name, values)] = Recipe(**parts, finetune=Finetune(epochs=2, **tuning)).stages()
        _, report = stages.run(name, again, values, tiny.training(MANIFEST, (weighted, split), taught=taught))
        assert report["epochs"][-1]["mae"] < 5


def test_a_split_keeps_its_weights():
    split = Split(inputs={"x": np.zeros((4, 2))}, labels=np.arange(4), weights=np.arange(4.0))
    again = Split.from_bytes(stores.earlier_bytes(split))
    np.testing.assert_array_equal(again.weights, split.weights)
    assert again.digest == split.digest != Split(inputs=split.inputs, labels=split.labels).digest
    np.testing.assert_array_equal(split.part(1, 3).weights, [1, 2])
    np.testing.assert_array_equal(split.some(2).weights, split.some(2).labels)
