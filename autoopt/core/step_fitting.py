"""The step of a uniform grid that is nearest to given numbers, by the squared error."""

import numpy as np


def reaching(rows: np.ndarray, most: int) -> np.ndarray:
    """The step of each row at which its largest number, to either side, is the last whole multiple.

    Args:
        rows: shape (rows, numbers).
        most: the largest multiple.

    Returns:
        shape (rows, 1), dtype float64; 1 for rows of zeros, for which any step does.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0).astype(np.float64)
    steps: np.ndarray = np.where(largest > 0, largest / most, 1.0)
    return steps


def whole(rows: np.ndarray, steps: np.ndarray, most: int) -> np.ndarray:
    """The nearest multiples of each row's step, none beyond `most`; shape (rows, numbers)."""
    found: np.ndarray = np.clip(np.round(rows / steps), -most, most)
    return found


def least_error(rows: np.ndarray, most: int, shares: np.ndarray, longest: np.ndarray | None = None) -> np.ndarray:
    """The step of each row with the least squared error, of those tried.

    A step that cuts the largest numbers off rounds all others less.

    Args:
        rows: shape (rows, numbers).
        most: the largest multiple.
        shares: steps to try, as shares of the longest; of equal ones the first is taken.
        longest: shape (rows, 1); by default those of `reaching`, which cut nothing off.

    Returns:
        shape (rows, 1), dtype float64; each step is one that float32 holds, as files do.
    """
    numbers, longest = rows.astype(np.float64), reaching(rows, most) if longest is None else longest
    best, least = longest, np.full((len(rows), 1), np.inf)
    for share in shares:
        step = np.asarray(longest * share, np.float32).astype(np.float64)
        error = np.square(whole(numbers, step, most) * step - numbers).sum(axis=1, keepdims=True)
        best, least = np.where(error < least, step, best), np.minimum(error, least)
    return best
