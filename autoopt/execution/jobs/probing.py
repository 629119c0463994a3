"""A job that finds out what each technique does to a model's layers, one at a time."""

from autoopt.compression import layer_probes
from autoopt.core.probes import Probes
from autoopt.execution.jobs.context import Context, limit_threads, to_json
from autoopt.models import loading
from autoopt.models.opaque import ClosedModel


def probe(context: Context) -> bytes:
    """Probe the layers of a packed model that the setting `layers` names, or all of them where it names none.

    The items are of the training data: what is chosen by them says nothing yet of the others.

    Returns:
        JSON: see `Probes.to_dict`.
    """
    limit_threads(context.threads)
    model, _ = loading.unpack(context.parents[0])
    if isinstance(model, ClosedModel):
        return to_json(Probes(reason=model.why).to_dict())
    train = context.split("train")
    found = layer_probes.probe(
        model, context.manifest(), train, context.settings.get("layers", ()), progress=context.progress
    )
    return to_json(found.to_dict())
