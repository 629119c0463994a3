"""What a job's own process does: it settles, does the job, and says how that went."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.errors import ResultLost
from autoopt.execution import trouble
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job
from autoopt.execution.workplace import Workplace
from autoopt.system import gpus, lifeline, locks

BEGUN = b"begun"
"""What a job says when it can be frozen."""


@dataclass(frozen=True)
class Assignment:
    """A job with where it works: what its process is told.

    Attributes:
        job: the job.
        workplace: of the study.
        folder: for everything temporary.
        gpu: see `gpus.environment`.
    """

    job: Job
    workplace: Workplace
    folder: Path
    gpu: str | None = None


def do(answer: Any, given: Assignment, meeting: str) -> None:
    """Do the job, leave its result in the store and say in `answer` how it went."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    lifeline.end_with_supervisor()
    answer.send_bytes(BEGUN)
    _settle(given, meeting)
    lifeline.die_first()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_DFL)
    try:
        log = os.open(given.workplace.log(given.job.key), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    except OSError:  # a full disk must be told by the result, which a log can't be
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    started, clock = time.time(), time.monotonic()
    ended = _attempt(given, clock)
    ended |= {"started": started, "ended": time.time(), "seconds": time.monotonic() - clock}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    answer.send_bytes(json.dumps(ended).encode())  # through a pipe, for there may be no room for a file


def _settle(given: Assignment, meeting: str) -> None:
    """Have everything temporary go to the job's own folder, locks stay where all processes meet, and see its GPU alone."""
    for name in ("PYTHONSAFEPATH", lifeline.VARIABLE):
        os.environ.pop(name, None)
    os.environ |= {"TMPDIR": str(given.folder), locks.MEETING: meeting, **gpus.environment(given.gpu)}
    tempfile.tempdir = str(given.folder)


def _attempt(given: Assignment, clock: float) -> dict[str, Any]:
    from autoopt.execution.jobs import JOBS, Context

    job, workplace = given.job, given.workplace
    store = Store(Path(workplace.store))

    def progress(text: str) -> None:
        with contextlib.suppress(OSError):  # only for people who watch
            workplace.progress(job.key).write_text(text, encoding="utf-8")

    def foretell(seconds: float) -> None:
        with contextlib.suppress(OSError):  # without it, the limit is another
            workplace.foretold(job.key).write_text(f"{seconds:.0f}", encoding="utf-8")

    try:
        progress("")
        parents = []
        for key in job.parents:
            data = store.get(key)
            if data is None:
                raise ResultLost(f"the store lost a result that {job.name} needs; run the same command again")
            parents.append(data)
        context = Context(
            store=store,
            parents=parents,
            settings=job.settings,
            threads=workplace.threads,
            progress=progress,
            foretell=foretell,
        )
        result = JOBS[job.name].body(context)
        store.put(job.key, result, seconds=time.monotonic() - clock)
    except Exception as error:  # the one broad net: whatever a job raises becomes its outcome
        with contextlib.suppress(OSError):  # as above
            traceback.print_exc()
        return trouble.describe(error, folders=[store.root, given.folder], most_bytes=workplace.job_bytes)
    return {"state": "done"}
