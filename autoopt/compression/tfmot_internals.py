"""What autoopt takes of tensorflow-model-optimization (tfmot) from modules that are not public.

A new version of it may move such a name; then this is the module to mend. Where a public name gives the same, autoopt uses
that one.
"""

from typing import Any

_CORE = "tensorflow_model_optimization.python.core"
TRAINED_BY = {
    f"{_CORE}.keras.compat": ("assign",),
    f"{_CORE}.keras.utils": ("smart_cond",),
    f"{_CORE}.sparsity.keras.pruning_wrapper": ("PruneLowMagnitude.call", "PruneLowMagnitude.build.training_step_fn"),
    f"{_CORE}.sparsity.keras.pruning_impl": (
        "Pruning.weight_mask_op",
        "Pruning._weight_assign_objs",
        "Pruning.conditional_mask_update.mask_update_distributed",
        "Pruning.conditional_mask_update.maybe_update_masks",
        "Pruning._maybe_update_block_mask",
        "Pruning._update_mask",
    ),
    f"{_CORE}.sparsity.keras.pruning_schedule": (
        "PolynomialDecay.__call__",
        "ConstantSparsity.__call__",
        "PruningSchedule._should_prune_in_step",
    ),
    f"{_CORE}.clustering.keras.cluster_wrapper": (
        "ClusterWeights.call",
        "ClusterWeights.update_clustered_weights_associations",
        "ClusterWeights.set_weight_to_layer",
        "ClusterWeights._get_zero_idx_mask",
        "ClusterWeights._get_zero_centroid",
    ),
    f"{_CORE}.clustering.keras.clustering_algorithm": (
        "ClusteringAlgorithm.get_pulling_indices",
        "ClusteringAlgorithm.get_clustered_weight",
    ),
    f"{_CORE}.quantization.keras.quantize_annotate": ("QuantizeAnnotate.call",),
    f"{_CORE}.quantization.keras.quantize_layer": ("QuantizeLayer.call",),
    f"{_CORE}.quantization.keras.quantize_wrapper": ("QuantizeWrapper.call", "QuantizeWrapper._make_quantizer_fn"),
    f"{_CORE}.quantization.keras.quantizers": (
        "AllValuesQuantizer.__call__",
        "LastValueQuantizer.__call__",
        "MovingAverageQuantizer.__call__",
    ),
    f"{_CORE}.quantization.keras.quant_ops": (
        "AllValuesQuantize",
        "LastValueQuantize",
        "MovingAvgQuantize",
        "_FakeQuantWithMinMaxVars",
    ),
    f"{_CORE}.quantization.keras.default_8bit.default_8bit_quantize_registry": (
        "Default8BitQuantizeConfig.set_quantize_weights",
        "Default8BitQuantizeConfig.set_quantize_activations",
    ),
    f"{_CORE}.quantization.keras.default_8bit.default_8bit_quantize_configs": (
        "NoOpQuantizeConfig.set_quantize_weights",
        "NoOpQuantizeConfig.set_quantize_activations",
    ),
    f"{_CORE}.quantization.keras.experimental.default_n_bit.default_n_bit_quantize_configs": (
        "NoOpQuantizeConfig.set_quantize_weights",
        "NoOpQuantizeConfig.set_quantize_activations",
    ),
}
"""Functions of tfmot that are called in the graph of every training, or nearly so, of a stage that is tfmot's, by module."""


def prunes(layer: Any) -> bool:
    """Whether tfmot knows how to prune this kind of layer."""
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    return bool(PruneRegistry.supports(layer))


def prunable(layer: Any) -> list[Any]:
    """The kernels that tfmot prunes in a layer that it supports."""
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    found: list[Any] = PruneRegistry.make_prunable(layer).get_prunable_weights()
    return found


def clusters(layer: Any) -> bool:
    """Whether tfmot knows how to cluster this kind of layer."""
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import ClusteringRegistry

    return bool(ClusteringRegistry.supports(layer))


def clusterable(layer: Any) -> list[Any]:
    """The kernels that tfmot clusters in a layer that it supports."""
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import ClusteringRegistry

    return [weight for _, weight in ClusteringRegistry.make_clusterable(layer).get_clusterable_weights()]


def clustered(layer: Any, **settings: Any) -> Any:
    """A layer that is clustered while it is trained.

    tfmot's public way has no `preserve_sparsity`, and silently leaves out convolutions without a bias when clustering by channel.
    """
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights
    from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import cluster_weights

    make = ClusterWeights if isinstance(layer, tf_keras.layers.Conv2D) else cluster_weights
    return make(layer, **settings)


def quantize_registry() -> Any:
    """What tfmot knows of how layers are quantized to 8 bits."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    return registry.Default8BitQuantizeRegistry()


def quantized_kernel() -> Any:
    """How a layer is quantized whose kernel has one scale, and whose activation follows it."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    return registry.Default8BitQuantizeConfig(["kernel"], ["activation"], False)


def quantized_output() -> Any:
    """How a layer is quantized of which only what comes out is."""
    return _configs().Default8BitOutputQuantizeConfig()


def unquantized() -> Any:
    """How a layer is quantized that keeps the range of what it takes."""
    return _configs().NoOpQuantizeConfig()


def _configs() -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs as configs,
    )

    return configs


def quantize_scheme() -> type[Any]:
    """The class of tfmot's 8-bit scheme."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as schemes,
    )

    found: type[Any] = schemes.Default8BitQuantizeScheme
    return found


def quantize_layout() -> type[Any]:
    """The class of what that scheme makes of a model's layers."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_layout_transform as layout,
    )

    found: type[Any] = layout.Default8BitQuantizeLayoutTransform
    return found


def unquantized_activation() -> Any:
    """An activation that leaves what it is given as it is, and unquantized."""
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_aware_activation as activations

    return activations.NoOpActivation()


def quantize_operations() -> Any:
    """The module whose `MovingAvgQuantize` moves ranges in training; quantizers look it up there at each call."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    return quant_ops
