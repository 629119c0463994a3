"""What an error says to who calls from Python, and to who typed a command."""

import pickle

import pytest

from autoopt.errors import AutooptError, CandidateFailed, ConfigError, TargetUnavailable


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
