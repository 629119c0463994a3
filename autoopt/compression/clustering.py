"""Weight clustering, by tensorflow-model-optimization; keeps the zeros of pruning before it."""

from typing import Any

import numpy as np

from autoopt.compression import tfmot_internals
from autoopt.compression.batchnorm_folding import fold
from autoopt.compression.training import Training
from autoopt.compression.wrapping import KEPT, Wrapped, clone, kept, kernels

_CENTROIDS = {"linear": "LINEAR", "density": "DENSITY_BASED", "kmeans++": "KMEANS_PLUS_PLUS", "random": "RANDOM"}


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Cluster while training.

    Args:
        model: tf_keras model.
        settings: fields of `Cluster`, and `preserve_sparsity`.
        training: not needed: centroids are set at the start.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    alone = kept(model, settings)
    if settings.get("fold"):
        model = fold(model, apart=alone)
    keras = tfmot.clustering.keras
    initialisation = getattr(keras.CentroidInitialization, _CENTROIDS[settings["initialisation"]])

    def choose(layer: Any) -> tuple[Any, str]:
        if not kernels(layer):
            return layer, ""
        if layer.name in alone:
            return layer, KEPT
        if not layer.trainable_weights:  # tfmot takes those for layers without kernels, of whatever kind
            return layer, "none of its weights are ever trained"
        if not tfmot_internals.clusters(layer) or isinstance(layer, tf_keras.layers.MultiHeadAttention):
            return layer, "tfmot can't cluster this kind of layer"
        clusterable = tfmot_internals.clusterable(layer)
        if not clusterable:
            return layer, "tfmot never clusters this kind of layer"
        channels = settings["per_channel"] and type(layer) is tf_keras.layers.Conv2D
        if (
            min(_smallest(w.numpy(), channels, settings["preserve_sparsity"]) for w in clusterable)
            <= settings["number"]
        ):
            kind = "nonzero weights" if settings["preserve_sparsity"] else "weights"
            return layer, f"holds no more than {settings['number']} {kind}{' in a channel' if channels else ''}"
        return tfmot_internals.clustered(
            layer,
            number_of_clusters=settings["number"],
            cluster_centroids_init=initialisation,
            preserve_sparsity=settings["preserve_sparsity"],
            cluster_per_channel=channels,
        ), ""

    wrapped, touched, skipped = clone(model, choose)
    return Wrapped(
        model=wrapped,
        unwrap=keras.strip_clustering,
        touched=touched,
        skipped=skipped,
        changes=tfmot_internals.clusterable,
    )


def _smallest(values: np.ndarray, channels: bool, nonzero: bool) -> int:
    """How many weights (nonzero ones) the kernel holds, or the channel of it with the fewest."""
    rows = values.reshape(-1, values.shape[-1] if channels else 1)
    return int(((rows != 0) | (not nonzero)).sum(axis=0).min())
