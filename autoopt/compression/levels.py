"""Weights on a learned uniform grid of few levels, in kernels that batch normalization is folded into.

Learned step size (Esser et al. 2020, LSQ) with straight-through rounding: a kernel is whole multiples of its step, and
both are trained. All of it is trained in parts of the kernel's root mean square: behind a folded normalization kernels
differ in size by orders of magnitude, and one step of Adam would wipe small ones out.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression.batchnorm_folding import fold
from autoopt.compression.training import Training
from autoopt.compression.wrapping import KEPT, Wrapped, clone, kept, kernels
from autoopt.core.stage_settings import MOST_LEVELS
from autoopt.core.step_fitting import least_error
from autoopt.models.keras_internals import standing_in

KERNELS = {
    "Conv1D": ("kernel",),
    "Conv2D": ("kernel",),
    "Conv2DTranspose": ("kernel",),
    "Dense": ("kernel",),
    "DepthwiseConv1D": ("depthwise_kernel",),
    "DepthwiseConv2D": ("depthwise_kernel",),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel"),
}
"""Names of the kernels of each kind of layer that can have levels."""
SHARES = np.linspace(1, 0.2, 41)
"""Steps of which the one with the least squared error is where the learning begins, as shares of the longest that makes sense."""


@dataclass(frozen=True)
class Grid:
    """The grid of one kernel.

    Attributes:
        name: of the kernel in its layer.
        number: levels, odd.
        channels: the kernel's axes that have a step each; none for one step.
    """

    name: str
    number: int
    channels: tuple[int, ...]


def wrap(model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """Train on learned levels.

    Args:
        model: a flat tf_keras model.
        settings: fields of `Levels`, and `preserve_sparsity`.
        training: not needed: steps begin where the squared error is least.
    """
    import tf_keras

    alone = kept(model, settings)
    model = fold(_fresh(model), apart=alone)
    grids = _grids(model, settings, alone)

    def choose(layer: Any) -> tuple[Any, str]:
        if not kernels(layer):
            return layer, ""
        if why := _why_not(layer, alone):
            return layer, why
        wrapper, sparse = _on_grid(), settings["preserve_sparsity"]
        return wrapper(layer, grids[layer.name], sparse, settings["penalty"], name=layer.name), ""

    wrapped, touched, skipped = clone(model, choose)
    facts: dict[str, Any] = {}

    def unwrap(trained: Any) -> Any:
        facts["levels"] = [row for layer in trained.layers if layer.name in touched for row in layer.settle()]
        return tf_keras.models.clone_model(
            trained, clone_function=lambda layer: layer.layer if layer.name in touched else layer
        )

    def changes(layer: Any) -> list[Any]:
        return [getattr(layer, grid.name) for grid in grids[layer.name]]

    return Wrapped(model=wrapped, unwrap=unwrap, touched=touched, skipped=skipped, changes=changes, facts=facts)


def _fresh(model: Any) -> Any:
    """The same model of new layers, without regularizers.

    Layers that were part of another model would count as shared, and not be folded. And what a regularizer takes of weights
    was chosen for them as they were, not for weights in parts of a folded kernel's root mean square.
    """
    import tf_keras

    def again(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config(
            {name: None if name.endswith("_regularizer") else value for name, value in config.items()}
        )

    made = tf_keras.models.clone_model(model, clone_function=again)
    made.set_weights(model.get_weights())
    for old, new in zip(model.layers, made.layers, strict=True):
        new.trainable = old.trainable
    return made


def _why_not(layer: Any, alone: set[str]) -> str:
    """Why a layer's kernels are left alone; `` where they are not."""
    if layer.name in alone:
        return KEPT
    if type(layer).__name__ not in KERNELS:
        return "levels are learned in convolutions and dense layers alone"
    if not layer.trainable_weights:
        return "none of its weights are ever trained"
    if any(getattr(layer, f"{name}_constraint", None) for name in (*KERNELS[type(layer).__name__], "bias")):
        return "its weights have a constraint"
    if not all(getattr(layer, name).numpy().any() for name in KERNELS[type(layer).__name__]):
        return "it holds nothing but zeros"
    return ""


def _grids(model: Any, settings: dict[str, Any], alone: set[str]) -> dict[str, list[Grid]]:
    """How many levels each kernel has: smaller ones more, the first layer and the last at least `ends`."""
    layers = [layer for layer in model.layers if kernels(layer) and not _why_not(layer, alone)]
    largest = max((_size(getattr(at, name)) for at in layers for name in KERNELS[type(at).__name__]), default=0)
    found = {}
    for layer in layers:
        least = settings["ends"] if layer in (layers[0], layers[-1]) else 0
        found[layer.name] = [
            Grid(
                name=name,
                number=levels_of(settings["number"], _size(getattr(layer, name)), largest, settings["by_size"], least),
                channels=_channels(layer, name, settings["per_channel"]),
            )
            for name in KERNELS[type(layer).__name__]
        ]
    return found


def levels_of(number: int, size: int, largest: int, by_size: float, least: int = 0) -> int:
    """How many levels a kernel of some size has; odd, and at most what 8 bits hold.

    Args:
        number: of the largest kernel.
        size: of this one, in weights.
        largest: size of the largest.
        by_size: see `Levels`.
        least: as few as it may have.
    """
    wanted: float = max(number * (largest / size) ** by_size, least)
    return min(2 * round((wanted - 1) / 2) + 1, MOST_LEVELS)


def _size(kernel: Any) -> int:
    return int(math.prod(kernel.shape))


def _channels(layer: Any, name: str, per_channel: bool) -> tuple[int, ...]:
    """The axes of a kernel that have a step each."""
    rank = len(getattr(layer, name).shape)
    if name == "depthwise_kernel":
        return (rank - 2, rank - 1)  # what such channels have learned differs too much for one step
    if not per_channel:
        return ()
    return (rank - 2,) if "Transpose" in type(layer).__name__ else (rank - 1,)


def first_steps(kernel: np.ndarray, grid: Grid) -> np.ndarray:
    """Steps with the least squared error, of so many from a fifth of what holds the largest weight up to that.

    Args:
        kernel: shape as the layer's.
        grid: of the kernel.

    Returns:
        of the kernel's rank, with length 1 where an axis has one step.
    """
    first = np.moveaxis(kernel, grid.channels, range(len(grid.channels)))
    rows = first.reshape(math.prod(first.shape[: len(grid.channels)]), -1)
    steps = least_error(rows, grid.number // 2, SHARES)
    return steps.reshape([size if axis in grid.channels else 1 for axis, size in enumerate(kernel.shape)])


@functools.cache
def _on_grid() -> Any:
    """The layer that trains another on its grids; made when TensorFlow is there."""
    import tensorflow as tf
    import tf_keras

    class OnGrid(tf_keras.layers.Wrapper):  # type: ignore[misc]
        """Calls a layer with kernels of whole multiples of steps that are trained.

        The variables of the layer hold its weights in parts of their root mean square, from here to `settle`.
        """

        def __init__(self, layer: Any, grids: Sequence[Grid], sparse: bool, penalty: float, **named: Any) -> None:
            super().__init__(layer, **named)
            self.penalty = penalty
            self.supports_masking = layer.supports_masking
            self.grids, self.steps = grids, []
            self.sizes: dict[str, float] = {}
            self.masks: dict[str, np.ndarray] = {}
            for grid in grids:
                kernel = getattr(layer, grid.name)
                values = self._in_parts(kernel, grid.name)
                if sparse:
                    self.masks[grid.name] = (values != 0).astype(values.dtype)
                first = np.log(first_steps(values, grid)).astype(values.dtype)
                self.steps.append(
                    self.add_weight(
                        name=f"{grid.name}_step",
                        shape=first.shape,
                        initializer=tf_keras.initializers.Constant(first),
                        trainable=True,
                    )
                )
            if getattr(layer, "bias", None) is not None:
                self._in_parts(layer.bias, "bias")

        def _in_parts(self, variable: Any, name: str) -> np.ndarray:
            """Divide a variable by its root mean square, which is kept."""
            values = variable.numpy()
            size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0
            self.sizes[name] = size
            variable.assign(values / size)
            return np.asarray(variable.numpy())

        def build(self, input_shape: Any = None) -> None:
            self.built = True  # as the layer within is

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask)

        def call(self, inputs: Any) -> Any:
            stand_ins = {grid.name: self._kernel(grid, step) for grid, step in zip(self.grids, self.steps, strict=True)}
            if "bias" in self.sizes:
                stand_ins["bias"] = self.layer.bias * self.sizes["bias"]
            squares = self.penalty * sum(
                tf.reduce_sum(tf.square(getattr(self.layer, grid.name))) for grid in self.grids
            )
            self.add_loss(squares - tf.stop_gradient(squares))  # which moves weights, and leaves the loss what it is
            with standing_in(self.layer, stand_ins):
                return self.layer.call(inputs)

        def _kernel(self, grid: Grid, log_step: Any) -> Any:
            """The kernel as it is stored, with gradients as if it was not rounded."""
            weights, step, half = getattr(self.layer, grid.name), tf.exp(log_step), grid.number // 2
            if grid.name in self.masks:
                weights = weights * self.masks[grid.name]
            held = tf.clip_by_value(weights / step, -half, half)
            return (held + tf.stop_gradient(tf.round(held) - held)) * (step * self.sizes[grid.name])

        def settle(self) -> list[dict[str, Any]]:
            """Give the layer within the weights that it has been called with; tells of each kernel what it holds."""
            told = []
            for grid, step in zip(self.grids, self.steps, strict=True):
                kernel = getattr(self.layer, grid.name)
                kernel.assign(self._kernel(grid, step))
                # Of what is stored: worked out anew, a weight that lies between two levels might be rounded to the other.
                multiples = np.round(kernel.numpy() / (np.exp(step.numpy()) * self.sizes[grid.name]))
                levels, counts = np.unique(multiples.astype(int), return_counts=True)
                told.append(
                    {
                        "layer": self.name,
                        "shape": list(kernel.shape),
                        "number": grid.number,
                        "steps": step.numpy().size,
                        "counts": dict(zip(map(str, levels.tolist()), counts.tolist(), strict=True)),
                    }
                )
            if "bias" in self.sizes:
                self.layer.bias.assign(self.layer.bias * self.sizes["bias"])
            return told

    return OnGrid
