"""The best mix for a budget, against all mixes and against Lagrange multipliers."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.core.mixing import Mix, best, joined, unbeaten

FIGURE = st.integers(0, 50)


def thing(place: int, figures: list[tuple[int, int]]) -> list[Mix]:
    """The forms of one thing."""
    return [Mix(forms=((f"t{place}", f"f{i}"),), size=size, error=error) for i, (size, error) in enumerate(figures)]


THINGS = st.lists(st.lists(st.tuples(FIGURE, FIGURE), min_size=1, max_size=4), min_size=0, max_size=5).map(
    lambda all_figures: [thing(place, figures) for place, figures in enumerate(all_figures)]
)


def every(things: list[list[Mix]]) -> list[tuple[float, float]]:
    """Size and error of every mix there is."""
    return [
        (sum(mix.size for mix in chosen), sum(mix.error for mix in chosen)) for chosen in itertools.product(*things)
    ]


@settings(deadline=None)
@given(THINGS, st.integers(0, 250))
def test_the_best_mix_is_as_good_as_the_best_of_all(things: list[list[Mix]], budget: int) -> None:
    found = best(joined(things), budget)
    within = [error for size, error in every(things) if size <= budget]
    assert (found.error if found else None) == (min(within) if within else None)
    if found:
        assert found.size <= budget
        chosen = dict(found.forms)
        assert sorted(chosen) == [f"t{place}" for place in range(len(things))]
        parts = [mix for forms in things for mix in forms if mix.forms[0] in found.forms]
        assert (found.size, found.error) == (sum(m.size for m in parts), sum(m.error for m in parts))


@settings(deadline=None)
@given(THINGS, st.integers(0, 250), st.integers(0, 250), st.integers(1, 5))
def test_a_larger_budget_never_has_a_larger_error(things: list[list[Mix]], budget: int, more: int, most: int) -> None:
    mixes = joined(things, most)
    small, large = best(mixes, budget), best(mixes, budget + more)
    if small is not None:
        assert large is not None
        assert small.size <= budget
        assert large.error <= small.error


@settings(deadline=None)
@given(THINGS, st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 10.0, 1e6]), st.integers(0, 4))
def test_few_that_are_kept_hold_what_lagrange_multipliers_find(
    things: list[list[Mix]], price: float, most: int
) -> None:
    """At any price of a byte, the least sum of error and price is among them: that is what being on the hull means."""
    cheapest = min(error + price * size for size, error in every(things))
    assert min(mix.error + price * mix.size for mix in joined(things, most)) == pytest.approx(cheapest)


def test_many_things_stay_few_mixes() -> None:
    things = [
        thing(place, [(7 * place % 23 + 9, 0), (7 * place % 23 // 2, 1 + place % 5), (1, 9)]) for place in range(80)
    ]
    mixes = joined(things, 50)
    assert len(mixes) < 50 + 3 * 80
    assert [mix.size for mix in mixes] == sorted({mix.size for mix in mixes})
    assert [mix.error for mix in mixes] == sorted({mix.error for mix in mixes}, reverse=True)


def test_of_equal_errors_the_smaller_is_best_and_nothing_fits_a_budget_of_nothing() -> None:
    mixes = [Mix(size=3, error=1.0), Mix(size=2, error=1.0), Mix(size=9, error=0.5)]
    assert best(mixes, 5) == Mix(size=2, error=1.0)
    assert best(mixes, 1) is None
    assert unbeaten(mixes) == [Mix(size=2, error=1.0), Mix(size=9, error=0.5)]
    assert best(joined([]), 0) == Mix()
