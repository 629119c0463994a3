"""Three candidates that differ in what they get right."""

import dataclasses

import numpy as np
from builders import candidate, failed, measured, results

from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import pack_outcomes
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune

TUNED = Finetune(epochs=3)
BASELINE = Recipe()
PRUNED = Recipe(prune=Prune(sparsity=0.5, end=0.75), scheme="dynamic", finetune=TUNED)
CLUSTERED = Recipe(cluster=Cluster(number=16), scheme="dynamic", finetune=TUNED)


def judged(number: int, right: list[int], recipe: Recipe = BASELINE, **more: object) -> Candidate:
    """A candidate that gets so many of the 100 items of each class right."""
    outcomes = np.concatenate([np.arange(100) < n for n in right])
    n = len(outcomes)
    made = candidate(
        number,
        origin="search" if number else "baseline",
        recipe=recipe,
        outcomes=pack_outcomes(outcomes),
        accuracy=measured(outcomes.mean(), 0.02, n=n),
        latency_ms=measured(4.0 / (number + 1), 0.1),
        size_bytes=1000 * (number + 1),
    )
    return dataclasses.replace(made, classes=tuple((n, 100) for n in right), **more)


def confirmed(number: int, right: int) -> Confirmation:
    outcomes = np.arange(100) < right
    return Confirmation(quality=measured(right / 100, 0.03), outcomes=pack_outcomes(outcomes))


BASE = judged(0, [90, 95, 80], BASELINE)
A = judged(1, [90, 40, 79], PRUNED)
B = judged(2, [91, 95, 80], CLUSTERED)
STUDY = results(BASE, A, B, failed(3), provenance={"class_names": ["cat", "dog", "emu"]})
