"""The best mix for a budget: each of several things has one of several forms, which differ in size and in error.

Sizes and errors of a mix are sums. The mixes that no other beats on both are found by joining one thing after the other
and dropping what is beaten. Where that leaves too many, those on the lower convex hull stay, which are all that Lagrange
multipliers find (Shoham and Gersho 1988), and some between them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 600
"""Mixes that are kept after each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A form for each of some things.

    Attributes:
        forms: pairs of a thing and its form.
        size: of all together, in bytes.
        error: of all together, 0 or more.
    """

    forms: tuple[tuple[str, str], ...] = ()
    size: float = 0.0
    error: float = 0.0


NOTHING = Mix()
"""The mix of no things."""


def unbeaten(mixes: Iterable[Mix], most: int = MOST) -> list[Mix]:
    """The mixes that no other beats, from the smallest size to the smallest error; each has a size and an error of its own.

    Args:
        mixes: any.
        most: of these stay, or as many as lie on the lower convex hull if those are more.
    """
    listed = list(mixes)
    sizes, errors = _figures(listed)
    return [listed[place] for place in _front(sizes, errors, most)]


def joined(things: Iterable[Sequence[Mix]], most: int = MOST) -> list[Mix]:
    """The mixes of several things that no other beats, from the smallest size to the smallest error.

    Args:
        things: the forms of each, one of which it must have.
        most: see `unbeaten`.
    """
    found = [NOTHING]
    for forms in things:
        sizes, errors = _figures(found)
        more_sizes, more_errors = _figures(forms)
        places = _front(np.add.outer(sizes, more_sizes).ravel(), np.add.outer(errors, more_errors).ravel(), most)
        found = [_both(found[place // len(forms)], forms[place % len(forms)]) for place in places]
    return found


def best(mixes: Iterable[Mix], budget: float) -> Mix | None:
    """The mix with the smallest error whose size is within a budget, the smaller one of equals; None if there is none."""
    within = [mix for mix in mixes if mix.size <= budget]
    return min(within, key=lambda mix: (mix.error, mix.size), default=None)


def _both(one: Mix, other: Mix) -> Mix:
    return Mix(forms=one.forms + other.forms, size=one.size + other.size, error=one.error + other.error)


def _figures(mixes: Sequence[Mix]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and errors, each of shape (mixes,)."""
    return np.array([mix.size for mix in mixes], dtype=float), np.array([mix.error for mix in mixes], dtype=float)


def _front(sizes: np.ndarray, errors: np.ndarray, most: int) -> np.ndarray:
    """Places of the points that no other beats, by size; about `most` of them where there are more."""
    order = np.lexsort((errors, sizes))
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], errors[order]]))
    front: np.ndarray = order[errors[order] < lowest[:-1]]
    if len(front) <= most:
        return front
    hull = _hull(sizes[front], errors[front])
    between = np.linspace(0, len(front) - 1, max(0, most - len(hull))).round().astype(int)
    chosen: np.ndarray = front[np.union1d(hull, between)]
    return chosen


def _hull(sizes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Places of the points on the lower convex hull; sizes grow and errors fall."""
    hull: list[int] = []
    for place in range(len(sizes)):
        while len(hull) > 1:
            first, middle = hull[-2:]
            below = (errors[middle] - errors[first]) * (sizes[place] - sizes[first])
            if below < (errors[place] - errors[first]) * (sizes[middle] - sizes[first]):
                break
            hull.pop()
        hull.append(place)
    return np.array(hull, dtype=int)
