import pickle

import pytest

from autoopt.core.validation import expect_keys, expect_number, fail, nearest
from autoopt.errors import AutooptError, CandidateFailed, ConfigError, TargetUnavailable


def test_refusal_names_where_expected_and_got():
    with pytest.raises(ConfigError) as refused:
        fail("space.yaml: prune.sparsity", "a number in [0, 1)", 1.2)
    assert str(refused.value) == "space.yaml: prune.sparsity: expected a number in [0, 1), got 1.2"


def test_nearest_known_word():
    assert nearest("sparsty", ["sparsity", "schedule"]) == "did you mean 'sparsity'?"
    assert nearest("zzz", ["sparsity", "schedule"]) == "known: sparsity, schedule"
    assert nearest("sparsty", iter(["sparsity"])) == "did you mean 'sparsity'?"


def test_known_keys_pass():
    expect_keys("prune", {"sparsity": 0.5}, iter(["sparsity", "schedule"]))
    expect_keys("prune", {}, ["sparsity"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparsty": 1}, "prune: unknown key 'sparsty'; did you mean 'sparsity'?"),
        ({1: 1}, "prune: unknown key 1; known: sparsity, schedule"),
        ([0.5], "prune: expected a mapping with keys sparsity, schedule, got [0.5]"),
        (None, "prune: expected a mapping with keys sparsity, schedule, got None"),
    ],
)
def test_unknown_keys_are_refused(values, message):
    with pytest.raises(ConfigError) as refused:
        expect_keys("prune", values, ["sparsity", "schedule"])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("value", "limits"),
    [(3, {"whole": True}), (3, {"minimum": 3}), (0.5, {}), (-2, {})],
)
def test_numbers_pass_unchanged(value, limits):
    assert expect_number("here", value, **limits) is value


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        (True, {}, "a number"),
        ("3", {}, "a number"),
        (None, {}, "a number"),
        (float("nan"), {}, "a number"),
        (float("inf"), {"minimum": 1}, "a number of at least 1"),
        (3.0, {"whole": True}, "a whole number"),
        (False, {"whole": True}, "a whole number"),
        (0, {"minimum": 1, "whole": True}, "a whole number of at least 1"),
        (0.05, {"minimum": 0.1}, "a number of at least 0.1"),
    ],
)
def test_what_is_no_such_number_is_refused(value, limits, expected):
    with pytest.raises(ConfigError) as refused:
        expect_number("here", value, **limits)
    assert str(refused.value) == f"here: expected {expected}, got {value!r}"


@pytest.mark.parametrize("error", [ConfigError("a"), TargetUnavailable("b"), CandidateFailed("prune", "no layer")])
def test_errors_survive_the_way_between_processes(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))
    assert isinstance(back, AutooptError)


def test_failure_says_stage_and_reason():
    assert str(CandidateFailed("prune", "no layer can be pruned")) == "prune: no layer can be pruned"
