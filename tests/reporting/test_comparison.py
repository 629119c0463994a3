"""Candidates side by side."""

import dataclasses
import json

import pytest
from builders import candidate, finetunings, prunings, recipes, results
from compared import BASE, STUDY, A, B, confirmed, judged
from hypothesis import assume, given
from hypothesis import strategies as st

import autoopt
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Cluster, Finetune, Levels, Prune
from autoopt.errors import ConfigError
from autoopt.reporting.comparison import ABSENT, compare, settings


def test_only_what_differs_in_the_recipes_is_listed_in_the_pipelines_order() -> None:
    rows = {s.name: s.values for s in compare(STUDY, [A, B]).settings}
    assert rows == {
        "prune sparsity": ("50 %", ABSENT),
        "prune structure": ("unstructured", ABSENT),
        "prune schedule": ("polynomial", ABSENT),
        "prune begin": ("0 % of the training", ABSENT),
        "prune end": ("75 % of the training", ABSENT),
        "prune frequency": ("every 10 steps", ABSENT),
        "clusters": (ABSENT, "16"),
        "cluster initialisation": (ABSENT, "kmeans++"),
        "clusters per channel": (ABSENT, "no"),
    }


def test_settings_say_what_applies() -> None:
    assert settings(Recipe(scheme="int8", seed=7)) == {"scheme": "int8", "seed": "7"}
    assert "prune end" not in settings(Recipe(prune=Prune(sparsity=0.5, schedule="constant")))
    assert settings(Recipe(prune=Prune(sparsity=0.123456)))["prune sparsity"] == "12.3456 %"


knobs = [
    *(("prune", field.name) for field in dataclasses.fields(Prune)),
    *(("cluster", field.name) for field in dataclasses.fields(Cluster)),
    *(("levels", field.name) for field in dataclasses.fields(Levels)),
    *(("finetune", field.name) for field in dataclasses.fields(Finetune)),
    ("", "scheme"),
    ("", "seed"),
]


@given(recipes, recipes, st.sampled_from(knobs))
def test_recipes_differ_exactly_if_their_settings_do(recipe: Recipe, other: Recipe, knob: tuple[str, str]) -> None:
    """Also if one knob alone differs: none is forgotten, none is rounded away."""
    part, field = knob
    assume(field != "scheme" or recipe.levels is None or not SCHEMES[other.scheme].qat)
    mine, theirs = (getattr(r, part) if part else r for r in (recipe, other))
    if mine is not None and theirs is not None:
        changed = dataclasses.replace(mine, **{field: getattr(theirs, field)})
        other = dataclasses.replace(recipe, **{part: changed}) if part else changed
    assert (settings(recipe) == settings(other)) == (recipe == other)


@given(recipes, recipes)
def test_whatever_differs_has_a_row(one: Recipe, two: Recipe) -> None:
    found = compare(results(candidate(0, recipe=one), candidate(1, recipe=two)), [0, 1])
    mine, theirs = settings(one), settings(two)
    differing = {name for name in mine | theirs if mine.get(name) != theirs.get(name)}
    assert {s.name for s in found.settings} == differing


@given(prunings, finetunings)
def test_recipes_that_differ_in_a_whole_stage_have_a_row_for_each_of_its_knobs(prune: Prune, tuning: Finetune) -> None:
    one, two = Recipe(prune=prune, finetune=tuning), Recipe(cluster=Cluster(number=4), finetune=tuning)
    found = compare(results(candidate(0, recipe=one), candidate(1, recipe=two)), [0, 1])
    assert {s.name for s in found.settings} == set(settings(one)) ^ set(settings(two))
    assert all(ABSENT in s.values for s in found.settings)


def test_metrics_are_told_against_the_first() -> None:
    found = compare(STUDY, [A, BASE])
    readings = {r.metric.name: r for r in found.readings}
    assert list(readings) == ["accuracy", "latency_ms", "size_bytes"]
    assert readings["latency_ms"].measurements == (A.measurements["latency_ms"], BASE.measurements["latency_ms"])
    assert [readings["latency_ms"].change(place) for place in (0, 1)] == ["", "2.00x slower"]
    assert readings["size_bytes"].change(1) == "2.00x smaller"


def test_a_metric_that_one_of_them_lacks_is_left_open() -> None:
    found = compare(results(candidate(0, accuracy=0.9, memory_bytes=5), candidate(1, accuracy=0.8)), [0, 1])
    memory = next(r for r in found.readings if r.metric.name == "memory_bytes")
    assert memory.measurements[1] is None
    assert memory.change(1) == ""


def test_quality_is_compared_on_the_same_items() -> None:
    found = compare(STUDY, [BASE, A, B])
    assert found.differences[0] is None
    for candidate_, difference in zip((A, B), found.differences[1:], strict=True):
        assert difference is not None
        assert (difference.value, difference.low, difference.high) == STUDY.difference(candidate_, BASE)
        assert difference.tied == STUDY.tied(candidate_, BASE)
    assert [d is not None and d.tied for d in found.differences] == [False, False, True]


@given(st.integers(0, 100), st.integers(0, 100))
def test_the_other_way_round_is_the_opposite(right: int, other: int) -> None:
    both = results(judged(0, [right]), judged(1, [other]))
    (_, there), (_, back) = (compare(both, order).differences for order in ([0, 1], [1, 0]))
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)
    assert there.tied == back.tied


def test_classes_whose_share_differs_come_worst_first() -> None:
    found = compare(STUDY, ["#0", "1", 2])
    assert [(c.name, c.items, c.shares) for c in found.classes] == [
        ("dog", 100, (0.95, 0.4, 0.95)),
        ("emu", 100, (0.8, 0.79, 0.8)),
        ("cat", 100, (0.9, 0.9, 0.91)),
    ]
    assert [c.name for c in compare(STUDY, [0, 2]).classes] == ["cat"]


def test_what_was_confirmed_is_said_and_compared_on_the_test_split() -> None:
    base = dataclasses.replace(BASE, confirmation=confirmed(0, 88))
    a = dataclasses.replace(A, confirmation=confirmed(1, 40))
    found = compare(results(base, a, B), [base, a, B])
    assert found.confirmed[0].startswith("accuracy 88.00 % on the test split")
    assert found.confirmed[2] == ""
    assert [None if d is None else round(d.value, 6) for d in found.tested] == [None, -0.48, None]


def test_json_holds_all_of_it() -> None:
    plain = json.loads(json.dumps(compare(STUDY, [BASE, A]).to_dict(), allow_nan=False))
    assert [c["number"] for c in plain["candidates"]] == [0, 1]
    assert plain["settings"]["prune sparsity"] == [ABSENT, "50 %"]
    assert plain["metrics"]["latency_ms"][1] == {
        "value": 2.0,
        "low": 1.9,
        "high": 2.1,
        "change": "2.00x faster",
    }
    assert plain["differences"][0] is None
    assert plain["differences"][1]["tied"] is False
    assert plain["classes"][0] == {"name": "dog", "items": 100, "shares": [0.95, 0.4]}


def test_it_is_public() -> None:
    assert autoopt.compare is compare


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1], "expected 2 to 4 candidates, got 1"),
        ([0, 1, 2, 0, 1], "expected 2 to 4 candidates, got 5"),
        ([1, 2, "#1"], "#1 is given twice"),
        ([0, 3], r"#3 failed \(prune: no layer can be pruned\)"),
        ([0, 9], "no candidate 9"),
        ("37", "expected 2 to 4 candidates, got 1"),
        (3, "expected 2 to 4 candidates, got 1"),
    ],
)
def test_what_can_not_be_compared_is_told(numbers: list[int | str] | int | str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        compare(STUDY, numbers)  # type: ignore[arg-type] - what a person may give


def test_a_candidate_without_quality_can_be_compared() -> None:
    found = compare(results(candidate(0, accuracy=0.9, size_bytes=9), candidate(1, size_bytes=5)), [0, 1])
    assert found.differences == (None, None)
    assert found.classes == ()
