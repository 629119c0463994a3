"""Statistics of what was run: accuracy of a file with its interval, latency ratio with its interval, sizes."""

import dataclasses
import gzip
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.metrics import Measurement, Scores, pack_outcomes, wilson
from autoopt.targets import Rounds, Target, Timing
from autoopt.task import Inputs, Manifest, Split, side_by_side

BATCH = 32
RESAMPLES = 200
WIDE = 0.02
"""A latency interval wider than this share of its value is measured on, and flagged if it stays so."""
QUANTILE = 0.99
"""Of Student's distribution, for the ends of a latency interval; see `latency_ratio`."""
RESOLUTION = 0.003
"""A difference that repeats don't take away: a file against itself was off by up to so much."""
CALM = 0.03
"""A round counts as calm if it took at most so much longer than the calmest ones."""
CALM_FEWEST = 3
"""Processes with a calm round that an interval can be made of."""
UNKNOWN = math.log(2)
"""Half an interval, as a logarithm, where nothing is known of it."""
DRIFT = 0.15
"""By how much the reference may change its speed before a reader is told."""
FEWEST, MOST = 5, 14
"""Fresh processes while searching."""
CONFIRM_FEWEST, CONFIRM_MOST = 8, 30
"""Fresh processes for a confirmed figure."""


def compressed_bytes(file: bytes) -> int:
    """What a download weighs: bytes after `gzip -9`."""
    return len(gzip.compress(file, 9, mtime=0))


def classify(outputs: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The class that each item is given.

    Args:
        outputs: scores of shape (items, classes), or (items, 1) for class 1 alone.
        threshold: over which one output means class 1: 0.5 for probabilities, 0 for logits.

    Returns:
        shape (items,), dtype int64; -1 for items with a score that is no finite number.
    """
    outputs = outputs.reshape(len(outputs), -1)
    binary = outputs.shape[1] == 1
    predicted = (outputs[:, 0] > threshold).astype(np.int64) if binary else outputs.argmax(axis=1)
    found: np.ndarray = np.where(np.isfinite(outputs).all(axis=1), predicted, -1)
    return found


def truth(labels: np.ndarray) -> np.ndarray:
    """Class indices of shape (items,), from class indices (items,) or (items, 1), or one-hot (items, classes)."""
    labels = labels.reshape(len(labels), -1)
    found: np.ndarray = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    return found


def correct(labels: np.ndarray, outputs: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Which items are classified right: shape (items,), dtype bool. See `truth` and `classify` for the arguments."""
    right: np.ndarray = classify(outputs, threshold) == truth(labels)
    return right


def quality_value(manifest: Manifest, split: Split, outputs: np.ndarray) -> float:
    """The task's metric.

    Args:
        manifest: says which.
        split: the items.
        outputs: shape (items, ...), of the same items.
    """
    function = manifest.quality_function()
    if function is None:
        return float(correct(split.labels, outputs, manifest.threshold).mean())
    return function(split.labels, outputs, manifest.seen(split.inputs))


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The task's metric on one split, with what is needed to compare two files on the same items.

    Attributes:
        measurement: with a 95 % interval.
        outcomes: for accuracy, per item whether it is right (see `metrics.pack_outcomes`), else ``.
        resamples: for other metrics, the metric on resampled items, the same draws for every file.
        classes: for accuracy, for each class how many items are right, and how many there are.
        predictions: for accuracy, the class that each item was given, else empty.
    """

    measurement: Measurement
    outcomes: str = ""
    resamples: tuple[float | None, ...] = ()
    classes: tuple[tuple[int, int], ...] = ()
    predictions: tuple[int, ...] = ()

    @property
    def scores(self) -> Scores:
        """What it takes to compare it with another file's."""
        return Scores(self.measurement, self.outcomes, self.resamples)


def quality(manifest: Manifest, split: Split, outputs: np.ndarray, how: str) -> Quality:
    """The task's metric, with a 95 % interval: Wilson's for accuracy, else the percentile bootstrap (Efron 1979).

    Args:
        manifest: says which metric.
        split: the items.
        outputs: shape (items, ...), of the same items.
        how: the protocol in words.

    Raises:
        CandidateFailed: if the metric is no finite number or its function raises.
    """
    function = manifest.quality_function()
    if function is None:
        return accuracy(split.labels, outputs, how, manifest.threshold)
    inputs = manifest.seen(split.inputs)
    return resampled(manifest.quality.name, function, (split.labels, outputs, inputs), how)


def accuracy(labels: np.ndarray, outputs: np.ndarray, how: str, threshold: float = 0.5) -> Quality:
    """Share of items classified right. See `truth` and `classify` for the arguments."""
    predicted, known = classify(outputs, threshold), truth(labels).astype(np.int64)
    right, n = predicted == known, len(known)
    low, high = wilson(int(right.sum()), n)
    return Quality(
        measurement=Measurement(value=right.mean(), low=low, high=high, n=n, how=how),
        outcomes=pack_outcomes(right),
        classes=tuple((int(right[known == c].sum()), int((known == c).sum())) for c in range(int(known.max()) + 1)),
        predictions=tuple(predicted.tolist()),
    )


def resampled(name: str, function: Callable[..., float], given: tuple[np.ndarray | Inputs, ...], how: str) -> Quality:
    """Any other metric.

    Args:
        name: of the metric.
        function: of what is given.
        given: arrays with items first, the labels before others, or dicts of such.
        how: the protocol in words.

    Raises:
        CandidateFailed: if the metric is no finite number or its function raises.
    """
    try:
        value = float(function(*given))
    except Exception as error:
        what = f"{name}'s function raised {type(error).__name__}"
        raise CandidateFailed("accuracy", f"{what}: {' '.join(str(error).split())[:300]}") from error
    if not math.isfinite(value):
        raise CandidateFailed("accuracy", f"{name} is {value}")
    draws = _resample(function, given)
    drawn = [x for x in draws if x is not None]
    flags = () if len(drawn) >= RESAMPLES // 2 else ("interval from few resamples",)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (value, value)
    how = f"{how}; bootstrap of {len(drawn)} resamples"
    measured = Measurement(
        value=value, low=min(float(low), value), high=max(float(high), value), n=len(given[0]), how=how, flags=flags
    )
    return Quality(measurement=measured, resamples=tuple(draws))


def _resample(function: Callable[..., float], given: tuple[np.ndarray | Inputs, ...]) -> list[float | None]:
    """The metric on resampled items; the draws follow from the number of items alone."""
    rng, n = np.random.default_rng(0), len(given[0])
    draws: list[float | None] = []
    for _ in range(RESAMPLES):
        items = rng.integers(0, n, n)
        try:
            found = float(function(*(_some(one, items) for one in given)))
        except ValueError:  # such as AUC of a draw that holds one class only
            found = math.nan
        draws.append(float(f"{found:.7g}") if math.isfinite(found) else None)
    return draws


def _some(given: np.ndarray | Inputs, items: np.ndarray) -> np.ndarray | Inputs:
    """The items of an array, or of each array of a dict."""
    return {name: array[items] for name, array in given.items()} if isinstance(given, dict) else given[items]


def agreement(mine: Sequence[int], baseline: Sequence[int]) -> Measurement:
    """Share of items that are given the same class as by the baseline, right or wrong, with Wilson's interval."""
    same = sum(a == b for a, b in zip(mine, baseline, strict=True))
    low, high = wilson(same, len(mine))
    return Measurement(value=same / len(mine), low=low, high=high, n=len(mine), how="items given the same class")


def outputs_of(file: bytes, inputs: Inputs, threads: int, names: Sequence[str] = ()) -> np.ndarray:
    """Run a `.tflite` over data with the LiteRT interpreter, in batches.

    Args:
        file: the `.tflite`.
        inputs: by input name, each of shape (items, ...).
        threads: of the interpreter.
        names: of the outputs, in the order in which they are wanted; by default the file's own.

    Returns:
        the output as float32, shape (items, ...), several ones side by side; integers are scaled back.

    Raises:
        CandidateFailed: if the runtime can't run the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        try:
            interpreter = Interpreter(model_content=file, num_threads=threads)
            return _run(interpreter, inputs, items_at_once(interpreter.get_input_details(), BATCH), names)
        except RuntimeError:  # some graphs fix the batch, in a Reshape for instance
            return _run(Interpreter(model_content=file, num_threads=threads), inputs, 1, names)
    except (RuntimeError, ValueError) as error:
        raise CandidateFailed("accuracy", f"LiteRT can't run the file: {' '.join(str(error).split())[:300]}") from error


def items_at_once(details: Iterable[Any], most: int) -> int:
    """How many items a file is to be given at once.

    A file that is made for one item at a time may be given more and says nothing, but computes with the first alone.

    Args:
        details: of its inputs, as the interpreter tells them.
        most: that are wanted at once.
    """
    fixed = any(len(detail["shape_signature"]) and detail["shape_signature"][0] == 1 for detail in details)
    return 1 if fixed else most


def _run(interpreter: Any, inputs: Inputs, batch: int, names: Sequence[str]) -> np.ndarray:
    details = input_details(interpreter, inputs)
    outputs = output_details(interpreter, names)
    n = len(next(iter(inputs.values())))
    results, size = [], 0
    for start in range(0, n, batch):
        stop = min(start + batch, n)
        if stop - start != size:
            size = stop - start
            for name, detail in details.items():
                interpreter.resize_tensor_input(detail["index"], [size, *inputs[name].shape[1:]])
            interpreter.allocate_tensors()
        for name, detail in details.items():
            interpreter.set_tensor(detail["index"], quantize(inputs[name][start:stop], detail))
        interpreter.reset_all_variables()  # what a recurrent layer remembers is of the items before
        interpreter.invoke()
        found = [dequantize(interpreter.get_tensor(output["index"]), output) for output in outputs]
        results.append(side_by_side(found))
    joined: np.ndarray = np.concatenate(results)
    return joined


def input_details(interpreter: Any, inputs: Inputs) -> dict[str, Any]:
    """The interpreter's input details by the task's input names.

    Files from Keras carry the names in their signature; without one, order decides.
    """
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        found = interpreter.get_signature_runner(next(iter(signatures))).get_input_details()
        if set(found) == set(inputs):
            return dict(found)
    return dict(zip(inputs, interpreter.get_input_details(), strict=True))


def output_details(interpreter: Any, names: Sequence[str] = ()) -> list[Any]:
    """The interpreter's output details in the order of these names; in the file's where none are given.

    Raises:
        ValueError: if the file's outputs have other names.
    """
    details = list(interpreter.get_output_details())
    if len(names) < 2:
        return details
    signatures = interpreter.get_signature_list()
    found = interpreter.get_signature_runner(next(iter(signatures))).get_output_details() if signatures else {}
    if set(found) != set(names):
        raise ValueError(f"its outputs are named {', '.join(found) or 'nothing'}, not {', '.join(names)}")
    return [found[name] for name in names]


def quantize(array: np.ndarray, detail: Any) -> np.ndarray:
    """Values in the dtype of a tensor, by its scale and zero point if it is quantized."""
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if scale and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        quantized: np.ndarray = np.clip(np.round(array / scale + zero), limits.min, limits.max).astype(dtype)
        return quantized
    return array.astype(dtype)


def dequantize(array: np.ndarray, detail: Any) -> np.ndarray:
    """Values of a tensor as float32."""
    scale, zero = detail["quantization"]
    values: np.ndarray = array.astype(np.float32)
    if scale and array.dtype.kind in "iu":
        values = (values - zero) * np.float32(scale)
    return values


def steady(once: Callable[[], Timing], *, fewest: int, most: int, width: float = WIDE) -> list[Timing]:
    """Time again, in fresh processes, until the interval is narrow enough.

    Args:
        once: one process.
        fewest: processes, before the interval is looked at.
        most: processes, narrow or not.
        width: of the interval of the ratio, as a share of it.
    """
    timings: list[Timing] = []
    while len(timings) < most:
        timings.append(once())
        if len(timings) >= fewest:
            ratio = latency_ratio([t.rounds for t in timings], "")
            if (ratio.high - ratio.low) / ratio.value < width:
                break
    return timings


def timed(target: Target, file: bytes, reference: bytes, *, fewest: int, most: int) -> tuple[list[Rounds], list[str]]:
    """Rounds of several fresh processes (one where the target computes its times), and what must be known of them.

    See `steady` for the other arguments.
    """
    if target.exact:
        fewest = most = 1
    timings = steady(lambda: target.latency(file, reference), fewest=fewest, most=most)
    return [timing.rounds for timing in timings], sorted({flag for timing in timings for flag in timing.flags})


def readings(target: Target, file: bytes) -> list[dict[str, int]]:
    """Bytes by metric that a file takes, of two fresh processes (one where the target computes them)."""
    return [target.memory(file) for _ in range(1 if target.exact else 2)]


def flagged(measurement: Measurement, target: Target) -> Measurement:
    """An estimate never passes for a measurement."""
    if not target.estimated:
        return measurement
    return dataclasses.replace(measurement, flags=("estimated", *measurement.flags))


def latency_ratio(
    processes: Sequence[Rounds], how: str, flags: Iterable[str] = (), *, exact: bool = False
) -> Measurement:
    """Latency relative to the reference, from interleaved runs in several fresh processes.

    A machine that others use too has fast and slow spells, and two files don't slow down alike in
    them. So only the calm rounds count, those in which both files together ran about as fast as they
    ever did; what is chosen by is symmetric in the two, so that it favours neither. A round gives the
    median of its pairs' ratios, since what disturbs the machine for longer than a run disturbs both of a
    pair; a process gives the mean of its rounds. The estimate is the geometric mean over the processes,
    with Student's interval over them. Its quantile is 99 % and not 97.5 %, because times have heavy
    tails, and stopping as soon as the interval is narrow costs coverage (see experiments/latency_noise).

    Args:
        processes: for each process its rounds of pairs (file's ns, reference's ns).
        how: the protocol in words.
        flags: what the target said.
        exact: times are computed; one is as good as many.
    """
    logs = [float(np.mean(kept)) for kept in _calm(processes) if kept]
    mean, n = float(np.mean(logs)), len(logs)
    found = set(flags)
    half = 0.0
    if not exact:
        half = UNKNOWN
        if n >= CALM_FEWEST:
            from scipy import stats

            spread = float(stats.t.ppf(QUANTILE, n - 1) * np.std(logs, ddof=1) / math.sqrt(n))
            half = min(UNKNOWN, math.hypot(spread, RESOLUTION))
        if drift := _drift(processes):
            found.add(drift)
    value, low, high = (math.exp(x) for x in (mean, mean - half, mean + half))
    if (high - low) / value > WIDE:
        found.add("wide interval")
    runs = sum(len(one) for rounds in processes for one in rounds)
    return Measurement(value=value, low=low, high=high, n=runs, how=how, flags=tuple(sorted(found)))


def _calm(processes: Sequence[Rounds]) -> list[list[float]]:
    """For each process the logarithms of its calm rounds' ratios; none where it had no calm round."""
    levels = [[_level(one) for one in rounds] for rounds in processes]
    calmest = float(np.percentile([level for process in levels for level in process], 10))
    return [
        [float(np.median([math.log(a / b) for a, b in one])) for one, level in zip(rounds, process, strict=True)
         if level <= calmest + math.log1p(CALM)]
        for rounds, process in zip(processes, levels, strict=True)
    ]  # fmt: skip


def _level(one: Sequence[tuple[int, int]]) -> float:
    """How long both files together take in a round: the logarithm of the geometric mean."""
    first, second = (math.log(float(np.percentile(times, 25))) for times in zip(*one, strict=True))
    return (first + second) / 2


def _drift(processes: Sequence[Rounds]) -> str:
    """Whether the reference at its fastest became slower while it was measured: a device that throttles."""
    half = len(processes) // 2
    if half < 2:
        return ""
    first, last = (p10([b for rounds in part for one in rounds for _, b in one])
                   for part in (processes[:half], processes[-half:]))  # fmt: skip
    if abs(last / first - 1) <= DRIFT:
        return ""
    which = "slower" if last > first else "faster"
    return f"the reference became {abs(last / first - 1):.0%} {which} meanwhile: throttling, or other load"


def p10(times: Sequence[int]) -> float:
    """The tenth percentile: what the run takes when nothing disturbs it."""
    return float(np.percentile(times, 10))


def scale(ratio: Measurement, by: float, how: str) -> Measurement:
    """A ratio times a known quantity, with its interval and flags."""
    return Measurement(
        value=ratio.value * by, low=ratio.low * by, high=ratio.high * by, n=ratio.n, how=how, flags=ratio.flags
    )


def repeated(values: Sequence[float], how: str, flags: Iterable[str] = ()) -> Measurement:
    """The middle of a few repeats that hardly differ, with their range as the interval."""
    return Measurement(
        value=float(np.median(values)), low=min(values), high=max(values), n=len(values), how=how, flags=tuple(flags)
    )
