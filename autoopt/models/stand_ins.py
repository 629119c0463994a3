"""Layers of tf_keras that stand for what only Keras 3 has, such as its operators, or for what can't be converted.

Importing this module registers them, so that a job can read a model that holds some.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import tensorflow as tf
import tf_keras

from autoopt.models.keras_internals import in_graph

PACKAGE = "autoopt"
"""Under which tf_keras knows the layers."""


@tf_keras.utils.register_keras_serializable(package=PACKAGE)
class Keras3Operator(tf_keras.layers.Layer):  # type: ignore[misc]
    """An operator of Keras 3, such as `keras.ops.sin`, on tensors of tf_keras.

    Args:
        call: JSON of the operator as Keras 3 writes it down, and of the arguments of its call; see `written`.
    """

    def __init__(self, call: str, **others: Any) -> None:
        super().__init__(autocast=False, **others)
        told = json.loads(call)
        self.told = call
        self.supports_masking = True  # as operators of Keras 3 it takes masked tensors, and gives unmasked ones
        operation = keras.saving.deserialize_keras_object(told["operation"])

        def compute(tensors: Sequence[Any]) -> Any:
            named = {name: _read(value, tensors) for name, value in told["named"].items()}
            return operation.call(*_read(told["arguments"], tensors), **named)

        self.compute = compute

    def call(self, inputs: Any) -> Any:
        """What comes out: a tensor or several."""
        return self.compute(tf.nest.flatten(inputs))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """No mask comes out."""

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "call": self.told}


@tf_keras.utils.register_keras_serializable(package=PACKAGE)
class Keras3Augmentation(tf_keras.layers.Layer):  # type: ignore[misc]
    """A layer of Keras 3 that changes images at random while a model is trained, and in inference does what Keras 3 does.

    Args:
        layer: JSON of the layer as Keras 3 writes it down.
    """

    def __init__(self, layer: str, **others: Any) -> None:
        super().__init__(**others)
        self.told = layer
        made = keras.saving.deserialize_keras_object(json.loads(layer))
        # In a function of its own: the layer's random state is no weight of the model.
        self.change: Callable[[Any, bool], Any] = lambda images, training: made(images, training=training)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """The images, shape (items, height, width, channels); as in inference where nobody asks for training."""
        return self.change(tf.cast(inputs, self.compute_dtype), bool(training))

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "layer": self.told}


@tf_keras.utils.register_keras_serializable(package=PACKAGE)
class Unmasked(tf_keras.layers.Layer):  # type: ignore[misc]
    """Gives tensors on without the mask that they carry, where layers of Keras 3 do so and those of Keras 2 do not."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """The inputs."""
        return tf.identity(inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """No mask comes out."""


@tf_keras.utils.register_keras_serializable(package=PACKAGE)
class RandomlyCropped(tf_keras.layers.RandomCrop):  # type: ignore[misc]
    """A `RandomCrop` of Keras 2 whose inference does not hang on a state of random numbers, which no file can hold."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        """The images, cropped at random in training and resized in inference."""
        if training:
            return super().call(inputs, training=True)
        images = tf_keras.preprocessing.image.smart_resize(inputs, [self.height, self.width])
        return tf.cast(images, self.compute_dtype)


@tf_keras.utils.register_keras_serializable(package=PACKAGE)
class BlindAttention(tf_keras.layers.MultiHeadAttention):  # type: ignore[misc]
    """Attention that gives zeros to a step which may look at none, where Keras 2 gives the mean over all steps."""

    def _masked_softmax(self, scores: Any, attention_mask: Any = None) -> Any:
        shares = super()._masked_softmax(scores, attention_mask)
        if attention_mask is None:
            return shares
        shown = tf.cast(attention_mask, tf.bool)
        for _ in range(len(scores.shape) - len(shown.shape)):
            shown = tf.expand_dims(shown, -len(self._attention_axes) * 2 - 1)
        return tf.where(shown, shares, tf.zeros_like(shares))


LAYERS = {
    layer.__name__: layer for layer in (Keras3Operator, Keras3Augmentation, Unmasked, RandomlyCropped, BlindAttention)
}
"""By the names that tfmot writes down."""


def written(operation: Any, arguments: Any, named: dict[str, Any]) -> tuple[str, list[Any]]:
    """A call of an operator as `Keras3Operator` takes it, and the tensors of tf_keras among its arguments.

    Raises:
        TypeError: for an argument that can't be written down.
    """
    tensors: list[Any] = []
    told = {
        "operation": keras.saving.serialize_keras_object(operation),
        "arguments": _write(list(arguments), tensors),
        "named": {name: _write(value, tensors) for name, value in named.items()},
    }
    return json.dumps(told), tensors


def _write(value: Any, tensors: list[Any]) -> Any:
    if in_graph(value):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, list | tuple):
        return {"several": [_write(one, tensors) for one in value], "tuple": isinstance(value, tuple)}
    if isinstance(value, slice):
        return {"slice": [_write(one, tensors) for one in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, np.ndarray | np.generic) or tf.is_tensor(value) or hasattr(value, "numpy"):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    raise TypeError(f"an argument is a {type(value).__name__}")


def _read(told: Any, tensors: Sequence[Any]) -> Any:
    """The inverse of `_write`."""
    if "tensor" in told:
        return tensors[told["tensor"]]
    if "several" in told:
        values = [_read(one, tensors) for one in told["several"]]
        return tuple(values) if told["tuple"] else values
    if "slice" in told:
        return slice(*(_read(one, tensors) for one in told["slice"]))
    if "ellipsis" in told:
        return Ellipsis
    return np.array(told["array"], told["dtype"]) if "array" in told else told["plain"]
