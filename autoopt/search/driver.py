"""Drives a search: begins candidates, follows their jobs, decides what becomes of each.

It knows engine, clock and view by what they do alone, so that a night passes in milliseconds in a test.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.recipe import Recipe
from autoopt.errors import CandidateFailed, ConfigError, TargetUnavailable
from autoopt.execution import job_graph
from autoopt.execution.job_graph import Gate
from autoopt.execution.job_process import Outcome
from autoopt.search import candidate_builder, known_failures, stopping
from autoopt.search.agenda import FINALIST, Agenda
from autoopt.search.bounds import Verdict
from autoopt.search.candidate_run import CandidateRun, State
from autoopt.search.jobs import Jobs
from autoopt.search.progress import View
from autoopt.search.sampler import Proposal
from autoopt.search.setbacks import OUTSIDE, GiveUp, Setbacks, Wait
from autoopt.search.stopping import ALL_DONE, EXHAUSTED, INTERRUPTED, TIME_IS_UP, Reason
from autoopt.search.time_accounting import Spent
from autoopt.study.ledger import Ledger

TICK_S = 0.25
MEASURING = ("latency", "memory")
"""Jobs that the target does."""


class Driver:
    """Drives the search of a study.

    Args:
        agenda: what to try next.
        engine: does the jobs.
        view: is told what happens.
        spent: counts where the time goes.
        clock: seconds from any beginning, never set back.
        deadline: when to begin nothing more, by the clock.
        groups: of the model's channels, see `fitting.takes`; None if they are not known.
        turned: called several times a second.
        baseline_done: called when the baseline is written down.
    """

    def __init__(
        self,
        agenda: Agenda,
        engine: Jobs,
        view: View,
        spent: Spent,
        *,
        clock: Callable[[], float],
        deadline: float = math.inf,
        groups: Sequence[int] | None = None,
        turned: Callable[[], None] = lambda: None,
        baseline_done: Callable[[], None] = lambda: None,
    ) -> None:
        self.agenda, self.engine, self.view, self.spent = agenda, engine, view, spent
        self.clock, self.deadline, self.groups = clock, deadline, groups
        self.turned, self.baseline_done = turned, baseline_done
        self.ledger: Ledger = agenda.ledger
        self.foresight, self.setting, self.store = agenda.foresight, agenda.setting, agenda.store
        self.runs: dict[int, CandidateRun] = {}
        self.reason: Reason | None = None
        self._skipped_in_a_row = 0
        self._counted: set[str] = set()
        self._setbacks = Setbacks(view.note, clock, agenda.setting.target.name, view.call)

    # ---- the search

    def stop(self) -> bool:
        """Begin nothing new, for a person asked for that; whether one had asked before."""
        before = self.reason == INTERRUPTED
        self.reason = INTERRUPTED
        return before

    def take_up(self) -> list[Proposal]:
        """Take over what an earlier run finished; what it left unfinished is for `search`."""
        unfinished = self.agenda.take_up()
        if self.ledger.candidates or unfinished:
            self.view.note(
                f"going on: {len(self.ledger.candidates)} candidates are done, {len(unfinished)} were interrupted"
            )
        return unfinished

    def confirm(self, candidate: Candidate) -> None:
        """Begin to measure a candidate again: more repeats, and the test split."""
        run = self.runs[candidate.number] = CandidateRun(proposal=Proposal.again(candidate))
        run.begin(State.CONFIRMING, job_graph.plan(candidate.recipe, self.setting, confirm=True))
        self._submit(run)

    def measure_again(self) -> None:
        """Measure what latencies are relative to anew, on this machine, before anything else."""
        again = [c for c in self.ledger.candidates.values() if self.agenda.is_baseline(c.recipe)]
        for candidate in again:
            self._launch(Proposal.again(candidate))
        while self.runs:
            self.turn()

    def make(self, recipes: Sequence[Recipe], origin: str) -> None:
        """Make recipes that were not begun beside what was asked for, until they are done or there is a reason to stop."""
        for recipe in recipes:
            self._launch(self.agenda.propose(recipe, origin))
        while self.runs:
            self.turn()

    def search(self, unfinished: Sequence[Proposal] = ()) -> Reason:
        """Search until there is a reason to stop, and nothing runs any more.

        Args:
            unfinished: what an earlier run left, as of `take_up`.

        Raises:
            ConfigError: for what the user has to mend.
            CandidateFailed: if the baseline can't be made.
            TargetUnavailable: if it can't go on now.
        """
        for proposal in unfinished:  # the store has what was done
            self._launch(proposal, proposal.attempts)
        for proposal in self.agenda.open():
            self._launch(proposal)
        self.agenda.climb()
        while True:
            if self.reason is None and self.clock() >= self.deadline:
                self.reason = TIME_IS_UP
            self._fill()
            if not self.runs:
                break
            self.turn()
        if self.reason is None:
            self.reason = EXHAUSTED if self.agenda.room(0) else ALL_DONE
        return self.reason

    def turn(self) -> None:
        """Wait a moment, then see what has become of everything that runs."""
        self.turned()
        self.engine.ended(timeout=TICK_S)
        for run in list(self.runs.values()):
            if run.state == State.WAITING:
                self._look_at_waiting(run)
            else:
                self._collect(run)

    def _look_at_waiting(self, run: CandidateRun) -> None:
        """Try again when it is time; give up waiting, not the candidate, when the run is to end."""
        late = self.clock() >= self.deadline and (not run.confirming or self._setbacks.target_is_away)
        if late or self.reason is not None:
            self._end(run, State.LEFT)
        elif self.clock() >= run.again_at:
            run.go_on()
            self._submit(run)

    def _fill(self) -> None:
        """Begin candidates as long as there is room, something to do, and no reason to stop."""
        waiting = sum(run.state == State.WAITING for run in self.runs.values())
        slots = self.engine.slots
        room = slots + 1 + min(waiting, slots) if 0 in self.ledger.candidates else 1
        while len(self.runs) < room and self.reason is None:
            busy = [number for number, run in self.runs.items() if run.state != State.WAITING]
            if self.agenda.trying_schemes(busy):
                return
            proposal = self.agenda.next(self.runs)
            if proposal is None:
                return
            if proposal.number in self.ledger.skipped:
                self.view.note(f"#{proposal.number} is taken up again: it may reach the front after all")
            self._launch(proposal)

    # ---- the life of a candidate

    def _launch(self, proposal: Proposal, attempts: int = 0) -> None:
        """Begin a candidate: with the cheapest jobs that may show that it can't pay, if there are such."""
        recipe = proposal.recipe
        self.agenda.seen[recipe.digest] = proposal.number
        run = CandidateRun(proposal=proposal, attempts=attempts)
        self.runs[proposal.number] = run
        known = self._foregone(proposal)
        if known is not None:
            self._fail(run, *known)
        elif self._asked_for(proposal):
            self._make(run)
        elif (verdict := self.foresight.verdict(recipe)) is not None:
            self._skip(run, verdict)
        elif (plan := self.foresight.probe(recipe)) is not None:
            run.begin(State.PROBING, plan)
            self._submit(run)
        else:
            self._make(run)

    def _asked_for(self, proposal: Proposal) -> bool:
        """Whether it is made to its end, whatever there is to be said against it."""
        return bool(self.agenda.recipes) or proposal.origin == FINALIST

    def _foregone(self, proposal: Proposal) -> tuple[str, str] | None:
        """Stage and reason of a failure that is known beforehand: nothing is trained for what will fail."""
        recipe = proposal.recipe
        if proposal.origin == "baseline":
            return None
        if refused := self.setting.target.refuses(recipe.scheme, recipe.quantize):
            return "target", refused
        if recipe.trains and not self.agenda.recipes:
            return known_failures.failure(recipe, self.ledger.candidates.values(), self.groups)
        return None

    def _make(self, run: CandidateRun) -> None:
        """Begin to train, convert and measure."""
        recipe, named = run.proposal.recipe, self._asked_for(run.proposal)
        self._release(run)
        plan = job_graph.plan(recipe, self.setting, begin=not named and self.foresight.begins(recipe))
        run.begin(State.MAKING, plan, () if named else self.foresight.gates(plan))
        self._submit(run)

    def _submit(self, run: CandidateRun) -> None:
        """Begin its jobs, as far as the next gate."""
        for job in run.to_submit():
            run.submitted.append(job.key)
            self.engine.submit(job)

    def _collect(self, run: CandidateRun) -> None:
        """Note which of a candidate's jobs have ended; decide what follows when all have, or one went wrong."""
        for job in run.plan.jobs:
            if job.key in run.outcomes or job.key not in run.submitted:
                continue
            outcome = self.engine.outcome(job.key)
            if outcome is None:
                continue
            run.outcomes[job.key] = self._count(outcome)
            if outcome.state != "done":
                self._went_wrong(run, outcome)
                return
            if outcome.name in MEASURING and not outcome.cached:
                self._setbacks.answered()
        if run.gates and run.gates[0].after in run.outcomes:
            self._judge(run, run.gates.pop(0))
        elif all(job.key in run.outcomes for job in run.plan.jobs):
            {State.PROBING: self._probed, State.MAKING: self._made, State.CONFIRMING: self._confirmed}[run.state](run)

    def _went_wrong(self, run: CandidateRun, outcome: Outcome) -> None:
        """Decide whose fault it is: the candidate's, the user's, the device's, or the machine's."""
        if outcome.state == "blocked":
            raise TargetUnavailable(outcome.reason)
        if outcome.state == "config" and outcome.name in MEASURING:
            raise ConfigError(outcome.reason)  # about the target, not about this candidate
        if outcome.state in OUTSIDE:
            self._set_back(run, outcome)
        else:
            self._give_up(run, outcome.stage or outcome.name, outcome.reason)

    def _set_back(self, run: CandidateRun, outcome: Outcome) -> None:
        """Wait for what lies outside of the candidate, or leave the candidate for the next run.

        Raises:
            TargetUnavailable: for a baseline that can't be waited for any longer.
        """
        stage, baseline = outcome.stage or outcome.name, self.agenda.is_baseline(run.proposal.recipe)
        step = self._setbacks.step(run, outcome, needed=baseline)
        if isinstance(step, Wait):
            self._release(run)
            run.wait(self.clock() + step.seconds, step.why)
        elif isinstance(step, GiveUp):
            self._give_up(run, stage, step.reason)
        elif baseline and not run.confirming:
            self._end(run, State.LEFT)
            raise TargetUnavailable(f"the baseline: {stage}: {outcome.reason}; run the same command again to go on")
        else:
            self.view.note(f"#{run.number}: {outcome.reason}; left for the next run")
            self._end(run, State.LEFT)

    def _judge(self, run: CandidateRun, gate: Gate) -> None:
        """Stop a training that can't pay any more; else go on to the next gate."""
        self._go_on_or_skip(run, self.foresight.stop(run.proposal.recipe, gate), self._submit)

    def _probed(self, run: CandidateRun) -> None:
        """Decide by the one-shot file whether it is worth to train."""
        recipe = run.proposal.recipe
        self.foresight.probed(recipe, run.plan, run.outcomes.values())
        self._go_on_or_skip(run, self.foresight.verdict(recipe), self._make)

    def _go_on_or_skip(self, run: CandidateRun, verdict: Verdict | None, go_on: Callable[[CandidateRun], None]) -> None:
        if verdict is None:
            go_on(run)
        else:
            self._skip(run, verdict)

    def _made(self, run: CandidateRun) -> None:
        """Write a new candidate down, once what its latency is relative to is measured."""
        recipe = run.proposal.recipe
        if not self.agenda.is_baseline(recipe) and self.agenda.reference() is None:
            return
        p = run.proposal
        try:
            candidate = candidate_builder.candidate(
                p.number,
                recipe,
                p.origin,
                run.outcomes.values(),
                plan=run.plan,
                store=self.store,
                setting=self.setting,
                quality=self.ledger.terms.quality.name,
                reference=self._other_than(run),
            )
        except CandidateFailed as error:
            self._fail(run, error.stage, error.reason)
        else:
            self._finish(run, candidate, State.DONE)

    def _other_than(self, run: CandidateRun) -> Candidate | None:
        """What its latency is relative to, or None for the reference itself."""
        return None if run.proposal.recipe == self.setting.reference else self.agenda.reference()

    def _give_up(self, run: CandidateRun, stage: str, reason: str) -> None:
        """A candidate failed; one that was only to be confirmed stays what it was."""
        if run.confirming:
            self.view.note(f"#{run.number} can't be confirmed: {stage}: {reason}")
            self._end(run, State.FAILED)
        elif run.state == State.PROBING:  # training shows for sure
            self._make(run)
        else:
            self._fail(run, stage, reason)

    def _fail(self, run: CandidateRun, stage: str, reason: str) -> None:
        """Write down that a candidate failed; of a baseline nothing is kept, so that the next run tries again.

        Raises:
            CandidateFailed: for a baseline.
        """
        p = run.proposal
        if self.agenda.is_baseline(p.recipe):
            self._end(run, State.LEFT)
            raise CandidateFailed(stage, f"the baseline itself ({p.recipe.label()}) can't be measured: {reason}")
        outcomes = run.outcomes.values()
        candidate = candidate_builder.failed(p.number, p.recipe, p.origin, outcomes, stage=stage, reason=reason)
        self._finish(run, candidate, State.FAILED)

    def _finish(self, run: CandidateRun, candidate: Candidate, end: State) -> None:
        candidate = dataclasses.replace(candidate, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        self.ledger.keep(candidate)
        self._end(run, end)
        self.agenda.learnt()
        self.agenda.tell(run.proposal, candidate)
        self._skipped_in_a_row = 0
        self.view.candidate(candidate, self.ledger.terms.metrics, self.ledger.candidates.get(0))
        if candidate.origin == "baseline":
            self.baseline_done()
        self.agenda.follow(candidate)

    def _skip(self, run: CandidateRun, verdict: Verdict) -> None:
        """Write down that a recipe is not trained, or no further, and why; nothing counts it as a trial."""
        p = run.proposal
        seconds = sum(o.seconds for o in run.outcomes.values() if not o.cached)
        skipped = Skipped(
            number=p.number, recipe=p.recipe, origin=p.origin, seconds=seconds, **dataclasses.asdict(verdict)
        )
        self.ledger.skip(skipped)
        self._skipped_in_a_row += 1
        self._end(run, State.SKIPPED)
        self.agenda.tell_skipped(p)
        self.view.note(
            f"{skipped.name} {p.recipe.label()}: not trained{' to the end' * bool(verdict.point)}: {verdict.reason}"
        )
        self.agenda.follow(skipped)
        if self.reason is None:
            self.reason = stopping.hopeless(self.ledger.results(), self._skipped_in_a_row)

    def _count(self, outcome: Outcome) -> Outcome:
        """Count an outcome once; for a second candidate that shares the job it is saved time."""
        if outcome.key in self._counted and outcome.state == "done":
            outcome = dataclasses.replace(outcome, cached=True)
        self._counted.add(outcome.key)
        self.spent.add(outcome, self.clock())
        return outcome

    def _end(self, run: CandidateRun, state: State) -> None:
        run.move(state)
        del self.runs[run.number]
        self._release(run)

    def _release(self, run: CandidateRun) -> None:
        for key in run.submitted:
            self.engine.release(key)
        run.submitted = []

    def _confirmed(self, run: CandidateRun) -> None:
        candidate = candidate_builder.confirmed(
            self.ledger.candidates[run.number],
            plan=run.plan,
            store=self.store,
            setting=self.setting,
            reference=self._other_than(run),
        )
        self._end(run, State.DONE)
        self.ledger.keep(candidate)
        self.agenda.learnt()
