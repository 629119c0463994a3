"""A model that is ready to train with a technique in the loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(kw_only=True)
class Wrapped:
    """What a stage hands to the training.

    Attributes:
        model: the tf_keras model to train.
        unwrap: takes the technique's scaffolding off the trained model.
        touched: the names of the layers that the technique changes.
        skipped: the layers with kernels that it leaves alone: `layer`, `kind`, `why`.
        callbacks: for `model.fit`.
        first_epoch: the first epoch (counting from 0) after which the technique is fully in force;
            the best epoch is not chosen before it.
        changes: gives for a layer the kernels that the technique changes, where those are not all.
        settle: gives the model with other weights what the technique demands of them.
        notes: what people should know of how it went.
        parts: names of layers that a touched one was taken apart to, and its own.
        facts: what else goes into the stage's report, once the scaffolding is off.
    """

    model: Any
    unwrap: Callable[[Any], Any]
    touched: list[str]
    skipped: list[dict[str, str]]
    callbacks: list[Any] = field(default_factory=list)
    first_epoch: int = 0
    changes: Callable[[Any], list[Any]] | None = None
    settle: Callable[[Any], None] = lambda model: None
    notes: list[str] = field(default_factory=list)
    parts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def describe(self, model: Any) -> list[dict[str, Any]]:
        """What the touched kernels look like in the unwrapped model: shape, zeros, distinct values."""
        rows = []
        for name in self.touched:
            layers = self._find(model, name)
            for weight in (weight for layer in layers for weight in (self.changes or kernels)(layer)):
                values = weight.numpy()
                rows.append(
                    {
                        "layer": name,
                        "shape": list(values.shape),
                        "sparsity": float((values == 0).mean()),
                        "distinct": len(np.unique(values)),
                        "distinct_per_channel": max(
                            len(np.unique(channel)) for channel in values.reshape(-1, values.shape[-1]).T
                        ),
                    }
                )
        return rows

    def _find(self, model: Any, name: str) -> list[Any]:
        by_name = {layer.name: layer for layer in model.layers}
        names = [name, *(part for part, whole in self.parts.items() if whole == name)]
        found = (by_name.get(one, by_name.get(f"quant_{one}")) for one in names)
        return [layer for layer in found if layer is not None]


def kernels(layer: Any) -> list[Any]:
    """A layer's weights with two dimensions or more, frozen or not: those that compression is about."""
    return [w for w in layer.weights if len(w.shape) >= 2]


KEPT = "it is frozen, and finetune.frozen is keep"
"""Why a layer is left alone."""


def frozen(model: Any) -> list[str]:
    """Names of the layers with weights that are not to be trained, as the user set it."""
    return [layer.name for layer in model.layers if layer.weights and not layer.trainable]


def thaw(model: Any) -> None:
    """Have everything trained but batch normalization that is frozen: its statistics are its backbone's."""
    norms = [layer for layer in model.layers if _is_norm(layer) and not layer.trainable]
    model.trainable = True
    for layer in norms:
        layer.trainable = False


def _is_norm(layer: Any) -> bool:
    return any(kind.__name__ in ("BatchNormalization", "BatchNormalizationBase") for kind in type(layer).__mro__)


def kept(model: Any, settings: Mapping[str, Any]) -> set[str]:
    """Names of the layers that a stage is to leave alone, for they are frozen."""
    return set(frozen(model)) if settings.get("finetune", {}).get("frozen") == "keep" else set()


class Keeping:
    """Holds a kernel's zeros at zero and, with `clusters`, its equal weights equal.

    Equal weights move together, by the mean of what the training would do to each.
    """

    def __init__(self, kernel: Any, clusters: bool) -> None:
        values = kernel.numpy()
        self.kernel = kernel
        self.mask = (values != 0).astype(values.dtype)
        self.groups, self.number = None, 0
        if clusters:
            distinct, groups = np.unique(values, return_inverse=True)
            self.groups, self.number = groups.reshape(values.shape), len(distinct)

    def kept(self, kernel: Any) -> Any:
        """The kernel as it is to be."""
        import tensorflow as tf

        if self.groups is not None:
            kernel = tf.gather(tf.math.unsorted_segment_mean(kernel, self.groups, self.number), self.groups)
        return kernel * self.mask

    def restore(self) -> None:
        """Make it so."""
        self.kernel.assign(self.kept(self.kernel))


def keep_skipped(wrapped: Wrapped, settings: dict[str, Any]) -> Any:
    """A callback that holds what earlier stages gave to the layers that this one leaves alone."""
    import tf_keras

    clusters = settings.get("preserve_clusters", False)
    names = {row["layer"] for row in wrapped.skipped} if clusters or settings.get("preserve_sparsity") else set()
    held = [Keeping(k, clusters) for layer in wrapped.model.layers if layer.name in names for k in kernels(layer)]

    class Keep(tf_keras.callbacks.Callback):  # type: ignore[misc]
        _supports_tf_logs = True  # it reads none

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            for keeping in held:
                keeping.restore()

    return Keep()


def clone(model: Any, choose: Callable[[Any], tuple[Any, str]]) -> tuple[Any, list[str], list[dict[str, str]]]:
    """Rebuild a model with some layers wrapped.

    Args:
        model: a flat tf_keras model.
        choose: gives for a layer its wrapped form and ``, or the layer (perhaps wrapped too) and why its kernels are
            left alone (`` where there is nothing to wrap).

    Returns:
        the new model, the names of wrapped layers with kernels, and the skipped layers.
    """
    import tf_keras

    touched: list[str] = []
    skipped: list[dict[str, str]] = []

    def wrap(layer: Any) -> Any:
        has_kernels = bool(kernels(layer))
        chosen, why = choose(layer)
        if chosen is not layer and has_kernels and not why:
            touched.append(layer.name)
        elif has_kernels and why:
            skipped.append({"layer": layer.name, "kind": type(layer).__name__, "why": why})
        return chosen

    return tf_keras.models.clone_model(model, clone_function=wrap), touched, skipped
