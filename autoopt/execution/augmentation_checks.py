"""Checks a task's augmentation before anything is trained: that it is known, is made of tensors, and leaves data as it has to be."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.compression import augmentation
from autoopt.compression.augmentation import ALL, NONE, Names, in_order, named
from autoopt.compression.batches import feed
from autoopt.compression.ready_augmentations import READY
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError, one_line, retold
from autoopt.execution import criteria, ready_checks
from autoopt.models import labels as labels_of
from autoopt.models import user_code
from autoopt.models.task import Output, Split, apart

TRIED = 32
"""Training items that an augmentation is tried on."""
TRIALS = (TRIED, TRIED, TRIED, 1)
"""Items of the batches that it is tried on: what it draws differs, and the last batch of an epoch may be small."""
ADVICE = "it is traced once, and runs on tensors: use TensorFlow's operations, no numpy and no .numpy()"
PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
"""Operations that call Python: what it draws can't be drawn again, and it holds the training up."""
DRAWN = (
    "something in it differs from one time to the next without TensorFlow (numbers drawn by numpy or Python, for one), "
    "and would be fixed for a whole epoch: use tf.random"
)


def described(
    given: Any,
    where: str,
    model: Any,
    train: Split,
    loss: Any,
    outputs: Sequence[Output],
    notes: list[str],
) -> tuple[dict[str, str], ...]:
    """A task's augmentations as its manifest has them, each tried on some items.

    Args:
        given: see `Task.augment`.
        where: for messages.
        model: that was taken in.
        train: the training data.
        loss: as the manifest has it.
        outputs: of a model with several.
        notes: get what a person should know.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    several = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    found = [_described(each, f"{where}: augment") for each in several]
    names = [augmentation.name_of(each) for each in found]
    for name in names:
        if name in (ALL, NONE) or names.count(name) > 1:
            what = f"is what finetune.augment calls {name} of them" if name in (ALL, NONE) else "stands there twice"
            raise ConfigError(f"{where}: augment: {name} {what}; give it another name")
    on_shares = augmentation.on_shares(found)
    for function, each in zip(several, found, strict=True):
        name = augmentation.name_of(each)
        place = f"{where}: augment: {name}"
        if "ready" in each:
            if len(train.inputs) > 1 or outputs:
                raise ConfigError(
                    f"{place}: is for models with one input and one output; give a function (inputs, labels)"
                )
            notes += ready_checks.check(name, place, model, train, loss)
        else:
            given, kind = train, loss
            if name in on_shares:
                given, kind = _with_shares(train.some(TRIED), model, loss)
                shape = ", ".join(map(str, ("items", *given.labels.shape[1:])))
                notes.append(f"{place}: stands behind mixup, so it gets labels as shares, float32 of shape ({shape})")
                place += " (behind mixup, on shares)"
            _try(function, place, model, given, kind, outputs)
            notes += _moves_alone(place, train.weights)
    return tuple(found)


def _with_shares(few: Split, model: Any, loss: Any) -> tuple[Split, Any]:
    """Items with labels as they are behind mixup, and the loss that they are for."""
    shares = np.asarray(augmentation.shared_out(few.labels, tuple(model.outputs[0].shape), loss))
    sparse = "sparse" in labels_of.loss_name(loss)
    return Split(inputs=few.inputs, labels=shares), "categorical_crossentropy" if sparse else loss


def expect_named(tuning: Mapping[str, Any], augmentations: Sequence[Mapping[str, str]], where: str) -> None:
    """Check that the fine-tuning's own choice is one of the task's augmentations.

    Raises:
        ConfigError: if it is none of them.
    """
    known = [ALL, NONE, *map(augmentation.name_of, augmentations)]
    wanted = tuning.get("augment", ALL)
    if wanted not in known:
        raise ConfigError(f"{where}: finetune.augment: unknown augmentation {wanted!r}; {nearest(wanted, known)}")


def _described(given: Any, where: str) -> dict[str, str]:
    if isinstance(given, str):
        if given not in READY:
            raise ConfigError(f"{where}: unknown augmentation {given!r}; {nearest(given, READY)}, or a function")
        return {"ready": given}
    return user_code.describe(given, where)


def _moves_alone(place: str, weights: np.ndarray | None) -> list[str]:
    """What a person should know of a function where weights belong to places of an item: it gets none of them."""
    if weights is None or weights[0].size < 2:
        return []
    return [f"{place}: weights that belong to places stay where they are; a function that moves things can't move them"]


def _try(
    function: Callable[[Any, Any], Any],
    where: str,
    model: Any,
    train: Split,
    loss: Any,
    outputs: Sequence[Output],
) -> None:
    """Try a user's function on some training items."""
    names = Names(inputs=tuple(train.inputs), outputs=tuple(o.name for o in outputs) or Names(inputs=()).outputs)
    traced = _traced(function, where, names, feed(train.part(0, 1)), _apart(train.labels[:1], outputs))
    for size in TRIALS:
        few = train.some(size)
        inputs, labels = feed(few), _apart(few.labels, outputs)
        failed = f"{where}: fails on a batch of {len(few)} item{'s' if len(few) > 1 else ''}"
        with retold(lambda error, failed=failed: ConfigError(f"{failed}: {one_line(_short(error), 300)}")):  # type: ignore[misc]
            changed = traced(inputs, labels)
        for what, before, after in (("inputs", inputs, changed[0]), ("labels", labels, changed[1])):
            _expect_alike(f"{where}: {what}", before, after)
        found = [np.asarray(each) for each in _listed(changed[1])]
        criteria.check_all_labels(found, where, model, loss, outputs)


def _apart(labels: np.ndarray, outputs: Sequence[Output]) -> Any:
    return tuple(apart(labels, [output.labels for output in outputs])) if outputs else labels


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, tuple) else [values]


def _traced(function: Callable[[Any, Any], Any], where: str, names: Names, inputs: Any, labels: Any) -> Any:
    """A user's function as a graph.

    Raises:
        ConfigError: if it is no tensor code, or gives something else than a pair.
    """
    import tensorflow as tf

    given: list[Any] = []

    def step(inputs: Any, labels: Any) -> Any:
        batch = (named(names.inputs, inputs), named(names.outputs, labels))
        given.append(function(*batch))
        return given[-1]

    def spec(array: np.ndarray) -> Any:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    def tell(error: Exception) -> ConfigError:
        said = _short(error).removeprefix(f"{type(error).__name__}: ")
        if "tf.Variable" in said:
            return ConfigError(f"{where}: makes a variable, as a layer does; make it once, at the top level of task.py")
        numpy = isinstance(error, AttributeError | NotImplementedError | TypeError) or "numpy" in said.lower()
        return ConfigError(f"{where}: {type(error).__name__}: {one_line(said, 200)}{f'; {ADVICE}' * numpy}")

    specs = [tf.nest.map_structure(spec, each) for each in (inputs, labels)]
    with retold(tell, passing=()):
        concrete, again = (tf.function(step).get_concrete_function(*specs) for _ in range(2))
    if any(node.op in PYTHON for node in _nodes(concrete)):
        raise ConfigError(f"{where}: runs Python in every step (tf.py_function, tf.numpy_function); {ADVICE}")
    if _constants(concrete) != _constants(again):
        raise ConfigError(f"{where}: {DRAWN}")
    if not isinstance(given[-1], tuple | list) or len(given[-1]) != 2:
        raise ConfigError(f"{where}: expected a pair (inputs, labels) back, got {type(given[-1]).__name__}")
    for what, known, found in zip(("inputs", "labels"), (names.inputs, names.outputs), given[-1], strict=True):
        _expect_names(f"{where}: {what}", known, found)

    def called(inputs: Any, labels: Any) -> Any:
        found = concrete(*tf.nest.map_structure(tf.constant, (inputs, labels)))
        return in_order(names.inputs, found[0]), in_order(names.outputs, found[1])

    return called


def _nodes(concrete: Any) -> list[Any]:
    """The operations of a graph, and of the functions that it calls."""
    graph = concrete.graph.as_graph_def()
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def _constants(concrete: Any) -> list[bytes]:
    """The values that a graph has by itself."""
    return [node.attr["value"].tensor.SerializeToString() for node in _nodes(concrete) if node.op == "Const"]


def _short(error: BaseException) -> str:
    """What went wrong, without where in the library: the last line of what autograph says of a user's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _expect_names(where: str, names: tuple[str, ...], found: Any) -> None:
    """Check that there came back one tensor, or a dict with these names where there are several."""
    if len(names) == 1:
        if isinstance(found, Mapping | tuple | list):
            raise ConfigError(f"{where}: expected one tensor back, got {type(found).__name__}")
    elif not isinstance(found, Mapping) or set(found) != set(names):
        got = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ConfigError(f"{where}: expected a dict with {', '.join(names)} back, got {got}")


def _expect_alike(where: str, before: Any, after: Any) -> None:
    """Check that an augmentation left number, shape and type of what it got, and made no NaN."""
    for old, new in zip(_listed(before), _listed(after), strict=True):
        array = np.asarray(new)
        if array.dtype != old.dtype:
            raise ConfigError(f"{where}: expected the type {old.dtype} back, got {array.dtype}; end in tf.cast")
        if array.ndim and len(array) != len(old) and array.shape[1:] == old.shape[1:]:
            raise ConfigError(f"{where}: expected as many items back ({len(old)}), got {len(array)}")
        if array.shape != old.shape:
            raise ConfigError(f"{where}: expected the shape {old.shape} back, got {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConfigError(f"{where}: NaN or infinity came back, and none went in")
