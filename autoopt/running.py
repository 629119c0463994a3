"""A candidate while it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoopt.pipeline import Gate, Plan
from autoopt.process import Outcome
from autoopt.proposals import Proposal


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
        probing: whether its one-shot file is made, before any training.
        gates: where its training is to be judged, those that it has not passed yet.
        submitted: keys of its jobs that were begun.
    """

    proposal: Proposal
    plan: Plan
    attempts: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    again_at: float = 0.0
    confirming: bool = False
    probing: bool = False
    gates: list[Gate] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)

    def shown(self, notes: Mapping[str, str]) -> tuple[int, str, str, str] | None:
        """Its number, its recipe, the job that it is at, and what that says of itself; None while no job of it runs.

        Args:
            notes: by key of a running job, what it says.
        """
        number, label = self.proposal.number, self.proposal.recipe.label()
        if self.again_at:
            return number, label, "waits", "for the target"
        return next(((number, label, job.name, notes[job.key]) for job in self.plan.jobs if job.key in notes), None)
