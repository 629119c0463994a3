"""The job that takes a user's task in: model and data are checked and put into the store."""

import dataclasses
import hashlib
from pathlib import Path

from autoopt.compression import augmentation
from autoopt.execution import task_checks
from autoopt.execution.jobs.context import Context, to_json
from autoopt.models import task as tasks
from autoopt.models.task import Manifest


def read_task(context: Context) -> bytes:
    """Run the user's `task.py`, check it, put model and data into the store.

    The setting `before` is the key of the manifest that the study had when it last ran, if it did.

    Returns:
        JSON: `manifest` (its key), `fingerprint`, `warnings`, `limits`, `groups`, `layers`, `tuned` (see `intake.Intake`), and the
        manifest's facts for the driver.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(context.threads)
    path = Path(context.settings["path"])
    known = context.store.get(before) if (before := context.settings.get("before")) else None
    taken = task_checks.prepare(
        tasks.load(path),
        path,
        context.store,
        before=None if known is None else Manifest.from_json(known),
        progress=context.progress,
    )
    manifest = taken.manifest
    text = manifest.to_json().encode()
    key = hashlib.sha256(text).hexdigest()
    context.store.put(key, text)
    return to_json(
        {
            "manifest": key,
            "fingerprint": manifest.fingerprint,
            "model": manifest.model,
            "warnings": taken.warnings,
            "limits": [dataclasses.asdict(limit) for limit in taken.limits],
            "groups": taken.groups,
            "layers": taken.layers,
            "tuned": taken.tuned,
            "items": dict(manifest.items),
            "metric": dict(manifest.metric),
            "finetune": dict(manifest.finetune),
            "class_names": list(manifest.class_names),
            "augment": [augmentation.name_of(each) for each in manifest.augment],
        }
    )
