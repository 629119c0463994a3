"""What keeps a candidate from going on and lies outside of it: a kill, a machine without room, a target that is away.

None of these is a verdict on the candidate, so that each is waited for, as long as that makes sense.
"""

from collections.abc import Callable
from dataclasses import dataclass

from autoopt.core.formatting import duration
from autoopt.execution.job_process import Outcome
from autoopt.search.candidate_run import CandidateRun

AWAY_S = 30.0
"""How long to wait for a target that does not answer before trying again."""
KILLED_WAITS_S = (5.0, 60.0, 600.0)
"""How long to wait before a candidate that was ended from outside is tried again; then it is left for the next run."""
MOST_KILLS = 10
"""A candidate that was ended from outside so often, in all runs, counts as failed."""
ROOM_WAITS_S = (5.0, 15.0, 60.0)
"""How long to wait for this machine to have room again: the first times, then always the last."""
STUCK_S = 900.0
"""How long a wait has to last before it is said that a person has to see to it."""
SPELL_S = 600.0
"""Waits that are further apart are not of one spell; more than the longest wait and a try take."""
OUTSIDE = ("away", "waiting", "killed", "unavailable")
"""States of an outcome that lie outside of the candidate."""


@dataclass(frozen=True)
class Wait:
    """Try again later.

    Attributes:
        seconds: until then.
        why: what is waited for, in words for people.
    """

    seconds: float
    why: str


@dataclass(frozen=True)
class Leave:
    """Leave the candidate for the next run."""


@dataclass(frozen=True)
class GiveUp:
    """Count it against the candidate after all.

    Attributes:
        reason: in words for people.
    """

    reason: str


class Setbacks:
    """Decides what follows from each setback, and says it once.

    Args:
        say: tells people.
        clock: seconds from any beginning, never set back.
        target: name of the target.
        call: calls a person, once in each spell of waits that lasts.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float], target: str, call: Callable[[str], None]
    ) -> None:
        self._say, self._clock, self._target, self._call = say, clock, target, call
        self._spell: tuple[float, float] | None = None
        self._called = False
        self._away_since: float | None = None
        self._said: set[str] = set()

    @property
    def target_is_away(self) -> bool:
        """Whether the target did not answer when it was last asked."""
        return self._away_since is not None

    def answered(self) -> None:
        """Note that the target has just measured something."""
        self._said.clear()
        self._spell, self._called = None, False
        if self._away_since is not None:
            self._say(f"{self._target} answers again, after {duration(self._clock() - self._away_since)}")
            self._away_since = None

    def step(self, run: CandidateRun, outcome: Outcome, *, needed: bool) -> Wait | Leave | GiveUp:
        """What to do after a job ended in one of the states `OUTSIDE`.

        Args:
            run: the candidate's.
            outcome: of the job.
            needed: whether all else is read against the candidate, so that it never counts as failed for a setback.
        """
        if outcome.state in ("away", "waiting"):
            self._call_if_long(run, outcome)
            return self._away(run, outcome) if outcome.state == "away" else self._no_room(run, outcome)
        return self._killed(run, outcome, needed=needed)

    def _killed(self, run: CandidateRun, outcome: Outcome, *, needed: bool) -> Wait | Leave | GiveUp:
        """Try again over time what a kill or a lost machine has ended."""
        run.attempts += 1
        run.proposal.lost(run.attempts)
        run.kills += 1
        if run.kills > len(KILLED_WAITS_S):
            return Leave()
        if run.attempts >= MOST_KILLS and not needed:
            return GiveUp(f"it was ended from outside {run.attempts} times (last: {outcome.reason})")
        seconds = KILLED_WAITS_S[run.kills - 1]
        self._say(f"#{run.number}: {outcome.reason}; trying again in {seconds:.0f} s")
        return Wait(seconds, "to be tried again")

    def _call_if_long(self, run: CandidateRun, outcome: Outcome) -> None:
        """Call a person if waits have followed each other for so long that nothing seems to mend itself."""
        now = self._clock()
        if self._spell is None or now - self._spell[1] > SPELL_S:
            self._spell, self._called = (now, now), False
        began = self._spell[0]
        self._spell = began, now
        if now - began >= STUCK_S and not self._called:
            self._called = True
            self._call(f"#{run.number} has waited for {duration(now - began)}: {outcome.reason}")

    def _no_room(self, run: CandidateRun, outcome: Outcome) -> Wait:
        """Wait until this machine has room again, however long that takes."""
        if outcome.reason not in self._said:
            self._said.add(outcome.reason)
            self._say(f"#{run.number} waits: {outcome.reason}")
        seconds = ROOM_WAITS_S[min(run.waits, len(ROOM_WAITS_S) - 1)]
        run.waits += 1
        return Wait(seconds, "for room on this machine")

    def _away(self, run: CandidateRun, outcome: Outcome) -> Wait:
        """Say once that the target does not answer, and wait for it."""
        if self._away_since is None:
            self._away_since = self._clock()
            self._say(f"#{run.number} waits: {outcome.reason}; trying again every {AWAY_S:.0f} s")
        return Wait(AWAY_S, "for the target")
