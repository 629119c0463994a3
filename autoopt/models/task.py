"""A task: model, data, loss, metric and fine-tuning defaults; checked on load, fingerprinted.

A study's `task.py` holds `def task() -> autoopt.Task`. It is the user's own code and runs with the
user's rights. It runs once at the start of each run; the jobs work from what it returned, kept in the
store, and import the file again only where loss or metric is a function of its own.
"""

import dataclasses
import hashlib
import inspect
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.core.metrics import Metric
from autoopt.core.reprs import short
from autoopt.core.stage_settings import Finetune
from autoopt.core.validation import fail
from autoopt.errors import AutooptError, ConfigError, one_line, retold
from autoopt.models import user_code
from autoopt.models.answers import shaped
from autoopt.models.columns import chunks
from autoopt.models.labels import Meaning, settings, single

MORE = ("counted", "weights")
"""Arrays of a split that few tasks have."""
LATER = ("outputs", "augment", "teacher")
"""Fields of a manifest that few tasks have; its JSON is without those that are empty."""
SPLITS = ("train", "validation", "test", "calibration")
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class QualityMetric:
    """How good a model's outputs are, where accuracy is not the question.

    Attributes:
        name: as in budgets and tables, such as `auc`.
        function: `(labels, outputs) -> float`; both have shape (items, ...), and are dicts by output name where the
            model has several outputs. With a third parameter, `inputs`, it gets those too (a dict by input name), as
            a reconstruction error needs. Defined at the top level of `task.py` or in an importable module, so that
            every job can find it.
        direction: `max` or `min`: which is better.
        unit: `fraction` for values in [0, 1] that are shown in percent, or ``.
    """

    name: str
    function: Callable[..., float]
    direction: str = "max"
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be made small.

    Attributes:
        model: a tf_keras or Keras 3 model, or the path of an `.h5`, `.keras` or SavedModel. What has no graph of Keras
            layers (a subclassed model, another SavedModel, a float32 `.tflite`) is quantized after training only.
        train: `(inputs, labels)` as arrays with items first (inputs may be a dict by input name, labels one by
            output name); memory maps stay on the disk. Or what gives such pairs, of items or of batches: a finite
            `tf.data.Dataset`, a Keras `Sequence` or `PyDataset`, a function that yields them, or a function that returns
            any of these. Such a stream is read once, into array files in the study's store, and must give the same items
            each time; it need not fit into memory. A third part holds weights: what each item counts for in training,
            shape (items,), or one for each place of a map; with several outputs also a dict by output name. The metric
            counts every item alike.
        validation: likewise; the search measures on it.
        test: likewise; the search never looks at it.
        loss: a Keras loss by name, as an object, or a function at the top level of `task.py`; a dict of such by output
            name where the model has several. What a function makes needs a name there too (`focal = make_loss(2.0)`). By
            default what labels and outputs look like; a line says what.
        metric: one of autoopt's own by name (a key of `scoring.BUILTIN`, such as `accuracy`, `f1_macro`, `auc`, `mean_iou`,
            `mae`), or a `QualityMetric`. By default `accuracy` for classes and labels, and `mae` for values. `accuracy` is
            the share of labels that are right: of an item's class, of its several labels, of its pixels or its tokens.
        calibration: inputs for the ranges of int8 activations; by default sampled from train.
        finetune: fine-tuning settings. Its epochs and learning rate are the centre of those that a space searches; other
            settings hold where the space names none. By default those of `Finetune` and of the space, and where labels
            are few (see `intake.FEW`) half of the weight goes to being like the untouched model.
        class_weight: what items of each class count for in training, such as `{0: 1.0, 1: 9.0}`, as Keras' `fit` takes
            it; multiplied with the weights of items where both are given. The metric counts every item alike.
        class_names: by label, for people.
        custom_objects: layers and functions of the model's own, by name, defined where jobs can find them (see
            `QualityMetric.function`); for a Keras 3 model the tf_keras layers that stand for its own.
        allow_code: a Lambda layer's code, which a model's file brings with it, may run.
        signature: of a SavedModel with several, the one that is meant; by default `serving_default`.
        input_size: of the axes beside the batch that the model's inputs leave open, such as (224, 224) of an image.
        augment: what is done at random to the batches of every fine-tuning, and to no other data: `flip`, `shift`, `crop`,
            `mixup`, `specaugment`, `noise`; or a function `(inputs, labels) -> (inputs, labels)` of tensors, of the same
            shapes and types, where other functions stand (see `loss`); or a list of such, applied one after the other.
        teacher: what distillation is like, in place of the untouched model: a Keras model or a path (see `model`) of any
            size, or a function of a batch of inputs (an array; several as a dict by name). Its outputs are of the model's
            shape; probabilities and scores of any size (logits) are told apart.
    """

    model: Any
    train: Any
    validation: Any
    test: Any
    loss: Any = None
    metric: str | QualityMetric | None = None
    calibration: Any = None
    finetune: Finetune | None = None
    class_weight: Mapping[int, float] | None = None
    class_names: tuple[str, ...] = ()
    custom_objects: Mapping[str, Any] | None = None
    allow_code: bool = False
    signature: str = ""
    input_size: tuple[int, ...] = ()
    augment: Any = None
    teacher: Any = None

    def __repr__(self) -> str:
        model = self.model if isinstance(self.model, str | Path) else type(self.model).__name__
        splits = ", ".join(f"{_count(getattr(self, name))} {name}" for name in SPLITS[:3])
        metric = self.metric if isinstance(self.metric, str) else getattr(self.metric, "name", "by its labels")
        return f"<Task of {short(model, 80)}: {splits}; metric {short(metric, 30)}>"


def _count(given: Any) -> str:
    """How many items were given, or as what they were."""
    labels = given[1] if isinstance(given, tuple | list) and len(given) == 2 else None
    labels = next(iter(labels.values()), None) if isinstance(labels, Mapping) else labels
    return str(len(labels)) if labels is not None and hasattr(labels, "__len__") else type(given).__name__


@dataclass(frozen=True, kw_only=True)
class Split:
    """Data in the shape that jobs use.

    Attributes:
        inputs: by input name, each of shape (items, ...).
        labels: shape (items, ...); empty for the calibration set; those of several outputs stand side by side, see
            `Output`.
        counted: shape (items, ...), dtype bool: positions of the output that the model does not mask, and a metric
            counts; None where it masks none.
        weights: what each item counts for in training, shape (items,), of maps as `broadcast` gives them, with several
            outputs (items, outputs); None where all count alike.
    """

    inputs: Inputs
    labels: np.ndarray
    counted: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def part(self, start: int, stop: int) -> "Split":
        """Its items from `start` up to `stop`."""
        return self._of(slice(start, stop))

    def some(self, items: int) -> "Split":
        """So many of its items at random, the same ones each time: those in front may all be of one class."""
        return self._of(self.chosen(items))

    def chosen(self, items: int) -> np.ndarray:
        """Which items `some` takes, in their order: of those that count in training, as far as there are so many."""
        order = np.random.default_rng(0).permutation(len(self))
        if self.weights is not None:
            idle = (self.weights.reshape(len(self), -1) == 0).all(axis=1)
            order = order[np.argsort(idle[order], kind="stable")]
        return np.sort(order[:items])

    def _of(self, chosen: Any) -> "Split":
        """The items at these places: an index array or a slice."""
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        more = {name: array[chosen] for name, array in self._more().items()}
        return Split(inputs=inputs, labels=self.labels[chosen], **more)

    def _more(self) -> dict[str, np.ndarray]:
        """Arrays that few tasks have, by name."""
        return {name: array for name in MORE if (array := getattr(self, name)) is not None}

    @classmethod
    def from_bytes(cls, data: bytes) -> "Split":
        """Read an uncompressed `.npz`, as stores of before have it; never unpickles."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            names = [str(n) for n in arrays["names"]]
            return cls(
                inputs={n: arrays[f"input_{i}"] for i, n in enumerate(names)},
                labels=arrays["labels"],
                **{name: arrays[name] for name in MORE if name in arrays.files},
            )

    @property
    def digest(self) -> str:
        """SHA-256 of names, shapes, dtypes and values."""
        digest = hashlib.sha256()
        for name, array in [*self.inputs.items(), ("labels", self.labels), *self._more().items()]:
            digest.update(f"{name}|{array.shape}|{array.dtype}|".encode())
            for part in chunks(array):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Output:
    """One of several outputs of a model. Arrays of all of them stand side by side, each flat: shape (items, values).

    Attributes:
        name: as of the layer.
        shape: of an item's output.
        labels: shape of an item's labels.
    """

    name: str
    shape: tuple[int, ...]
    labels: tuple[int, ...]


def side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Several outputs, or their labels, as one array of shape (items, values); a single one as it is."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def apart(array: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The inverse of `side_by_side`.

    Args:
        array: shape (items, values).
        shapes: of an item, of each.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    pieces = np.split(array, ends[:-1], axis=1)
    return [shaped(piece, tuple(shape)) for piece, shape in zip(pieces, shapes, strict=True)]


def broadcast(weights: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Weights of items in a shape that Keras takes: it broadcasts them over one axis of a map's losses, but not over more.

    Args:
        weights: shape (items,), or as many as places, which are left as they are.
        shape: of an item's output.
    """
    spread = weights.ndim == 1 and len(shape) >= 3
    return weights.reshape(-1, *[1] * (len(shape) - 1)) if spread else weights


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked task, as the jobs see it; its JSON is the task's fingerprint.

    Attributes:
        model: key of the packed baseline model in the store.
        splits: key of each split in the store.
        items: how many items each split holds.
        loss: see `_describe_callable`.
        metric: name, direction and unit; how to find its function, if it is the user's own; `meaning` (see
            `labels.Meaning`) where it is not that of one class an item.
        finetune: the task's fine-tuning settings.
        class_names: by label.
        source: text of `task.py`, kept only where jobs must import it.
        path: of `task.py`.
        outputs: of a model with several; empty for one.
        augment: each `ready` by name, or where its function is found.
        teacher: of the user's own: the key of its packed `model`, or where its function is found.
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
    outputs: tuple[Output, ...] = ()
    augment: tuple[Mapping[str, str], ...] = ()
    teacher: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(self._plain(), sort_keys=True)

    def _plain(self) -> dict[str, Any]:
        """Without what few tasks have where this one has it not, as it was before there could be such."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in LATER or value}

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """The inverse of `to_json`."""
        plain = json.loads(text)
        outputs = tuple(
            Output(name=o["name"], shape=tuple(o["shape"]), labels=tuple(o["labels"])) for o in plain.get("outputs", ())
        )
        lists = {name: tuple(plain.get(name, ())) for name in ("class_names", "augment")}
        return cls(**{**plain, **lists, "outputs": outputs})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that candidates follow from; where `task.py` lies is not part of it."""
        plain = self._plain() | {"path": ""}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    @property
    def quality(self) -> Metric:
        """The task's own metric, without its function."""
        return Metric(name=self.metric["name"], direction=self.metric["direction"], unit=self.metric["unit"])

    def meaning(self, outputs: np.ndarray) -> Meaning:
        """How labels and outputs are read by a metric that is known by name.

        Args:
            outputs: shape (items, ...), of some items.
        """
        if "meaning" in self.metric:
            return Meaning.from_dict(self.metric["meaning"])
        *places, scores = outputs.shape[1:] or (1,)
        return single(scores, self.threshold, math.prod(places))

    @property
    def threshold(self) -> float:
        """Over which one output means yes: 0 for scores of any size, 0.5 for probabilities."""
        if "meaning" in self.metric:
            return float(self.metric["meaning"]["threshold"])
        return 0.0 if settings(self.loss).get("from_logits") else 0.5

    def quality_function(self) -> Callable[[Any, Any, Any], float] | None:
        """The user's own metric as a function of labels, outputs and inputs; None for one that is known by name.

        It is to be given `seen` of the inputs.
        """
        described = self.metric["function"]
        if described is None:
            return None
        function = user_code.find(described, self.source, self.path)
        by_name = "inputs" in inspect.signature(function).parameters

        def value(labels: np.ndarray, outputs: np.ndarray, inputs: Inputs) -> float:
            given = (labels, outputs) if not self.outputs else self._by_name(labels, outputs)
            if not self.metric.get("inputs"):
                return float(function(*given))
            return float(function(*given, inputs=inputs) if by_name else function(*given, inputs))

        return value

    def _by_name(self, labels: np.ndarray, outputs: np.ndarray) -> tuple[Inputs, Inputs]:
        names = [output.name for output in self.outputs]
        wanted = apart(labels, [output.labels for output in self.outputs])
        found = apart(outputs, [output.shape for output in self.outputs])
        return dict(zip(names, wanted, strict=True)), dict(zip(names, found, strict=True))

    def seen(self, inputs: Inputs) -> Inputs:
        """The inputs as far as the metric looks at them."""
        return inputs if self.metric.get("inputs") else {}

    def loss_function(self) -> Any:
        """The loss as `compile` takes it; a list of losses where there are several outputs."""
        if self.outputs:
            return [self._loss(self.loss["outputs"][output.name]) for output in self.outputs]
        return self._loss(self.loss)

    def _loss(self, described: Any) -> Any:
        import tf_keras

        if isinstance(described, str):
            return described
        if "keras" in described:
            return tf_keras.losses.deserialize(described["keras"])
        return user_code.find(described, self.source, self.path)

    def targets(self, labels: np.ndarray) -> Any:
        """Labels as `fit` takes them: a tuple of arrays where there are several outputs."""
        return tuple(apart(labels, [output.labels for output in self.outputs])) if self.outputs else labels


def load(path: Path) -> Task:
    """Run a `task.py` and call its `task()`.

    Raises:
        ConfigError: if it is missing, raises, or returns something else.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file; a study needs a task.py with `def task() -> autoopt.Task`")
    module = user_code.run(path.read_text(encoding="utf-8"), path)
    build = getattr(module, "task", None)
    if not callable(build):
        raise ConfigError(f"{path}: expected a function `def task() -> autoopt.Task`, found none")
    with retold(
        lambda error: ConfigError(f"{path}: task() raised {type(error).__name__}: {one_line(error)}"),
        passing=(AutooptError,),  # memory that the user's code asks for is its own affair
    ):
        task = build()
    if not isinstance(task, Task):
        fail(f"{path}: task()", "an autoopt.Task", type(task).__name__)
    return task
