"""Where jobs run: the store's folder with its notes and logs, and what a job may take."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoopt.system.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where jobs run and what they may take; plain values, so that it travels.

    Attributes:
        store: the store's folder.
        mark: name of a file that the driver left in the store's folder; tells a shared folder from a namesake.
        threads: that a job may use.
        job_seconds: after which a job is ended; infinite, if that follows from what the job
            foretells. Time in which it is frozen doesn't count.
        job_bytes: resident memory, with its children's, over which it is ended.
        gpus: of a machine, that trainings may use; None for all.
    """

    store: str
    mark: str
    threads: int
    job_seconds: float
    job_bytes: int
    gpus: int | None = None

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Leave the mark in the store, for workers to see, as long as this lasts."""
        mark = self._mark()
        write_atomically(mark, b"")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)

    def is_here(self) -> bool:
        """Whether the store of this name is the driver's."""
        return self._mark().exists()

    def _mark(self) -> Path:
        return Path(self.store, "marks", self.mark)

    def log(self, key: str) -> Path:
        """Where a job's output goes."""
        return Path(self.store, "logs", f"{key}.log")

    def foretold(self, key: str) -> Path:
        """Where a running job says how many seconds it will take in all."""
        return Path(self.store, "logs", f"{key}.seconds")

    def progress(self, key: str) -> Path:
        """Where a running job says what it is at."""
        return Path(self.store, "logs", f"{key}.progress")
