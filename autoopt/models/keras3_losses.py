"""Losses of Keras 3 as those of tf_keras: the same classes with the same settings."""

import inspect
from typing import Any

from autoopt.core.validation import fail
from autoopt.models.keras_internals import settings_of_function

REDUCTIONS = {"mean": "sum_over_batch_size", "mean_with_sample_weight": "sum_over_batch_size", None: "none"}
"""How Keras 3 sums a loss up, where Keras 2 calls it otherwise; weights of items play no part in a task."""


def in_keras2(loss: Any, where: str) -> Any:
    """What stands for a loss of Keras 3 in tf_keras; any other loss as it is.

    Args:
        loss: a `keras.losses.Loss`, a function of `keras.losses`, or what else a task takes.
        where: for messages.

    Raises:
        ConfigError: if tf_keras has no such loss, or not with these settings.
    """
    kind = loss if hasattr(loss, "__name__") else type(loss)  # functions and classes have a name, losses' objects none
    if not str(getattr(kind, "__module__", "")).startswith("keras."):
        return loss
    import tf_keras

    name = kind.__name__
    known = getattr(tf_keras.losses, name, None)
    if known is None:
        fail(where, "a loss that Keras 2 has too, or a function (labels, outputs) of your own", f"Keras 3's {name}")
    if kind is loss:  # a function, or a class
        return known() if inspect.isclass(known) else name
    config = loss.get_config() | settings_of_function(loss)
    usual = {key: p.default for key, p in inspect.signature(type(loss).__init__).parameters.items()}
    takes = inspect.signature(known.__init__).parameters
    strange = [key for key, value in config.items() if key not in takes and key != "dtype" and value != usual.get(key)]
    if strange:
        fail(where, f"settings of {name} that Keras 2 has too", ", ".join(f"{key}={config[key]}" for key in strange))
    settings = {key: value for key, value in config.items() if key in takes}
    settings["reduction"] = REDUCTIONS.get(config.get("reduction"), config.get("reduction"))
    return known(**settings)
