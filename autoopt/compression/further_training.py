"""Training the model further as it is, before anything is taken from it.

What it brings shows how far the untouched model was from its best: to that the cost of every technique is to be compared.
"""

from typing import Any

from autoopt.compression.training import Training
from autoopt.compression.wrapping import KEPT, Wrapped, kept, kernels


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Train the model as it is.

    Args:
        model: tf_keras model; its weights are changed.
        settings: `finetune` alone.
        training: not needed.
    """
    alone = kept(model, settings)
    able = [layer for layer in model.layers if kernels(layer)]
    return Wrapped(
        model=model,
        unwrap=lambda trained: trained,
        touched=[layer.name for layer in able if layer.name not in alone],
        skipped=[
            {"layer": layer.name, "kind": type(layer).__name__, "why": KEPT} for layer in able if layer.name in alone
        ],
    )
