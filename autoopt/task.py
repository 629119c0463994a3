"""A task: model, data, loss, metric and fine-tuning defaults; checked on load, fingerprinted.

A study's `task.py` holds `def task() -> autoopt.Task`. It is the user's own code and runs with the
user's rights. It runs once at the start of each run; the jobs work from what it returned, kept in the
store, and import the file again only where loss or metric is a function of its own.
"""

import dataclasses
import hashlib
import io
import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import models
from autoopt.errors import ConfigError
from autoopt.metrics import Metric
from autoopt.recipe import Finetune, plain
from autoopt.store import Store
from autoopt.validation import fail

SPLITS = ("train", "validation", "test", "calibration")
CALIBRATION_ITEMS = 256
FEW = 50
"""Training items a class, under which what the untouched model says is the better teacher."""
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class QualityMetric:
    """How good a model's outputs are, where accuracy is not the question.

    Attributes:
        name: as in budgets and tables, such as `auc`.
        function: `(labels, outputs) -> float`; both have shape (items, ...); defined at the top level
            of `task.py` or in an importable module, so that every job can find it.
        direction: `max` or `min`: which is better.
        unit: `fraction` for values in [0, 1] that are shown in percent, or ``.
    """

    name: str
    function: Callable[[Any, Any], float]
    direction: str = "max"
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be made small.

    Attributes:
        model: a tf_keras or Keras 3 model, or the path of an `.h5`, `.keras` or SavedModel.
        train: `(inputs, labels)` as arrays with items first (inputs may be a dict by input name), or
            a finite `tf.data.Dataset` of such pairs, batched or not; it is read once, in full.
        validation: likewise; the search measures on it.
        test: likewise; the search never looks at it.
        loss: a Keras loss by name, as an object, or a function at the top level of `task.py`.
        metric: `accuracy`, or a `QualityMetric`.
        calibration: inputs for the ranges of int8 activations; by default sampled from train.
        finetune: fine-tuning settings where the space names none; by default those of `Finetune`, and where labels are
            few (see `FEW`) half of the weight goes to being like the untouched model.
        class_names: by label, for people.
    """

    model: Any
    train: Any
    validation: Any
    test: Any
    loss: Any = "sparse_categorical_crossentropy"
    metric: str | QualityMetric = "accuracy"
    calibration: Any = None
    finetune: Finetune | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Data in the shape that jobs use.

    Attributes:
        inputs: by input name, each of shape (items, ...).
        labels: shape (items, ...); empty for the calibration set.
    """

    inputs: Inputs
    labels: np.ndarray

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def part(self, start: int, stop: int) -> "Split":
        """Its items from `start` up to `stop`."""
        inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        return Split(inputs=inputs, labels=self.labels[start:stop])

    def to_bytes(self) -> bytes:
        """Uncompressed `.npz`; `from_bytes` is the inverse."""
        out = io.BytesIO()
        names = np.array(list(self.inputs))
        arrays = {f"input_{i}": a for i, a in enumerate(self.inputs.values())}
        np.savez(out, names=names, labels=self.labels, **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Split":
        """Read what `to_bytes` wrote; never unpickles."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            names = [str(n) for n in arrays["names"]]
            return cls(inputs={n: arrays[f"input_{i}"] for i, n in enumerate(names)}, labels=arrays["labels"])

    @property
    def digest(self) -> str:
        """SHA-256 of names, shapes, dtypes and values."""
        digest = hashlib.sha256()
        for name, array in [*self.inputs.items(), ("labels", self.labels)]:
            digest.update(f"{name}|{array.shape}|{array.dtype}|".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked task, as the jobs see it; its JSON is the task's fingerprint.

    Attributes:
        model: key of the packed baseline model in the store.
        splits: key of each split in the store.
        items: how many items each split holds.
        loss: see `_describe_callable`.
        metric: the metric, and how to find its function.
        finetune: the task's fine-tuning settings.
        class_names: by label.
        source: text of `task.py`, kept only where jobs must import it.
        path: of `task.py`.
    """

    model: str
    splits: Mapping[str, str]
    items: Mapping[str, int]
    loss: Any
    metric: Mapping[str, Any]
    finetune: Mapping[str, Any]
    class_names: tuple[str, ...]
    source: str
    path: str

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """The inverse of `to_json`."""
        plain = json.loads(text)
        return cls(**{**plain, "class_names": tuple(plain["class_names"])})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that candidates follow from; where `task.py` lies is not part of it."""
        plain = dataclasses.asdict(self) | {"path": ""}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    @property
    def quality(self) -> Metric:
        """The task's own metric, without its function."""
        return Metric(name=self.metric["name"], direction=self.metric["direction"], unit=self.metric["unit"])

    @property
    def threshold(self) -> float:
        """Over which a model's one output means class 1: 0 where the loss takes logits, else 0.5."""
        described = self.loss.get("keras", {}) if isinstance(self.loss, dict) else {}
        return 0.0 if described.get("config", {}).get("from_logits") else 0.5

    def quality_function(self) -> Callable[[Any, Any], float] | None:
        """The metric's function, or None for accuracy."""
        found = self.metric["function"]
        return None if found is None else _find_function(found, self)

    def loss_function(self) -> Any:
        """The loss as `compile` takes it."""
        import tf_keras

        if isinstance(self.loss, str):
            return self.loss
        if "keras" in self.loss:
            return tf_keras.losses.deserialize(self.loss["keras"])
        return _find_function(self.loss, self)


def load(path: Path) -> Task:
    """Run a `task.py` and call its `task()`.

    Raises:
        ConfigError: if it is missing, raises, or returns something else.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file; a study needs a task.py with `def task() -> autoopt.Task`")
    module = _import(path.read_text(encoding="utf-8"), path)
    build = getattr(module, "task", None)
    if not callable(build):
        raise ConfigError(f"{path}: expected a function `def task() -> autoopt.Task`, found none")
    try:
        task = build()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: task() raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(task, Task):
        fail(f"{path}: task()", "an autoopt.Task", type(task).__name__)
    return task


def _import(source: str, path: Path) -> types.ModuleType:
    module = types.ModuleType("autoopt_user_task")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    if path.parent.is_dir():
        sys.path.insert(0, str(path.parent))  # so that task.py can import what lies beside it
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own code, see above
    except Exception as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: can't be imported{where}: {type(error).__name__}: {reason}") from error
    return module


def prepare(task: Task, path: Path, store: Store) -> tuple[Manifest, list[str]]:
    """Check a task and put model and data into the store.

    Args:
        task: as the user gave it.
        path: of its `task.py`, for messages and for functions of its own.
        store: where model and data go.

    Returns:
        the manifest, and warnings for people.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    where = str(path)
    model = models.load(task.model, where)
    if len(model.outputs) != 1:
        fail(f"{where}: model", "one output", f"{len(model.outputs)} outputs")
    splits = {name: _split(getattr(task, name), f"{where}: {name}", model) for name in SPLITS[:3]}
    for name, split in splits.items():
        _check_split(split, f"{where}: {name}", model)
        _check_labels(split, f"{where}: {name}", model, task.loss)
    splits["calibration"] = _calibration(task, splits["train"], where, model)
    metric = _describe_metric(task.metric, where)
    loss = _describe_loss(task.loss, where)
    functions = [d for d in (loss, metric["function"]) if isinstance(d, dict) and "module" in d]
    for described in functions:
        _refuse_neighbour(described, path)
    needs_source = any(d["module"] == "" for d in functions)
    model_key = models.fingerprint(model)
    store.put(model_key, models.pack(model))
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
        source=path.read_text(encoding="utf-8") if needs_source else "",
        path=str(path) if needs_source else "",
    )
    return manifest, _warnings(splits, model)


def _usual(train: Split, model: Any, loss: Any) -> Finetune:
    """Fine-tuning settings of a task that names none."""
    name = loss if isinstance(loss, str) else str(loss.get("keras", {}).get("class_name", ""))
    classes = max(2, int(model.outputs[0].shape[-1]))
    few = "crossentropy" in name.lower() and len(train) < FEW * classes
    return Finetune(distillation=0.5) if few else Finetune()


def _split(given: Any, where: str, model: Any) -> Split:
    if hasattr(given, "element_spec"):  # a tf.data.Dataset, recognised without importing TensorFlow
        given = _read_dataset(given, where, model)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        fail(where, "a pair (inputs, labels) or a tf.data.Dataset of such pairs", type(given).__name__)
    return Split(inputs=_inputs(given[0], where, model), labels=_array(given[1], f"{where}: labels"))


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


def _check_labels(split: Split, where: str, model: Any, loss: Any) -> None:
    labels = split.labels
    if len(labels) != len(split):
        fail(f"{where}: labels", f"{len(split)} labels, one an item", len(labels))
    name = loss if isinstance(loss, str) else type(loss).__name__
    classes = int(model.outputs[0].shape[-1])
    if "categorical" in name.lower() and "sparse" not in name.lower() and labels.shape[-1:] != (classes,):
        fail(
            f"{where}: labels",
            f"one-hot labels of shape (items, {classes}) for the loss {name}; sparse_categorical_crossentropy takes indices",
            labels.shape,
        )
    if "sparse" not in name.lower():
        return
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] != 1):
        fail(
            f"{where}: labels", f"one class index an item, shape (items,), for the loss {name}", f"shape {labels.shape}"
        )
    outside = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if outside.any():
        fail(
            f"{where}: labels",
            f"class indices 0 to {classes - 1} (the model has {classes} outputs)",
            labels[outside][0].item(),
        )


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
    if not isinstance(metric, QualityMetric):
        fail(f"{where}: metric", "'accuracy' or an autoopt.QualityMetric", metric)
    if not metric.name.isidentifier():
        fail(f"{where}: metric.name", "a name of letters, digits and underscores", metric.name)
    described = Metric(name=metric.name, direction=metric.direction, unit=metric.unit)
    if described.unit not in ("", "fraction"):
        fail(f"{where}: metric.unit", "'fraction' or ''", metric.unit)
    function = _describe_callable(metric.function, f"{where}: metric.function")
    return {"name": metric.name, "direction": metric.direction, "unit": metric.unit, "function": function}


def _describe_loss(loss: Any, where: str) -> Any:
    import tf_keras

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
    return _describe_callable(loss, f"{where}: loss")


def _describe_callable(function: Any, where: str) -> dict[str, str]:
    """Where another process finds a function: module (`` for `task.py` itself) and name."""
    name = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "")
    if not callable(function) or not name.isidentifier() or module == "__main__":
        fail(where, "a function defined at the top level of task.py or of a module", function)
    found = getattr(sys.modules.get(module), name, None)
    if found is not function:
        fail(where, f"a function that can be found again as {module}.{name}", function)
    return {"module": "" if module == "autoopt_user_task" else module, "name": name}


def _refuse_neighbour(described: Mapping[str, str], path: Path) -> None:
    """A module beside `task.py` is found only here, and a change in it would not change the fingerprint."""
    file = getattr(sys.modules.get(described["module"]), "__file__", None)
    if file and Path(file).resolve().is_relative_to(path.parent.resolve()) and "site-packages" not in Path(file).parts:
        name, module = described["name"], described["module"]
        raise ConfigError(
            f"{path}: {name} is imported from {module}, which lies beside it, where jobs can't find it; "
            f"define {name} in {path.name}, or install {module} as a package"
        )


def _find_function(described: Mapping[str, str], manifest: Manifest) -> Callable[..., Any]:
    import importlib

    if described["module"]:
        module = importlib.import_module(described["module"])
    else:
        module = _import(manifest.source, Path(manifest.path))
    found: Callable[..., Any] = getattr(module, described["name"])
    return found


def _warnings(splits: Mapping[str, Split], model: Any) -> list[str]:
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
    if inside := models.nested(model):
        found.append(
            f"the model holds nested models ({', '.join(inside)}), which can't be pruned, clustered or trained with "
            "quantization; post-training schemes work"
        )
    return found


def _row_digests(split: Split) -> set[bytes]:
    arrays = [np.ascontiguousarray(a).reshape(len(split), -1) for a in split.inputs.values()]
    return {
        hashlib.blake2b(b"".join(a[i].tobytes() for a in arrays), digest_size=16).digest() for i in range(len(split))
    }
