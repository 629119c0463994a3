"""Jobs that say how good a `.tflite` is at its task."""

import dataclasses
import json

from autoopt.compression.training import outputs_in_parts
from autoopt.execution.jobs.context import Context, limit_threads, to_json
from autoopt.models import crosscheck, loading, quality
from autoopt.models.answers import Parts
from autoopt.models.opaque import ClosedModel
from autoopt.tflite import interpreter


def accuracy(context: Context) -> bytes:
    """Quality of the `.tflite` (first parent) on the split named by the setting `split`.

    The third parent is the baseline's result on that split; the baseline itself has none.

    Returns:
        JSON: the fields of `quality.Quality`, and `agreement` with the baseline where an item is given one class.
    """
    name = context.settings["split"]
    split, manifest = context.split(name), context.manifest()
    names = [output.name for output in manifest.outputs]
    outputs = interpreter.outputs_in_parts(context.parents[0], split.inputs, context.threads, names)
    baseline = json.loads(context.parents[2]) if len(context.parents) > 2 else {}
    how = f"LiteRT interpreter on the {name} split"
    found = quality.quality(manifest, split, outputs, how, baseline.get("protocol", ""))
    plain = dataclasses.asdict(found) | {"measurement": found.measurement.to_dict(), "agreement": None}
    if found.predictions:
        plain["agreement"] = quality.agreement(
            found.predictions, baseline.get("predictions", found.predictions)
        ).to_dict()
    return to_json(plain)


def compare_baseline(context: Context) -> bytes:
    """Whether the untouched model's float32 file (first parent) is as good as Keras says of the model (second).

    Returns:
        JSON: `keras` and `file`, the task's metric of both on the validation split; empty for a model without layers.
    """
    file, packed = context.parents
    limit_threads(context.threads)
    model, _ = loading.unpack(packed)
    if isinstance(model, ClosedModel):
        return to_json({})
    manifest, split = context.manifest(), context.split("validation")
    names = [output.name for output in manifest.outputs]
    by_file = Parts(lambda: interpreter.outputs_in_parts(file, split.inputs, context.threads, names))
    return to_json(crosscheck.compare(manifest, split, Parts(lambda: outputs_in_parts(model, split)), by_file))
