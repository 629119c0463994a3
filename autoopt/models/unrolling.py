"""Recurrent layers as their steps, one after the other: all that files and small runtimes take of them."""

from typing import Any

from autoopt.models import loading


def unrolled(model: Any, *, whole: bool = True) -> Any:
    """The model with its recurrent layers unrolled, with the same weights; itself where it has none.

    As a loop, the converter takes them only for a fixed batch, makes an operator of them that remembers the items before,
    and litert-quantizer can't calibrate that.

    Args:
        model: tf_keras model.
        whole: an older GRU (`reset_after=False`) multiplies by two gates' kernel at once and cuts an empty third off, which
            small runtimes refuse; else gate by gate.
    """
    import tf_keras

    configs = {layer.name: layer.get_config() for layer in model.layers}
    loops = {name for name, config in configs.items() if _looping(config)}
    if not loops:
        return model

    def choose(layer: Any) -> Any:
        return type(layer).from_config(
            _as_steps(configs[layer.name], whole) if layer.name in loops else configs[layer.name]
        )

    with loading.knowing():
        made = tf_keras.models.clone_model(model, clone_function=choose)
    made.set_weights(model.get_weights())
    made.output_names = model.output_names
    return made


def recurrent(model: Any) -> bool:
    """Whether a model has recurrent layers of Keras's, unrolled or to be; a `ClosedModel` shows no layers."""
    return any(_stepping(layer.get_config()) for layer in getattr(model, "layers", ()))


def _stepping(config: Any) -> bool:
    """Whether a layer's settings, or those of a layer that it wraps, are a recurrent one's; see `_looping`."""
    if not isinstance(config, dict):
        return False
    own = "unroll" in config and "kernel_size" not in config
    return own or any(_stepping(value) for value in config.values())


def _looping(config: Any) -> bool:
    """Whether a layer's settings, or those of a layer that it wraps, are a loop's that starts anew with each item."""
    if not isinstance(config, dict):
        return False
    own = config.get("unroll") is False and not config.get("stateful") and "kernel_size" not in config
    return own or any(_looping(value) for value in config.values())


def _as_steps(config: Any, whole: bool) -> Any:
    """The same settings, unrolled."""
    if not isinstance(config, dict):
        return config
    steps = {name: _as_steps(value, whole) for name, value in config.items()}
    if "unroll" in config and "kernel_size" not in config:  # a recurrent convolution can't be unrolled
        steps["unroll"] = True
    if config.get("reset_after") is False and not whole:
        steps["implementation"] = 1
    return steps
