"""What autoopt reads of Keras 2 and 3, of tensorflow-model-optimization and of TensorFlow under names that are not public.

A new version of one of them may move such a name; then this is the module to mend. Where a public name gives the same,
autoopt uses that one.
"""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import CellType, CodeType, FunctionType
from typing import Any

GIVEN = {
    "tf_keras.src.engine.training": (
        "Model.make_train_function.train_function",
        "Model.make_predict_function.predict_function",
    ),
    "tensorflow.python.saved_model.signature_serialization": ("canonicalize_signatures.signature_wrapper",),
}
"""Functions of Keras 2 and TensorFlow that are given to `tf.function` wherever a model is trained, asked or written, by module."""


def within_sequential(model: Any) -> Any:
    """The functional model that a sequential one of Keras 3 keeps inside, None before it is built; any other model as it is.

    Keras 3 makes it public in no way, while a sequential model of Keras 2 is a functional one itself.
    """
    return getattr(model, "_functional", model)


def calls_in_order(model: Any) -> list[Any]:
    """The calls (Keras's nodes) of a functional model of Keras 2 or 3, in an order in which they can be made.

    Empty for a model without a graph. Layers publicly know their neighbours at most, not the order among all.
    """
    by_depth = getattr(model, "_nodes_by_depth", None) or {}
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def calls_of(layer: Any) -> Sequence[Any]:
    """The calls (nodes) of a layer of Keras 3; one of Keras 2 gives them publicly, as `inbound_nodes`."""
    calls: Sequence[Any] = layer._inbound_nodes
    return calls


def all_layers(model: Any) -> list[Any]:
    """A model of Keras 2 or 3 itself and every layer in it, also those inside of wrappers and of nested models.

    `model.layers` holds the outermost alone, and `tf.Module.submodules`, which Keras 3 has not, also what is no layer.
    """
    return list(model._flatten_layers())


def mask_of(tensor: Any) -> Any:
    """The mask that a tensor of Keras 2 or 3 carries along, None where it carries none.

    A layer's public `compute_mask` would work it out anew, and only of a mask that is at hand.
    """
    return getattr(tensor, "_keras_mask", None)


def in_graph(value: Any) -> bool:
    """Whether a value is a tensor of the graph of a model of Keras 2.

    The public `tf_keras.backend.is_keras_tensor` raises an error for whatever is no tensor.
    """
    return hasattr(value, "_keras_history")


def takes_argument(layer: Any, name: str) -> bool:
    """Whether a layer of Keras 2 is given `training` or `mask` when it is called.

    The signature of its `call` alone does not tell: Keras counts a `**kwargs` too, and has some layers say otherwise.
    """
    return bool(getattr(layer, f"_expects_{name}_arg", False))


def settings_of_function(loss: Any) -> dict[str, Any]:
    """The settings that a loss of Keras 3 gives to its function; some of them are missing in its public `get_config`."""
    return dict(getattr(loss, "_fn_kwargs", {}))


def own_weights(layer: Any) -> tuple[list[Any], list[Any]]:
    """The variables that a layer of Keras 2 itself holds, as trained and others.

    Its public `trainable_weights` also count those of layers inside, and are empty while the layer is frozen.
    """
    return list(layer._trainable_weights), list(layer._non_trainable_weights)


def set_own_weights(layer: Any, trained: Sequence[Any], others: Sequence[Any]) -> None:
    """Change what `own_weights` gives.

    Set as an attribute, the layer would find the variables in the lists and have all of them trained.
    """
    vars(layer).update(_trainable_weights=[*trained], _non_trainable_weights=[*others])


def quantized_weights(layer: Any) -> list[tuple[Any, Any, Any]] | None:
    """The weights that tfmot's wrapper for quantization-aware training quantizes: kernel, quantizer and its variables.

    None for a layer that is no such wrapper. Its public `quantize_config` tells the first two, but not the variables,
    and would not have them replaced.
    """
    found: list[tuple[Any, Any, Any]] | None = getattr(layer, "_weight_vars", None)
    return found


def set_quantized_weights(layer: Any, weights: Sequence[tuple[Any, Any, Any]]) -> None:
    """Have tfmot's wrapper quantize these in place of what `quantized_weights` gives."""
    layer._weight_vars = list(weights)


@contextlib.contextmanager
def standing_in(layer: Any, tensors: Mapping[str, Any]) -> Iterator[None]:
    """Have a layer of Keras 2 compute with tensors in place of its variables, as long as this lasts.

    Set as attributes, the layer would take them for what it holds, and forget the variables.

    Args:
        layer: whose `call` is called within.
        tensors: by the attributes' names.
    """
    before = {name: vars(layer)[name] for name in tensors}
    vars(layer).update(tensors)
    try:
        yield
    finally:
        vars(layer).update(before)


@contextlib.contextmanager
def seeded_draws(model: Any, seed: int) -> Iterator[list[Any]]:
    """Have the layers of a model of Keras 2 that draw at random (dropout, noise, augmentation) do so from states of their own.

    By themselves most of them draw from operations whose state nobody can read, and so nobody can go on from.

    Args:
        model: whose training function is built within, and not used behind.
        seed: of the layers that were given none.

    Yields:
        the variables that hold the states.
    """
    found: list[Any] = [getattr(layer, "_random_generator", None) for layer in all_layers(model)]
    generators = [each for each in found if getattr(each, "_rng_type", "stateless") != "stateless"]
    before = [(each._rng_type, each._seed, each._built, getattr(each, "_generator", None)) for each in generators]
    for place, each in enumerate(generators):
        each._rng_type, each._built = "stateful", False
        each._seed = (seed << 16) + place if each._seed is None else each._seed
        each._maybe_init()
    try:
        yield [each._generator.state for each in generators]
    finally:
        for each, (kind, own, built, generator) in zip(generators, before, strict=True):
            each._rng_type, each._seed, each._built, each._generator = kind, own, built, generator


def optimizer_state(optimizer: Any) -> list[Any]:
    """All variables of an optimizer of Keras 2, also the scale of losses, which its public `variables` leave out."""
    scale = getattr(optimizer, "_loss_scale", None)
    more = [] if scale is None else [scale.current_loss_scale, optimizer.dynamic_counter]
    return [*optimizer.variables, *more]


def functional_class() -> Any:
    """The class of models that `tf_keras.Model(inputs, outputs)` makes, which is a subclass of that public one."""
    from tf_keras.src.engine.functional import Functional

    return Functional


def safe_mode(on: bool) -> AbstractContextManager[None]:
    """Say whether Keras 2 is to refuse code in what it loads, of whatever format; the argument of `load_model` reaches not all."""
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    scope: AbstractContextManager[None] = SafeModeScope(on)
    return scope


def reduced(loss: Any) -> Any:
    """A loss, as `compile` takes it, as a function of labels and outputs that gives one number, as `fit` has it.

    Keras 2 has no public name for that but a whole compiled model.
    """
    from tf_keras.src.engine.compile_utils import LossesContainer

    return LossesContainer(loss)


def input_signature(model: Any) -> Any:
    """What a model of Keras 3 takes, in the form in which it takes it; `model.export` finds that out for itself alone."""
    from keras.src.export.export_utils import get_input_signature  # type: ignore[import-untyped]

    return get_input_signature(model)


def function_at(module: str, path: str) -> FunctionType:
    """A function as TensorFlow translates it, found by its names, also where another function makes it.

    One that another makes has none of the values that it would be made with.

    Args:
        module: the module that it is defined in.
        path: names from there on, with dots: `Class.method`, and `Class.method.inner` for what a method makes.

    Raises:
        ImportError: if there is no such module.
        AttributeError: if there is no such function.
    """
    found: Any = functools.reduce(_part, path.split("."), importlib.import_module(module))
    if isinstance(found, FunctionType):
        return found
    raise AttributeError(f"{module}: {path} is no function")


def _part(whole: Any, name: str) -> Any:
    """What a module, a class, or the code of a function has by a name."""
    whole = inspect.unwrap(whole)
    if not isinstance(whole, FunctionType):
        return getattr(whole, name)
    for code in whole.__code__.co_consts:
        if isinstance(code, CodeType) and code.co_name == name:
            cells = tuple(CellType(None) for _ in code.co_freevars)
            return FunctionType(code, whole.__globals__, name, None, cells)
    raise AttributeError(f"{whole.__qualname__} makes no {name}")


def translate(function: FunctionType, *, given: bool) -> None:
    """Have TensorFlow translate a function into one that builds graphs (autograph), and keep that for whenever it is called.

    TensorFlow does so by itself when it first meets a function, in each process anew. This runs no operation, starts no
    thread, and leaves the function as it is; the public `to_graph` does the same for functions that are given alone.

    Args:
        function: it is not called.
        given: whether it is given to `tf.function`, instead of being called by one that is; such are kept apart.
    """
    from tensorflow.python.autograph.core.converter import ConversionOptions, ProgramContext
    from tensorflow.python.autograph.impl.api import _TRANSPILER

    options = ConversionOptions(recursive=True, user_requested=given, optional_features=None)
    _TRANSPILER.transform(function, ProgramContext(options))
