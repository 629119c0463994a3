"""Takes a user's task in: checks model, data, loss and metric, and puts them into the store for the jobs."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.compression import channel_graph, layer_costs
from autoopt.compression.batches import feed
from autoopt.compression.wrapping import frozen
from autoopt.core import presets
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import OPTIONAL, Finetune, plain
from autoopt.core.validation import fail
from autoopt.errors import ConfigError
from autoopt.execution import augmentation_checks, bits_by_layer, criteria, split_store, teachers
from autoopt.execution.artifact_store import Store
from autoopt.execution.split_store import Room
from autoopt.models import item_weights, loading, user_code, user_data
from autoopt.models import labels as labels_of
from autoopt.models.answers import Growing
from autoopt.models.keras_internals import mask_of
from autoopt.models.opaque import ClosedModel
from autoopt.models.spooling import Spool
from autoopt.models.task import SPLITS, Manifest, Output, Split, Task

CALIBRATION_ITEMS = 256
ONE_OUTPUT: Mapping[str, tuple[Any, ...]] = {
    "finetune.distillation": (0.0,),
    "channels.importance": ("l2", "bn_scale"),
    "prune.allocation": ("uniform", "global"),
}
"""What is left of knobs whose other values need a model with one output."""
SEVERAL = "the model has several outputs: distillation, and choosing by the loss, are left out"
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
        layers: by the name of a layer with weights, whether kernels take 4 bits for it; None if that is not known.
        tuned: whether the task says itself how to fine-tune.
    """

    manifest: Manifest
    warnings: list[str]
    limits: list[Limit]
    groups: list[int] | None = None
    layers: dict[str, bool] | None = None
    tuned: bool = False


def prepare(
    task: Task,
    path: Path,
    store: Store,
    *,
    before: Manifest | None = None,
    preset: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Intake:
    """Check a task and put model and data into the store.

    Args:
        task: as the user gave it.
        path: of its `task.py`, for messages and for functions of its own.
        store: where model and data go.
        before: what the study had of it when it last ran; None if it is new.
        preset: how it fine-tunes where it does not say so itself, a key of `presets.PRESETS`; `` for the usual way.
        progress: told how far the reading of the data is.

    Raises:
        ConfigError: for the first thing that is wrong.
        TargetUnavailable: if the disk can't hold the data.
    """
    with split_store.room(store, progress) as room:
        return _prepare(task, path, room, {} if before is None else before.splits, preset)


def _prepare(task: Task, path: Path, room: Room, before: Mapping[str, str], preset: str) -> Intake:
    """See `prepare`; `before` are the keys of splits."""
    store = room.store
    where = str(path)
    if task.finetune is not None and not isinstance(task.finetune, Finetune):
        fail(f"{where}: finetune", "an autoopt.Finetune(...)", task.finetune)
    custom, notes = loading.by_own_names(task.custom_objects or {}), list[str]()
    model = loading.load(
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
    read = {
        name: user_data.read(getattr(task, name), f"{where}: {name}", model, room.spool(name, before.get(name)))
        for name in SPLITS[:3]
    }
    pairs = {name: (inputs, labels) for name, (inputs, labels, _) in read.items()}
    splits = {
        name: Split(inputs=inputs, labels=split_store.beside(room, name, labels))
        for name, (inputs, labels) in pairs.items()
    }
    for name, split in splits.items():
        user_data.check_split(split, f"{where}: {name}", model)
        if len(split.labels) != len(split):
            fail(f"{where}: {name}: labels", f"{len(split)} labels, one an item", len(split.labels))
    outputs = _outputs({name: labels for name, (_, labels) in pairs.items()}, where, model)
    seen = criteria.Seen(model, splits)
    loss, warnings = criteria.describe_losses(task, seen, where)
    for name, (_, labels) in pairs.items():
        criteria.check_all_labels(labels, f"{where}: {name}", model, loss, outputs)
    warnings += criteria.check_ends(seen, loss, outputs, where)
    metric, said = criteria.describe_metric(task.metric, seen, loss, outputs, where)
    warnings += said
    if metric["function"] is None:
        splits = {name: _masked(split, model) for name, split in splits.items()}
    weights = item_weights.of_items(read["train"][2], task.class_weight, pairs["train"][1], model, where)
    splits["train"] = dataclasses.replace(splits["train"], weights=weights)
    warnings += [
        f"{name}: weights of items are for training; the metric counts every item alike, and they are left out"
        for name in SPLITS[1:3]
        if read[name][2] is not None
    ]
    augment = augmentation_checks.described(task.augment, where, model, splits["train"], loss, outputs, warnings)
    spool = room.spool("calibration", before.get("calibration"))
    splits["calibration"] = _calibration(task, splits["train"], where, model, spool)
    described = {name: user_code.describe(o, f"{where}: custom_objects: {name}", "class") for name, o in custom.items()}
    code: dict[str, Any] = {}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if described and not isinstance(model, ClosedModel):
        own = any(d["module"] == "" for d in described.values())
        code = {"objects": described, "source": text if own else "", "path": str(path) if own else ""}
    teacher = teachers.described(task, where, seen.outputs, seen.some, bool(outputs), code, store)
    several = loss["outputs"].values() if outputs else [loss]
    functions = [d for d in (*several, metric["function"], *augment, teacher) if isinstance(d, dict) and "module" in d]
    for found in (*functions, *described.values()):
        user_code.refuse_neighbour(found, path)
    needs_source = any(d["module"] == "" for d in functions)
    model_key = loading.fingerprint(model, code)
    store.put(model_key, loading.pack(model, code=code))
    warnings += _warnings(splits)
    keys = {name: split_store.put(room, split) for name, split in splits.items()}
    warnings += [
        f"{name}: its data is not what it was when the study last ran"
        for name in keys
        if before.get(name, keys[name]) != keys[name]
    ]
    manifest = Manifest(
        model=model_key,
        splits=keys,
        items={name: len(split) for name, split in splits.items()},
        loss=loss,
        metric=metric,
        finetune=plain(task.finetune or _usual(splits["train"], model, loss, bool(teacher), preset)),
        class_names=tuple(task.class_names),
        source=text if needs_source else "",
        path=str(path) if needs_source else "",
        outputs=outputs,
        augment=augment,
        teacher=teacher,
    )
    augmentation_checks.expect_named(manifest.finetune, augment, where)
    if teacher and not manifest.finetune.get("distillation"):
        warnings.append(
            "teacher: it is asked only where finetune.distillation is over 0; the task's own settings say 0"
        )
    notes += [] if isinstance(model, ClosedModel) else _frozen(model, manifest.finetune)
    return Intake(
        manifest=manifest,
        warnings=[*notes, *warnings],
        limits=_limits(model),
        groups=_groups(model),
        layers=bits_by_layer.able(model),
        tuned=task.finetune is not None or bool(preset),
    )


def _groups(model: Any) -> list[int] | None:
    """The numbers of channels that can go together, by group; None where the model's graph can't be traced."""
    if isinstance(model, ClosedModel):
        return None
    try:
        return [len(group.channels) for group in channel_graph.trace(model).groups]
    except (ValueError, TypeError, NotImplementedError, RuntimeError):  # the stage says so itself, when it is tried
        return None


def _masked(split: Split, model: Any) -> Split:
    """A split that knows which positions of the output the model masks, as `fit` and `evaluate` leave them out."""
    if isinstance(model, ClosedModel) or len(model.outputs[0].shape) < 3:
        return split
    masks = Growing()
    for first in range(0, len(split), MASKED_ITEMS):
        part = split.part(first, first + MASKED_ITEMS)
        mask = mask_of(model(feed(part), training=False))
        if mask is None:
            return split
        masks.append(np.asarray(mask).astype(bool))
    counted = masks.array()
    positions = int(np.prod(model.outputs[0].shape[1:-1]))
    if counted.size != len(split) * positions or bool(counted.all()):
        return split
    return dataclasses.replace(split, counted=counted.reshape(len(split), *model.outputs[0].shape[1:-1]))


def _usual(train: Split, model: Any, loss: Any, taught: bool, preset: str) -> Finetune:
    """Fine-tuning settings of a task that names none; `taught` says whether it has a teacher of its own."""
    tuning = presets.tuning(preset, len(train)) if preset else Finetune()
    if len(model.outputs) > 1:
        return tuning
    classes = max(2, int(tuple(model.outputs[0].shape)[-1] or 1))
    few = "crossentropy" in labels_of.loss_name(loss) and len(train) < FEW * classes
    return dataclasses.replace(tuning, distillation=0.5) if few or taught else tuning


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


def _calibration(task: Task, train: Split, where: str, model: Any, spool: Spool) -> Split:
    nothing = np.zeros(0, np.int8)
    if task.calibration is None:
        chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_ITEMS]
        return Split(inputs={name: a[chosen] for name, a in train.inputs.items()}, labels=nothing)
    split = Split(inputs=user_data.read_inputs(task.calibration, f"{where}: calibration", model, spool), labels=nothing)
    user_data.check_split(split, f"{where}: calibration", model)
    return split


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
        return [Limit(parts=(*OPTIONAL, "finetune"), schemes=(*aware, "int16x8"), why=why)]
    limits = [] if len(model.outputs) == 1 else [Limit(values=ONE_OUTPUT, why=SEVERAL)]
    covered = layer_costs.of_qat(model)
    if covered.enough:
        return limits
    left = ", ".join(covered.left) or "all layers"
    why = (
        f"quantization-aware training takes in {covered.weights:.0%} of the weights and {covered.multiply_adds:.0%} of the "
        f"multiply-adds (not {left}), under {layer_costs.ENOUGH:.0%}: it is left out"
    )
    return [*limits, Limit(schemes=aware, why=why)]


def _warnings(splits: Mapping[str, Split]) -> list[str]:
    found = []
    rows = {name: _row_digests(splits[name]) for name in SPLITS[:3]}
    for other in ("validation", "test"):
        shared = len(np.intersect1d(rows["train"], rows[other]))
        if shared:
            found.append(
                f"{shared} items of {other} also stand in train: its accuracy will come out too high; remove them from train"
            )
    shared = len(np.intersect1d(rows["validation"], rows["test"]))
    if shared:
        found.append(f"{shared} items of test also stand in validation: what is confirmed will come out too high")
    return found


def _row_digests(split: Split) -> np.ndarray:
    """A number for each item by which equal ones are known, shape (items,), dtype uint64.

    Of a million items against as many, one pair in 10^7 such searches is taken for equal that is not.
    """
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(b"".join(row.tobytes() for row in item), digest_size=8).digest(), "little")
            for item in zip(*split.inputs.values(), strict=True)
        ),
        dtype=np.uint64,
        count=len(split),
    )
