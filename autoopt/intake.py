"""Takes a user's task in: checks model, data, loss and metric, and puts them into the store for the jobs."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import models, usercode
from autoopt.closing import ClosedModel
from autoopt.errors import ConfigError
from autoopt.losses import in_keras2
from autoopt.metrics import Metric
from autoopt.recipe import COMPRESSING, SCHEMES, Finetune, plain
from autoopt.stages import coverage, finetune
from autoopt.stages.wrapped import frozen
from autoopt.store import Store
from autoopt.task import SPLITS, Inputs, Manifest, Output, QualityMetric, Split, Task, apart, side_by_side
from autoopt.validation import fail

CALIBRATION_ITEMS = 256
ONE_OUTPUT: Mapping[str, tuple[Any, ...]] = {
    "finetune.distillation": (0.0,),
    "channels.importance": ("l2", "bn_scale"),
    "prune.allocation": ("uniform", "global"),
}
"""What is left of knobs whose other values need a model with one output."""
SEVERAL = "the model has several outputs: distillation, and choosing by the loss, are left out"
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
    """

    manifest: Manifest
    warnings: list[str]
    limits: list[Limit]


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
    model = models.load(task.model, where, custom_objects=custom, allow_code=task.allow_code, notes=notes)
    pairs = {name: _pair(getattr(task, name), f"{where}: {name}", model) for name in SPLITS[:3]}
    splits = {name: Split(inputs=inputs, labels=side_by_side(labels)) for name, (inputs, labels) in pairs.items()}
    for name, split in splits.items():
        _check_split(split, f"{where}: {name}", model)
    outputs = _outputs({name: labels for name, (_, labels) in pairs.items()}, where, model)
    loss = _describe_losses(task, splits["train"], where, model)
    for name, split in splits.items():
        _check_all_labels(split, f"{where}: {name}", model, loss, outputs)
    warnings = [] if isinstance(model, ClosedModel) else _check_ends(model, splits["validation"], loss, outputs, where)
    splits["calibration"] = _calibration(task, splits["train"], where, model)
    metric = _describe_metric(task.metric, where)
    if outputs and metric["function"] is None:
        names = ", ".join(output.name for output in outputs)
        fail(f"{where}: metric", f"an autoopt.QualityMetric, for the model has several outputs ({names})", task.metric)
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
    return Intake(manifest=manifest, warnings=[*notes, *warnings, *_warnings(splits)], limits=_limits(model))


def _usual(train: Split, model: Any, loss: Any) -> Finetune:
    """Fine-tuning settings of a task that names none."""
    if len(model.outputs) > 1:
        return Finetune()
    classes = max(2, int(model.outputs[0].shape[-1]))
    few = "crossentropy" in _loss_name(loss) and len(train) < FEW * classes
    return Finetune(distillation=0.5) if few else Finetune()


def _pair(given: Any, where: str, model: Any) -> tuple[Inputs, list[np.ndarray]]:
    """A split's inputs, and the labels of each output."""
    if hasattr(given, "element_spec"):  # a tf.data.Dataset, recognised without importing TensorFlow
        given = _read_dataset(given, where, model)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        fail(where, "a pair (inputs, labels) or a tf.data.Dataset of such pairs", type(given).__name__)
    return _inputs(given[0], where, model), _labels(given[1], f"{where}: labels", model)


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


def _read_dataset(dataset: Any, where: str, model: Any) -> tuple[Any, Any]:
    """All of a finite dataset, as arrays.

    It is batched if its specification leaves the first axis open, or if its elements have the rank of
    the model's inputs: a dataset of whole batches (`drop_remainder`) or from a generator leaves none open.
    """
    import tensorflow as tf

    if int(dataset.cardinality().numpy()) == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{where}: the dataset never ends (repeat?); expected one pass over the data")
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        fail(where, "a dataset of pairs (inputs, labels)", spec)
    shapes = [s.shape for s in tf.nest.flatten(spec)]
    elements = list(dataset.as_numpy_iterator())
    if not elements:
        raise ConfigError(f"{where}: empty; expected one item or more")
    ranks = sum(np.ndim(a) for a in tf.nest.flatten(elements[0][0]))
    batched = all(s.rank is not None and s.rank > 0 and s[0] is None for s in shapes)
    batched = batched or ranks == sum(len(tensor.shape) for tensor in model.inputs)
    join = np.concatenate if batched else np.stack
    try:
        inputs, labels = (tf.nest.map_structure(lambda *a: join(a), *column) for column in zip(*elements, strict=True))
    except ValueError as error:
        raise ConfigError(f"{where}: the dataset's items differ in shape; pad or resize them") from error
    return inputs, labels


def _check_split(split: Split, where: str, model: Any) -> None:
    if len(split) == 0:
        raise ConfigError(f"{where}: empty; expected one item or more")
    for tensor, (name, array) in zip(model.inputs, split.inputs.items(), strict=True):
        expected = tuple(tensor.shape)[1:]
        if array.dtype.kind not in "fiub":
            fail(f"{where}: input {name}", "numbers", f"dtype {array.dtype}")
        if array.shape[1:] != expected:
            hint = (
                f"; add the channel axis: x[..., None] gives {(*array.shape, 1)}"
                if ((*array.shape[1:], 1) == expected)
                else ""
            )
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
        fail(f"{where}: labels", "numbers", f"dtype {split.labels.dtype}")
    if split.labels.dtype.kind == "f" and not np.isfinite(split.labels).all():
        raise ConfigError(f"{where}: labels: hold NaN or infinity in {_bad_items(split.labels)} items; clean the data")


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
    if len(split.labels) != len(split):
        fail(f"{where}: labels", f"{len(split)} labels, one an item", len(split.labels))
    if not outputs:
        _check_labels(split.labels, f"{where}: labels", tuple(model.outputs[0].shape), loss)
        return
    for output, labels in zip(outputs, apart(split.labels, [o.labels for o in outputs]), strict=True):
        place = f"{where}: labels: {output.name}"
        _check_labels(labels, place, (None, *output.shape), loss["outputs"][output.name])


def _loss_name(loss: Any) -> str:
    """The name of a described loss, in one case and without underscores: `sparsecategoricalcrossentropy`."""
    name = loss if isinstance(loss, str) else loss.get("keras", {}).get("class_name", "")
    return str(name).lower().replace("_", "")


def _check_labels(labels: np.ndarray, where: str, shape: tuple[int | None, ...], loss: Any) -> None:
    name, classes = _loss_name(loss), int(shape[-1] or 1)
    told = loss if isinstance(loss, str) else loss.get("keras", {}).get("class_name", "")
    if "categorical" in name and "sparse" not in name and labels.shape[-1:] != (classes,):
        fail(
            where,
            f"one-hot labels of shape (items, {classes}) for the loss {told}; sparse_categorical_crossentropy takes indices",
            labels.shape,
        )
    if "sparse" not in name:
        return
    alike = labels.ndim == len(shape) - 1 or (labels.ndim == len(shape) and labels.shape[-1] == 1)
    if not alike:
        fail(where, f"one class index an item, shape (items,), for the loss {told}", f"shape {labels.shape}")
    outside = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if outside.any():
        fail(where, f"class indices 0 to {classes - 1} (the model has {classes} outputs)", labels[outside][0].item())


def _check_ends(model: Any, split: Split, loss: Any, outputs: Sequence[Output], where: str) -> list[str]:
    """Whether the model ends in what its loss expects: probabilities, or scores of any size (logits).

    Returns:
        warnings.

    Raises:
        ConfigError: if the loss would cut scores off as if they were probabilities.
    """
    found = finetune.outputs(model, split.part(0, 32))
    arrays = apart(found, [output.shape for output in outputs]) if outputs else [found]
    losses = [loss["outputs"][output.name] for output in outputs] if outputs else [loss]
    warnings = []
    for name, array, one in zip(model.output_names, arrays, losses, strict=True):
        if "crossentropy" not in _loss_name(one):
            continue
        low, high = float(np.min(array)), float(np.max(array))
        inside = low >= -1e-3 and high <= 1 + 1e-3
        logits = not isinstance(one, str) and bool(one["keras"]["config"].get("from_logits"))
        told = one if isinstance(one, str) else one["keras"]["class_name"]
        if not inside and not logits:
            kind = "".join(word.title() for word in told.split("_")) if isinstance(one, str) else told
            raise ConfigError(
                f"{where}: loss: {told} expects probabilities, but the output {name} reaches from {low:.3g} to {high:.3g}; "
                f"give loss=tf_keras.losses.{kind}(from_logits=True), or end the model in a softmax or sigmoid"
            )
        sums = np.asarray(array).sum(axis=-1)
        if logits and inside and array.shape[-1] > 1 and np.allclose(sums, 1, atol=1e-3):
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
    _check_split(split, f"{where}: calibration", model)
    return split


def _describe_metric(metric: Any, where: str) -> dict[str, Any]:
    if metric == "accuracy":
        return {"name": "accuracy", "direction": "max", "unit": "fraction", "function": None}
    if type(metric).__module__.partition(".")[0] in ("keras", "tf_keras"):
        kind = type(metric).__name__
        raise ConfigError(
            f"{where}: metric: a Keras metric ({kind}) can't be used, for quality is that of a file's outputs; "
            f"give autoopt.QualityMetric(name='{metric.name}', function=...), a function of labels and outputs"
        )
    if not isinstance(metric, QualityMetric):
        fail(f"{where}: metric", "'accuracy' or an autoopt.QualityMetric", metric)
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


def _describe_losses(task: Task, train: Split, where: str, model: Any) -> Any:
    """The loss as plain values; of several outputs `{"outputs": by name}`."""
    names = list(model.output_names)
    if len(names) == 1:
        given = task.loss[names[0]] if isinstance(task.loss, Mapping) and set(task.loss) == set(names) else task.loss
        return _describe_loss(_usual_loss(train, model, where) if given is None else given, where)
    if not isinstance(task.loss, Mapping) or set(task.loss) != set(names):
        fail(f"{where}: loss", f"a dict with a loss for each output ({', '.join(names)})", task.loss)
    return {"outputs": {name: _describe_loss(task.loss[name], f"{where}: loss: {name}") for name in names}}


def _usual_loss(train: Split, model: Any, where: str) -> str:
    """Of a task that names none: for classes, where labels and outputs look like it."""
    labels, shape = train.labels, tuple(model.outputs[0].shape)
    whole = labels.dtype.kind in "iub" or bool((labels == np.floor(labels)).all())
    alike = labels.shape[1:] == shape[1:]
    if int(shape[-1] or 1) > 1 and (whole or not alike):
        return "sparse_categorical_crossentropy"
    raise ConfigError(
        f"{where}: loss: missing; give loss=..., such as 'mean_squared_error' or 'binary_crossentropy', for labels of shape "
        f"{labels.shape} and outputs of shape {shape}"
    )


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
        if type(loss).__module__.partition(".")[0] != "tf_keras":  # another process could not build it again
            fail(f"{where}: loss", "a loss of Keras, or a function (labels, outputs)", type(loss).__name__)
        return {"keras": tf_keras.losses.serialize(loss)}
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
