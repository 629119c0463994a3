"""Where, how and from what a study's results came."""

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from autoopt.execution import job_graph
from autoopt.study.folder import StudyConfig, StudyFolder


def describe(
    folder: StudyFolder, config: StudyConfig, task: Mapping[str, Any], device: Mapping[str, Any]
) -> dict[str, Any]:
    """What a reader needs to judge results, and to have them again; plain values.

    Args:
        folder: of the study.
        config: of the study.
        task: what the job that read it reported (see `jobs.task.read_task`).
        device: what the target says of itself.
    """
    return {
        "folder": str(folder.path),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "autoopt": version("autoopt"),
        "python": platform.python_version(),
        "libraries": job_graph.library_versions(),
        "target": config.target.name,
        "device": {name: value for name, value in device.items() if name != "target"},
        "threads": config.threads,
        "seed": config.seed,
        "sampler": config.sampler,
        "space": config.space.source,
        "items": task["items"],
        "class_names": task["class_names"],
        "task": task["fingerprint"],
        "warnings": task["warnings"],
    }
