import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
import sound
from builders import candidate, failed, measured, recipes, results
from hypothesis import given
from hypothesis import strategies as st
from random_studies import studies

from autoopt.core.candidate import Confirmation
from autoopt.core.metrics import Measurement, Metric, pack_outcomes, wilson
from autoopt.core.ranking import non_dominated
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.stage_settings import Prune
from autoopt.errors import ConfigError

ITEMS = 40


def beats(study, a, b):
    """The definition: at least as good on every objective, better on one. More accuracy is better, less of the rest."""
    better = [x > y if n == "accuracy" else x < y for n in study.objectives for x, y in [(a.value(n), b.value(n))]]
    worse = [x < y if n == "accuracy" else x > y for n in study.objectives for x, y in [(a.value(n), b.value(n))]]
    return any(better) and not any(worse)


def eligible(study):
    return [c for c in study.candidates if study.fits(c) and all(c.value(n) is not None for n in study.objectives)]


# --- the front


@given(studies())
def test_front_is_what_the_definition_says(study):
    able = eligible(study)
    expected = {b.number for b in able if not any(beats(study, a, b) for a in able)}
    assert {c.number for c in study.front()} == expected


@given(studies())
def test_front_beats_everything_outside_it(study):
    front = study.front()
    inside = {c.number for c in front}
    assert not any(beats(study, a, b) for a in front for b in front)
    for other in eligible(study):
        assert other.number in inside or any(beats(study, a, other) for a in front)


@given(studies(), st.randoms())
def test_front_does_not_depend_on_the_order_of_candidates(study, rng):
    shuffled = list(study.candidates)
    rng.shuffle(shuffled)
    assert dataclasses.replace(study, candidates=tuple(shuffled)).front() == study.front()


@given(studies())
def test_front_starts_with_the_best_of_the_first_objective(study):
    first = study.objectives[0]
    values = [c.value(first) for c in study.front()]
    assert values == sorted(values, reverse=first == "accuracy")


@given(studies(budgets=False))
def test_front_within_other_budgets(study):
    budgets = study.parse_budgets(["size_bytes <= 3 B"])
    assert study.front(iter(budgets)) == dataclasses.replace(study, budgets=budgets).front()


@given(st.integers(0, 6), st.data())
def test_non_dominated_points(width, data):
    values = st.sampled_from([-1, 0, 0.5, 1, 2])
    points = data.draw(st.lists(st.tuples(*[values] * width), max_size=25))
    expected = [not any(all(x <= y for x, y in zip(q, p, strict=True)) and q != p for q in points) for p in points]
    assert non_dominated(np.array(points, dtype=float).reshape(len(points), width)).tolist() == expected


def test_equal_candidates_all_stay_on_the_front():
    study = results(candidate(0, accuracy=0.9, size_bytes=10), candidate(1, accuracy=0.9, size_bytes=10))
    assert [c.number for c in study.front()] == [0, 1]


def test_nothing_measured_makes_an_empty_front():
    assert results().front() == []
    assert results(failed(0), candidate(1)).front() == []


# --- statuses and budgets


@given(studies())
def test_every_candidate_has_one_status(study):
    statuses = study.statuses()
    front = {c.number for c in study.front()}
    assert statuses.keys() == {c.number for c in study.candidates}
    for c in study.candidates:
        assert (statuses[c.number] == "failed") == c.failed
        assert (statuses[c.number] == "front") == (c.number in front)
        assert (statuses[c.number] == "infeasible") == (not c.failed and not study.fits(c))


def test_margins_are_relative_to_the_baseline():
    study = results(
        candidate(0, "baseline", accuracy=0.9, size_bytes=100),
        candidate(1, accuracy=0.87, size_bytes=30),
        budgets=["accuracy >= baseline - 1%", "size_bytes <= 50% of baseline", "latency_ms <= 2"],
    )
    assert study.margins(study.candidates[1]) == {
        "accuracy >= baseline - 1%": pytest.approx(0.02),
        "size_bytes <= 50% of baseline": -20,
        "latency_ms <= 2": float("inf"),
    }


def test_a_failed_baseline_is_none():
    study = results(dataclasses.replace(failed(0), origin="baseline"), candidate(1, accuracy=0.9))
    assert study.baseline is None
    with pytest.raises(ConfigError, match="the baseline has no accuracy"):
        study.pick("accuracy >= baseline")


# --- the pick


@given(studies())
def test_pick_is_inside_every_budget(study):
    pick = study.pick()
    fitting = [c for c in study.candidates if study.fits(c) and c.value("accuracy") is not None]
    assert (pick.candidate is None) == (not fitting)
    if pick.candidate is None:
        assert pick.tied == ()
        assert pick.binding
        return
    assert pick.candidate in pick.tied
    assert all(study.fits(c) for c in pick.tied)
    assert not pick.nearest


@given(studies())
def test_pick_is_as_good_as_the_best_and_as_fast_as_any(study):
    pick = study.pick()
    if pick.candidate is None:
        return
    fitting = [c for c in study.candidates if study.fits(c) and c.value("accuracy") is not None]
    best = max(c.value("accuracy") for c in fitting)
    assert best in [c.value("accuracy") for c in pick.tied]
    assert all(c in pick.tied for c in fitting if c.value("accuracy") == best)
    for other in pick.tied:
        if "latency_ms" in other.measurements:
            assert pick.candidate.measurements["latency_ms"].low <= other.measurements["latency_ms"].high


@given(studies())
def test_where_nothing_fits_pick_says_what_is_in_the_way(study):
    pick = study.pick("size_bytes <= 0", "latency_ms <= 2")
    assert pick.candidate is None
    assert any(line.startswith("size_bytes <= 0") for line in pick.binding)
    assert 1 <= len(pick.nearest) <= 3
    assert not any(c.failed for c in pick.nearest)


def test_pick_of_statistically_tied_ones_is_the_fastest_then_the_smallest_download():
    study = results(
        candidate(0, spread=0.02, accuracy=0.95, latency_ms=measured(9), compressed_bytes=measured(1)),
        candidate(1, spread=0.02, accuracy=0.94, latency_ms=measured(2, 0.2), compressed_bytes=measured(8)),
        candidate(2, spread=0.02, accuracy=0.94, latency_ms=measured(2.1, 0.2), compressed_bytes=measured(5)),
        candidate(3, spread=0.02, accuracy=0.50, latency_ms=measured(1), compressed_bytes=measured(1)),
    )
    pick = study.pick()
    assert pick.candidate.name == "#2"
    assert [c.number for c in pick.tied] == [0, 1, 2]
    assert pick.why.startswith("fastest of 3 candidates whose accuracy")
    assert study.pick("latency_ms <= 2").candidate.name == "#1"


def right_of(number, right, items, latency, **more):
    """A candidate that is right on the first so many items."""
    outcomes = np.arange(items) < right
    low, high = wilson(right, items)
    accuracy = Measurement(value=right / items, low=low, high=high, n=items, how="x")
    origin = "search" if number else "baseline"
    return candidate(number, origin, accuracy=accuracy, latency_ms=latency, outcomes=pack_outcomes(outcomes), **more)


@pytest.mark.parametrize(("items", "best", "worse"), [(100, 92, 84), (200, 184, 174), (60, 57, 51), (50, 50, 48)])
def test_a_small_set_does_not_let_the_pick_fall(items, best, worse):
    """The intervals hold 0 or nearly so, and the worse one is faster: it is no better bargain for that."""
    study = results(right_of(0, best, items, 1.0), right_of(1, worse, items, 0.97))
    assert study.pick().candidate.number == 0
    assert study.pick().why == "the best accuracy of all that fit; no other comes within 1 point of it"


def test_too_few_items_are_said_with_how_many_would_do():
    study = results(right_of(0, 92, 100, 1.0), right_of(1, 92, 100, 0.5))
    pick = study.pick()
    assert pick.candidate.number == 1
    assert pick.why.startswith("fastest of 2 candidates whose accuracy is within 1 point of the best")
    assert pick.doubt == (
        "too few items to tell: with 100 items it is open whether 1 more that fit are within 1 point of the best accuracy; "
        "about 1,400 items would do"
    )
    many = results(right_of(0, 9200, 10_000, 1.0), right_of(1, 9200, 10_000, 0.5))
    assert (many.pick().candidate.number, many.pick().doubt) == (1, "")


def test_the_margin_is_the_studys():
    pair = right_of(0, 920, 1000, 1.0), right_of(1, 900, 1000, 0.5)
    assert results(*pair).pick().candidate.number == 0
    assert results(*pair, equivalence="2 points").pick().candidate.number == 1
    assert (
        results(*pair, equivalence="2 points")
        .pick()
        .why.endswith("is within 2 points of the best (of equally fast ones, the smallest download)")
    )
    assert results(*pair, equivalence="3 % of baseline").margin == pytest.approx(0.0276)


@pytest.mark.parametrize(("worse", "chosen"), [(2.019, 1), (2.03, 0)])
def test_the_margin_of_an_error_is_relative_to_the_baselines(worse, chosen):
    pair = candidate(0, "baseline", mae=2.0, latency_ms=2), candidate(1, mae=worse, latency_ms=1)
    study = results(*pair, quality="mae", objectives=("mae", "latency_ms"))
    assert study.margin == pytest.approx(0.02)
    assert study.pick().candidate.number == chosen


def test_a_margin_survives_json_and_is_left_out_where_it_is_the_default():
    study = results(candidate(0, accuracy=0.9), equivalence="2 points")
    assert Results.from_json(study.to_json()) == study
    assert "equivalence" not in results(candidate(0, accuracy=0.9)).to_json()


def test_pick_names_the_budgets_that_bind():
    pruned = Recipe(prune=Prune(sparsity=0.5), scheme="int8")
    study = results(
        candidate(0, recipe=pruned, accuracy=0.95, size_bytes=500, latency_ms=1),
        candidate(1, accuracy=0.90, size_bytes=200, latency_ms=1),
    )
    pick = study.pick("latency_ms <= 5", max_size="300B")
    assert pick.candidate.name == "#1"
    assert pick.why.startswith("the best accuracy of all that fit")
    assert pick.binding == (f"size_bytes <= 300B (without it: #0 {pruned.label()})",)


def test_nearest_are_those_that_miss_by_the_smallest_share():
    sizes = [500, 310, 900, 400]
    study = results(*[candidate(n, accuracy=0.9, size_bytes=size) for n, size in enumerate(sizes)], failed(9))
    pick = study.pick("size_bytes <= 300 B")
    assert [c.number for c in pick.nearest] == [1, 3, 0]
    assert pick.why == "nothing fits: none of 4 candidates is inside every budget"
    assert pick.binding == ("size_bytes <= 300 B (best seen: 310 B)",)


def test_budgets_that_only_together_keep_all_out():
    study = results(
        candidate(0, accuracy=0.9, size_bytes=500, latency_ms=1),
        candidate(1, accuracy=0.9, size_bytes=100, latency_ms=9),
    )
    assert study.pick("size_bytes <= 300 B", "latency_ms <= 2").binding == (
        "size_bytes <= 300 B (without it 1 would fit)",
        "latency_ms <= 2 (without it 1 would fit)",
    )


def test_a_budget_on_what_nobody_measured_is_named():
    pick = results(candidate(0, accuracy=0.9)).pick("memory_bytes <= 1 MB")
    assert pick.binding == ("memory_bytes <= 1 MB (best seen: none)",)


def test_asked_budgets_replace_those_of_the_study():
    study = results(candidate(0, accuracy=0.9, size_bytes=500), budgets=["size_bytes <= 300"])
    assert study.pick().candidate is None
    assert study.pick(max_size="1KB").candidate.name == "#0"


def test_a_limit_that_is_not_known_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown limit 'max_sise'; did you mean 'max_size'"):
        results(candidate(0, accuracy=0.9)).pick(max_sise="1 KB")
    with pytest.raises(ConfigError, match=r"budget: expected .*, got 5"):
        results(candidate(0, accuracy=0.9)).pick(5)


def test_a_limit_that_is_not_known_is_named():
    with pytest.raises(ConfigError, match="budgets: unknown limit 'max_mae_drop'; did you mean 'max_"):
        results(candidate(0, mae=0.9), quality="mae").pick(max_mae_drop="0.1")


def test_numbers_are_read_as_their_texts():
    study = results(candidate(0, "baseline", accuracy=0.9, latency_ms=2), candidate(1, accuracy=0.85, latency_ms=1))
    assert study.pick(max_latency=1).candidate.number == 1
    assert study.pick(max_accuracy_drop=0.01).candidate.number == 0
    with pytest.raises(ConfigError, match="max_size 60: of what"):
        study.pick(max_size=60)
    with pytest.raises(ConfigError, match="max_accuracy_drop '1': 1 of what"):
        study.pick(max_accuracy_drop=1)


def test_pick_of_nothing():
    assert results(failed(0)).pick().why == "no candidate has been measured yet"


# --- comparing two


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=ITEMS, max_size=ITEMS))
def test_difference_is_paired_where_outcomes_were_kept(pairs):
    right = np.array(pairs).T
    a, b = (candidate(i, accuracy=measured(x.mean(), n=ITEMS), outcomes=pack_outcomes(x)) for i, x in enumerate(right))
    study = results(a, b)
    difference, low, high = study.difference(a, b)
    assert difference == pytest.approx(a.value("accuracy") - b.value("accuracy"))
    assert low <= difference <= high
    assert study.tied(a, b) == study.tied(b, a) == (abs(difference) < 0.011)
    assert study.tied(a, a)


def test_difference_without_outcomes_is_that_of_independent_ones():
    a, b = candidate(0, accuracy=measured(0.9, 0.03)), candidate(1, accuracy=measured(0.8, 0.04))
    assert results(a, b).difference(a, b) == pytest.approx((0.1, 0.05, 0.15))
    assert not results(a, b).tied(a, b)


# --- finding, tables, files


@pytest.mark.parametrize("number", [7, "7", "#7"])
def test_find(number):
    assert results(candidate(1), candidate(7)).find(number).number == 7


@pytest.mark.parametrize("number", [3, "#3", "", "x", "-7"])
def test_find_refuses_what_is_not_there(number):
    with pytest.raises(ConfigError, match=f"no candidate {number} in study made-up; it has 1"):
        results(candidate(7)).find(number)


@given(studies())
def test_json_round_trip(study):
    back = Results.from_json(study.to_json())
    assert back == study
    assert back.to_json() == study.to_json()


@given(recipes)
def test_json_keeps_recipes_and_everything_else_about_a_candidate(recipe):
    full = dataclasses.replace(
        candidate(3, recipe=recipe, accuracy=0.9, outcomes="qg=="),
        proof={"sparsity": 0.5, "layers": {"conv": [1, 2]}},
        report=({"stage": "prune", "touched": ["conv"]},),
        file="ab12",
        sha256="cd34",
        seconds=1.5,
        seconds_saved=20.25,
    )
    assert Results.from_json(results(full, failed(4)).to_json()) == results(full, failed(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a results file"),
        ("[]", "not a results file"),
        ("{}", "not a results file"),
        ('{"format": 1}', "not a results file"),
        ('{"format": 99}', "expected format 1, got 99; use a matching autoopt"),
    ],
)
def test_other_files_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Results.from_json(text)


@given(
    studies(),
    st.lists(sound.skips, max_size=3).map(tuple),
    st.sampled_from(["", "2 points"]),
    st.lists(sound.candidates, max_size=3),
)
def test_json_keeps_all_that_results_hold(study, skipped, equivalence, more):
    provenance = {"host": "nowhere", "time": {"jobs_s": 1.5}, "class_names": ["a", "b"]}
    full = dataclasses.replace(
        study, skipped=skipped, equivalence=equivalence, provenance=provenance, candidates=(*study.candidates, *more)
    )
    back = Results.from_json(full.to_json())
    for field in dataclasses.fields(Results):
        assert getattr(back, field.name) == getattr(full, field.name)


def test_results_of_an_earlier_version_have_nothing_skipped():
    plain = json.loads(results(candidate(0, accuracy=0.9)).to_json())
    del plain["skipped"]
    assert Results.from_json(json.dumps(plain)).skipped == ()


@pytest.mark.parametrize("wrong", [None, 5, "x", [1], [[]], 10**400])
def test_damaged_results_are_refused(wrong):
    whole = json.loads(results(candidate(0, accuracy=0.9), budgets=["size_bytes <= 3"]).to_json())
    for key in ("metrics", "budgets", "candidates", "skipped", "provenance", "objectives"):
        with pytest.raises(ConfigError):
            Results.from_json(json.dumps(whole | {key: wrong}))
    for key in ("recipe", "measurements"):
        broken = whole["candidates"][0] | {key: wrong}
        with pytest.raises(ConfigError):
            Results.from_json(json.dumps(whole | {"candidates": [broken]}))


@given(studies())
def test_csv_and_table_hold_the_same(study):
    table = study.table()
    csv = pd.read_csv(io.StringIO(study.to_csv()), index_col="number", keep_default_na=False, na_values={"seconds": ""})
    assert list(csv.index) == list(table.index) == [c.number for c in study.candidates]
    assert list(csv.columns) == list(table.columns)
    statuses = study.statuses()
    for c in study.candidates:
        row = table.loc[c.number]
        assert row["status"] == csv.loc[c.number, "status"] == statuses[c.number]
        assert row["digest"] == csv.loc[c.number, "digest"] == c.recipe.digest
        for name in study.metrics:
            m = c.measurements.get(name)
            shown = ["", "", ""] if m is None else [str(x) for x in (m.value, m.low, m.high)]
            assert [str(csv.loc[c.number, f"{name}{end}"]) for end in ("", "_low", "_high")] == shown


def test_tables_of_nothing():
    header = results(candidate(0)).to_csv().splitlines()[0]
    assert len(results().table()) == 0
    assert results().to_csv() == f"{header}\r\n"
    assert results(candidate(0)).to_csv([]) == f"{header}\r\n"
    assert list(results().table().columns) == header.split(",")[1:]


def test_a_failure_stands_in_the_table():
    row = results(failed(4)).table().loc[4]
    assert (row["status"], row["failed_stage"], row["reason"]) == ("failed", "prune", "no layer can be pruned")


# --- what the target refuses, and what changes are told against


def refused(number, origin="search", **values):
    return dataclasses.replace(candidate(number, origin, **values), refused="the target runs integers alone")


def test_what_the_target_refuses_is_infeasible_and_neither_on_the_front_nor_picked():
    study = results(refused(0, "baseline", accuracy=0.99, size_bytes=1), candidate(1, accuracy=0.5, size_bytes=9))
    assert study.statuses() == {0: "infeasible", 1: "front"}
    assert [c.number for c in study.front()] == [1]
    assert study.pick().candidate.number == 1
    assert study.pick("size_bytes <= 5 B").candidate is None
    assert 0 not in [c.number for c in study.pick("size_bytes <= 5 B").nearest]
    assert study.rows()[0]["reason"] == "the target runs integers alone"


@given(studies(), st.data())
def test_refused_ones_are_never_on_the_front_nor_picked(study, data):
    chosen = data.draw(st.sets(st.sampled_from([c.number for c in study.candidates])))
    changed = [refused_too(c) if c.number in chosen else c for c in study.candidates]
    study = dataclasses.replace(study, candidates=tuple(changed))
    pick = study.pick()
    shown = {c.number for c in (*study.front(), *pick.tied, *pick.nearest)}
    assert not shown & chosen
    assert all(study.statuses()[n] in ("infeasible", "failed") for n in chosen)


def refused_too(c):
    return dataclasses.replace(c, refused="not here")


def test_the_reference_is_the_first_scheme_that_has_what_the_baseline_lacks():
    """On a target that can't run the baseline, latency is told against the first post-training scheme."""
    study = results(
        refused(0, "baseline", accuracy=0.9, size_bytes=400),
        dataclasses.replace(failed(1), origin="scheme"),
        candidate(2, "scheme", accuracy=0.89, size_bytes=100, latency_ms=4),
        candidate(3, "scheme", accuracy=0.89, size_bytes=100, latency_ms=3),
        candidate(4, accuracy=0.88, size_bytes=50, latency_ms=1),
        budgets=["latency_ms <= 50% of baseline", "accuracy >= baseline - 5%"],
    )
    assert study.reference("accuracy").number == 0
    assert study.reference("latency_ms").number == 2
    assert study.reference("memory_bytes") is None
    assert [study.margins(c)["latency_ms <= 50% of baseline"] for c in study.candidates[2:]] == [2, 1, -1]
    assert [c.number for c in study.front()] == [4]
    with pytest.raises(ConfigError, match="the baseline has no memory_bytes"):
        study.pick("memory_bytes <= baseline")
    assert study.pick("latency_ms <= 80% of baseline").candidate.number == 4


def test_without_a_baseline_nothing_is_relative_to_it():
    study = results(dataclasses.replace(failed(0), origin="baseline"), candidate(1, "scheme", latency_ms=4))
    assert study.margins(study.candidates[1], study.parse_budgets(["latency_ms <= baseline"])) == {
        "latency_ms <= baseline": float("inf")
    }


# --- measured again


def confirmed(c, quality, **parts):
    """The candidate, with a quality on the test split (a number, or a measurement)."""
    m = quality if not isinstance(quality, float) else measured(quality)
    return dataclasses.replace(c, confirmation=Confirmation(quality=m, **parts))


@pytest.mark.parametrize(
    ("searched", "again", "margin"),
    [(0.90, 0.89, -0.01), (0.90, 0.87, 0.01), (0.85, 0.95, 0.03), (0.85, 0.86, 0.03), (0.88, 0.88, 0)],
)
def test_inside_means_inside_on_both_splits(searched, again, margin):
    study = results(confirmed(candidate(1, accuracy=searched), again), budgets=["accuracy >= 0.88"])
    assert study.margins(study.candidates[0]) == {"accuracy >= 0.88": pytest.approx(margin)}
    assert study.fits(study.candidates[0]) == (margin <= 0)


def test_inside_relative_to_the_baseline_is_told_on_each_split_by_its_own():
    """The test split is harder for both: that is no loss of the candidate's."""
    baseline = confirmed(candidate(0, "baseline", accuracy=0.95), 0.90)
    same, worse = (confirmed(candidate(n, accuracy=0.95), q) for n, q in ((1, 0.895), (2, 0.88)))
    study = results(baseline, same, worse, budgets=["accuracy >= baseline - 1%"])
    assert [study.margins(c)["accuracy >= baseline - 1%"] for c in study.candidates] == [
        pytest.approx(-0.01), pytest.approx(-0.005), pytest.approx(0.01)
    ]  # fmt: skip
    unconfirmed = dataclasses.replace(study, candidates=(candidate(0, "baseline", accuracy=0.95), worse))
    assert unconfirmed.margins(worse) == {"accuracy >= baseline - 1%": pytest.approx(-0.01)}


def test_a_confirmation_leaves_other_budgets_alone():
    study = results(confirmed(candidate(1, accuracy=0.9, size_bytes=10), 0.1), budgets=["size_bytes <= 20"])
    assert study.margins(study.candidates[0]) == {"size_bytes <= 20": -10}


def test_the_confirmed_difference_is_that_of_the_test_split_and_needs_both():
    a = confirmed(candidate(0, accuracy=0.9), measured(0.7, 0.03))
    b = confirmed(candidate(1, accuracy=0.5), measured(0.6, 0.04))
    study = results(a, b, candidate(2, accuracy=0.5))
    assert study.confirmed_difference(a, b) == pytest.approx((0.1, 0.05, 0.15))
    assert study.confirmed_difference(a, study.candidates[2]) is None
    assert study.confirmed_difference(study.candidates[2], b) is None


def test_the_confirmed_difference_is_paired_too():
    right = np.arange(ITEMS) < 30
    less = right.copy()
    less[0] = False
    a, b = (
        confirmed(candidate(n, accuracy=0.5), measured(each.mean(), 0.2, n=ITEMS), outcomes=pack_outcomes(each))
        for n, each in enumerate((right, less))
    )
    difference, low, high = results(a, b).confirmed_difference(a, b)
    assert difference == pytest.approx(1 / ITEMS)
    assert high - low < 0.2


@pytest.mark.parametrize(
    ("quality", "searched", "again", "flattery"),
    [
        ("accuracy", (0.90, 0.92), (0.90, 0.91), 0.01),
        ("accuracy", (0.90, 0.92), (0.80, 0.83), -0.01),
        ("mae", (1.0, 0.8), (1.0, 0.9), 0.1),
        ("mae", (1.0, 0.8), (2.0, 1.7), -0.1),
    ],
)
def test_flattery_is_positive_where_the_search_promised_more_than_was_confirmed(quality, searched, again, flattery):
    both = [
        confirmed(candidate(n, origin, **{quality: searched[n]}), again[n])
        for n, origin in enumerate(("baseline", "search"))
    ]
    study = dataclasses.replace(results(*both), quality=quality)
    assert study.flattery(study.candidates[1]) == pytest.approx(flattery)
    assert study.flattery(study.candidates[0]) is None


def test_there_is_no_flattery_without_confirmation_or_baseline():
    alone = confirmed(candidate(1, accuracy=0.9), 0.8)
    assert results(candidate(0, "baseline", accuracy=0.9), alone).flattery(alone) is None
    assert results(alone).flattery(alone) is None


def test_rows_say_what_is_confirmed_and_what_a_reader_must_know():
    flagged = dataclasses.replace(measured(2), flags=("estimated", "wide interval"))
    also = dataclasses.replace(measured(3), flags=("estimated",))
    study = results(
        confirmed(candidate(0, accuracy=0.9, latency_ms=flagged, memory_bytes=also), 0.8), candidate(1, accuracy=0.7)
    )
    first, second = study.rows()
    assert (first["confirmed"], first["accuracy_test"], first["flags"]) == (True, 0.8, "estimated; wide interval")
    assert (second["confirmed"], second["accuracy_test"], second["flags"]) == (False, None, "")
    assert list(first) == list(second) == study.columns()
    assert {"confirmed", "accuracy_test", "flags"} <= set(study.table().columns)
    assert study.flags(study.candidates[0]) == ("estimated", "wide interval")


@given(studies())
def test_a_confirmation_survives_json(study):
    again = [confirmed(c, 0.5, resamples=(0.5, None), classes=((1, 2),)) for c in study.candidates]
    study = dataclasses.replace(study, candidates=tuple(again))
    assert Results.from_json(study.to_json()) == study


def test_best_seen_is_of_the_split_that_it_misses_on():
    """86 % on the validation split would be inside; it is the test split that keeps it out."""
    study = results(
        confirmed(candidate(1, accuracy=0.86), 0.8385), candidate(2, accuracy=0.83), budgets=["accuracy >= 85 %"]
    )
    pick = study.pick()
    assert pick.binding == ("accuracy >= 85 % (best seen: 83.85 % on the test split)",)
    assert [c.number for c in pick.nearest] == [1, 2]
    found = study.hardest(study.candidates[0], study.budgets[0])
    assert (found.margin, found.value, found.split) == (pytest.approx(0.0115), 0.8385, "test")
    assert study.hardest(study.candidates[1], study.budgets[0]).split == "validation"
    alone = results(candidate(2, accuracy=0.83), budgets=["accuracy >= 85 %"])
    assert alone.hardest(alone.candidates[0], alone.budgets[0]).split == ""
    assert alone.pick().binding == ("accuracy >= 85 % (best seen: 83.00 %)",)
    worse = results(confirmed(candidate(1, accuracy=0.8), 0.84), budgets=["accuracy >= 85 %"])
    assert worse.pick().binding == ("accuracy >= 85 % (best seen: 80.00 % on the validation split)",)


def against_baseline(accuracy, latency, size, again=None, **more):
    """A study of a baseline and a candidate that is picked for its accuracy."""
    pair = [
        candidate(0, "baseline", accuracy=0.9, latency_ms=measured(1.0, 0.01), size_bytes=100),
        candidate(1, accuracy=accuracy, latency_ms=measured(latency, 0.01), size_bytes=size),
    ]
    if again is not None:
        pair = [confirmed(c, q) for c, q in zip(pair, again, strict=True)]
    return results(*pair, objectives=("accuracy", "latency_ms", "size_bytes"), **more)


def test_a_pick_that_is_slower_larger_and_no_better_is_not_worth_it():
    """It is picked for 3 points on the validation split, which the test split takes back."""
    pick = against_baseline(0.93, 1.5, 150, (0.9, 0.9)).pick()
    assert pick.candidate.number == 1
    assert pick.advice == (
        "not worth it: keep the untouched model, #0; #1 is better in no objective "
        "(accuracy +0.00 points on the test split, latency 1.50x slower, file size 1.50x larger)"
    )


@pytest.mark.parametrize(
    ("accuracy", "latency", "size", "again"),
    [
        (0.93, 1.5, 150, None),  # better by more than the margin, as far as is known
        (0.93, 1.5, 150, (0.9, 0.92)),  # and confirmed
        (0.93, 0.9, 150, (0.9, 0.9)),  # faster
        (0.93, 1.5, 99, (0.9, 0.9)),  # smaller
    ],
)
def test_what_is_better_in_any_objective_is_worth_it(accuracy, latency, size, again):
    pick = against_baseline(accuracy, latency, size, again).pick()
    assert (pick.candidate.number, pick.advice) == (1, "")


def test_what_is_faster_within_the_noise_alone_is_not_worth_it():
    pair = [confirmed(c, 0.9) for c in against_baseline(0.93, 0.99, 150).candidates]
    study = results(*pair, objectives=("accuracy", "latency_ms", "size_bytes"))
    assert study.pick().advice.startswith("not worth it: keep the untouched model")


def test_a_pick_is_worth_it_where_the_untouched_model_does_not_fit():
    study = against_baseline(0.93, 1.5, 150, (0.9, 0.9), budgets=["accuracy >= 0.9", "accuracy >= 0.9001"])
    assert study.pick().candidate is None
    study = against_baseline(0.93, 1.5, 150, (0.9, 0.9), budgets=["size_bytes >= 120"])
    assert (study.pick().candidate.number, study.pick().advice) == (1, "")


# --- classes


def by_class(number, *classes, origin="search"):
    return dataclasses.replace(candidate(number, origin, accuracy=0.9), classes=classes)


def test_classes_are_listed_from_the_worst_change():
    study = results(
        by_class(0, (90, 100), (50, 100), (0, 0), (20, 40), origin="baseline"),
        by_class(1, (80, 100), (70, 100), (0, 0), (5, 40)),
    )
    study = dataclasses.replace(study, provenance={"class_names": ["cat", "dog", "fox"]})
    found = study.class_changes(study.candidates[1])
    assert [(c.name, c.items, c.share, c.baseline) for c in found] == [
        ("3", 40, 0.125, 0.5), ("cat", 100, 0.8, 0.9), ("dog", 100, 0.7, 0.5)
    ]  # fmt: skip
    assert study.dead_classes(study.candidates[1]) == []


def test_a_dead_class_is_named_although_the_average_hides_it():
    """One class of a hundred is lost, the others gain: accuracy rises."""
    n = 100
    baseline = by_class(0, *[(90, 100)] * n, origin="baseline")
    better = by_class(1, *[(93, 100)] * 42, (3, 100), *[(93, 100)] * (n - 43))
    assert sum(right for right, _ in better.classes) > sum(right for right, _ in baseline.classes)
    study = results(baseline, better)
    (dead,) = study.dead_classes(better)
    assert (dead.name, dead.share, dead.baseline, dead.dead) == ("42", 0.03, 0.9, True)
    assert study.class_changes(better)[0] == dead
    assert study.dead_classes(baseline) == []


@pytest.mark.parametrize(("before", "after", "dead"), [(50, 9, True), (49, 0, False), (50, 10, False), (100, 0, True)])
def test_a_class_is_dead_under_a_tenth_of_what_was_half_right(before, after, dead):
    study = results(by_class(0, (before, 100), origin="baseline"), by_class(1, (after, 100)))
    assert bool(study.dead_classes(study.candidates[1])) == dead


def test_without_a_baseline_or_classes_there_are_no_changes():
    lone = by_class(1, (3, 100))
    assert results(lone).class_changes(lone) == []
    assert results(candidate(0, "baseline", accuracy=0.9), lone).class_changes(lone) == []


# --- metrics without outcomes: the bootstrap


def test_a_shift_that_all_resamples_share_has_a_tiny_interval():
    """Each metric's own interval is wide, because items differ; on the same items they differ by the same."""
    draws = np.random.default_rng(0).normal(1, 0.3, 200)
    own = [dataclasses.replace(candidate(n, mae=measured(1 + shift, 0.6)), resamples=tuple(draws + shift))
           for n, shift in enumerate((0.0, 0.02))]  # fmt: skip
    study = dataclasses.replace(results(*own), quality="mae")
    difference, low, high = study.difference(own[1], own[0])
    assert difference == pytest.approx(0.02)
    assert (low, high) == (pytest.approx(0.02), pytest.approx(0.02))
    assert not study.tied(*own)
    bare = [dataclasses.replace(c, resamples=()) for c in own]
    assert study.difference(bare[1], bare[0])[2] - study.difference(bare[1], bare[0])[1] > 1
    assert not study.tied(*bare)  # however wide the interval: the estimate is what is lost


def test_resamples_of_other_items_are_not_paired():
    a, b = (
        dataclasses.replace(candidate(n, accuracy=measured(0.5, 0.1, n=100 + n)), resamples=(0.5,) * 9) for n in (0, 1)
    )
    difference, low, high = results(a, b).difference(a, b)
    assert (difference, high - low) == (0, pytest.approx(0.2 * 2**0.5))


@given(st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS), st.floats(0, 1))
def test_what_is_right_on_the_very_same_items_is_tied(right, value):
    outcomes = pack_outcomes(np.array(right))
    a, b = (candidate(n, accuracy=measured(value, n=ITEMS), outcomes=outcomes) for n in (0, 1))
    difference, low, high = results(a, b).difference(a, b)
    assert (difference, -low) == (0, high)
    assert high == pytest.approx(0.0876, abs=1e-4)
    assert results(a, b).tied(a, b)


@pytest.mark.parametrize("name", ["{", "}", "{}", "{n}", "{margin}", "{0.x}"])
def test_a_metric_may_be_called_anything(name):
    metric = Metric(name=name, direction="max", unit="fraction")
    study = results(candidate(0, "baseline", **{name: 0.9}), quality=name, metrics={name: metric}, objectives=(name,))
    assert f"the best {name} of all that fit" in study.pick().why
