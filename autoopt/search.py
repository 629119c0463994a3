"""One run of a study: begins candidates, follows their jobs, keeps what became of them.

One driver process owns the study. Killed at any moment, the same command goes on: trials that were
running are taken up again under their numbers, and what the store holds is not made twice.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoopt import assemble, confirmation, pipeline, provenance, strategy, terms
from autoopt.candidate import Candidate
from autoopt.engine import Engine, default_job_bytes, default_slots
from autoopt.errors import CandidateFailed, ConfigError, TargetUnavailable
from autoopt.export import read_candidate
from autoopt.folder import StudyConfig, StudyFolder
from autoopt.pipeline import Plan, Setting
from autoopt.process import Outcome, Workplace
from autoopt.progress import Snapshot, View, duration
from autoopt.proposals import Proposal, Proposals, one_line_errors
from autoopt.recipe import SCHEMES, Finetune, Recipe
from autoopt.results import Results
from autoopt.spent import Spent
from autoopt.store import Store, write_atomically
from autoopt.strategy import Waiting

NOTHING = Plan(jobs=(), file="", results={})
"""Of a recipe that the target can't run."""
ATTEMPTS = 3
"""A candidate whose machine was lost this often counts as failed."""
TICK_S = 0.25
AWAY_S = 30.0
"""How long to wait for a target that does not answer before trying again."""
MEASURING = ("latency", "memory")
"""Jobs that the target does."""
INTERRUPTED = "interrupted"
ALL_DONE = "all trials are done"
EXHAUSTED = "the space is exhausted: every recipe in it has been tried"
CONFIRMING = "confirmed"


@dataclass
class Running:
    """A candidate that is being made, or measured again.

    Attributes:
        proposal: its recipe and where that came from.
        plan: its jobs.
        attempts: how often its machine was lost.
        outcomes: of its jobs that have ended.
        again_at: when to try again, where the target does not answer; 0 while it is at work.
        confirming: whether it is measured again.
    """

    proposal: Proposal
    plan: Plan
    attempts: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    again_at: float = 0.0
    confirming: bool = False


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
    ) -> None:
        self.confirm_only = confirm_only
        self.folder, self.config, self.view = folder, config, view
        self.trials = config.trials if trials is None else trials
        self.hours = config.hours if hours is None else hours
        self.deadline = math.inf if self.hours is None else time.time() + self.hours * 3600
        self.scheduler = scheduler
        self.recipes = recipes
        if store is not None:
            write_atomically(folder.store_note, f"{Path(store).resolve()}\n".encode())
        self.store = Store(folder.store())
        self.spent = Spent()
        self.started = time.time()
        self.running: dict[int, Running] = {}
        self.pool: list[Waiting[Proposal]] = []
        self.candidates: dict[int, Candidate] = {}
        self.seen: dict[str, int] = {}
        self.counted: set[str] = set()
        self.stopping = ""
        self.away_since = 0.0
        self.opened = False
        self.task: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
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
                self.device = self.config.target.describe()
                self._read_task()
                self.proposals = self._open()
                self.opened = True
                self._resume()
                if not self.confirm_only:
                    self._enqueue_first()
                    self._search()
                if self.confirm_only or (self.config.confirm and not self.recipes and self.stopping != INTERRUPTED):
                    self._confirm()
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
            if self.stopping == INTERRUPTED:
                raise KeyboardInterrupt
            self.stopping = INTERRUPTED
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
            machine=self._machine(),
            threads=self.config.threads,
            seed=self.config.seed,
        )
        found = terms.settle(self.config, self.task["metric"], f"{self.folder.path}/study.yaml")
        self.quality, self.metrics = found.quality, found.metrics
        self.objectives, self.budgets = found.objectives, found.budgets
        self.defaults = Finetune(**self.task["finetune"])

    def _machine(self) -> str:
        """What identifies the machine that measures; each of a cluster measures against the baseline anyway."""
        if self.scheduler and self.config.target.exclusive == "machine":
            return "cluster"
        return " ".join(str(self.device.get(name, "")) for name in ("processor", "cores", "runtime"))

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
        while True:
            if not self.stopping and time.time() >= self.deadline:
                self.stopping = "time is up"
            self._fill()
            if not self.running:
                break
            self._turn()

    def _turn(self) -> None:
        """Wait a moment, then see what has become of everything that runs."""
        self.view.update(self._snapshot())
        self.engine.ended(timeout=TICK_S)
        for running in list(self.running.values()):
            if running.again_at:
                self._wait_for_target(running)
            else:
                self._collect(running)

    def _wait_for_target(self, running: Running) -> None:
        """Try again in a while; give up waiting, not the candidate, when the run is to end."""
        ending = self.stopping not in ("", ALL_DONE, EXHAUSTED, CONFIRMING)
        if ending or time.time() >= self.deadline:
            del self.running[running.proposal.number]
        elif time.time() >= running.again_at:
            self._begin_again(running)

    def _begin_again(self, running: Running) -> None:
        running.again_at, running.outcomes = 0.0, {}
        self._submit(running)

    def _submit(self, running: Running) -> None:
        self.running[running.proposal.number] = running
        for job in running.plan.jobs:
            self.engine.submit(job)

    def _fill(self) -> None:
        """Begin candidates as long as there is room, something to do, and no reason to stop."""
        baseline_first = 0 not in self.candidates
        waiting = sum(running.again_at > 0 for running in self.running.values())
        room = 1 if baseline_first else self.engine.slots + 1 + min(waiting, self.engine.slots)
        while len(self.running) < room and not self.stopping:
            if not self._begin():
                self.stopping = EXHAUSTED if self._may_begin() else ALL_DONE

    def _may_begin(self) -> bool:
        return len(self.candidates) + len(self.running) + len(self.pool) < self.trials

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
            "target": f"{self.config.target.name}, {self.config.threads} threads",
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
        if self.recipes:  # what an earlier run left waiting would come before them
            self.proposals.forget_waiting()
        if not self.seen:
            self.proposals.enqueue(Recipe(seed=self.config.seed), "baseline")
        elif 0 in self.candidates and not self.recipes:
            self._enqueue_schemes()
            for candidate in self.candidates.values():
                self._enqueue_siblings(candidate)
        if self.recipes:
            # All else is read against these two; the baseline is enqueued already.
            self._enqueue({self.setting.reference} - {self.setting.baseline}, "scheme")
            begun = {*self.seen, self.setting.baseline.digest, self.setting.reference.digest}
            unseen = {r.digest: r for r in self.recipes if r.digest not in begun}
            for recipe in unseen.values():
                self.proposals.enqueue(recipe, "search")
            self.trials = len(begun) + len(unseen)

    def _enqueue_schemes(self) -> None:
        """The reference, then the space's post-training schemes: they cost seconds, and all else is read against them.

        Then the ends of the space, which mark out the front.
        """
        schemes = dict.fromkeys([self.setting.target.reference, *self._schemes(post_training=True)])
        self._enqueue((Recipe(scheme=name, seed=self.config.seed) for name in schemes), "scheme")
        if self.config.search.corners:
            found = strategy.corners(self.config.space, self._schemes(), self.defaults, self.config.seed)
            self._enqueue(found, "corner")

    def _enqueue_siblings(self, candidate: Candidate) -> None:
        """Other schemes of a model that is trained now."""
        if not candidate.failed and self.config.search.siblings and not self.recipes:
            self._enqueue(strategy.siblings(candidate.recipe, self._schemes(post_training=True)), "sibling")

    def _schemes(self, *, post_training: bool = False) -> list[str]:
        """The space's schemes that the target runs."""
        knob = self.config.space.knobs["scheme"]
        able = [name for name in SCHEMES if name in knob and not self.setting.target.refuses(name)]
        return [name for name in able if not (post_training and SCHEMES[name].qat)]

    def _enqueue(self, recipes: Iterable[Recipe], origin: str) -> None:
        for recipe in recipes:
            if recipe.digest not in self.seen:
                self.proposals.enqueue(recipe, origin)

    def _begin(self) -> bool:
        """Launch a recipe not seen before; False if there is none left.

        What is enqueued goes first. Of the sampler's proposals a few wait, and the cheapest goes next.
        """
        most = strategy.POOL if self.config.search.sharing and 0 in self.candidates else 1
        while len(self.pool) < most and self._may_begin():
            proposal = self.proposals.ask(self.seen, len(self.seen))
            if proposal is None:
                break
            self.seen[proposal.recipe.digest] = proposal.number
            if proposal.origin != "search":
                self._launch(proposal)
                return True
            self.pool.append(Waiting(proposal=proposal))
        if not self.pool:
            return False
        chosen, self.pool = strategy.next_of(self.pool, self._training_left)
        self._launch(chosen)
        return True

    def _training_left(self, proposal: Proposal) -> float:
        """Epochs that a recipe must be trained for beyond what the store holds."""
        jobs = pipeline.plan(proposal.recipe, self.setting).jobs
        stages = [job for job in jobs if "finetune" in job.settings]
        return float(sum(job.settings["finetune"]["epochs"] for job in stages if self.store.seconds(job.key) is None))

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
        values = [candidate.value(o) for o in self.objectives]
        known = None if candidate.failed else [v for v in values if v is not None]
        self.proposals.tell(proposal.trial, known if known and len(known) == len(values) else None, excesses)

    # ---- candidates: launching, collecting, keeping

    def _launch(self, proposal: Proposal, attempts: int = 0) -> None:
        self.seen[proposal.recipe.digest] = proposal.number
        refused = self.setting.target.refuses(proposal.recipe.scheme)
        if refused and proposal.origin != "baseline":  # nothing is trained for what can't be run
            running = Running(proposal=proposal, plan=NOTHING)
            self.running[proposal.number] = running
            self._finish(running, self._failed(running, "target", refused))
            return
        running = Running(proposal=proposal, plan=pipeline.plan(proposal.recipe, self.setting), attempts=attempts)
        self._submit(running)

    def _collect(self, running: Running) -> None:
        """Note which of a candidate's jobs have ended; finish it when all have, or one went wrong."""
        for job in running.plan.jobs:
            if job.key in running.outcomes:
                continue
            outcome = self.engine.outcome(job.key)
            if outcome is None:
                continue
            running.outcomes[job.key] = self._count(outcome)
            if self.away_since and outcome.state == "done" and outcome.name in MEASURING and not outcome.cached:
                self._back()
            if outcome.state == "blocked":
                raise TargetUnavailable(outcome.reason)
            if outcome.state == "config" and outcome.name in MEASURING:
                raise ConfigError(outcome.reason)  # about the target, not about this candidate
            if outcome.state == "away":
                self._away(running, outcome)
                return
            if outcome.state == "unavailable":
                self._interrupted(running, outcome)
                return
            if outcome.state in ("failed", "config"):
                self._give_up(running, outcome.stage or outcome.name, outcome.reason)
                return
        if len(running.outcomes) == len(running.plan.jobs):
            (self._finish_confirmed if running.confirming else self._finish_made)(running)

    def _give_up(self, running: Running, stage: str, reason: str) -> None:
        """A candidate failed; one that was only to be confirmed stays what it was."""
        if running.confirming:
            self.view.note(f"#{running.proposal.number} can't be confirmed: {stage}: {reason}")
            self._end(running)
        else:
            self._finish(running, self._failed(running, stage, reason))

    def _finish_made(self, running: Running) -> None:
        """All jobs of a new candidate are done."""
        first = running.proposal.origin == "baseline" or running.proposal.recipe == self.setting.reference
        if not first and self._reference() is None:  # what its latency is relative to is still being measured
            return
        try:
            candidate = self._assemble(running)
        except CandidateFailed as error:
            candidate = self._failed(running, error.stage, error.reason)
        self._finish(running, candidate)

    def _reference(self) -> Candidate | None:
        """The candidate that latencies are relative to, once it is measured."""
        number = self.seen.get(self.setting.reference.digest)
        return None if number is None else self.candidates.get(number)

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
            self._give_up(running, outcome.stage or outcome.name, reason)
            return
        self.view.note(f"#{running.proposal.number}: {outcome.reason}; trying again")
        running.proposal.lost(running.attempts)
        self._release(running)
        self._begin_again(running)

    def _away(self, running: Running, outcome: Outcome) -> None:
        """The target does not answer: say so once, wait for it, and count nothing against the candidate."""
        if not self.away_since:
            self.away_since = time.time()
            self.view.note(f"#{running.proposal.number} waits: {outcome.reason}; trying again every {AWAY_S:.0f} s")
        self._release(running)
        running.again_at = time.time() + AWAY_S

    def _back(self) -> None:
        """The target answers again."""
        self.view.note(f"{self.setting.target.name} answers again, after {duration(time.time() - self.away_since)}")
        self.away_since = 0.0

    def _end(self, running: Running) -> None:
        del self.running[running.proposal.number]
        self._release(running)

    def _release(self, running: Running) -> None:
        for job in running.plan.jobs:
            self.engine.release(job.key)

    def _finish(self, running: Running, candidate: Candidate) -> None:
        candidate = dataclasses.replace(candidate, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        self._keep(candidate)
        self._end(running)
        self._tell(running.proposal, candidate)
        self.view.candidate(candidate, self.metrics, self.candidates.get(0))
        if candidate.failed and running.proposal.recipe in (self.setting.baseline, self.setting.reference):
            what = f"the baseline itself ({candidate.recipe.label()}) can't be measured"
            raise CandidateFailed(candidate.failed_stage, f"{what}: {candidate.reason}")
        self._enqueue_siblings(candidate)
        if candidate.origin == "baseline":
            self._write_header()
            self._warn_of_schemes()
            if not self.recipes:
                self._enqueue_schemes()

    def _warn_of_schemes(self) -> None:
        knob, target = self.config.space.knobs["scheme"], self.setting.target
        refused = [name for name in SCHEMES if name in knob and target.refuses(name)]
        if refused:
            self.view.note(
                f"warning: {target.name} can't run {', '.join(refused)} ({target.refuses(refused[0])}); "
                "take them out of the space, or they fail untried"
            )

    def _failed(self, running: Running, stage: str, reason: str) -> Candidate:
        p = running.proposal
        return assemble.failed(p.number, p.recipe, p.origin, running.outcomes.values(), stage=stage, reason=reason)

    def _assemble(self, running: Running) -> Candidate:
        p = running.proposal
        return assemble.candidate(
            p.number,
            p.recipe,
            p.origin,
            running.outcomes.values(),
            plan=running.plan,
            store=self.store,
            setting=self.setting,
            quality=self.quality.name,
            reference=self._other_than(p.recipe),
        )

    def _other_than(self, recipe: Recipe) -> Candidate | None:
        """The reference, or None for the reference itself."""
        return None if recipe == self.setting.reference else self._reference()

    # ---- measuring the front again

    def _confirm(self) -> None:
        """Measure front and near-ties again: more repeats, and the test split, which the search never saw."""
        chosen = [c for c in confirmation.choose(self._results()) if c.confirmation is None]
        if not chosen:
            return
        what = "a candidate" if len(chosen) == 1 else f"{len(chosen)} candidates"
        self.view.note(f"confirming {what} on the test split, with more repeats")
        before, self.stopping = self.stopping, CONFIRMING
        for candidate in chosen:
            proposal = Proposal(number=candidate.number, recipe=candidate.recipe, origin=candidate.origin, trial=None)
            plan = pipeline.plan(candidate.recipe, self.setting, confirm=True)
            self._submit(Running(proposal=proposal, plan=plan, confirming=True))
        while self.running:
            self._turn()
            if self.stopping == INTERRUPTED:
                raise TargetUnavailable("stopped while confirming; `autoopt confirm` goes on with it")
        self.stopping = before or CONFIRMING
        if (reference := self._reference()) is not None:
            for candidate in self.candidates.values():
                self._keep(assemble.rescaled(candidate, reference))

    def _finish_confirmed(self, running: Running) -> None:
        number = running.proposal.number
        candidate = assemble.confirmed(
            self.candidates[number],
            plan=running.plan,
            store=self.store,
            setting=self.setting,
            reference=self._other_than(running.proposal.recipe),
        )
        self._end(running)
        self._keep(candidate)

    def _keep(self, candidate: Candidate) -> None:
        """Write a candidate down."""
        if self.candidates.get(candidate.number) != candidate:
            text = json.dumps(candidate.to_dict())
            write_atomically(self.folder.candidate_file(candidate.number), text.encode())
            self.candidates = {**self.candidates, candidate.number: candidate}

    def _results(self) -> Results:
        return Results(
            study=self.folder.name,
            metrics=self.metrics,
            quality=self.quality.name,
            objectives=self.objectives,
            budgets=self.budgets,
            candidates=tuple(self.candidates[number] for number in sorted(self.candidates)),
        )

    # ---- for people

    def _write_header(self) -> None:
        """What `autoopt.load` needs beside the candidates."""
        before: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, KeyError):
            before = json.loads(self.folder.header.read_text(encoding="utf-8"))["provenance"]["time"]
        now = {"jobs_s": self.spent.jobs, "saved_by_store_s": self.spent.saved, "overhead_s": self.spent.overhead}
        ended = self.spent.wall > 0  # while it runs, what earlier runs spent is all that is known
        spent = {name: round(before.get(name, 0.0) + seconds, 1) for name, seconds in now.items()} if ended else before
        quality = {"name": self.quality.name, "direction": self.quality.direction, "unit": self.quality.unit}
        header = {
            "study": self.folder.name,
            "quality": quality,
            "objectives": list(self.objectives),
            "budgets": [b.text for b in self.budgets],
            "manifest": self.task["manifest"],
            "provenance": provenance.describe(self.folder, self.config, self.task, self.device) | {"time": spent},
        }
        write_atomically(self.folder.header, json.dumps(header, indent=1).encode())

    def _snapshot(self) -> Snapshot:
        notes = self.engine.running()
        rows = []
        for running in self.running.values():
            if running.again_at:
                rows.append((running.proposal.number, running.proposal.recipe.label(), "waits", "for the target"))
                continue
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
