"""What each item of the training data counts for: a task's weights of items and of classes, checked."""

import operator
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from autoopt.core.reprs import short
from autoopt.core.validation import fail
from autoopt.errors import ConfigError
from autoopt.models.answers import whole
from autoopt.models.columns import chunks
from autoopt.models.task import broadcast


def of_items(
    given: Any, class_weight: Mapping[int, float] | None, labels: list[np.ndarray], model: Any, where: str
) -> np.ndarray | None:
    """The weights of the training items.

    Args:
        given: one weight an item; of a model with several outputs also a dict by output name, or a list; None for none.
        class_weight: by class, as Keras takes it; where both are given they are multiplied.
        labels: of each output, shape (items, ...).
        model: with `output_names` and `outputs`.
        where: the file, for messages.

    Returns:
        see `task.Split.weights`; None if neither is given.

    Raises:
        ConfigError: for weights of another shape, that are negative, no finite numbers or all zero; for classes that the
            model does not know, or that have no weight.
    """
    if given is None and class_weight is None:
        return None
    names, place = list(model.output_names), f"{where}: train: weights"
    shapes = [tuple(int(size or 0) for size in tuple(tensor.shape)[1:]) for tensor in model.outputs]
    items = len(labels[0])
    if len(names) == 1:
        one = given[names[0]] if isinstance(given, Mapping) and set(given) == set(names) else given
        weights = np.ones(items, np.float32) if one is None else _checked(one, items, shapes[0], place)
        if class_weight is not None:
            found = _of_classes(class_weight, labels[0], shapes[0], f"{where}: class_weight")
            weights = weights * found.reshape(-1, *[1] * (weights.ndim - 1))
        return broadcast(weights, shapes[0])
    if class_weight is not None:
        raise ConfigError(
            f"{where}: class_weight: needs a model with one output; give train=(inputs, labels, weights) with weights as a "
            f"dict by output name ({', '.join(names)})"
        )
    columns = (
        dict(zip(names, given, strict=True)) if isinstance(given, list | tuple) and len(given) == len(names) else given
    )
    if not isinstance(columns, Mapping):
        columns = dict.fromkeys(names, columns)
    if unknown := set(columns) - set(names):
        fail(place, f"weights named {', '.join(names)}", ", ".join(map(str, unknown)))
    alike = np.ones(items)
    return np.stack([_checked(columns.get(n, alike), items, (), f"{place}: {n}") for n in names], axis=1)


def _checked(given: Any, items: int, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Weights as numbers: one an item, or one for each place of an item's map; of large maps mapped from a file."""
    try:
        array = np.asarray(given)
    except ValueError as error:  # numpy's word for rows of different lengths
        raise ConfigError(f"{where}: expected one number an item, got {type(given).__name__}") from error
    if array.ndim == 0:
        raise ConfigError(f"{where}: expected one number an item, got {type(given).__name__}")
    if array.shape == (items, 1):
        array = array[:, 0]
    places = (items, *shape[:-1])
    if array.shape not in ((items,), places):
        known = f"shape ({items},), one weight an item" + (f", or {places}, one a place" if len(places) > 1 else "")
        fail(where, known, f"shape {array.shape}")
    parts = list(chunks(array))  # views of it
    before = [0, *accumulate(map(len, parts))]
    weights = whole(_checked_numbers(*each, where) for each in zip(parts, before, strict=False))
    if not weights.any():
        raise ConfigError(f"{where}: expected a weight over 0, all are 0")
    return weights


def _checked_numbers(array: np.ndarray, first: int, where: str) -> np.ndarray:
    """Weights of some items in float32, each finite and 0 or more."""
    weights = numbers(array, where, first)
    right = np.isfinite(weights) & (weights >= 0)
    if not right.all():
        fail(where, "finite numbers, 0 or more", float(weights[~right].flat[0]))
    return weights


def numbers(array: np.ndarray, where: str, first: int = 0) -> np.ndarray:
    """Weights in float32.

    Args:
        array: shape (items, ...).
        where: for messages.
        first: the items before these, for messages.

    Raises:
        ConfigError: with the first that is no number; numpy itself would make NaN of None.
    """
    if array.dtype.kind not in "biuf":
        for place, one in enumerate(array.reshape(-1).tolist()):
            try:
                float(one)
            except (TypeError, ValueError) as error:
                item = first + place // max(1, array.size // len(array))
                raise ConfigError(f"{where}: expected numbers, got {short(one, 40)} for item {item:,}") from error
    return array.astype(np.float32)


def _of_classes(
    class_weight: Mapping[int, float], labels: np.ndarray, shape: tuple[int, ...], where: str
) -> np.ndarray:
    """The weight of each item's class."""
    flat = labels.reshape(len(labels), -1)
    one_hot = flat.shape[1] > 1
    alone = bool((flat.sum(axis=1) == 1).all() and np.isin(flat, (0, 1)).all()) if one_hot else True
    if len(shape) > 1 or not alone:
        raise ConfigError(
            f"{where}: needs labels of one class an item, got shape {labels.shape}; give train=(inputs, labels, weights)"
        )
    classes = flat.argmax(axis=1) if one_hot else flat[:, 0]
    number = max(2, shape[-1] if shape else 1)
    outside = (classes < 0) | (classes >= number) | (classes != np.floor(classes))
    if outside.any():
        raise ConfigError(
            f"{where}: needs labels that are classes 0 to {number - 1}, got {classes[outside][0].item()}; "
            "give train=(inputs, labels, weights)"
        )
    if not isinstance(class_weight, Mapping):
        fail(where, "a dict of weights by class, such as {0: 1.0, 1: 9.0}", class_weight)
    table = np.full(number, np.nan, np.float32)
    for key, weight in class_weight.items():
        try:
            index, value = operator.index(key), float(weight)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: expected numbers by class index, got {key!r}: {weight!r}") from error
        if not 0 <= index < number:
            fail(where, f"classes 0 to {number - 1}", index)
        if not np.isfinite(value) or value < 0:
            fail(f"{where}: class {index}", "a finite number, 0 or more", weight)
        table[index] = value
    found: np.ndarray = table[classes.astype(int)]
    if np.isnan(found).any():
        fail(where, "a weight for each class", f"none for class {int(classes[np.isnan(found)][0])}")
    if not found.any():
        raise ConfigError(f"{where}: expected a weight over 0 for a class of train, all are 0")
    return found
