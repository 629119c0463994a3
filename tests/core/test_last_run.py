"""A run, written down and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import json_text, last_run
from autoopt.core.last_run import LastRun
from autoopt.errors import ConfigError

RUNS = st.builds(
    LastRun,
    kind=st.sampled_from(last_run.KINDS),
    trials=st.integers(1, 10**9),
    hours=st.none() | st.floats(0, 1e6),
    begun=st.text(),
    state=st.sampled_from(last_run.STATES),
    reason=st.text(),
    since=st.text(),
    exit_code=st.none() | st.integers(0, 2),
)


@given(run=RUNS)
def test_it_comes_back_as_it_was(run):
    assert LastRun.from_dict(json_text.unsealed(json_text.sealed(run.to_dict()))) == run


@pytest.mark.parametrize(
    "values", [{}, {"kind": "walk"}, {"kind": "search", "state": "odd"}, {"kind": "search", "x": 1}, {"kind": "search", "trials": "3"}]
)  # fmt: skip
def test_what_is_none_is_refused(values):
    with pytest.raises(ConfigError):
        LastRun.from_dict(values)
