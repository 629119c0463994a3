"""One run of a study: puts its parts together, and writes down what became of it.

One driver process owns the study. Killed at any moment, the same command goes on: candidates that were
at work are taken up again under their numbers, and what the store holds is not made twice.
"""

import dataclasses
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune
from autoopt.errors import ConfigError, Stopped, TargetUnavailable
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.dask_engine import Engine, default_job_bytes, default_slots
from autoopt.execution.job_graph import Setting
from autoopt.execution.job_process import Outcome
from autoopt.execution.workplace import Workplace
from autoopt.search import confirmation, finalists, identity, known_failures
from autoopt.search.agenda import Agenda
from autoopt.search.driver import TICK_S, Driver
from autoopt.search.early_stopping import Foresight
from autoopt.search.identity import Identity
from autoopt.search.interrupts import two_steps
from autoopt.search.progress import Snapshot, View
from autoopt.search.sampler import Proposals, one_line_errors
from autoopt.search.stopping import CONFIRMED, INTERRUPTED, Reason
from autoopt.search.store_limit import StoreLimit
from autoopt.search.time_accounting import Spent
from autoopt.study import objectives, provenance, records, space_fitting
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.study.ledger import Ledger
from autoopt.study.records import Header
from autoopt.system.files import write_atomically

ELSEWHERE = "measured on another machine or with other versions of the libraries"
"""Said beside a latency whose reference was measured again since."""


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
        confirm_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.config, self.view, self.clock = folder, config, view, clock
        self.confirm_only, self.recipes, self.scheduler = confirm_only, recipes, scheduler
        self.trials = config.trials if trials is None else trials
        self.hours = config.hours if hours is None else hours
        if store is not None:
            write_atomically(folder.store_note, f"{Path(store).resolve()}\n".encode())
        self.store = Store(folder.store())
        self.room = StoreLimit(store=self.store, limit=config.store_limit)
        self.spent = Spent()
        self.started = clock()
        self.earlier = 0
        self.stopping: Reason | None = None
        self.task: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
        self.setting: Setting
        self.engine: Engine
        self.driver: Driver | None = None
        self._shown: tuple[dict[int, Candidate], tuple[Candidate, ...]] | None = None

    def run(self) -> Reason:
        """Start the engine, check the task, search until there is a reason to stop, and give that."""
        slots = self.config.slots or default_slots()
        limits = self.config.limits
        workplace = Workplace(
            store=str(self.store.root.resolve()),
            mark=uuid.uuid4().hex,
            threads=max(1, (os.cpu_count() or 1) // slots),
            job_seconds=limits.job_seconds,
            job_bytes=limits.job_bytes or default_job_bytes(slots),
            gpus=self.config.gpus,
        )
        with (
            workplace.claimed(),
            two_steps(self._stop),
            one_line_errors(self.folder.database),
            Engine(workplace, slots, self.scheduler) as self.engine,
        ):
            try:
                if not self.recipes:
                    space_fitting.expect_able(self.config, f"{self.folder.path}/study.yaml")
                self.device = self.config.target.describe()
                self.room.begin(self.folder)
                self._read_task()
                reason = self._drive()
            finally:
                self.spent.wall = self.clock() - self.started
                if self.driver is not None:
                    self._write_header()
        self.view.finish(self._snapshot(), self.spent, reason.text)
        return reason

    def _drive(self) -> Reason:
        """Take up what was left, search, and confirm."""
        driver, known, written = self._open()
        self.driver = driver
        unfinished = driver.take_up()
        self.earlier = len(driver.ledger.candidates)
        if written.measured_on and written.measured_on != known.measured_on and driver.agenda.reference() is not None:
            self.view.note(f"the baseline is measured again: what is done so far was {ELSEWHERE}")
            driver.measure_again()
            confirmation.rescale(driver.agenda, ELSEWHERE)
        identity.write(self.folder.identity, dataclasses.replace(known, study=written.study))
        reason = CONFIRMED if self.confirm_only else driver.search(unfinished)
        if not self.confirm_only and not self.recipes and reason != INTERRUPTED:
            finalists.train(driver)
            reason = driver.reason or reason
        if self.confirm_only or (self.config.confirm and not self.recipes and reason != INTERRUPTED):
            confirmation.confirm(driver)
        self.room.end(driver, left=self.confirm_only)
        return reason

    def _stop(self) -> bool:
        """Begin nothing new; whether that was so already."""
        before, self.stopping = self.stopping is not None, INTERRUPTED
        if self.driver is not None:
            self.driver.stop()
        if not before:
            self.view.note("stopping: running candidates finish first; press Ctrl-C again to stop at once")
        return before

    # ---- opening

    def _read_task(self) -> None:
        """Run the user's task in a job, and take over what it found."""
        self.view.note(f"reading {self.config.task}")
        path = self.config.task.resolve()
        nonce = f"{os.getpid()} {time.time_ns()}"  # never from the store: its data may have changed
        header = records.read_header(self.folder)
        before = header.manifest if isinstance(header, Header) else ""
        settings = {"path": str(path), "before": before, "preset": self.config.preset}
        job = job_graph.job("task", settings, salt=nonce)
        self.engine.submit(job)
        outcome = self._wait_for(job.key)
        result = self.store.get(job.key) if outcome.state == "done" else None
        self.store.path(job.key).unlink(missing_ok=True)
        self.engine.release(job.key)
        if outcome.state in ("unavailable", "blocked", "waiting", "killed"):
            raise TargetUnavailable(f"{path}: {outcome.reason}; run the same command again")
        if result is None:
            raise ConfigError(outcome.reason if outcome.state == "config" else f"{path}: {outcome.reason}")
        self.task = json.loads(result)
        for warning in self.task["warnings"]:
            self.view.note(f"warning: {warning}")
        self.setting = objectives.setting(self.config, self.task, self._machine())

    def _machine(self) -> str:
        """What identifies the machine that measures; each of a cluster measures against the baseline anyway."""
        if self.scheduler and self.config.target.exclusive == "machine":
            return "cluster"
        return identity.machine(self.device)

    def _wait_for(self, key: str) -> Outcome:
        while True:
            self.engine.ended(timeout=TICK_S)
            outcome = self.engine.outcome(key)
            self.view.update(self._snapshot())
            if outcome is not None:
                self.spent.add(outcome, self.clock())
                return outcome
            if self.stopping is not None:
                raise Stopped("stopped; run the same command again to go on")

    def _open(self) -> tuple[Driver, Identity, Identity]:
        """Open the study's records: what drives it, what the study is now, and what it was when it began."""
        where = f"{self.folder.path}/study.yaml"
        judged = objectives.settle(self.config, self.task["metric"], where)
        fitted = space_fitting.fitted(self.config.space, self.task, self.config.target, self.recipes)
        ledger = Ledger(self.folder, judged)
        defaults = self._defaults()
        proposals = Proposals(
            self.folder.database,
            fitted.space,
            defaults,
            [judged.metrics[name] for name in judged.objectives],
            self.config.sampler,
            self.config.seed,
            before=fitted.before,
        )
        self.config = dataclasses.replace(self.config, space=proposals.space)
        for note in fitted.said(proposals.space):
            self.view.note(note)
        known = Identity(
            task=self.task["fingerprint"],
            objectives=judged.objectives,
            target=f"{self.config.target.name}, {self.config.threads} threads",
            space=proposals.space_digest,
            seed=self.config.seed,
            measured_on=identity.measured_on(self.setting),
        )
        written = identity.settle(self.folder, known, proposals, bool(ledger.numbers()))
        return self._driver(ledger, proposals, defaults), known, written

    def _defaults(self) -> Finetune:
        """Fine-tuning settings where the space names none."""
        tuning, items, there = Finetune(**self.task["finetune"]), self.config.search.items, self.task["items"]["train"]
        if items >= there:
            self.view.note(f"search.items: train has {there:,} items, and all are used")
        return finalists.defaults(tuning, items, there)

    def _driver(self, ledger: Ledger, proposals: Proposals, defaults: Finetune) -> Driver:
        foresight = Foresight(
            self.config.search, self.setting, self.store, ledger.terms, lambda recipe: agenda.siblings(recipe)
        )
        agenda = Agenda(
            config=self.config,
            setting=self.setting,
            defaults=defaults,
            ledger=ledger,
            proposals=proposals,
            foresight=foresight,
            store=self.store,
            trials=self.trials,
            recipes=self.recipes,
            say=self.view.note,
        )
        driver = Driver(
            agenda,
            self.engine,
            self.view,
            self.spent,
            clock=self.clock,
            deadline=math.inf if self.hours is None else self.started + self.hours * 3600,
            groups=self.task["groups"],
            turned=self._turned,
            baseline_done=self._baseline_done,
        )
        driver.reason = self.stopping
        return driver

    def _turned(self) -> None:
        self.view.update(self._snapshot())
        if self.driver is not None:
            self.room.turn(self.driver)

    # ---- for people

    def _baseline_done(self) -> None:
        self._write_header()
        if refused := known_failures.refusal(self.config.space, self.setting.target):
            self.view.note(refused)

    def _write_header(self) -> None:
        """What `autoopt.load` needs beside the candidates."""
        header = records.read_header(self.folder)
        before: Mapping[str, float] = header.provenance.get("time", {}) if isinstance(header, Header) else {}
        now = {"jobs_s": self.spent.jobs, "saved_by_store_s": self.spent.saved, "overhead_s": self.spent.overhead}
        ended = self.spent.wall > 0  # while it runs, what earlier runs spent is all that is known
        spent = {name: round(before.get(name, 0.0) + seconds, 1) for name, seconds in now.items()} if ended else before
        facts = provenance.describe(self.folder, self.config, self.task, self.device) | {"time": spent}
        if self.driver is not None:
            self.driver.ledger.write_header(self.task["manifest"], facts)

    def _snapshot(self) -> Snapshot:
        elapsed = self.clock() - self.started
        if self.driver is None:
            return Snapshot(
                done=0,
                failed=0,
                total=self.trials,
                hits=self.spent.hits,
                elapsed_s=elapsed,
                hours=self.hours,
                reading=next(iter(self.engine.running().values()), ""),
            )
        ledger, runs = self.driver.ledger, self.driver.runs.values()
        if self._shown is None or self._shown[0] is not ledger.candidates:  # the same tuple while nothing is new
            self._shown = ledger.candidates, tuple(ledger.candidates.values())
        candidates = self._shown[1]
        notes = self.engine.running()
        return Snapshot(
            done=len(candidates),
            failed=sum(c.failed for c in candidates),
            skipped=len(ledger.skipped),
            total=self.driver.agenda.trials,
            running=tuple(row for run in runs if (row := run.shown(notes)) is not None),
            hits=self.spent.hits,
            elapsed_s=elapsed,
            hours=self.hours,
            candidates=candidates,
            objectives=ledger.terms.objectives,
            metrics=ledger.terms.metrics,
            budgets=ledger.terms.budgets,
            quality=ledger.terms.quality.name,
            earlier=self.earlier,
        )
