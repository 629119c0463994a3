"""Reading a target goes on until it says enough."""

import math

import numpy as np
import pytest

from autoopt.targets import Timing, benchmark


@pytest.mark.parametrize(("spread", "expected"), [(0.0005, 4), (0.5, 9)])
def test_timing_goes_on_until_the_interval_is_narrow(spread, expected):
    rng = np.random.default_rng(0)

    def once():
        return Timing(rounds=[[(int(1e6 * math.exp(rng.normal(0, spread))), 1_000_000)]])

    assert len(benchmark.steady(once, fewest=4, most=9)) == expected
