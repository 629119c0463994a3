"""Batch normalization inside the kernels before it."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression import batchnorm_folding
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune
from autoopt.models import loading
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, proof

layers = tf_keras.layers


def lived(*stack, shape=(8, 8, 3)):
    """A model whose normalizations have seen data, with nothing zero or one."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(*stack, shape=shape)
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()],
        [layers.Conv2D(6, 3), layers.BatchNormalization(scale=False), layers.ReLU()],
        [layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization(center=False)],
        [layers.Conv2DTranspose(5, 3), layers.BatchNormalization()],
        [layers.Flatten(), layers.Dense(6), layers.BatchNormalization()],
        [layers.Reshape((32, 6)), layers.Conv1D(6, 3), layers.BatchNormalization(), layers.DepthwiseConv1D(3),
         layers.BatchNormalization()],
    ],
)  # fmt: skip
def test_the_folded_model_computes_the_same(stack):
    model = lived(*stack)
    folded = batchnorm_folding.fold(model)
    assert "BatchNormalization" not in {type(layer).__name__ for layer in folded.layers}
    assert [layer.name for layer in folded.layers] == [layer.name for layer in model.layers]
    x = np.random.default_rng(1).normal(size=(16, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(folded.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "stack",
    [
        [layers.BatchNormalization(), layers.Conv2D(4, 3)],
        [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()],
        [layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.BatchNormalization()],
        [layers.Conv2D(4, 3), layers.BatchNormalization(axis=1)],
    ],
)
def test_what_cannot_be_folded_is_left(stack):
    model = lived(*stack)
    assert batchnorm_folding.fold(model) is model


def test_a_kernel_that_feeds_two_layers_is_left():
    x = inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(x)
    model = tf_keras.Model(inputs, layers.Add()([x, layers.BatchNormalization()(x)]))
    assert batchnorm_folding.fold(model) is model


def test_folded_clusters_are_whole_in_the_file():
    """Else the converter's folding gives each channel values of its own."""
    distinct = {}
    for fold in (False, True):
        recipe = Recipe(cluster=Cluster(number=6, fold=fold), finetune=Finetune(epochs=1))
        model, reports = tiny.train(loading.unpack(tiny.packed(Recipe()))[0], recipe.stages())
        assert reports[0]["epochs"][-1]["accuracy"] > 0.8
        contents = inspect.read(conversion.float32(model))
        proof.prove(contents, recipe, reports)
        distinct[fold] = next(len(np.unique(w.values)) for w in contents.weights if list(w.shape) == [8, 3, 3, 1])
    assert distinct[True] <= 6 < distinct[False]
