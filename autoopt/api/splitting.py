"""Splits validation and test items off the training items, where they are not given."""

import numpy as np

from autoopt.errors import ConfigError

SHARE = 0.15
"""Of the training items, what is split off for validation, and likewise for test, where they are missing."""
FEWEST = 3
"""Items of a class, from which on one of them is split off."""


def by_class(labels: np.ndarray, where: str, part: str, give: str) -> tuple[np.ndarray, np.ndarray]:
    """Choose items of each class at random, but always the same ones.

    Args:
        labels: shape (items,), class indices.
        where: for messages.
        part: `validation` or `test`.
        give: what gives that split, in words, for messages.

    Returns:
        indices of the items that stay, and of those that are split off, both rising.

    Raises:
        ConfigError: if there are too few.
    """
    random, taken = np.random.default_rng(0), []
    for label in np.unique(labels):
        items = random.permutation(np.flatnonzero(labels == label))
        number = max(1, round(len(items) * SHARE)) if len(items) >= FEWEST else 0
        taken.append(items[:number])
    return _parted(len(labels), np.concatenate(taken), where, part, give)


def at_random(items: int, where: str, part: str, give: str) -> tuple[np.ndarray, np.ndarray]:
    """Choose among items at random, but always the same ones; see `by_class`."""
    chosen = np.random.default_rng(0).permutation(items)[: round(items * SHARE)]
    return _parted(items, chosen, where, part, give)


def _parted(items: int, taken: np.ndarray, where: str, part: str, give: str) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < len(taken) < items:
        raise ConfigError(f"{where}: {items} items are too few to split a {part} set off; {give}")
    stay = np.setdiff1d(np.arange(items), taken)
    return stay, np.sort(taken)


def told(missing: str, taken: int, items: int, part: str, how: str = "") -> str:
    """What a person should know of a split that was made."""
    return (
        f"{missing}: {taken} of {items} training items were split off for {part}{how}. "
        "If the model was trained on them, its accuracy there is too high."
    )
