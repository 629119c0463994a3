"""Measures any `.tflite`, also one that autoopt never made: sizes, latency, memory, quality, and against another."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from autoopt.core import budgets, deflate, latency_statistics
from autoopt.core.metrics import STANDARD, Measurement, Metric
from autoopt.core.metrics import difference as difference_of
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.models import labels as labels_of
from autoopt.models import quality
from autoopt.models.labels import Meaning
from autoopt.models.quality import Quality
from autoopt.models.task import Inputs
from autoopt.system import foreign_files, isolation
from autoopt.targets import Rounds, Target, benchmark
from autoopt.tflite import contents as inspect
from autoopt.tflite import interpreter
from autoopt.tflite import parts as parts_of
from autoopt.tflite.contents import Contents
from autoopt.tflite.parts import Part

T = TypeVar("T")
PAIRS = (("x_test", "y_test"), ("x_validation", "y_validation"), ("x_train", "y_train"), ("x", "y"))
"""Arrays of an `.npz` that can be measured on: the first pair that is there."""
ACCURACY = Metric(name="accuracy", direction="max", unit="fraction")
ERROR = Metric(name="mae", direction="min", label="mean absolute error")
METRICS: Mapping[str, Metric] = {ACCURACY.name: ACCURACY, ERROR.name: ERROR, **STANDARD}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found of one file.

    Attributes:
        contents: what is inside.
        measurements: by metric name; `latency_ratio` is against the other file, if there is one.
        difference: of the quality against the other file's, with a 95 % interval, or None.
        device: where it was measured.
        misfit: by how much it is too large for the target, in words, or ``.
        parts: where its bytes go.
    """

    contents: Contents
    measurements: Mapping[str, Measurement]
    difference: tuple[float, float, float] | None = None
    device: Mapping[str, Any] = field(default_factory=dict)
    misfit: str = ""
    parts: Sequence[Part] = ()


@dataclass(frozen=True, kw_only=True)
class Items:
    """What a file is judged on.

    Attributes:
        x: shape (items, ...), any numbers.
        labels: shape (items, ...), any numbers.
        where: file and names of both, for messages.
    """

    x: np.ndarray
    labels: np.ndarray
    where: tuple[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The first of `PAIRS` in an `.npz`.

        Raises:
            ConfigError: if there is none, or it does not hold as many labels as items.
        """
        known = foreign_files.names(path)
        names = next((pair for pair in PAIRS if set(pair) <= set(known)), ())
        if not names:
            wanted = ", ".join(f"{x} and {y}" for x, y in PAIRS)
            raise ConfigError(f"{path}: expected {wanted}; got {', '.join(known) or 'nothing'}")
        arrays = foreign_files.arrays(path, str(path), names)
        x, y = (arrays[name] for name in names)
        for name, array in arrays.items():
            if array.ndim == 0 or array.dtype.kind not in "biuf":
                raise ConfigError(f"{path}: {name}: expected numbers, items first, got {array.dtype} {array.shape}")
        if len(x) == 0 or len(x) != len(y):
            raise ConfigError(f"{path}: expected as many labels as items, one or more, got {len(y)} and {len(x)}")
        return cls(x=x, labels=y, where=(f"{path}: {names[0]}", f"{path}: {names[1]}"))

    def real(self, contents: Contents) -> Self:
        """The same with real values, where the items are stored in the integers that a file takes."""
        for end in contents.inputs:
            if end["scale"] and self.x.dtype.name == end["dtype"] and self.x.dtype.kind in "iu":
                return dataclasses.replace(self, x=(self.x.astype(np.float32) - end["zero_point"]) * end["scale"])
        return self

    def inputs(self, path: Path, contents: Contents) -> Inputs:
        """By input name, in the shape that a file takes.

        Raises:
            ConfigError: if they are of another shape, or the file has several inputs or outputs.
        """
        for kind, ends in (("inputs", contents.inputs), ("outputs", contents.outputs)):
            if len(ends) != 1:
                raise ConfigError(f"{path}: has {len(ends)} {kind}; data can be given for files with one")
        x, expected = self.x, tuple(contents.inputs[0]["shape"][1:])
        if (*x.shape[1:], 1) == expected:
            x = x[..., None]
        if x.shape[1:] != expected:
            shown = ", ".join(map(str, ("items", *expected)))
            raise ConfigError(f"{self.where[0]}: expected shape ({shown}) as {path} takes it, got {x.shape}")
        return {contents.inputs[0]["name"]: x}

    def meaning(self, outputs: np.ndarray) -> Meaning:
        """How labels and outputs are read.

        Args:
            outputs: shape (items, ...), what the file gives.

        Raises:
            ConfigError: if they do not fit.
        """
        loss = labels_of.infer_loss(self.labels, outputs, self.labels, self.where[1])
        return labels_of.read(self.labels, outputs, self.labels, loss.loss, self.where[1])


def examine(path: Path) -> tuple[bytes, Contents]:
    """Read a file that is to be measured.

    Raises:
        ConfigError: if it is no `.tflite`, or one that can't be run by itself.
    """
    file = foreign_files.read(path)
    contents = _read(path, _contents, file)
    custom = [name.partition(" ")[2] or "unnamed" for name in contents.ops if name.startswith(inspect.CUSTOM)]
    if custom:
        raise ConfigError(
            f"{path}: holds custom operators ({', '.join(custom)}), which no target here knows; convert it without them"
        )
    if len(contents.signatures) > 1:
        raise ConfigError(
            f"{path}: expected one signature, got {len(contents.signatures)} ({', '.join(contents.signatures)}); "
            "convert one function to a file of its own"
        )
    for end in contents.inputs:
        if end["open_axes"]:
            axes = ", ".join(map(str, end["open_axes"]))
            raise ConfigError(
                f"{path}: input {end['name']} leaves the length of axis {axes} open; convert it with a fixed shape"
            )
    return file, contents


def _read(path: Path, reader: Callable[[bytes], T], file: bytes) -> T:
    """What a reader finds in a file, in a process of its own.

    Raises:
        ConfigError: if the file is no `.tflite`.
    """
    try:
        return isolation.call(reader, file)
    except CandidateFailed as error:
        raise ConfigError(f"{path}: {error.reason}") from error
    except isolation.Crashed as error:
        raise ConfigError(f"{path}: can't be read: the process that did ended with {error}; convert it anew") from error


def _contents(file: bytes) -> Contents:
    """What is inside, without the values of the weights, which nobody asks a single file for."""
    contents = inspect.read(file)
    bare = [dataclasses.replace(weight, values=np.empty(0)) for weight in contents.weights]
    return dataclasses.replace(contents, weights=bare)


def outputs_of(path: Path, file: bytes, inputs: Inputs) -> np.ndarray:
    """What a file gives, run in a process of its own."""
    try:
        return isolation.call(interpreter.outputs_of, file, inputs, threads=1)
    except isolation.Crashed as error:
        raise CandidateFailed(
            "accuracy",
            f"LiteRT ended with {error} on {path}: it is damaged, or asks for more than there is; convert it anew",
        ) from error


def measure_file(path: Path, target: Target, *, against: Path | None = None, data: Path | None = None) -> Report:
    """Measure a file on a target, with as many repeats as a confirmed figure has.

    Args:
        path: of the `.tflite`.
        target: where.
        against: another file, that latency and quality are compared with.
        data: an `.npz` with inputs and labels, see `PAIRS`; inputs in the integers that the file takes
            are taken as they are.

    Raises:
        ConfigError: if a file, or the data, is not what it should be.
        CandidateFailed: if the target can't run the file.
        TargetUnavailable: if the target does not answer.
    """
    file, contents = examine(path)
    other, others = (None, None) if against is None else examine(against)
    items = None if data is None else Items.read(data).real(contents)
    if items is not None:
        items.inputs(path, contents)  # what does not fit is told before the target is asked
    device = target.describe()
    measurements: dict[str, Measurement] = {}
    difference = None
    if items is not None:
        outputs = outputs_of(path, file, items.inputs(path, contents))
        meaning = items.meaning(outputs)
        mine = _quality(outputs, items, meaning)
        measurements[metric_of(meaning).name] = mine.measurement
        if against is not None and other is not None and others is not None:
            _expect_alike(path, contents, against, others)
            theirs = _quality(outputs_of(against, other, items.inputs(against, others)), items, meaning)
            difference = difference_of(mine.scores, theirs.scores)
            if mine.predictions:
                measurements["agreement"] = quality.agreement(mine.predictions, theirs.predictions)
    measurements |= _latency(file, other, target)
    measurements |= _memory(file, target)
    measurements["size_bytes"] = Measurement.exact(len(file), "bytes of the file")
    measurements["compressed_bytes"] = Measurement.exact(interpreter.compressed_bytes(file), "bytes after gzip -9")
    measurements["download_bytes"] = Measurement.exact(len(deflate.smallest_gzip(file)), deflate.HOW)
    return Report(
        contents=contents,
        measurements=measurements,
        difference=difference,
        device=device,
        misfit=_misfit(path, measurements, target),
        parts=_read(path, parts_of.parts, file),
    )


def _misfit(path: Path, measurements: Mapping[str, Measurement], target: Target) -> str:
    """What the file needs more of than the target has, in words; nothing where it fits."""
    for text in target.budgets:
        budget = budgets.parse(text, METRICS)
        metric, found = METRICS[budget.metric], measurements.get(budget.metric)
        if found is not None and budget.margin(found.value, None) > 0:
            needs, has = metric.show(found.value), metric.show(budget.bound(None))
            if needs == has:  # too little is lacking to show in rounded sizes
                needs, has = f"{found.value:.0f} B", f"{budget.bound(None):.0f} B"
            return f"{path} does not fit {target.name}: it needs {needs} of memory, and there are {has}"
    return ""


def self_test(path: Path, target: Target, repeats: int) -> list[Measurement]:
    """Measure a file against itself, time and again: each ratio should have an interval that holds 1.

    Raises:
        ConfigError: if the file can't be measured, or the target computes its times.
        CandidateFailed: if the target can't run the file.
        TargetUnavailable: if the target does not answer.
    """
    file, _ = examine(path)
    if target.exact or "latency_ms" not in target.measures:
        raise ConfigError(f"target {target.name} times nothing, so there is no noise to test")
    target.describe()
    return [_ratio(*_timed(file, file, target), target) for _ in range(repeats)]


def _timed(file: bytes, reference: bytes, target: Target) -> tuple[list[Rounds], list[str], str]:
    """Rounds of two files in turn, what must be known of them, and the protocol in words."""
    limits = {"fewest": benchmark.CONFIRM_FEWEST, "most": benchmark.CONFIRM_MOST}
    processes, flags = benchmark.timed(target, file, reference, **limits)
    how = f"batch 1, {len(processes)} fresh processes" if not target.exact else f"computed by {target.name}"
    return processes, flags, how


def _ratio(processes: list[Rounds], flags: list[str], how: str, target: Target) -> Measurement:
    how = how if target.exact else f"{how}, median of interleaved pairs"
    return benchmark.flagged(latency_statistics.latency_ratio(processes, how, flags, exact=target.exact), target)


def _latency(file: bytes, other: bytes | None, target: Target) -> dict[str, Measurement]:
    if "latency_ms" not in target.measures:
        return {}
    processes, flags, how = _timed(file, file if other is None else other, target)
    per_process = [latency_statistics.p10([a for one in rounds for a, _ in one]) / 1e6 for rounds in processes]
    how_long = how if target.exact else f"{how}, 10th percentiles"
    found = {"latency_ms": benchmark.flagged(latency_statistics.over_processes(per_process, how_long, flags), target)}
    if other is not None:
        found["latency_ratio"] = _ratio(processes, flags, how, target)
    return found


def _memory(file: bytes, target: Target) -> dict[str, Measurement]:
    readings, how = benchmark.readings(target, file), f"on {target.name}"
    flags = target.fallbacks(file)
    found = {name: latency_statistics.repeated([r[name] for r in readings], how, flags) for name in readings[0]}
    return {name: benchmark.flagged(m, target) for name, m in found.items()}


def _expect_alike(path: Path, contents: Contents, against: Path, others: Contents) -> None:
    mine, theirs = (math.prod(each.outputs[0]["shape"][1:]) for each in (contents, others))
    if mine != theirs:
        raise ConfigError(f"{against}: gives {theirs} values an item and {path} gives {mine}; expected as many")


def _quality(outputs: np.ndarray, items: Items, meaning: Meaning) -> Quality:
    """Accuracy where labels are classes, else the mean absolute error."""
    how = f"LiteRT interpreter on {len(items.labels)} items"
    return quality.score(metric_of(meaning).name, meaning, items.labels, outputs, how)


def metric_of(meaning: Meaning) -> Metric:
    """The metric that labels of this meaning are measured by."""
    return ERROR if meaning.kind == labels_of.VALUES else ACCURACY
