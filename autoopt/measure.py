"""Runs files and reads what they take: outputs, latency ratio with its interval, memory, sizes."""

import dataclasses
import gzip
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.metrics import INTERVAL, RANGE, Measurement
from autoopt.targets import Rounds, Target, Timing
from autoopt.task import Inputs, side_by_side

BATCH = 32
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


def scale(ratio: Measurement, by: Measurement, how: str) -> Measurement:
    """A ratio times what it is relative to, with the ratio's flags.

    Both are uncertain, independently: the relative distances to the ends of the two intervals add like errors do.

    Args:
        ratio: over 0, with its ends.
        by: likewise.
        how: the protocol in words.
    """
    value = ratio.value * by.value
    below = math.hypot(math.log(ratio.value / ratio.low), math.log(by.value / by.low))
    above = math.hypot(math.log(ratio.high / ratio.value), math.log(by.high / by.value))
    return Measurement(
        value=value,
        low=value * math.exp(-below),
        high=value * math.exp(above),
        n=ratio.n,
        how=how,
        flags=ratio.flags,
    )


def over_processes(values: Sequence[float], how: str, flags: Iterable[str] = ()) -> Measurement:
    """The median of one time a fresh process, with Student's interval over the processes' logarithms.

    The quantile and what repeats don't take away are those of `latency_ratio`. One process alone is taken for
    exact, since only a target that computes its times is asked once.

    Args:
        values: over 0.
        how: the protocol in words.
        flags: what the target said.
    """
    value, logs, n = float(np.median(values)), np.log(values), len(values)
    mean, half = float(logs.mean()), 0.0
    if n > 1:
        from scipy import stats

        spread = float(stats.t.ppf(QUANTILE, n - 1) * logs.std(ddof=1) / math.sqrt(n))
        half = min(UNKNOWN, math.hypot(spread, RESOLUTION))
    low, high = min(value, math.exp(mean - half)), max(value, math.exp(mean + half))
    if n == 1:
        low = high = value
    return Measurement(value=value, low=low, high=high, n=n, how=how, flags=tuple(flags))


def repeated(values: Sequence[float], how: str, flags: Iterable[str] = ()) -> Measurement:
    """The middle of a few readings that hardly differ, with their range, which is no interval of any confidence."""
    n = len(values)
    return Measurement(
        value=float(np.median(values)),
        low=min(values),
        high=max(values),
        n=n,
        how=f"{how}; range of {n} readings" if n > 1 else how,
        flags=tuple(flags),
        ends=RANGE if n > 1 else INTERVAL,
    )
