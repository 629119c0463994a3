"""Fine-tuning settings by name."""

import pytest
from builders import settings  # noqa: F401 - its profile for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.presets import PRESETS, tuning


@given(st.sampled_from(list(PRESETS)), st.integers(1, 10**7))
def test_steps_are_as_near_as_epochs_allow(name: str, items: int) -> None:
    preset, made = PRESETS[name], tuning(name, items)
    assert preset.fewest <= made.epochs <= preset.most
    batches = -(-items // made.batch_size)
    if preset.fewest < made.epochs < preset.most:
        assert abs(made.epochs * batches - preset.steps) <= batches / 2


@pytest.mark.parametrize(("items", "epochs"), [(10_000, [3, 15, 60]), (200, [5, 15, 60]), (1_000_000, [2, 4, 10])])
def test_each_trains_longer_than_the_one_before(items: int, epochs: list[int]) -> None:
    assert [tuning(name, items).epochs for name in PRESETS] == epochs
