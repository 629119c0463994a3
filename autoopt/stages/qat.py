"""Quantization-aware training that keeps sparsity and clusters from before (PQAT, CQAT, PCQAT).

tfmot's own schemes for that lose zeros where a convolution feeds a ReLU layer, and turn the clusters of
a convolution into clusters per channel (its issues 979, 1056); `Keeping` does not.
"""

from typing import Any

from autoopt.stages.finetune import Training
from autoopt.stages.folding import source_of
from autoopt.stages.wrapped import Keeping, Wrapped, clone, kernels

FOLDED_INTO = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
TAKEN_APART = ("SeparableConv1D", "SeparableConv2D")
"""Layers that tfmot quantizes by making others of them."""
OUTPUT_ONLY = ("BatchNormalization", "Multiply", "Rescaling", "Subtract")
"""Layers without kernels that tfmot knows nothing of; the ranges of their outputs are all that they need."""


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Train with 8-bit quantization emulated.

    Args:
        model: tf_keras model.
        settings: `preserve_sparsity` and `preserve_clusters`.
        training: not needed: quantization is on from the start.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs as configs,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )
    from tensorflow_model_optimization.quantization import keras as quantization

    supported = registry.Default8BitQuantizeRegistry()

    def choose(layer: Any) -> tuple[Any, str]:
        if type(layer).__name__ == "InputLayer":
            return layer, ""
        if type(layer).__name__ in OUTPUT_ONLY and not _folds(layer):
            return quantization.quantize_annotate_layer(layer, configs.Default8BitOutputQuantizeConfig()), ""
        if not (supported.supports(layer) or type(layer).__name__ in TAKEN_APART or _folds(layer)):
            return layer, "tfmot has no 8-bit configuration for this kind of layer"
        return quantization.quantize_annotate_layer(layer), ""

    annotated, touched, skipped = clone(model, choose)
    with quantization.quantize_scope():
        quantized = quantization.quantize_apply(annotated, _scheme())
    kept = _keep(quantized, settings)

    def unwrap(trained: Any) -> Any:
        for keeping in kept:
            keeping.restore()
        return trained

    return Wrapped(model=quantized, unwrap=unwrap, touched=touched, skipped=skipped)


def _folds(layer: Any) -> bool:
    """Whether this is a batch normalization that the converter folds into the only layer before it.

    tfmot must be told to quantize such a pair as one; left out, it would stay in float in the file.
    """
    return source_of(layer, FOLDED_INTO) is not None


def _scheme() -> Any:
    """Tfmot's 8-bit scheme, with the weights quantized also where the layer feeds a ReLU layer."""
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_aware_activation as activations
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_layout_transform as layout,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as schemes,
    )

    class Layout(layout.Default8BitQuantizeLayoutTransform):  # type: ignore[misc]
        def apply(self, model: Any, configs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            model, configs = super().apply(model, configs)
            for layer in model.layers:
                config = configs.get(layer.name, {}).get("quantize_config")
                if type(config).__name__ == "NoOpQuantizeConfig" and kernels(layer):
                    configs[layer.name] = {"quantize_config": None}  # the default one
                    if getattr(layer.activation, "__name__", "") == "linear":
                        layer.activation = activations.NoOpActivation()  # its output is quantized after the ReLU
            return model, configs

    class Scheme(schemes.Default8BitQuantizeScheme):  # type: ignore[misc]
        def get_layout_transformer(self) -> Any:
            return Layout()

    return Scheme()


def _keep(model: Any, settings: dict[str, Any]) -> list[Keeping]:
    """Have each quantized kernel keep what the stages before gave it."""
    if not settings["preserve_sparsity"] and not settings["preserve_clusters"]:
        return []
    kept = []
    for layer in model.layers:
        quantized = []
        for kernel, quantizer, variables in getattr(layer, "_weight_vars", ()):
            kept.append(Keeping(kernel, settings["preserve_clusters"]))
            quantized.append((kernel, _Quantizing(kept[-1], quantizer), variables))
        if quantized:
            layer._weight_vars = quantized
    return kept


class _Quantizing:
    """Tfmot's quantizer of a kernel, over what the kernel keeps."""

    def __init__(self, keeping: Keeping, quantizer: Any) -> None:
        self.keeping, self.quantizer = keeping, quantizer

    def __call__(self, kernel: Any, training: Any, weights: Any, **others: Any) -> Any:
        return self.quantizer(self.keeping.kept(kernel), training, weights=weights, **others)
