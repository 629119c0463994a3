"""Writes down how the last run of a study ended, for whoever comes in the morning."""

import contextlib

from autoopt.core import json_text
from autoopt.core.last_run import LastRun
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.study.layout import Layout
from autoopt.system.files import write_atomically

LARGEST_BYTES = 100_000
"""A file over this is none of ours."""


def write(folder: Layout, run: LastRun) -> None:
    """Write a run down; where there is no room for it, it is left as it was, for the results matter more."""
    with contextlib.suppress(TargetUnavailable):
        write_atomically(folder.last_run, json_text.sealed(run.to_dict(), indent=1))


def read(folder: Layout) -> LastRun | None:
    """The last run, or None where that was not written down, or what was can't be read."""
    try:
        if folder.last_run.stat().st_size > LARGEST_BYTES:
            return None
        return LastRun.from_dict(json_text.unsealed(folder.last_run.read_bytes()))
    except (OSError, ValueError, ConfigError):
        return None
