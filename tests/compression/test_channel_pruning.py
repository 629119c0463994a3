"""Removing channels: what hangs together, what goes, and that the smaller model computes what the masked one does."""

from itertools import pairwise

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.compression import channel_importance, channel_pruning, stages
from autoopt.compression.channel_graph import Group, rounded, trace
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Finetune
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.tflite import contents, conversion, proof

layers = tf_keras.layers
HALF = {"ratio": 0.5, "importance": "l2", "scope": "layer", "multiple": 4}


def model(build, shape=(8, 8, 3), seed=0):
    """A model with weights in which nothing is zero, one or alike."""
    tf_keras.utils.set_random_seed(seed)
    x = inputs = layers.Input(shape)
    made = tf_keras.Model(inputs, build(x))
    rng = np.random.default_rng(seed)
    made.set_weights([w + rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in made.get_weights()])
    return made


def convolution(x, filters, name, strides=1, kernel=3):
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def residual(x):
    x = convolution(x, 16, "stem")
    y = convolution(x, 24, "inner")
    y = layers.Conv2D(16, 3, padding="same", name="outer")(y)
    x = layers.Add()([x, y])
    y = layers.Conv2D(32, 3, 2, padding="same", name="next")(x)
    x = layers.Add()([y, layers.Conv2D(32, 1, 2, name="shortcut")(x)])
    return layers.Dense(4, name="scores")(layers.Flatten()(layers.AveragePooling2D(2)(x)))


def mobile(x):
    x = convolution(x, 16, "stem")
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("swish")(x)
    x = layers.SeparableConv2D(24, 3, name="separable")(layers.ZeroPadding2D(1)(x))
    x = layers.Dropout(0.1)(layers.PReLU(shared_axes=[1, 2])(x))
    x = layers.Reshape((1, 1, 24))(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((4,))(layers.Conv2D(4, 1, name="scores")(x))


def squeeze(x):
    x = convolution(x, 32, "stem")
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(8, 1, activation="relu", name="squeeze")(y)
    y = layers.Conv2D(32, 1, activation="sigmoid", name="excite")(y)
    x = layers.Multiply()([x, y])
    return layers.Dense(4, name="scores")(layers.GlobalMaxPooling2D()(x))


def dense_block(x):
    x = convolution(x, 16, "stem")
    for name in ("first", "second"):
        x = layers.Concatenate()([x, convolution(x, 8, name)])
    x = layers.UpSampling2D()(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(16, 3, name="transposed")(x)
    return layers.Dense(4, name="scores")(layers.Flatten()(layers.LeakyReLU()(x)))


def series(x):
    x = layers.Conv1D(16, 3, activation="relu", name="first")(layers.Reshape((32, 6))(x))
    x = layers.Conv1D(16, 3, name="second")(layers.MaxPooling1D()(x))
    return layers.Dense(4, name="scores")(layers.Dense(16, "tanh", name="hidden")(layers.GlobalAveragePooling1D()(x)))


GRAPHS = [residual, mobile, squeeze, dense_block, series]


def outputs(found, seed=1):
    x = np.random.default_rng(seed).normal(size=(16, *found.input_shape[1:])).astype(np.float32)
    return found.predict_on_batch(x)


@pytest.mark.parametrize("build", GRAPHS)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_smaller_model_computes_what_the_masked_one_does(build, scope):
    whole = model(build)
    before, count = outputs(whole), whole.count_params()
    wrapped = channel_pruning.wrap(whole, {**HALF, "scope": scope}, None)
    wanted, got = outputs(whole), outputs(wrapped.model)  # `whole` is masked by now
    assert wrapped.model.count_params() < 0.7 * count
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    assert not np.allclose(got, before, rtol=1e-2)
    assert [type(layer) for layer in wrapped.model.layers] == [type(layer) for layer in whole.layers]
    assert wrapped.model.output_shape == whole.output_shape


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(GRAPHS), st.integers(0, 999))
def test_whatever_goes_the_smaller_model_computes_what_the_masked_one_does(build, seed):
    whole = model(build)
    found, rng = trace(whole), np.random.default_rng(seed)
    goes = np.zeros(found.number, dtype=bool)
    for group in found.groups:
        goes[rng.choice(group.channels, rng.integers(0, len(group.channels)), replace=False)] = True
    smaller = channel_pruning.rebuild(whole, found, goes)
    channel_pruning.mask(whole, found, goes)
    wanted = outputs(whole)
    np.testing.assert_allclose(outputs(smaller), wanted, rtol=1e-5, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_tied_channels_go_together():
    groups = {group.layers: len(group.channels) for group in trace(model(residual)).groups}
    assert groups == {("stem", "outer"): 16, ("inner",): 24, ("next", "shortcut"): 32}
    groups = {group.layers: len(group.channels) for group in trace(model(squeeze)).groups}
    assert groups == {("stem", "excite"): 32, ("squeeze",): 8}


def test_inputs_and_outputs_stay_whole():
    whole = model(residual)
    smaller = channel_pruning.wrap(whole, {**HALF, "ratio": 0.9}, None)
    assert smaller.model.input_shape == whole.input_shape
    assert smaller.model.output_shape == whole.output_shape
    assert trace(whole).whole == {"scores": "they are the model's output"}


class Mixing(layers.Layer):
    """A layer of the user's own, which no one knows."""

    def call(self, inputs):
        return inputs[..., ::-1]


def unknown(x):
    x = Mixing(name="mix")(layers.Conv2D(16, 3, activation="relu", name="before")(x))
    x = layers.Conv2D(16, 3, activation="relu", name="after")(x)
    x = layers.Conv2D(16, 3, activation="softmax", name="shares")(x)
    return layers.Dense(4, name="scores")(layers.Flatten()(x))


def test_what_is_not_known_keeps_its_channels_whole_and_is_named():
    wrapped = channel_pruning.wrap(model(unknown), HALF, None)
    assert "after" in wrapped.touched
    assert wrapped.model.get_layer("before").filters == wrapped.model.get_layer("shares").filters == 16
    whole = {row["layer"]: row["why"] for row in wrapped.skipped}
    assert whole["before"] == "its channels stay whole: mix (Mixing) needs them all"
    assert trace(model(unknown)).whole["shares"] == "the activation softmax of shares needs them all"


def test_a_layer_that_is_called_twice_is_cut_once():
    def shared(x):
        x = layers.Conv2D(16, 3, padding="same", name="stem")(x)
        again = layers.Conv2D(16, 3, padding="same", activation="relu", name="again")
        return layers.Dense(4, name="scores")(layers.Flatten()(again(again(x))))

    whole = model(shared)
    wrapped = channel_pruning.wrap(whole, HALF, None)
    assert wrapped.model.get_layer("again").kernel.shape == (3, 3, 8, 8)
    np.testing.assert_allclose(outputs(wrapped.model), outputs(whole), rtol=1e-4)


def test_channels_that_share_a_reshape_go_together():
    def shared(x):
        reshape = layers.Reshape((36, 16), name="shape")
        rows = [reshape(layers.Conv2D(16, 3, name=name)(x)) for name in ("left", "right")]
        x = layers.Concatenate()([layers.Conv1D(8, 3, name=f"after{i}")(row) for i, row in enumerate(rows)])
        return layers.Dense(4, name="scores")(layers.Flatten()(x))

    whole = model(shared)
    assert ("left", "right") in {tuple(sorted(group.layers)) for group in trace(whole).groups}
    wrapped = channel_pruning.wrap(whole, HALF, None)
    assert wrapped.model.get_layer("shape").target_shape == (36, 8)
    np.testing.assert_allclose(outputs(wrapped.model), outputs(whole), rtol=1e-4)


def test_a_model_that_computes_something_else_is_refused(monkeypatch):
    rebuild = channel_pruning.rebuild

    def wrong(*arguments):
        made = rebuild(*arguments)
        made.layers[-1].kernel.assign(1.001 * made.layers[-1].kernel)
        return made

    monkeypatch.setattr(channel_pruning, "rebuild", wrong)
    with pytest.raises(CandidateFailed, match="outputs are off by"):
        channel_pruning.wrap(model(residual), HALF, None)


# --- what goes


@given(st.floats(0.1, 300), st.integers(1, 300), st.integers(1, 32))
def test_counts_are_multiples_or_all_there_are(wanted, available, multiple):
    count = rounded(wanted, available, multiple)
    assert 1 <= count <= available
    assert count % multiple == 0 or count == available
    assert count == available or abs(count - wanted) <= max(multiple / 2, multiple - wanted) + 1e-9


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.sampled_from(["layer", "global"]),
    st.integers(1, 16),
    st.integers(0, 99),
)
def test_the_least_worthy_go_and_no_layer_is_emptied(sizes, ratio, scope, multiple, seed):
    ends = np.cumsum([0, *sizes])
    groups = [Group(layers=(f"layer{i}",), channels=np.arange(a, b)) for i, (a, b) in enumerate(pairwise(ends))]
    worth = np.random.default_rng(seed).random(ends[-1])
    goes, notes = channel_pruning.choose(groups, worth, ratio, scope, multiple)
    for group in groups:
        gone = goes[group.channels]
        assert not gone.all()
        if gone.any():
            assert worth[group.channels][gone].max() <= worth[group.channels][~gone].min()
    if not notes and multiple == 1 and scope == "global":
        assert goes.sum() == pytest.approx(ratio * ends[-1], abs=1)


def test_a_ratio_that_would_empty_a_layer_is_clipped_with_a_note():
    wrapped = channel_pruning.wrap(model(residual), {**HALF, "ratio": 0.95}, None)
    assert "inner: 4 of 24 channels stay, though 1 were to be left" in wrapped.notes
    assert wrapped.model.get_layer("inner").filters == 4


def test_a_model_too_narrow_to_cut_fails_as_a_candidate():
    chain = tiny.settings(channels=Channels(ratio=0.5, multiple=64))
    with pytest.raises(CandidateFailed, match="no layer of this model can take it"):
        tiny.train(tiny.cnn(), chain)


@pytest.mark.parametrize("importance", ["l2", "bn_scale", "taylor"])
def test_channels_without_effect_go_first(importance):
    whole = loading.unpack(tiny.packed(Recipe()))[0]
    conv, norm = whole.get_layer("conv"), whole.get_layer("norm")
    dead = [1, 4, 6]
    kernel, gamma, beta = conv.kernel.numpy(), norm.gamma.numpy(), norm.beta.numpy()
    kernel[..., dead], gamma[dead], beta[dead] = 0, 0, 0
    conv.kernel.assign(kernel)
    norm.gamma.assign(gamma)
    norm.beta.assign(beta)
    whole.get_layer("depthwise").bias.assign(np.zeros(8))  # else it would give them something to say
    before = whole.predict_on_batch(tiny.split(64, 2).inputs[tiny.INPUT])
    settings = {"ratio": 0.375, "importance": importance, "scope": "layer", "multiple": 1}
    found = trace(whole)
    scores = channel_importance.scores(whole, found, importance, tiny.training())
    group = next(group for group in found.groups if group.layers == ("conv",))
    goes, _ = channel_pruning.choose([group], scores, **{k: v for k, v in settings.items() if k != "importance"})
    smaller = channel_pruning.rebuild(whole, found, goes)
    after = smaller.predict_on_batch(tiny.split(64, 2).inputs[tiny.INPUT])
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert list(np.flatnonzero(goes[group.channels])) == dead


def test_taylor_finds_what_matters_better_than_weights_do():
    """A filter with large weights whose output is ignored: only its effect on the loss tells."""
    whole = loading.unpack(tiny.packed(Recipe()))[0]
    pointwise, hidden = whole.get_layer("pointwise"), whole.get_layer("hidden")
    kernel = pointwise.kernel.numpy()
    kernel[..., 3] *= 10
    pointwise.kernel.assign(kernel)
    ignored = hidden.kernel.numpy()
    ignored[3::16] = 0
    hidden.kernel.assign(ignored)
    found = trace(whole)
    group = next(group for group in found.groups if group.layers == ("pointwise",))
    ranks = {
        importance: int(
            np.argsort(channel_importance.scores(whole, found, importance, tiny.training())[group.channels])[0]
        )
        for importance in ("l2", "taylor")
    }
    assert ranks["taylor"] == 3 != ranks["l2"]


# --- as a stage


def test_the_stage_trains_the_smaller_model_and_the_file_is_smaller():
    recipe = Recipe(channels=Channels(ratio=0.5, multiple=4), finetune=Finetune(epochs=2))
    trained, reports = tiny.train(loading.unpack(tiny.packed(Recipe()))[0], recipe.stages())
    assert trained.get_layer("conv").filters == 4
    assert reports[0]["epochs"][-1]["accuracy"] > 0.8
    assert {row["layer"] for row in reports[0]["touched"]} == {"conv", "depthwise", "pointwise", "hidden", "scores"}
    whole, file = (conversion.float32(m) for m in (tiny.cnn(), trained))
    assert len(file) < 0.6 * len(whole)
    proof.prove(contents.read(file), recipe, reports)
    with pytest.raises(CandidateFailed, match="is not in the file"):
        proof.prove(contents.read(whole), recipe, reports)


def test_one_shot_models_are_as_small_as_trained_ones():
    [(name, values)] = tiny.settings(channels=Channels(ratio=0.5, multiple=4, importance="taylor"))
    start = tiny.packed(Recipe())
    made = stages.one_shot(name, loading.unpack(start)[0], dict(values), tiny.training())
    trained, _ = tiny.train(loading.unpack(start)[0], [(name, values)])
    assert [w.shape for w in made.weights] == [w.shape for w in trained.weights]


# --- models that people have


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "EfficientNetB0", "ResNet50", "DenseNet121"])
def test_well_known_models_lose_half_their_channels_everywhere(name):
    whole = getattr(tf_keras.applications, name)(input_shape=(64, 64, 3), weights=None, classes=10)
    rng = np.random.default_rng(0)
    # As trained: without it all scales are one and all variances alike.
    whole.set_weights(
        [w + rng.uniform(0.1, 0.3, w.shape).astype(w.dtype) if w.ndim == 1 else w for w in whole.get_weights()]
    )
    before = whole.count_params()
    wrapped = channel_pruning.wrap(whole, {**HALF, "multiple": 8}, None)
    assert wrapped.model.count_params() < 0.35 * before
    # What stays whole is small: fewer channels than are worth a multiple.
    assert all("no more than 8 channels" in row["why"] or "rounded" in row["why"] for row in wrapped.skipped)


def test_why_layers_stay_whole_is_said_by_what_they_do():
    stack = (
        layers.DepthwiseConv2D(3, name="depthwise"), layers.Conv2D(16, 3, name="conv"), layers.Flatten(),
        layers.Dense(8, name="hidden"), layers.Reshape((8, 1)), layers.LSTM(4, name="series"), layers.Dense(4, name="scores"),
    )  # fmt: skip
    wrapped = channel_pruning.wrap(tiny.network(*stack), HALF, None)
    why = {row["layer"]: row["why"] for row in wrapped.skipped}
    assert why["depthwise"] == "none of the channels that it takes is to go, rounded"
    assert why["series"] == "what its weights have to do with channels is not known for this kind of layer"
    assert why["scores"] == "its channels stay whole: they are the model's output"
