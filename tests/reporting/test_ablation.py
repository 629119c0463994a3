"""What a technique brings: the same recipe with and without it, by the metrics that count."""

import dataclasses

import numpy as np
import pytest
from builders import candidate, failed, measured, recipes, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.metrics import pack_outcomes
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.reporting.ablation import GAIN, effects, verdicts

OBJECTIVES = ("accuracy", "latency_ms", "compressed_bytes")
PRUNED = Recipe(prune=Prune(sparsity=0.5))
CLUSTERED = Recipe(cluster=Cluster(number=8))
PLAIN = Recipe()


def made(number, recipe, accuracy=0.9, latency_ms=2.0, compressed_bytes=1000, **more):
    return candidate(
        number, recipe=recipe, accuracy=accuracy if not isinstance(accuracy, float) else measured(accuracy, 0.03),
        latency_ms=latency_ms, compressed_bytes=compressed_bytes, **more
    )  # fmt: skip


def right(share, n=1000):
    """Accuracy of the first `share` of `n` items."""
    outcomes = np.arange(n) < share * n
    return {"accuracy": measured(share, 0.03, n=n), "outcomes": pack_outcomes(outcomes)}


def only(study, number=1):
    (found,) = effects(study)[number]
    return found


def test_pruning_that_saves_nothing_is_not_worth_it():
    study = results(made(0, PLAIN), made(1, PRUNED), objectives=OBJECTIVES)
    found = only(study)
    assert (found.technique, found.candidate.number, found.without.number) == ("pruning", 1, 0)
    assert found.saved == {"latency_ms": 0, "compressed_bytes": 0}
    assert not found.worth
    (verdict,) = verdicts(study)
    assert verdict.worth == 0
    assert verdict.text() == (
        "pruning: not worth it on this target (less than 2% faster or smaller, and no better, in the one pair)"
    )


@pytest.mark.parametrize(("size", "worth"), [(970, True), (980, True), (981, False), (1000, False), (1500, False)])
def test_a_smaller_download_is_worth_it_from_two_percent(size, worth):
    found = only(results(made(0, PLAIN), made(1, PRUNED, compressed_bytes=size), objectives=OBJECTIVES))
    assert found.saved["compressed_bytes"] == pytest.approx(1 - size / 1000)
    assert found.worth == worth


@pytest.mark.parametrize(("spread", "worth"), [(0.01, True), (0.2, False)])
def test_what_is_faster_within_the_noise_alone_is_not_worth_it(spread, worth):
    pair = made(0, PLAIN, latency_ms=measured(2.0, spread)), made(1, PRUNED, latency_ms=measured(1.9, spread))
    found = only(results(*pair, objectives=OBJECTIVES))
    assert found.saved["latency_ms"] == pytest.approx(0.05)
    assert found.worth == worth


def test_what_one_metric_saves_outweighs_what_another_costs():
    found = only(results(made(0, PLAIN), made(1, PRUNED, latency_ms=3.0, compressed_bytes=500), objectives=OBJECTIVES))
    assert found.saved == {"latency_ms": pytest.approx(-0.5), "compressed_bytes": pytest.approx(0.5)}
    assert found.worth


def test_surely_better_quality_is_worth_it_though_nothing_is_saved():
    study = results(made(0, PLAIN, **right(0.80)), made(1, PRUNED, **right(0.82)), objectives=OBJECTIVES)
    found = only(study)
    assert found.quality[0] == pytest.approx(0.02)
    assert found.quality[1] > 0
    assert found.worth


@pytest.mark.parametrize("without_outcomes", [{"accuracy": measured(0.82, 0.03)}, right(0.80), right(0.70)])
def test_quality_that_may_be_luck_the_same_or_worse_is_not(without_outcomes):
    study = results(made(0, PLAIN, **right(0.80)), made(1, PRUNED, **without_outcomes), objectives=OBJECTIVES)
    assert not only(study).worth


@pytest.mark.parametrize(("error", "worth"), [(0.8, True), (1.0, False), (1.2, False)])
def test_of_an_error_less_is_better(error, worth):
    study = dataclasses.replace(
        results(
            candidate(0, recipe=PLAIN, mae=measured(1.0, 0.05)), candidate(1, recipe=PRUNED, mae=measured(error, 0.05))
        ),
        quality="mae",
        objectives=("mae", "size_bytes"),
    )
    assert only(study).worth == worth


def test_without_a_twin_there_is_nothing_to_tell():
    lone = dataclasses.replace(PRUNED, seed=7)
    study = results(made(0, PLAIN), made(1, lone), made(2, CLUSTERED, compressed_bytes=1), objectives=OBJECTIVES)
    assert effects(study).get(1, []) == []
    assert effects(study).get(0, []) == []
    assert [v.technique for v in verdicts(study)] == ["clustering"]
    assert verdicts(results()) == []


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("fate", ["failed", "refused", "unmeasured"])
def test_what_failed_was_refused_or_not_measured_is_left_out(which, fate):
    pair = [made(0, PLAIN), made(1, PRUNED, compressed_bytes=1)]
    if fate == "failed":
        pair[which] = dataclasses.replace(failed(which), recipe=pair[which].recipe)
    elif fate == "refused":
        pair[which] = dataclasses.replace(pair[which], refused="the target runs integers alone")
    else:
        pair[which] = candidate(which, recipe=pair[which].recipe, compressed_bytes=1)
    study = results(*pair, objectives=OBJECTIVES)
    assert effects(study).get(1, []) == []
    assert verdicts(study) == []


def test_each_technique_is_compared_with_the_same_recipe_without_it_alone():
    tuned = {"finetune": Finetune(epochs=3), "scheme": "int8"}
    both = Recipe(prune=PRUNED.prune, cluster=CLUSTERED.cluster, **tuned)
    study = results(
        made(0, Recipe(cluster=both.cluster, **tuned)),
        made(1, Recipe(prune=both.prune, **tuned)),
        made(2, dataclasses.replace(both, scheme="float32")),
        made(3, both),
        made(4, dataclasses.replace(both, finetune=Finetune(epochs=4), scheme="float32")),
        objectives=OBJECTIVES,
    )
    found = {e.technique: e.without.number for e in effects(study)[3]}
    assert found == {"pruning": 0, "clustering": 1, "int8 quantization": 2}


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.qat])
def test_quantization_aware_training_is_compared_with_the_post_training_scheme(scheme):
    study = results(
        made(0, PLAIN),
        made(1, Recipe(scheme=scheme)),
        made(2, Recipe(scheme=scheme.removeprefix("qat_"))),
        objectives=OBJECTIVES,
    )
    assert only(study).technique == "quantization-aware training"
    assert only(study).without.number == 2
    assert only(study, 2).without.number == 0


def test_only_metrics_that_the_study_trades_or_limits_count():
    """Clusters shrink the download alone: that brings nothing where memory and the file's size are traded."""
    pair = [
        candidate(0, recipe=PLAIN, accuracy=0.9, memory_bytes=100, size_bytes=100, compressed_bytes=100),
        candidate(1, recipe=CLUSTERED, accuracy=0.9, memory_bytes=100, size_bytes=100, compressed_bytes=30),
    ]
    objectives = ("accuracy", "memory_bytes", "size_bytes")
    found = only(results(*pair, objectives=objectives))
    assert set(found.saved) == {"memory_bytes", "size_bytes"}
    assert not found.worth
    limited = only(results(*pair, objectives=objectives, budgets=["compressed_bytes <= 50", "accuracy >= 0.5"]))
    assert set(limited.saved) == {*found.saved, "compressed_bytes"}
    assert limited.worth


def test_a_verdict_counts_all_its_pairs():
    halves = [Recipe(prune=Prune(sparsity=s)) for s in (0.3, 0.5, 0.7)]
    study = results(
        made(0, PLAIN),
        *[made(n, recipe, compressed_bytes=size) for n, recipe, size in zip((1, 2, 3), halves, (995, 900, 700), strict=True)],
        objectives=OBJECTIVES,
    )  # fmt: skip
    (verdict,) = verdicts(study)
    assert (verdict.worth, len(verdict.effects)) == (2, 3)
    assert verdict.text() == "pruning: brings something in 2 of 3 pairs"
    nothing = dataclasses.replace(study, objectives=("accuracy", "latency_ms"))
    assert verdicts(nothing)[0].text().endswith("and no better, in 3 pairs)")


@given(st.lists(recipes, min_size=1, max_size=8, unique_by=lambda r: r.digest), st.data())
def test_an_effect_is_worth_it_exactly_where_something_is_saved(found, data):
    """With qualities that can't be told apart."""
    stripped = [dataclasses.replace(r, prune=None) for r in found] + [
        dataclasses.replace(r, cluster=None) for r in found
    ]
    every = list({r.digest: r for r in [*found, *stripped, Recipe()]}.values())
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=len(every), max_size=len(every)))
    study = results(
        *[made(n, r, compressed_bytes=size) for n, (r, size) in enumerate(zip(every, sizes, strict=True))],
        objectives=("accuracy", "compressed_bytes"),
    )
    told = verdicts(study)
    assert len({v.technique for v in told}) == len(told)
    for verdict in told:
        assert 0 <= verdict.worth <= len(verdict.effects)
        assert ("not worth it" in verdict.text()) == (verdict.worth == 0)
        for effect in verdict.effects:
            assert effect.candidate.recipe != effect.without.recipe
            small, large = (c.value("compressed_bytes") for c in (effect.candidate, effect.without))
            assert effect.worth == (1 - small / large >= GAIN)
