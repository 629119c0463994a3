"""A candidate while it is made: a state machine of its own, without jobs, clocks or files.

    proposed -> probing -> making -> done | failed
                   |          |
                   +-> skipped <-+           confirming -> done | failed

Whatever is at work may wait for what lies outside of it, and go on where it was; whatever has not ended may be left for
the next run.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoopt.execution.job_graph import Gate, Job, Plan
from autoopt.execution.job_process import Outcome
from autoopt.search.sampler import Proposal

NOTHING = Plan(jobs=(), file="", results={})
"""Plan without jobs, for recipes that are not begun."""


class State(enum.Enum):
    """Where a candidate is in its life.

    `PROPOSED`: nothing is begun. `PROBING`: its one-shot file is made. `MAKING`: it is trained, converted, measured.
    `CONFIRMING`: it is measured again. `WAITING`: something outside of it keeps it from going on. The ends are `DONE`,
    `FAILED`, `SKIPPED` (its training can't pay) and `LEFT` (the next run goes on with it).
    """

    PROPOSED = enum.auto()
    PROBING = enum.auto()
    MAKING = enum.auto()
    CONFIRMING = enum.auto()
    WAITING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()
    SKIPPED = enum.auto()
    LEFT = enum.auto()


_AT_WORK = frozenset({State.PROBING, State.MAKING, State.CONFIRMING})
MOVES: Mapping[State, frozenset[State]] = {
    State.PROPOSED: _AT_WORK | {State.FAILED, State.SKIPPED, State.LEFT},
    State.PROBING: frozenset({State.MAKING, State.SKIPPED, State.WAITING, State.LEFT}),
    State.MAKING: frozenset({State.DONE, State.FAILED, State.SKIPPED, State.WAITING, State.LEFT}),
    State.CONFIRMING: frozenset({State.DONE, State.FAILED, State.WAITING, State.LEFT}),
    State.WAITING: _AT_WORK | {State.LEFT},
    **{end: frozenset() for end in (State.DONE, State.FAILED, State.SKIPPED, State.LEFT)},
}
"""Where each state may lead."""


@dataclass
class CandidateRun:
    """A candidate that is being made, or measured again.

    Attributes:
        proposal: its recipe and where that came from.
        plan: its jobs.
        state: change it by `move`, `begin`, `wait` and `go_on` alone.
        attempts: how often it was ended from outside, in all runs.
        kills: how often it was ended from outside, in this run.
        waits: how often it has waited for room on its machine, in this run.
        why: what it waits for.
        again_at: when to try again while it waits, by the driver's clock.
        outcomes: of its jobs that have ended, by key.
        gates: where its training is to be judged, those that it has not passed yet.
        submitted: keys of its jobs that were begun.
    """

    proposal: Proposal
    plan: Plan = NOTHING
    state: State = State.PROPOSED
    attempts: int = 0
    kills: int = 0
    waits: int = 0
    why: str = ""
    again_at: float = 0.0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    _interrupted: State = State.PROPOSED

    @property
    def number(self) -> int:
        """The candidate's number."""
        return self.proposal.number

    def move(self, state: State) -> None:
        """Go to another state.

        Raises:
            ValueError: if none leads there.
        """
        if state not in MOVES[self.state]:
            raise ValueError(f"#{self.number}: {self.state.name} does not lead to {state.name}")
        self.state = state

    def begin(self, state: State, plan: Plan, gates: Sequence[Gate] = ()) -> None:
        """Go to a state in which jobs are at work, with these jobs."""
        self.move(state)
        self.plan, self.gates, self.outcomes = plan, list(gates), {}

    def wait(self, until: float, why: str) -> None:
        """Wait for what lies outside of it.

        Args:
            until: when to try again, by the driver's clock.
            why: what keeps it from going on, in words for people.
        """
        before = self.state
        self.move(State.WAITING)
        self._interrupted, self.again_at, self.why = before, until, why

    def go_on(self) -> None:
        """Go on where it was before it waited; what its jobs have come to so far lies in the store."""
        self.move(self._interrupted)
        self.outcomes = {}

    @property
    def confirming(self) -> bool:
        """Whether it is measured again, or waits to be."""
        return State.CONFIRMING in (self.state, self._interrupted if self.state == State.WAITING else None)

    def to_submit(self) -> list[Job]:
        """The jobs to begin now: those not begun, as far as the next gate."""
        found = []
        for job in self.plan.jobs:
            if job.key not in self.submitted:
                found.append(job)
            if self.gates and job.key == self.gates[0].after:
                break
        return found

    def shown(self, notes: Mapping[str, str]) -> tuple[int, str, str, str] | None:
        """Its number, its recipe, the job that it is at, and what that says of itself; None while no job of it runs.

        Args:
            notes: by key of a running job, what it says.
        """
        label = self.proposal.recipe.label()
        if self.state == State.WAITING:
            return self.number, label, "waits", self.why
        return next(
            ((self.number, label, job.name, notes[job.key]) for job in self.plan.jobs if job.key in notes), None
        )
