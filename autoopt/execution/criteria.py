"""A task's loss and metric: found or checked by labels and outputs together, and described for the jobs."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.compression import training
from autoopt.core.metrics import Metric
from autoopt.core.validation import fail, nearest
from autoopt.errors import ConfigError
from autoopt.models import labels as labels_of
from autoopt.models import scoring, user_code
from autoopt.models.columns import chunks
from autoopt.models.keras3_losses import in_keras2
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Output, QualityMetric, Split, Task, apart
from autoopt.tflite import interpreter

SEEN = 256
"""Items, on which it is looked at what a model gives."""


class Seen:
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
        """The labels of all splits, where they have one shape, else those of train; of very many those that are telling."""
        arrays = [labels_of.telling(split.labels) for split in self.splits.values()]
        alike = len({array.shape[1:] for array in arrays}) == 1
        return np.concatenate(arrays) if alike else arrays[0]


def given_by(model: Any, split: Split) -> np.ndarray:
    """What a model that was taken in gives: shape (items, ...); several outputs stand side by side."""
    if isinstance(model, ClosedModel):
        return interpreter.outputs_of(model.file, split.inputs, threads=1, names=list(model.output_names))
    return training.outputs(model, split)


def check_all_labels(given: Sequence[np.ndarray], where: str, model: Any, loss: Any, outputs: Sequence[Output]) -> None:
    """Check that the labels of each output are such as its loss takes.

    Args:
        given: labels of each output, shape (items, ...).
        where: for messages.
        model: whose they are.
        loss: described; of several outputs by name.
        outputs: of a model with several; empty for one.

    Raises:
        ConfigError: naming the first that is not.
    """
    if not outputs:
        _check_labels(given[0], f"{where}: labels", tuple(model.outputs[0].shape), loss)
        return
    for output, labels in zip(outputs, given, strict=True):
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
        for part in chunks(labels):
            sums = part.sum(axis=-1)
            if not np.allclose(sums, 1, atol=1e-3):
                worst = float(sums.flat[np.abs(sums - 1).argmax()])
                fail(
                    where, f"labels that sum to 1 over the {classes} classes for the loss {told}", f"a sum of {worst:g}"
                )
    some = labels_of.telling(labels)
    if "binarycrossentropy" in name and (some.min() < 0 or some.max() > 1):
        low, high = some.min().item(), some.max().item()
        raise ConfigError(
            f"{where}: expected 0 and 1 for the loss {told}, got {low:g} to {high:g}; "
            f"give (labels == {high:g}).astype(int) if these are two classes"
        )
    if "sparse" not in name:
        return
    alike = labels.ndim == len(shape) - 1 or (labels.ndim == len(shape) and labels.shape[-1] == 1)
    if not alike:
        fail(where, f"one class index an item, shape (items,), for the loss {told}", f"shape {labels.shape}")
    ignored, least = labels_of.settings(loss).get("ignore_class"), some.min()
    for part in chunks(labels):
        outside = (part < 0) | (part >= classes)
        if part.dtype.kind == "f":
            outside |= part != np.floor(part)
        if ignored is not None:
            outside &= part != ignored
        if outside.any():
            raise ConfigError(f"{where}: {_outside(part[outside], classes, least, labels.shape)}")


def _outside(odd: np.ndarray, classes: int, least: Any, shape: tuple[int, ...]) -> str:
    """What is said of labels that are no classes, the first one of them first."""
    first = odd[0].item()
    hint = "; subtract 1" if first == classes and least == 1 else ""
    if len(shape) > 1 and shape[-1] > 1 and len(np.unique(odd)) == 1 and not hint:
        hint = f"; if {first} marks what does not count: SparseCategoricalCrossentropy(ignore_class={first})"
    return f"expected class indices 0 to {classes - 1} (the model has {classes} outputs), got {first}{hint}"


def check_ends(seen: Seen, loss: Any, outputs: Sequence[Output], where: str) -> list[str]:
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
        logits = bool(labels_of.settings(one).get("from_logits"))
        told = one if isinstance(one, str) else one["keras"]["class_name"]
        if not inside and not logits:
            kind = labels_of.class_name(told) if isinstance(one, str) else told
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


def describe_metric(
    metric: Any, seen: Seen, loss: Any, outputs: Sequence[Output], where: str
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
        fail(f"{where}: metric", f"an autoopt.QualityMetric, because the model has several outputs ({names})", metric)
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
    logits = bool(labels_of.settings(loss).get("from_logits"))
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
    function = user_code.describe(metric.function, f"{where}: metric.function")
    plain = {"name": metric.name, "direction": metric.direction, "unit": metric.unit, "function": function}
    parameters = inspect.signature(metric.function).parameters
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind not in free]
    strange = [p.name for p in needed if p.kind is p.KEYWORD_ONLY and p.name != "inputs"]
    if len(needed) > 3 or strange:
        found = ", ".join(p.name for p in needed)
        fail(f"{where}: metric.function", "a function of labels, outputs and perhaps inputs", found)
    return plain | ({"inputs": True} if len(needed) == 3 or "inputs" in parameters else {})


def describe_losses(task: Task, seen: Seen, where: str) -> tuple[Any, list[str]]:
    """The loss as plain values (of several outputs `{"outputs": by name}`), and how it was chosen where none is given."""
    names = list(seen.model.output_names)
    if len(names) == 1:
        given = task.loss[names[0]] if isinstance(task.loss, Mapping) and set(task.loss) == set(names) else task.loss
        if given is not None:
            return _describe_loss(given, where), []
        try:
            found = labels_of.infer_loss(
                labels_of.telling(seen.splits["train"].labels), seen.outputs, seen.some.labels, f"{where}: train"
            )
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
        if not user_code.bound(loss):  # another process could not build it again
            kind = type(loss).__name__
            raise ConfigError(
                f"{where}: loss: expected a loss of Keras, or a function (labels, outputs), got {kind!r}; {user_code.BIND}"
            )
    return user_code.describe(loss, f"{where}: loss")
