"""Statistics of what was run: accuracy of a file with its interval, latency ratio with its interval, sizes."""

import gzip
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed
from autoopt.metrics import Measurement, pack_outcomes, wilson
from autoopt.task import Inputs, Manifest

BATCH = 32
RESAMPLES = 200
WIDE = 0.05
"""A latency interval wider than this share of its value is flagged."""


def compressed_bytes(file: bytes) -> int:
    """What a download weighs: bytes after `gzip -9`."""
    return len(gzip.compress(file, 9, mtime=0))


def correct(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Which items are classified right.

    Args:
        labels: class indices of shape (items,) or (items, 1), or one-hot of shape (items, classes).
        outputs: scores of shape (items, classes); of one output, probabilities of class 1.

    Returns:
        shape (items,), dtype bool. Items with a NaN score are wrong.
    """
    outputs = outputs.reshape(len(outputs), -1)
    labels = labels.reshape(len(labels), -1)
    binary = outputs.shape[1] == 1
    predicted = (outputs[:, 0] > 0.5).astype(np.int64) if binary else outputs.argmax(axis=1)
    truth = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    right: np.ndarray = (predicted == truth) & np.isfinite(outputs).all(axis=1)
    return right


def quality_value(manifest: Manifest, labels: np.ndarray, outputs: np.ndarray) -> float:
    """The task's metric.

    Args:
        manifest: says which.
        labels: shape (items, ...).
        outputs: shape (items, ...), same items.
    """
    function = manifest.quality_function()
    if function is None:
        return float(correct(labels, outputs).mean())
    return float(function(labels, outputs))


def quality(manifest: Manifest, labels: np.ndarray, outputs: np.ndarray, how: str) -> tuple[Measurement, str]:
    """The task's metric with a 95 % interval, and per-item outcomes where it is accuracy.

    Accuracy has Wilson's interval; other metrics the percentile bootstrap over items (Efron 1979).

    Raises:
        CandidateFailed: if the metric is no finite number or its function raises.
    """
    n = len(labels)
    function = manifest.quality_function()
    if function is None:
        right = correct(labels, outputs)
        low, high = wilson(int(right.sum()), n)
        return Measurement(value=right.mean(), low=low, high=high, n=n, how=how), pack_outcomes(right)
    try:
        value = float(function(labels, outputs))
    except Exception as error:
        name = f"{manifest.quality.name}'s function raised {type(error).__name__}"
        raise CandidateFailed("accuracy", f"{name}: {' '.join(str(error).split())[:300]}") from error
    if not math.isfinite(value):
        raise CandidateFailed("accuracy", f"{manifest.quality.name} is {value}")
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        items = rng.integers(0, n, n)
        try:
            resampled = float(function(labels[items], outputs[items]))
        except ValueError:
            continue  # such as AUC of a draw that holds one class only
        if math.isfinite(resampled):
            drawn.append(resampled)
    flags = () if len(drawn) >= RESAMPLES // 2 else ("interval from few resamples",)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (value, value)
    how = f"{how}; bootstrap of {len(drawn)} resamples"
    measured = Measurement(value=value, low=min(low, value), high=max(high, value), n=n, how=how, flags=flags)
    return measured, ""


def outputs_of(file: bytes, inputs: Inputs, threads: int) -> np.ndarray:
    """Run a `.tflite` over data with the LiteRT interpreter, in batches.

    Args:
        file: the `.tflite`.
        inputs: by input name, each of shape (items, ...).
        threads: of the interpreter.

    Returns:
        the first output as float32, shape (items, ...); integers are scaled back.

    Raises:
        CandidateFailed: if the runtime can't run the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        try:
            return _run(Interpreter(model_content=file, num_threads=threads), inputs, BATCH)
        except RuntimeError:  # some graphs fix the batch, in a Reshape for instance
            return _run(Interpreter(model_content=file, num_threads=threads), inputs, 1)
    except (RuntimeError, ValueError) as error:
        raise CandidateFailed("accuracy", f"LiteRT can't run the file: {' '.join(str(error).split())[:300]}") from error


def _run(interpreter: Any, inputs: Inputs, batch: int) -> np.ndarray:
    details = input_details(interpreter, inputs)
    output = interpreter.get_output_details()[0]
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
        interpreter.invoke()
        results.append(dequantize(interpreter.get_tensor(output["index"]), output))
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


def latency_ratio(processes: Sequence[Sequence[tuple[int, int]]], how: str) -> Measurement:
    """Latency relative to the baseline, from interleaved runs in several fresh processes.

    Each process gives the ratio of the tenth percentiles, which other load on the machine hardly
    moves; the estimate is their geometric mean, with Student's interval over the processes.

    Args:
        processes: for each process its pairs (candidate's ns, baseline's ns).
        how: the protocol in words.
    """
    from scipy import stats

    logs = [math.log(p10([a for a, _ in pairs]) / p10([b for _, b in pairs])) for pairs in processes]
    mean, n = float(np.mean(logs)), len(logs)
    half = 0.0
    if n > 1:
        half = float(stats.t.ppf(0.975, n - 1) * np.std(logs, ddof=1) / math.sqrt(n))
    value, low, high = (math.exp(x) for x in (mean, mean - half, mean + half))
    flags = ("wide interval",) if (high - low) / value > WIDE else ()
    return Measurement(value=value, low=low, high=high, n=sum(map(len, processes)), how=how, flags=flags)


def p10(times: Sequence[int]) -> float:
    """The tenth percentile: what the run takes when nothing disturbs it."""
    return float(np.percentile(times, 10))


def scale(ratio: Measurement, by: float, how: str) -> Measurement:
    """A ratio times a known quantity, with its interval and flags."""
    return Measurement(
        value=ratio.value * by, low=ratio.low * by, high=ratio.high * by, n=ratio.n, how=how, flags=ratio.flags
    )


def repeated(values: Sequence[float], how: str) -> Measurement:
    """The middle of a few repeats that hardly differ, with their range as the interval."""
    return Measurement(value=float(np.median(values)), low=min(values), high=max(values), n=len(values), how=how)
