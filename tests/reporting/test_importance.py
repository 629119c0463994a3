"""What mattered: shares, paired effects, and how much of the variance a knob explains."""

import numpy as np
import pytest
from builders import candidate, measured, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.reporting import importance


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
    assert list(shares["accuracy"]) == ["prune allocation", "prune"]


def test_what_never_varied_decides_nothing_however_much_its_part_does() -> None:
    """Pruning costs 20 points; its frequency, begin and end had one value each, its sparsity three that did not matter."""
    rng, found = np.random.default_rng(1), []
    for number in range(40):
        prune = Prune(sparsity=(0.3, 0.5, 0.7)[number % 3], frequency=20, begin=0.0, end=0.5) if number % 2 else None
        scheme = ("float32", "int8")[number // 2 % 2]
        recipe = Recipe(prune=prune, scheme=scheme, seed=number)
        found.append(made(number, recipe, 0.9 - (0.2 if prune else 0) + rng.normal(0, 0.02), 1000))
    shares = importance.of_knobs(results(*found))["accuracy"]
    assert shares["prune"] is not None
    assert shares["prune"] > 0.9
    assert set(shares) <= {"prune", "prune sparsity", "scheme"}
    assert all(share is not None and share < 0.2 for name, share in shares.items() if name != "prune")


def test_a_knob_counts_among_those_that_have_it() -> None:
    """Without clustering half of the candidates would hide how much the number of clusters decides."""
    rng, found = np.random.default_rng(0), []
    for number in range(48):
        cluster = Cluster(number=(8, 16, 32)[number % 3]) if number % 2 else None
        size = 1000 + 100 * cluster.number if cluster else 50_000
        found.append(made(number, Recipe(cluster=cluster, seed=number), 0.9, size + float(rng.normal(0, 10))))
    shares = importance.of_knobs(results(*found))["size_bytes"]
    assert shares["cluster"] == pytest.approx(1, abs=0.1)
    assert shares["cluster number"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("few", [3, 7])
def test_too_few_candidates_with_a_knob_tell_nothing_about_it(few: int) -> None:
    found = [
        made(n, Recipe(prune=Prune(sparsity=(0.3, 0.5)[n % 2]) if n < few else None, seed=n), 0.9 - n / 1000, n + 1.0)
        for n in range(20)
    ]
    shares = importance.of_knobs(results(*found))["accuracy"]
    assert shares["prune sparsity"] is None
    assert shares["prune"] is not None
    assert list(shares)[-1] == "prune sparsity"


def test_one_of_another_setting_is_too_few() -> None:
    found = [made(n, Recipe(scheme="int8" if n else "float32", seed=n), 0.9 - n / 1000, n + 1.0) for n in range(20)]
    assert importance.of_knobs(results(*found))["accuracy"]["scheme"] is None


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
