"""Keras 3 models as tf_keras ones: their graph is replayed layer by layer, with the same settings and weights.

tensorflow-model-optimization knows Keras 2 alone. Nested models are flattened on the way. What comes out is compared
with what went in, layer by layer if need be.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoopt.errors import ConfigError
from autoopt.flattening import Calls, adapted_to, float_of, mixed
from autoopt.replaying import MIXED_TOLERANCE, TOLERANCE, Replay, expect_same, functional
from autoopt.sizes import expect_fixed, expect_numbers, filled

ALWAYS = {"name", "trainable", "dtype"}
"""Settings that every layer takes, though its constructor does not name them."""
RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
"""Settings of Keras 3 that Keras 2 calls otherwise."""
MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
"""Operators between two tensors that are layers in Keras 2."""
TEXT = (
    "a model that takes text is cut off behind its TextVectorization or StringLookup, "
    "as Sequential(model.layers[1:]) is, and given the token ids that this layer makes"
)
"""What to do where inputs are text: `.tflite` files of the targets take numbers."""


def is_keras3(model: Any) -> bool:
    """Whether this is a model of Keras 3."""
    return any(kind.__module__.startswith("keras.") for kind in type(model).__mro__)


def subclassed(model: Any) -> str | None:
    """The class of a Keras 3 model, or of one inside it, that has no graph of layers; None if all have one."""
    import keras  # type: ignore[import-untyped]

    kind = type(model).__name__
    inner = functional(model)
    if inner is None:
        return None if kind in ("Functional", "Sequential") else kind
    inside = [subclassed(layer) for layer in inner.layers if isinstance(layer, keras.Model)]
    return next((name for name in inside if name is not None), None)


def read(path: str, where: str, allow_code: bool = False, input_size: Sequence[int] = ()) -> Any:
    """A `.keras` or `.h5` file of Keras 3 as a tf_keras model.

    Args:
        path: of the file.
        where: for messages.
        allow_code: a Lambda layer's code may run.
        input_size: of the axes that its inputs leave open.

    Raises:
        ConfigError: if it can't be read, holds code, or can't be rebuilt.
    """
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        advice = (
            "; import the classes of its own layers in task.py first" if "could not be deserialized" in reason else ""
        )
        advice = "; if you trust its code, set allow_code=True (init: --allow-code)" if "ambda" in reason else advice
        raise ConfigError(f"{where}: model: {path} can't be read as a Keras 3 model: {reason}{advice}") from error
    return rebuild(model, where, input_size)


def rebuild(model: Any, where: str, input_size: Sequence[int] = ()) -> Any:
    """A functional or sequential Keras 3 model as a flat tf_keras one.

    Args:
        model: a built functional or sequential `keras.Model`.
        where: for messages.
        input_size: of the axes that its inputs leave open.

    Raises:
        ConfigError: naming the layer that tf_keras does not know, or whose outputs differ.
    """
    import keras
    import tf_keras

    flat = functional(model)
    if flat is None:
        raise ConfigError(f"{where}: model: has no input shape yet; give it an Input layer or call model.build(...)")
    expect_numbers(flat, where)
    if not input_size:
        expect_fixed(flat, where)
    calls = _Calls(where)
    replay = Replay(calls, where)
    inputs = []
    for tensor in flat.inputs:
        shape = (None, *filled(tensor.shape, input_size, where)[1:])
        inputs.append(tf_keras.Input(batch_shape=shape, dtype=tensor.dtype, name=calls.name(tensor.name)))
        replay.tensors[id(tensor)] = inputs[-1]
    replay.follow(flat)
    made = tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in flat.outputs], name=model.name)
    by_name = getattr(flat, "_outputs_struct", None)
    made.output_names = sorted(by_name) if isinstance(by_name, dict) else made.output_names
    calls.copy_weights()
    half = any(mixed(layer) for layer, _ in calls.layers.values())
    expect_same(flat, made, replay, (keras.Model, tf_keras.Model), MIXED_TOLERANCE if half else TOLERANCE)
    return made


class _Calls(Calls):
    """Calls of Keras 3, made on layers of tf_keras."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def operation(self, node: Any) -> Any:
        return node.operation

    def is_model(self, operation: Any) -> bool:
        import keras

        return isinstance(operation, keras.Model)

    def arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        return node.arguments.args, node.arguments.kwargs

    def again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        import keras

        if not isinstance(node.operation, keras.layers.Layer):
            return [self._operator(node.operation, arguments)]
        return super().again(node, arguments, named)

    def layer(self, layer: Any) -> Any:
        """The tf_keras layer that stands for this one; the same one each time."""
        import tf_keras

        if id(layer) in self.layers:
            return self.layers[id(layer)][1]
        kind = type(layer).__name__
        own = tf_keras.utils.get_custom_objects().get(kind)
        known = own or getattr(tf_keras.layers, kind, None)
        if kind == "LayerScale" and own is None and layer.__module__.startswith("keras."):
            return self._scale(layer)
        if known is None or not (own or type(layer).__module__.startswith("keras.")):
            raise ConfigError(
                f"{self.where}: model: the layer {layer.name} is a {kind}, which Keras 2 does not have; "
                f"replace it, or give a tf_keras layer that stands for it: custom_objects={{'{kind}': ...}}"
            )
        if kind == "Lambda":
            made = tf_keras.layers.Lambda(layer.function, arguments=layer.arguments, name=self.name(layer.name))
            self.layers[id(layer)] = (layer, made)
            return made
        config = _settings(known, layer.get_config())
        config["name"] = self.name(layer.name)
        if kind == "Normalization" and layer.weights:
            config |= adapted_to(layer)
        if config.get("activation") == "hard_silu":
            if kind != "Activation":
                raise ConfigError(
                    f"{self.where}: model: the layer {layer.name} has the activation hard_silu, which Keras 2 does not "
                    "have; put it into a layer of its own"
                )
            return self._hard_silu
        try:
            # Its own way back asks for shapes that Keras 3 does not keep.
            made = known(**config) if kind == "MultiHeadAttention" else known.from_config(config)
        except (TypeError, ValueError, KeyError) as error:
            reason = TEXT if kind in ("TextVectorization", "StringLookup") else " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{self.where}: model: the layer {layer.name} ({kind}) can't be rebuilt in Keras 2: {reason}"
            ) from error
        self.layers[id(layer)] = (layer, made)
        return made

    def _scale(self, layer: Any) -> Any:
        """A factor for each channel (ConvNeXt's, Touvron et al. 2021), as a depthwise convolution of one pixel."""
        import tf_keras

        made = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, name=self.name(layer.name))
        self.layers[id(layer)] = (layer, made)
        return made

    def _operator(self, operation: Any, arguments: Sequence[Any]) -> Any:
        """What stands for an operator between tensors, or a tensor and a number."""
        import tensorflow as tf
        import tf_keras

        kind = type(operation).__name__
        if kind == "NotEqual":  # a mask: Keras 2 carries it along by itself
            return None
        tensors = [value for value in arguments if tf.is_tensor(value) or hasattr(value, "_keras_history")]
        numbers = [float(value) for value in arguments if isinstance(value, int | float)]
        if kind in MERGES and len(tensors) == 2:
            return getattr(tf_keras.layers, kind)(name=self.name(operation.name))(tensors)
        if len(tensors) == len(numbers) == 1:
            [number], behind = numbers, not isinstance(arguments[0], int | float)
            known = {"Add": (1.0, number), "Multiply": (number, 0.0)}
            known |= {"Subtract": (1.0, -number) if behind else (-1.0, number)}
            known |= {name: (1 / number, 0.0) for name in ("Divide", "TrueDivide") if behind and number}
            if kind in known:
                return tf_keras.layers.Rescaling(*known[kind], name=self.name(operation.name))(tensors[0])
        raise ConfigError(
            f"{self.where}: model: the operator {operation.name} ({kind}) has no layer in Keras 2 that stands for it"
        )

    def _hard_silu(self, inputs: Any) -> Any:
        """X * relu6(x + 3) / 6, of layers that all techniques know (Howard et al. 2019)."""
        import tf_keras

        names = [self.name(f"hard_silu_{part}") for part in ("shift", "clip", "scale", "product")]
        shifted = tf_keras.layers.Rescaling(1.0, 3.0, name=names[0])(inputs)
        gate = tf_keras.layers.ReLU(6.0, name=names[1])(shifted)
        scaled = tf_keras.layers.Rescaling(1 / 6, name=names[2])(gate)
        return tf_keras.layers.Multiply(name=names[3])([inputs, scaled])

    def copy_weights(self) -> None:
        """Give every layer the weights of the one that it stands for."""
        for layer, made in self.layers.values():
            if not made.weights:
                continue
            if type(layer).__name__ == "LayerScale" and type(made).__name__ == "DepthwiseConv2D":
                made.set_weights([np.asarray(layer.gamma).reshape(1, 1, -1, 1)])
                continue
            by_name = {weight.path.split("/")[-1]: np.asarray(weight) for weight in layer.weights}
            names = [weight.name.split("/")[-1].split(":")[0] for weight in made.weights]
            # Keras 3 names a depthwise kernel like any other.
            aliases = {"depthwise_kernel": "kernel"} if "depthwise_kernel" not in by_name else {}
            named = [aliases.get(name, name) for name in names]
            alike = sorted(named) == sorted(by_name)
            found = [by_name[name] for name in named] if alike else [np.asarray(weight) for weight in layer.weights]
            if [value.shape for value in found] != [tuple(weight.shape) for weight in made.weights]:
                raise ConfigError(f"{self.where}: model: the weights of the layer {layer.name} don't fit Keras 2's")
            made.set_weights(found)


def _settings(kind: Any, config: dict[str, Any]) -> dict[str, Any]:
    """A layer's settings as far as the class of Keras 2 takes them."""
    takes = set(inspect.signature(kind.__init__).parameters) | ALWAYS
    renamed = {RENAMED.get((kind.__name__, name), name): value for name, value in config.items()}
    return {
        name: _plain(value)
        for name, value in renamed.items()
        if name in takes and not name.endswith("_initializer")  # weights are copied anyway
    }


def _plain(value: Any) -> Any:
    """A setting as Keras 2 writes it."""
    import tf_keras

    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return float_of(value["config"]["name"])
        if "class_name" in value and "config" in value:
            known = getattr(tf_keras.layers, value["class_name"], None)
            config = _plain(value["config"]) if known is None else _settings(known, value["config"])
            return {"class_name": value["class_name"], "config": config}
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner) for inner in value)
    return value
