"""Goes through a functional model call by call, as a new model is made of the same calls.

Nested models are entered on the way, so that what comes out is flat.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from autoopt.errors import ConfigError, one_line, retold
from autoopt.models.keras_internals import calls_in_order, within_sequential

TOLERANCE = 1e-5
"""By which outputs may differ, as a share of the largest."""
MIXED_TOLERANCE = 0.05
"""Likewise, where the old model computes in half precision."""
ITEMS = 4
"""Random ones, on which they are compared."""
MOST = 200
"""Characters of a reason that a library gives."""


class NotRebuilt(ConfigError):
    """What of a model can't be made anew layer by layer.

    Attributes:
        advice: what to do to have it rebuilt, or ``.
    """

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.advice = advice


def reason(error: Exception) -> str:
    """What went wrong, in one line: Keras wraps it in what was called and with what."""
    inner = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    return one_line(inner[-1] if inner else error, MOST)


class Call(Protocol):
    """One call of a layer, a model or an operator: what Keras 2 and 3 each have of their own."""

    def operation(self, node: Any) -> Any:
        """What is called."""

    def is_model(self, operation: Any) -> bool:
        """Whether that is a model, to be entered."""

    def arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        """With what: tensors of the old model among other values."""

    def outputs(self, node: Any) -> Sequence[Any]:
        """The old model's tensors that come out."""

    def again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        """The same on tensors of the new model: what comes out."""


class Replay:
    """Makes the calls of an old model on tensors of a new one.

    Args:
        call: Keras 2's or 3's way.

    Attributes:
        tensors: of the new model, by the old one's identity.
        passed: each call's name, with the old and the new tensor that came out.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.tensors: dict[int, Any] = {}
        self.passed: list[tuple[str, Any, Any]] = []
        self._mode: dict[str, Any] = {}

    def follow(self, model: Any) -> None:
        """Every call inside a functional model whose inputs are known."""
        for node in nodes(model):
            self._one(node)

    def _one(self, node: Any) -> None:
        import tensorflow as tf

        def known(value: Any) -> Any:
            return self.tensors.get(id(value), value)

        given, named = self.call.arguments(node)
        arguments = tf.nest.map_structure(known, given)
        mapped = {name: tf.nest.map_structure(known, value) for name, value in named.items()}
        named = self._mode | {name: value for name, value in mapped.items() if value is not None}
        operation = self.call.operation(node)
        if self.call.is_model(operation):
            before, self._mode = self._mode, {name: named[name] for name in ("training",) if name in named}
            inside = arguments[0] if arguments else named["inputs"]
            outputs: Sequence[Any] = self._enter(operation, inside)
            self._mode = before
        else:
            outputs = self._again(node, arguments, named)
        for tensor, output in zip(self.call.outputs(node), outputs, strict=True):
            self.tensors[id(tensor)] = output
            self.passed.append((operation.name, tensor, output))

    def _again(self, node: Any, arguments: Any, named: dict[str, Any]) -> Sequence[Any]:
        operation = self.call.operation(node)
        begin = f"the layer {operation.name} ({type(operation).__name__}) can't be called in Keras 2"
        with retold(lambda error: NotRebuilt(f"{begin}: {reason(error)}")):
            return self.call.again(node, arguments, named)

    def _enter(self, model: Any, given: Any) -> list[Any]:
        """A nested model's own calls, on these inputs."""
        import tensorflow as tf

        inner = functional(model)
        if inner is None:
            raise NotRebuilt(f"the nested model {model.name} is subclassed; it can't be rebuilt")
        # How a model was called (as training=False) holds for all that is inside.
        inputs = [given[name] for name in inner.input_names] if isinstance(given, dict) else tf.nest.flatten(given)
        for tensor, one in zip(inner.inputs, inputs, strict=True):
            self.tensors[id(tensor)] = one
        self.follow(inner)
        return [self.tensors[id(tensor)] for tensor in inner.outputs]


def functional(model: Any) -> Any:
    """The graph of calls behind a functional or sequential model; None where there is none."""
    inside = within_sequential(model)
    return inside if calls_in_order(inside) else None


def nodes(model: Any) -> Iterator[Any]:
    """Calls inside a functional model, in an order in which they can be made."""
    yield from (node for node in calls_in_order(model) if not node.is_input)


class Names:
    """Gives each layer a name that no other one has: layers of two nested models may share theirs."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name, or the name with a number."""
        given, number = name, 1
        while given in self._given:
            given, number = f"{name}_{number}", number + 1
        self._given.add(given)
        return given


def expect_same(
    model: Any,
    made: Any,
    replay: Replay,
    models: tuple[Callable[..., Any], Callable[..., Any]],
    tolerance: float = TOLERANCE,
) -> None:
    """Check that both models compute the same on random items.

    Args:
        model: the old one.
        made: the new one.
        replay: that made it.
        models: the classes `Model` of both, to look into them.
        tolerance: by which outputs may differ, as a share of the largest.

    Raises:
        NotRebuilt: naming the first layer from which on they differ.
    """
    rng = np.random.default_rng(0)
    masks = sorted({float(layer.mask_value) for layer in _inside(model) if type(layer).__name__ == "Masking"})
    pairs = zip(model.inputs, made.inputs, strict=True)
    inputs = [_random(rng, old, new, masks) for old, new in pairs]
    with _reproducible(model), _reproducible(made):
        _compare(model, made, replay, models, inputs, tolerance)


def _compare(
    model: Any,
    made: Any,
    replay: Replay,
    models: tuple[Callable[..., Any], Callable[..., Any]],
    inputs: Sequence[np.ndarray],
    tolerance: float,
) -> None:
    worst = _far(_run(model, inputs), _run(made, inputs))
    if worst <= tolerance:
        return
    given = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    prefix = "rebuilt layer by layer it computes something else"
    for name, before, after in replay.passed:
        if after is None:
            continue
        try:
            one, other = models[0](given, before), models[1](made.inputs, after)
        except ValueError:  # inside of a nested model, whose tensors are not this one's
            continue
        if (far := _far(_run(one, inputs), _run(other, inputs))) > tolerance:
            raise NotRebuilt(f"{prefix}, from the layer {name} on (off by {far:.2g})")
    raise NotRebuilt(f"{prefix} (off by {worst:.2g})")


def _inside(model: Any) -> Iterator[Any]:
    """A model's layers, and those of models inside it."""
    for layer in model.layers:
        yield layer
        if functional(layer) is not None:
            yield from _inside(layer)


@contextmanager
def _reproducible(model: Any) -> Iterator[None]:
    """Have layers that draw at random in every call (a dropout with `training=True`) do as in inference.

    Keras 3 has them do so by itself, when it predicts.
    """
    random = [layer for layer in _inside(model) if draws_always(layer)]
    for layer in random:
        layer.call = _in_inference(layer.call)
    try:
        yield
    finally:
        for layer in random:
            del layer.call


def draws_always(layer: Any) -> bool:
    """Whether a tf_keras layer is called with `training=True` in a model's graph, whatever the model is at."""
    calls = (getattr(node, "call_kwargs", {}) for node in getattr(layer, "inbound_nodes", ()))
    return any(named.get("training") is True for named in calls)


def _in_inference(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def quiet(*arguments: Any, **named: Any) -> Any:
        return call(*arguments, **(named | {"training": False}))

    return quiet


def _random(rng: np.random.Generator, old: Any, new: Any, masks: Sequence[float]) -> np.ndarray:
    """Items for an input of the old model, of the new one's sizes; some steps of a series hold what is masked, if any.

    What the new model takes for whole numbers is whole: of 0.3 an embedding looks up row 0, and yet masks no step.
    """
    fixed = old.shape[0]
    shape = (fixed or ITEMS, *(1 if size is None else size for size in tuple(new.shape)[1:]))
    kind, made = (np.dtype(getattr(tensor.dtype, "name", tensor.dtype)) for tensor in (old, new))
    values = rng.random(shape) if kind.kind == made.kind == "f" else rng.integers(0, 2, shape)
    if masks and len(shape) > 2:
        masked = rng.random(shape[:2]) < 0.3
        masked[:, 0] = False
        values[masked] = masks[0]
    return values.astype(kind)


def _run(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    import tensorflow as tf

    packed = list(inputs) if len(inputs) > 1 else inputs[0]
    given = tf.nest.pack_sequence_as(model.input, list(inputs)) if isinstance(model.input, dict) else packed
    outputs = model(given, training=False)
    return [np.asarray(output) for output in tf.nest.flatten(outputs)]  # a dict by its sorted names, as in `outputs`


def _far(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The largest difference, as a share of the largest output; NaN counts as far."""
    pairs = [(np.asarray(a, float), np.asarray(b, float)) for a, b in zip(wanted, found, strict=True)]  # some are bool
    shares = [float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max()))) for a, b in pairs]
    return max((share if share == share else float("inf")) for share in shares)
