"""Weights solved by least squares: exact where they can be, and never worse where they can't."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.compression import least_squares


def problem(seed, groups=1, rows=200, unknowns=6, outputs=3):
    """What is taken, weights and biases that give something out, and others to begin with."""
    rng = np.random.default_rng(seed)
    taken = rng.normal(1, 1, (groups, rows, unknowns))
    weights, start = (rng.normal(size=(groups, unknowns, outputs)) for _ in range(2))
    return taken, weights, rng.normal(size=(groups, outputs)), start


def error(taken, wanted, weights, bias):
    return np.square(wanted - taken @ weights - bias[:, None]).sum()


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 40), st.booleans())
def test_what_weights_can_give_they_give(seed, groups, unknowns, offset):
    taken, weights, bias, start = problem(seed, groups, 6 * unknowns + 20, unknowns)
    wanted = taken @ weights + bias[:, None] * offset
    found, shift = least_squares.fit(taken, wanted, start, offset=offset)
    np.testing.assert_allclose(taken @ found + shift[:, None], wanted, atol=2e-3)
    assert offset or not shift.any()


@given(st.integers(0, 99), st.integers(2, 30), st.integers(1, 60))
def test_with_fewer_rows_than_unknowns_weights_stay_near_the_start_and_fit_better(seed, rows, unknowns):
    taken, weights, bias, start = problem(seed, 1, rows, unknowns)
    wanted = taken @ weights + bias[:, None]
    found, shift = least_squares.fit(taken, wanted, start, offset=True)
    plain = (wanted - taken @ start).mean(axis=1)
    assert error(taken, wanted, found, shift) <= error(taken, wanted, start, plain) * (1 + 1e-9)
    assert np.abs(found - start).max() <= 2 * np.abs(weights - start).sum()


def test_weights_that_nothing_supports_stay():
    """On noise that has nothing to do with what is taken, no other weights help on rows held out."""
    taken, _, _, start = problem(0, rows=60, unknowns=30)
    wanted = taken @ start + np.random.default_rng(1).normal(0, 5, (1, 60, 3))
    found, _ = least_squares.fit(taken, wanted, start, offset=True)
    assert np.abs(found - start).max() < 0.5 * np.abs(np.linalg.pinv(taken) @ (wanted - taken @ start)).max()


@pytest.mark.parametrize("strange", [0.0, np.nan, np.inf])
def test_inputs_that_say_nothing_change_nothing(strange):
    _, _, _, start = problem(0)
    taken = np.full((1, 50, 6), strange)
    found, _ = least_squares.fit(taken, np.zeros((1, 50, 3)), start, offset=False)
    np.testing.assert_array_equal(found, start)
    assert np.isfinite(found).all()


def test_a_single_row_gives_a_bias_alone():
    taken, weights, _, start = problem(0, rows=1)
    found, shift = least_squares.fit(taken, taken @ weights, start, offset=True)
    np.testing.assert_array_equal(found, start)
    np.testing.assert_allclose(taken @ found + shift[:, None], taken @ weights)
