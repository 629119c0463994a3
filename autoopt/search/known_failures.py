"""Failures that are known beforehand: what a model's graph and a scheme have failed of once, they fail of again."""

from collections.abc import Iterable, Sequence

from autoopt.core.candidate import Candidate
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space import SearchSpace
from autoopt.study.space_fitting import takes
from autoopt.targets import Target

STAGES = ("convert", "quantize", "proof", "accuracy", "memory", "latency", "micro", "vela", "edgetpu")
"""Where a file is made and run."""
PASSING = (
    "its process", "its machine", "memory", "alloc", "arena", "limit", "not done after", "killed", "nan", "infinite",
    "differ", "off by", "look-up tables", "'s function raised", "no times",
)  # fmt: skip
"""Words of failures that lie in what a job may take, or in the values of weights: the next candidate may fare better."""
UNTRAINABLE = "can't take the model"
"""Words of the reason why tensorflow-model-optimization refuses a model."""


def failure(
    recipe: Recipe, candidates: Iterable[Candidate], groups: Sequence[int] | None = None
) -> tuple[str, str] | None:
    """Stage and reason of which a recipe will fail, as its scheme did on the same model uncompressed; None if unknown.

    Args:
        recipe: not done yet.
        candidates: of the study, done.
        groups: of the model's channels, see `fitting.takes`; None if they are not known.
    """
    cut = recipe.channels
    if cut is not None and groups is not None and not takes(groups, cut.ratio, cut.scope, cut.multiple):
        return "channels", f"no layer of this model can take it: {cut.label()}, rounded to multiples of {cut.multiple}"
    for candidate in candidates:
        alike = candidate.recipe.scheme == recipe.scheme and candidate.recipe.quantize == recipe.quantize
        if candidate.failed and alike and not candidate.recipe.compresses and lasting(candidate):
            return candidate.failed_stage, f"{candidate.reason} (so did #{candidate.number}, the same scheme alone)"
    return None


def lasting(candidate: Candidate) -> bool:
    """Whether a failure follows from the scheme and the model's graph alone."""
    reason = candidate.reason.lower()
    if candidate.failed_stage == "qat":
        return UNTRAINABLE in reason
    return candidate.failed_stage in STAGES and not any(word in reason for word in PASSING)


def schemes(space: SearchSpace, target: Target, candidates: Iterable[Candidate]) -> list[str]:
    """The schemes of a space that a target runs, without those that failed on the study's model for good."""
    known = list(candidates)
    able = [name for name in SCHEMES if name in space.knobs["scheme"] and not target.refuses(name)]
    return [name for name in able if failure(Recipe(scheme=name), known) is None]


def refusal(space: SearchSpace, target: Target) -> str:
    """What a person should know of a space whose schemes a target can't run; `` where it runs them all."""
    refused = [name for name in SCHEMES if name in space.knobs["scheme"] and target.refuses(name)]
    if not refused:
        return ""
    return (
        f"warning: {target.name} can't run {', '.join(refused)} ({target.refuses(refused[0])}); "
        "take them out of the space, or they fail untried"
    )
