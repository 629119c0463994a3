"""Where the time of a run goes."""

import math
from dataclasses import dataclass

from autoopt.execution.job_process import Outcome


@dataclass
class Spent:
    """Where the time of one run went, in seconds."""

    jobs: float = 0.0
    saved: float = 0.0
    busy: float = 0.0
    hits: int = 0
    wall: float = 0.0
    _until: float = -math.inf

    @property
    def overhead(self) -> float:
        """In which no job was at work."""
        return max(0.0, self.wall - self.busy)

    def add(self, outcome: Outcome, now: float) -> None:
        """Count one job that ended.

        Args:
            outcome: of the job.
            now: when it was seen to have ended, by a clock that is never set back.
        """
        if outcome.cached:
            self.saved += outcome.seconds
            self.hits += 1
        elif outcome.ended:
            self.jobs += outcome.seconds
            # Jobs are seen in the order in which they end: only what lies behind the last end is new.
            self.busy += max(0.0, now - max(now - outcome.seconds, self._until))
            self._until = max(self._until, now)
