"""Knobs of a search space: a list of values, or a range of numbers."""

import math
import random
from dataclasses import dataclass
from typing import Any, Protocol

Value = bool | int | float | str


class Trial(Protocol):
    """What `SearchSpace.sample` asks of a trial: three of `optuna.Trial`'s methods."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A knob with a list of values; one value makes it fixed, and it is not sampled."""

    values: tuple[Value, ...]

    @property
    def count(self) -> float:
        """How many values."""
        return len(self.values)

    def extremes(self) -> tuple[Value, ...]:
        """The values to check."""
        return self.values

    def middle(self) -> Value:
        """The middle one of numbers; else the first, which stands there for a reason."""
        numbers = [v for v in self.values if isinstance(v, int | float) and not isinstance(v, bool)]
        return sorted(numbers)[len(numbers) // 2] if len(numbers) == len(self.values) else self.values[0]

    def __contains__(self, value: Value) -> bool:
        return value in self.values

    def random(self, rng: random.Random) -> Value:
        """One value at random."""
        return rng.choice(self.values)

    def suggest(self, name: str, trial: Trial) -> Value:
        """One value by the trial's sampler."""
        if len(self.values) == 1:
            return self.values[0]
        chosen: Value = trial.suggest_categorical(name, self.values)
        return chosen

    def __str__(self) -> str:
        return ", ".join(str(v) for v in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A knob with a range of numbers; a range of one value is fixed, and it is not sampled.

    Attributes:
        low: smallest value.
        high: largest value.
        step: between values, or None for a continuous range.
        log: sampled on a logarithmic scale.
        whole: integers only.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    @property
    def count(self) -> float:
        """How many values; infinity if continuous."""
        if self.step is None:
            return math.inf if self.low < self.high else 1
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def extremes(self) -> tuple[Value, ...]:
        """The values to check."""
        return (self.low, self.high)

    def __contains__(self, value: Value) -> bool:
        if isinstance(value, str) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-6)

    def middle(self) -> Value:
        """The value in the middle, on the range's own scale."""
        if self.step is not None and not self.log:
            return self._at(int(self.count) // 2)
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if self.whole else middle

    def along(self, share: float) -> Value:
        """The value that lies so far, in [0, 1], from the lowest to the highest, on the range's own scale."""
        if self.step is not None and not self.log:
            return self._at(round(share * (int(self.count) - 1)))
        if share in (0, 1):  # no rounding error
            return self.high if share else self.low
        value = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        return round(value) if self.whole else value

    def random(self, rng: random.Random) -> Value:
        """One value at random."""
        if self.step is not None:
            return self._at(rng.randrange(int(self.count)))
        if self.log:
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return rng.uniform(self.low, self.high)

    def _at(self, index: int) -> Value:
        value = self.low + index * (self.step or 0)
        return int(value) if self.whole else round(value, 10)

    def suggest(self, name: str, trial: Trial) -> Value:
        """One value by the trial's sampler."""
        if self.count == 1:
            return int(self.low) if self.whole else self.low
        if self.whole:
            return trial.suggest_int(
                name, int(self.low), int(self.high), step=1 if self.log else int(self.step or 1), log=self.log
            )
        value = trial.suggest_float(name, self.low, self.high, step=None if self.log else self.step, log=self.log)
        return value if self.step is None else round(value, 10)

    def __str__(self) -> str:
        how = "log" if self.log else "continuous" if self.step is None else f"step {self.step:g}"
        return f"{self.low:g} to {self.high:g} ({how})"


Knob = Choice | Range
