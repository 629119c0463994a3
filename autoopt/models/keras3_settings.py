"""A layer's settings of Keras 3 as tf_keras takes them."""

import inspect
from typing import Any

from autoopt.models.flatten import float_of

ALWAYS = {"name", "trainable", "dtype"}
"""Settings that every layer takes, though its constructor does not name them."""
RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
"""Settings of Keras 3 that Keras 2 calls otherwise."""


def settings_for(kind: Any, config: dict[str, Any]) -> dict[str, Any]:
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
            config = _plain(value["config"]) if known is None else settings_for(known, value["config"])
            return {"class_name": value["class_name"], "config": config}
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner) for inner in value)
    return value
