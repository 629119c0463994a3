"""Keras 3 models as tf_keras ones: their graph is replayed layer by layer, with the same settings and weights.

tensorflow-model-optimization knows Keras 2 alone. Nested models are flattened on the way. What comes out is compared
with what went in, layer by layer if need be.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.errors import ConfigError, one_line, retold
from autoopt.models.flatten import Calls, adapted_to, mixed, taken
from autoopt.models.graph_replay import (
    MIXED_TOLERANCE,
    MOST,
    TOLERANCE,
    NotRebuilt,
    Replay,
    draws_always,
    expect_same,
    functional,
    reason,
)
from autoopt.models.input_shapes import expect_fixed, expect_numbers, filled
from autoopt.models.keras3_masks import attention, masked, unmasks, without_masks
from autoopt.models.keras3_settings import settings_for
from autoopt.models.keras_internals import calls_of, in_graph
from autoopt.models.placeholders import placeholder

MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
"""Operators between two tensors that are layers in Keras 2."""
ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "swish", "Softplus": "softplus"}
"""Operators on one tensor that are activations in Keras 2, and without settings."""
SAME_AUGMENTATION = ("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomBrightness")
"""Layers that change images at random as those of Keras 2 of the same names do."""
ALWAYS_SETTLED = ("Resizing", "CenterCrop")
"""Layers among Keras 3's for images that do the same in training and inference."""


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


def read(path: str, where: str, custom_objects: Mapping[str, Any], allow_code: bool = False) -> Any:
    """A `.keras` or `.h5` file of Keras 3.

    Args:
        path: of the file.
        where: for messages.
        custom_objects: classes and functions of the model's own, by name, or the tf_keras layers that stand for them.
        allow_code: a Lambda layer's code may run.
        input_size: of the axes that its inputs leave open.

    Raises:
        ConfigError: if it can't be read, or holds code.
    """
    import keras

    own = {name: made for name, made in custom_objects.items() if not _of_keras2(made)}
    held = {name: placeholder(name, made) for name, made in custom_objects.items() if _of_keras2(made)}

    def load(given: Mapping[str, Any]) -> Any:
        return keras.saving.load_model(path, custom_objects=dict(given), compile=False, safe_mode=not allow_code)

    with retold(
        lambda error: ConfigError(f"{where}: model: {path} can't be read as a Keras 3 model: {_unread(error)}")
    ):
        try:
            return load(own)
        except TypeError:  # a class is not known to Keras 3
            if not held:
                raise
            return load(own | held)


def _of_keras2(made: Any) -> bool:
    import tf_keras

    return isinstance(made, type) and issubclass(made, tf_keras.layers.Layer)


def _unread(error: Exception) -> str:
    """Why Keras 3 can't read a file, and what to do."""
    text = one_line(error)
    if found := re.search(r"Could not (?:locate|find) (?:class|object|function) '?([\w>.]+)'?", text):
        name = found[1].split(">")[-1]
        return (
            f"it holds a {name} of your own; give the task the tf_keras layer that stands for it, custom_objects={{'{name}': ...}}, "
            "or its Keras 3 class, which is enough to quantize after training"
        )
    if "ambda" in text:
        return f"{text[:MOST]}; if you trust its code, set allow_code=True (init: --allow-code)"
    return text[:MOST]


def rebuild(model: Any, where: str, input_size: Sequence[int] = (), notes: list[str] | None = None) -> Any:
    """A functional or sequential Keras 3 model as a flat tf_keras one.

    Args:
        model: a built functional or sequential `keras.Model`.
        where: for messages.
        input_size: of the axes that its inputs leave open.
        notes: what people should know of the result is added to it.

    Raises:
        ConfigError: if it has no input shape, an open one, or takes text.
        NotRebuilt: naming the layer that tf_keras does not know, or whose outputs differ.
    """
    import keras
    import tf_keras

    flat = functional(model)
    if flat is None:
        raise ConfigError(f"{where}: model: has no input shape yet; give it an Input layer or call model.build(...)")
    expect_numbers(flat, where)
    if not input_size:
        expect_fixed(flat, where)
    calls = _Calls([] if notes is None else notes)
    replay = Replay(calls)
    inputs = []
    for tensor in flat.inputs:
        shape = (None, *filled(tensor.shape, input_size, where)[1:])
        inputs.append(tf_keras.Input(batch_shape=shape, dtype=tensor.dtype, name=calls.name(tensor.name)))
        replay.tensors[id(tensor)] = inputs[-1]
    replay.follow(flat)
    made = tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in flat.outputs], name=model.name)
    made.output_names = sorted(flat.output) if isinstance(flat.output, dict) else made.output_names
    calls.copy_weights()
    half = any(mixed(layer) for layer, _ in calls.layers.values())
    expect_same(flat, made, replay, (keras.Model, tf_keras.Model), MIXED_TOLERANCE if half else TOLERANCE)
    if always := [layer.name for layer in made.layers if draws_always(layer)]:
        calls.notes.append(
            f"{', '.join(always)}: called with training=True, so the file draws at random too (Keras 3's predict does not)"
        )
    return made


class _Calls(Calls):
    """Calls of Keras 3, made on layers of tf_keras."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def operation(self, node: Any) -> Any:
        return node.operation

    def is_model(self, operation: Any) -> bool:
        import keras

        return isinstance(operation, keras.Model)

    def arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        named = dict(node.arguments.kwargs)
        if "training" in named and named["training"] == _usual_mode(node.operation):
            del named["training"]  # Keras 3 notes its layers' defaults down as if somebody had asked for them
        return node.arguments.args, named

    def again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        import keras

        if not isinstance(node.operation, keras.layers.Layer):
            return self._operator(node.operation, arguments, named)
        layer = self.layer(node.operation)
        if layer is None:
            return [arguments[0]]
        outputs = _flat(layer(*arguments, **taken(layer, without_masks(layer, arguments, named))))
        return [self._unmasked(made) if masked(made) and unmasks(node, i) else made for i, made in enumerate(outputs)]

    def _unmasked(self, tensor: Any) -> Any:
        from autoopt.models import stand_ins

        return stand_ins.Unmasked(name=self.name("unmasked"))(tensor)

    def layer(self, layer: Any) -> Any:
        """The tf_keras layer that stands for this one; the same one each time."""
        import tf_keras

        if id(layer) in self.layers:
            return self.layers[id(layer)][1]
        kind = type(layer).__name__
        given = tf_keras.utils.get_custom_objects().get(kind)
        own = given if _of_keras2(given) else None
        known = own or getattr(tf_keras.layers, kind, None)
        if own is None and layer.__module__.startswith("keras."):
            if kind == "LayerScale":
                return self._scale(layer)
            if _augments(layer):
                return self._augmentation(layer)
        if known is None or not (own or type(layer).__module__.startswith("keras.")):
            raise NotRebuilt(
                f"the layer {layer.name} is a {kind}, which Keras 2 does not have",
                f"replace it, or give a tf_keras layer that stands for it: custom_objects={{'{kind}': ...}}",
            )
        if kind == "Lambda":
            made = tf_keras.layers.Lambda(layer.function, arguments=layer.arguments, name=self.name(layer.name))
            self.layers[id(layer)] = (layer, made)
            return made
        config = settings_for(known, layer.get_config())
        config["name"] = self.name(layer.name)
        if kind == "Normalization" and layer.weights:
            config |= adapted_to(layer)
        if config.get("activation") == "hard_silu":
            if kind != "Activation":
                raise NotRebuilt(
                    f"the layer {layer.name} has the activation hard_silu, which Keras 2 does not have",
                    "put it into a layer of its own",
                )
            return self._hard_silu
        try:
            # Its own way back asks for shapes that Keras 3 does not keep.
            made = attention(layer, known)(**config) if kind == "MultiHeadAttention" else known.from_config(config)
        except (TypeError, ValueError, KeyError) as error:
            raise NotRebuilt(f"the layer {layer.name} ({kind}) can't be rebuilt in Keras 2: {reason(error)}") from error
        self.layers[id(layer)] = (layer, made)
        return made

    def _augmentation(self, layer: Any) -> Any:
        """A layer that changes images at random in training; None where it can't be run in Keras 2."""
        import keras

        from autoopt.models import stand_ins

        shape = (2, *tuple(calls_of(layer)[0].input_tensors[0].shape)[1:])
        try:
            with retold(lambda error: NotRebuilt(reason(error))):
                told = json.dumps(keras.saving.serialize_keras_object(layer))
                made = stand_ins.Keras3Augmentation(told, name=self.name(layer.name))
                made(np.full(shape, 0.5, np.float32), training=True)
        except NotRebuilt as why:
            self.notes.append(
                f"the augmentation {layer.name} ({type(layer).__name__}) is left out of fine-tuning, because it can't be run: {why}"
            )
            made = None
        self.layers[id(layer)] = (layer, made)
        return made

    def _scale(self, layer: Any) -> Any:
        """A factor for each channel (ConvNeXt's, Touvron et al. 2021), as a depthwise convolution of one pixel."""
        import tf_keras

        made = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, name=self.name(layer.name))
        self.layers[id(layer)] = (layer, made)
        return made

    def _operator(self, operation: Any, arguments: Sequence[Any], named: dict[str, Any]) -> Sequence[Any]:
        """What comes out of an operator: by a layer of Keras 2 if one stands for it, else by `stand_ins.Keras3Operator`."""
        from autoopt.models import stand_ins

        kind, name = type(operation).__name__, self.name(operation.name)
        if not type(operation).__module__.startswith("keras."):
            raise NotRebuilt(f"the operator {operation.name} is a {kind} of your own")
        # Operators of Keras 3 give unmasked tensors; layers of Keras 2 pass masks on.
        known = None if named or any(map(masked, arguments)) else _known_operator(kind, arguments, name)
        if known is not None:
            return [known]
        begin = f"the operator {operation.name} ({kind}) can't be called in Keras 2"
        with retold(lambda error: NotRebuilt(f"{begin}: {reason(error)}")):
            told, tensors = stand_ins.written(operation, arguments, named)
            return _flat(stand_ins.Keras3Operator(told, name=name)(tensors))

    def _hard_silu(self, inputs: Any) -> Any:
        """X * relu6(x + 3) / 6, of layers that all techniques know (Howard et al. 2019)."""
        import tf_keras

        names = [self.name(f"hard_silu_{part}") for part in ("shift", "clip", "scale", "product")]
        shifted = tf_keras.layers.Rescaling(1.0, 3.0, name=names[0])(inputs)
        gate = tf_keras.layers.ReLU(6.0, name=names[1])(shifted)
        scaled = tf_keras.layers.Rescaling(1 / 6, name=names[2])(gate)
        return tf_keras.layers.Multiply(name=names[3])([inputs, scaled])

    def _cropped(self) -> str:
        """Why shapes differ between training and inference, if that is it."""
        crops = [layer.name for layer, _ in self.layers.values() if type(layer).__name__ == "RandomCrop"]
        why = "leaves images as large as they come when Keras 3 predicts; crop the data instead, or use a CenterCrop"
        return f" ({', '.join(crops)} {why})" if crops else ""

    def copy_weights(self) -> None:
        """Give every layer the weights of the one that it stands for."""
        for layer, made in self.layers.values():
            if made is None or not made.weights:
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
                raise NotRebuilt(f"the weights of the layer {layer.name} don't fit Keras 2's{self._cropped()}")
            made.set_weights(found)


def _flat(outputs: Any) -> Sequence[Any]:
    import tensorflow as tf

    flat: list[Any] = tf.nest.flatten(outputs)
    return flat


def _usual_mode(operation: Any) -> Any:
    """The mode for training that a layer of Keras 3 has where nobody asks for one."""
    given = inspect.signature(operation.call).parameters.get("training")
    return None if given is None else given.default


def _augments(layer: Any) -> bool:
    """Whether a layer of Keras 3 changes images at random, otherwise than the one of Keras 2 does."""
    kind, config = type(layer).__name__, layer.get_config()
    if kind == "Pipeline":
        return all(type(one).__name__ in SAME_AUGMENTATION or _augments(one) for one in layer.layers)
    for_images = any(base.__name__ == "BaseImagePreprocessingLayer" for base in type(layer).__mro__)
    same = kind in SAME_AUGMENTATION and config.get("data_format") in (None, "channels_last")
    return for_images and kind not in ALWAYS_SETTLED and not same


def _known_operator(kind: str, arguments: Sequence[Any], name: str) -> Any:
    """What comes out of a layer of Keras 2 that stands for an operator; None if none does."""
    import tf_keras

    tensors = [value for value in arguments if in_graph(value)]
    numbers = [float(value) for value in arguments if isinstance(value, int | float) and not isinstance(value, bool)]
    if kind in ACTIVATIONS and len(tensors) == len(arguments) == 1:
        return tf_keras.layers.Activation(ACTIVATIONS[kind], name=name)(tensors[0])
    alike = len({len(tensor.shape) for tensor in tensors}) == 1  # layers of Keras 2 align shapes from the left
    if kind in MERGES and len(tensors) == len(arguments) == 2 and alike:
        return getattr(tf_keras.layers, kind)(name=name)(tensors)
    if len(tensors) == len(numbers) == 1 and len(arguments) == 2 and tensors[0].dtype.is_floating:
        [number], behind = numbers, not isinstance(arguments[0], int | float)
        known = {"Add": (1.0, number), "Multiply": (number, 0.0)}
        known |= {"Subtract": (1.0, -number) if behind else (-1.0, number)}
        known |= {kind: (1 / number, 0.0) for kind in ("Divide", "TrueDivide") if behind and number}
        if kind in known:
            return tf_keras.layers.Rescaling(*known[kind], name=name)(tensors[0])
    return None
