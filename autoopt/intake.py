"""Takes a user's task in: checks model, data, loss and metric, and puts them into the store for the jobs."""

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import labels as labels_of
from autoopt import measure, models, scoring, usercode, weighing
from autoopt.closing import ClosedModel
from autoopt.errors import ConfigError
from autoopt.keras3_losses import in_keras2
from autoopt.metrics import Metric
from autoopt.recipe import COMPRESSING, SCHEMES, Finetune, plain
from autoopt.sizes import text_advice
from autoopt.stages import coverage, finetune, tracing
from autoopt.stages.wrapped import frozen
from autoopt.store import Store
from autoopt.task import SPLITS, Inputs, Manifest, Output, QualityMetric, Split, Task, apart, side_by_side
from autoopt.validation import fail, nearest

CALIBRATION_ITEMS = 256
ONE_OUTPUT: Mapping[str, tuple[Any, ...]] = {
    "finetune.distillation": (0.0,),
    "channels.importance": ("l2", "bn_scale"),
    "prune.allocation": ("uniform", "global"),
}
"""What is left of knobs whose other values need a model with one output."""
SEVERAL = "the model has several outputs: distillation, and choosing by the loss, are left out"
SEEN = 256
"""Items, on which it is looked at what a model gives."""
MASKED_ITEMS = 256
"""Items that a model is asked for its mask at a time."""
FEW = 50
"""Training items a class, under which what the untouched model says is the better teacher."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a model can't be put through.

    Attributes:
        parts: of a recipe that are left out of the space.
        schemes: that are.
        values: of knobs, by path, to which they are held.
        why: in words for people.
    """

    parts: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    why: str


@dataclass(frozen=True, kw_only=True)
class Intake:
    """A task that was taken in.

    Attributes:
        manifest: as the jobs see it.
        warnings: for people.
        limits: what its model can't be put through.
        groups: how many channels can only go one by one, by group of layers that make them; None if that is not known.
        tuned: whether the task says itself how to fine-tune.
    """

    manifest: Manifest
    warnings: list[str]
    limits: list[Limit]
    groups: list[int] | None = None
    tuned: bool = False


def prepare(task: Task, path: Path, store: Store) -> Intake:
    """Check a task and put model and data into the store.

    Args:
        task: as the user gave it.
        path: of its `task.py`, for messages and for functions of its own.
        store: where model and data go.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    where = str(path)
    custom, notes = models.by_own_names(task.custom_objects or {}), list[str]()
    model = models.load(
        task.model,
        where,
        custom_objects=custom,
        allow_code=task.allow_code,
        signature=task.signature,
        input_size=task.input_size,
        notes=notes,
    )
    if not isinstance(model, ClosedModel) and not model.weights:
        raise ConfigError(f"{where}: model: has no weights, so there is nothing to make small")
    read = {name: _read(getattr(task, name), f"{where}: {name}", model) for name in SPLITS[:3]}
    pairs = {name: (inputs, labels) for name, (inputs, labels, _) in read.items()}
    splits = {name: Split(inputs=inputs, labels=side_by_side(labels)) for name, (inputs, labels) in pairs.items()}
    for name, split in splits.items():
        check_split(split, f"{where}: {name}", model)
        if len(split.labels) != len(split):
            fail(f"{where}: {name}: labels", f"{len(split)} labels, one an item", len(split.labels))
    outputs = _outputs({name: labels for name, (_, labels) in pairs.items()}, where, model)
    seen = _Seen(model, splits)
    loss, warnings = _describe_losses(task, seen, where)
    for name, split in splits.items():
        _check_all_labels(split, f"{where}: {name}", model, loss, outputs)
    warnings += _check_ends(seen, loss, outputs, where)
    metric, said = _describe_metric(task.metric, seen, loss, outputs, where)
    warnings += said
    if metric["function"] is None:
        splits = {name: _masked(split, model) for name, split in splits.items()}
    weights = weighing.of_items(read["train"][2], task.class_weight, pairs["train"][1], model, where)
    splits["train"] = dataclasses.replace(splits["train"], weights=weights)
    warnings += [
        f"{name}: weights of items are for training; the metric counts every item alike, and they are left out"
        for name in SPLITS[1:3]
        if read[name][2] is not None
    ]
    splits["calibration"] = _calibration(task, splits["train"], where, model)
    described = {name: usercode.describe(o, f"{where}: custom_objects: {name}", "class") for name, o in custom.items()}
    several = loss["outputs"].values() if outputs else [loss]
    functions = [d for d in (*several, metric["function"]) if isinstance(d, dict) and "module" in d]
    for found in (*functions, *described.values()):
        usercode.refuse_neighbour(found, path)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    code: dict[str, Any] = {}
    if described and not isinstance(model, ClosedModel):
        own = any(d["module"] == "" for d in described.values())
        code = {"objects": described, "source": text if own else "", "path": str(path) if own else ""}
    needs_source = any(d["module"] == "" for d in functions)
    model_key = models.fingerprint(model, code)
    store.put(model_key, models.pack(model, code=code))
    keys = {}
    for name, split in splits.items():
        keys[name] = split.digest
        store.put(keys[name], split.to_bytes())
    manifest = Manifest(
        model=model_key,
        splits=keys,
        items={name: len(split) for name, split in splits.items()},
        loss=loss,
        metric=metric,
        finetune=plain(task.finetune or _usual(splits["train"], model, loss)),
        class_names=tuple(task.class_names),
        source=text if needs_source else "",
        path=str(path) if needs_source else "",
        outputs=outputs,
    )
    notes += [] if isinstance(model, ClosedModel) else _frozen(model, manifest.finetune)
    return Intake(
        manifest=manifest,
        warnings=[*notes, *warnings, *_warnings(splits)],
        limits=_limits(model),
        groups=_groups(model),
        tuned=task.finetune is not None,
    )


def _groups(model: Any) -> list[int] | None:
    """See `Intake`."""
    if isinstance(model, ClosedModel):
        return None
    try:
        return [len(group.channels) for group in tracing.trace(model).groups]
    except (ValueError, TypeError, NotImplementedError, RuntimeError):  # the stage says so itself, when it is tried
        return None


class _Seen:
    """What a model gives for some of its items, beside their labels.

    Attributes:
        model: that was taken in.
        splits: by name.
        some: training items, at random.
        outputs: shape (items, ...), what the model gives for them; several outputs stand side by side.
    """

    def __init__(self, model: Any, splits: Mapping[str, Split]) -> None:
        self.model, self.splits = model, splits
        self.some = splits["train"].some(SEEN)
        self.outputs = given_by(model, self.some)

    def labels(self) -> np.ndarray:
        """The labels of all splits, where they have one shape, else those of train."""
        arrays = [split.labels for split in self.splits.values()]
        alike = len({array.shape[1:] for array in arrays}) == 1
        return np.concatenate(arrays) if alike else arrays[0]


def given_by(model: Any, split: Split) -> np.ndarray:
    """What a model that was taken in gives: shape (items, ...); several outputs stand side by side."""
    if isinstance(model, ClosedModel):
        return measure.outputs_of(model.file, split.inputs, threads=1, names=list(model.output_names))
    return finetune.outputs(model, split)


def _masked(split: Split, model: Any) -> Split:
    """A split that knows which positions of the output the model masks, as `fit` and `evaluate` leave them out."""
    if isinstance(model, ClosedModel) or len(model.outputs[0].shape) < 3:
        return split
    masks = []
    for first in range(0, len(split), MASKED_ITEMS):
        part = split.part(first, first + MASKED_ITEMS)
        mask = getattr(model(finetune.feed(part), training=False), "_keras_mask", None)
        if mask is None:
            return split
        masks.append(np.asarray(mask).astype(bool))
    counted = np.concatenate(masks)
    positions = int(np.prod(model.outputs[0].shape[1:-1]))
    if counted.size != len(split) * positions or bool(counted.all()):
        return split
    return dataclasses.replace(split, counted=counted.reshape(len(split), *model.outputs[0].shape[1:-1]))


def _usual(train: Split, model: Any, loss: Any) -> Finetune:
    """Fine-tuning settings of a task that names none."""
    if len(model.outputs) > 1:
        return Finetune()
    classes = max(2, int(model.outputs[0].shape[-1]))
    few = "crossentropy" in labels_of.loss_name(loss) and len(train) < FEW * classes
    return Finetune(distillation=0.5) if few else Finetune()


def _read(given: Any, where: str, model: Any) -> tuple[Inputs, list[np.ndarray], Any]:
    """A split's inputs, the labels of each output, and the weights of items as they were given; None for none."""
    if hasattr(given, "element_spec"):  # a tf.data.Dataset, recognised without importing TensorFlow
        given = _read_dataset(given, where, model)
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        got = f"{len(given)} parts" if isinstance(given, (tuple, list)) else type(given).__name__
        fail(where, "a pair (inputs, labels) or a tf.data.Dataset of such pairs", got)
    weights = given[2] if len(given) == 3 else None
    return _inputs(given[0], where, model), _labels(given[1], f"{where}: labels", model), weights


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


def _inputs(given: Any, where: str, model: Any) -> Inputs:
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


def _read_dataset(dataset: Any, where: str, model: Any) -> tuple[Any, ...]:
    """All of a finite dataset, as arrays.

    It is batched if its specification leaves the first axis open, or if its elements have the rank of
    the model's inputs: a dataset of whole batches (`drop_remainder`) or from a generator leaves none open.
    """
    import tensorflow as tf

    if int(dataset.cardinality().numpy()) == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{where}: the dataset never ends (repeat?); expected one pass over the data")
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        fail(where, "a dataset of pairs (inputs, labels), or of (inputs, labels, weights)", spec)
    shapes = [s.shape for s in tf.nest.flatten(spec)]
    elements = list(dataset.as_numpy_iterator())
    if not elements:
        raise ConfigError(f"{where}: empty; expected one item or more")
    ranks = sum(np.ndim(a) for a in tf.nest.flatten(elements[0][0]))
    batched = all(s.rank is not None and s.rank > 0 and s[0] is None for s in shapes)
    batched = batched or ranks == sum(len(tensor.shape) for tensor in model.inputs)
    join = np.concatenate if batched else np.stack
    try:
        read = tuple(tf.nest.map_structure(lambda *a: join(a), *column) for column in zip(*elements, strict=True))
    except ValueError as error:
        raise ConfigError(f"{where}: the dataset's items differ in shape; pad or resize them") from error
    return read


def check_split(split: Split, where: str, model: Any) -> None:
    """Check that a split's inputs are what a model takes, and its labels are numbers.

    Raises:
        ConfigError: naming the input, what was expected, and what was found.
    """
    if len(split) == 0:
        raise ConfigError(f"{where}: empty; expected one item or more")
    for tensor, (name, array) in zip(model.inputs, split.inputs.items(), strict=True):
        expected = tuple(tensor.shape)[1:]
        if array.dtype.kind not in "fiub":
            text = f"; {text_advice(name, '')}" if array.dtype.kind in "OSUT" else ""
            raise ConfigError(f"{where}: input {name}: expected numbers, got 'dtype {array.dtype}'{text}")
        if array.shape[1:] != expected:
            hint = _shape_hint(array, expected)
            raise ConfigError(
                f"{where}: input {name}: expected shape (items, {_dims(expected)}), got {array.shape}{hint}"
            )
        if len(array) != len(split):
            fail(f"{where}: input {name}", f"{len(split)} items like the first input", len(array))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConfigError(
                f"{where}: input {name}: holds NaN or infinity in {_bad_items(array)} items; clean the data"
            )
    if split.labels.dtype.kind not in "fiub":
        names = "; number the names: np.unique(labels, return_inverse=True)[1]" * (split.labels.dtype.kind in "SUT")
        raise ConfigError(f"{where}: labels: expected numbers, got 'dtype {split.labels.dtype}'{names}")
    if split.labels.dtype.kind == "f" and not np.isfinite(split.labels).all():
        raise ConfigError(f"{where}: labels: hold NaN or infinity in {_bad_items(split.labels)} items; clean the data")


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
    return int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())


def _outputs(labels: Mapping[str, Sequence[np.ndarray]], where: str, model: Any) -> tuple[Output, ...]:
    """What the outputs of a model with several look like, and their labels by split; nothing for one."""
    if len(model.outputs) == 1:
        return ()
    shapes = {name: [array.shape[1:] for array in arrays] for name, arrays in labels.items()}
    for name in SPLITS[1:3]:
        if shapes[name] != shapes["train"]:
            fail(f"{where}: {name}: labels", f"the shapes of train's ({shapes['train']})", shapes[name])
    return tuple(
        Output(name=name, shape=tuple(int(size) for size in tuple(tensor.shape)[1:]), labels=shape)
        for name, tensor, shape in zip(model.output_names, model.outputs, shapes["train"], strict=True)
    )


def _check_all_labels(split: Split, where: str, model: Any, loss: Any, outputs: Sequence[Output]) -> None:
    if not outputs:
        _check_labels(split.labels, f"{where}: labels", tuple(model.outputs[0].shape), loss)
        return
    for output, labels in zip(outputs, apart(split.labels, [o.labels for o in outputs]), strict=True):
        place = f"{where}: labels: {output.name}"
        _check_labels(labels, place, (None, *output.shape), loss["outputs"][output.name])


def _check_labels(labels: np.ndarray, where: str, shape: tuple[int | None, ...], loss: Any) -> None:
    name, classes = labels_of.loss_name(loss), int(shape[-1] or 1)
    told = loss if isinstance(loss, str) else loss.get("keras", {}).get("class_name", "")
    if "categorical" in name and "sparse" not in name and labels.shape[-1:] != (classes,):
        fail(
            where,
            f"one-hot labels of shape (items, {classes}) for the loss {told}; sparse_categorical_crossentropy takes indices",
            labels.shape,
        )
    if "categorical" in name and "sparse" not in name:
        sums = labels.sum(axis=-1)
        if not np.allclose(sums, 1, atol=1e-3):
            worst = float(sums.flat[np.abs(sums - 1).argmax()])
            fail(where, f"labels that sum to 1 over the {classes} classes for the loss {told}", f"a sum of {worst:g}")
    if "binarycrossentropy" in name and (labels.min() < 0 or labels.max() > 1):
        low, high = labels.min().item(), labels.max().item()
        raise ConfigError(
            f"{where}: expected 0 and 1 for the loss {told}, got {low:g} to {high:g}; "
            f"give (labels == {high:g}).astype(int) if these are two classes"
        )
    if "sparse" not in name:
        return
    alike = labels.ndim == len(shape) - 1 or (labels.ndim == len(shape) and labels.shape[-1] == 1)
    if not alike:
        fail(where, f"one class index an item, shape (items,), for the loss {told}", f"shape {labels.shape}")
    outside = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    ignored = None if isinstance(loss, str) else loss.get("keras", {}).get("config", {}).get("ignore_class")
    if ignored is not None:
        outside &= labels != ignored
    if outside.any():
        first = labels[outside][0].item()
        hint = "; subtract 1" if first == classes and labels.min() == 1 else ""
        if labels.ndim > 1 and labels.shape[-1] > 1 and len(np.unique(labels[outside])) == 1 and not hint:
            hint = f"; if {first} marks what does not count: SparseCategoricalCrossentropy(ignore_class={first})"
        raise ConfigError(
            f"{where}: expected class indices 0 to {classes - 1} (the model has {classes} outputs), got {first}{hint}"
        )


def _check_ends(seen: _Seen, loss: Any, outputs: Sequence[Output], where: str) -> list[str]:
    """Whether the model ends in what its loss expects: probabilities, or scores of any size (logits).

    Returns:
        warnings.

    Raises:
        ConfigError: if the loss would cut scores off as if they were probabilities.
    """
    arrays = apart(seen.outputs, [output.shape for output in outputs]) if outputs else [seen.outputs]
    losses = [loss["outputs"][output.name] for output in outputs] if outputs else [loss]
    warnings = []
    for name, array, one in zip(seen.model.output_names, arrays, losses, strict=True):
        if "crossentropy" not in labels_of.loss_name(one):
            continue
        low, high = float(np.min(array)), float(np.max(array))
        inside = labels_of.probabilities(array)
        logits = not isinstance(one, str) and bool(one["keras"]["config"].get("from_logits"))
        told = one if isinstance(one, str) else one["keras"]["class_name"]
        if not inside and not logits:
            kind = "".join(word.title() for word in told.split("_")) if isinstance(one, str) else told
            raise ConfigError(
                f"{where}: loss: {told} expects probabilities, but the output {name} reaches from {low:.3g} to {high:.3g}; "
                f"give loss=tf_keras.losses.{kind}(from_logits=True), or end the model in a softmax or sigmoid"
            )
        sums = np.asarray(array).sum(axis=-1)
        ends = array.shape[-1] == 1 or np.allclose(sums, 1, atol=1e-3) or "binary" in labels_of.loss_name(one)
        if logits and inside and ends:
            warnings.append(
                f"the output {name} is probabilities, but the loss takes it for logits: leave from_logits out"
            )
    return warnings


def _calibration(task: Task, train: Split, where: str, model: Any) -> Split:
    nothing = np.zeros(0, np.int8)
    if task.calibration is None:
        chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_ITEMS]
        return Split(inputs={name: a[chosen] for name, a in train.inputs.items()}, labels=nothing)
    given = task.calibration
    if hasattr(given, "element_spec"):
        given = _read_dataset(given, f"{where}: calibration", model)[0]
    split = Split(inputs=_inputs(given, f"{where}: calibration", model), labels=nothing)
    check_split(split, f"{where}: calibration", model)
    return split


def _describe_metric(
    metric: Any, seen: _Seen, loss: Any, outputs: Sequence[Output], where: str
) -> tuple[dict[str, Any], list[str]]:
    """The metric as plain values, and what a person should know of how it was chosen."""
    if isinstance(metric, QualityMetric):
        return _describe_own(metric, where), []
    if type(metric).__module__.partition(".")[0] in ("keras", "tf_keras"):
        kind = type(metric).__name__
        raise ConfigError(
            f"{where}: metric: a Keras metric ({kind}) can't be used, for quality is that of a file's outputs; give one of "
            f"{', '.join(scoring.BUILTIN)}, or autoopt.QualityMetric(name='{metric.name}', function=...)"
        )
    if metric is not None and (not isinstance(metric, str) or metric not in scoring.BUILTIN):
        names = ", ".join(scoring.BUILTIN)
        hint = f" ({nearest(metric, scoring.BUILTIN)})" if isinstance(metric, str) else ""
        fail(f"{where}: metric", f"one of {names}{hint}, or an autoopt.QualityMetric", metric)
    if outputs:
        names = ", ".join(output.name for output in outputs)
        fail(f"{where}: metric", f"an autoopt.QualityMetric, for the model has several outputs ({names})", metric)
    meaning = labels_of.read(seen.labels(), seen.outputs, seen.some.labels, loss, where)
    values = meaning.kind == labels_of.VALUES
    name = metric or ("mae" if values else "accuracy")
    known = scoring.BUILTIN[name]
    if meaning.kind not in known.kinds:
        fit = ", ".join(each for each, builtin in scoring.BUILTIN.items() if meaning.kind in builtin.kinds)
        fail(f"{where}: metric", f"one of {fit}, for labels that are {meaning.words()}", name)
    if values and seen.labels()[0].size != seen.outputs[0].size:
        raise ConfigError(
            f"{where}: metric: {name} needs labels like the outputs, {seen.outputs[0].size} values an item, and they have "
            f"{seen.labels()[0].size}; give an autoopt.QualityMetric"
        )
    plain: dict[str, Any] = {"name": name, "direction": known.direction, "unit": known.unit, "function": None}
    logits = isinstance(loss, dict) and bool(loss.get("keras", {}).get("config", {}).get("from_logits"))
    single = (
        meaning.positions == 1 and meaning.kind in (labels_of.CLASSES, labels_of.BINARY) and meaning.ignored is None
    )
    turns = meaning.kind == labels_of.CLASSES or meaning.threshold == (0.0 if logits else 0.5)
    if not (single and turns):  # what was always read so is left as it was, for studies of before
        plain["meaning"] = meaning.to_dict()
    if metric is None and not (single and name == "accuracy"):
        return plain, [f"metric: none is given, so {name} is measured ({known.title}): labels are {meaning.words()}"]
    return plain, []


def _describe_own(metric: QualityMetric, where: str) -> dict[str, Any]:
    if not metric.name.isidentifier():
        fail(f"{where}: metric.name", "a name of letters, digits and underscores", metric.name)
    told = Metric(name=metric.name, direction=metric.direction, unit=metric.unit)
    if told.unit not in ("", "fraction"):
        fail(f"{where}: metric.unit", "'fraction' or ''", metric.unit)
    function = usercode.describe(metric.function, f"{where}: metric.function")
    plain = {"name": metric.name, "direction": metric.direction, "unit": metric.unit, "function": function}
    parameters = inspect.signature(metric.function).parameters
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind not in free]
    strange = [p.name for p in needed if p.kind is p.KEYWORD_ONLY and p.name != "inputs"]
    if len(needed) > 3 or strange:
        found = ", ".join(p.name for p in needed)
        fail(f"{where}: metric.function", "a function of labels, outputs and perhaps inputs", found)
    return plain | ({"inputs": True} if len(needed) == 3 or "inputs" in parameters else {})


def _describe_losses(task: Task, seen: _Seen, where: str) -> tuple[Any, list[str]]:
    """The loss as plain values (of several outputs `{"outputs": by name}`), and how it was chosen where none is given."""
    names = list(seen.model.output_names)
    if len(names) == 1:
        given = task.loss[names[0]] if isinstance(task.loss, Mapping) and set(task.loss) == set(names) else task.loss
        if given is not None:
            return _describe_loss(given, where), []
        try:
            found = labels_of.infer_loss(seen.splits["train"].labels, seen.outputs, seen.some.labels, f"{where}: train")
        except ConfigError as error:
            raise ConfigError(f"{error} (no loss is given, so labels and outputs must tell)") from error
        usual = found.loss == "sparse_categorical_crossentropy" and not found.from_logits
        said = [] if usual else [f"loss: none is given, so {found.source} is used: {found.reason}"]
        return found.described, said
    if not isinstance(task.loss, Mapping) or set(task.loss) != set(names):
        fail(f"{where}: loss", f"a dict with a loss for each output ({', '.join(names)})", task.loss)
    return {"outputs": {name: _describe_loss(task.loss[name], f"{where}: loss: {name}") for name in names}}, []


def _describe_loss(loss: Any, where: str) -> Any:
    import tf_keras

    loss = in_keras2(loss, f"{where}: loss")
    if isinstance(loss, str):
        try:
            tf_keras.losses.get(loss)
        except ValueError as error:
            raise ConfigError(f"{where}: loss: expected the name of a Keras loss, got {loss!r}") from error
        return loss
    if isinstance(loss, tf_keras.losses.Loss):
        if type(loss).__module__.partition(".")[0] == "tf_keras":
            return {"keras": tf_keras.losses.serialize(loss)}
        if not usercode.bound(loss):  # another process could not build it again
            kind = type(loss).__name__
            raise ConfigError(
                f"{where}: loss: expected a loss of Keras, or a function (labels, outputs), got {kind!r}; {usercode.BIND}"
            )
    return usercode.describe(loss, f"{where}: loss")


def _frozen(model: Any, tuning: Mapping[str, Any]) -> list[str]:
    """How many layers are frozen, and what becomes of them."""
    names, number = frozen(model), sum(bool(layer.weights) for layer in model.layers)
    if not names:
        return []
    told = f"{len(names)} of {number} layers with weights are frozen (trainable=False)"
    if tuning.get("frozen") == "keep":
        return [f"{told}: they are quantized, but neither pruned, clustered nor trained (finetune.frozen: keep)"]
    return [
        f"{told}: they are compressed and trained like the others, but for batch normalization; "
        'Finetune(frozen="keep"), or finetune: {frozen: keep} in the space, leaves them alone'
    ]


def _limits(model: Any) -> list[Limit]:
    aware = tuple(name for name, scheme in SCHEMES.items() if scheme.qat)
    if isinstance(model, ClosedModel):
        why = f"{model.why}. So it can't be pruned, clustered or trained, and only post-training schemes are tried"
        return [Limit(parts=(*COMPRESSING, "finetune"), schemes=(*aware, "int16x8"), why=why)]
    limits = [] if len(model.outputs) == 1 else [Limit(values=ONE_OUTPUT, why=SEVERAL)]
    covered = coverage.of_qat(model)
    if covered.enough:
        return limits
    left = ", ".join(covered.left) or "all layers"
    why = (
        f"quantization-aware training takes in {covered.weights:.0%} of the weights and {covered.multiply_adds:.0%} of the "
        f"multiply-adds (not {left}), under {coverage.ENOUGH:.0%}: it is left out"
    )
    return [*limits, Limit(schemes=aware, why=why)]


def _warnings(splits: Mapping[str, Split]) -> list[str]:
    found = []
    rows = {name: _row_digests(splits[name]) for name in SPLITS[:3]}
    for other in ("validation", "test"):
        shared = len(rows["train"] & rows[other])
        if shared:
            found.append(
                f"{shared} items of {other} also stand in train: its accuracy will flatter; remove them from train"
            )
    shared = len(rows["validation"] & rows["test"])
    if shared:
        found.append(f"{shared} items of test also stand in validation: the confirmation will flatter")
    return found


def _row_digests(split: Split) -> set[bytes]:
    arrays = [np.ascontiguousarray(a).reshape(len(split), -1) for a in split.inputs.values()]
    return {
        hashlib.blake2b(b"".join(a[i].tobytes() for a in arrays), digest_size=16).digest() for i in range(len(split))
    }
