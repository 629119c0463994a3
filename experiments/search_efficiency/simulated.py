"""A search without training: an engine that does each job in the seconds that it took when the table was made.

The driver, the agenda and the bounds are autoopt's own; results and seconds of jobs are the table's, and the clock is moved
when somebody waits for it. One slot, so that the clock counts what a single trainer works.
"""

import csv
import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt import targets
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import STANDARD, Measurement, Metric
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.execution.job_process import Outcome
from autoopt.search.agenda import Agenda
from autoopt.search.driver import Driver
from autoopt.search.early_stopping import Foresight
from autoopt.search.progress import Silent
from autoopt.search.sampler import Proposals
from autoopt.search.time_accounting import Spent
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.study.ledger import Ledger
from autoopt.study.objectives import Terms
from autoopt.study.search_options import Strategy

QUALITY = Metric(name="accuracy", direction="max", unit="fraction")
OBJECTIVES = ("accuracy", "latency_ms", "compressed_bytes")
SETTING = Setting(task="task", fingerprint="print", model="model", target=targets.find("host", 1), machine="simulated")
PROBE_S = 2.0
"""What a one-shot file is counted with: about what converting takes, for nothing is trained."""
TRAINS = ("prune", "cluster", "qat")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A recipe of the table.

    Attributes:
        recipe: what it is.
        accuracy: on the validation split; None if it failed, as are the others then.
        latency_ms: on the machine that made the table.
        compressed_bytes: of its file.
        one_shot_bytes: of its file before training; 0 where nothing is trained.
        reached: by stage the accuracy when the stage was first judged, and at its best epoch.
        jobs: key, name and seconds of each.
    """

    recipe: Recipe
    accuracy: float | None
    latency_ms: float
    compressed_bytes: float
    one_shot_bytes: float
    reached: Mapping[str, Sequence[float]]
    jobs: tuple[tuple[str, str, float], ...]

    @property
    def point(self) -> tuple[float, ...] | None:
        """The objectives, smaller is better; None if it failed."""
        return None if self.accuracy is None else (-self.accuracy, self.latency_ms, self.compressed_bytes)


def table(path: Path) -> dict[str, Row]:
    """The rows of a table that `table.py` wrote, by the recipes' digests."""
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            recipe = Recipe.from_json(row["recipe"])
            found[recipe.digest] = Row(
                recipe=recipe,
                accuracy=None if row["failed"] else float(row["accuracy"]),
                latency_ms=float(row["latency_ms"] or 0),
                compressed_bytes=float(row["compressed_bytes"] or 0),
                one_shot_bytes=float(row["one_shot_bytes"] or 0),
                reached=json.loads(row["reached"]),
                jobs=tuple((key, name, float(seconds or 0)) for key, name, seconds in json.loads(row["jobs"])),
            )
    return found


class Simulated:
    """An engine with one slot, and a clock.

    Args:
        rows: of the table.
        store: a place for results.
    """

    slots = 1

    def __init__(self, rows: Mapping[str, Row], store: Store) -> None:
        self.store, self.now, self.free = store, 0.0, 0.0
        self.known: dict[str, tuple[float, bytes]] = {}
        self.fails: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}
        self._ends: dict[str, float] = {}
        base = next(row for row in rows.values() if row.recipe == SETTING.baseline)
        for row in rows.values():
            self._know(row, base)

    def _know(self, row: Row, base: Row) -> None:
        """Take over seconds and results of a row's jobs, with and without a job of its own for the first epochs."""
        if row.accuracy is None:
            self.fails.add(job_graph.plan(row.recipe, SETTING).results["proof"])
        reports: list[dict[str, Any]] = []
        left = list(row.jobs)
        for begin in (False, True):
            plan, reports, left = job_graph.plan(row.recipe, SETTING, begin=begin), [], list(row.jobs)
            results = {key: name for name, key in plan.results.items()}
            for job in plan.jobs:
                seconds = 0.0
                if job.name in TRAINS:
                    reports = [*reports, self._report(job, row)]
                if job.name != "begin" and (found := next((one for one in left if one[1] == job.name), None)):
                    left.remove(found)
                    seconds = found[2]
                if job.name in TRAINS:
                    data = _packed([{**report, "seconds": seconds, "epoch_seconds": seconds / 3} for report in reports])
                elif job.name == "begin":
                    stage, epochs = job.settings["stage"], job.settings["finetune"]["epochs"]
                    whole = next((one[2] for one in left if one[1] == stage), 0.0)
                    seconds = whole / epochs
                    data = json.dumps({"epochs": [{"accuracy": row.reached[stage][0]}]}).encode()
                else:
                    data = json.dumps(_result(results.get(job.key, job.name), row, base)).encode()
                if job.key not in self.known or job.key in results:
                    self.known[job.key] = seconds, data
        if row.recipe.compresses:
            probe = job_graph.probe(row.recipe, SETTING)
            weighed = dict.fromkeys(("size_bytes", "compressed_bytes", "download_bytes"), row.one_shot_bytes)
            for number, job in enumerate(probe.jobs):
                data = json.dumps(
                    weighed if job.key == probe.results["weigh"] else _result(job.name, row, base)
                ).encode()
                self.known.setdefault(job.key, (0.0 if number else PROBE_S, data))

    def _report(self, job: Job, row: Row) -> dict[str, Any]:
        first, last = row.reached.get(job.name, (0.0, 0.0))
        epochs = [{"accuracy": first}, {"accuracy": last}]
        return {"stage": job.name, "epochs": epochs, "judged_epoch": 1, "best_epoch": 2}

    # ---- as the driver sees it

    def submit(self, job: Job) -> None:
        """Do a job once its parents and the slot are free."""
        gone = [
            self._outcomes[key] for key in job.parents if key in self._outcomes and self._outcomes[key].state != "done"
        ]
        seconds, data = self.known[job.key]
        cached = self.store.seconds(job.key) is not None
        state = "failed" if job.key in self.fails or gone else "done"
        begun = max([self.now, *(self._ends.get(key, self.now) for key in job.parents)])
        if not cached and not gone:
            begun = max(begun, self.free)
            self.free = begun + seconds
        self._ends[job.key] = begun if cached or gone else begun + seconds
        if state == "done" and not cached:
            self.store.put(job.key, data, seconds)
        self._outcomes[job.key] = Outcome(
            key=job.key, name=job.name, stage=job.name, state=state, reason="" if state == "done" else "the table says so",
            seconds=seconds, cached=cached, ended=self._ends[job.key],
        )  # fmt: skip

    def ended(self, timeout: float) -> str | None:
        """Move the clock to the next end of a job."""
        ahead = [end for end in self._ends.values() if end > self.now]
        self.now = min(ahead, default=self.now + timeout)
        return None

    def outcome(self, key: str) -> Outcome | None:
        """How a job ended; None while it has not."""
        return self._outcomes.get(key) if self.now >= self._ends.get(key, self.now) else None

    def release(self, key: str) -> None:
        """A job may be submitted anew afterwards."""

    def clock(self) -> float:
        """Seconds since the start."""
        return self.now


def _result(name: str, row: Row, base: Row) -> dict[str, Any]:
    """What a job of this name finds of a row."""
    accuracy = row.accuracy or 0.0
    if name == "accuracy":
        exact = Measurement(value=accuracy, low=accuracy, high=accuracy, n=1000, how="the table")
        return {"measurement": exact.to_dict(), "agreement": None, "outcomes": "", "resamples": [], "classes": []}
    if name == "latency":
        pair = (round(row.latency_ms * 1e6), round(base.latency_ms * 1e6))
        return {"processes": [[[pair] * 5] * 2] * 5, "flags": []}
    if name == "memory":
        return {"readings": [{"memory_bytes": 5_000_000}] * 2}
    sizes = dict.fromkeys(("size_bytes", "compressed_bytes", "download_bytes"), row.compressed_bytes)
    reports = [{"stage": stage, "epochs": [{"accuracy": a} for a in reached], "judged_epoch": 1, "best_epoch": 2,
                "seconds": 1.0, "epoch_seconds": 1.0} for stage, reached in row.reached.items()]  # fmt: skip
    return {**sizes, "contents": {}, "reports": reports, "sha256": row.recipe.digest}


def _packed(reports: Sequence[Mapping[str, Any]]) -> bytes:
    """What is read of a packed model while a search runs: its reports."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("reports.json", json.dumps(list(reports)))
    return out.getvalue()


class Watching(Silent):
    """Tells of each candidate that is done."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self.told = told

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Tell its recipe's digest."""
        self.told(candidate.recipe.digest)


def study(
    folder: Path, engine: Simulated, config: StudyConfig, strategy: Strategy, sampler: str, seed: int, view: Watching
) -> Driver:
    """A search over the table.

    Args:
        folder: that is there, for the study's records.
        engine: does the jobs.
        config: of the study of which the table was made.
        strategy: which devices the search uses.
        sampler: one of `folder.SAMPLERS`.
        seed: of the sampler; the recipes' seed is the table's.
        view: told of candidates.
    """
    metrics = {QUALITY.name: QUALITY, **STANDARD}
    terms = Terms(quality=QUALITY, metrics=metrics, objectives=OBJECTIVES, budgets=())
    config = dataclasses.replace(config, search=strategy, target=SETTING.target, objectives=OBJECTIVES)
    ledger = Ledger(StudyFolder(folder), terms)
    defaults = Finetune()
    agenda: Agenda
    foresight = Foresight(strategy, SETTING, engine.store, terms, lambda recipe: agenda.siblings(recipe))
    proposals = Proposals(
        ledger.folder.database, config.space, defaults, [metrics[name] for name in OBJECTIVES], sampler, seed
    )
    proposals._seed = config.seed  # the table's
    agenda = Agenda(
        config=config,
        setting=SETTING,
        defaults=defaults,
        ledger=ledger,
        proposals=proposals,
        foresight=foresight,
        store=engine.store,
        trials=10_000,
    )
    return Driver(agenda, engine, view, Spent(), clock=engine.clock)
