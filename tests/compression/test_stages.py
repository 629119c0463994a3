"""The training stages, on models so small that an epoch takes a moment."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.compression import stages
from autoopt.compression.batches import batches
from autoopt.compression.training_state import Progress
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import INITIALISATIONS, Channels, Cluster, Finetune, Levels, Prune
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.tflite import conversion, interpreter

layers = tf_keras.layers
SHORT = (tiny.split(64, 1), tiny.split(32, 2))
PRUNE = Prune(sparsity=0.5, frequency=2)
CLUSTER = Cluster(number=6)


def dense():
    tf_keras.utils.set_random_seed(0)
    return tiny.network(
        layers.Flatten(), layers.Dense(16, activation="relu", name="hidden"), layers.Dense(4, "softmax", name="scores")
    )


def single():
    tf_keras.utils.set_random_seed(0)
    return tiny.network(layers.Flatten(), layers.Dense(4, "softmax", name="scores"))


def convolutions():
    """Of 1 and 6 input channels: fewer than 4, and no multiple of it."""
    tf_keras.utils.set_random_seed(0)
    return tiny.network(
        layers.Conv2D(6, 3, strides=2, name="first"),
        layers.Conv2D(8, 3, activation="relu", name="second"),
        layers.Flatten(),
        layers.Dense(8, "softmax", name="scores"),
    )


def kernels(model):
    """By the layer's name, whatever is wrapped around it."""
    found = [(layer.name, w) for layer in model.layers for w in layer.weights if w.name.endswith("kernel:0")]
    return {name.removeprefix("quant_"): weight.numpy() for name, weight in found}


def touched(report):
    return [row["layer"] for row in report["touched"]]


def skipped(report):
    return {row["layer"]: row["why"] for row in report["skipped"]}


def channel_counts(kernel):
    return [len(np.unique(channel)) for channel in kernel.reshape(-1, kernel.shape[-1]).T]


# --- prune


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "constant"},
        {"schedule": "constant", "begin": 0.99},
        {"begin": 0.0, "end": 0.5, "frequency": 1000},
        {"begin": 0.3, "end": 1.0, "frequency": 3},
        {"begin": 0.9, "end": 0.95, "frequency": 1},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_every_schedule_arrives_at_its_sparsity(settings):
    chain = tiny.settings(epochs=2, batch_size=16, prune=Prune(sparsity=0.7, **settings))
    model, [report] = tiny.train(single(), chain, data=SHORT)
    assert touched(report) == ["scores"]
    kernel = kernels(model)["scores"]
    assert abs((kernel == 0).sum() - 0.7 * kernel.size) <= 1


def test_pruning_takes_the_smallest_weights():
    before = kernels(single())["scores"]
    prune = Prune(sparsity=0.5, schedule="constant")
    model, _ = tiny.train(single(), tiny.settings(learning_rate=1e-6, prune=prune), data=SHORT)
    gone = kernels(model)["scores"] == 0
    assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min() + 1e-4


def test_m_by_n_holds_along_the_input_channels():
    prune = Prune(sparsity=0, structure="2:4", begin=0.9, end=1.0)
    SCRIPT[:] = [0.9, 0.1]  # the first epoch is the better one; the pattern must hold in it too
    model, [report] = tiny.train(
        convolutions(), tiny.settings(epochs=2, prune=prune), told=scripted_metric(), data=SHORT
    )
    assert report["best_epoch"] == 1
    assert touched(report) == ["second", "scores"]
    assert skipped(report) == {"first": "fewer than 4 input channels to choose from"}
    found = kernels(model)
    for name in touched(report):
        rows = np.moveaxis(found[name], -2, -1).reshape(-1, found[name].shape[-2])
        for start in range(0, rows.shape[1], 4):
            group = rows[:, start : start + 4]
            assert ((group != 0).sum(axis=1) == min(2, group.shape[1])).all(), name
    assert (found["first"] != 0).all()


def test_blocks_are_zero_as_a_whole():
    prune = Prune(sparsity=0.5, structure="1x4", frequency=1)
    model, [report] = tiny.train(convolutions_and_dense(), tiny.settings(prune=prune), data=SHORT)
    assert touched(report) == ["hidden"]
    assert set(skipped(report)) == {"conv", "scores"}
    zeros = (kernels(model)["hidden"].reshape(-1, 4) == 0).sum(axis=1)
    assert set(zeros) == {0, 4}
    assert (zeros == 4).mean() == pytest.approx(0.5, abs=0.01)


def convolutions_and_dense():
    tf_keras.utils.set_random_seed(0)
    hidden = layers.Dense(16, activation="relu", name="hidden")
    return tiny.network(layers.Conv2D(6, 3, name="conv"), layers.Flatten(), hidden, layers.Dense(4, name="scores"))


# --- cluster


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_every_initialisation_gives_at_most_that_many_weights(initialisation):
    cluster = Cluster(number=5, initialisation=initialisation)
    model, [report] = tiny.train(single(), tiny.settings(cluster=cluster), data=SHORT)
    assert touched(report) == ["scores"]
    assert 2 <= len(np.unique(kernels(model)["scores"])) <= 5


def test_clusters_per_channel_are_each_channels_own():
    cluster = Cluster(number=3, per_channel=True)
    conv = layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv")  # tfmot leaves these out if asked its usual way
    model = tiny.network(conv, layers.Flatten(), layers.Dense(4, "softmax", name="scores"))
    model, [report] = tiny.train(model, tiny.settings(cluster=cluster), data=SHORT)
    found = kernels(model)
    assert touched(report) == list(found)
    assert max(channel_counts(found["conv"])) <= 3 < len(np.unique(found["conv"]))
    assert len(np.unique(found["scores"])) <= 3  # dense layers have no channels


def test_clustering_keeps_the_zeros_of_pruning():
    before, after = (kernels(loading.unpack(tiny.packed(r))[0]) for r in (PRUNED, PRUNED_CLUSTERED))
    for name in ("conv", "pointwise", "hidden", "scores"):
        assert (before[name] == 0).mean() == 0.5
        assert (after[name][before[name] == 0] == 0).all()
        assert len(np.unique(after[name])) <= CLUSTER.number


def test_layers_too_small_to_cluster_keep_their_zeros():
    prune, cluster = Prune(sparsity=0.5, schedule="constant"), Cluster(number=40)
    chain = tiny.settings(prune=prune, cluster=cluster)
    model, [_, report] = tiny.train(dense(), chain, data=SHORT)
    assert skipped(report) == {"scores": "holds no more than 40 nonzero weights"}
    assert (kernels(model)["scores"] == 0).mean() == 0.5


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"prune": PRUNE}, "tfmot never prunes this kind of layer"),
        ({"cluster": CLUSTER}, "tfmot never clusters this kind of layer"),
    ],
    ids=["prune", "cluster"],
)
def test_depthwise_layers_are_reported_as_skipped(parts, why):
    _, [report] = loading.unpack(tiny.packed(tiny.recipe(**parts)))
    assert report["skipped"] == [{"layer": "depthwise", "kind": "DepthwiseConv2D", "why": why}]
    assert touched(report) == ["conv", "pointwise", "hidden", "scores"]


# --- qat

PRUNED = tiny.recipe(prune=PRUNE)
CLUSTERED = tiny.recipe(cluster=CLUSTER)
PRUNED_CLUSTERED = tiny.recipe(prune=PRUNE, cluster=CLUSTER)
BEFORE_QAT = {"QAT": tiny.recipe(), "PQAT": PRUNED, "CQAT": CLUSTERED, "PCQAT": PRUNED_CLUSTERED}


@pytest.mark.parametrize("name", BEFORE_QAT)
def test_quantization_aware_training_keeps_zeros_and_clusters(name):
    recipe = BEFORE_QAT[name]
    before, _ = loading.unpack(tiny.packed(recipe))
    after, reports = loading.unpack(tiny.packed(tiny.recipe("qat_int8", prune=recipe.prune, cluster=recipe.cluster)))
    assert touched(reports[-1]) == ["conv", "depthwise", "pointwise", "hidden", "scores"]
    before, after = kernels(before), kernels(after)
    assert set(before) == set(after)
    for layer, kernel in after.items():
        assert not np.array_equal(kernel, before[layer]), f"{layer} was not trained"
        if recipe.prune is not None and layer != "depthwise":
            assert (kernel == 0).mean() == 0.5
            assert (kernel[before[layer] == 0] == 0).all()
        if recipe.cluster is not None and layer != "depthwise":
            assert len(np.unique(kernel)) <= CLUSTER.number
        if recipe.cluster is None:
            assert len(np.unique(kernel)) > 2 * CLUSTER.number


# --- training


def test_reports_describe_the_model():
    recipe = PRUNED_CLUSTERED
    model, reports = loading.unpack(tiny.packed(recipe))
    found = kernels(model)
    assert [r["stage"] for r in reports] == ["prune", "cluster"]
    for row in reports[-1]["touched"]:
        kernel = found[row["layer"]]
        assert row["shape"] == list(kernel.shape)
        assert row["sparsity"] == (kernel == 0).mean()
        assert row["distinct"] == len(np.unique(kernel))
        assert row["distinct_per_channel"] == max(channel_counts(kernel))


SCRIPT: list[float] = []
OUTPUTS: list[np.ndarray] = []


def scripted(labels, outputs):
    """A metric that says what the test wants, and remembers what it was shown."""
    OUTPUTS.append(outputs)
    return SCRIPT[(len(OUTPUTS) - 1) % len(SCRIPT)]


def scripted_metric(direction="max"):
    OUTPUTS.clear()
    function = {"module": __name__, "name": "scripted"}
    return tiny.manifest(metric={"name": "scripted", "direction": direction, "unit": "", "function": function})


@pytest.mark.parametrize(
    ("direction", "script", "best"),
    [("max", [0.2, 0.9, 0.5], 2), ("min", [0.2, 0.2, 0.5], 2)],  # of equal ones the later: it trained longer
)
def test_the_best_epoch_by_validation_is_kept(direction, script, best):
    SCRIPT[:] = script
    said = []
    model, [report] = tiny.train(
        single(),
        tiny.settings(epochs=3, cluster=Cluster(number=8)),
        told=scripted_metric(direction),
        data=SHORT,
        progress=said.append,
    )
    assert report["best_epoch"] == best
    assert [epoch["scripted"] for epoch in report["epochs"]] == script
    assert said == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    outputs = model.predict(SHORT[1].inputs[tiny.INPUT], verbose=0)
    errors = [np.abs(outputs - seen).max() for seen in OUTPUTS]
    assert np.argmin(errors) == best - 1
    assert errors[best - 1] < 1e-5


def test_no_epoch_is_best_before_pruning_is_done():
    SCRIPT[:] = [0.9, 0.8, 0.1]
    prune = Prune(sparsity=0.75, end=0.6, frequency=1)
    model, [report] = tiny.train(single(), tiny.settings(epochs=3, prune=prune), told=scripted_metric(), data=SHORT)
    assert report["best_epoch"] == 2
    assert (kernels(model)["scores"] == 0).mean() == 0.75


def weights_of(seed):
    prune = Prune(sparsity=0.5, frequency=1)
    model, _ = tiny.train(single(), tiny.settings(seed=seed, batch_size=16, prune=prune), data=SHORT)
    return model.get_weights()


def test_the_seed_decides_the_weights():
    first, again, other = weights_of(1), weights_of(1), weights_of(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def no_number(labels, outputs):
    return tf.reduce_mean(outputs) * float("nan")


def uphill(labels, outputs):
    """Descending it makes it grow."""
    value = tf.reduce_mean(tf.square(outputs))
    return 2 * tf.stop_gradient(value) - value


@pytest.mark.parametrize("parts", [{"prune": PRUNE}, {"cluster": CLUSTER}, {"scheme": "qat_int8"}], ids=str)
def test_a_loss_that_is_no_number_fails_the_candidate(parts):
    told = tiny.manifest(loss={"module": __name__, "name": "no_number"})
    [(stage, _)] = chain = tiny.settings(**parts)
    with pytest.raises(CandidateFailed) as caught:
        tiny.train(single(), chain, told=told, data=SHORT)
    assert caught.value.stage == stage
    assert caught.value.reason == "the loss became nan in epoch 1"


BOTH = {"prune": PRUNE, "cluster": CLUSTER, "scheme": "qat_int8"}


@pytest.mark.parametrize("last", range(3), ids=["prune", "cluster", "qat"])
def test_going_on_from_the_first_epochs_gives_the_very_same_model(last):
    chain = tiny.settings(epochs=3, **BOTH)
    model, _ = tiny.train(dense(), chain[:last], data=SHORT)
    start = loading.pack(model)
    name, values = chain[last]
    heard = []
    training = tiny.training(data=SHORT, progress=heard.append)
    at_once, report = stages.run(name, loading.unpack(start)[0], values, training)
    begun = stages.begin(name, loading.unpack(start)[0], values, training)
    assert len(begun.history) == report["judged_epoch"] < 3
    assert begun.history == report["epochs"][: len(begun.history)]
    kept = Progress.from_bytes(begun.to_bytes())
    heard.clear()
    resumed, again = stages.run(name, loading.unpack(start)[0], values, training, begun=kept)
    assert heard[0] == f"epoch {report['judged_epoch'] + 1}/3"
    assert again["epochs"] == report["epochs"]
    assert all(np.array_equal(a, b) for a, b in zip(at_once.get_weights(), resumed.get_weights(), strict=True))


def test_one_shot_models_have_masks_and_centroids_and_lose_no_more():
    chain = tiny.settings(prune=PRUNE, cluster=CLUSTER)
    before, model = kernels(dense())["hidden"], dense()
    for name, values in chain:
        model = stages.one_shot(name, model, dict(values))
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in dense().layers]
    after = kernels(model)["hidden"]
    assert (after == 0).mean() == pytest.approx(PRUNE.sparsity, abs=0.01)
    assert len(np.unique(after)) <= CLUSTER.number
    gone = after == 0
    assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
    assert np.abs(after - before).max() < np.abs(before).max()


@pytest.mark.parametrize("structure", ["2:4", "1x4"])
def test_one_shot_models_have_the_pattern(structure):
    [(name, values)] = tiny.settings(prune=Prune(sparsity=0.5, structure=structure))
    model = stages.one_shot(name, convolutions_and_dense(), dict(values))
    assert (kernels(model)["hidden"] == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_every_epoch_sees_all_data_in_an_order_of_its_own():
    data = tiny.split(50, 1)
    seen = np.concatenate([x.numpy() for x, _ in batches(data, 16, range(2), 3, data.labels)])
    first, second = seen[:50], seen[50:]
    for epoch in (first, second):
        assert sorted(map(bytes, epoch)) == sorted(map(bytes, data.inputs[tiny.INPUT]))
    assert not np.array_equal(first, second)
    alone = np.concatenate([x.numpy() for x, _ in batches(data, 16, range(1, 2), 3, data.labels)])
    assert np.array_equal(alone, second)


def test_a_metric_that_is_no_number_fails_the_candidate():
    SCRIPT[:] = [0.5, float("nan")]
    with pytest.raises(CandidateFailed) as caught:
        tiny.train(single(), tiny.settings(epochs=2, prune=PRUNE), told=scripted_metric(), data=SHORT)
    assert str(caught.value) == "prune: scripted on validation is nan after epoch 2"


def test_a_loss_that_explodes_fails_the_candidate():
    model = tiny.network(layers.Flatten(), layers.Dense(16, name="hidden"), layers.Dense(4, name="scores"))
    told = tiny.manifest(loss={"module": __name__, "name": "uphill"})
    chain = tiny.settings(epochs=4, learning_rate=0.3, cluster=Cluster(number=8))
    with pytest.raises(CandidateFailed, match=r"diverged: loss .* after epoch"):
        tiny.train(model, chain, told=told, data=SHORT)


def test_a_model_without_a_layer_for_it_fails_the_candidate():
    model = tiny.network(layers.Conv2D(6, 3, name="first"), layers.GlobalAveragePooling2D())
    with pytest.raises(CandidateFailed) as caught:
        tiny.train(model, tiny.settings(prune=Prune(sparsity=0, structure="2:4")), data=SHORT)
    assert str(caught.value) == "prune: no layer of this model can take it"


BACKBONE = ("conv", "norm", "depthwise", "pointwise")
EACH = {
    "channels": {"channels": Channels(ratio=0.5, multiple=1)},
    "prune": {"prune": Prune(sparsity=0.5)},
    "cluster": {"cluster": Cluster(number=4)},
    "levels": {"levels": Levels(number=5)},
    "qat": {"scheme": "qat_int8"},
}
"""A recipe of each stage."""


def run_once(model, parts, **tuning):
    finetune = Finetune(epochs=1, learning_rate=1e-2, **tuning)
    [(name, settings)] = Recipe(finetune=finetune, **parts).stages()
    trained, report = stages.run(name, model, settings, tiny.training())
    return loading.unpack(loading.pack(trained, [report]))[0], report


def layer_weights(model, name):
    """Weights of a layer by name, without what a technique added to it."""
    found = next(layer for layer in model.layers if layer.name.removeprefix("quant_") == name)
    layer = getattr(found, "layer", found)
    own = getattr(found, "_weight_vars", ())
    return [w.numpy() for w in layer.weights] + [kernel.numpy() for kernel, *_ in own]


@pytest.mark.parametrize("name", list(EACH))
@pytest.mark.parametrize("frozen", ["train", "keep"])
def test_frozen_layers_are_trained_or_left_alone(name, frozen):
    model = tiny.cnn()
    for layer in BACKBONE:
        model.get_layer(layer).trainable = False
    before = {layer: layer_weights(model, layer) for layer in BACKBONE}
    trained, report = run_once(model, EACH[name], frozen=frozen, recalibrate=True)

    def changed(layer):
        found = layer_weights(trained, layer)
        values = {(w.shape, w.tobytes()) for w in before[layer]}
        return not {(w.shape, w.tobytes()) for w in found if len(w.shape) > 1 or layer == "norm"} <= values

    assert not changed("norm") or (name == "channels" and frozen == "train")  # it became smaller
    assert {layer for layer in BACKBONE if changed(layer)} - {"norm"} == (
        {"conv", "depthwise", "pointwise"} if frozen == "train" else set()
    )
    touched = {row["layer"] for row in report["touched"]}
    reasons = {row["layer"]: row["why"] for row in report["skipped"]}
    if frozen == "train":
        assert {"conv", "pointwise"} <= touched
        assert not any("frozen" in why for why in reasons.values())
    elif name != "qat":  # a file is quantized as a whole
        assert {"hidden"} <= touched
        assert not touched & set(BACKBONE)
        assert {reasons[layer] for layer in ("conv", "depthwise", "pointwise")} == {
            "it is frozen, and finetune.frozen is keep"
        }


@pytest.mark.parametrize("frozen", ["train", "keep"])
def test_a_model_is_trained_further_as_it_is(frozen):
    """It trains, for what a technique leaves alone shows in the trained weights only."""
    model = tiny.cnn()
    for layer in BACKBONE:
        model.get_layer(layer).trainable = False
    before = [w.copy() for w in model.get_weights()]
    tuning = Finetune(epochs=1, learning_rate=1e-2, frozen=frozen)
    [(name, settings)] = Recipe(tune=tuning).stages()
    trained, report = stages.run(name, model, settings, tiny.training())
    assert [w.shape for w in trained.get_weights()] == [w.shape for w in before]
    changed = {row["layer"] for row in report["touched"]}
    reasons = {row["layer"] for row in report["skipped"]}
    assert not any(np.array_equal(a, b) for a, b in zip(before, trained.get_weights(), strict=True) if a.ndim > 1) or (
        frozen == "keep"
    )
    assert ("conv" in changed) == (frozen == "train")
    assert ("conv" in reasons) == (frozen == "keep")
    assert report["stage"] == "tune"
    assert len(report["epochs"]) == report["judged_epoch"] == 1


@pytest.mark.parametrize("name", ["prune", "qat"])
def test_a_model_that_is_frozen_and_kept_has_nothing_to_train(name):
    model = tiny.cnn()
    model.trainable = False
    with pytest.raises(CandidateFailed, match=r"finetune.frozen is keep"):
        run_once(model, EACH[name], frozen="keep")


def augmented(crop):
    kinds = (layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomContrast(0.1))
    return tiny.network(
        *((layers.RandomCrop(6, 6),) if crop else kinds),
        layers.Conv2D(8, 3, name="conv"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    )


@pytest.mark.parametrize("name", list(EACH))
@pytest.mark.parametrize("crop", [False, True])
def test_augmentation_is_on_in_every_stage_and_off_in_its_file(name, crop):
    trained, _ = run_once(loading.load(augmented(crop)), EACH[name])
    x, _ = tiny.images(8, 3)
    wanted = trained.predict_on_batch(x)
    file = conversion.trained(trained, "qat_int8") if name == "qat" else conversion.float32(trained)
    np.testing.assert_allclose(
        interpreter.outputs_of(file, {tiny.INPUT: x}, 1), wanted, atol=0.05 if name == "qat" else 1e-3
    )
    np.testing.assert_array_equal(trained(x, training=False), trained(x, training=False))
    assert np.abs(np.asarray(trained(x, training=True)) - trained(x, training=True)).max() > 1e-3


class Fixed(layers.Layer):
    """A kernel that no training changes."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", shape=(int(shape[-1]), 4), trainable=False)

    def call(self, inputs):
        return inputs @ self.kernel


def test_a_kernel_that_is_never_trained_is_not_blamed_on_its_kind():
    model = tiny.network(layers.Flatten(), Fixed(name="fixed"), layers.Dense(16), layers.Dense(4, "softmax"))
    wrapped = stages.STAGES["cluster"](model, {**tiny.settings(cluster=CLUSTER)[0][1]}, None)
    assert {row["layer"]: row["why"] for row in wrapped.skipped} == {"fixed": "none of its weights are ever trained"}
