"""What the report's page is given; what it makes of it is tested in a browser (test_report)."""

import dataclasses
import json

import numpy as np
import pytest
from builders import METRICS, candidate, failed, measured, results
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.candidate import Confirmation
from autoopt.core.metrics import Measurement, Metric
from autoopt.core.results import Results
from autoopt.reporting import report_data


def night(**more: object) -> Results:
    exact = Measurement.exact
    found = [
        candidate(number, origin="search" if number else "baseline", accuracy=measured(0.9 - number / 100, 0.01),
                  size_bytes=exact(300_000 - 50_000 * number, "x"), latency_ms=measured(1 + number, 0.1))
        for number in range(4)
    ]  # fmt: skip
    return results(*found, failed(4), objectives=("accuracy", "latency_ms", "size_bytes"), **more)


def box(found: dict, name: str) -> dict:
    return next(limit for limit in found["limits"] if limit["id"] == name)


def members(bits: str) -> list[int]:
    return [place for place in range(64) if int(bits, 16) >> place & 1]


def test_it_is_plain_json() -> None:
    found = report_data.data(night())
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()


def test_a_candidate_says_where_its_bytes_go_where_that_is_known() -> None:
    parts = [{"part": "weights", "size_bytes": 5, "compressed_bytes": 4}]
    known = dataclasses.replace(candidate(0, "baseline", accuracy=0.9), proof={"parts": parts})
    found = report_data.data(results(known, candidate(1, accuracy=0.8)))["candidates"]
    assert [one.get("parts") for one in found] == ["after gzip -9: weights 4 B", None]


def test_relations_are_those_of_the_ranking() -> None:
    found, ranking = report_data.data(night()), night().ranking()
    assert [c["number"] for c in found["candidates"]] == [0, 1, 2, 3, 4]
    assert found["ranked"] == 4
    assert [members(bits) for bits in found["ties"]] == [np.flatnonzero(ranking.ties(p)).tolist() for p in range(4)]
    assert [members(bits) for bits in found["beaten_by"]] == [
        np.flatnonzero(ranking.beaten_by(p)).tolist() for p in range(4)
    ]
    assert members(found["complete"]) == [0, 1, 2, 3]


def test_the_studys_budgets_fill_the_boxes() -> None:
    found = report_data.data(
        night(budgets=["accuracy >= baseline - 1.5 %", "size_bytes <= 0.5 * baseline", "latency_ms <= 2 ms"])
    )
    assert box(found, "accuracy_change")["default"] == "1.5"
    assert box(found, "size_bytes")["default"] == "150"
    assert box(found, "latency_ms")["default"] == "2"
    assert box(found, "accuracy")["default"] == ""
    assert found["others"] == []


@pytest.mark.parametrize(
    "budget", ["accuracy >= 98 % of baseline", "accuracy >= baseline + 1 %", "size_bytes >= 10 KB", "accuracy <= 99 %"]
)
def test_what_fits_no_box_is_kept_beside(budget: str) -> None:
    found = report_data.data(night(budgets=[budget]))
    assert [other["text"] for other in found["others"]] == [budget]
    assert not any(limit["default"] for limit in found["limits"])


def test_a_second_limit_of_the_same_metric_is_kept_too() -> None:
    found = report_data.data(night(budgets=["latency_ms <= 3 ms", "latency_ms <= 2 ms"]))
    assert box(found, "latency_ms")["default"] == "3"
    assert [other["text"] for other in found["others"]] == ["latency_ms <= 2 ms"]


@given(st.floats(1e-3, 1e9))
def test_a_boxs_number_is_the_budgets_own(limit: float) -> None:
    study = night()
    (budget,) = study.parse_budgets([f"size_bytes <= {limit!r} B"])
    given_box = box(report_data.data(dataclasses.replace(study, budgets=(budget,))), "size_bytes")
    (again,) = study.parse_budgets([f"{given_box['text']}{given_box['default']}{given_box['suffix']}"])
    # as near as budgets take two numbers for the same
    assert budget.margin(again.offset, None) == 0
    assert again.margin(budget.offset, None) == 0


def test_only_what_was_measured_has_a_box() -> None:
    assert [limit["id"] for limit in report_data.data(night())["limits"]] == [
        "accuracy_change",
        "accuracy",
        "latency_ms",
        "size_bytes",
    ]
    assert report_data.data(results())["limits"] == []


def test_an_objective_of_the_users_own_has_a_box() -> None:
    found = report_data.data(results(
        candidate(0, origin="baseline", accuracy=0.9, margin=3.0), metrics=METRICS, objectives=("accuracy", "margin")))  # fmt: skip
    assert box(found, "margin") | {"sense": ">=", "relative": False, "unit": ""} == box(found, "margin")


def test_the_test_split_comes_with_its_reference() -> None:
    study = night()
    again = Confirmation(quality=Measurement(value=0.8, low=0.7, high=0.9, n=50, how="x"))
    first, second, *rest = study.candidates
    study = dataclasses.replace(study, candidates=(
        dataclasses.replace(first, confirmation=again), dataclasses.replace(second, confirmation=again), *rest))  # fmt: skip
    found = report_data.data(study)
    assert found["references"]["accuracy"] == [0.9, 0.8]
    assert found["candidates"][1]["test"] == 0.8
    assert "test" not in found["candidates"][2]


def test_many_classes_are_left_out() -> None:
    study = night()
    wide = tuple(dataclasses.replace(c, classes=((1, 2),) * 20_000) for c in study.candidates)
    assert "classes" not in report_data.data(dataclasses.replace(study, candidates=wide))["candidates"][0]
    few = tuple(dataclasses.replace(c, classes=((1, 2),) * 3) for c in study.candidates)
    assert report_data.data(dataclasses.replace(study, candidates=few))["candidates"][0]["classes"] == [1, 1, 1]


def test_an_error_is_limited_from_above() -> None:
    mae = Metric(name="mae", direction="min")
    made = [candidate(n, origin="search" if n else "baseline", mae=0.2 + n / 10, size_bytes=9.0) for n in range(2)]
    study = results(*made, metrics={**METRICS, "mae": mae}, quality="mae", objectives=("mae", "size_bytes"))
    study = dataclasses.replace(study, budgets=study.parse_budgets(["mae <= baseline + 0.05"]))
    found = report_data.data(study)
    assert box(found, "mae_change")["default"] == "0.05"
    assert box(found, "mae_change")["text"] == "mae <= baseline + "
