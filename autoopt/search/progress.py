"""Says what a search is doing while it runs, to whoever wants to know."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.results import Results

RECORD_S = 1.0
"""Seconds between two writings of what the driver is at."""
_last_front: list[Any] = []
"""Candidates and their front: it is drawn several times a second, and of thousands takes half a second to find."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A search at one moment.

    Attributes:
        done: candidates that have ended.
        failed: of them, those that failed.
        total: candidates in all.
        running: number, recipe, job and what the job is at, for each job at work.
        hits: results that the store already held.
        elapsed_s: seconds since the run began.
        hours: limit of the run, or None.
        candidates: those that have ended.
        objectives: names of metrics.
        metrics: by name.
        budgets: of the study.
        quality: name of the task's metric.
        skipped: recipes that were not trained, or not to their end, for that could not pay.
        earlier: of those done, how many an earlier run had done.
        reading: how far the reading of the task's data is, before there is a candidate.
    """

    done: int
    failed: int
    total: int
    running: tuple[tuple[int, str, str, str], ...] = ()
    hits: int = 0
    elapsed_s: float = 0.0
    hours: float | None = None
    candidates: tuple[Candidate, ...] = ()
    objectives: tuple[str, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    quality: str = ""
    skipped: int = 0
    earlier: int = 0
    reading: str = ""

    def front(self) -> list[Candidate]:
        """The front so far."""
        if not self.objectives:
            return []
        if not _last_front or _last_front[0] is not self.candidates:
            found = Results(
                study="",
                metrics=self.metrics,
                quality=self.quality,
                objectives=self.objectives,
                budgets=self.budgets,
                candidates=self.candidates,
            ).front()
            _last_front[:] = [self.candidates, found]
        return list(_last_front[1])

    def left_s(self) -> float | None:
        """Seconds left at the pace so far, or None before there is a pace."""
        by_time = None if self.hours is None else max(0.0, self.hours * 3600 - self.elapsed_s)
        made = self.done - self.earlier
        if made < 3:
            return by_time
        by_count = self.elapsed_s / made * max(0, self.total - self.done)
        return by_count if by_time is None else min(by_count, by_time)


class Spending(Protocol):
    """Where a run's time went, in seconds."""

    jobs: float
    saved: float
    wall: float
    hits: int

    @property
    def overhead(self) -> float:
        """In which no job was at work."""


class View(Protocol):
    """Shows a search. Used as a context manager around it."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def note(self, text: str) -> None:
        """Something a person should read."""

    def call(self, text: str) -> None:
        """Something that keeps candidates from going on, and that a person has to see to."""

    def update(self, snapshot: Snapshot) -> None:
        """Called several times a second."""

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """A candidate has ended."""

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """The run has ended."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to take down."""

    def note(self, text: str) -> None:
        """Shows nothing."""

    def call(self, text: str) -> None:
        """Shows nothing: notes have said so already."""

    def update(self, snapshot: Snapshot) -> None:
        """Shows nothing."""

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Shows nothing."""

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """Shows nothing."""


class Recorder(Silent):
    """Another view, and a small file for whoever watches from outside (the dashboard).

    Args:
        view: the other one.
        path: of the file.
        call: is told in place of that view what a person has to see to.
    """

    def __init__(self, view: View, path: Path, call: Callable[[str], None] = lambda text: None) -> None:
        self._view, self._path, self._call = view, path, call
        self._last = -math.inf

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._view.__exit__(*exception)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._view.note(text)

    def call(self, text: str) -> None:
        """Tell who was named for it."""
        self._call(text)

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Pass it on."""
        self._view.candidate(candidate, metrics, baseline)

    def update(self, snapshot: Snapshot) -> None:
        """Pass it on, and write it down once a second at most."""
        self._view.update(snapshot)
        if time.monotonic() - self._last > RECORD_S:
            plain = {
                name: getattr(snapshot, name) for name in ("done", "failed", "total", "running", "hits", "elapsed_s")
            }
            part = self._path.with_suffix(".part")
            with contextlib.suppress(OSError):  # only for people who watch: not worth waiting for the disk either
                part.write_text(json.dumps(plain | {"left_s": snapshot.left_s()}), encoding="utf-8")
                part.replace(self._path)
            self._last = time.monotonic()

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """Pass it on."""
        self._view.finish(snapshot, spent, why)
