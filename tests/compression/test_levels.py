"""Weights on a learned uniform grid of few levels."""

import dataclasses

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given
from hypothesis import strategies as st

from autoopt.compression import stages
from autoopt.compression.levels import Grid, first_steps, levels_of
from autoopt.compression.training_state import Progress
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Levels, Prune
from autoopt.errors import CandidateFailed
from autoopt.models import loading

layers = tf_keras.layers
SEVEN = Levels(number=7, by_size=0, ends=7)
SHORT = (tiny.split(64, 1), tiny.split(32, 2))
IMAGES = tiny.split(32, 2).inputs[tiny.INPUT]


def settings(levels=SEVEN, epochs=1, **parts):
    return tiny.settings(epochs=epochs, levels=levels, **parts)


def dense():
    tf_keras.utils.set_random_seed(0)
    return tiny.network(layers.Flatten(), layers.Dense(4, "softmax", name="scores"))


def counted(model, report):
    """How often each multiple occurs in each kernel, worked out from the trained model's weights alone."""
    found = []
    for row in report["levels"]:
        layer = model.get_layer(row["layer"])
        kernel = next(w.numpy() for w in layer.weights if list(w.shape) == row["shape"] and "kernel" in w.name)
        step = np.abs(kernel[kernel != 0]).min()
        multiples, counts = np.unique(np.round(kernel / step).astype(int), return_counts=True)
        np.testing.assert_allclose(kernel, np.round(kernel / step) * step, rtol=1e-4, atol=1e-9)
        found.append(dict(zip(multiples.tolist(), counts.tolist(), strict=True)))
    return found


def test_kernels_are_whole_multiples_of_one_step():
    model, [report] = tiny.train(tiny.cnn(), settings(), data=SHORT)
    assert {row["layer"]: row["steps"] for row in report["levels"]} == {
        "conv": 1, "depthwise": 8, "pointwise": 1, "hidden": 1, "scores": 1
    }  # fmt: skip
    told = [row for row in report["levels"] if row["steps"] == 1]
    for row, found in zip(told, counted(model, {"levels": told}), strict=True):
        assert max(map(abs, found)) <= 3
        assert {str(level): count for level, count in found.items()} == row["counts"]
        assert sum(found.values()) == np.prod(row["shape"])
    assert all(row["distinct"] <= 7 for row in report["touched"] if row["layer"] != "depthwise")


def test_normalization_is_folded_and_the_model_is_called_as_before():
    model, _ = tiny.train(tiny.cnn(), settings(), data=SHORT)
    assert "BatchNormalization" not in {type(layer).__name__ for layer in model.layers}
    assert (model.input_names, model.output_names) == (tiny.cnn().input_names, tiny.cnn().output_names)


def test_without_training_many_levels_compute_what_the_model_does():
    """So nothing is lost but by rounding: folding, the parts of a root mean square, the way back."""
    model = tiny.unlike(tiny.cnn())
    expected = model.predict_on_batch(IMAGES)
    [(name, values)] = settings(Levels(number=255, per_channel=True))
    found = stages.one_shot(name, model, dict(values))
    np.testing.assert_allclose(found.predict_on_batch(IMAGES), expected, atol=0.02)


def test_the_model_that_is_taken_off_computes_what_was_trained():
    [(name, values)] = settings()
    wrapped = stages.STAGES[name](tiny.unlike(tiny.cnn()), dict(values), None)
    trained = wrapped.model.predict_on_batch(IMAGES)
    np.testing.assert_allclose(wrapped.unwrap(wrapped.model).predict_on_batch(IMAGES), trained, atol=1e-6)


def test_steps_and_weights_are_both_learned():
    [(name, values)] = settings(epochs=2)
    wrapped = stages.STAGES[name](tiny.unlike(tiny.cnn()), dict(values), None)
    before = {v.name: v.numpy() for v in wrapped.model.trainable_variables}
    wrapped.model.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    wrapped.model.fit(*tiny.images(64, 1), verbose=0)
    assert len(before) > 3
    still = [v.name for v in wrapped.model.trainable_variables if np.array_equal(before[v.name], v.numpy())]
    assert not [name for name in still if "step" in name or "kernel" in name]


def test_a_training_loses_less_than_rounding_alone():
    """Trained for real: what is held is that the learning works, which no cheaper test shows."""
    model, _ = loading.unpack(tiny.packed(Recipe()))
    x, y = tiny.images(128, 2)
    three = Levels(number=3, by_size=0, ends=3)

    def right(of):
        return float((of.predict_on_batch(x).argmax(axis=1) == y).mean())

    [(name, values)] = settings(three, epochs=4)
    rounded = right(stages.one_shot(name, loading.unpack(tiny.packed(Recipe()))[0], dict(values)))
    trained, _ = tiny.train(model, [(name, values)])
    assert right(trained) > rounded


def test_zeros_of_pruning_stay_zeros():
    _, reports = tiny.train(tiny.cnn(), settings(prune=Prune(sparsity=0.5, schedule="constant")), data=SHORT)
    before = {row["layer"]: row["sparsity"] for row in reports[0]["touched"]}
    after = {row["layer"]: row["sparsity"] for row in reports[1]["touched"]}
    assert all(after[name] >= share for name, share in before.items())


def test_going_on_gives_the_very_same_model():
    [(name, values)] = settings(epochs=3)
    start, training = loading.pack(tiny.cnn()), tiny.training(data=SHORT)
    at_once, report = stages.run(name, loading.unpack(start)[0], values, training)
    begun = stages.begin(name, loading.unpack(start)[0], values, training)
    assert len(begun.history) == 1
    resumed, again = stages.run(
        name, loading.unpack(start)[0], values, training, begun=Progress.from_bytes(begun.to_bytes())
    )
    assert again["levels"] == report["levels"]
    assert all(np.array_equal(a, b) for a, b in zip(at_once.get_weights(), resumed.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("stack", "shape"),
    [
        ([layers.Flatten(), layers.Dense(6, use_bias=False), layers.Dense(3)], (4, 4, 1)),
        ([layers.Conv1D(4, 3), layers.DepthwiseConv1D(3), layers.SeparableConv1D(4, 2), layers.Flatten(), layers.Dense(3)], (16, 2)),
        ([layers.Conv2DTranspose(4, 3), layers.BatchNormalization(), layers.SeparableConv2D(4, 3), layers.Flatten(), layers.Dense(3)], (5, 5, 2)),
        ([layers.Conv2D(1, 1), layers.Conv2D(4, 3, groups=1, dilation_rate=2), layers.GlobalMaxPooling2D(), layers.Dense(1)], (8, 8, 1)),
    ],
    ids=["dense", "series", "transposed", "one channel"],
)  # fmt: skip
@pytest.mark.parametrize("per_channel", [False, True])
def test_every_kind_of_layer_keeps_its_function(stack, shape, per_channel):
    tf_keras.utils.set_random_seed(0)
    model = tiny.unlike(tiny.network(*[type(at).from_config(at.get_config()) for at in stack], shape=shape))
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    expected = model.predict_on_batch(x)
    [(name, values)] = settings(Levels(number=255, per_channel=per_channel))
    found = stages.one_shot(name, model, dict(values))
    assert np.abs(found.predict_on_batch(x) - expected).max() < 0.1 * np.abs(expected).max()


def test_masks_go_through():
    ids = tf_keras.Input((5,), dtype="int32", name=tiny.INPUT)
    tensor = layers.Dense(4, name="dense")(layers.Embedding(9, 3, mask_zero=True, name="table")(ids))
    model = tf_keras.Model(ids, layers.LSTM(2, name="lstm")(tensor))
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]], np.int32)
    expected = model.predict_on_batch(x)
    [(name, values)] = settings(Levels(number=255))
    np.testing.assert_allclose(stages.one_shot(name, model, dict(values)).predict_on_batch(x), expected, atol=0.02)


def test_what_is_left_alone_is_told_with_its_reason():
    model = tf_keras.Sequential([tf_keras.Input((6, 2)), layers.LSTM(3, name="lstm"), layers.Dense(2, name="empty"), layers.Dense(4, name="full")])  # fmt: skip
    model.get_layer("empty").set_weights([np.zeros((3, 2)), np.zeros(2)])
    [(name, values)] = settings()
    wrapped = stages.STAGES[name](tf_keras.Model(model.inputs, model.outputs), dict(values), None)
    assert {row["layer"]: row["why"] for row in wrapped.skipped} == {
        "lstm": "levels are learned in convolutions and dense layers alone",
        "empty": "it holds nothing but zeros",
    }
    assert wrapped.touched == ["full"]


@pytest.mark.parametrize("seed", range(3))
def test_weights_between_two_levels_are_counted_as_they_are_stored(seed):
    """Trainings push weights there, and each way to work them out rounds some of them otherwise."""
    model = tiny.network(layers.Flatten(), layers.Dense(64, name="scores"))
    [(name, values)] = settings()
    wrapped = stages.STAGES[name](model, dict(values), None)
    layer = wrapped.model.get_layer("scores")
    step = float(np.exp(layer.steps[0].numpy()).reshape(()))
    rng = np.random.default_rng(seed)
    halves = (rng.integers(-3, 3, layer.layer.kernel.shape) + 0.5) * step
    layer.layer.kernel.assign(halves * (1 + 1e-7 * rng.integers(-2, 3, halves.shape)))
    found = wrapped.unwrap(wrapped.model)
    [told] = wrapped.facts["levels"]
    assert counted(found, wrapped.facts) == [{int(level): count for level, count in told["counts"].items()}]


def test_regularizers_take_nothing_of_weights_in_other_units():
    model = tiny.network(
        layers.Flatten(), layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1", name="scores")
    )
    assert model.losses
    [(name, values)] = settings()
    wrapped = stages.STAGES[name](model, dict(values), None).model
    layer = wrapped.get_layer("scores").layer
    assert (layer.kernel_regularizer, layer.activity_regularizer) == (None, None)


def test_the_penalty_makes_weights_smaller_and_leaves_the_loss_what_it_is():
    def trained(penalty):
        [(name, values)] = settings(dataclasses.replace(SEVEN, penalty=penalty), epochs=2)
        wrapped = stages.STAGES[name](dense(), dict(values), None)
        wrapped.model.compile(tf_keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
        first = wrapped.model.evaluate(*tiny.images(64, 1), verbose=0)
        wrapped.model.fit(*tiny.images(64, 1), epochs=3, shuffle=False, verbose=0)
        return first, float(np.square(wrapped.model.get_layer("scores").layer.kernel.numpy()).sum())

    (loss, large), (same, small) = trained(0.0), trained(0.1)
    assert loss == pytest.approx(same, rel=1e-6)
    assert small < 0.95 * large


@pytest.mark.parametrize("which", ["kernel", "bias"])
def test_layers_with_a_constraint_are_left_alone(which):
    kept = layers.Dense(4, name="kept", **{f"{which}_constraint": "non_neg"})
    model = tiny.network(layers.Flatten(), kept, layers.Dense(4, name="scores"))
    [(name, values)] = settings()
    wrapped = stages.STAGES[name](model, dict(values), None)
    assert {row["layer"]: row["why"] for row in wrapped.skipped} == {"kept": "its weights have a constraint"}


def test_a_model_without_such_layers_is_refused():
    model = tf_keras.Sequential([tf_keras.Input((6, 2)), layers.LSTM(3)])
    [(name, values)] = settings()
    with pytest.raises(CandidateFailed, match="no layer of this model can take it"):
        stages.run(name, tf_keras.Model(model.inputs, model.outputs), values, tiny.training(data=SHORT))


def test_frozen_layers_are_kept_where_that_is_asked_for():
    model = tiny.cnn()
    model.get_layer("conv").trainable = False
    before = model.get_layer("conv").get_weights()[0]
    finetune = Finetune(epochs=1, frozen="keep")
    [(name, values)] = Recipe(levels=SEVEN, finetune=finetune).stages()
    _, report = stages.run(name, model, values, tiny.training(data=SHORT))
    assert "conv" in {row["layer"] for row in report["skipped"]}
    assert len(np.unique(before)) > 7


# ---- how many levels


@given(
    number=st.integers(1, 127).map(lambda half: 2 * half + 1),
    sizes=st.lists(st.integers(1, 10**7), min_size=2, max_size=2).map(sorted),
    by_size=st.floats(0, 1),
    least=st.integers(1, 127).map(lambda half: 2 * half + 1),
)
def test_smaller_kernels_have_no_fewer_levels(number, sizes, by_size, least):
    small, large = (levels_of(number, size, sizes[1], by_size, least) for size in sizes)
    assert 255 >= small >= large >= min(number, least)
    assert small % 2 == large % 2 == 1
    assert levels_of(number, sizes[0], sizes[1], 0.0) == number


@given(seed=st.integers(0, 99), number=st.sampled_from([3, 7, 15]), channels=st.sampled_from([(), (1,), (0, 1)]))
def test_first_steps_are_no_worse_than_the_range_alone(seed, number, channels):
    kernel = np.random.default_rng(seed).normal(size=(5, 4))
    grid = Grid(name="kernel", number=number, channels=channels)
    axes = tuple(axis for axis in (0, 1) if axis not in channels)
    whole = np.abs(kernel).max(axis=axes, keepdims=True) / (number // 2)

    def error(steps):
        half = number // 2
        return ((np.clip(np.round(kernel / steps), -half, half) * steps - kernel) ** 2).sum()

    steps = first_steps(kernel, grid)
    assert steps.shape == tuple(kernel.shape[axis] if axis in channels else 1 for axis in (0, 1))
    assert error(steps) <= error(whole) * (1 + 1e-5) + 1e-9  # steps are those that float32 holds


def test_its_rate_is_its_own_and_the_optimizer_is_adam():
    recipe = Recipe(levels=Levels(number=7, rate=0.003), prune=Prune(sparsity=0.5), finetune=Finetune(optimizer="sgd"))
    stages_of = dict(recipe.stages())
    assert stages_of["prune"]["finetune"]["learning_rate"] == Finetune().learning_rate
    assert stages_of["levels"]["finetune"]["learning_rate"] == 0.003
    assert "optimizer" not in stages_of["levels"]["finetune"]
    alone = dataclasses.replace(recipe, prune=None)
    assert (alone.finetune.learning_rate, alone.finetune.optimizer) == (0.003, "adam")
