"""A distillation's teacher: the untouched model, or one of the user's own, asked for many items at once or within a step."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression import training
from autoopt.compression.augmentation import named
from autoopt.compression.batches import feed
from autoopt.errors import ConfigError, one_line, retold
from autoopt.execution.artifact_store import Store
from autoopt.models import loading, user_code
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Manifest, Split, Task
from autoopt.tflite import interpreter

BATCH = 256
"""Items that a teacher is asked about at a time."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Who can be asked.

    Attributes:
        in_parts: gives its outputs for a split, shape (some items, ...), in the order of the items.
        in_step: the same for a batch of inputs by position, tensors, within a step of training.
    """

    in_parts: Callable[[Split], Iterator[np.ndarray]]
    in_step: Callable[[Any], Any]

    def says(self, split: Split) -> np.ndarray:
        """Its outputs for all items of a split, shape (items, ...)."""
        return np.concatenate(list(self.in_parts(split)))


def of_model(model: Any, some: Split) -> Teacher:
    """A model that was loaded as a teacher.

    Args:
        model: a tf_keras model, or a `ClosedModel`.
        some: items that it will be asked about: inputs that are named alike go by name, others by position.
    """
    names, theirs, places = list(some.inputs), list(model.input_names), _places(model, some)

    def ordered(split: Split) -> Split:
        arrays = list(split.inputs.values())
        return Split(
            inputs={name: arrays[place] for name, place in zip(theirs, places, strict=True)}, labels=split.labels
        )

    if isinstance(model, ClosedModel):
        return _by_arrays(
            lambda split: interpreter.outputs_in_parts(
                model.file, ordered(split).inputs, threads=1, names=list(model.output_names)
            ),
            some,
        )

    def in_step(inputs: Any) -> Any:
        several = [inputs] if len(names) == 1 else [inputs[place] for place in places]
        return model(several[0] if len(several) == 1 else several, training=False)

    return Teacher(in_parts=lambda split: training.outputs_in_parts(model, ordered(split)), in_step=in_step)


def _places(model: Any, some: Split) -> list[int]:
    """Which of a split's inputs each of a model's is."""
    names, theirs = list(some.inputs), list(model.input_names)
    return [names.index(name) for name in theirs] if sorted(names) == sorted(theirs) else list(range(len(names)))


def of_function(function: Callable[[Any], Any], some: Split) -> Teacher:
    """A user's function as a teacher: of an array, or of a dict of arrays by input name."""

    def in_parts(split: Split) -> Iterator[np.ndarray]:
        for first in range(0, len(split), BATCH):
            part = split.part(first, first + BATCH)
            yield np.asarray(function(named(tuple(part.inputs), feed(part)))).astype(np.float32)

    return _by_arrays(in_parts, some)


def _by_arrays(in_parts: Callable[[Split], Iterator[np.ndarray]], some: Split) -> Teacher:
    """A teacher that knows arrays alone, also within a step."""
    names = list(some.inputs)
    row: list[tuple[int, ...]] = []

    def answer(*arrays: np.ndarray) -> np.ndarray:
        given = Split(inputs=dict(zip(names, arrays, strict=True)), labels=np.zeros(len(arrays[0]), np.int8))
        return np.concatenate(list(in_parts(given))).astype(np.float32, copy=False)

    def in_step(inputs: Any) -> Any:
        import tensorflow as tf

        with tf.init_scope():  # where a step's graph is being built, the teacher still works on values
            row[:] = row or [next(in_parts(some.part(0, 1))).shape[1:]]
        found = tf.numpy_function(answer, list(inputs) if isinstance(inputs, tuple) else [inputs], tf.float32)
        return tf.ensure_shape(found, (None, *row[0]))

    return Teacher(in_parts=in_parts, in_step=in_step)


def of_task(manifest: Manifest, result: Callable[[str], bytes], some: Split, model: bytes = b"") -> Teacher:
    """The teacher of a task, or else what the task's model has become.

    Args:
        manifest: the task.
        result: gives what the store has under a key.
        some: items that it will be asked about.
        model: packed; asked where the task gives no teacher. Empty for the untouched model.
    """
    if "module" in manifest.teacher:
        return of_function(user_code.find(manifest.teacher, manifest.source, manifest.path), some)
    own = manifest.teacher.get("model")
    asked, _ = loading.unpack(model if model and not own else result(own or manifest.model))
    return of_model(asked, some)


# ---- taken in


def described(
    task: Task, where: str, outputs: np.ndarray, some: Split, several: bool, code: Mapping[str, Any], store: Store
) -> dict[str, str]:
    """A task's own teacher as its manifest has it; a model goes into the store. Nothing where there is none.

    Args:
        task: as the user gave it.
        where: for messages.
        outputs: what the task's model says to some items, shape (items, ...).
        some: these items.
        several: whether the model has several outputs.
        code: what a packed model needs of the user's own, see `loading.pack`.
        store: where models go.

    Raises:
        ConfigError: if it can't be asked, or its outputs are not like the model's.
    """
    given, where = task.teacher, f"{where}: teacher"
    if given is None:
        return {}
    if several:
        raise ConfigError(f"{where}: distillation needs a model with one output; leave the teacher out")
    by_model = isinstance(given, str) or hasattr(given, "__fspath__") or hasattr(given, "layers")
    if by_model:
        custom = loading.by_own_names(task.custom_objects or {})
        model = loading.load(
            given, where, custom_objects=custom, allow_code=task.allow_code, input_size=task.input_size
        )
        _expect_inputs(model, where, some)
        teacher = of_model(model, some)
        found = {"model": loading.fingerprint(model, code)}
    else:
        if not callable(given):
            kind = type(given).__name__
            raise ConfigError(
                f"{where}: expected a Keras model, a path, or a function of a batch of inputs, got {kind}"
            )
        found, teacher = user_code.describe(given, where), of_function(given, some)
    _expect_alike(teacher, where, outputs, some)
    if by_model:
        store.put(found["model"], loading.pack(model, code=code))
    return found


def _expect_inputs(model: Any, where: str, some: Split) -> None:
    """Check that a teacher takes inputs of the shapes that the model takes."""
    if len(model.input_names) != len(some.inputs):
        got = ", ".join(model.input_names)
        raise ConfigError(f"{where}: expected the model's inputs ({', '.join(some.inputs)}), got {got}")
    arrays = list(some.inputs.values())
    for tensor, place in zip(model.inputs, _places(model, some), strict=True):
        wanted, takes = arrays[place].shape[1:], tuple(tensor.shape)[1:]
        if len(wanted) != len(takes) or any(b is not None and a != b for a, b in zip(wanted, takes, strict=True)):
            wanted_, takes_ = (", ".join(map(str, ("items", *shape))) for shape in (wanted, takes))
            raise ConfigError(f"{where}: expected to take an input of shape ({wanted_}), got one of ({takes_})")


def _expect_alike(teacher: Teacher, where: str, outputs: np.ndarray, some: Split) -> None:
    """Check that a teacher's outputs for some items are like the model's."""

    def tell(error: Exception) -> ConfigError:
        return ConfigError(f"{where}: can't be asked about a batch of the model's inputs: {one_line(error, 300)}")

    with retold(tell):
        said = teacher.says(some)
    if said.shape != outputs.shape:
        wanted, got = (f"(items, {', '.join(map(str, array.shape[1:]))})" for array in (outputs, said))
        raise ConfigError(
            f"{where}: expected outputs of shape {wanted} as the model has them, got "
            f"{got if len(said) == len(outputs) else f'{len(said)} for {len(outputs)} items'}"
        )
    if said.dtype.kind not in "fiub" or not np.isfinite(said).all():
        raise ConfigError(f"{where}: expected numbers, got NaN or infinity for some training items")
