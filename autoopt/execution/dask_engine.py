"""Runs jobs through Dask: in this process by default, or on a running cluster.

A Dask worker only supervises; the job itself runs in a process of its own (see `process`). Two
resources say what a machine can do at once: `train` slots, and one `bench` for measurements.
"""

import contextlib
import itertools
import logging
import os
import queue
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Self

import psutil

from autoopt.errors import TargetUnavailable, one_line
from autoopt.execution import job_process
from autoopt.execution.job_graph import Job
from autoopt.execution.job_process import Outcome
from autoopt.execution.workplace import Workplace
from autoopt.system import scratch
from autoopt.system.locks import meeting_place

FOR_GOOD = ("done", "failed", "config")
"""States that another try would not change."""
TRAIN, BENCH = "train", "bench"
CONNECT_S = 10
RESERVED_BYTES = 2 << 30
"""Memory left to the system and the driver when jobs share the machine."""
SMALLEST_JOB_BYTES = 2 << 30
"""TensorFlow alone takes a third of it; a slot that can't have as much is not opened."""


def default_slots() -> int:
    """Training jobs at a time: one a core, as far as memory goes."""
    room = psutil.virtual_memory().total - RESERVED_BYTES
    return max(1, min(os.cpu_count() or 1, 8, room // SMALLEST_JOB_BYTES))


def default_job_bytes(slots: int) -> int:
    """This machine's memory shared by the slots, less what is reserved."""
    return max(SMALLEST_JOB_BYTES, (psutil.virtual_memory().total - RESERVED_BYTES) // slots)


def supervise(
    task_key: str, job: Mapping[str, Any], workplace: Mapping[str, Any], *parents: Mapping[str, Any]
) -> dict[str, Any]:
    """What a Dask worker does: nothing if a parent failed, else run the job and say how it went.

    Args:
        task_key: under which Dask knows this try.
        job: fields of a `Job`.
        workplace: fields of a `Workplace`.
        parents: outcomes of the jobs before it that were submitted with it.
    """
    for parent in parents:
        if parent["state"] != "done":
            return dict(parent)
    from distributed import get_worker

    task = get_worker().state.tasks.get(task_key)

    def stopped() -> bool:  # cancelled by the driver, or the engine is closing
        return _closing.is_set() or (task is not None and task.state != "executing")

    given = Job(**{**job, "parents": tuple(job["parents"])})
    return job_process.to_plain(job_process.run(given, Workplace(**workplace), stopped))


_closing = threading.Event()


@contextlib.contextmanager
def _dask_settled() -> Iterator[None]:
    """Have Dask's servers, as they start, work in a folder that nobody else enters, and import nothing from it."""
    import dask

    path = list(sys.path)
    try:
        place = scratch.place()
    except OSError as error:
        raise TargetUnavailable(
            f"{meeting_place()}: can't write temporary files ({error.strerror or error}); "
            "free space there, or set TMPDIR to another folder"
        ) from error
    with dask.config.set({"temporary-directory": str(place)}):
        yield
    sys.path[:] = [entry for entry in sys.path if entry in path]


class Engine:
    """Submits jobs and reports how they ended. Use it as a context manager.

    Args:
        workplace: for the jobs.
        slots: training jobs at a time; on a cluster the workers decide.
        scheduler: address of a running Dask scheduler, or None to run in this process.

    Raises:
        TargetUnavailable: if the cluster can't be reached or offers no resources.
    """

    def __init__(self, workplace: Workplace, slots: int, scheduler: str | None = None) -> None:
        self.workplace = workplace
        self.slots = slots
        self.scheduler = scheduler
        self._futures: dict[str, Any] = {}
        self._uses: dict[str, int] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._tries = itertools.count()
        self._client: Any = None

    def __enter__(self) -> Self:
        os.environ.setdefault("DASK_DISTRIBUTED__WORKER__DAEMON", "False")
        from distributed import Client

        for name in ("distributed", "distributed.worker", "distributed.scheduler", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _closing.clear()
        if self.scheduler is None:
            with _dask_settled(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on ports that are taken: it finds others
                self._client = Client(
                    processes=False,
                    n_workers=1,
                    threads_per_worker=self.slots + 1,
                    memory_limit=0,
                    resources={TRAIN: self.slots, BENCH: 1},
                    dashboard_address="127.0.0.1:0",
                    worker_dashboard_address="127.0.0.1:0",
                )
            return self
        try:
            self._client = Client(self.scheduler, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise TargetUnavailable(
                f"no Dask scheduler answers at {self.scheduler}; start one with `dask scheduler`"
            ) from error
        offered = [w.get("resources", {}) for w in self._client.scheduler_info(n_workers=-1)["workers"].values()]
        self.slots = int(sum(w.get(TRAIN, 0) for w in offered))
        if not self.slots or not any(w.get(BENCH) for w in offered):
            self._client.close()
            raise TargetUnavailable(
                f"no worker at {self.scheduler} offers train and bench; start them with "
                "`dask worker ADDRESS --no-nanny --nthreads 3 --resources 'train=2 bench=1'`"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self.scheduler is None:
            _closing.set()
        with contextlib.suppress(Exception):  # it is gone: nothing is left to cancel
            self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()
        with contextlib.suppress(OSError):  # likewise
            self._client.close(timeout=10)
        if self.scheduler is None and self._client.cluster is not None:
            self._client.cluster.close(timeout=10)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Say in one line that the cluster went away while it was asked something."""
        try:
            yield
        except (OSError, CancelledError) as error:
            raise TargetUnavailable(f"the engine at {self.scheduler} is gone; run the same command again") from error

    def submit(self, job: Job) -> None:
        """Have a job done after its parents; the same key is done once, however often it is submitted.

        But where the last try came to nothing that holds for good, it is tried anew, for all who submitted it.
        `ended` will give its key at least once; `release` it as often as it was submitted.
        """
        self._uses[job.key] = self._uses.get(job.key, 0) + 1
        before = self.outcome(job.key)
        if job.key in self._futures and (before is None or before.state in FOR_GOOD):
            if before is not None:
                self._ended.put(job.key)
            return
        task_key = f"{job.key}-{next(self._tries)}"  # Dask may still remember how an earlier try went
        with self._connected():
            future = self._client.submit(
                supervise,
                task_key,
                job_process.to_plain(job),
                job_process.to_plain(self.workplace),
                *[self._futures[key] for key in job.parents if key in self._futures],
                key=task_key,
                resources={BENCH if job.exclusive else TRAIN: 1},
                pure=False,
            )
        self._futures[job.key] = future
        future.add_done_callback(lambda _: self._ended.put(job.key))

    def ended(self, timeout: float) -> str | None:
        """The key of a job that has ended, or None after `timeout` seconds.

        Raises:
            TargetUnavailable: if the cluster is gone.
        """
        try:
            key = self._ended.get(timeout=timeout)
        except queue.Empty:
            key = ""
        if self._client.status not in ("running", "newly-created", "connecting"):
            raise TargetUnavailable(
                f"the engine at {self.scheduler or 'this machine'} is gone; run the same command again"
            )
        return key or None

    def outcome(self, key: str) -> Outcome | None:
        """How a job ended, or None while it has not.

        Raises:
            TargetUnavailable: if the cluster lost it.
        """
        future = self._futures.get(key)
        if future is None or not future.done():
            return None
        with self._connected():
            if future.status == "finished":
                return Outcome(**future.result(timeout=30))
            if future.status == "error":  # its worker died again and again, or could not import autoopt
                reason = one_line(future.exception(timeout=30), 300)
                return Outcome(key=key, name="engine", state="unavailable", stage="engine", reason=reason)
        raise TargetUnavailable("the engine is gone (its jobs were lost); run the same command again")

    def release(self, key: str) -> None:
        """Say that a submitted job is not needed any more."""
        self._uses[key] -= 1
        if self._uses[key] == 0:
            del self._uses[key]
            self._futures.pop(key)

    def running(self) -> dict[str, str]:
        """What each job that is being done is at, by its key."""
        found = {}
        for key, future in self._futures.items():
            if not future.done():
                note = Path(self.workplace.progress(key))
                try:
                    found[key] = note.read_text(encoding="utf-8")
                except OSError:
                    continue
        return found
