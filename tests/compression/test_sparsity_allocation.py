"""How zeros are shared out among layers."""

import numpy as np
import pytest
import tiny
from builders import prunings
from hypothesis import given
from hypothesis import strategies as st

from autoopt.compression import sparsity_allocation
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import MOST_SPARSE, Finetune, Prune
from autoopt.models import loading
from autoopt.tflite import contents, conversion, proof

sizes = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400), min_size=1)
sparsities = st.floats(0, MOST_SPARSE)


def total(shares, counts):
    return sum(shares[name] * counts[name] for name in counts) / sum(counts.values())


@given(sizes, sparsities, st.integers(0, 99))
def test_one_threshold_gives_the_sparsity_asked_for(counts, sparsity, seed):
    rng = np.random.default_rng(seed)
    magnitudes = {name: rng.random(count) * rng.uniform(0.1, 10) for name, count in counts.items()}
    shares = sparsity_allocation.by_threshold(sparsity, magnitudes)
    assert all(0 <= share <= MOST_SPARSE for share in shares.values())
    # No more than one weight too many.
    assert sparsity - 1e-9 <= total(shares, counts) <= sparsity + 1 / sum(counts.values()) + 1e-9
    cut = {n: np.sort(magnitudes[n])[: round(shares[n] * counts[n])] for n in counts if shares[n] < MOST_SPARSE}
    kept = {n: np.sort(magnitudes[n])[round(shares[n] * counts[n]) :] for n in counts if shares[n] < MOST_SPARSE}
    if any(map(len, cut.values())):
        assert max(v.max() for v in cut.values() if len(v)) <= min(v.min() for v in kept.values() if len(v))


@given(sizes, sparsities, st.integers(0, 99))
def test_costs_are_kept_low_at_the_sparsity_asked_for(counts, sparsity, seed):
    rng = np.random.default_rng(seed)
    costs = {n: dict(zip(sparsity_allocation.LEVELS, np.cumsum(rng.random(4)), strict=True)) for n in counts}
    shares = sparsity_allocation.by_cost(sparsity, counts, costs)
    assert total(shares, counts) == pytest.approx(sparsity)
    assert all(0 <= share <= MOST_SPARSE + 1e-9 for share in shares.values())


def test_the_layer_that_costs_nothing_is_emptied_first():
    costs = {
        "free": dict.fromkeys(sparsity_allocation.LEVELS, 0.0),
        "dear": dict(zip(sparsity_allocation.LEVELS, range(1, 5), strict=True)),
    }
    shares = sparsity_allocation.by_cost(0.5, {"free": 100, "dear": 100}, costs)
    assert shares == {"free": pytest.approx(MOST_SPARSE), "dear": pytest.approx(0.02)}


@given(prunings)
def test_patterns_have_the_same_share_everywhere(prune):
    assert prune.structure == "unstructured" or prune.allocation == "uniform"


@pytest.mark.parametrize("how", ["global", "sensitivity"])
def test_layers_differ_and_all_together_have_the_sparsity(how):
    recipe = Recipe(prune=Prune(sparsity=0.7, allocation=how, frequency=2), finetune=Finetune(epochs=2))
    start = tiny.packed(Recipe())
    trained, reports = tiny.train(loading.unpack(start)[0], recipe.stages())
    rows = reports[0]["touched"]
    counts = {row["layer"]: int(np.prod(row["shape"])) for row in rows}
    shares = {row["layer"]: row["sparsity"] for row in rows}
    assert total(shares, counts) == pytest.approx(0.7, abs=0.01)
    assert max(shares.values()) - min(shares.values()) > 0.1
    assert reports[0]["epochs"][-1]["accuracy"] > 0.9
    proof.prove(contents.read(conversion.float32(trained)), recipe, reports)


def test_sensitivity_leaves_the_model_as_it_was():
    model = loading.unpack(tiny.packed(Recipe()))[0]
    before = model.get_weights()
    prunable = {name: [model.get_layer(name).kernel] for name in ("conv", "hidden")}
    shares = sparsity_allocation.shares("sensitivity", 0.6, prunable, model, tiny.training())
    assert set(shares) == {"conv", "hidden"}
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
