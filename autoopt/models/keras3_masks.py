"""Masks of steps, which Keras 2 and 3 pass on and use in different ways."""

import inspect
from typing import Any

from autoopt.models.keras_internals import calls_of, mask_of


def masked(tensor: Any) -> bool:
    """Whether a tensor of a graph, of Keras 2 or 3, carries a mask."""
    return mask_of(tensor) is not None


def unmasks(node: Any, index: int) -> bool:
    """Whether nothing is masked in an output of a call of Keras 3: joined with what is not masked, nothing is."""
    joined = type(node.operation).__name__ == "Concatenate" and not all(map(masked, node.input_tensors))
    return joined or not masked(node.outputs[index])


def attention(layer: Any, known: Any) -> Any:
    """The class of Keras 2 that attends as a `MultiHeadAttention` of Keras 3 does.

    Where it computes scores itself, Keras 3 gives nothing to a step that may look at none; else it gives the mean, as Keras 2 does.
    """
    import tf_keras

    from autoopt.models import stand_ins

    asked = (node.arguments.kwargs.get("attention_mask") is not None for node in calls_of(layer))
    hidden = any(map(masked, _tensors(layer))) or any(asked)
    scored = layer.get_config()["dropout"] > 0 or any(len(tensor.shape) > 3 for tensor in _tensors(layer))
    own = known is not tf_keras.layers.MultiHeadAttention
    return stand_ins.BlindAttention if hidden and scored and not own else known


def _tensors(layer: Any) -> list[Any]:
    """What a layer is called on."""
    return [tensor for node in calls_of(layer) for tensor in node.input_tensors]


def without_masks(layer: Any, arguments: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Arguments without masks that the tensors of Keras 2 carry by themselves, or that its layer does not take."""
    import keras  # type: ignore[import-untyped]

    takes = inspect.signature(getattr(layer, "call", layer)).parameters
    carried = bool(arguments) and masked(arguments[0])

    def left_out(name: str, value: Any) -> bool:
        # A tensor of the old graph, so no call's output: Keras 3 derived it from the mask of what the layer is called on.
        implied = isinstance(value, keras.KerasTensor)
        return (name == "mask" and (carried or implied)) or (name.endswith("_mask") and name not in takes)

    return {name: value for name, value in named.items() if not left_out(name, value)}
