"""The step with the least squared error."""

import numpy as np
from builders import settings  # noqa: F401 - its profile for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.step_fitting import least_error, reaching, whole

SHARES = np.linspace(1, 0.3, 15)


@given(st.integers(0, 999), st.sampled_from([1, 3, 7, 127]), st.integers(1, 4))
def test_no_step_that_was_tried_is_better(seed: int, most: int, count: int) -> None:
    rows = np.random.default_rng(seed).standard_t(3, size=(count, 30))

    def errors(steps: np.ndarray) -> np.ndarray:
        return np.square(whole(rows, steps, most) * steps - rows).sum(axis=1)

    found = least_error(rows, most, SHARES)
    assert found.shape == (count, 1)
    assert np.array_equal(found, found.astype(np.float32))
    for share in SHARES:
        assert (errors(found) <= errors(reaching(rows, most) * share) * (1 + 1e-5)).all()


def test_zeros_have_a_step_too() -> None:
    steps = least_error(np.zeros((2, 5)), 7, SHARES)
    assert (steps > 0).all()
    assert not whole(np.zeros((2, 5)), steps, 7).any()


@given(st.integers(0, 99), st.integers(1, 127))
def test_what_lies_on_a_grid_is_held_without_error(seed: int, most: int) -> None:
    multiples = np.random.default_rng(seed).integers(-most, most + 1, size=(1, 50))
    multiples[0, 0] = most
    steps = least_error(multiples * 0.25, most, SHARES)
    np.testing.assert_allclose(whole(multiples * 0.25, steps, most) * steps, multiples * 0.25)
