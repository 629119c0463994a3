"""What mattered: shares, paired effects, and how much of the variance a knob explains."""

import numpy as np
import pytest
from builders import candidate, measured, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt import importance
from autoopt.candidate import Candidate
from autoopt.metrics import Measurement
from autoopt.recipe import Cluster, Finetune, Prune, Recipe


def made(number: int, recipe: Recipe, accuracy: float, size: float) -> Candidate:
    return candidate(
        number, origin="search" if number else "baseline", recipe=recipe, accuracy=measured(accuracy, 0.01),
        size_bytes=Measurement.exact(size, "x"))  # fmt: skip


def test_a_techniques_share_and_paired_effect() -> None:
    prune, cluster = Prune(sparsity=0.5), Cluster(number=16)
    found = results(
        made(0, Recipe(), 0.9, 100),
        made(1, Recipe(prune=prune), 0.88, 50),
        made(2, Recipe(cluster=cluster), 0.9, 80),
        made(3, Recipe(prune=prune, cluster=cluster), 0.86, 60),
    )
    pruning, clustering = (
        next(t for t in importance.of_techniques(found) if t.name == n) for n in ("pruning", "clustering")
    )
    assert (pruning.on_front, pruning.front, pruning.used, pruning.measured) == (1, 2, 2, 4)
    assert pruning.saved["size_bytes"] == pytest.approx(np.median([0.5, 0.25]))
    assert pruning.quality == pytest.approx(-0.03)
    assert clustering.saved["size_bytes"] == pytest.approx(np.median([0.2, -0.2]))
    assert pruning.verdict is not None
    assert len(pruning.verdict.effects) == 2


def test_without_pairs_there_is_no_verdict() -> None:
    found = results(made(0, Recipe(scheme="int8"), 0.9, 100))
    (only,) = importance.of_techniques(found)
    assert (only.verdict, only.quality, only.saved) == (None, None, {})


def test_the_knob_that_decides_is_found() -> None:
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        sparsity, clusters = float(rng.uniform(0.1, 0.9)), int(rng.choice([8, 16, 32]))
        recipe = Recipe(
            prune=Prune(sparsity=sparsity),
            cluster=Cluster(number=clusters),
            finetune=Finetune(epochs=int(rng.integers(1, 4))),
        )
        found.append(
            made(number, recipe, 0.9 - 0.2 * sparsity + rng.normal(0, 0.005), 1000 * clusters + rng.normal(0, 10))
        )
    shares = importance.of_knobs(results(*found))
    assert next(iter(shares["accuracy"])) == "prune sparsity"
    assert shares["accuracy"]["prune sparsity"] > 0.7
    assert next(iter(shares["size_bytes"])) == "cluster number"
    assert shares["size_bytes"].get("finetune epochs", 0) < 0.2
    assert "seed" not in shares["accuracy"]


def test_a_knob_at_its_default_is_not_taken_for_one_that_does_not_apply() -> None:
    found = []
    for number in range(24):
        allocation = ("uniform", "global")[number % 2]
        recipe = (
            Recipe(prune=Prune(sparsity=0.5, allocation=allocation), seed=number) if number % 3 else Recipe(seed=number)
        )
        found.append(made(number, recipe, 0.9 if allocation == "uniform" and number % 3 else 0.5, 1000))
    shares = importance.of_knobs(results(*found))
    assert shares["accuracy"]["prune allocation"] == 1


def test_few_candidates_tell_nothing() -> None:
    assert importance.of_knobs(results(*(made(n, Recipe(seed=n), 0.9, n + 1) for n in range(5)))) == {}


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 3)), min_size=1, max_size=30))
def test_a_share_is_a_share(pairs: list[tuple[float, int]]) -> None:
    share = importance.epsilon_squared(np.array([v for v, _ in pairs]), [g for _, g in pairs])
    assert 0 <= share <= 1


def test_groups_that_say_all_and_groups_that_say_nothing() -> None:
    values = np.array([1.0, 1.0, 2.0, 2.0])
    assert importance.epsilon_squared(values, ["a", "a", "b", "b"]) == 1
    assert importance.epsilon_squared(values, ["a", "b", "a", "b"]) == 0
    assert importance.epsilon_squared(values, ["a", "a", "a", "a"]) == 0
