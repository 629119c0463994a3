"""Quantization-aware training that keeps sparsity and clusters from before (PQAT, CQAT, PCQAT).

tfmot's own schemes for that lose zeros where a convolution feeds a ReLU layer, and turn the clusters of
a convolution into clusters per channel (its issues 979, 1056); `Keeping` does not.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from autoopt.compression import tfmot_internals
from autoopt.compression.batches import feed
from autoopt.compression.batchnorm_folding import fold, source_of
from autoopt.compression.separable_layers import TAKEN_APART, taken_apart
from autoopt.compression.training import Training
from autoopt.compression.wrapping import Keeping, Wrapped, clone, kept, kernels
from autoopt.models.flatten import Calls
from autoopt.models.graph_replay import Replay
from autoopt.models.keras_internals import own_weights, quantized_weights, set_own_weights, set_quantized_weights

FOLDED_INTO = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
FOLDED_BEFORE = ("Conv1D",)
"""Layers that tfmot trains apart from the batch normalization behind them, which would stay in float."""
OUTPUT_ONLY = ("BatchNormalization", "Multiply", "Rescaling", "Subtract")
"""Layers without kernels that tfmot knows nothing of; the ranges of their outputs are all that they need."""
SAME_RANGE = ("AveragePooling1D", "AveragePooling2D")
"""Layers whose integers have the scale of their input in a file. tfmot gives their output a range of its own, which the
converter refuses where a concatenation follows."""
LAMBDAS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod")
"""What Keras 2 makes of operators between tensors. tfmot can't wrap them."""
PREPROCESSING = ("Rescaling", "Normalization")
ITEMS = 256
"""From which ranges start."""
UNKNOWN = "tfmot has no 8-bit configuration for this kind of layer"


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Train with 8-bit quantization emulated.

    Args:
        model: tf_keras model.
        settings: `preserve_sparsity` and `preserve_clusters`.
        training: what it is to be trained with; ranges of activations start where its data puts them.
    """
    import tf_keras
    from tensorflow_model_optimization.quantization import keras as quantization

    alone = kept(model, settings)
    if not settings["preserve_clusters"]:  # a factor for each channel would multiply them
        model = fold(model, FOLDED_BEFORE)
    model, parts, looked_up = taken_apart(model)

    def choose(layer: Any) -> tuple[Any, str]:
        how, why = ("output", "") if layer.name in looked_up else choice(layer)
        if how == "none":
            return layer, why
        if type(layer).__name__ in SAME_RANGE:
            return quantization.quantize_annotate_layer(layer, tfmot_internals.unquantized()), ""
        if how == "whole":
            return quantization.quantize_annotate_layer(layer), ""
        if how == "kernel":  # one scale: tfmot's scales per channel are for kernels of four dimensions
            return quantization.quantize_annotate_layer(layer, tfmot_internals.quantized_kernel()), ""
        return quantization.quantize_annotate_layer(layer, tfmot_internals.quantized_output()), why

    before = [_normalized(tensor) for tensor in model.inputs]
    body = model if not any(before) else tf_keras.Model([chain[-1].output if chain else i for chain, i in
                                                         zip(before, model.inputs, strict=True)], model.outputs)  # fmt: skip
    annotated, touched, skipped = clone(body, choose)
    with quantization.quantize_scope():
        quantized = quantization.quantize_apply(annotated, _scheme())
    if any(before):
        quantized = _behind(before, model, quantized)
    put_back = _freeze(quantized, alone | {part for part, whole in parts.items() if whole in alone})
    if training is not None:
        _begin_ranges(quantized, training)
    keepings = _keep(quantized, settings)

    def unwrap(trained: Any) -> Any:
        for keeping in keepings:
            keeping.restore()
        put_back()
        return trained

    touched = list(dict.fromkeys(parts.get(name, name) for name in touched))
    return Wrapped(model=quantized, unwrap=unwrap, touched=touched, skipped=skipped, parts=parts)


def _normalized(tensor: Any) -> list[Any]:
    """The layers between an input and the end of its normalization; none where it has none.

    They stay in float, and the range of values is taken behind them: before, one for features of all sizes would leave
    next to nothing of the small ones.
    """
    chain: list[Any] = []
    layer = tensor.node.layer
    while len(layer.outbound_nodes) == 1:
        layer = layer.outbound_nodes[0].layer
        if type(layer).__name__ not in PREPROCESSING or len(layer.inbound_nodes) != 1:
            break
        chain.append(layer)
    while chain and type(chain[-1]).__name__ != "Normalization":
        chain.pop()
    return chain


def _behind(before: Sequence[Sequence[Any]], model: Any, quantized: Any) -> Any:
    """The quantized rest of a model with the layers that come before it put back."""
    import tf_keras

    class Same(Calls):
        """The same layers, called again."""

        def layer(self, old: Any) -> Any:
            return old

    replay = Replay(Same())
    inputs = []
    for name, old, chain, entry in zip(model.input_names, model.inputs, before, quantized.inputs, strict=True):
        x = tf_keras.Input(batch_shape=old.shape, dtype=old.dtype, name=name)
        inputs.append(x)
        for layer in chain:
            x = type(layer).from_config(layer.get_config())(x)
        replay.tensors[id(entry)] = x
    replay.follow(quantized)
    return tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in quantized.outputs], name=model.name)


def choice(layer: Any) -> tuple[str, str]:
    """How a layer is quantized: `whole`, its `kernel` and output, its `output` alone, or `none`; and why not wholly.

    What tfmot does not know computes in float, but with a range for its output the next layer does not have to.
    """
    kind = type(layer).__name__
    if kind == "InputLayer" or kind in LAMBDAS:
        return "none", ""
    if kind in OUTPUT_ONLY and not _folds(layer):
        return "output", ""
    if _registry().supports(layer) or kind in TAKEN_APART or _folds(layer):
        return "whole", ""
    if kind in FOLDED_BEFORE:
        return "kernel", ""
    return ("output" if _has_range(layer) else "none"), UNKNOWN


@functools.cache
def _registry() -> Any:
    """What tfmot knows."""
    return tfmot_internals.quantize_registry()


def _has_range(layer: Any) -> bool:
    """Whether tfmot can find the range of a layer's output: one tensor in and out, both real, and nothing besides."""
    import tensorflow as tf

    for node in layer.inbound_nodes:
        tensors = [*tf.nest.flatten(node.input_tensors), *tf.nest.flatten(node.outputs)]
        others = any(value is not None for value in node.call_kwargs.values())
        if len(tensors) != 2 or len(node.call_args) != 1 or others or not all(t.dtype.is_floating for t in tensors):
            return False
    return True


def _folds(layer: Any) -> bool:
    """Whether this is a batch normalization that the converter folds into the only layer before it.

    tfmot must be told to quantize such a pair as one; left out, it would stay in float in the file.
    """
    return source_of(layer, FOLDED_INTO) is not None


def _scheme() -> Any:
    """Tfmot's 8-bit scheme, with the weights quantized also where the layer feeds a ReLU layer."""

    class Layout(tfmot_internals.quantize_layout()):  # type: ignore[misc]
        def apply(self, model: Any, configs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            model, configs = super().apply(model, configs)
            for layer in model.layers:
                config = configs.get(layer.name, {}).get("quantize_config")
                if type(config).__name__ == "NoOpQuantizeConfig" and kernels(layer):
                    configs[layer.name] = {"quantize_config": None}  # the default one
                    if getattr(layer.activation, "__name__", "") == "linear":
                        layer.activation = (
                            tfmot_internals.unquantized_activation()
                        )  # its output is quantized after the ReLU
            return model, configs

    class Scheme(tfmot_internals.quantize_scheme()):  # type: ignore[misc]
        def get_layout_transformer(self) -> Any:
            return Layout()

    return Scheme()


def _freeze(model: Any, names: Collection[str]) -> Callable[[], None]:
    """Have layers of these names not trained, though their ranges are still found.

    tfmot adds every kernel that it quantizes to what is trained, and files hold weights in that order.

    Returns:
        what puts the kernels back there.
    """
    held = [
        (layer, *own_weights(layer))
        for layer in model.layers
        if layer.name.removeprefix("quant_") in names and quantized_weights(layer) is not None
    ]
    for layer, trained, others in held:
        layer.trainable = False
        set_own_weights(layer, [], [*others, *trained])

    def undo() -> None:
        for layer, trained, others in held:
            set_own_weights(layer, trained, others)

    return undo


def _begin_ranges(model: Any, training: Training) -> None:
    """Have the ranges of activations start with those of a batch.

    tfmot's start at 6 to both sides and move by a thousandth of the way a step, which a short training never makes up for.
    """
    operations = tfmot_internals.quantize_operations()
    statistics = [v for v in model.non_trainable_variables if "moving_mean" in v.name or "moving_variance" in v.name]
    before = [variable.numpy() for variable in statistics]
    slow = operations.MovingAvgQuantize

    def at_once(*arguments: Any, **named: Any) -> Any:
        return slow(*arguments, **{**named, "ema_decay": 0.0})

    operations.MovingAvgQuantize = at_once
    try:
        model(feed(training.train.some(ITEMS)), training=True)
    finally:
        operations.MovingAvgQuantize = slow
    for variable, value in zip(statistics, before, strict=True):
        variable.assign(value)


def _keep(model: Any, settings: dict[str, Any]) -> list[Keeping]:
    """Have each quantized kernel keep what the stages before gave it."""
    if not settings["preserve_sparsity"] and not settings["preserve_clusters"]:
        return []
    kept = []
    for layer in model.layers:
        quantized = []
        for kernel, quantizer, variables in quantized_weights(layer) or ():
            kept.append(Keeping(kernel, settings["preserve_clusters"]))
            quantized.append((kernel, _Quantizing(kept[-1], quantizer), variables))
        if quantized:
            set_quantized_weights(layer, quantized)
    return kept


class _Quantizing:
    """Tfmot's quantizer of a kernel, over what the kernel keeps."""

    def __init__(self, keeping: Keeping, quantizer: Any) -> None:
        self.keeping, self.quantizer = keeping, quantizer

    def __call__(self, kernel: Any, training: Any, weights: Any, **others: Any) -> Any:
        return self.quantizer(self.keeping.kept(kernel), training, weights=weights, **others)
