"""Candidates and confirmations survive JSON, also that of an earlier version."""

import dataclasses
import json

import pytest
from builders import candidate, failed, measured
from hypothesis import given
from hypothesis import strategies as st
from sound import candidates, confirmations, measurements, skips

from autoopt.core.candidate import Candidate, Confirmation, Skipped
from autoopt.core.metrics import Measurement
from autoopt.core.recipe import Recipe
from autoopt.errors import ConfigError


def through_json(value):
    return type(value).from_dict(json.loads(json.dumps(value.to_dict(), allow_nan=False)))


@given(candidates | skips)
def test_candidate_json_round_trip(value):
    assert through_json(value) == value


@given(measurements())
def test_measurement_json_round_trip(value):
    assert through_json(value) == value


@given(confirmations)
def test_confirmation_json_round_trip(value):
    assert through_json(value) == value


def test_what_is_not_defined_on_some_resamples_stays_so():
    again = Confirmation(quality=measured(0.9), resamples=(0.5, None, 0.25), searched={"latency_ms": measured(2)})
    full = dataclasses.replace(candidate(1, accuracy=0.8), resamples=(None, 1.0), confirmation=again)
    assert through_json(full).resamples == (None, 1.0)
    assert through_json(full).confirmation.resamples == (0.5, None, 0.25)


@given(candidates)
def test_an_older_file_without_the_new_keys_still_loads(value):
    new = ("resamples", "classes", "confirmation", "refused")
    older = {name: part for name, part in json.loads(json.dumps(value.to_dict())).items() if name not in new}
    bare = dataclasses.replace(value, resamples=(), classes=(), confirmation=None, refused="")
    assert Candidate.from_dict(older) == bare


def test_a_candidate_knows_its_name_whether_it_failed_and_what_was_measured():
    found = candidate(7, accuracy=0.9)
    assert (found.name, found.failed, found.value("accuracy"), found.value("latency_ms")) == ("#7", False, 0.9, None)
    assert failed(3).failed


SOUND = dataclasses.replace(
    candidate(1, accuracy=measured(0.9, 0.01, 100), size_bytes=1000.0),
    outcomes="AAAAAAAAAAAAAAAAAA==",
    proof={"ops": {"CONV_2D": 2}, "weights": [{"name": "w", "shape": [3, 3], "sparsity": 0.5}]},
    report=({"stage": "prune", "epochs": [{"loss": 0.5}], "best_epoch": 1},),
    confirmation=Confirmation(quality=measured(0.9, 0.01, 100), searched={"latency_ms": measured(2)}),
)


def paths(values, before=()):
    """Every place in plain values, as the keys that lead to it."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*before, key))


WRONG = [
    None,
    True,
    "x",
    [],
    {},
    [None],
    {"a": None},
    -1,
    10**30,
    10**400,
    float("nan"),
    float("inf"),
    [[[]]],
    "9" * 5000,
]


@given(st.data())
def test_whatever_stands_in_a_record_is_read_or_refused_in_one_line(data):
    values = json.loads(json.dumps(SOUND.to_dict()))
    *way, last = data.draw(st.sampled_from(list(paths(values))))
    place = values
    for key in way:
        place = place[key]
    place[last] = data.draw(st.sampled_from(WRONG))
    said = ""
    try:
        json.dumps(Candidate.from_dict(values).to_dict(), allow_nan=False)
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": "12"}, "candidate.number: expected a whole number, got '12'"),
        ({"number": -1}, "candidate.number: expected a number of at least 0, got -1"),
        ({"seconds": None}, "candidate.seconds: expected a number, got None"),
        ({"seconds": -1.0}, "candidate.seconds: expected a number of at least 0"),
        ({"seconds": 10**400}, "candidate.seconds: expected a number, got one of 401 digits"),
        ({"origin": 3}, "candidate.origin: expected a text, got 3"),
        ({"report": [{"stage": 3}]}, r"candidate.report\[0\].stage: expected a text, got 3"),
        ({"proof": {"weights": [{"shape": "3x3"}]}}, r"candidate.proof.weights\[0\].shape: expected a list"),
        ({"classes": [[3, 2]]}, "candidate.classes: expected how many items are right, and how many there are"),
        ({"outcomes": "not base64!"}, "candidate.outcomes: expected base64"),
        ({"resamples": [0.5, "x"]}, r"candidate.resamples\[1\]: expected a number, got 'x'"),
        ({"recipe": {"scheme": "int3"}}, "scheme: expected one of float32"),
        ({"colour": "red"}, "candidate: unknown key 'colour'"),
        ({"confirmation": {}}, "confirmation: quality is missing"),
        ({"confirmation": 5}, "confirmation: expected a mapping"),
    ],
)
def test_what_makes_no_sense_in_a_candidate_is_named(change, words):
    with pytest.raises(ConfigError, match=words):
        Candidate.from_dict(SOUND.to_dict() | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": 0.5}, "accuracy: measurement: expected low <= value <= high, got 0.5 in"),
        ({"low": 2.0}, "accuracy: measurement: expected low <= value <= high"),
        ({"value": "0.9"}, "accuracy: measurement.value: expected a number, got '0.9'"),
        ({"value": float("nan")}, "accuracy: measurement.value: expected a number, got nan"),
        ({"n": 1.5}, "accuracy: measurement.n: expected a whole number, got 1.5"),
        ({"n": -1}, "accuracy: measurement.n: expected a whole number of at least 0"),
        ({"ends": "some"}, "accuracy: measurement.ends: expected '95 % interval' or 'range'"),
        ({"flags": "wide"}, "accuracy: measurement.flags: expected a list"),
    ],
)
def test_what_makes_no_sense_in_a_measurement_is_named(change, words):
    values = SOUND.to_dict()
    values["measurements"]["accuracy"] |= change
    with pytest.raises(ConfigError, match=words):
        Candidate.from_dict(values)


def test_a_size_below_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"candidate\.size_bytes: expected a value of at least 0, got -5"):
        Candidate.from_dict(candidate(1, size_bytes=-5.0).to_dict())


@pytest.mark.parametrize(
    "change", [{"point": ["prune"]}, {"point": "begun"}, {"score": "x"}, {"kind": None}, {"number": 0.5}]
)
def test_what_makes_no_sense_in_what_was_skipped_is_named(change):
    sound = Skipped(number=1, recipe=Recipe(), origin="search", kind="dominated", reason="at best 80 %")
    with pytest.raises(ConfigError, match=rf"skipped\.{next(iter(change))}: expected"):
        Skipped.from_dict(sound.to_dict() | change)


def test_ends_may_be_off_by_what_decimals_are_off_by():
    slightly = {"value": 0.1 + 0.2, "low": 0.3, "high": 0.3, "n": 1, "how": ""}
    assert Measurement.from_dict(slightly).value == 0.1 + 0.2
