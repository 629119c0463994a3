"""Keras 3 models as tf_keras ones: their graph is replayed layer by layer, with the same settings and weights.

tensorflow-model-optimization knows Keras 2 alone. Nested models are flattened on the way. What comes out is compared
with what went in, layer by layer if need be.
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from autoopt.errors import ConfigError

ALWAYS = {"name", "trainable", "dtype"}
"""Settings that every layer takes, though its constructor does not name them."""
TOLERANCE = 1e-5
"""By which outputs may differ, as a share of the largest."""
ITEMS = 4
"""Random ones, on which they are compared."""
MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
"""Operators between two tensors that are layers in Keras 2."""


def is_keras3(model: Any) -> bool:
    """Whether this is a model of Keras 3."""
    return any(kind.__module__.startswith("keras.") for kind in type(model).__mro__)


def read(path: str, where: str) -> Any:
    """A `.keras` or `.h5` file of Keras 3 as a tf_keras model.

    Raises:
        ConfigError: if it can't be read, holds code, or can't be rebuilt.
    """
    import keras  # type: ignore[import-untyped]

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: model: {path} can't be read as a Keras 3 model: {reason}") from error
    return rebuild(model, where)


def rebuild(model: Any, where: str) -> Any:
    """A functional or sequential Keras 3 model as a flat tf_keras one.

    Args:
        model: a built `keras.Model`.
        where: for messages.

    Raises:
        ConfigError: naming the layer that tf_keras does not know, or whose outputs differ.
    """
    import tf_keras

    flat = getattr(model, "_functional", model)  # a sequential model has a functional one inside
    if flat is None or not hasattr(flat, "_nodes_by_depth"):
        kind = type(model).__name__
        raise ConfigError(
            f"{where}: model: expected a built functional or sequential model, got the Keras 3 model {kind}; "
            "its layers can't be rebuilt one by one"
        )
    replay = _Replay(where)
    inputs = []
    for tensor in flat.inputs:
        inputs.append(tf_keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name))
        replay.tensors[id(tensor)] = inputs[-1]
    replay.follow(flat)
    made = tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in flat.outputs], name=model.name)
    replay.copy_weights()
    _expect_same(flat, made, replay, where)
    return made


class _Replay:
    """Calls tf_keras layers in the order of a Keras 3 graph."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.tensors: dict[int, Any] = {}
        self.layers: dict[int, tuple[Any, Any]] = {}
        self.names: set[str] = set()
        self.passed: list[tuple[str, Any, Any]] = []

    def follow(self, model: Any) -> None:
        """Every call of the model's layers."""
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if type(node.operation).__name__ != "InputLayer":
                    self._call(node)

    def _call(self, node: Any) -> None:
        import keras
        import tensorflow as tf

        operation = node.operation

        def known(value: Any) -> Any:
            return self.tensors[id(value)] if isinstance(value, keras.KerasTensor) else value

        arguments = keras.tree.map_structure(known, node.arguments.args)
        named = {name: known(value) for name, value in node.arguments.kwargs.items() if value is not None}
        if isinstance(operation, keras.Model):
            outputs = self._enter(operation, tf.nest.flatten(arguments))
        elif isinstance(operation, keras.layers.Layer):
            outputs = tf.nest.flatten(self._layer(operation)(*arguments, **named))
        else:
            outputs = [self._operator(operation, arguments)]
        for tensor, output in zip(node.outputs, outputs, strict=True):
            self.tensors[id(tensor)] = output
            self.passed.append((operation.name, tensor, output))

    def _enter(self, model: Any, inputs: Sequence[Any]) -> list[Any]:
        """A nested model's own layers, on these inputs."""
        inner = getattr(model, "_functional", model)
        if inner is None or not hasattr(inner, "_nodes_by_depth"):
            raise ConfigError(f"{self.where}: model: the nested model {model.name} is subclassed; it can't be rebuilt")
        for tensor, given in zip(inner.inputs, inputs, strict=True):
            self.tensors[id(tensor)] = given
        self.follow(inner)
        return [self.tensors[id(tensor)] for tensor in inner.outputs]

    def _layer(self, layer: Any) -> Any:
        """The tf_keras layer that stands for this one; the same one each time."""
        import tf_keras

        if id(layer) in self.layers:
            return self.layers[id(layer)][1]
        kind = type(layer).__name__
        known = getattr(tf_keras.layers, kind, None)
        if known is None or not type(layer).__module__.startswith("keras."):
            raise ConfigError(
                f"{self.where}: model: the layer {layer.name} is a {kind}, which Keras 2 does not have; "
                "replace it, or build the model with tf_keras"
            )
        takes = set(inspect.signature(known.__init__).parameters) | ALWAYS
        config = {
            name: _plain(value)
            for name, value in layer.get_config().items()
            if name in takes and not name.endswith("_initializer")  # weights are copied anyway
        }
        config["name"] = self._name(layer.name)
        if config.get("activation") == "hard_silu":
            if kind != "Activation":
                raise ConfigError(
                    f"{self.where}: model: the layer {layer.name} has the activation hard_silu, which Keras 2 does not "
                    "have; put it into a layer of its own"
                )
            return self._hard_silu
        try:
            made = known.from_config(config)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{self.where}: model: the layer {layer.name} ({kind}) can't be rebuilt in Keras 2: {reason}"
            ) from error
        self.layers[id(layer)] = (layer, made)
        return made

    def _name(self, name: str) -> str:
        """A name that no other layer has: layers of two nested models may share theirs."""
        given, number = name, 1
        while given in self.names:
            given, number = f"{name}_{number}", number + 1
        self.names.add(given)
        return given

    def _operator(self, operation: Any, arguments: Sequence[Any]) -> Any:
        """What stands for an operator between tensors, or a tensor and a number."""
        import tensorflow as tf
        import tf_keras

        kind = type(operation).__name__
        tensors = [value for value in arguments if tf.is_tensor(value) or hasattr(value, "_keras_history")]
        numbers = [float(value) for value in arguments if isinstance(value, int | float)]
        if kind in MERGES and len(tensors) == 2:
            return getattr(tf_keras.layers, kind)(name=self._name(operation.name))(tensors)
        if kind in ("Add", "Multiply") and len(tensors) == len(numbers) == 1:
            scale, offset = (1.0, numbers[0]) if kind == "Add" else (numbers[0], 0.0)
            return tf_keras.layers.Rescaling(scale, offset, name=self._name(operation.name))(tensors[0])
        raise ConfigError(
            f"{self.where}: model: the operator {operation.name} ({kind}) has no layer in Keras 2 that stands for it"
        )

    def _hard_silu(self, inputs: Any) -> Any:
        """X * relu6(x + 3) / 6, of layers that all techniques know (Howard et al. 2019)."""
        import tf_keras

        names = [self._name(f"hard_silu_{part}") for part in ("shift", "clip", "scale", "product")]
        shifted = tf_keras.layers.Rescaling(1.0, 3.0, name=names[0])(inputs)
        gate = tf_keras.layers.ReLU(6.0, name=names[1])(shifted)
        scaled = tf_keras.layers.Rescaling(1 / 6, name=names[2])(gate)
        return tf_keras.layers.Multiply(name=names[3])([inputs, scaled])

    def copy_weights(self) -> None:
        """Give every layer the weights of the one that it stands for."""
        for layer, made in self.layers.values():
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


def _plain(value: Any) -> Any:
    """A setting as Keras 2 writes it."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        if "class_name" in value and "config" in value:
            return {"class_name": value["class_name"], "config": _plain(value["config"])}
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner) for inner in value)
    return value


def _expect_same(model: Any, made: Any, replay: _Replay, where: str) -> None:
    """Check that both models compute the same; name the first layer that does not."""
    rng = np.random.default_rng(0)
    inputs = [_random(rng, tensor) for tensor in model.inputs]
    worst = _far(_run(model, inputs), _run(made, inputs))
    if worst <= TOLERANCE:
        return
    import keras
    import tf_keras

    given = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    inside = [(name, a, b) for name, a, b in replay.passed if hasattr(b, "_keras_history")]
    for name, before, after in inside:
        try:
            one, other = keras.Model(given, before), tf_keras.Model(made.inputs, after)
        except ValueError:  # inside of a nested model, whose tensors are not this one's
            continue
        if (far := _far(_run(one, inputs), _run(other, inputs))) > TOLERANCE:
            raise ConfigError(
                f"{where}: model: rebuilt in Keras 2 it computes something else, from the layer {name} on (off by {far:.2g})"
            )
    raise ConfigError(f"{where}: model: rebuilt in Keras 2 it computes something else (off by {worst:.2g})")


def _random(rng: np.random.Generator, tensor: Any) -> np.ndarray:
    shape = tuple(1 if size is None else size for size in tensor.shape[1:])
    kind = np.dtype(tensor.dtype) if isinstance(tensor.dtype, str) else np.dtype(str(tensor.dtype))
    values = rng.random((ITEMS, *shape)) if kind.kind == "f" else rng.integers(0, 2, (ITEMS, *shape))
    return values.astype(kind)


def _run(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    given = list(inputs) if len(inputs) > 1 else inputs[0]
    outputs = model(given, training=False)
    return [np.asarray(output) for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def _far(wanted: Iterable[np.ndarray], found: Iterable[np.ndarray]) -> float:
    """The largest difference, as a share of the largest output; NaN counts as far."""
    shares = [float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max()))) for a, b in zip(wanted, found, strict=True)]
    return max((share if share == share else float("inf")) for share in shares)
