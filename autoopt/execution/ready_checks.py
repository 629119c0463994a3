"""Checks that an augmentation that is known by name is for a task's data, labels, loss and model."""

import math
from typing import Any

import numpy as np

from autoopt.compression import training
from autoopt.compression.ready_augmentations import READY, is_map
from autoopt.errors import ConfigError
from autoopt.execution import input_readers
from autoopt.models import labels as labels_of
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Split

TRIED = 32
"""Training items on which it is looked at what a model makes of its input."""
BETWEEN = 0.3
"""What is added to whole numbers: as indices they stay what they are, whether they are cut off or rounded."""
ALMOST = 1e-20
"""Takes the place of zero: it is nothing to what computes, but something to what compares."""
APART = 1e-3
"""By which outputs differ, as a share of the largest, where something else was computed."""
SEVERAL = 2
"""Stands for a size that a model leaves open."""
BOTH = "give a function (inputs, labels) that moves both"


def check(name: str, where: str, model: Any, train: Split, loss: Any) -> list[str]:
    """Check that an augmentation is for data of this kind.

    Args:
        name: a key of `READY`.
        where: for messages.
        model: that was taken in, with one input and one output.
        train: the training data.
        loss: as the manifest has it.

    Returns:
        warnings.

    Raises:
        ConfigError: if it is not.
    """
    ready = READY[name]
    [inputs], labels = train.inputs.values(), train.labels
    if inputs.ndim not in ready.ranks:
        shapes = " or ".join(f"of {rank} axes" for rank in ready.ranks)
        raise ConfigError(f"{where}: expected inputs {shapes}, the items' among them, got shape {inputs.shape}")
    if ready.mixes and inputs.ndim < 4 and inputs.dtype.kind in "iub":
        raise ConfigError(
            f"{where}: adds up values of inputs, but these are whole numbers ({inputs.dtype}), as indices are"
        )
    if not ready.keeps:
        _expect_values(where, model, train)
    if ready.soft:
        _expect_mixable(where, labels, loss)
    return _expect_following(where, model, train, loss) if ready.moves else []


def _expect_following(where: str, model: Any, train: Split, loss: Any) -> list[str]:
    """Check that labels lie on the image and move along, or are of the image as a whole."""
    [inputs], labels = train.inputs.values(), train.labels
    output = tuple(int(size or SEVERAL) for size in tuple(model.outputs[0].shape)[1:])
    if is_map(labels.shape, inputs.shape):
        return []
    if math.prod(labels.shape[1:-1]) > 1 or math.prod(output[:-1]) > 1 or _flat(model, train, loss):
        shape = ", ".join(map(str, inputs.shape[1:3]))
        raise ConfigError(
            f"{where}: moves things within an image, and labels of shape {labels.shape}, several places of it, can't follow; "
            f"{BOTH}, or labels and outputs of shape (items, {shape}, ...)"
        )
    if _of_whole(labels, loss):
        return []
    return [
        f"{where}: moves things within an image, and labels that are values stay as they are: right for what the image shows "
        f"as a whole, but wrong for boxes, key points, directions or other places in it; for these {BOTH}"
    ]


def _of_whole(labels: np.ndarray, loss: Any) -> bool:
    """Whether labels are classes, or a yes or no, of an image as a whole, and no values."""
    name, some = labels_of.loss_name(loss), labels_of.telling(labels)
    if "categorical" in name or "hinge" in name or labels_of.ones(some) or _shares(some):
        return True
    return some[0].size == 1 and labels_of.whole(some) and not name.startswith(labels_of.REGRESSION)


def _shares(labels: np.ndarray) -> bool:
    """Whether labels are shares of classes: none below 0, and 1 together."""
    several = labels.ndim > 1 and labels.shape[-1] > 1
    return several and labels.min() >= 0 and bool(np.allclose(labels.sum(axis=-1), 1, atol=labels_of.INSIDE))


def _flat(model: Any, train: Split, loss: Any) -> bool:
    """Whether labels side by side are places of the image, flattened."""
    [inputs], labels = train.inputs.values(), train.labels
    number = math.prod(labels.shape[1:])
    if number < 2 or "categorical" in labels_of.loss_name(loss) or _shares(labels_of.telling(labels)):
        return False  # one class out of several
    sizes = {math.prod(inputs.shape[1:3]), math.prod(inputs.shape[1:4])}
    return number in sizes or (not isinstance(model, ClosedModel) and input_readers.ends_in_places(model))


def _expect_values(where: str, model: Any, train: Split) -> None:
    """Check that what a model reads of its input are values, between which there are others, and no indices or padding."""
    if isinstance(model, ClosedModel):
        return
    found = input_readers.found(model)
    if found.looks_up or (not found.bins and _truncates(model, train)):
        by = f" ({found.looks_up})" if found.looks_up else ""
        raise ConfigError(
            f"{where}: makes other values of inputs, but the model looks its input up in a table{by}, so these are indices; "
            "give a function (inputs, labels) that draws other indices"
        )
    if found.masks or _heeds_zeros(model, train):
        by = f" ({found.masks})" if found.masks else ""
        raise ConfigError(
            f"{where}: makes other values of inputs, but the model leaves out steps by their value{by}, and padding "
            "would count; give a function (inputs, labels) that keeps padding as it is"
        )


def _truncates(model: Any, train: Split) -> bool:
    """Whether a model takes its input for indices: between two whole numbers it gives what it gives for one of them."""
    x = _some(train)
    if x.ndim > 3 or x.dtype.kind != "f" or not x.any() or not labels_of.whole(x):
        return False
    before, after = (_given(model, train, each) for each in (x, x + np.sign(x) * x.dtype.type(BETWEEN)))
    return bool(np.array_equal(before, after)) and bool((before != before[:1]).any())


def _heeds_zeros(model: Any, train: Split) -> bool:
    """Whether a model gives something else where its input is next to zero than where it is zero."""
    x = _some(train)
    if x.dtype.kind != "f" or x.all():
        return False
    before, again, after = (_given(model, train, each) for each in (x, x, np.where(x == 0, x.dtype.type(ALMOST), x)))
    settled = np.array_equal(before, again)  # else it draws at random, and differs anyway
    return settled and bool(np.abs(after - before).max() > APART * np.abs(before).max())


def _some(train: Split) -> np.ndarray:
    """Some items of the only input."""
    [inputs] = train.some(TRIED).inputs.values()
    return inputs


def _given(model: Any, train: Split, inputs: np.ndarray) -> np.ndarray:
    """What a model gives for these inputs."""
    return training.outputs(model, Split(inputs=dict.fromkeys(train.inputs, inputs), labels=train.labels[:0]))


def _expect_mixable(where: str, labels: np.ndarray, loss: Any) -> None:
    """Check that the loss takes labels that were mixed."""
    own = isinstance(loss, dict) and "module" in loss
    name = str(loss.get("name", "")).lower() if own else labels_of.loss_name(loss)
    if "hinge" in name:
        raise ConfigError(
            f"{where}: mixes labels, and a hinge's labels are one of two; give a crossentropy, or leave mixup out"
        )
    some = labels_of.telling(labels)
    if own and ("sparse" in name or labels.dtype.kind in "iub" or (labels_of.whole(some) and not labels_of.ones(some))):
        raise ConfigError(
            f"{where}: mixes labels, which a loss of your own may not take as whole numbers ({labels.dtype}); "
            "give one-hot labels as floats"
        )
    if labels_of.settings(loss).get("ignore_class") is not None:
        raise ConfigError(f"{where}: mixes labels, and can't keep those that the loss ignores (ignore_class) apart")
