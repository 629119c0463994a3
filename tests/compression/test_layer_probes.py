"""What each technique does to one layer alone."""

import dataclasses

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression import channel_cuts, layer_probes
from autoopt.compression.layer_costs import Cost
from autoopt.core.probes import EIGHT_BITS, FEWER_CHANNELS, FORMS, FOUR_BITS, SEVEN_LEVELS, TECHNIQUES, Probes
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.models.task import Output, Split

layers = tf_keras.layers
NAMES = ["conv", "depthwise", "pointwise", "hidden", "scores"]


@pytest.fixture(scope="module")
def model() -> tf_keras.Model:
    """The tiny network, trained: outputs of an untrained one say nothing of quality."""
    return loading.unpack(tiny.packed(tiny.recipe()))[0]


@pytest.fixture(scope="module")
def found(model: tf_keras.Model) -> Probes:
    return layer_probes.probe(model, tiny.manifest(), tiny.split(256, 1))


def test_the_untouched_quality_is_what_keras_says(model: tf_keras.Model, found: Probes) -> None:
    x, labels = tiny.images(256, 1)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    assert found.items == 256
    assert found.quality == pytest.approx(model.evaluate(x, labels, verbose=0)[1])


def test_every_layer_has_every_form_and_the_model_is_as_it_was(found: Probes) -> None:
    again = layer_probes.probe(
        loading.unpack(tiny.packed(tiny.recipe()))[0], tiny.manifest(), tiny.split(256, 1), layers=["hidden"]
    )
    assert [probed.layer for probed in found.layers] == NAMES
    assert all(list(probed.forms) == list(FORMS) for probed in found.layers)
    assert [probed.layer for probed in again.layers if probed.forms] == ["hidden"]
    assert next(p for p in again.layers if p.forms) == next(p for p in found.layers if p.layer == "hidden")


def test_coarser_forms_do_more_harm(found: Probes) -> None:
    for probed in found.layers:
        errors = {name: form.effect.error for name, form in probed.forms.items()}
        assert errors[EIGHT_BITS] < errors[FOUR_BITS]
        assert errors[EIGHT_BITS] < errors[SEVEN_LEVELS]
        assert found.most_sensitive(FOUR_BITS) in NAMES


def test_one_layer_on_a_grid_changes_the_output_as_if_done_by_hand(model: tf_keras.Model, found: Probes) -> None:
    x, labels = tiny.images(256, 1)
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel, bias = copy.get_layer("hidden").get_weights()
    scale = np.abs(kernel).max(axis=0) / 127
    copy.get_layer("hidden").set_weights([np.round(kernel / scale) * scale, bias])
    before, after = model.predict(x, verbose=0), copy.predict(x, verbose=0)
    effect = found.effect("hidden", EIGHT_BITS)
    assert effect is not None
    assert effect.error == pytest.approx(np.square(after - before).sum() / np.square(before).sum(), rel=1e-3)
    right = [(outputs.argmax(axis=1) == labels).mean() for outputs in (before, after)]
    assert effect.change == pytest.approx(right[1] - right[0])


def test_channels_go_by_a_quarter_and_the_last_ones_stay(found: Probes) -> None:
    cuts = {cut.layers: cut for cut in found.cuts}
    assert list(cuts) == [("conv",), ("pointwise",), ("hidden",)]
    assert cuts["hidden",].left == {"hidden": 0.75, "scores": 0.75}
    assert cuts["conv",].left == {"conv": 0.75, "depthwise": 0.75, "pointwise": 0.75}
    assert "softmax" in found.whole["scores"]
    assert found.whole["depthwise"] == "its channels go with those that it takes"
    assert found.effect("scores", FEWER_CHANNELS) is None
    effect = found.effect("conv", FEWER_CHANNELS)
    assert effect is not None
    assert effect.error > 0


def test_a_layer_that_is_not_there_is_named_with_the_nearest(model: tf_keras.Model) -> None:
    with pytest.raises(CandidateFailed, match=r"no layer 'hiden' with a kernel; did you mean 'hidden'\?"):
        layer_probes.probe(model, tiny.manifest(), tiny.split(16, 1), layers=["hiden"])


def test_a_model_without_kernels_says_so() -> None:
    plain = tiny.network(layers.Flatten(), layers.Softmax())
    found = layer_probes.probe(plain, tiny.manifest(), tiny.split(16, 1))
    assert (found.reason, found.layers) == ("the model has no layers with kernels", ())
    with pytest.raises(CandidateFailed, match="no layer 'conv' with a kernel; it has none"):
        layer_probes.probe(plain, tiny.manifest(), tiny.split(16, 1), layers=["conv"])


def test_zero_weights_change_nothing() -> None:
    model = tiny.cnn()
    model.get_layer("hidden").set_weights([np.zeros((256, 16)), np.ones(16)])
    found = layer_probes.probe(model, tiny.manifest(), tiny.split(64, 1))
    effects = [found.effect("hidden", technique) for technique in TECHNIQUES[:3]]
    assert [(effect.error, effect.db, effect.change) for effect in effects if effect] == [(0.0, None, 0.0)] * 3


def test_outputs_that_never_change_have_no_noise() -> None:
    """The last layer's zeros hide all before it; the outputs are all zeros, so there is no signal either."""
    model = tiny.cnn(last=None)
    model.get_layer("scores").set_weights([np.zeros((16, 4)), np.zeros(4)])
    found = layer_probes.probe(model, tiny.manifest(), tiny.split(64, 1))
    assert all(form.effect.db is None for probed in found.layers for form in probed.forms.values())
    assert found.most_sensitive(FOUR_BITS) is None


def test_a_layer_of_one_channel_is_left_whole() -> None:
    model = tiny.network(
        layers.Conv2D(1, 3, name="one"), layers.Conv2D(2, 3, name="two"), layers.Flatten(), layers.Dense(4, name="last")
    )
    found = layer_probes.probe(model, tiny.manifest(), tiny.split(64, 1))
    assert found.cuts == ()
    assert found.whole["one"] == "a quarter of 1 channel is none"
    assert found.whole["two"] == "a quarter of 2 channels is none"
    assert found.effect("one", SEVEN_LEVELS) is not None


def test_tied_channels_are_cut_together() -> None:
    inputs = layers.Input((8, 8, 3), name=tiny.INPUT)
    a = layers.Conv2D(8, 3, padding="same", name="a")(inputs)
    b = layers.Conv2D(8, 3, padding="same", name="b")(a)
    x = layers.Flatten()(layers.Add()([a, b]))
    model = tf_keras.Model(inputs, layers.Dense(4, name="last")(x))
    data = Split(
        inputs={tiny.INPUT: np.random.default_rng(0).random((32, 8, 8, 3), np.float32)}, labels=np.zeros(32, int)
    )
    [cut] = layer_probes.probe(model, tiny.manifest(), data).cuts
    assert cut.layers == ("a", "b")
    assert cut.left == {"a": 0.75, "b": 0.75**2, "last": 0.75}


def test_a_large_model_has_its_batch_normalization_estimated_alone(
    model: tf_keras.Model, found: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solving kernels brings outputs nearer to the whole model's, but takes long where there are many."""
    monkeypatch.setattr(channel_cuts, "SOLVED", 3)
    plain = layer_probes.probe(model, tiny.manifest(), tiny.split(256, 1))
    assert channel_cuts.UNSOLVED in plain.notes
    assert found.notes == ()
    for solved, estimated in zip(found.cuts, plain.cuts, strict=True):
        assert solved.left == estimated.left
        assert solved.effect.error < estimated.effect.error


def test_a_metric_that_needs_more_items_costs_the_quality_alone() -> None:
    """As the AUC of items of one class."""
    model, data = tiny.cnn(), tiny.split(64, 1)
    alone = Split(inputs=data.inputs, labels=np.zeros(64, int))
    auc = tiny.manifest(metric={"name": "auc", "direction": "max", "unit": "fraction", "function": None})
    found = layer_probes.probe(model, auc, alone)
    assert found.quality is None
    assert "what becomes of the auc can't be told on 64 items: " in found.notes[0]
    effect = found.effect("conv", FOUR_BITS)
    assert effect is not None
    assert (effect.change, effect.error > 0) == (None, True)


def test_outputs_of_several_sizes_count_alike() -> None:
    inputs = layers.Input((8, 8, 1), name=tiny.INPUT)
    x = layers.Flatten()(inputs)
    large = layers.Lambda(lambda t: 1000 * t, name="large")(layers.Dense(3, name="a")(x))
    model = tf_keras.Model(inputs, [large, layers.Dense(2, name="b")(x)])
    outputs = (Output(name="large", shape=(3,), labels=(3,)), Output(name="b", shape=(2,), labels=(2,)))
    metric = {"name": "mae", "direction": "min", "unit": "", "function": None, "meaning": {"kind": "values"}}
    told = dataclasses.replace(tiny.manifest(metric=metric), outputs=outputs)
    data = Split(inputs=tiny.split(32, 1).inputs, labels=np.zeros((32, 5)))
    found = layer_probes.probe(model, told, data)
    first, second = (found.effect(name, FOUR_BITS) for name in "ab")
    assert first is not None
    assert second is not None
    assert 0.1 < first.error / second.error < 10


def costs(weights: list[int], each: int) -> list[Cost]:
    return [
        Cost(layer=f"l{place}", kind="Dense", weights=number, multiply_adds=each, dead=0)
        for place, number in enumerate(weights)
    ]


def test_large_models_are_probed_on_fewer_items_and_then_in_part() -> None:
    small = costs([5, 9, 7], 1000)
    assert layer_probes.affordable(small, 3000, 10_000) == (["l0", "l1", "l2"], layer_probes.ITEMS, [])
    assert layer_probes.affordable(small, 3000, 20)[1] == 20
    some = int(layer_probes.WORK / (3 * layer_probes.RUNS * 100))
    few = layer_probes.affordable(small, some, 10_000)
    assert few == (["l0", "l1", "l2"], 100, [])
    huge = int(layer_probes.WORK / (2 * layer_probes.RUNS * layer_probes.FEWEST_ITEMS))
    names, items, [note] = layer_probes.affordable(small, huge, 10_000)
    assert (names, items) == (["l1", "l2"], layer_probes.FEWEST_ITEMS)
    assert note == "it is a large model: only the 2 heaviest of 3 layers were probed"
