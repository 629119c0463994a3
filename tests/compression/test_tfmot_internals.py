"""What tfmot has in no public module is still there, and is what `tfmot_internals` says."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from autoopt.compression import tfmot_internals as internals

layers = tf_keras.layers
quantization = tfmot.quantization.keras


class Own(layers.Layer):
    """A kind of layer that nobody else knows."""

    def build(self, shape):
        self.weight = self.add_weight("weight", shape=(int(shape[-1]), 2))


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


@pytest.mark.parametrize(
    ("knows", "kernels"), [(internals.prunes, internals.prunable), (internals.clusters, internals.clusterable)]
)
def test_kinds_of_layers_and_their_kernels_are_known(knows, kernels):
    dense = built(layers.Dense(2), 3)
    assert knows(dense)
    assert [kernel.shape for kernel in kernels(dense)] == [(3, 2)]
    assert not knows(built(Own(), 3))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(layers.Dense(4), (8,)), (layers.Conv2D(4, 3, use_bias=False), (8, 8, 1))],
    ids=["dense", "conv"],
)
def test_a_layer_is_clustered_with_its_zeros_kept(layer, shape):
    built(layer, *shape)
    layer.kernel.assign(tf.where(layer.kernel > 0, layer.kernel, 0.0))
    zeros = layer.kernel.numpy() == 0
    wrapped = internals.clustered(
        layer,
        number_of_clusters=3,
        cluster_centroids_init=tfmot.clustering.keras.CentroidInitialization.LINEAR,
        preserve_sparsity=True,
        cluster_per_channel=False,
    )
    wrapped(tf.ones((1, *shape)), training=True)
    kernel = layer.kernel.numpy()
    assert zeros.any()
    assert (kernel[zeros] == 0).all()
    assert len(np.unique(kernel)) <= 3


def test_what_is_quantized_of_a_layer():
    dense = built(layers.Dense(2, activation="relu"), 3)
    assert internals.quantize_registry().supports(dense)
    [(kernel, quantizer)] = internals.quantized_kernel().get_weights_and_quantizers(dense)
    assert kernel is dense.kernel
    assert not quantizer.per_axis
    assert internals.unquantized().get_output_quantizers(dense) == []
    assert len(internals.quantized_output().get_output_quantizers(dense)) == 1
    assert internals.unquantized_activation()(tf.constant(-1.5)) == -1.5


def test_a_scheme_lays_layers_out():
    made = internals.quantize_scheme()()
    assert isinstance(made.get_layout_transformer(), internals.quantize_layout())


def test_quantizers_look_their_operation_up(monkeypatch):
    seen = []

    def watched(inputs, *others, **named):
        seen.append(inputs.shape)
        return inputs

    monkeypatch.setattr(internals.quantize_operations(), "MovingAvgQuantize", watched)
    model = quantization.quantize_model(tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(2)]))
    model(tf.zeros((1, 3)), training=True)
    assert (1, 2) in seen
