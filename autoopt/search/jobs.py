"""What a search needs of whatever does its jobs, so that a test can do them in no time."""

from typing import Protocol

from autoopt.execution.job_graph import Job
from autoopt.execution.job_process import Outcome


class Jobs(Protocol):
    """Does jobs; `dask_engine.Engine` is one."""

    slots: int

    def submit(self, job: Job) -> None:
        """Have a job done after its parents."""

    def ended(self, timeout: float) -> str | None:
        """Wait until a job has ended, for `timeout` seconds at most."""

    def outcome(self, key: str) -> Outcome | None:
        """How a job ended; None while it has not."""

    def release(self, key: str) -> None:
        """Say that a submitted job is not needed any more."""
