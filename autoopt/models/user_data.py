"""Reads the data that a user gives, as arrays of the shapes that a model takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autoopt.core.validation import fail
from autoopt.errors import ConfigError
from autoopt.models import spooling, streams
from autoopt.models.columns import chunks
from autoopt.models.input_shapes import text_advice
from autoopt.models.spooling import Spool
from autoopt.models.task import Inputs, Split


def read(given: Any, where: str, model: Any, spool: Spool) -> tuple[Inputs, list[np.ndarray], Any]:
    """A split's inputs, the labels of each output, and the weights of items as they were given; None for none.

    Args:
        given: see `Task.train`.
        where: for messages.
        model: whose inputs and labels they are.
        spool: where data is kept that comes in a stream.

    Raises:
        ConfigError: if it is none, or not that of the model.
        TargetUnavailable: if the disk can't hold it.
    """
    given = given if isinstance(given, streams.Stream) else streams.opened(given, where)
    if isinstance(given, streams.Stream):

        def parts(batch: tuple[Any, ...]) -> tuple[Inputs, list[np.ndarray]]:
            found, labels = inputs(batch[0], where, model), _labels(batch[1], f"{where}: labels", model)
            check_inputs(found, where, model)
            for array in labels:
                check_labels(array, where)
            return found, labels

        return spooling.read(given, where, model, spool, parts)
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        got = f"{len(given)} parts" if isinstance(given, (tuple, list)) else type(given).__name__
        fail(
            where,
            "a pair (inputs, labels), a tf.data.Dataset or Keras Sequence of such pairs, or a function that gives one",
            got,
        )
    weights = given[2] if len(given) == 3 else None
    return inputs(given[0], where, model), _labels(given[1], f"{where}: labels", model), weights


def read_inputs(given: Any, where: str, model: Any, spool: Spool) -> Inputs:
    """Inputs by name, such as those of a calibration set: of arrays, or of a stream as `read` takes it.

    Args:
        given: arrays, or a stream of pairs, of whose labels nothing is kept.
        where: for messages.
        model: whose inputs they are.
        spool: where data is kept that comes in a stream.

    Raises:
        ConfigError: if they are not those of the model.
    """
    opened = streams.opened(given, where)
    if isinstance(opened, streams.Stream):
        return read(opened, where, model, spool)[0]
    several = len(model.input_names)
    if isinstance(opened, tuple | list) and len(opened) == 2 > several and all(hasattr(one, "shape") for one in opened):
        fail(where, "inputs alone, without labels", "a pair")
    return inputs(opened, where, model)


def _labels(given: Any, where: str, model: Any) -> list[np.ndarray]:
    names = list(model.output_names)
    if isinstance(given, Mapping):
        if set(given) != set(names):
            fail(where, f"labels named {', '.join(names)}", ", ".join(map(str, given)))
        given = [given[name] for name in names]
    elif len(names) == 1:
        return [_array(given, where)]
    if not isinstance(given, (tuple, list)) or len(given) != len(names):
        fail(where, f"labels of {len(names)} outputs as a dict by name ({', '.join(names)})", type(given).__name__)
    arrays = [_array(labels, f"{where}: {name}") for name, labels in zip(names, given, strict=True)]
    if len({len(array) for array in arrays}) > 1:
        fail(where, "as many labels for each output", ", ".join(str(len(array)) for array in arrays))
    return arrays


def inputs(given: Any, where: str, model: Any) -> Inputs:
    """Inputs by name, each of shape (items, ...).

    Args:
        given: an array, several in the model's order, or a dict by name.
        where: for messages.
        model: whose inputs they are.

    Raises:
        ConfigError: if they are not those of the model.
    """
    names = list(model.input_names)
    if isinstance(given, Mapping):
        if set(given) != set(names):
            fail(where, f"inputs named {', '.join(names)}", ", ".join(map(str, given)))
        return {name: _array(given[name], f"{where}: input {name}") for name in names}
    if len(names) == 1:
        return {names[0]: _array(given, f"{where}: input {names[0]}")}
    if isinstance(given, (tuple, list)) and len(given) == len(names):
        return {name: _array(a, f"{where}: input {name}") for name, a in zip(names, given, strict=True)}
    fail(where, f"{len(names)} inputs as a dict by name ({', '.join(names)})", type(given).__name__)


def _array(given: Any, where: str) -> np.ndarray:
    streams.expect_unmasked(given, where)
    try:
        array = np.asarray(given)
    except ValueError as error:  # numpy's word for rows of different lengths
        raise ConfigError(f"{where}: expected an array, got items of different shapes; pad or resize them") from error
    if array.ndim == 0:
        fail(where, "an array with items first", given)
    return array


def check_inputs(given: Inputs, where: str, model: Any) -> None:
    """Check that inputs are numbers in the shapes that a model takes.

    Raises:
        ConfigError: naming the input, what was expected, and what was found.
    """
    items = len(next(iter(given.values())))
    for tensor, (name, array) in zip(model.inputs, given.items(), strict=True):
        expected = tuple(tensor.shape)[1:]
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            text = f"; {text_advice(name, '')}" if _is_text(array) else ""
            text = "; make them dense, all of one shape" if array.dtype.kind == "O" and not text else text
            raise ConfigError(f"{where}: input {name}: expected numbers, got 'dtype {array.dtype}'{text}")
        if array.shape[1:] != expected:
            hint = _shape_hint(array, expected)
            raise ConfigError(
                f"{where}: input {name}: expected shape (items, {_dims(expected)}), got {array.shape}{hint}"
            )
        if len(array) != items:
            fail(f"{where}: input {name}", f"{items} items like the first input", len(array))


def check_split(split: Split, where: str, model: Any) -> None:
    """Check that a split's inputs are what a model takes, and that these and its labels are finite numbers.

    Raises:
        ConfigError: naming the input, what was expected, and what was found.
    """
    if len(split) == 0:
        raise ConfigError(f"{where}: empty; expected one item or more")
    check_inputs(split.inputs, where, model)
    for name, array in split.inputs.items():
        _expect_finite(array, f"{where}: input {name}: holds")
    check_labels(split.labels, where)
    _expect_finite(split.labels, f"{where}: labels: hold")


def _is_text(array: np.ndarray) -> bool:
    """Whether an array holds text, be it as objects."""
    return array.dtype.kind in "SUT" or bool(array.size and isinstance(array.flat[0], str | bytes))


def check_labels(labels: np.ndarray, where: str) -> None:
    """Check that labels are numbers.

    Raises:
        ConfigError: if they are anything else.
    """
    if labels.dtype.kind not in "fiub" or labels.dtype.itemsize > 8:
        names = "; number the names: np.unique(labels, return_inverse=True)[1]" if _is_text(labels) else ""
        raise ConfigError(f"{where}: labels: expected numbers, got 'dtype {labels.dtype}'{names}")


def _shape_hint(array: np.ndarray, expected: tuple[int, ...]) -> str:
    """What to do with an array whose items are of another shape, where that can be seen."""
    given = array.shape[1:]
    if (*given, 1) == expected:
        return f"; add the channel axis: x[..., None] gives {(*array.shape, 1)}"
    if len(given) > 1 and (*given[1:], given[0]) == expected:
        axes = (0, *range(2, array.ndim), 1)
        return f"; the channels come last: x.transpose{axes} gives {(len(array), *expected)}"
    return ""


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _expect_finite(array: np.ndarray, where: str) -> None:
    """Check that values are finite, also as float32, in which models compute."""
    if array.dtype.kind != "f":
        return
    if bad := _bad_items(array, array.dtype):
        raise ConfigError(f"{where} NaN or infinity in {bad} items; clean the data")
    if array.dtype.itemsize > 4 and (bad := _bad_items(array, np.dtype(np.float32))):
        raise ConfigError(f"{where} numbers over 3.4e38 in {bad} items, which float32 does not hold; scale the data")


def _bad_items(array: np.ndarray, dtype: np.dtype[Any]) -> int:
    """Items that hold no finite number somewhere."""
    with np.errstate(over="ignore"):
        parts = (part.astype(dtype, copy=False) for part in chunks(array))
        return sum(int((~np.isfinite(part)).reshape(len(part), -1).any(axis=1).sum()) for part in parts)
