"""Layers that tfmot can't quantize as they are, taken apart into others that compute the same."""

from collections.abc import Sequence
from typing import Any

from autoopt.models.flatten import Calls
from autoopt.models.graph_replay import Replay
from autoopt.models.keras_internals import mask_of

TAKEN_APART = ("SeparableConv1D", "SeparableConv2D")
"""Layers that tfmot quantizes by making others of them."""
LOOKS_UP = "Embedding"
"""A layer that takes integers, for which tfmot would look for a range."""


def taken_apart(model: Any) -> tuple[Any, dict[str, str], set[str]]:
    """Layers that tfmot can't quantize as they are, as others that compute the same.

    Separable convolutions become a depthwise and a pointwise one each; of series, images of one row. tfmot would do so
    too, with names that say nothing of where they come from, and for series with code of its own that can't be read
    back. Dense layers on series become pointwise convolutions: the converter keeps their biases apart, in float. A layer
    without effect stands behind each table, to find the range of what is looked up.

    Returns:
        the model, for each part the layer that it was of, and the names of the layers behind tables.
    """
    import tf_keras

    if not any(type(layer).__name__ in (*TAKEN_APART, LOOKS_UP) or _on_series(layer) for layer in model.layers):
        return model, {}, set()
    calls = _Apart()
    replay = Replay(calls)
    inputs = [tf_keras.Input(batch_shape=old.shape, dtype=old.dtype, name=name)
              for name, old in zip(model.input_names, model.inputs, strict=True)]  # fmt: skip
    replay.tensors |= {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    replay.follow(model)
    made = tf_keras.Model(inputs, [replay.tensors[id(tensor)] for tensor in model.outputs], name=model.name)
    made.output_names = model.output_names
    for old, new in calls.layers.values():
        if new.weights:
            new.set_weights(old.get_weights())
    for old, parts in calls.parts.values():
        wanted = [weight for part in parts for weight in part.weights]
        values = [w.reshape(to.shape) for w, to in zip(old.get_weights(), wanted, strict=True)]
        for part in parts:
            part.set_weights([values.pop(0) for _ in part.weights])
    return made, {part.name: old.name for old, parts in calls.parts.values() for part in parts}, calls.looked_up


def _on_series(layer: Any) -> bool:
    """Whether this is a dense layer on series, none of which is masked."""
    tensors = [node.keras_inputs[0] for node in layer.inbound_nodes if node.keras_inputs]
    alike = all(len(tensor.shape) == 3 and mask_of(tensor) is None for tensor in tensors)
    return type(layer).__name__ == "Dense" and alike


class _Apart(Calls):
    """Calls on new layers, of which some do together what one did.

    Attributes:
        parts: by the old layer's identity that layer, and what does its work.
        looked_up: names of the layers behind tables.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[int, tuple[Any, list[Any]]] = {}
        self.looked_up: set[str] = set()

    def again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        import tf_keras

        old = self.operation(node)
        if type(old).__name__ == LOOKS_UP:
            behind = tf_keras.layers.Activation("linear", name=self.name(f"{old.name}_range"))
            self.looked_up.add(behind.name)
            return [behind(*super().again(node, arguments, named))]
        if type(old).__name__ not in TAKEN_APART and not _on_series(old):
            return super().again(node, arguments, named)
        if id(old) not in self.parts:
            self.parts[id(old)] = (
                old,
                [self._pointwise(old)] if _on_series(old) else [self._depthwise(old), self._pointwise(old)],
            )
        [tensor], series = arguments, len(arguments[0].shape) == 3
        tensor = self._row(tensor, old) if series else tensor
        for part in self.parts[id(old)][1]:
            tensor = part(tensor)
        return [self._reshape(tensor, tensor.shape[2:], f"{old.name}_series") if series else tensor]

    def _row(self, series: Any, old: Any) -> Any:
        """A series as an image of one row; with steps before it where no output may see later ones."""
        import tf_keras

        image = self._reshape(series, (1, *series.shape[1:]), f"{old.name}_row")
        if getattr(old, "padding", "") != "causal":
            return image
        before = old.dilation_rate[0] * (old.kernel_size[0] - 1)
        return tf_keras.layers.ZeroPadding2D(((0, 0), (before, 0)), name=self.name(f"{old.name}_padding"))(image)

    def _reshape(self, tensor: Any, shape: Sequence[int], name: str) -> Any:
        import tf_keras

        return tf_keras.layers.Reshape(tuple(shape), name=self.name(name))(tensor)

    def _depthwise(self, old: Any) -> Any:
        """The first part of a separable convolution, of images."""
        import tf_keras

        series, config = len(old.kernel_size) == 1, old.get_config()
        return tf_keras.layers.DepthwiseConv2D(
            (1, *old.kernel_size) if series else old.kernel_size,
            strides=old.strides * 2 if series else old.strides,
            dilation_rate=(1, *old.dilation_rate) if series else old.dilation_rate,
            padding="valid" if old.padding == "causal" else old.padding,
            depth_multiplier=old.depth_multiplier,
            depthwise_regularizer=config["depthwise_regularizer"],
            use_bias=False,
            trainable=old.trainable,
            data_format=old.data_format,
            name=self.name(f"{old.name}_depthwise"),
        )

    def _pointwise(self, old: Any) -> Any:
        """The second part of a separable convolution, or what a dense layer does, of images."""
        import tf_keras

        config = old.get_config()
        return tf_keras.layers.Conv2D(
            config["units" if "units" in config else "filters"],
            1,
            activation=config["activation"],
            use_bias=config["use_bias"],
            kernel_regularizer=config.get("pointwise_regularizer", config.get("kernel_regularizer")),
            bias_regularizer=config["bias_regularizer"],
            trainable=old.trainable,
            data_format=config.get("data_format"),
            name=self.name(f"{old.name}_pointwise"),
        )
