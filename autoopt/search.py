"""One run of a study: begins candidates, follows their jobs, keeps what became of them.

One driver process owns the study. Killed at any moment, the same command goes on: trials that were
running are taken up again under their numbers, and what the store holds is not made twice.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoopt import assemble, confirmation, fitting, foregone, pipeline, provenance, strategy, terms
from autoopt.candidate import Candidate, Skipped
from autoopt.engine import Engine, default_job_bytes, default_slots
from autoopt.errors import CandidateFailed, ConfigError, TargetUnavailable
from autoopt.folder import StudyConfig, StudyFolder
from autoopt.foresight import Foresight
from autoopt.interrupts import two_steps
from autoopt.ledger import Ledger
from autoopt.pipeline import Gate, Plan, Setting
from autoopt.process import Outcome, Workplace
from autoopt.progress import Snapshot, View, duration
from autoopt.proposals import Proposal, Proposals, one_line_errors
from autoopt.prospects import CHEAP, Verdict
from autoopt.recipe import SCHEMES, Finetune, Recipe
from autoopt.running import Running
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
FAIR_SHARE = 40
"""Recipes of a space that are all over a budget before it counts as one that nothing can meet."""
IN_A_ROW = 100
"""Proposals that could not pay, one after the other, after which nothing better is expected."""
HOPELESS = f"the last {IN_A_ROW} proposals could not reach the front"


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
        self.skipped_in_a_row = 0
        self.seen: dict[str, int] = {}
        self.counted: set[str] = set()
        self.stopping = ""
        self.away_since = 0.0
        self.opened = False
        self.task: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
        self.setting: Setting
        self.ledger: Ledger
        self.proposals: Proposals
        self.foresight: Foresight
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
        with (
            workplace.claimed(),
            two_steps(self._stop),
            one_line_errors(self.folder.database),
            Engine(workplace, slots, self.scheduler) as self.engine,
        ):
            try:
                if not self.recipes:
                    fitting.expect_able(self.config, f"{self.folder.path}/study.yaml")
                self.device = self.config.target.describe()
                self._read_task()
                self.proposals = self._open()
                self.foresight = Foresight(
                    self.config.search, self.setting, self.store, self.ledger.terms, self._siblings
                )
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

    def _stop(self) -> bool:
        """Begin nothing new; whether that was so already."""
        before, self.stopping = self.stopping, INTERRUPTED
        if before != INTERRUPTED:
            self.view.note("stopping: running candidates finish first; press Ctrl-C again to stop at once")
        return before == INTERRUPTED

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
        if outcome.state in ("unavailable", "waiting", "killed", "blocked"):
            raise TargetUnavailable(outcome.reason)
        if result is None:
            raise ConfigError(outcome.reason if outcome.state == "config" else f"{path}: {outcome.reason}")
        self.task = json.loads(result)
        for warning in self.task["warnings"]:
            self.view.note(f"warning: {warning}")
        self.fitted = fitting.fitted(self.config.space, self.task)
        self.setting = terms.setting(self.config, self.task, self._machine())
        found = terms.settle(self.config, self.task["metric"], f"{self.folder.path}/study.yaml")
        self.ledger = Ledger(self.folder, found)
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
        """Begin its jobs, as far as the next gate."""
        self.running[running.proposal.number] = running
        for job in running.plan.jobs:
            if job.key not in running.submitted:
                running.submitted.append(job.key)
                self.engine.submit(job)
            if running.gates and job.key == running.gates[0].after:
                break

    def _fill(self) -> None:
        """Begin candidates as long as there is room, something to do, and no reason to stop."""
        baseline_first = 0 not in self.ledger.candidates
        waiting = sum(running.again_at > 0 for running in self.running.values())
        room = 1 if baseline_first else self.engine.slots + 1 + min(waiting, self.engine.slots)
        while len(self.running) < room and not self.stopping and not self._trying_schemes():
            if not self._begin():
                self.stopping = EXHAUSTED if self._may_begin() else ALL_DONE

    def _trying_schemes(self) -> bool:
        """Whether the last of the space's schemes is being tried alone: what fails there is not trained for."""
        recipes = (Recipe(scheme=name, seed=self.config.seed) for name in self._schemes(post_training=True))
        alone = [self.seen.get(recipe.digest, -1) for recipe in recipes]
        busy = any(n in self.running and not self.running[n].again_at for n in alone)
        return busy and -1 not in alone and not self.recipes

    def _may_begin(self) -> bool:
        return len(self.ledger.candidates) + len(self.running) + len(self.pool) < self.trials

    # ---- what was begun before, what comes next

    def _open(self) -> Proposals:
        terms = self.ledger.terms
        proposals = Proposals(
            self.folder.database,
            self.fitted.space,
            self.defaults,
            [terms.metrics[name] for name in terms.objectives],
            self.config.sampler,
            self.config.seed,
            before=self.fitted.before,
        )
        self.config = dataclasses.replace(self.config, space=proposals.space)
        for note in self.fitted.said(proposals.space):
            self.view.note(note)
        facts = {
            "task": self.task["fingerprint"],
            "objectives": list(terms.objectives),
            "target": f"{self.config.target.name}, {self.config.threads} threads",
        }
        proposals.require_same(facts, self.folder.path)
        return proposals

    def _resume(self) -> None:
        """Take up what an earlier run left: finished candidates, and trials that were running."""
        unfinished = []
        for proposal in self.proposals.earlier():
            self.seen[proposal.recipe.digest] = proposal.number
            found = self.ledger.recall(proposal.number)
            if found is None:
                unfinished.append(proposal)
            elif isinstance(found, Candidate):
                self._tell(proposal, found)
            else:
                self._tell_skipped(proposal)
        self.foresight.learn(self.ledger.candidates.values())
        for proposal in unfinished:  # the store has what was done
            self._launch(proposal, proposal.attempts)
        if self.ledger.candidates or self.running:
            self.view.note(
                f"going on: {len(self.ledger.candidates)} candidates are done, {len(self.running)} were interrupted"
            )

    def _enqueue_first(self) -> None:
        """The baseline before all else; its schemes; then what was asked for by name."""
        if self.recipes:  # what an earlier run left waiting would come before them
            self.proposals.forget_waiting()
        if not self.seen:
            self.proposals.enqueue(Recipe(seed=self.config.seed), "baseline")
        elif 0 in self.ledger.candidates and not self.recipes:
            self._enqueue_schemes()
            for candidate in self.ledger.candidates.values():
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
            self._enqueue(self._siblings(candidate.recipe), "sibling")

    def _siblings(self, recipe: Recipe) -> list[Recipe]:
        return strategy.siblings(recipe, self._schemes(post_training=True), self.config.space.quantize)

    def _schemes(self, *, post_training: bool = False) -> list[str]:
        """The space's schemes that the target runs, without those that failed on this model for good."""
        known = self.ledger.candidates.values()
        able = foregone.schemes(self.config.space, self.setting.target, known)
        return [name for name in able if not (post_training and SCHEMES[name].qat)]

    def _enqueue(self, recipes: Iterable[Recipe], origin: str) -> None:
        for recipe in recipes:
            if recipe.digest not in self.seen:
                self.proposals.enqueue(recipe, origin)

    def _begin(self) -> bool:
        """Launch a recipe not seen before; False if there is none left.

        What is enqueued goes first. Of the sampler's proposals a few wait, and the one that shares most goes next.
        """
        if (again := self._revived()) is not None:
            self._launch(again)
            return True
        most = strategy.POOL if self.config.search.sharing and 0 in self.ledger.candidates else 1
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
        chosen, self.pool = strategy.next_of(self.pool, lambda proposal: self.foresight.share_left(proposal.recipe))
        self._launch(chosen)
        return True

    def _revived(self) -> Proposal | None:
        """A recipe that was skipped by a margin that later results have exceeded."""
        idle = (s for number, s in self.ledger.skipped.items() if number not in self.running)
        found = self.foresight.revived(idle)
        if found is None:
            return None
        self.view.note(f"{found.name} is taken up again: it may reach the front after all")
        return Proposal(number=found.number, recipe=found.recipe, origin=found.origin, trial=None)

    def _tell(self, proposal: Proposal, candidate: Candidate) -> None:
        if proposal.trial is None:
            return
        self.proposals.tell(proposal.trial, *self.ledger.told(candidate))

    # ---- candidates: launching, collecting, keeping

    def _launch(self, proposal: Proposal, attempts: int = 0) -> None:
        self.seen[proposal.recipe.digest] = proposal.number
        running = Running(proposal=proposal, plan=NOTHING, attempts=attempts)
        refused = self.setting.target.refuses(proposal.recipe.scheme, proposal.recipe.quantize)
        known = ("target", refused) if refused else None
        if known is None and proposal.recipe.trains and not self.recipes:
            known = foregone.failure(proposal.recipe, self.ledger.candidates.values(), self.task["groups"])
        if known is not None and proposal.origin != "baseline":  # nothing is trained for what will fail
            self.running[proposal.number] = running
            self._finish(running, self._failed(running, *known))
            return
        if self.recipes:  # asked for by name
            self._make(running)
        elif (verdict := self.foresight.verdict(proposal.recipe)) is not None:
            self.running[proposal.number] = running
            self._skip(running, verdict)
        elif (plan := self.foresight.probe(proposal.recipe)) is not None:
            running.plan, running.probing = plan, True
            self._submit(running)
        else:
            self._make(running)

    def _make(self, running: Running) -> None:
        """Begin to train, convert and measure."""
        recipe = running.proposal.recipe
        running.probing = False
        running.plan = pipeline.plan(recipe, self.setting, begin=not self.recipes and self.foresight.begins(recipe))
        running.gates = [] if self.recipes else self.foresight.gates(running.plan)
        self._submit(running)

    def _collect(self, running: Running) -> None:
        """Note which of a candidate's jobs have ended; finish it when all have, or one went wrong."""
        for job in running.plan.jobs:
            if job.key in running.outcomes or job.key not in running.submitted:
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
            if outcome.state in ("unavailable", "waiting", "killed"):
                self._interrupted(running, outcome)
                return
            if outcome.state in ("failed", "config"):
                self._give_up(running, outcome.stage or outcome.name, outcome.reason)
                return
        if running.gates and running.gates[0].after in running.outcomes:
            self._judge(running, running.gates.pop(0))
        elif all(job.key in running.outcomes for job in running.plan.jobs):
            if running.probing:
                self._probed(running)
            else:
                (self._finish_confirmed if running.confirming else self._finish_made)(running)

    def _judge(self, running: Running, gate: Gate) -> None:
        """Stop a training that can't pay any more; else go on to the next gate."""
        verdict = self.foresight.stop(running.proposal.recipe, gate)
        if verdict is None:
            self._submit(running)
        else:
            self._skip(running, verdict)

    def _probed(self, running: Running) -> None:
        """The one-shot file is there: is it worth to train?"""
        recipe = running.proposal.recipe
        self.foresight.probed(recipe, running.plan, running.outcomes.values())
        verdict = self.foresight.verdict(recipe)
        if verdict is None:
            self._make(running)
        else:
            self._skip(running, verdict)

    def _skip(self, running: Running, verdict: Verdict) -> None:
        """Write down that a recipe is not trained, or no further, and why; nothing counts it as a trial."""
        p = running.proposal
        seconds = sum(o.seconds for o in running.outcomes.values() if not o.cached)
        skipped = Skipped(
            number=p.number,
            recipe=p.recipe,
            origin=p.origin,
            seconds=seconds,
            **dataclasses.asdict(verdict),
        )
        self.ledger.skip(skipped)
        self.skipped_in_a_row += 1
        self._end(running)
        self._tell_skipped(p)
        self.view.note(
            f"{skipped.name} {p.recipe.label()}: not trained{' to the end' * bool(verdict.point)}: {verdict.reason}"
        )
        if verdict.point is None and self.config.search.siblings:  # others of its schemes may well pay
            self._enqueue((r for r in self._siblings(p.recipe) if self.foresight.verdict(r) is None), "sibling")
        self._give_up_hope()

    def _tell_skipped(self, proposal: Proposal) -> None:
        if proposal.trial is not None:
            self.proposals.tell(proposal.trial, None, {})

    def _give_up_hope(self) -> None:
        """End early where budgets can't be met, or nothing more can reach the front."""
        results = self.ledger.results()
        over = sum(skipped.kind == "over budget" for skipped in results.skipped)
        cheap = [budget for budget in results.budgets if budget.metric in CHEAP]
        meets = any(results.fits(c, cheap) for c in results.candidates)
        if over >= FAIR_SHARE and not meets and not self.stopping:
            limits = ", ".join(budget.text for budget in cheap)
            self.stopping = f"nothing seems to meet {limits}: {over} recipes from all over the space can't"
        elif self.skipped_in_a_row >= IN_A_ROW and not self.stopping:
            self.stopping = HOPELESS

    def _give_up(self, running: Running, stage: str, reason: str) -> None:
        """A candidate failed; one that was only to be confirmed stays what it was."""
        if running.confirming:
            self.view.note(f"#{running.proposal.number} can't be confirmed: {stage}: {reason}")
            self._end(running)
        elif running.probing:  # training shows for sure
            self._make(running)
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
        return None if number is None else self.ledger.candidates.get(number)

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
        for key in running.submitted:
            self.engine.release(key)
        running.submitted = []

    def _finish(self, running: Running, candidate: Candidate) -> None:
        candidate = dataclasses.replace(candidate, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        self._keep(candidate)
        self._end(running)
        self._tell(running.proposal, candidate)
        self.skipped_in_a_row = 0
        self.view.candidate(candidate, self.ledger.terms.metrics, self.ledger.candidates.get(0))
        if candidate.failed and running.proposal.recipe in (self.setting.baseline, self.setting.reference):
            what = f"the baseline itself ({candidate.recipe.label()}) can't be measured"
            raise CandidateFailed(candidate.failed_stage, f"{what}: {candidate.reason}")
        self._enqueue_siblings(candidate)
        if candidate.origin == "baseline":
            self._write_header()
            if refused := foregone.refusal(self.config.space, self.setting.target):
                self.view.note(refused)
            if not self.recipes:
                self._enqueue_schemes()

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
            quality=self.ledger.terms.quality.name,
            reference=self._other_than(p.recipe),
        )

    def _other_than(self, recipe: Recipe) -> Candidate | None:
        """The reference, or None for the reference itself."""
        return None if recipe == self.setting.reference else self._reference()

    # ---- measuring the front again

    def _confirm(self) -> None:
        """Measure front and near-ties again: more repeats, and the test split, which the search never saw.

        Where that puts the pick outside the budgets, the next front is measured again too, a few times.
        """
        tried: set[int] = set()
        for _ in range(confirmation.ROUNDS):
            chosen = confirmation.left(self.ledger.results(), tried)
            if not chosen:
                return
            tried |= {candidate.number for candidate in chosen}
            self._confirm_some(chosen)

    def _confirm_some(self, chosen: Sequence[Candidate]) -> None:
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
                raise TargetUnavailable(
                    "stopped while confirming; ",
                    call="autoopt.confirm goes on with it",
                    command="`autoopt confirm` goes on with it",
                )
        self.stopping = before or CONFIRMING
        if (reference := self._reference()) is not None:
            for candidate in self.ledger.candidates.values():
                self._keep(assemble.rescaled(candidate, reference))

    def _finish_confirmed(self, running: Running) -> None:
        number = running.proposal.number
        candidate = assemble.confirmed(
            self.ledger.candidates[number],
            plan=running.plan,
            store=self.store,
            setting=self.setting,
            reference=self._other_than(running.proposal.recipe),
        )
        self._end(running)
        self._keep(candidate)

    def _keep(self, candidate: Candidate) -> None:
        """Write a candidate down."""
        self.ledger.keep(candidate)
        self.foresight.learn(self.ledger.candidates.values())

    # ---- for people

    def _write_header(self) -> None:
        """What `autoopt.load` needs beside the candidates."""
        before: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, KeyError):
            before = json.loads(self.folder.header.read_text(encoding="utf-8"))["provenance"]["time"]
        now = {"jobs_s": self.spent.jobs, "saved_by_store_s": self.spent.saved, "overhead_s": self.spent.overhead}
        ended = self.spent.wall > 0  # while it runs, what earlier runs spent is all that is known
        spent = {name: round(before.get(name, 0.0) + seconds, 1) for name, seconds in now.items()} if ended else before
        facts = provenance.describe(self.folder, self.config, self.task, self.device) | {"time": spent}
        self.ledger.write_header(self.task["manifest"], facts)

    def _snapshot(self) -> Snapshot:
        terms = self.ledger.terms if self.opened else None
        candidates = tuple(self.ledger.candidates.values()) if self.opened else ()
        notes = self.engine.running()
        rows = [row for running in self.running.values() if (row := running.shown(notes)) is not None]
        return Snapshot(
            done=len(candidates),
            failed=sum(c.failed for c in candidates),
            skipped=len(self.ledger.skipped) if self.opened else 0,
            total=self.trials,
            running=tuple(rows),
            hits=self.spent.hits,
            elapsed_s=time.time() - self.started,
            hours=self.hours,
            candidates=candidates,
            objectives=terms.objectives if terms else (),
            metrics=terms.metrics if terms else {},
            budgets=terms.budgets if terms else (),
            quality=terms.quality.name if terms else "",
        )
