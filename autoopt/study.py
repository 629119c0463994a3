"""The search: Optuna asks and is told, the engine does the jobs, the study's folder keeps everything.

One driver process owns the study. Killed at any moment, the same command goes on: trials that were
running are taken up again under their numbers, and what the store holds is not made twice.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt import budgets as budget_syntax
from autoopt import measure, pipeline
from autoopt.candidate import Candidate
from autoopt.engine import Engine, default_job_bytes, default_slots
from autoopt.errors import CandidateFailed, ConfigError, TargetUnavailable
from autoopt.export import SavedResults, load, read_candidate
from autoopt.folder import StudyConfig, StudyFolder
from autoopt.metrics import STANDARD, Measurement, Metric
from autoopt.pipeline import Plan, Setting
from autoopt.process import Outcome, Workplace
from autoopt.progress import Silent, Snapshot, View
from autoopt.proposals import Proposal, Proposals, one_line_errors
from autoopt.recipe import SCHEMES, Finetune, Recipe
from autoopt.store import Store, write_atomically
from autoopt.targets.host import processor

ATTEMPTS = 3
"""A candidate whose machine was lost this often counts as failed."""
TICK_S = 0.25


def run(
    study: str | os.PathLike[str],
    *,
    trials: int | None = None,
    hours: float | None = None,
    scheduler: str | None = None,
    store: str | os.PathLike[str] | None = None,
    view: View | None = None,
    recipes: Sequence[Recipe] = (),
) -> SavedResults:
    """Search, or go on searching, and write the report.

    Args:
        study: the study's folder.
        trials: candidates in all, in place of the study's own number.
        hours: after which no new candidate is begun, in place of the study's own.
        scheduler: address of a running Dask scheduler; by default jobs run on this machine.
        store: folder of the store in place of `out/store`; on a cluster one that all machines see.
        view: shows progress; by default nothing is shown.
        recipes: make just these, even from outside the space, instead of searching.

    Returns:
        the results, as `autoopt.load(study)` gives them.

    Raises:
        ConfigError: if task, space or settings are wrong, or are not those the study began with.
        TargetUnavailable: if it can't go on now; the same command goes on later.
    """
    folder = StudyFolder(study)
    config = folder.config()
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.lock())
        shown = stack.enter_context(view or Silent())
        search = Search(
            folder, config, shown, trials=trials, hours=hours, scheduler=scheduler, store=store, recipes=recipes
        )
        search.run()
    results = load(folder.path)
    write_outputs(folder, results)
    return results


def write_outputs(folder: StudyFolder, results: SavedResults) -> None:
    """Write `candidates.csv`, the report, and the recommended candidate's bundle."""
    from autoopt import report

    write_atomically(folder.out / "candidates.csv", results.to_csv().encode())
    report.write(results, folder.report)
    picked = results.pick().candidate
    if picked is not None:
        results.export(picked.number, folder.pick, replace=True)


@dataclass
class Running:
    """A candidate that is being made."""

    proposal: Proposal
    plan: Plan
    attempts: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)


@dataclass
class Spent:
    """Where the time of one run went, in seconds."""

    jobs: float = 0.0
    saved: float = 0.0
    busy: float = 0.0
    hits: int = 0
    wall: float = 0.0
    _until: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one job that ended."""
        if outcome.cached:
            self.saved += outcome.seconds
            self.hits += 1
        elif outcome.ended:
            self.jobs += outcome.seconds
            # Jobs end in order of time: only what lies behind the last end seen is new.
            start = max(outcome.started, self._until)
            self.busy += max(0.0, outcome.ended - start)
            self._until = max(self._until, outcome.ended)


class Search:
    """One run of a study. See `run` for the arguments."""

    def __init__(
        self,
        folder: StudyFolder,
        config: StudyConfig,
        view: View,
        *,
        trials: int | None,
        hours: float | None,
        scheduler: str | None,
        store: str | os.PathLike[str] | None,
        recipes: Sequence[Recipe],
    ) -> None:
        self.folder, self.config, self.view = folder, config, view
        self.trials = config.trials if trials is None else trials
        self.hours = config.hours if hours is None else hours
        self.scheduler = scheduler
        self.recipes = recipes
        if store is not None:
            write_atomically(folder.store_note, f"{Path(store).resolve()}\n".encode())
        self.store = Store(folder.store())
        self.spent = Spent()
        self.started = time.time()
        self.running: dict[int, Running] = {}
        self.candidates: dict[int, Candidate] = {}
        self.seen: dict[str, int] = {}
        self.counted: set[str] = set()
        self.stopping = ""
        self.opened = False
        self.task: dict[str, Any] = {}
        self.setting: Setting
        self.proposals: Proposals
        self.engine: Engine

    # ---- the whole run

    def run(self) -> None:
        """Start the engine, check the task, search until there is a reason to stop."""
        slots = self.config.slots or default_slots()
        limits = self.config.limits
        workplace = Workplace(
            store=str(self.store.root.resolve()),
            mark=uuid.uuid4().hex,
            threads=max(1, (os.cpu_count() or 1) // slots),
            job_seconds=limits.job_seconds,
            job_bytes=limits.job_bytes or default_job_bytes(slots),
        )
        workplace.claim()
        with (
            self._interrupts(),
            one_line_errors(self.folder.database),
            Engine(workplace, slots, self.scheduler) as self.engine,
        ):
            try:
                self._read_task()
                self.proposals = self._open()
                self.opened = True
                self._resume()
                self._enqueue_first()
                self._search()
            finally:
                self.spent.wall = time.time() - self.started
                if self.opened:
                    self._write_header()
        self.view.finish(self._snapshot(), self.spent, self.stopping)

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Ctrl-C once: begin nothing new; twice: end the jobs. Only where signals can be had."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(_number: int, _frame: object) -> None:
            if self.stopping == "interrupted":
                raise KeyboardInterrupt
            self.stopping = "interrupted"
            self.view.note("stopping: running candidates finish first; press Ctrl-C again to stop at once")

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            raise TargetUnavailable("stopped; run the same command again to go on") from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _read_task(self) -> None:
        """Run the user's task in a job, and take over what it found."""
        self.view.note(f"reading {self.config.task}")
        path = self.config.task.resolve()
        nonce = f"{os.getpid()} {time.time_ns()}"  # never from the store: its data may have changed
        job = pipeline.job("task", {"path": str(path)}, salt=nonce)
        self.engine.submit(job)
        outcome = self._wait_for(job.key)
        result = self.store.get(job.key) if outcome.state == "done" else None
        self.store.path(job.key).unlink(missing_ok=True)
        self.engine.release(job.key)
        if outcome.state in ("unavailable", "blocked"):
            raise TargetUnavailable(outcome.reason)
        if result is None:
            raise ConfigError(outcome.reason if outcome.state == "config" else f"{path}: {outcome.reason}")
        self.task = json.loads(result)
        for warning in self.task["warnings"]:
            self.view.note(f"warning: {warning}")
        self.setting = Setting(
            task=self.task["manifest"],
            fingerprint=self.task["fingerprint"],
            model=self.task["model"],
            target=self.config.target,
            machine="cluster" if self.scheduler else f"{processor()} x{os.cpu_count()}",
            threads=self.config.threads,
        )
        quality = self.task["metric"]
        self.quality = Metric(name=quality["name"], direction=quality["direction"], unit=quality["unit"])
        self.metrics = {self.quality.name: self.quality, **STANDARD}
        self.objectives = tuple(self.quality.name if o == "quality" else o for o in self.config.objectives)
        for name in self.objectives:
            if name not in self.metrics:
                known = ", ".join(self.metrics)
                raise ConfigError(f"{self.folder.path}/study.yaml: objectives: unknown metric {name!r}; known: {known}")
        try:
            self.budgets = tuple(budget_syntax.parse(text, self.metrics) for text in self.config.budgets)
        except ConfigError as error:
            raise ConfigError(f"{self.folder.path}/study.yaml: {error}") from error
        self.defaults = Finetune(**self.task["finetune"])

    def _wait_for(self, key: str) -> Outcome:
        while True:
            self.engine.ended(timeout=TICK_S)
            outcome = self.engine.outcome(key)
            self.view.update(self._snapshot())
            if outcome is not None:
                self.spent.add(outcome)
                return outcome
            if self.stopping:
                raise TargetUnavailable("stopped; run the same command again to go on")

    def _search(self) -> None:
        deadline = math.inf if self.hours is None else self.started + self.hours * 3600
        while True:
            if not self.stopping and time.time() >= deadline:
                self.stopping = "time is up"
            self._fill()
            if not self.running:
                break
            self.view.update(self._snapshot())
            if self.engine.ended(timeout=TICK_S) is not None:
                for running in list(self.running.values()):
                    self._collect(running)

    def _fill(self) -> None:
        """Begin candidates as long as there is room, something to do, and no reason to stop."""
        baseline_first = 0 not in self.candidates
        room = 1 if baseline_first else self.engine.slots + 1
        while len(self.running) < room and not self.stopping:
            if len(self.candidates) + len(self.running) >= self.trials:
                self.stopping = "all trials are done"
            elif not self._begin():
                self.stopping = "the space is exhausted: every recipe in it has been tried"

    # ---- what was begun before, what comes next

    def _open(self) -> Proposals:
        proposals = Proposals(
            self.folder.database,
            self.config.space,
            self.defaults,
            [self.metrics[name] for name in self.objectives],
            self.config.sampler,
            self.config.seed,
        )
        facts = {
            "task": self.task["fingerprint"],
            "objectives": list(self.objectives),
            "target": f"{self.config.target}, {self.config.threads} threads",
        }
        proposals.require_same(facts, self.folder.path)
        return proposals

    def _resume(self) -> None:
        """Take up what an earlier run left: finished candidates, and trials that were running."""
        for proposal in self.proposals.earlier():
            self.seen[proposal.recipe.digest] = proposal.number
            candidate = read_candidate(self.folder.candidate_file(proposal.number))
            if candidate is None:  # not finished, or its file was damaged: the store has what was done
                self._launch(proposal, proposal.attempts)
            else:
                self.candidates[proposal.number] = candidate
                self._tell(proposal, candidate)
        if self.candidates or self.running:
            self.view.note(
                f"going on: {len(self.candidates)} candidates are done, {len(self.running)} were interrupted"
            )

    def _enqueue_first(self) -> None:
        """The baseline before all else; its schemes; then what was asked for by name."""
        if not self.seen:
            self.proposals.enqueue(Recipe(seed=self.config.seed), "baseline")
        elif 0 in self.candidates and not self.recipes:
            self._enqueue_schemes()
        if self.recipes:
            unseen = {r.digest: r for r in self.recipes if r.digest not in self.seen}
            for recipe in unseen.values():
                self.proposals.enqueue(recipe, "search")
            self.trials = len(self.seen) + len(unseen) + (0 if self.seen else 1)

    def _enqueue_schemes(self) -> None:
        """The space's post-training schemes: they cost seconds, and all else is read against them."""
        knob = self.config.space.knobs["scheme"]
        for name in SCHEMES:
            recipe = Recipe(scheme=name, seed=self.config.seed)
            if name in knob and not SCHEMES[name].qat and recipe.digest not in self.seen:
                self.proposals.enqueue(recipe, "scheme")

    def _begin(self) -> bool:
        """Launch a recipe not seen before; False if there is none left."""
        proposal = self.proposals.ask(self.seen, len(self.seen))
        if proposal is not None:
            self._launch(proposal)
        return proposal is not None

    def _tell(self, proposal: Proposal, candidate: Candidate) -> None:
        if proposal.trial is None:
            return
        reference = self.candidates.get(0, candidate)
        excesses = {}
        for budget in self.budgets:
            value, base = candidate.value(budget.metric), reference.value(budget.metric)
            if value is not None:
                scale = abs(budget.bound(base)) or 1.0  # budgets of all units weigh alike
                excesses[budget.text] = budget.margin(value, base) / scale
        values = None if candidate.failed else [candidate.measurements[o].value for o in self.objectives]
        self.proposals.tell(proposal.trial, values, excesses)

    # ---- candidates: launching, collecting, keeping

    def _launch(self, proposal: Proposal, attempts: int = 0) -> None:
        self.seen[proposal.recipe.digest] = proposal.number
        running = Running(proposal=proposal, plan=pipeline.plan(proposal.recipe, self.setting), attempts=attempts)
        self.running[proposal.number] = running
        for job in running.plan.jobs:
            self.engine.submit(job)

    def _collect(self, running: Running) -> None:
        """Note which of a candidate's jobs have ended; finish it when all have, or one went wrong."""
        for job in running.plan.jobs:
            if job.key in running.outcomes:
                continue
            outcome = self.engine.outcome(job.key)
            if outcome is None:
                continue
            running.outcomes[job.key] = self._count(outcome)
            if outcome.state == "blocked":
                raise TargetUnavailable(outcome.reason)
            if outcome.state == "unavailable":
                self._interrupted(running, outcome)
                return
            if outcome.state in ("failed", "config"):
                self._finish(running, self._failed(running, outcome.stage or outcome.name, outcome.reason))
                return
        if len(running.outcomes) == len(running.plan.jobs):
            try:
                candidate = self._assemble(running)
            except CandidateFailed as error:
                candidate = self._failed(running, error.stage, error.reason)
            self._finish(running, candidate)

    def _count(self, outcome: Outcome) -> Outcome:
        """Count an outcome once; for a second candidate that shares the job it is saved time."""
        if outcome.key in self.counted and outcome.state == "done":
            outcome = dataclasses.replace(outcome, cached=True)
        self.counted.add(outcome.key)
        self.spent.add(outcome)
        return outcome

    def _interrupted(self, running: Running, outcome: Outcome) -> None:
        """Something outside the candidate went wrong: try again, but not for ever."""
        running.attempts += 1
        if running.attempts >= ATTEMPTS:
            reason = f"its machine was lost {ATTEMPTS} times (last: {outcome.reason})"
            self._finish(running, self._failed(running, outcome.stage or outcome.name, reason))
            return
        self.view.note(f"#{running.proposal.number}: {outcome.reason}; trying again")
        running.proposal.lost(running.attempts)
        self._release(running)
        self._launch(running.proposal, running.attempts)

    def _release(self, running: Running) -> None:
        del self.running[running.proposal.number]
        for job in running.plan.jobs:
            self.engine.release(job.key)

    def _finish(self, running: Running, candidate: Candidate) -> None:
        write_atomically(self.folder.candidate_file(candidate.number), json.dumps(candidate.to_dict()).encode())
        self._release(running)
        self.candidates[candidate.number] = candidate
        self._tell(running.proposal, candidate)
        self.view.candidate(candidate, self.metrics, self._baseline())
        if candidate.origin == "baseline":
            if candidate.failed:
                raise CandidateFailed(
                    candidate.failed_stage, f"the baseline itself can't be measured: {candidate.reason}"
                )
            self._write_header()
            if not self.recipes:
                self._enqueue_schemes()

    def _baseline(self) -> Candidate | None:
        return self.candidates.get(0)

    def _seconds(self, running: Running) -> tuple[float, float]:
        own = [o for o in running.outcomes.values() if o.state == "done"]
        return sum(o.seconds for o in own if not o.cached), sum(o.seconds for o in own if o.cached)

    def _failed(self, running: Running, stage: str, reason: str) -> Candidate:
        seconds, saved = self._seconds(running)
        return Candidate(
            number=running.proposal.number,
            recipe=running.proposal.recipe,
            origin=running.proposal.origin,
            failed_stage=stage,
            reason=reason,
            seconds=seconds,
            seconds_saved=saved,
        )

    def _assemble(self, running: Running) -> Candidate:
        """A candidate from the results of its jobs."""
        found = {}
        for name, key in running.plan.results.items():
            data = self.store.get(key)
            if data is None:
                raise TargetUnavailable(
                    f"the store lost the {name} of #{running.proposal.number}; run the same command again"
                )
            found[name] = json.loads(data)
        proof = found["proof"]
        measurements = {
            self.quality.name: Measurement.from_dict(found["accuracy"]["measurement"]),
            "size_bytes": Measurement.exact(proof["size_bytes"], "bytes of the file"),
            "compressed_bytes": Measurement.exact(proof["compressed_bytes"], "bytes after gzip -9"),
            "memory_bytes": measure.repeated(
                found["memory"]["bytes"], "peak resident memory of load and one run, fresh process"
            ),
            **self._latency(running, found["latency"]["pairs"]),
        }
        seconds, saved = self._seconds(running)
        return Candidate(
            number=running.proposal.number,
            recipe=running.proposal.recipe,
            origin=running.proposal.origin,
            measurements=measurements,
            proof=proof["contents"],
            report=proof["reports"],
            file=running.plan.file,
            sha256=proof["sha256"],
            outcomes=found["accuracy"]["outcomes"],
            seconds=seconds,
            seconds_saved=saved,
        )

    def _latency(self, running: Running, pairs: list[list[tuple[int, int]]]) -> dict[str, Measurement]:
        """Latency as a ratio to the baseline, and in ms: the ratio times what the baseline took."""
        protocol = f"batch 1, {self.config.threads} thread(s), {len(pairs)} fresh processes, 10th percentiles"
        baseline = self._baseline()
        if running.proposal.origin == "baseline":
            per_process = [measure.p10([ns for pair in process for ns in pair]) / 1e6 for process in pairs]
            return {
                "latency_ratio": Measurement.exact(1.0, "by definition"),
                "latency_ms": measure.repeated(per_process, protocol),
            }
        assert baseline is not None  # it is launched alone, before all others
        ratio = measure.latency_ratio(pairs, f"{protocol}, interleaved with the baseline")
        by = baseline.measurements["latency_ms"].value
        return {"latency_ratio": ratio, "latency_ms": measure.scale(ratio, by, f"ratio to the baseline x {by:.4g} ms")}

    # ---- for people

    def _write_header(self) -> None:
        """What `autoopt.load` needs beside the candidates."""
        from importlib.metadata import version

        quality = {"name": self.quality.name, "direction": self.quality.direction, "unit": self.quality.unit}
        before = {}
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(self.folder.header.read_text(encoding="utf-8"))["provenance"].get("time", {})
        spent = {
            "jobs_s": round(self.spent.jobs + before.get("jobs_s", 0.0), 1),
            "saved_by_store_s": round(self.spent.saved + before.get("saved_by_store_s", 0.0), 1),
            "overhead_s": round(self.overhead() + before.get("overhead_s", 0.0), 1),
        }
        header = {
            "study": self.folder.name,
            "quality": quality,
            "objectives": list(self.objectives),
            "budgets": [b.text for b in self.budgets],
            "provenance": {
                "folder": str(self.folder.path),
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "autoopt": version("autoopt"),
                "python": platform.python_version(),
                "libraries": pipeline.library_versions(),
                "target": self.config.target,
                "processor": processor(),
                "cores": os.cpu_count(),
                "threads": self.config.threads,
                "seed": self.config.seed,
                "sampler": self.config.sampler,
                "space": self.config.space.source,
                "items": self.task["items"],
                "class_names": self.task["class_names"],
                "task": self.task["fingerprint"],
                "warnings": self.task["warnings"],
                "time": spent if self.spent.wall else before,
            },
        }
        write_atomically(self.folder.header, json.dumps(header, indent=1).encode())

    def overhead(self) -> float:
        """Seconds of this run in which no job was at work."""
        return max(0.0, self.spent.wall - self.spent.busy)

    def _snapshot(self) -> Snapshot:
        notes = self.engine.running()
        rows = []
        for running in self.running.values():
            for job in running.plan.jobs:
                if job.key in notes:
                    rows.append((running.proposal.number, running.proposal.recipe.label(), job.name, notes[job.key]))
                    break
        return Snapshot(
            done=len(self.candidates),
            failed=sum(c.failed for c in self.candidates.values()),
            total=self.trials,
            running=tuple(rows),
            hits=self.spent.hits,
            elapsed_s=time.time() - self.started,
            hours=self.hours,
            candidates=tuple(self.candidates.values()),
            objectives=self.objectives if self.opened else (),
            metrics=self.metrics if self.opened else {},
            budgets=self.budgets if self.opened else (),
            quality=self.quality.name if self.opened else "",
        )
