"""Budgets held against what is known: verdicts, how sure they are, and exit codes."""

import pytest
from builders import METRICS
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import budgets, gate
from autoopt.core.gate import INSIDE, OUTSIDE, UNKNOWN, Evidence
from autoopt.core.metrics import Measurement


def measured(value, low=None, high=None, n=100):
    return Measurement(
        value=value, low=value if low is None else low, high=value if high is None else high, n=n, how="x"
    )


def ruling(text, *known, why="not measured"):
    budget = budgets.parse(text, METRICS)
    return gate.judge(budget, METRICS[budget.metric], known, why)


@pytest.mark.parametrize(
    ("text", "known", "verdict", "sure"),
    [
        ("size_bytes <= 300 KB", Evidence(value=measured(300_000)), INSIDE, True),
        ("size_bytes <= 300 KB", Evidence(value=measured(300_001)), OUTSIDE, True),
        ("accuracy >= 90 %", Evidence(value=measured(0.91, 0.85, 0.95)), INSIDE, False),
        ("accuracy >= 90 %", Evidence(value=measured(0.99, 0.95, 1.0)), INSIDE, True),
        ("accuracy >= 90 %", Evidence(value=measured(0.80, 0.75, 0.85)), OUTSIDE, True),
        ("accuracy >= 90 %", Evidence(value=measured(0.89, 0.85, 0.95)), OUTSIDE, False),
        # against the baseline the paired interval counts, not the wider one of the value
        ("accuracy >= baseline - 1 point", Evidence(value=measured(0.9, 0.8, 1.0), baseline=0.9, change=(0, -0.005, 0.005)), INSIDE, True),
        ("accuracy >= baseline - 1 point", Evidence(value=measured(0.9, 0.8, 1.0), baseline=0.9, change=(0, -0.02, 0.02)), INSIDE, False),
        ("accuracy >= baseline - 1 point", Evidence(value=measured(0.87, 0.8, 1.0), baseline=0.9, change=(-0.03, -0.04, -0.02)), OUTSIDE, True),
        ("size_bytes <= 0.5 * baseline", Evidence(value=measured(40), baseline=100), INSIDE, True),
        ("size_bytes <= 0.5 * baseline", Evidence(value=measured(40)), UNKNOWN, True),
    ],
)  # fmt: skip
def test_a_budget_is_judged_by_the_value_and_doubted_by_the_interval(text, known, verdict, sure):
    found = ruling(text, known)
    assert (found.verdict, found.sure) == (verdict, sure)
    assert found.text().startswith(verdict)
    assert len(found.text().splitlines()) == 1


def test_of_several_splits_the_worst_counts():
    good, bad = (Evidence(value=measured(v), baseline=0.9, where=w) for v, w in ((0.9, "validation"), (0.8, "test")))
    for known in ((good, bad), (bad, good)):
        found = ruling("accuracy >= baseline - 1 point", *known)
        assert found.verdict == OUTSIDE
        assert found.text().endswith("; test")


def test_what_is_not_known_is_not_judged():
    found = ruling("latency_ms <= 2", why="measure it")
    assert found.verdict == UNKNOWN
    assert found.text() == "not judged  latency_ms <= 2: measure it"
    plain = found.to_dict()
    assert plain["value"] is plain["limit"] is plain["sure"] is None


def test_a_line_says_what_it_got_and_by_which_interval():
    known = Evidence(
        value=measured(0.87, 0.8, 0.93), baseline=0.9, change=(-0.03, -0.06, 0.0), where="on d.npz (100 items)"
    )
    assert ruling("accuracy >= baseline - 1 point", known).text() == (
        "outside     accuracy >= baseline - 1 point: got 87.00 % (80.00 % to 93.00 %), limit 89.00 %, "
        "-3.00 points (-6.00 points to +0.00 points) against the baseline; on d.npz (100 items); too few items to be sure"
    )


@given(verdicts=st.lists(st.sampled_from([INSIDE, OUTSIDE, UNKNOWN]), min_size=1))
def test_the_exit_code_is_that_of_the_worst(verdicts):
    known = {INSIDE: [Evidence(value=measured(1))], OUTSIDE: [Evidence(value=measured(2))], UNKNOWN: []}
    code = gate.exit_code([ruling("size_bytes <= 1 B", *known[verdict]) for verdict in verdicts])
    assert code == (1 if OUTSIDE in verdicts else 3 if UNKNOWN in verdicts else 0)
