"""What runs in a process of its own: each job is a pure function of bytes and settings.

To add one: write a function like these and list it in `JOBS`; raise its version when its result changes.
"""

import dataclasses
import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import targets
from autoopt.compression import layer_costs, stages
from autoopt.compression.training import Progress, Training, outputs
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Quantize
from autoopt.errors import ResultLost
from autoopt.execution import input_scaling, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import crosscheck, loading, quality
from autoopt.models import task as tasks
from autoopt.models.labels import loss_name
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Manifest, Split
from autoopt.targets import Target, benchmark
from autoopt.tflite import contents as inspect
from autoopt.tflite import conversion, interpreter, proof

REHEARSED_STEPS, REHEARSED_ITEMS = 6, 64
COVERED_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a job may see beside its settings.

    Attributes:
        store: for the task's model and data.
        parents: results of the jobs before it.
        settings: its own.
        threads: that it may use.
        progress: tells people what it is at, in a few words.
        foretell: says how many seconds the job will take in all, once that is known.
    """

    store: Store
    parents: Sequence[bytes]
    settings: Mapping[str, Any]
    threads: int
    progress: Callable[[str], None]
    foretell: Callable[[float], None] = lambda _: None

    def manifest(self) -> Manifest:
        """The task, named by the setting `task`."""
        return Manifest.from_json(self._get(self.settings["task"]))

    def split(self, name: str) -> Split:
        """One of the task's splits."""
        return Split.from_bytes(self._get(self.manifest().splits[name]))

    def _get(self, key: str) -> bytes:
        data = self.store.get(key)
        if data is None:
            raise ResultLost(f"the store lost the task's data ({key[:12]}); run the same command again")
        return data


def read_task(context: Context) -> bytes:
    """Run the user's `task.py`, check it, put model and data into the store.

    Returns:
        JSON: `manifest` (its key), `fingerprint`, `warnings`, `limits`, `groups`, `tuned` (see `intake.Intake`), and the
        manifest's facts for the driver.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(context.threads)
    path = Path(context.settings["path"])
    taken = task_checks.prepare(tasks.load(path), path, context.store)
    manifest = taken.manifest
    text = manifest.to_json().encode()
    key = hashlib.sha256(text).hexdigest()
    context.store.put(key, text)
    return _json(
        {
            "manifest": key,
            "fingerprint": manifest.fingerprint,
            "model": manifest.model,
            "warnings": taken.warnings,
            "limits": [dataclasses.asdict(limit) for limit in taken.limits],
            "groups": taken.groups,
            "tuned": taken.tuned,
            "items": dict(manifest.items),
            "metric": dict(manifest.metric),
            "finetune": dict(manifest.finetune),
            "class_names": list(manifest.class_names),
        }
    )


def begin_stage(context: Context) -> bytes:
    """The first epochs of the training stage named by the setting `stage`; what it takes to go on is kept beside.

    Returns:
        JSON: `epochs`, the loss and quality of each.
    """
    name, state, model, _, settings = _stage(context)
    begun = stages.begin(name, model, settings, _training(context))
    context.store.put(state, begun.to_bytes())
    return _json({"epochs": begun.history})


def train_stage(context: Context) -> bytes:
    """Run the training stage named by the setting `stage`: packed model -> packed model.

    It goes on from what `begin_stage` kept, if that is there; the result is the same.
    """
    name, state, model, reports, settings = _stage(context)
    kept = context.store.get(state)
    begun = None if kept is None else Progress.from_bytes(kept)
    trained, report = stages.run(name, model, settings, _training(context), begun)
    packed = loading.pack(trained, [*reports, report], like=context.parents[0])
    context.store.path(state).unlink(missing_ok=True)  # as large as several models, and of no more use
    return packed


def rehearse(context: Context) -> bytes:
    """A few steps of the training stage named by the setting `stage`: packed model -> packed model.

    Its report says too how many `steps` an epoch had, and how much memory it took (`peak_bytes`).
    """
    name, _, model, _, settings = _stage(context)
    settings["finetune"] = {**settings["finetune"], "epochs": 2}
    whole = _training(context)
    train = whole.train.some(REHEARSED_STEPS * settings["finetune"]["batch_size"])
    few = dataclasses.replace(whole, train=train, validation=whole.validation.some(REHEARSED_ITEMS))
    trained, report = stages.run(name, model, settings, few)
    report |= {"steps": few.steps(settings["finetune"]), "peak_bytes": _peak_bytes()}
    return loading.pack(trained, [report], like=context.parents[0])


def cover(context: Context) -> bytes:
    """A step or two of each of the training stages named by the setting `stages`: packed model -> packed model."""
    _limit_threads(context.threads)
    model, reports = loading.unpack(context.parents[0])
    whole, taught = _training(context), None
    size = max((settings["finetune"]["batch_size"] for _, settings in context.settings["stages"]), default=1)
    train = whole.train.some(COVERED_STEPS * size)
    if any(settings["finetune"].get("distillation") for _, settings in context.settings["stages"]):
        taught = outputs(model, train)
    few = dataclasses.replace(whole, train=train, validation=whole.validation.some(REHEARSED_ITEMS), taught=taught)
    for name, given in context.settings["stages"]:
        settings = {**given, "finetune": {**given["finetune"], "epochs": 1}}
        model, report = stages.run(name, model, settings, few)
        reports.append(report)
    return loading.pack(model, reports, like=context.parents[0])


def _peak_bytes() -> int:
    """The most memory that this process had resident."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def survey(context: Context) -> bytes:
    """What a packed model's layers hold, and what its calibration set looks like.

    Returns:
        JSON: `layers` (`layer`, `kind`, `weights`, `multiply_adds`, `dead`), `range` of the inputs, `calibration`
        (items by class, as the model sees them), `constant` (items of one value).
    """
    _limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    calibration, closed = context.split("calibration"), isinstance(model, ClosedModel)
    inputs = list(calibration.inputs.values())
    found = (
        interpreter.outputs_of(model.file, calibration.inputs, context.threads)
        if closed
        else outputs(model, calibration)
    )
    manifest = context.manifest()
    single = manifest.metric["function"] is None and "meaning" not in manifest.metric
    counts = []
    if single or ("categorical" in loss_name(manifest.loss) and found.ndim == 2):
        classes = max(2, found.shape[-1])
        predicted = manifest.meaning(found).predicted(found)
        counts = np.bincount(np.clip(predicted[:, 0], 0, classes - 1), minlength=classes).tolist()
    return _json(
        {
            "layers": [] if closed else [dataclasses.asdict(cost) for cost in layer_costs.costs(model)],
            "range": [float(min(a.min() for a in inputs)), float(max(a.max() for a in inputs))],
            "calibration": counts,
            "constant": sum(_constant([a[i] for a in inputs]) for i in range(len(calibration))),
        }
    )


def scalings(context: Context) -> bytes:
    """Whether data is scaled as a packed model expects it.

    Returns:
        JSON: see `scaling.examined`.
    """
    _limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    return _json(input_scaling.examined(model, context.manifest(), context.split("validation"), context.threads))


def _constant(item: Sequence[np.ndarray]) -> bool:
    """Whether an item's inputs of more than one value are all one value each."""
    large = [array for array in item if array.size > 1]
    return bool(large) and all(bool((array == array.flat[0]).all()) for array in large)


def _stage(context: Context) -> tuple[str, str, Any, list[dict[str, Any]], dict[str, Any]]:
    """A stage's name, the key of its state, its model with the reports so far, its settings."""
    settings = dict(context.settings)
    name, state = settings.pop("stage"), settings.pop("state")
    _limit_threads(context.threads)
    model, reports = loading.unpack(context.parents[0])
    return name, state, model, reports, settings


def _training(context: Context) -> Training:
    """What a stage trains with; with distillation what was taught is the second parent."""
    taught = np.load(io.BytesIO(context.parents[1]), allow_pickle=False) if len(context.parents) > 1 else None
    return Training(
        manifest=context.manifest(),
        train=context.split("train"),
        validation=context.split("validation"),
        progress=context.progress,
        foretell=context.foretell,
        taught=taught,
    )


def teach(context: Context) -> bytes:
    """What the packed model says to the training data, for distillation.

    Returns:
        `.npy`, shape (items, ...).
    """
    _limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    out = io.BytesIO()
    np.save(out, outputs(model, context.split("train")), allow_pickle=False)
    return out.getvalue()


def one_shot(context: Context) -> bytes:
    """Packed model -> packed model with what the setting `stages` does to it, not trained."""
    model, reports = loading.unpack(context.parents[0])
    training = _training(context) if "task" in context.settings else None
    for name, settings in context.settings["stages"]:
        model = stages.one_shot(name, model, dict(settings), training)
    return loading.pack(model, reports, like=context.parents[0])


def weigh(context: Context) -> bytes:
    """Bytes of a `.tflite`, unproven.

    Returns:
        JSON: `size_bytes`, `compressed_bytes`.
    """
    [file] = context.parents
    return _json({"size_bytes": len(file), "compressed_bytes": interpreter.compressed_bytes(file)})


def to_float32(context: Context) -> bytes:
    """Packed model -> float32 `.tflite`, for as many items at once as the setting `batch` says, or any number."""
    return conversion.float32(loading.unpack(context.parents[0])[0], context.settings.get("batch"))


def to_scheme(context: Context) -> bytes:
    """Packed model -> `.tflite` in the setting `scheme`, by TensorFlow's converter; `batch` as for `to_float32`."""
    model, _ = loading.unpack(context.parents[0])
    scheme, batch = context.settings["scheme"], context.settings.get("batch")
    if scheme == "int16x8":
        return conversion.int16x8(model, context.split("calibration").inputs, batch)
    return conversion.trained(model, scheme, batch)


def quantize(context: Context) -> bytes:
    """float32 `.tflite` -> `.tflite` in the setting `scheme`, by litert-quantizer; other settings are of `Quantize`."""
    calibration = context.split("calibration").inputs
    told = {name: value for name, value in context.settings.items() if name not in ("scheme", "task")}
    scheme, how = context.settings["scheme"], Quantize(**told)
    return conversion.quantize(context.parents[0], scheme, calibration, context.threads, how)


def prove(context: Context) -> bytes:
    """Open the file, prove the recipe, weigh it. Parents: the `.tflite` and the packed model behind it.

    Returns:
        JSON: `contents`, `reports`, `size_bytes`, `compressed_bytes`, `sha256`.
    """
    file, model = context.parents
    reports = loading.reports_of(model)
    contents, recipe = inspect.read(file), Recipe.from_dict(context.settings["recipe"])
    proof.prove(contents, recipe, reports, loading.normalized(model) if recipe.cluster is not None else ())
    return _json(
        {
            "contents": contents.to_dict(),
            "reports": reports,
            "size_bytes": len(file),
            "compressed_bytes": interpreter.compressed_bytes(file),
            "sha256": hashlib.sha256(file).hexdigest(),
        }
    )


def accuracy(context: Context) -> bytes:
    """Quality of the `.tflite` (first parent) on the split named by the setting `split`.

    The third parent is the baseline's result on that split; the baseline itself has none.

    Returns:
        JSON: the fields of `quality.Quality`, and `agreement` with the baseline where an item is given one class.
    """
    name = context.settings["split"]
    split, manifest = context.split(name), context.manifest()
    names = [output.name for output in manifest.outputs]
    outputs = interpreter.outputs_of(context.parents[0], split.inputs, context.threads, names)
    baseline = json.loads(context.parents[2]) if len(context.parents) > 2 else {}
    how = f"LiteRT interpreter on the {name} split"
    found = quality.quality(manifest, split, outputs, how, baseline.get("protocol", ""))
    plain = dataclasses.asdict(found) | {"measurement": found.measurement.to_dict(), "agreement": None}
    if found.predictions:
        plain["agreement"] = quality.agreement(
            found.predictions, baseline.get("predictions", found.predictions)
        ).to_dict()
    return _json(plain)


def compare_baseline(context: Context) -> bytes:
    """Whether the untouched model's float32 file (first parent) is as good as Keras says of the model (second).

    Returns:
        JSON: `keras` and `file`, the task's metric of both on the validation split; empty for a model without layers.
    """
    file, packed = context.parents
    _limit_threads(context.threads)
    model, _ = loading.unpack(packed)
    if isinstance(model, ClosedModel):
        return _json({})
    manifest, split = context.manifest(), context.split("validation")
    names = [output.name for output in manifest.outputs]
    of_file = interpreter.outputs_of(file, split.inputs, context.threads, names)
    return _json(crosscheck.compare(manifest, split, outputs(model, split), of_file))


def latency(context: Context) -> bytes:
    """Latency of the `.tflite` (first parent), interleaved with the reference's (third).

    Returns:
        JSON: `processes` (rounds of pairs of ns, by process), `flags` and `target`.
    """
    file, _, reference = context.parents
    target = _target(context)
    facts, settings = target.describe(), context.settings
    processes, flags = benchmark.timed(target, file, reference, fewest=settings["fewest"], most=settings["most"])
    return _json({"processes": processes, "flags": flags, "target": facts})


def memory(context: Context) -> bytes:
    """Memory that the `.tflite` (first parent) takes.

    Returns:
        JSON: `readings` (bytes by metric, one a process) and `target`.
    """
    target = _target(context)
    facts = target.describe()
    return _json({"readings": benchmark.readings(target, context.parents[0]), "target": facts})


def _target(context: Context) -> Target:
    return targets.find(context.settings["target"], context.settings["threads"])


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of job.

    Attributes:
        body: what it does.
        version: part of its key; raise it when the result changes.
        cached: whether its result follows from its key, and may be kept.
    """

    body: Callable[[Context], bytes]
    version: int = 1
    cached: bool = True


JOBS: dict[str, Kind] = {
    "task": Kind(body=read_task, cached=False),
    "survey": Kind(body=survey),
    "scalings": Kind(body=scalings),
    "cover": Kind(body=cover),
    "rehearse": Kind(body=rehearse, version=2),
    "teach": Kind(body=teach),
    "one_shot": Kind(body=one_shot, version=2),
    "weigh": Kind(body=weigh),
    "begin": Kind(body=begin_stage, version=2),
    **{stage: Kind(body=train_stage, version=3) for stage in stages.STAGES},
    "qat": Kind(body=train_stage, version=5),
    "float32": Kind(body=to_float32),
    "convert": Kind(body=to_scheme, version=2),
    "quantize": Kind(body=quantize, version=3),
    "proof": Kind(body=prove, version=4),
    "accuracy": Kind(body=accuracy, version=3),
    "crosscheck": Kind(body=compare_baseline),
    "memory": Kind(body=memory, version=3),
    "latency": Kind(body=latency, version=2),
}
