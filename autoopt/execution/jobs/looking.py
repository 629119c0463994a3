"""Jobs that look at a model and its data before anything is made of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from autoopt.compression import layer_costs
from autoopt.compression.training import outputs_in_parts
from autoopt.execution import input_scaling
from autoopt.execution.jobs.context import Context, limit_threads, to_json
from autoopt.models import loading
from autoopt.models.answers import Answers, peeked
from autoopt.models.labels import loss_name
from autoopt.models.opaque import ClosedModel
from autoopt.tflite import interpreter


def survey(context: Context) -> bytes:
    """What a packed model's layers hold, and what its calibration set looks like.

    Returns:
        JSON: `layers` (`layer`, `kind`, `weights`, `multiply_adds`, `dead`), `range` of the inputs, `calibration`
        (items by class, as the model sees them), `constant` (items of one value).
    """
    limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    calibration, closed = context.split("calibration"), isinstance(model, ClosedModel)
    inputs = list(calibration.inputs.values())
    outputs: Answers = (
        interpreter.outputs_in_parts(model.file, calibration.inputs, context.threads)
        if closed
        else outputs_in_parts(model, calibration)
    )
    manifest = context.manifest()
    single = manifest.metric["function"] is None and "meaning" not in manifest.metric
    some, outputs = peeked(outputs)
    counts = []
    if single or ("categorical" in loss_name(manifest.loss) and some.ndim == 2):
        classes, meaning = max(2, some.shape[-1]), manifest.meaning(some)
        predicted = np.concatenate([meaning.predicted(part)[:, 0] for part in outputs])
        counts = np.bincount(np.clip(predicted, 0, classes - 1), minlength=classes).tolist()
    return to_json(
        {
            "layers": [] if closed else [dataclasses.asdict(cost) for cost in layer_costs.costs(model)],
            "range": [float(min(a.min() for a in inputs)), float(max(a.max() for a in inputs))],
            "calibration": counts,
            "constant": sum(_constant([a[i] for a in inputs]) for i in range(len(calibration))),
        }
    )


def _constant(item: Sequence[np.ndarray]) -> bool:
    """Whether an item's inputs of more than one value are all one value each."""
    large = [array for array in item if array.size > 1]
    return bool(large) and all(bool((array == array.flat[0]).all()) for array in large)


def scalings(context: Context) -> bytes:
    """Whether data is scaled as a packed model expects it.

    Returns:
        JSON: see `scaling.examined`.
    """
    limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    return to_json(input_scaling.examined(model, context.manifest(), context.split("validation"), context.threads))
