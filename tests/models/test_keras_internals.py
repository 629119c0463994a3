"""What libraries give under no public name is still there, and is what `keras_internals` says."""

import importlib.util
import linecache
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from autoopt.models import keras_internals as internals


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
def test_calls_come_in_an_order_in_which_they_can_be_made(library):
    given = library.Input((4,))
    shared = library.layers.Dense(4, name="shared")
    outputs = library.layers.Add(name="sum")([given, shared(shared(given))])
    model = library.Model(given, outputs)
    calls = internals.calls_in_order(model)
    assert [node.is_input for node in calls] == [True, False, False, False]
    names = [getattr(node, "operation", None) or node.layer for node in calls]
    assert [layer.name for layer in names[1:]] == ["shared", "shared", "sum"]


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
def test_a_sequential_model_has_a_graph_once_it_is_built(library):
    model = library.Sequential([library.layers.Dense(2)])
    assert internals.calls_in_order(internals.within_sequential(model)) == []
    model.build((None, 3))
    if library is tf_keras:  # built without an Input layer, it has weights but no graph
        model = library.Sequential([library.Input((3,)), *model.layers])
    assert len(internals.calls_in_order(internals.within_sequential(model))) == 2


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
def test_layers_inside_of_others_are_found(library):
    inner = library.Sequential([library.Input((3,)), library.layers.Dense(2, name="deep")])
    model = library.Sequential(
        [library.Input((5, 3)), library.layers.TimeDistributed(inner), library.layers.LSTM(2, name="series")]
    )
    assert {"deep", "series"} <= {layer.name for layer in internals.all_layers(model)}
    assert internals.all_layers(model)[0] is model


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
def test_tensors_carry_masks(library):
    given = library.Input((5, 3))
    assert internals.mask_of(given) is None
    assert internals.mask_of(library.layers.Masking()(given)) is not None


def test_calls_of_a_layer_of_keras_3():
    given, layer = keras.Input((3,)), keras.layers.Dense(2)
    assert list(internals.calls_of(layer)) == []
    layer(given)
    [call] = internals.calls_of(layer)
    assert call.input_tensors[0] is given


def test_tensors_of_a_graph_are_told_from_values():
    given = tf_keras.Input((3,))
    assert internals.in_graph(given)
    assert internals.in_graph(tf_keras.layers.Dense(2)(given))
    assert not any(map(internals.in_graph, [tf.zeros(3), np.zeros(3), 1.0, None, keras.Input((3,)).shape]))


@pytest.mark.parametrize(
    ("layer", "training", "mask"),
    [
        (tf_keras.layers.Dense(2), False, False),
        (tf_keras.layers.Dropout(0.5), True, False),
        (tf_keras.layers.LSTM(2), True, True),
        (tf_keras.layers.GlobalAveragePooling1D(), False, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_layer_takes(layer, training, mask):
    assert internals.takes_argument(layer, "training") is training
    assert internals.takes_argument(layer, "mask") is mask


def test_settings_that_a_loss_of_keras_3_gives_its_function():
    assert internals.settings_of_function(keras.losses.Huber(delta=2.0))["delta"] == 2.0
    assert internals.settings_of_function(object()) == {}


def test_weights_of_a_layer_change_hands_without_being_trained():
    layer = tf_keras.layers.BatchNormalization()
    layer.build((None, 3))
    trained, others = internals.own_weights(layer)
    assert (len(trained), len(others)) == (2, 2)
    internals.set_own_weights(layer, [], [*others, *trained])
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 4
    internals.set_own_weights(layer, trained, others)
    assert internals.own_weights(layer) == (trained, others)


def test_kernels_that_are_quantized_in_training():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    assert internals.quantized_weights(model.layers[0]) is None
    wrapped = tfmot.quantization.keras.quantize_model(model).layers[-1]
    [(kernel, quantizer, variables)] = internals.quantized_weights(wrapped)
    assert kernel.shape == (3, 2)
    seen = []

    def watched(values, training, weights, **others):
        seen.append(values.shape)
        return quantizer(values, training, weights=weights, **others)

    internals.set_quantized_weights(wrapped, [(kernel, watched, variables)])
    wrapped(tf.zeros((1, 3)), training=True)
    assert seen == [(3, 2)]


def test_functional_models_have_a_class_of_their_own():
    given = tf_keras.Input((3,))
    assert type(tf_keras.Model(given, given)) is internals.functional_class()
    assert issubclass(internals.functional_class(), tf_keras.Model)


def test_code_is_refused_in_safe_mode_alone():
    saved = tf_keras.layers.serialize(tf_keras.layers.Lambda(lambda x: x))
    with internals.safe_mode(True), pytest.raises(ValueError, match="arbitrary code"):
        tf_keras.layers.deserialize(saved, use_legacy_format=False)
    with internals.safe_mode(False):
        tf_keras.layers.deserialize(saved, use_legacy_format=False)


def test_a_loss_is_reduced_as_in_training():
    loss = internals.reduced(tf_keras.losses.MeanSquaredError())
    labels, outputs, weights = tf.zeros((2, 1)), tf.constant([[1.0], [3.0]]), tf.constant([1.0, 0.0])
    assert float(loss(labels, outputs)) == 5
    assert float(loss(labels, outputs, sample_weight=weights)) == 0.5


def test_a_model_of_keras_3_takes_what_it_was_given():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    [spec] = tf.nest.flatten(internals.input_signature(model))
    assert tuple(spec.shape) == (None, 3)


BRANCHES = """
def outer(high):
    def larger(x):
        if x > high:
            return x
        return x + high
    return larger

class Kind:
    def method(self, x):
        return outer(3.0)(x)
"""


@pytest.fixture
def branches(tmp_path, monkeypatch):
    """A module of functions that can be called in a graph only if they are translated; and its file, which that takes."""
    path = tmp_path / "branches.py"
    path.write_text(BRANCHES)
    spec = importlib.util.spec_from_file_location("branches", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "branches", module)
    spec.loader.exec_module(module)
    return module, path


def test_what_is_translated_ahead_needs_no_source_when_it_is_called(branches):
    """With whatever its closure holds then: it is translated without."""
    module, path = branches
    for name, given in (("Kind.method", True), ("outer", False), ("outer.larger", False)):
        internals.translate(internals.function_at("branches", name), given=given)
    path.unlink()
    linecache.clearcache()
    assert float(tf.function(module.Kind().method)(tf.constant(1.0))) == 4
    assert float(tf.function(module.Kind().method)(tf.constant(5.0))) == 5


def test_functions_are_found_by_their_names_or_not_at_all(branches):
    module, _ = branches
    assert internals.function_at("branches", "outer") is module.outer
    assert internals.function_at("branches", "outer.larger").__code__ is module.outer(1.0).__code__
    for name in ("inner", "outer.smaller", "Kind", "Kind.other"):
        with pytest.raises(AttributeError):
            internals.function_at("branches", name)
    with pytest.raises(ImportError):
        internals.function_at("no.such.module", "outer")
