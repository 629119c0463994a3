"""What mattered in a study: each technique's share of the front and its paired effect, each knob's importance."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.reporting.ablation import Verdict, techniques, verdicts

BINS = 4
"""A knob of more numbers than this is cut into so many parts with equally many candidates."""
FEWEST = 8
"""Candidates that a factor must be told from: with fewer it would be chance."""
FEWEST_OTHERS = 2
"""Candidates, beside those of the most frequent setting, that a factor must be told from."""


@dataclass(frozen=True, kw_only=True)
class Technique:
    """What one technique did in a study.

    Attributes:
        name: in words, such as `pruning`.
        on_front: members of the front that use it.
        front: members of the front.
        used: measured candidates that use it.
        measured: measured candidates.
        verdict: its paired effect, or None where no recipe was measured both with and without it.
        quality: median change of the task's metric over the pairs, or None.
        saved: by metric, the median share that it saves over the pairs (negative: what it costs).
    """

    name: str
    on_front: int
    front: int
    used: int
    measured: int
    verdict: Verdict | None = None
    quality: float | None = None
    saved: Mapping[str, float]


def of_techniques(results: Results) -> list[Technique]:
    """Every technique that any measured candidate uses, the most frequent on the front first."""
    measured = results.ranking().candidates
    front = [c for c in results.front() if c.value(results.quality) is not None]
    judged = {verdict.technique: verdict for verdict in verdicts(results)}
    found = []
    for name in dict.fromkeys(name for c in measured for name in techniques(c.recipe)):
        verdict = judged.get(name)
        effects = () if verdict is None else verdict.effects
        metrics = dict.fromkeys(metric for effect in effects for metric in effect.saved)
        found.append(
            Technique(
                name=name,
                on_front=sum(name in techniques(c.recipe) for c in front),
                front=len(front),
                used=sum(name in techniques(c.recipe) for c in measured),
                measured=len(measured),
                verdict=verdict,
                quality=float(np.median([effect.quality[0] for effect in effects])) if effects else None,
                saved={m: float(np.median([e.saved[m] for e in effects if m in e.saved])) for m in metrics},
            )
        )
    return sorted(found, key=lambda technique: -technique.on_front)


def of_knobs(results: Results) -> dict[str, dict[str, float | None]]:
    """By objective and factor, the share of the objective's variance that the factor explains by itself.

    A factor is whether a part of the recipe is used at all, such as `prune`, among all candidates; or a knob
    of it, such as `prune sparsity`, among the candidates that use the part, and only if the knob varies there. Else
    every knob of a part would be credited with what the part does.

    Epsilon squared (Kelley 1935): the correlation ratio, less what chance would explain. It sees no
    interplay of factors. Sizes and times are compared by their logarithms.

    Returns:
        shares from 0 to 1, the largest first, then None for factors that too few candidates tell about; empty with fewer
        than `FEWEST` measured candidates.
    """
    found: dict[str, dict[str, float | None]] = {}
    for objective in results.objectives:
        able = [c for c in results.candidates if not c.failed and not c.refused and c.value(objective) is not None]
        if len(able) < FEWEST:
            continue
        values, factors = _values(able, objective), [_factors(c.recipe) for c in able]
        shares = {}
        for name in dict.fromkeys(name for each in factors for name in each):
            those = [i for i, each in enumerate(factors) if name in each]
            settings = [factors[i][name] for i in those]
            if len(set(settings)) < 2:
                continue
            share = _share(values[those], settings)
            if share is None or share > 0:
                shares[name] = share
        found[objective] = dict(
            sorted(shares.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True)
        )
    return found


def _share(values: np.ndarray, settings: Sequence[Any]) -> float | None:
    """The share that a factor explains; None where too few candidates, or too few of another setting, tell about it."""
    groups = _groups(settings)
    sizes = sorted(Counter(groups).values(), reverse=True)
    if len(groups) < FEWEST or len(groups) - sizes[0] < FEWEST_OTHERS:
        return None
    return epsilon_squared(values, groups)


def _values(candidates: Sequence[Candidate], metric: str) -> np.ndarray:
    values = np.array([c.measurements[metric].value for c in candidates])
    return np.log(values) if metric.endswith(("_ms", "_bytes", "_ratio")) and (values > 0).all() else values


def _factors(recipe: Recipe) -> dict[str, Any]:
    """What a recipe is made of: which parts it has, and the knobs of these; without its seed."""
    plain = dataclasses.asdict(recipe)  # unlike canonical JSON, with every knob at its default
    del plain["seed"]
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name == "scheme":
            found[name] = value
            continue
        if name != "finetune":  # that follows from the other parts
            found[name] = value is not None
        if isinstance(value, Mapping):
            found |= {f"{name} {key.replace('_', ' ')}": inner for key, inner in value.items()}
    return found


def _groups(values: Sequence[Any]) -> list[Any]:
    """What counts as the same setting: itself, or its part where a knob has many numbers."""
    numbers = [float(v) for v in values if _is_number(v)]
    if len(set(numbers)) <= BINS:
        return list(values)
    edges = np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])
    return [int(np.searchsorted(edges, v)) if _is_number(v) else v for v in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def epsilon_squared(values: np.ndarray, groups: Sequence[Any]) -> float:
    """Share of the variance that groups explain, less what chance would (Kelley 1935); 0 where none is left.

    Args:
        values: shape (n,), dtype float.
        groups: of each value.
    """
    n, names = len(values), dict.fromkeys(groups)
    total = float(((values - values.mean()) ** 2).sum())
    if len(names) < 2 or n <= len(names) or total < 1e-24:
        return 0.0
    labels = np.array([list(names).index(g) for g in groups])
    within = sum(
        float(((part - part.mean()) ** 2).sum()) for i in range(len(names)) if len(part := values[labels == i])
    )
    return max(0.0, 1 - (within / (n - len(names))) / (total / (n - 1)))
