"""Jobs of a task in processes of their own, with a store to work in."""

import json
from pathlib import Path
from typing import Any

from autoopt import targets
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.execution.job_process import run
from autoopt.execution.workplace import Workplace


def never() -> bool:
    """Nobody stops the job."""
    return False


def workplace(folder: Path) -> Workplace:
    """A place to work in, with a store in this folder."""
    (folder / "marks").mkdir(parents=True)
    (folder / "marks" / "here").touch()
    return Workplace(store=str(folder), mark="here", threads=1, job_seconds=500, job_bytes=4 << 30)


def result(place: Workplace, job: Job) -> bytes:
    """What a job left in the store."""
    data = Store(Path(place.store)).get(job.key)
    assert data is not None
    return data


def taken_in(folder: Path, place: Workplace, text: str) -> tuple[Setting, dict[str, Any]]:
    """A `task.py` of this text, read by a job: what its candidates share, and what the job told."""
    path = folder / "task.py"
    path.write_text(text)
    reading = job_graph.job("task", {"path": str(path)}, salt=str(folder))
    outcome = run(reading, place, never)
    assert outcome.state == "done", outcome.reason
    facts = json.loads(result(place, reading))
    given = {"task": facts["manifest"], "fingerprint": facts["fingerprint"], "model": facts["model"]}
    return Setting(**given, target=targets.find("host"), machine="here"), facts
