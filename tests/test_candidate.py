"""Candidates and confirmations survive JSON, also that of an earlier version."""

import dataclasses
import json

from builders import candidate, failed, measured, recipes
from hypothesis import given
from hypothesis import strategies as st

from autoopt.candidate import Candidate, Confirmation
from autoopt.metrics import Measurement

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=10)
measurements = st.builds(
    Measurement,
    value=finite, low=finite, high=finite, n=st.integers(1, 10**6), how=texts, flags=st.lists(texts, max_size=2).map(tuple),
)  # fmt: skip
named = st.dictionaries(st.sampled_from(["accuracy", "latency_ms", "size_bytes"]), measurements)
resamples = st.lists(st.none() | finite, max_size=5).map(tuple)
classes = st.lists(st.tuples(st.integers(0, 50), st.integers(50, 100)), max_size=4).map(tuple)
confirmations = st.builds(
    Confirmation, quality=measurements, outcomes=texts, resamples=resamples, classes=classes, searched=named
)
candidates = st.builds(
    Candidate,
    number=st.integers(0, 10**6),
    recipe=recipes,
    origin=st.sampled_from(["baseline", "scheme", "search"]),
    measurements=named,
    proof=st.dictionaries(texts, st.integers() | st.lists(texts, max_size=2), max_size=2),
    report=st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2).map(tuple),
    file=texts, sha256=texts, outcomes=texts,
    resamples=resamples, classes=classes,
    confirmation=st.none() | confirmations,
    refused=texts, failed_stage=texts, reason=texts,
    seconds=st.floats(0, 1e6), seconds_saved=st.floats(0, 1e6),
)  # fmt: skip


def through_json(value):
    return type(value).from_dict(json.loads(json.dumps(value.to_dict(), allow_nan=False)))


@given(candidates)
def test_candidate_json_round_trip(value):
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
