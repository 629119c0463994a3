"""Which channels of a model hang together: found by following its graph, layer by layer.

Every channel of every tensor has a number. Layers that make channels (convolutions, dense layers) give new numbers,
layers that pass them on keep them, and those that join tensors element by element tie numbers together. Channels that
are tied can only go together (as in DepGraph, Fang et al. 2023; there by gradients, here by what each layer does).
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.models.keras_internals import calls_in_order

Numbers = np.ndarray
"""Of a tensor's channels: shape (channels,), integers."""

ELEMENTWISE = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "swish", "silu", "mish", "sigmoid", "hard_sigmoid",
    "tanh", "softplus", "softsign", "exponential", "hard_swish", "hard_silu",
)  # fmt: skip
"""Activations that treat each channel by itself."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """An axis of a weight that runs over channels.

    Attributes:
        layer: its name.
        weight: position in the layer's `weights`.
        axis: of the weight.
        channels: number of the channel at each position along the axis.
        makes: whether the layer makes these channels, rather than taking them.
    """

    layer: str
    weight: int
    axis: int
    channels: Numbers
    makes: bool = False


@dataclass(frozen=True, kw_only=True)
class Size:
    """A setting of a layer that counts channels.

    Attributes:
        layer: its name.
        setting: in its configuration.
        channels: those that are counted.
        shape: the whole setting where it is a shape with the channels last, else None.
    """

    layer: str
    setting: str
    channels: Numbers
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that the same layers make, so that each can go by itself.

    Attributes:
        layers: that make them.
        channels: numbers of those that may go.
    """

    layers: tuple[str, ...]
    channels: Numbers


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a model's graph says about its channels. Tied channels share a number.

    Attributes:
        uses: every axis of every weight that runs over channels.
        sizes: every setting that counts them.
        groups: channels that may go.
        whole: why channels have to stay, by the layer that makes them.
        number: how many numbers there are.
    """

    uses: tuple[Use, ...]
    sizes: tuple[Size, ...]
    groups: tuple[Group, ...]
    whole: dict[str, str]
    number: int


def trace(model: Any, whole: Collection[str] = (), why: str = "") -> Trace:
    """Follow a flat functional or sequential tf_keras model, with channels last.

    Args:
        model: tf_keras model.
        whole: names of layers whose channels have to stay, those that they take and those that they make.
        why: in words for people.
    """
    tracer = _Tracer()
    for node in calls_in_order(model):
        tracer.follow(node)
    for tensor in model.outputs:
        tracer.fix(tracer.of(tensor), "they are the model's output")
    for use in tracer.uses:
        if use.layer in whole:
            tracer.fix(use.channels, why if use.makes else f"{use.layer} takes them: {why}")
    return tracer.result()


class _Tracer:
    """Collects what the layers do, in the order of the graph."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.fixed: dict[int, str] = {}
        self.tensors: dict[int, Numbers] = {}
        self.uses: list[Use] = []
        self.sizes: list[Size] = []
        self.seen: dict[str, tuple[Numbers, Numbers]] = {}

    # ---- numbers

    def new(self, count: int) -> Numbers:
        """Numbers for channels that were not there before."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, number: int) -> int:
        """The number that stands for all that are tied to this one."""
        while self.parents[number] != number:
            self.parents[number] = number = self.parents[self.parents[number]]
        return number

    def tie(self, a: Numbers, b: Numbers) -> None:
        """Have channels go together, place by place."""
        for x, y in zip(a, b, strict=True):
            first, second = self.root(int(x)), self.root(int(y))
            if first != second:
                self.parents[second] = first
                if second in self.fixed:
                    self.fixed.setdefault(first, self.fixed[second])

    def fix(self, channels: Numbers, why: str) -> None:
        """Have channels stay."""
        for number in channels:
            self.fixed.setdefault(self.root(int(number)), why)

    def of(self, tensor: Any) -> Numbers:
        """The numbers of a tensor's channels."""
        return self.tensors[id(tensor)]

    # ---- layers

    def follow(self, node: Any) -> None:
        """One call of a layer."""
        import tensorflow as tf
        import tf_keras

        layer = node.layer
        outputs = tf.nest.flatten(node.outputs)
        inputs = [] if node.is_input else tf.nest.flatten(node.keras_inputs)
        taken = [self.of(tensor) for tensor in inputs]
        kind = type(layer).__name__
        known = KINDS.get(kind) if type(layer) is getattr(tf_keras.layers, kind, None) else None
        if known is not None and len(outputs) == 1 and getattr(layer, "data_format", None) != "channels_first":
            before = len(self.uses)
            made = known(self, layer, [tuple(tensor.shape) for tensor in inputs], taken, tuple(outputs[0].shape))
            if made is not None:
                self.tensors[id(outputs[0])] = self._again(layer, taken, made, before)
                return
        why = "they are the model's input" if node.is_input else f"{layer.name} ({kind}) needs them all"
        for numbers in taken:
            self.fix(numbers, why)
        for tensor in outputs:
            self.tensors[id(tensor)] = self.new(int(tensor.shape[-1] or 0) if len(tensor.shape) > 1 else 0)
            self.fix(self.of(tensor), why)

    def _again(self, layer: Any, taken: Sequence[Numbers], made: Numbers, before: int) -> Numbers:
        """What a layer makes; one that is called a second time makes the same, of the same."""
        if not layer.weights or not taken:
            return made
        if layer.name in self.seen:
            first_taken, first_made = self.seen[layer.name]
            self.tie(first_taken, taken[0])
            self.tie(first_made, made)
            del self.uses[before:]
            return first_made
        self.seen[layer.name] = taken[0], made
        return made

    def use(self, layer: Any, weight: str, axis: int, channels: Numbers, makes: bool = False) -> None:
        """Note that a weight's axis runs over channels; a weight that the layer has not is left out."""
        variable = getattr(layer, weight, None)
        places = [i for i, w in enumerate(layer.weights) if w is variable]
        if variable is not None and places:
            axis %= len(variable.shape)
            self.uses.append(Use(layer=layer.name, weight=places[0], axis=axis, channels=channels, makes=makes))

    def make(self, layer: Any, setting: str, count: int) -> Numbers:
        """Channels that a layer makes, as many as its setting says."""
        made = self.new(count)
        if not any(size.layer == layer.name for size in self.sizes):
            self.sizes.append(Size(layer=layer.name, setting=setting, channels=made))
        function = getattr(getattr(layer, "activation", None), "__name__", "")
        if function not in ELEMENTWISE:
            self.fix(made, f"the activation {function} of {layer.name} needs them all")
        return made

    # ---- all together

    def result(self) -> Trace:
        """With every number replaced by the one that stands for it."""
        roots = np.array([self.root(n) for n in range(len(self.parents))], dtype=int)
        self.fixed = {self.root(number): why for number, why in self.fixed.items()}
        uses = tuple(
            Use(layer=u.layer, weight=u.weight, axis=u.axis, channels=roots[u.channels], makes=u.makes)
            for u in self.uses
        )
        sizes = tuple(
            Size(layer=s.layer, setting=s.setting, channels=roots[s.channels], shape=s.shape) for s in self.sizes
        )
        makers: dict[int, dict[str, None]] = {}
        whole: dict[str, str] = {}
        for use in (u for u in uses if u.makes):
            for number in use.channels:
                makers.setdefault(int(number), {})[use.layer] = None
            if all(int(n) in self.fixed for n in use.channels):
                whole.setdefault(use.layer, self.fixed[int(use.channels[0])])
        grouped: dict[tuple[str, ...], list[int]] = {}
        for number, layers in makers.items():
            if number not in self.fixed:
                grouped.setdefault(tuple(layers), []).append(number)
        groups = tuple(Group(layers=layers, channels=np.array(numbers)) for layers, numbers in grouped.items())
        return Trace(uses=uses, sizes=sizes, groups=groups, whole=whole, number=len(roots))


Shape = tuple[int | None, ...]
Follow = Callable[[_Tracer, Any, Sequence[Shape], Sequence[Numbers], Shape], Numbers | None]
"""What a kind of layer does: its inputs' shapes and channels, and its output's shape, give the output's channels, or
None where that is not known after all."""


def _pass(tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape) -> Numbers | None:
    return taken[0]


def _activation(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    return taken[0] if getattr(layer.activation, "__name__", "") in ELEMENTWISE else None


def _rescaling(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    return taken[0] if np.ndim(layer.scale) == np.ndim(layer.offset) == 0 else None


def _prelu(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    if layer.alpha.shape[-1] == len(taken[0]):
        tracer.use(layer, "alpha", -1, taken[0])
    return taken[0]


def _convolution(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    if getattr(layer, "groups", 1) != 1:
        return None
    made = tracer.make(layer, "filters", layer.filters)
    outward = -2 if type(layer).__name__.endswith("Transpose") else -1  # Keras stores those the other way round
    tracer.use(layer, "kernel", -3 - outward, taken[0])
    tracer.use(layer, "kernel", outward, made, makes=True)
    tracer.use(layer, "bias", -1, made, makes=True)
    return made


def _dense(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    made = tracer.make(layer, "units", layer.units)
    tracer.use(layer, "kernel", 0, taken[0])
    tracer.use(layer, "kernel", 1, made, makes=True)
    tracer.use(layer, "bias", -1, made, makes=True)
    return made


def _depthwise(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    if getattr(layer.activation, "__name__", "") not in ELEMENTWISE:
        return None
    spread = np.repeat(taken[0], layer.depth_multiplier)
    tracer.use(layer, "depthwise_kernel", -2, taken[0])
    tracer.use(layer, "bias", -1, spread)
    return spread


def _separable(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    made = tracer.make(layer, "filters", layer.filters)
    tracer.use(layer, "depthwise_kernel", -2, taken[0])
    tracer.use(layer, "pointwise_kernel", -2, np.repeat(taken[0], layer.depth_multiplier))
    tracer.use(layer, "pointwise_kernel", -1, made, makes=True)
    tracer.use(layer, "bias", -1, made, makes=True)
    return made


def _normalization(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    axes: Iterable[int] = [layer.axis] if isinstance(layer.axis, int) else layer.axis
    if [axis % len(out) for axis in axes] != [len(out) - 1]:
        return None
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        tracer.use(layer, weight, -1, taken[0])
    return taken[0]


def _reshape(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    channels = len(taken[0])
    if not channels or out[-1] is None or out[-1] % channels or None in out[1:]:
        return None
    spread = np.tile(taken[0], out[-1] // channels)  # channels are what runs fastest, before and after
    if type(layer).__name__ == "Reshape":
        for size in (size for size in tracer.sizes if size.layer == layer.name):  # it is called once more
            tracer.tie(size.channels, spread)
        shape = tuple(int(d) for d in out[1:] if d is not None)
        tracer.sizes.append(Size(layer=layer.name, setting="target_shape", channels=spread, shape=shape))
    return spread


def _elementwise(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    wide = [numbers for numbers in taken if len(numbers) == out[-1]]
    if any(len(shape) != len(out) for shape in shapes) or not wide:
        return None
    for numbers in taken:
        if len(numbers) == len(wide[0]):
            tracer.tie(wide[0], numbers)
        else:
            tracer.fix(numbers, f"{layer.name} ({type(layer).__name__}) spreads it over other channels")
    return wide[0]


def _concatenate(
    tracer: _Tracer, layer: Any, shapes: Sequence[Shape], taken: Sequence[Numbers], out: Shape
) -> Numbers | None:
    if layer.axis % len(out) == len(out) - 1:
        return np.concatenate(taken)
    return _elementwise(tracer, layer, shapes, taken, out)


KINDS: dict[str, Follow] = {
    **dict.fromkeys(
        (
            "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
            "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "MaxPooling1D",
            "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D",
            "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "ZeroPadding1D", "ZeroPadding2D",
            "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D",
        ),
        _pass,
    ),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose"), _convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _elementwise),
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    "Activation": _activation,
    "BatchNormalization": _normalization,
    "Concatenate": _concatenate,
    "Dense": _dense,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
}  # fmt: skip
"""Layers whose effect on channels is known. Of all others the channels are left whole."""


def rounded(wanted: float, available: int, multiple: int) -> int:
    """The count nearest to one that is wanted, among the multiples that kernels like; never 0, never more than there are."""
    return min(available, max(1, math.floor(wanted / multiple + 0.5)) * multiple)
