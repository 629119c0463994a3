"""What layers weigh and cost, and how much of a model training with quantization takes in."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression import layer_costs, quantization_aware
from autoopt.errors import CandidateFailed
from autoopt.models import loading
from autoopt.models.task import Split
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, interpreter

layers = tf_keras.layers


@pytest.mark.parametrize(
    ("layer", "shape", "weights", "adds"),
    [
        (layers.Dense(3), (5,), 15, 15),
        (layers.Dense(3), (7, 5), 15, 7 * 15),
        (layers.Conv2D(4, 3), (8, 8, 2), 72, 36 * 72),
        (layers.Conv2D(4, 3, strides=2, padding="same"), (8, 8, 2), 72, 16 * 72),
        (layers.DepthwiseConv2D(3), (8, 8, 2), 18, 36 * 18),
        (layers.Conv2DTranspose(4, 3), (6, 6, 2), 72, 36 * 72),
        (layers.Conv1D(4, 3), (10, 2), 24, 8 * 24),
        (layers.SeparableConv2D(4, 3), (8, 8, 2), 18 + 8, 36 * 26),
        (layers.LSTM(4), (6, 3), 4 * 4 * 7, 6 * 4 * 4 * 7),
        (layers.Embedding(20, 4), (6,), 80, 0),
    ],
)
def test_costs_are_those_of_the_formula(layer, shape, weights, adds):
    model = tiny.network(type(layer).from_config(layer.get_config()), shape=shape)
    [cost] = layer_costs.costs(model)
    assert (cost.weights, cost.multiply_adds) == (weights, adds)


def test_a_layer_that_is_called_twice_computes_twice():
    x = layers.Input((5,))
    again = layers.Dense(5)
    [cost] = layer_costs.costs(tf_keras.Model(x, again(again(x))))
    assert (cost.weights, cost.multiply_adds) == (25, 50)


def test_dead_weights_are_counted():
    model = tiny.network(layers.Dense(4), shape=(5,))
    model.layers[-1].kernel.assign(np.where(np.arange(20).reshape(5, 4) < 8, 1e-9, 1.0))
    [cost] = layer_costs.costs(model)
    assert cost.dead == 8


SERIES = (12, 3)


def with_norm():
    return layers.Normalization(mean=[0.1, 5.0, 300.0], variance=[0.01, 4.0, 900.0])


STACKS = {
    "conv1d": (1.0, [layers.Conv1D, 6, 3], "Flatten"),
    "lstm": (None, [layers.LSTM, 5], ""),
    "layer norm": (1.0, [layers.LayerNormalization], "Flatten"),
    "prelu": (None, [layers.PReLU], "Flatten"),
}


@pytest.mark.parametrize("name", list(STACKS))
def test_what_is_not_known_leaves_the_next_layer_in_integers(name):
    """A range for its output is all that it takes; its own weights stay in float, and are told of."""
    share, (kind, *arguments), flat = STACKS[name]
    stack = [kind(*arguments), *([layers.Flatten()] if flat else []), layers.Dense(4, name="last")]
    model = tiny.network(*stack, shape=SERIES)
    covered = layer_costs.of_qat(model)
    if share is not None:
        assert covered.weights == covered.multiply_adds == share
    else:
        assert 0 < covered.weights < 1
        assert covered.left == (kind.__name__,)
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, None)
    x = np.random.default_rng(0).normal(size=(64, *SERIES)).astype(np.float32)
    wrapped.model(x, training=True)
    contents = inspect.read(conversion.trained(wrapped.model, "qat_int8"))
    assert "last" in wrapped.touched
    assert [w.dtype for w in contents.weights if 4 in w.shape and "FULLY_CONNECTED" in w.ops] == ["int8"]
    assert {row["kind"] for row in wrapped.skipped} == set(covered.left)


def test_several_outputs_keep_their_places_through_training_with_quantization():
    """tfmot gives layers other names, and the file sorts its outputs by name."""
    x = layers.Input((8, 8, 2), name=tiny.INPUT)
    makers = {"z": layers.SeparableConv2D, "a": layers.Conv2D, "m": layers.Conv2D}
    model = tf_keras.Model(x, [layers.GlobalMaxPooling2D(name=f"p{i}")(make(2, 3, name=name)(x)) if name == "m"
                               else make(2, 3, name=name)(x) for i, (name, make) in enumerate(makers.items())])  # fmt: skip
    packed = loading.pack(model)
    wrapped = quantization_aware.wrap(
        loading.unpack(packed)[0], {"preserve_sparsity": False, "preserve_clusters": False}, None
    )
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 2)).astype(np.float32)
    for _ in range(3):
        wrapped.model(images, training=True)
    trained, _ = loading.unpack(loading.pack(wrapped.model, like=packed))
    assert trained.output_names == model.output_names
    found = interpreter.outputs_of(conversion.trained(trained, "qat_int8"), {tiny.INPUT: images}, 1, model.output_names)
    expected = np.concatenate([y.reshape(32, -1) for y in trained.predict_on_batch(images)], axis=1)
    assert np.abs(found - expected).max() < 0.1
    with pytest.raises(CandidateFailed, match="its outputs are named"):
        interpreter.outputs_of(conversion.float32(model), {tiny.INPUT: images}, 1, ["p2", "a", "b"])


@pytest.mark.parametrize("pooled", [layers.AveragePooling2D(2), None])
def test_averages_keep_the_scale_of_what_they_are_of(pooled):
    """As integers must; the converter refuses another one where a concatenation follows (DenseNet)."""
    x = inputs = layers.Input((8, 8, 2), name=tiny.INPUT)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = pooled(x) if pooled else layers.Reshape((8, 32))(x)
    x = x if pooled else layers.AveragePooling1D(2)(x)
    convolution = layers.Conv2D if pooled else layers.Conv1D
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, convolution(3, 3, padding="same", use_bias=False)(y)])
    model = tf_keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.ReLU()(layers.BatchNormalization()(x)))))
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, None)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 2)).astype(np.float32)
    for _ in range(3):
        wrapped.model(images, training=True)
    file = conversion.trained(wrapped.model, "qat_int8")
    found, expected = interpreter.outputs_of(file, {tiny.INPUT: images}, 1), wrapped.model.predict_on_batch(images)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    assert "AVERAGE_POOL_2D" in inspect.read(file).ops


def test_what_is_taken_apart_is_reported_by_its_name():
    stack = [
        layers.SeparableConv2D(6, 3, depth_multiplier=2, strides=2, padding="same", name="apart"),
        layers.BatchNormalization(), layers.ReLU(), layers.SeparableConv2D(3, 3, activation="relu", name="two"),
        layers.Flatten(), layers.Dense(2, name="last"),
    ]  # fmt: skip
    model = tiny.network(*stack)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    training = tiny.training(data=[Split(inputs={tiny.INPUT: images}, labels=np.zeros(64, int))] * 2)
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, training)
    assert wrapped.touched == ["apart", "two", "last"]
    rows = [(row["layer"], row["shape"]) for row in wrapped.describe(wrapped.model)]
    shapes = [("apart", [3, 3, 1, 2]), ("apart", [1, 1, 2, 6]), ("two", [3, 3, 6, 1]), ("two", [1, 1, 6, 3])]
    assert rows == [*shapes, ("last", [12, 2])]
    found = wrapped.model.predict_on_batch(images)
    expected = model.predict_on_batch(images)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    file = conversion.trained(wrapped.model, "qat_int8")
    assert inspect.read(file).integer_share == 1
    assert np.corrcoef(interpreter.outputs_of(file, {tiny.INPUT: images}, 1).ravel(), found.ravel())[0, 1] > 0.99


def test_ranges_begin_with_items_of_all_classes():
    """Those in front may all be of one, as in folders of images."""
    model = tiny.network(layers.Dense(4, name="dense"), shape=(1,))
    x = np.concatenate([np.full((300, 1), 1.0), np.full((300, 1), 50.0)]).astype(np.float32)
    training = tiny.training(data=[Split(inputs={tiny.INPUT: x}, labels=np.zeros(600, int))] * 2)
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, training)
    highest = [float(w.numpy()) for w in wrapped.model.weights if "quantize_layer" in w.name and "max" in w.name]
    assert highest == [pytest.approx(50, rel=0.01)]


def test_two_inputs_may_share_their_normalization():
    a, b = layers.Input((3,)), layers.Input((3,))
    norm = with_norm()
    model = tf_keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([norm(a), norm(b)])))
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, None)
    assert wrapped.touched


def test_normalization_stays_before_the_ranges():
    """Features of all sizes share one range; before they are normalized it would drown the small ones."""
    stack = [layers.Rescaling(2.0), with_norm(), layers.Dense(16, activation="relu"), layers.Dense(2)]
    model = tiny.network(*stack, shape=(3,))
    x = np.random.default_rng(0).normal([0.05, 2.5, 150], [0.05, 1, 15], (256, 3)).astype(np.float32)
    training = tiny.training(data=[Split(inputs={tiny.INPUT: x}, labels=np.zeros(256, int))] * 2)
    wrapped = quantization_aware.wrap(model, {"preserve_sparsity": False, "preserve_clusters": False}, training)
    for _ in range(3):
        wrapped.model(x, training=True)
    file = conversion.trained(wrapped.model, "qat_int8")
    found = interpreter.outputs_of(file, {wrapped.model.input_names[0]: x}, 1)
    expected = model.predict_on_batch(x)
    correlation = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    assert correlation > 0.99
    assert inspect.read(file).float_islands.keys() <= {"MUL", "SUB", "ADD"}
