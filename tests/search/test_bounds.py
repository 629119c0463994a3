"""Bounds on what a recipe can come to, before it is trained."""

import csv
import json
import random

import builders
import numpy as np
import pytest
from builders import METRICS, candidate, recipes
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import budgets as budget_syntax
from autoopt.core.candidate import Candidate
from autoopt.core.ranking import non_dominated
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune, Quantize
from autoopt.search.bounds import ENOUGH, ONE_SHOT_MARGIN, Prospects
from autoopt.search.relatives import milder
from autoopt.study.objectives import Terms

TABLE = builders.ROOT / "experiments" / "search_efficiency" / "table.csv"
OBJECTIVES = ("accuracy", "latency_ms", "compressed_bytes")


def terms(*budgets: str, objectives: tuple[str, ...] = OBJECTIVES) -> Terms:
    limits = tuple(budget_syntax.parse(text, METRICS) for text in budgets)
    return Terms(quality=METRICS["accuracy"], metrics=METRICS, objectives=objectives, budgets=limits)


def pruned(sparsity: float, scheme: str = "float32", epochs: int = 2) -> Recipe:
    return Recipe(prune=Prune(sparsity=sparsity), scheme=scheme, finetune=Finetune(epochs=epochs))


def made(number: int, recipe: Recipe, accuracy: float, ms: float = 1.0, size: float = 100_000.0) -> Candidate:
    return candidate(number, recipe=recipe, accuracy=accuracy, latency_ms=ms, compressed_bytes=size)


BASELINE = made(0, Recipe(), 0.9, size=400_000.0)
STEPS = [made(1 + i, pruned(0.1 + 0.02 * i), 0.9 - 0.004 * i, size=300_000.0 - 5_000 * i) for i in range(ENOUGH)]
"""Each harsher one loses a little: none was ever better than the median of its milder relatives."""
TYPICAL = STEPS[ENOUGH // 2 - 1].measurements["accuracy"].value
"""The median of the baseline and all steps."""


def known(*more: Candidate, budgets: tuple[str, ...] = (), exact: bool = False, **changes) -> Prospects:
    return Prospects([BASELINE, *STEPS, *more], terms(*budgets, **changes), exact=exact)


# --- milder


@given(recipes, recipes, recipes)
def test_milder_is_transitive(a: Recipe, b: Recipe, c: Recipe) -> None:
    assert not milder(a, a)
    if milder(a, b) and milder(b, c):
        assert milder(a, c) or a == c


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Recipe(), pruned(0.5)),
        (Recipe(), Recipe(scheme="qat_int8")),
        (Recipe(), Recipe(scheme="int8")),
        (pruned(0.3), pruned(0.5)),
        (pruned(0.3, "float16"), pruned(0.3, "int8")),
        (pruned(0.3, epochs=3), pruned(0.3, epochs=1)),
        (Recipe(cluster=Cluster(number=16)), Recipe(cluster=Cluster(number=8))),
        (Recipe(cluster=Cluster(number=16)), Recipe(cluster=Cluster(number=16), prune=Prune(sparsity=0.2))),
        (Recipe(scheme="dynamic"), Recipe(scheme="dynamic", quantize=Quantize(int4_share=0.5))),
    ],
)
def test_what_takes_less_is_milder(a: Recipe, b: Recipe) -> None:
    assert milder(a, b)
    assert not milder(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pruned(0.3, "int8"), pruned(0.5, "float32")),
        (pruned(0.3, "qat_int8"), pruned(0.5, "int8")),
        (pruned(0.3, "float32"), pruned(0.5, "qat_int8")),
        (Recipe(prune=Prune(sparsity=0.5, structure="2:4")), pruned(0.7)),
        (pruned(0.3, epochs=1), pruned(0.5, epochs=3)),
        (Recipe(scheme="dynamic", quantize=Quantize(int4_share=1)), Recipe(scheme="int8")),
        (Recipe(scheme="dynamic", quantize=Quantize(int4_share=1)), Recipe(scheme="int8", quantize=Quantize(keep=1))),
    ],
)
def test_what_takes_less_of_one_and_more_of_another_is_not_comparable(a: Recipe, b: Recipe) -> None:
    assert not milder(a, b)
    assert not milder(b, a)


# --- quality


def test_quality_is_bounded_by_what_milder_relatives_reached() -> None:
    hope = known().hope(pruned(0.6))
    assert hope == pytest.approx(TYPICAL)  # and no margin
    freak = made(90, pruned(0.55), 0.95)
    assert known(freak).hope(pruned(0.6)) >= 0.94


def test_few_candidates_bound_nothing() -> None:
    few = Prospects([BASELINE, *STEPS[: ENOUGH - 1]], terms(), exact=False)
    assert few.hope(pruned(0.6)) == float("inf")


def test_one_bad_relative_does_not_open_the_bound() -> None:
    diverged = made(90, pruned(0.05), 0.1)
    assert known(diverged).hope(pruned(0.6)) < 0.9


def test_half_a_training_bounds_the_rest() -> None:
    def trained(number: int, score: float) -> Candidate:
        report = {
            "stage": "prune",
            "epochs": [{"accuracy": score - 0.05}, {"accuracy": score - 0.01}],
            "judged_epoch": 1,
            "best_epoch": 2,
        }
        plain = made(number, pruned(0.2), score).to_dict()
        return Candidate.from_dict(plain | {"report": [report]})

    found = Prospects([trained(i, 0.7 + 0.01 * i) for i in range(ENOUGH)], terms(), exact=False)
    assert found.hope(pruned(0.1), ("prune", "begun"), 0.5) == pytest.approx(0.55)
    assert found.hope(pruned(0.1), ("prune", "done"), 0.5) == pytest.approx(0.51)
    assert found.hope(pruned(0.1), ("cluster", "done"), 0.5) == float("inf")


# --- cheap metrics


def test_a_scheme_shares_its_latency_and_the_one_shot_file_its_weight() -> None:
    floors = known(made(50, Recipe(scheme="int8"), 0.9, ms=0.5)).floors(
        pruned(0.8, "int8"), {"compressed_bytes": 50_000}
    )
    assert floors["latency_ms"] == 0.5
    assert floors["compressed_bytes"] == 50_000 * (1 - ONE_SHOT_MARGIN)


def test_where_the_target_reads_the_file_only_the_file_tells() -> None:
    int8 = made(50, Recipe(scheme="int8"), 0.9, ms=0.5)
    assert "latency_ms" not in known(int8, exact=True).floors(pruned(0.8, "int8"))
    shown = known(int8, exact=True).floors(pruned(0.8, "int8"), {"latency_ms": 0.4})
    assert shown["latency_ms"] == pytest.approx(0.4 * (1 - ONE_SHOT_MARGIN))


def test_over_a_budget_by_more_than_the_margin() -> None:
    over = known(budgets=("compressed_bytes <= 75 KB",)).verdict(pruned(0.8), {"compressed_bytes": 100_000})
    assert over is not None
    assert (over.kind, over.reason) == ("over budget", "at least 80 KB, outside compressed_bytes <= 75 KB")
    assert known(budgets=("compressed_bytes <= 90 KB",)).verdict(pruned(0.8), {"compressed_bytes": 100_000}) is None


def test_a_slow_scheme_is_over_a_latency_budget() -> None:
    over = known(budgets=("latency_ms <= 0.9",)).verdict(pruned(0.8))
    assert over is not None
    assert over.kind == "over budget"
    assert known(budgets=("latency_ms <= 0.9",)).verdict(pruned(0.8, "int8")) is None  # no int8 file was timed yet


def test_a_quality_out_of_reach_is_over_budget() -> None:
    over = known(budgets=("accuracy >= 0.95",)).verdict(pruned(0.8))
    assert over is not None
    assert over.reason == f"at most {TYPICAL * 100:.2f} %, outside accuracy >= 0.95"


def test_dominated_only_with_all_that_it_takes() -> None:
    best = made(60, Recipe(cluster=Cluster(number=8)), 0.9, size=40_000.0)
    assert known(best).verdict(pruned(0.8)) is None  # its weight is not known
    assert known(best).verdict(pruned(0.8), {"compressed_bytes": 45_000}) is None  # it may come out at 36,000
    found = known(best).verdict(pruned(0.8), {"compressed_bytes": 51_000})
    assert found is not None
    assert (found.kind, found.reason) == (
        "dominated",
        f"at best {TYPICAL * 100:.2f} %, which #60 beats at no more cost",
    )


def test_what_the_target_does_not_run_dominates_nothing() -> None:
    plain = made(60, Recipe(cluster=Cluster(number=8)), 0.9, size=40_000.0).to_dict()
    refused = Candidate.from_dict(plain | {"refused": "float32 weights"})
    assert known(refused).verdict(pruned(0.8), {"compressed_bytes": 50_000}) is None


def test_a_probe_is_asked_for_only_where_it_can_tell() -> None:
    best = made(60, Recipe(cluster=Cluster(number=8)), 0.9, size=40_000.0)
    assert known(best).tells(pruned(0.8), ["compressed_bytes"])
    lucky = made(61, pruned(0.5), 0.93)
    assert not known(lucky).tells(pruned(0.05), ["compressed_bytes"])  # it may be the most accurate of all
    assert known(budgets=("compressed_bytes <= 80 KB",)).tells(pruned(0.05), ["compressed_bytes"])


@given(
    st.lists(st.tuples(st.floats(0.05, 0.9), st.floats(0.5, 1), st.integers(1, 3), st.integers(1, 9)), min_size=ENOUGH),
    st.floats(0, 1),
    st.floats(0, 3),
    st.floats(0, 3),
)
def test_whatever_stays_within_the_bounds_of_a_dominated_recipe_is_dominated(
    rows: list[tuple[float, float, int, int]], worse: float, slower: float, larger: float
) -> None:
    done = [made(i, pruned(round(s, 2)), a, float(ms), 1e4 * kb) for i, (s, a, ms, kb) in enumerate(rows)]
    recipe = pruned(0.95)
    found = Prospects(done, terms(), exact=True)
    shown = {"latency_ms": 2.0, "compressed_bytes": 5e4}
    verdict = found.verdict(recipe, shown)
    floors, hope = found.floors(recipe, shown), found.hope(recipe)
    if verdict is None:
        return
    outcome = (hope - worse, floors["latency_ms"] + slower, floors["compressed_bytes"] + larger)
    assert any(
        c.measurements["accuracy"].value >= outcome[0]
        and c.measurements["latency_ms"].value <= outcome[1]
        and c.measurements["compressed_bytes"].value <= outcome[2]
        for c in done
    )


# --- against the truth: every recipe of a space, trained (see experiments/search_efficiency)


def truth() -> list[tuple[Candidate, float | None]]:
    """The table's candidates, each with the weight of its one-shot file."""
    found = []
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert not row["failed"]
            recipe = Recipe.from_json(row["recipe"])
            reports = [
                {
                    "stage": stage,
                    "epochs": [{"accuracy": first}, {"accuracy": best}],
                    "judged_epoch": 1,
                    "best_epoch": 2,
                }
                for stage, (first, best) in json.loads(row["reached"]).items()
            ]
            values = (float(row[name]) for name in OBJECTIVES)
            plain = made(int(row["number"]), recipe, *values).to_dict() | {"report": reports}
            one_shot = float(row["one_shot_bytes"]) if row["one_shot_bytes"] else None
            found.append((Candidate.from_dict(plain), one_shot))
    return found


def test_no_trained_file_is_smaller_than_its_one_shot_file_by_more_than_the_margin() -> None:
    shares = [c.measurements["compressed_bytes"].value / one_shot for c, one_shot in truth() if one_shot]
    assert len(shares) > 100
    assert min(shares) >= 1 - ONE_SHOT_MARGIN


def gates(c: Candidate) -> list[tuple[str, str]]:
    """Where its training is judged."""
    assert c.recipe.finetune is not None
    stages = [str(report["stage"]) for report in c.report]
    begun = stages if c.recipe.finetune.epochs > 1 else []
    return [*((stage, "begun") for stage in begun), *((stage, "done") for stage in stages[:-1])]


@pytest.mark.parametrize("seed", range(6))
def test_no_member_of_the_true_front_is_skipped(seed: int) -> None:
    table = truth()
    latency = {c.recipe.scheme: [] for c, _ in table}
    for c, _ in table:
        latency[c.recipe.scheme].append(c.measurements["latency_ms"].value)
    points = [
        (
            -c.measurements["accuracy"].value,
            np.median(latency[c.recipe.scheme]),
            c.measurements["compressed_bytes"].value,
        )
        for c, _ in table
    ]
    front = {c.number for (c, _), keep in zip(table, non_dominated(np.array(points)), strict=True) if keep}
    done = [c for c, _ in table if not c.recipe.trains]
    order = [(c, weight) for c, weight in table if c.recipe.trains]
    random.Random(seed).shuffle(order)
    skipped = set()
    for c, weight in order:
        found = Prospects(done, terms(), exact=False)
        one_shot = {"compressed_bytes": weight} if weight else None
        stops = (found.verdict(c.recipe, one_shot, at, found.reached(c.report, at)) for at in gates(c))
        if found.verdict(c.recipe, one_shot) or any(stops):
            skipped.add(c.number)
        else:
            done.append(c)
    assert len(skipped) > 20
    assert not skipped & front


def test_who_is_outside_the_budgets_beats_nobody() -> None:
    """Without a budget the large one beats a recipe that would be smaller and slower; with one it has no say."""
    large = candidate(
        90, recipe=pruned(0.9), accuracy=0.95, latency_ms=1.0, compressed_bytes=50_000.0, size_bytes=400e3
    )
    small = candidate(
        91, recipe=Recipe(scheme="dynamic"), accuracy=0.7, latency_ms=2.0, compressed_bytes=95e3, size_bytes=100e3
    )
    recipe = pruned(0.5, "dynamic")
    one_shot = {"compressed_bytes": 80_000.0, "size_bytes": 100_000.0}
    found = known(large, small).verdict(recipe, one_shot)
    assert found is not None
    assert found.kind == "dominated"
    assert known(large, small, budgets=("size_bytes <= 300 KB",)).verdict(recipe, one_shot) is None


# --- a night of thousands


@given(st.lists(st.tuples(recipes, st.floats(0, 1)), max_size=40), recipes, st.integers(0, 40), st.booleans())
def test_what_is_learnt_piece_by_piece_is_what_is_learnt_at_once(
    steps: list[tuple[Recipe, float]], recipe: Recipe, first: int, measured_anew: bool
) -> None:
    done = [BASELINE, *(made(1 + i, r, accuracy) for i, (r, accuracy) in enumerate(steps))]
    grown = Prospects(done[:first], terms(), exact=False)
    if measured_anew and steps:
        done[-1] = made(len(steps), steps[-1][0], 0.5)
    for number in range(first, len(done) + 1):
        grown.learn(done[:number])
    grown.learn(done)
    fresh = Prospects(done, terms(), exact=False)
    assert grown.hope(recipe) == fresh.hope(recipe)
    assert grown.verdict(recipe) == fresh.verdict(recipe)
    assert grown.floors(recipe) == fresh.floors(recipe)
