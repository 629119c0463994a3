"""Keras 2 models made of models, and those with a fixed batch, as flat ones that take any batch.

What a `Normalization` was adapted to becomes part of its settings: as weights, copies of the layer would lose it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autoopt.models.graph_replay import MIXED_TOLERANCE, TOLERANCE, Names, Replay, expect_same, functional, nodes
from autoopt.models.input_shapes import filled
from autoopt.models.keras_internals import all_layers, functional_class, takes_argument


def flatten(model: Any, where: str, input_size: Sequence[int] = (), notes: list[str] | None = None) -> Any:
    """The same model without models inside or a fixed batch, with settled normalization, and outputs in a list.

    Args:
        model: a built functional or sequential tf_keras model.
        where: for messages.
        input_size: of the axes that its inputs leave open.
        notes: what people should know of the result is added to it.

    Returns:
        a new model with the same weights; or the model itself, where it is so already.

    Raises:
        NotRebuilt: naming a nested model that is subclassed, or the first layer whose outputs differ.
    """
    import tf_keras

    fixed = any(tensor.shape[0] is not None for tensor in model.inputs)
    by_name = model.output if isinstance(model.output, dict) else {}
    adapted = any(isinstance(layer, tf_keras.layers.Normalization) and layer.weights for layer in model.layers)
    half, indices = any(map(mixed, model.layers)), looked_up(model)
    own = type(model) not in (functional_class(), tf_keras.Sequential)
    nested = any(isinstance(layer, tf_keras.Model) for layer in model.layers)
    closing = any(filled(tensor.shape, input_size, where) != tuple(tensor.shape) for tensor in model.inputs)
    cropped = any(type(layer) is tf_keras.layers.RandomCrop for layer in model.layers)
    steps = any(_dense_steps(layer) for layer in model.layers)
    watched = [one.name for one in all_layers(model) if getattr(one, "activity_regularizer", None) is not None]
    settled = not (fixed or adapted or by_name or half or indices or own or nested)
    if settled and not (closing or cropped or steps or watched):
        return model
    calls = Calls()
    replay = Replay(calls)
    inputs = []
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        shape = (None, *filled(tensor.shape, input_size, where)[1:])
        dtype = "int32" if name in indices else tensor.dtype
        inputs.append(tf_keras.Input(batch_shape=shape, dtype=dtype, name=calls.name(name)))
        replay.tensors[id(tensor)] = inputs[-1]
    replay.follow(functional(model))
    made = tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in model.outputs], name=model.name)
    made.output_names = sorted(by_name) or made.output_names
    for old, new in calls.layers.values():
        if new.weights:
            new.set_weights(old.get_weights())
    expect_same(model, made, replay, (tf_keras.Model, tf_keras.Model), MIXED_TOLERANCE if half else TOLERANCE)
    if watched and notes is not None:
        notes.append(
            f"activity_regularizer of {', '.join(dict.fromkeys(watched))}: left out of fine-tuning, for tfmot can't train "
            "with it; it is no part of what the model computes"
        )
    return flatten(made, where) if looked_up(made) else made  # what looks up stood in a nested model


def looked_up(model: Any) -> list[str]:
    """Names of the inputs in float that are nothing but indices of tables.

    Keras 2 makes such of an `Embedding` without an Input layer; 8 bits, or half precision, can't tell indices apart.
    """
    readers: dict[int, set[str]] = {}
    for node in nodes(functional(model)):
        for tensor in node.keras_inputs:
            readers.setdefault(id(tensor), set()).add(type(node.layer).__name__)
    ends = zip(model.input_names, model.inputs, strict=True)
    return [name for name, end in ends if end.dtype.is_floating and readers.get(id(end)) == {"Embedding"}]


def mixed(layer: Any) -> bool:
    """Whether a layer computes in half precision on weights in float32."""
    return str(getattr(getattr(layer, "dtype_policy", None), "name", "")).startswith("mixed_")


def float_of(policy: str) -> str:
    """The policy that a file is made with: half precision was for the training alone."""
    return "float32" if policy.startswith("mixed_") else policy


class Calls:
    """Calls of Keras 2, made on new layers. See `replaying.Call`."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Any, Any]] = {}
        self.name = Names()

    def operation(self, node: Any) -> Any:
        """What is called."""
        return node.layer

    def is_model(self, operation: Any) -> bool:
        """Whether that is a model, to be entered."""
        import tf_keras

        return isinstance(operation, tf_keras.Model)

    def arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        """With what."""
        return node.call_args, node.call_kwargs

    def outputs(self, node: Any) -> Sequence[Any]:
        """What comes out."""
        import tensorflow as tf

        flat: list[Any] = tf.nest.flatten(node.outputs)
        return flat

    def again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        """The same on tensors of the new model."""
        import tensorflow as tf

        layer = self.layer(self.operation(node))
        flat: list[Any] = tf.nest.flatten(layer(*arguments, **taken(layer, named)))
        return flat

    def layer(self, old: Any) -> Any:
        """The new layer that stands for this one; the same one each time."""
        if id(old) not in self.layers:
            kind, config = _kind(old), (old.layer if _dense_steps(old) else old).get_config()
            config |= {"name": self.name(old.name)}
            if type(old).__name__ == "Normalization" and old.weights:
                config |= adapted_to(old)
            if mixed(old):
                config = _in_float(config)
            config = _unwatched(config)
            self.layers[id(old)] = (old, kind.from_config(config))
        return self.layers[id(old)][1]


def _unwatched(config: Any) -> Any:
    """Settings of a layer, and of layers inside it, without a loss on what it gives out."""
    if isinstance(config, dict):
        return {name: None if name == "activity_regularizer" else _unwatched(value) for name, value in config.items()}
    return _each(_unwatched, config)


def _each(change: Callable[[Any], Any], config: Any) -> Any:
    """A setting with its values changed, if it is a sequence: tf_keras has kinds of its own of those."""
    if isinstance(config, tuple):
        return tuple(map(change, config))
    return list(map(change, config)) if isinstance(config, list) else config


def _dense_steps(layer: Any) -> bool:
    """Whether this is a `TimeDistributed` dense layer, which a dense layer is by itself, and more techniques know."""
    import tf_keras

    return type(layer) is tf_keras.layers.TimeDistributed and type(layer.layer) is tf_keras.layers.Dense


def _kind(layer: Any) -> Any:
    """The class of the new layer."""
    import tf_keras

    if _dense_steps(layer):
        return tf_keras.layers.Dense
    if type(layer) is not tf_keras.layers.RandomCrop:
        return type(layer)
    from autoopt.models.stand_ins import RandomlyCropped

    return RandomlyCropped


def _in_float(config: Any) -> Any:
    """Settings of a layer, and of layers inside it, without policies of mixed precision."""
    if isinstance(config, dict):
        if config.get("class_name") in ("Policy", "DTypePolicy"):
            return float_of(config["config"]["name"])
        return {name: _in_float(value) for name, value in config.items()}
    return _each(_in_float, config)


def taken(layer: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Arguments as far as a tf_keras layer takes them: not all have a mode for training, or look at masks."""
    return {
        name: value for name, value in named.items() if name not in ("training", "mask") or takes_argument(layer, name)
    }


def adapted_to(layer: Any) -> dict[str, Any]:
    """Settings of a `Normalization` that say what it was adapted to."""
    return {"mean": np.asarray(layer.adapt_mean).tolist(), "variance": np.asarray(layer.adapt_variance).tolist()}
