"""What is split off the training items: every item once, of each class alike, always the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.api import splitting
from autoopt.errors import ConfigError


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=300))
def test_each_class_gives_its_share_and_keeps_the_rest(labels):
    labels = np.array([*labels, 0, 0, 0])
    stay, taken = splitting.by_class(labels, "here", "test", "give more")
    assert sorted([*stay, *taken]) == list(range(len(labels)))
    assert (np.diff(stay) > 0).all()
    assert (np.diff(taken) > 0).all()
    for label in np.unique(labels):
        number, found = (labels == label).sum(), (labels[taken] == label).sum()
        assert found == (max(1, round(number * splitting.SHARE)) if number >= splitting.FEWEST else 0)
    again = splitting.by_class(labels, "here", "test", "give more")
    np.testing.assert_array_equal(taken, again[1])


@pytest.mark.parametrize("items", [0, 1, 3])
def test_too_few_items_are_one_clear_line(items):
    message = rf"here: {items} items are too few to split a test set off; give more"
    with pytest.raises(ConfigError, match=message):
        splitting.at_random(items, "here", "test", "give more")


def test_classes_of_two_items_give_none():
    with pytest.raises(ConfigError, match="here: 4 items are too few"):
        splitting.by_class(np.array([0, 0, 1, 1]), "here", "validation", "give more")
