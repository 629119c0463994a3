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
        if array.dtype.kind not in "fiub":
            text = f"; {text_advice(name, '')}" if array.dtype.kind in "OSUT" else ""
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
        if bad := _bad_items(array):
            raise ConfigError(f"{where}: input {name}: holds NaN or infinity in {bad} items; clean the data")
    if split.labels.dtype.kind not in "fiub":
        names = "; number the names: np.unique(labels, return_inverse=True)[1]" * (split.labels.dtype.kind in "SUT")
        raise ConfigError(f"{where}: labels: expected numbers, got 'dtype {split.labels.dtype}'{names}")
    if bad := _bad_items(split.labels):
        raise ConfigError(f"{where}: labels: hold NaN or infinity in {bad} items; clean the data")


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


def _bad_items(array: np.ndarray) -> int:
    """Items that hold no finite number somewhere."""
    if array.dtype.kind != "f":
        return 0
    return sum(int((~np.isfinite(part)).reshape(len(part), -1).any(axis=1).sum()) for part in chunks(array))
