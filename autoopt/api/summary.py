"""A study in one paragraph, for who comes in the morning; also while it runs, and where nothing was measured yet."""

import os
from collections.abc import Callable

from autoopt.api.saved_study import SavedResults, load
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.reporting import morning
from autoopt.reporting.morning import Summary
from autoopt.study import run_record
from autoopt.study.folder import StudyFolder


def summary(study: str | os.PathLike[str], warn: Callable[[str], object] = lambda text: None) -> Summary:
    """A study in one paragraph: what was asked, how it ended, what to ship, what to do next.

    Args:
        study: its folder.
        warn: is told of damaged records.

    Raises:
        ConfigError: if it is no study, was never run, or its records can't be read.
    """
    folder = StudyFolder(study)
    run = run_record.read(folder)
    results = load(folder.path) if run is None or folder.header.exists() else None
    if results is not None and (damage := results.warning()):
        warn(damage)
    name = folder.name if results is None else results.study
    return morning.summarize(results, run, study=name, place=str(folder.path), at_work=folder.driver() is not None)


def so_far(folder: StudyFolder) -> SavedResults | None:
    """The results of a study that may have none, or whose folder can't be read just now; None then."""
    try:
        return load(folder.path)
    except (ConfigError, TargetUnavailable):
        return None
