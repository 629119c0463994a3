"""Data that comes batch by batch: a `tf.data.Dataset`, a Keras `Sequence` or `PyDataset`, a function that yields it."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core.validation import fail
from autoopt.errors import ConfigError, one_line, retold

STACKED = 256
"""Items that are put together to one batch, where they come one by one."""
END = object()
PAIRS = "(inputs, labels), or of (inputs, labels, weights)"


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Data that comes batch by batch, or item by item.

    Attributes:
        begin: a new pass over it.
        known: how many elements a pass has; None if that is not known.
        batched: whether an element holds several items; None if its rank must tell.
        what: it is, for messages.
    """

    begin: Callable[[], Iterable[Any]]
    known: int | None
    batched: bool | None
    what: str


def opened(given: Any, where: str) -> Any:
    """What a user gave as data, called if it is a function: a `Stream`, or what is no stream as it is.

    Raises:
        ConfigError: if it never ends, or can be read only once.
    """
    if _is_sequence(given):
        return _sequence(given, where)
    if inspect.isgenerator(given) or (hasattr(given, "__next__") and not hasattr(given, "__array__")):
        raise ConfigError(
            f"{where}: a {type(given).__name__} can be read only once; give the function that makes it, without ()"
        )
    if hasattr(given, "element_spec"):  # a tf.data.Dataset, recognised without importing TensorFlow
        return _dataset(given, where)
    if not callable(given) or hasattr(given, "__array__"):
        return given
    return _function(given, where)


def _dataset(given: Any, where: str) -> Stream:
    import tensorflow as tf

    number = int(given.cardinality().numpy())
    if number == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{where}: the dataset never ends (repeat?); expected one pass over the data")
    spec = given.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        fail(where, f"a dataset of pairs {PAIRS}", spec)
    shapes = [s.shape for s in tf.nest.flatten(spec)]
    batched = all(s.rank is not None and s.rank > 0 and s[0] is None for s in shapes)
    return Stream(
        begin=given.as_numpy_iterator,
        known=number if number >= 0 else None,
        batched=batched or None,
        what="dataset",
    )


def _is_sequence(given: Any) -> bool:
    """Whether it is one of Keras' `Sequence` or `PyDataset`, of either version."""
    return any(
        kind.__name__ in ("Sequence", "PyDataset") and "keras" in kind.__module__ for kind in type(given).__mro__
    )


def _sequence(given: Any, where: str) -> Stream:
    kind = type(given).__name__
    with retold(lambda error: ConfigError(f"{where}: the {kind} can't say its length: {one_line(error, 300)}")):
        number = given.num_batches if hasattr(given, "num_batches") else len(given)
    if number is None:
        raise ConfigError(f"{where}: the {kind} never ends; expected one pass over the data")

    def begin() -> Iterator[Any]:
        return (given[i] for i in range(number))

    return Stream(begin=begin, known=number, batched=None, what=kind)


def _function(given: Callable[[], Any], where: str) -> Any:
    name = getattr(given, "__name__", type(given).__name__)

    def call() -> Any:
        with retold(
            lambda error: ConfigError(f"{where}: {name}() raised {type(error).__name__}: {one_line(error, 300)}"),
            passing=(),
        ):
            return given()

    made = call()
    if not hasattr(made, "__next__"):
        if callable(made) and not hasattr(made, "element_spec") and not _is_sequence(made):
            fail(where, f"data from {name}()", type(made).__name__)
        return opened(made, where)
    kept = [made]  # what was asked for to see what it is, is the first pass
    return Stream(begin=lambda: kept.pop() if kept else call(), known=None, batched=None, what=f"{name}()")


def batches(stream: Stream, where: str, model: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """One pass over a stream.

    Args:
        stream: of data.
        where: for messages.
        model: whose inputs they are.

    Yields:
        how many elements they were; `(inputs, labels)` or `(inputs, labels, weights)` as arrays with items first, or dicts
        or lists of such.

    Raises:
        ConfigError: if an element is no such pair, or one can't be read.
    """
    batched, held, form = stream.batched, list[tuple[Any, ...]](), None
    several = len(model.inputs), len(model.outputs)
    for number, element in enumerate(_elements(stream, where)):
        if not isinstance(element, (tuple, list)) or len(element) not in (2, 3):
            got = f"{len(element)} parts" if isinstance(element, (tuple, list)) else type(element).__name__
            fail(where, f"a {stream.what} of pairs {PAIRS}", got)
        inputs = _plain(
            element[0], several[0], where, stream, lambda array: np.ndim(array) == len(model.inputs[0].shape)
        )
        items = next((len(array) for array in leaves(inputs) if array.ndim), -1)
        rest = (_plain(part, several[1], where, stream, lambda array: _has(array, items)) for part in element[1:])  # noqa: B023 - used at once
        parts = (inputs, *rest)
        form = form or _form(parts)
        if _form(parts) != form:
            raise ConfigError(
                f"{where}: the {stream.what}'s element {number:,} has other parts or names than those before it"
            )
        if batched is None:
            ranks = sum(np.ndim(array) for array in leaves(parts[0]))
            batched = ranks == sum(len(tensor.shape) for tensor in model.inputs)
        if number == 0 and _is_item(parts[0], model):  # of a length that the specification leaves open
            batched = False
        if batched:
            yield 1, parts
            continue
        held.append(parts)
        if len(held) == STACKED:
            yield len(held), _stacked(held, where, stream)
            held = []
    if held:
        yield len(held), _stacked(held, where, stream)


def _is_item(inputs: Any, model: Any) -> bool:
    """Whether arrays are one item each, exactly as a model takes it."""
    arrays = (
        [inputs[name] for name in model.input_names if name in inputs]
        if isinstance(inputs, Mapping)
        else leaves(inputs)
    )
    shapes = [tuple(tensor.shape)[1:] for tensor in model.inputs]
    return len(arrays) == len(shapes) and all(a.shape == shape for a, shape in zip(arrays, shapes, strict=True))


def _elements(stream: Stream, where: str) -> Iterator[Any]:
    """One pass; what its code raises is told in our words."""
    seen = itertools.count()
    tell = functools.partial(_unreadable, where, stream, seen)
    with retold(tell, passing=()):  # the user's code may raise our errors too, and ask for more memory than there is
        source = iter(stream.begin())
    while True:
        with retold(tell, passing=()):
            element = next(source, END)
        if element is END:
            return
        next(seen)
        yield element


def _unreadable(where: str, stream: Stream, seen: Iterator[int], error: Exception) -> ConfigError:
    kind = type(error).__name__
    return ConfigError(
        f"{where}: the {stream.what} raised {kind} after {next(seen):,} elements: {one_line(error, 300)}"
    )


def _plain(part: Any, several: int, where: str, stream: Stream, is_batch: Callable[[Any], bool]) -> Any:
    """Tensors of any library as arrays: a dict by name, a tuple where the model has so many, else one.

    They are copies, because what gives items one by one may well give the same array each time, filled anew.
    """
    if isinstance(part, Mapping):
        return {name: _array(one, where, stream) for name, one in part.items()}
    if isinstance(part, tuple | list) and len(part) == several and all(hasattr(one, "shape") for one in part):
        if several > 1:
            return tuple(_array(one, where, stream) for one in part)
        if is_batch(part[0]):  # in a list, as `fit` takes it
            return _array(part[0], where, stream)
    return part if part is None else _array(part, where, stream)


def _has(array: Any, items: int) -> bool:
    return np.ndim(array) > 0 and len(array) == items


def _array(given: Any, where: str, stream: Stream) -> np.ndarray:
    expect_unmasked(given, where)
    try:
        return np.array(given)
    except ValueError as error:  # numpy's word for rows of different lengths
        raise differ(where, stream) from error


def expect_unmasked(given: Any, where: str) -> None:
    """Check that no value of an array is masked: nobody would know that it does not count.

    Raises:
        ConfigError: if one is.
    """
    if np.ma.is_masked(given):
        raise ConfigError(f"{where}: some values are masked; leave these items out, or fill them: x.filled(...)")


def _form(part: Any) -> Any:
    """What an element is made of: names, and how many parts."""
    if isinstance(part, Mapping):
        return tuple(sorted(part))
    return tuple(_form(one) for one in part) if isinstance(part, tuple) else part is None


def leaves(part: Any) -> list[Any]:
    """The arrays of a part of an element."""
    if isinstance(part, Mapping):
        return [leaf for one in part.values() for leaf in leaves(one)]
    return [leaf for one in part for leaf in leaves(one)] if isinstance(part, tuple) else [part]


def _stacked(held: list[tuple[Any, ...]], where: str, stream: Stream) -> tuple[Any, ...]:
    """Items as a batch."""
    return tuple(_stack(list(parts), where, stream) for parts in zip(*held, strict=True))


def _stack(parts: list[Any], where: str, stream: Stream) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], Mapping):
        return {name: _stack([part[name] for part in parts], where, stream) for name in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(_stack(list(one), where, stream) for one in zip(*parts, strict=True))
    if len({part.dtype for part in parts}) > 1:
        raise differ(where, stream, "dtype", "convert them")
    try:
        return np.stack(parts)
    except ValueError as error:
        raise differ(where, stream) from error


def differ(where: str, stream: Stream, what: str = "shape", advice: str = "pad or resize them") -> ConfigError:
    """The error that says that the items of a stream have no shape, or no dtype, in common."""
    return ConfigError(f"{where}: the {stream.what}'s items differ in {what}; {advice}")
