"""Which techniques bring something on this target, and which do not: the same recipe with and without."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from autoopt.core import ranking
from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.reprs import short
from autoopt.core.results import Results
from autoopt.core.schemes import SCHEMES

GAIN = 0.02
"""What a technique must save, as a share of what the recipe takes without it."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One technique in one recipe, against the same recipe without it.

    Attributes:
        technique: in words, such as `pruning`.
        candidate: with it.
        without: the same recipe without it.
        saved: by metric, the share that it saves (negative: what it costs).
        quality: its change of the task's metric, with a 95 % interval.
        worth: whether it saves `GAIN` of anything, beyond the spread of both, or is surely better.
    """

    technique: str
    candidate: Candidate
    without: Candidate
    saved: dict[str, float]
    quality: tuple[float, float, float]
    worth: bool

    def __repr__(self) -> str:
        return f"<Effect of {self.technique}: {self.candidate.name} against {self.without.name}>"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One technique in all recipes that can be compared.

    Attributes:
        technique: in words.
        effects: one for each candidate that has a twin without the technique.
    """

    technique: str
    effects: tuple[Effect, ...]

    def __repr__(self) -> str:
        return f"<Verdict: {short(self.text())}>"

    @property
    def worth(self) -> int:
        """In how many of the pairs it brings something."""
        return sum(effect.worth for effect in self.effects)

    def text(self) -> str:
        """One line for a person."""
        n = len(self.effects)
        pairs = "the one pair" if n == 1 else f"{n} pairs"
        if self.worth == 0:
            return f"{self.technique}: not worth it on this target (less than {GAIN:.0%} faster or smaller, and no better, in {pairs})"
        return f"{self.technique}: brings something in {self.worth} of {n} pair{'' if n == 1 else 's'}"


def verdicts(results: Results) -> list[Verdict]:
    """What each technique brings on the study's target, by the metrics that the study trades or limits.

    Args:
        results: the study's.

    Returns:
        a verdict for each technique that stands in one recipe and not in another that is the same otherwise; what is
        saved is a share of what the recipe takes without it.
    """
    found: dict[str, list[Effect]] = {}
    for pairs in effects(results).values():
        for effect in pairs:
            found.setdefault(effect.technique, []).append(effect)
    return [Verdict(technique=name, effects=tuple(pairs)) for name, pairs in found.items()]


def effects(results: Results) -> dict[int, list[Effect]]:
    """By candidate number, what each of its techniques brings, where the same recipe without it was measured too."""
    candidates = sorted(results.ranking().candidates, key=lambda c: c.number)
    able = {c.recipe: c for c in candidates}
    found = {}
    for candidate in candidates:
        twins = ((name, able.get(recipe)) for name, recipe in _without_each(candidate.recipe))
        found[candidate.number] = [_effect(results, name, candidate, twin) for name, twin in twins if twin is not None]
    return found


def techniques(recipe: Recipe) -> list[str]:
    """The techniques that a recipe uses, in words."""
    return [name for name, _ in _without_each(recipe)]


def _without_each(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    if recipe.channels is not None:
        yield "removing channels", dataclasses.replace(recipe, channels=None)
    if recipe.prune is not None:
        yield "pruning", dataclasses.replace(recipe, prune=None)
    if recipe.cluster is not None:
        yield "clustering", dataclasses.replace(recipe, cluster=None)
    if recipe.levels is not None:
        yield "learned levels", dataclasses.replace(recipe, levels=None)
    scheme = SCHEMES[recipe.scheme]
    if scheme.qat:
        yield "quantization-aware training", dataclasses.replace(recipe, scheme=recipe.scheme.removeprefix("qat_"))
    elif recipe.scheme != "float32":
        yield f"{scheme.label} quantization", dataclasses.replace(recipe, scheme="float32")
    if recipe.quantize is not None:
        yield recipe.quantize.label(), dataclasses.replace(recipe, quantize=None)


def _effect(results: Results, technique: str, candidate: Candidate, twin: Candidate) -> Effect:
    costs = [o for o in results.objectives if o != results.quality]
    costs += [b.metric for b in results.budgets if b.metric not in (results.quality, *costs)]
    saved = {}
    for name in costs:
        value, before = candidate.value(name), twin.value(name)
        if value is not None and before:
            saved[name] = -results.metrics[name].sign * (value - before) / abs(before)
    quality = results.difference(candidate, twin)
    sign = results.metrics[results.quality].sign
    surely_better = max(sign * quality[1], sign * quality[2]) < 0
    worth = surely_better or any(
        share >= GAIN and ranking.surely_better(candidate, twin, results.metrics[name]) for name, share in saved.items()
    )
    return Effect(technique=technique, candidate=candidate, without=twin, saved=saved, quality=quality, worth=worth)
