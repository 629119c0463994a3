"""Where the time of a run goes."""

from dataclasses import dataclass

from autoopt.process import Outcome


@dataclass
class Spent:
    """Where the time of one run went, in seconds."""

    jobs: float = 0.0
    saved: float = 0.0
    busy: float = 0.0
    hits: int = 0
    wall: float = 0.0
    _until: float = 0.0

    @property
    def overhead(self) -> float:
        """In which no job was at work."""
        return max(0.0, self.wall - self.busy)

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
