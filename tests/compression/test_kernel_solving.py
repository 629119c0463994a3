"""Kernels solved after channels went: the smaller model gives out nearly what the whole one does, before any training."""

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.compression import channel_pruning, kernel_solving, stages
from autoopt.compression.channel_graph import trace
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Finetune
from autoopt.models import loading
from autoopt.models.task import Split

layers = tf_keras.layers
HALF = {"ratio": 0.5, "importance": "l2", "scope": "layer", "multiple": 4}


def data(shape, items=200, seed=1):
    x = np.random.default_rng(seed).normal(size=(items, *shape)).astype(np.float32)
    return Split(inputs={"x": x}, labels=np.zeros(items, int))


def built(build, shape=(8, 8, 3), seed=0):
    """A model with biases and statistics as training leaves them: not those that it began with."""
    tf_keras.utils.set_random_seed(seed)
    x = layers.Input(shape)
    return tiny.unlike(tf_keras.Model(x, build(x)), seed)


def wrapped(model, solve=True, train=None, **settings):
    training = tiny.training(data=(train or data(model.input_shape[1:]), None))
    return channel_pruning.wrap(model, {**HALF, **settings, "solve": solve}, training)


def far(model, wanted, split):
    """The mean square by which outputs differ."""
    return np.square(model.predict_on_batch(split.inputs["x"]) - wanted).mean()


def convolutions(x):
    for filters in (16, 24):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, use_bias=False)(x)))
    return layers.Dense(4)(layers.Flatten()(x))


def residual(x):
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same")(x))
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same")(layers.ReLU()(y))])
    y = layers.Conv2D(32, 3, 2, padding="same")(x)
    x = layers.ReLU()(layers.Add()([y, layers.Conv2D(32, 1, 2)(x)]))
    return layers.Dense(4)(layers.GlobalAveragePooling2D()(x))


def mobile(x):
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, use_bias=False)(x)))
    x = layers.ReLU()(layers.Conv2D(16, 1)(x))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)(x))
    x = layers.SeparableConv2D(24, 3, activation="relu")(layers.PReLU(shared_axes=[1, 2])(x))
    return layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(x))


def series(x):
    x = layers.Conv1D(16, 3, padding="causal", activation="relu")(layers.Reshape((64, 3))(x))
    x = layers.Conv1D(16, 3, 2, activation="tanh")(layers.DepthwiseConv1D(3)(x))
    return layers.Dense(4)(layers.Flatten()(layers.SeparableConv1D(16, 3, activation="relu")(x)))


def dense(x):
    x = layers.Dense(32, "relu")(layers.Flatten()(x))
    return layers.Dense(4)(layers.BatchNormalization()(layers.Dense(32, "relu")(x)))


def squeeze(x):
    x = layers.Conv2D(32, 3, activation="relu")(x)
    y = layers.Dense(8, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Dense(32, "sigmoid")(y)])
    return layers.Dense(4)(layers.GlobalMaxPooling2D()(x))


@pytest.mark.parametrize("build", [convolutions, residual, mobile, series, dense, squeeze])
def test_a_solved_model_is_nearer_to_the_whole_one(build):
    whole, fresh = built(build), data((8, 8, 3), seed=2)
    wanted = whole.predict_on_batch(fresh.inputs["x"])
    plain, solved = (wrapped(built(build), solve) for solve in (False, True))
    assert [w.shape for w in plain.model.weights] == [w.shape for w in solved.model.weights]
    assert far(solved.model, wanted, fresh) < 0.6 * far(plain.model, wanted, fresh)
    assert solved.notes == plain.notes
    assert all(np.isfinite(w).all() for w in solved.model.get_weights())


@settings(max_examples=10)
@given(
    st.integers(0, 99),
    st.sampled_from([layers.Conv2D, layers.SeparableConv2D]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.sampled_from(["same", "valid"]),
    st.booleans(),
    st.booleans(),
)
def test_channels_that_others_can_stand_for_are_no_loss(seed, kind, kernel, stride, padding, use_bias, norm):
    """Where layers are linear, and half of the channels are mixtures of the others, nothing is lost with them."""

    def build(x):
        x = layers.Conv2D(8, kernel, padding=padding, name="first")(x)
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
        x = kind(12, kernel, stride, padding=padding, use_bias=use_bias, name="second")(x)
        x = layers.BatchNormalization()(x) if norm else x
        return layers.Dense(4)(layers.Flatten()(x))

    whole = built(build, (9, 7, 3), seed)
    rng, first = np.random.default_rng(seed), whole.get_layer("first")
    mixing = np.concatenate([np.eye(4), rng.normal(size=(4, 4))], axis=1)
    weights, bias = first.get_weights()
    first.set_weights([weights[..., :4] @ mixing, bias[:4] @ mixing])
    for layer in (whole.get_layer("depthwise"), whole.get_layer("second")):
        if hasattr(layer, "depthwise_kernel"):  # alike for all channels, so that mixtures stay mixtures
            alike = layer.depthwise_kernel.numpy()[:, :, :1]
            layer.depthwise_kernel.assign(np.repeat(alike, 8, axis=2))
    found = trace(whole)
    goes = np.zeros(found.number, dtype=bool)
    goes[next(group for group in found.groups if group.layers == ("first",)).channels[4:]] = True
    smaller = channel_pruning.rebuild(whole, found, goes)
    train, fresh = data((9, 7, 3)), data((9, 7, 3), seed=2)
    wanted = whole.predict_on_batch(fresh.inputs["x"])
    unsolved = far(smaller, wanted, fresh)
    assert kernel_solving.solve(smaller, kernel_solving.look(whole, found, goes, train)) == []
    assert far(smaller, wanted, fresh) < 1e-4 * unsolved


def test_what_stands_before_any_loss_keeps_its_weights():
    """A layer that lost outputs alone, and the batch normalization behind it, give out what they gave."""

    def build(x):
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(16, 3, use_bias=False, name="stem")(x))
        x = layers.DepthwiseConv2D(3, name="depthwise")(x)
        return layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x))

    plain, solved = (wrapped(built(build), solve).model for solve in (False, True))
    for name in ("stem", "norm", "depthwise"):
        for one, other in zip(plain.get_layer(name).weights, solved.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.allclose(plain.get_layer("scores").kernel, solved.get_layer("scores").kernel, rtol=0.01)


def test_layers_that_cant_be_solved_are_named_and_the_others_are_solved():
    def build(x):
        x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(x)
        again = layers.Conv2D(16, 3, padding="same", activation="relu", name="again")
        x = layers.Conv2DTranspose(16, 3, activation="relu", name="transposed")(again(again(x)))
        return layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x))

    plain, solved = wrapped(built(build), False), wrapped(built(build))
    assert solved.notes == ["not solved by least squares, for their kind or because they are shared: again, transposed"]
    for name, same in (("again", True), ("transposed", True), ("scores", False)):
        kernels = [made.model.get_layer(name).kernel.numpy() for made in (plain, solved)]
        assert np.array_equal(*kernels) == same


def test_frozen_layers_keep_their_weights():
    model = built(residual)
    for layer in model.layers[:6]:
        layer.trainable = False
    norms = [layer.name for layer in model.layers[:6] if layer.weights]
    before = {name: model.get_layer(name).get_weights() for name in norms}
    solved = wrapped(model, finetune={"frozen": "keep"})
    for name, weights in before.items():
        for one, other in zip(weights, solved.model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_few_items_large_images_and_no_data_at_all():
    one = data((8, 8, 3), items=1)
    assert np.isfinite(far(wrapped(built(convolutions), train=one).model, 0.0, one))
    assert kernel_solving._items(built(convolutions, (512, 512, 3))) < 100
    whole = built(convolutions)
    unsolved = channel_pruning.wrap(whole, {**HALF, "solve": True}, None).model
    for one, other in zip(unsolved.get_weights(), wrapped(built(convolutions), False).model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_of_two_inputs_are_solved():
    left, right = layers.Input((8, 8, 3), name="left"), layers.Input((5,), name="right")
    x = layers.Concatenate()([layers.Flatten()(layers.Conv2D(16, 3, activation="relu")(left)), layers.Dense(16)(right)])
    whole = tiny.unlike(tf_keras.Model([left, right], layers.Dense(3)(x)))
    inputs = {"left": data((8, 8, 3)).inputs["x"], "right": data((5,)).inputs["x"]}
    wanted = whole.predict_on_batch(list(inputs.values()))
    errors = []
    for solve in (False, True):
        copy = tf_keras.models.clone_model(whole)
        copy.set_weights(whole.get_weights())
        small = wrapped(copy, solve, Split(inputs=inputs, labels=np.zeros(200, int))).model
        errors.append(np.square(small.predict_on_batch(list(inputs.values())) - wanted).mean())
    assert errors[1] < 0.6 * errors[0]


# --- as a stage


def test_one_shot_models_are_solved_and_so_is_where_training_begins():
    """Quality before any training is what solving is for, so a model that was trained well before is taken."""
    accuracies = {}
    for solve in (False, True):
        recipe = Recipe(channels=Channels(ratio=0.5, multiple=4, solve=solve), finetune=Finetune(epochs=1))
        [(name, values)] = recipe.stages()
        made = stages.one_shot(name, loading.unpack(tiny.packed(Recipe()))[0], dict(values), tiny.training())
        x, labels = tiny.images(256, 3)
        accuracies[solve] = (made.predict_on_batch(x).argmax(1) == labels).mean()
    assert accuracies[True] > accuracies[False]
    assert accuracies[True] > 0.8
