"""What times and bytes that were read off a target come to: estimates with their intervals."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from autoopt.core.metrics import INTERVAL, RANGE, Measurement

Rounds = list[list[tuple[int, int]]]
"""Of one fresh process: its rounds of pairs (file's ns, reference's ns)."""
WIDE = 0.02
"""A latency interval wider than this share of its value is measured on, and flagged if it stays so."""
QUANTILE = 0.99
"""Of Student's distribution, for the ends of a latency interval; see `latency_ratio`."""
RESOLUTION = 0.003
"""A difference that repeats don't take away: a file against itself was off by up to so much."""
CALM = 0.03
"""A round counts as calm if it took at most so much longer than the calmest ones."""
CALM_FEWEST = 3
"""Processes with a calm round that an interval can be made of."""
UNKNOWN = math.log(2)
"""Half an interval, as a logarithm, where nothing is known of it."""
DRIFT = 0.15
"""By how much the reference may change its speed before a reader is told."""


def latency_ratio(
    processes: Sequence[Rounds], how: str, flags: Iterable[str] = (), *, exact: bool = False
) -> Measurement:
    """Latency relative to the reference, from interleaved runs in several fresh processes.

    A machine that others use too has fast and slow spells, and two files don't slow down alike in
    them. So only the calm rounds count, those in which both files together ran about as fast as they
    ever did; what is chosen by is symmetric in the two, so that it favours neither. A round gives the
    median of its pairs' ratios, since what disturbs the machine for longer than a run disturbs both of a
    pair; a process gives the mean of its rounds. The estimate is the geometric mean over the processes,
    with Student's interval over them. Its quantile is 99 % and not 97.5 %, because times have heavy
    tails, and stopping as soon as the interval is narrow costs coverage (see experiments/latency_noise).

    Args:
        processes: for each process its rounds of pairs (file's ns, reference's ns).
        how: the protocol in words.
        flags: what the target said.
        exact: times are computed; one is as good as many.
    """
    logs = [float(np.mean(kept)) for kept in _calm(processes) if kept]
    mean, n = float(np.mean(logs)), len(logs)
    found = set(flags)
    half = 0.0
    if not exact:
        half = UNKNOWN
        if n >= CALM_FEWEST:
            from scipy import stats

            spread = float(stats.t.ppf(QUANTILE, n - 1) * np.std(logs, ddof=1) / math.sqrt(n))
            half = min(UNKNOWN, math.hypot(spread, RESOLUTION))
        if drift := _drift(processes):
            found.add(drift)
    value, low, high = (math.exp(x) for x in (mean, mean - half, mean + half))
    if (high - low) / value > WIDE:
        found.add("wide interval")
    runs = sum(len(one) for rounds in processes for one in rounds)
    return Measurement(value=value, low=low, high=high, n=runs, how=how, flags=tuple(sorted(found)))


def _calm(processes: Sequence[Rounds]) -> list[list[float]]:
    """For each process the logarithms of its calm rounds' ratios; none where it had no calm round."""
    levels = [[_level(one) for one in rounds] for rounds in processes]
    calmest = float(np.percentile([level for process in levels for level in process], 10))
    return [
        [float(np.median([math.log(a / b) for a, b in one])) for one, level in zip(rounds, process, strict=True)
         if level <= calmest + math.log1p(CALM)]
        for rounds, process in zip(processes, levels, strict=True)
    ]  # fmt: skip


def _level(one: Sequence[tuple[int, int]]) -> float:
    """How long both files together take in a round: the logarithm of the geometric mean."""
    first, second = (math.log(float(np.percentile(times, 25))) for times in zip(*one, strict=True))
    return (first + second) / 2


def _drift(processes: Sequence[Rounds]) -> str:
    """Whether the reference at its fastest became slower while it was measured: a device that throttles."""
    half = len(processes) // 2
    if half < 2:
        return ""
    first, last = (p10([b for rounds in part for one in rounds for _, b in one])
                   for part in (processes[:half], processes[-half:]))  # fmt: skip
    if abs(last / first - 1) <= DRIFT:
        return ""
    which = "slower" if last > first else "faster"
    return f"the reference became {abs(last / first - 1):.0%} {which} meanwhile: throttling, or other load"


def p10(times: Sequence[int]) -> float:
    """The tenth percentile: what the run takes when nothing disturbs it."""
    return float(np.percentile(times, 10))


def scale(ratio: Measurement, by: Measurement, how: str) -> Measurement:
    """A ratio times what it is relative to, with the ratio's flags.

    Both are uncertain, independently: the relative distances to the ends of the two intervals add like errors do.

    Args:
        ratio: over 0, with its ends.
        by: likewise.
        how: the protocol in words.
    """
    value = ratio.value * by.value
    below = math.hypot(math.log(ratio.value / ratio.low), math.log(by.value / by.low))
    above = math.hypot(math.log(ratio.high / ratio.value), math.log(by.high / by.value))
    return Measurement(
        value=value,
        low=value * math.exp(-below),
        high=value * math.exp(above),
        n=ratio.n,
        how=how,
        flags=ratio.flags,
    )


def over_processes(values: Sequence[float], how: str, flags: Iterable[str] = ()) -> Measurement:
    """The median of one time a fresh process, with Student's interval over the processes' logarithms.

    The quantile and what repeats don't take away are those of `latency_ratio`. One process alone is taken for
    exact, since only a target that computes its times is asked once.

    Args:
        values: over 0.
        how: the protocol in words.
        flags: what the target said.
    """
    value, logs, n = float(np.median(values)), np.log(values), len(values)
    mean, half = float(logs.mean()), 0.0
    if n > 1:
        from scipy import stats

        spread = float(stats.t.ppf(QUANTILE, n - 1) * logs.std(ddof=1) / math.sqrt(n))
        half = min(UNKNOWN, math.hypot(spread, RESOLUTION))
    low, high = min(value, math.exp(mean - half)), max(value, math.exp(mean + half))
    if n == 1:
        low = high = value
    return Measurement(value=value, low=low, high=high, n=n, how=how, flags=tuple(flags))


def repeated(values: Sequence[float], how: str, flags: Iterable[str] = ()) -> Measurement:
    """The middle of a few readings that hardly differ, with their range, which is no interval of any confidence."""
    n = len(values)
    return Measurement(
        value=float(np.median(values)),
        low=min(values),
        high=max(values),
        n=n,
        how=f"{how}; range of {n} readings" if n > 1 else how,
        flags=tuple(flags),
        ends=RANGE if n > 1 else INTERVAL,
    )
