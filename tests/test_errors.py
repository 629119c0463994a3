"""What an error says to who calls from Python, and to who typed a command; and what becomes of foreign ones."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import AutooptError, CandidateFailed, ConfigError, TargetUnavailable, one_line, retold


@pytest.mark.parametrize("kind", [AutooptError, ConfigError, TargetUnavailable])
def test_an_error_carries_both_wordings(kind):
    error = kind("it is there; give ", call="force=True", command="--force")
    for made in (error, pickle.loads(pickle.dumps(error))):
        assert str(made) == "it is there; give force=True"
        assert made.command_line == "it is there; give --force"


def test_where_the_words_do_not_differ_there_is_one_text():
    error = ConfigError("x: expected 1, got 2")
    assert str(error) == error.command_line == "x: expected 1, got 2"
    failed = pickle.loads(pickle.dumps(CandidateFailed("prune", "no layer")))
    assert str(failed) == failed.command_line == "prune: no layer"


FOREIGN = [ValueError, OSError, StopIteration, RuntimeError, RecursionError, MemoryError, UnicodeError, AssertionError]


@given(kind=st.sampled_from(FOREIGN), text=st.text(max_size=20))
def test_foreign_errors_are_retold_and_stay_the_cause(kind, text):
    foreign = kind(text)
    passing = () if kind is MemoryError else (AutooptError, MemoryError)
    with pytest.raises(CandidateFailed) as raised, retold(lambda e: CandidateFailed("prune", repr(e)), passing):
        raise foreign
    assert raised.value.__cause__ is foreign
    assert raised.value.reason == repr(foreign)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("x: expected 1, got 2"),
        CandidateFailed("prune", "no layer"),
        TargetUnavailable("gone"),
        MemoryError("no memory"),
        KeyboardInterrupt(),
        SystemExit(3),
    ],
)
def test_what_says_enough_by_itself_passes(error):
    with pytest.raises(type(error)) as raised, retold(lambda foreign: ConfigError(f"told anew: {foreign}")):
        raise error
    assert raised.value is error
    assert error.__cause__ is None


@pytest.mark.parametrize("error", [ConfigError("x: expected 1, got 2"), MemoryError("no memory")])
def test_nothing_passes_where_the_user_s_code_is_to_blame(error):
    with pytest.raises(ConfigError) as raised, retold(lambda foreign: ConfigError(f"task.py: {foreign}"), passing=()):
        raise error
    assert str(raised.value) == f"task.py: {error}"
    assert raised.value.__cause__ is error


def test_what_goes_well_is_left_alone():
    with retold(lambda error: ConfigError(str(error))):
        value = 1
    assert value == 1


@given(st.text(), st.none() | st.integers(0, 50))
def test_an_error_s_text_fits_on_one_line(text, most):
    line = one_line(ValueError(text), most)
    assert len(line.splitlines()) <= 1
    assert line == one_line(text, most)
    assert one_line(text).startswith(line)
    assert most is None or len(line) <= most
