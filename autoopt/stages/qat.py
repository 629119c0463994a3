"""Quantization-aware training that keeps sparsity and clusters from before (PQAT, CQAT, PCQAT)."""

from typing import Any

from autoopt.stages.wrapped import Wrapped, clone, kernels

_COLLABORATIVE = "tensorflow_model_optimization.python.core.quantization.keras.collab_opts"


def wrap(model: Any, settings: dict[str, Any], steps_per_epoch: int) -> Wrapped:
    """Train with 8-bit quantization emulated.

    Args:
        model: tf_keras model.
        settings: `preserve_sparsity` and `preserve_clusters`.
        steps_per_epoch: not needed: quantization is on from the start.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )
    from tensorflow_model_optimization.quantization import keras as quantization

    supported = registry.Default8BitQuantizeRegistry()

    def choose(layer: Any) -> tuple[Any, str]:
        if type(layer).__name__ == "InputLayer":
            return layer, ""
        if not supported.supports(layer):
            return layer, "tfmot has no 8-bit configuration for this kind of layer"
        return quantization.quantize_annotate_layer(layer), ""

    annotated, _, skipped = clone(model, choose)
    touched = [layer.layer.name for layer in annotated.layers if hasattr(layer, "layer") and kernels(layer.layer)]
    scheme, unwrap = _scheme(settings)
    with quantization.quantize_scope():
        quantized = quantization.quantize_apply(annotated, *scheme)
    return Wrapped(model=quantized, unwrap=unwrap, touched=touched, skipped=skipped)


def _scheme(settings: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Tfmot's scheme for what came before, as arguments, and what undoes its scaffolding."""
    import importlib

    if settings["preserve_clusters"]:
        package = f"{_COLLABORATIVE}.cluster_preserve"
        module = importlib.import_module(f"{package}.default_8bit_cluster_preserve_quantize_scheme")
        strip = importlib.import_module(f"{package}.cluster_utils").strip_clustering_cqat
        return (module.Default8BitClusterPreserveQuantizeScheme(settings["preserve_sparsity"]),), strip
    if settings["preserve_sparsity"]:
        package = f"{_COLLABORATIVE}.prune_preserve"
        module = importlib.import_module(f"{package}.default_8bit_prune_preserve_quantize_scheme")
        return (module.Default8BitPrunePreserveQuantizeScheme(),), lambda model: model
    return (), lambda model: model
