"""Whether data is scaled as a model expects it: its quality with the inputs scaled otherwise, and what its first layers saw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from autoopt.compression import training
from autoopt.core.metrics import difference
from autoopt.models import quality
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Inputs, Manifest, Split
from autoopt.tflite import interpreter

ITEMS = 256
"""Of the validation split, on which other scalings are tried."""
CLEARLY = 0.05
"""By which share of itself the quality must change before another scaling is called better; its interval must say so too."""
FAR = 3.0
"""So many times as much, or as little, as in training may vary what arrives at the first normalization, without a word."""

Scale = Callable[[np.ndarray], np.ndarray]
UNIT: Mapping[str, Scale] = {"x * 255": lambda x: x * 255, "x * 2 - 1": lambda x: x * 2 - 1}
"""Of data in 0 to 1."""
SIGNED: Mapping[str, Scale] = {
    "x * 255": lambda x: x * 255,
    "(x + 1) / 2": lambda x: (x + 1) / 2,
    "(x + 1) * 127.5": lambda x: (x + 1) * 127.5,
}
"""Of data in -1 to 1."""
BYTES: Mapping[str, Scale] = {"x / 255": lambda x: x / 255, "x / 127.5 - 1": lambda x: x / 127.5 - 1}
"""Of all data."""


def examined(model: Any, manifest: Manifest, split: Split, threads: int) -> dict[str, Any]:
    """What is to be known of how a split is scaled.

    Returns:
        `scalings`: see `tried`; `normalization`: name of the first layer that knows what arrived at it in training, or ``;
        `rescaling`: what the model does to its inputs itself, in words.

    Args:
        model: tf_keras model, or a closed one.
        manifest: names the metric.
        split: items.
        threads: of the interpreter, for a closed model.
    """
    if isinstance(model, ClosedModel):
        floats = [name for name, array in split.inputs.items() if array.dtype.kind == "f"]
        rows = tried(manifest, split, floats, lambda inputs: interpreter.outputs_of(model.file, inputs, threads))
        return {"scalings": rows, "normalization": "", "rescaling": ""}
    ends = zip(split.inputs, model.inputs, strict=True)
    floats = [name for name, tensor in ends if tensor.dtype.is_floating]

    def predict(inputs: Inputs) -> np.ndarray:
        return training.outputs(model, Split(inputs=inputs, labels=split.labels))

    name, spread = first_normalization(model)
    rows = tried(manifest, split, floats, predict, spread)
    return {"scalings": rows, "normalization": name, "rescaling": rescaling(model)}


def tried(
    manifest: Manifest,
    split: Split,
    floats: Sequence[str],
    predict: Callable[[Inputs], np.ndarray],
    spread: Callable[[Inputs], float] | None = None,
) -> list[dict[str, Any]]:
    """The quality with inputs as they are, and scaled in other usual ways.

    Args:
        manifest: names the metric.
        split: items.
        floats: names of the inputs that take fractions.
        predict: gives outputs of shape (items, ...) for inputs.
        spread: see `first_normalization`.

    Returns:
        a row a way, the first with the inputs as they are: `way`, `value`, `spread` (None if unknown), `better`: whether it
        is clearly better, and `worse`: whether it seems so.
    """
    few = split.some(ITEMS)
    scaled = {name: few.inputs[name].astype(np.float32) for name in floats}
    if not scaled:
        return []
    ways = usual(*scaled.values())
    plain = predict(few.inputs)
    start = quality.value(manifest, few, plain)
    rows: list[dict[str, Any]] = [{"way": "x", "value": start, "better": False, "worse": False}]
    rows[0]["spread"] = spread(few.inputs) if spread else None
    for way, scale in ways.items():
        inputs = few.inputs | {name: scale(array) for name, array in scaled.items()}
        outputs = predict(inputs)
        value = quality.value(manifest, few, outputs)
        if not np.isfinite(value):
            continue
        gain = manifest.quality.sign * (start - value)
        much = gain > 0 and gain >= CLEARLY * abs(start)
        better = much and _surely(manifest, few, outputs, plain)
        row = {"way": way, "value": value, "better": better, "worse": gain < -CLEARLY * abs(start)}
        rows.append(row | {"spread": spread(inputs) if spread else None})
    return rows


def usual(*arrays: np.ndarray) -> dict[str, Scale]:
    """Other ways in which values like these are usually scaled, by what is done to `x`."""
    low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
    return {**(UNIT if low >= 0 and high <= 1 else SIGNED if low >= -1 and high <= 1 else {}), **BYTES}


def _surely(manifest: Manifest, split: Split, outputs: np.ndarray, plain: np.ndarray) -> bool:
    """Whether the quality of outputs is better than that of others on the same items, with their intervals."""
    found, whole = (quality.quality(manifest, split, each, "") for each in (outputs, plain))
    return min(-manifest.quality.sign * value for value in difference(found.scores, whole.scores)) > 0


def first_normalization(model: Any) -> tuple[str, Callable[[Inputs], float] | None]:
    """The first layer of a model that knows what arrived at it in training.

    Returns:
        its name, and what tells of inputs how many times as much as in training varies what arrives there, in the median of
        the channels; `` and None of a model without batch normalization, or with one that was never trained.
    """
    import tf_keras

    kinds = ("BatchNormalization", "Normalization")
    layer = next((layer for layer in model.layers if type(layer).__name__ in kinds), None)
    if layer is None:
        return "", None
    variance = layer.moving_variance if type(layer).__name__ == kinds[0] else layer.variance
    known = np.asarray(variance, dtype=np.float64).reshape(-1)
    if (known == 1).all() or not (known > 0).any() or known.size != layer.input.shape[-1]:
        return "", None
    before = tf_keras.Model(model.inputs, layer.input)

    def spread(inputs: Inputs) -> float:
        found = before.predict_on_batch(list(inputs.values()))
        here = np.asarray(found, dtype=np.float64).reshape(-1, known.size).var(axis=0)
        return float(np.median(np.sqrt(here[known > 0] / known[known > 0])))

    return layer.name, spread


def rescaling(model: Any) -> str:
    """What a model itself does to its inputs first, in words, or ``."""
    layer = next((layer for layer in model.layers if type(layer).__name__ == "Rescaling"), None)
    return (
        ""
        if layer is None
        else f"{layer.name}: x * {float(np.mean(layer.scale)):.3g} + {float(np.mean(layer.offset)):.3g}"
    )


def suspicions(seen: Mapping[str, Any], name: str, unit: str) -> Iterator[str]:
    """What is suspicious of how data is scaled.

    Args:
        seen: `range` of the inputs, and what `examined` gives.
        name: of the metric.
        unit: of the metric.
    """
    rows, (low, high) = seen["scalings"], seen["range"]
    if not rows:
        return

    def shown(row: Mapping[str, Any]) -> str:
        value = f"{row['value']:.1%}" if unit == "fraction" else f"{row['value']:.4g}"
        if row["spread"] is None:
            return value
        return f"{value} (and what arrives at {seen['normalization']} varies {row['spread']:.3g} times as much as in training)"

    start, others = rows[0], rows[1:]
    better = [row for row in others if row["better"]]
    off = start["spread"] is not None and not 1 / FAR <= start["spread"] <= FAR
    alike = [row for row in others if off and not row["worse"] and 1 / FAR <= row["spread"] <= FAR]
    itself = f"; the model scales its inputs itself ({seen['rescaling']})" if seen["rescaling"] else ""
    if better or alike:
        best = max(better or alike, key=lambda row: (row in alike, abs(row["value"] - start["value"])))
        yield (
            f"the data seems not to be scaled as in the model's training: it reaches from {low:.3g} to {high:.3g}, where the "
            f"{name} of some validation items is {shown(start)}; with {best['way']} it is {shown(best)}{itself}"
        )
    elif off:
        yield (
            f"what arrives at {seen['normalization']} varies {start['spread']:.3g} times as much as in the model's training: is "
            f"this data like what it was trained on? No usual scaling of the inputs makes it alike{itself}"
        )
