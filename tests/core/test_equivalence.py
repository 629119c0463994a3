"""When candidates count as as good, and when the items are too few to tell."""

import numpy as np
import pytest
from builders import METRICS
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import equivalence
from autoopt.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "metric", "reference", "margin"),
    [
        ("", "accuracy", 0.9, 0.01),
        ("", "mae", 2.0, 0.02),
        ("", "mae", -2.0, 0.02),
        ("1 point", "accuracy", 0.9, 0.01),
        ("0.5 %", "accuracy", 0.9, 0.005),
        ("0.02", "accuracy", 0.9, 0.02),
        ("2 pp", "accuracy", None, 0.02),
        ("1 % of baseline", "accuracy", 0.9, 0.009),
        ("1 % of the baseline", "mae", 3.0, 0.03),
        ("2 %", "mae", 3.0, 0.06),
        ("0.05", "mae", 3.0, 0.05),
        ("0", "mae", 3.0, 0.0),
    ],
)
def test_margins(text: str, metric: str, reference: float | None, margin: float) -> None:
    assert equivalence.parse(text, METRICS[metric]).margin(reference) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("text", "metric", "message"),
    [
        ("1", "accuracy", "equivalence '1': 1 of what? Write '1 point' (the same as '1 %' or '0.01')"),
        ("1 point", "mae", "mae has no unit; write such as '0.05' of its own, or '5 %' of the baseline's"),
        ("little", "accuracy", "equivalence 'little': expected a difference of accuracy"),
        ("-1 %", "accuracy", "expected a difference of accuracy"),
    ],
)
def test_what_is_no_margin_is_refused(text: str, metric: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        equivalence.parse(text, METRICS[metric])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("found", "good", "few"),
    [
        ((0.0, -0.005, 0.005), True, False),  # inside the margin: shown to be as good
        ((0.008, 0.007, 0.009), True, False),  # surely worse, by less than what counts
        ((0.005, -0.02, 0.03), True, True),  # as good by the estimate, which is not sure
        ((0.08, -0.01, 0.17), False, True),  # not significant, and yet not as good
        ((0.08, 0.05, 0.11), False, False),  # surely beyond
        ((0.04, 0.005, 0.075), False, False),  # surely better, by how much is not asked
        ((0.012, 0.004, 0.02), False, False),  # near the margin, but told as finely as it is wide
        ((0.92 - 0.91, -0.1, 0.1), True, True),  # a decimal margin is not missed by rounding
    ],
)
def test_the_rule(found: tuple[float, float, float], good: bool, few: bool) -> None:
    both = np.array([found, tuple(-x for x in (found[0], found[2], found[1]))])
    assert equivalence.as_good(both, 0.01).tolist() == [good, good]
    assert equivalence.too_few(both, 0.01).tolist() == [few, few]
    assert (equivalence.enough(100, both, 0.01) > 100) == few


@given(st.integers(10, 10**5), st.floats(1e-4, 1), st.floats(1e-4, 0.2))
def test_with_as_many_items_as_would_do_the_interval_is_as_narrow_as_the_margin(
    items: int, half: float, margin: float
) -> None:
    wanted = equivalence.enough(items, np.array([[0.0, -half, half]]), margin)
    if not wanted:
        assert half <= margin
        return
    assert half * (items / wanted) ** 0.5 <= margin * (1 + 1e-9)
    assert wanted > items


def test_without_a_margin_no_number_of_items_would_do() -> None:
    assert equivalence.enough(100, np.array([[0.0, -0.1, 0.1]]), 0.0) == 0


@pytest.mark.parametrize(
    ("margin", "metric", "text"),
    [(0.01, "accuracy", "1 point"), (0.025, "accuracy", "2.5 points"), (0.02, "mae", "0.02")],
)
def test_margins_are_shown_in_points(margin: float, metric: str, text: str) -> None:
    assert equivalence.shown(margin, METRICS[metric]) == text
