"""It is said when more epochs can't help, and only then."""

import builders
import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given
from hypothesis import strategies as st

from autoopt.compression import data_limit
from autoopt.core.stage_settings import Prune
from autoopt.models.task import Split

ACCURACY, ERROR = builders.METRICS["accuracy"], builders.METRICS["mae"]


def history(losses, values, name="accuracy"):
    return [{"loss": loss, name: value} for loss, value in zip(losses, values, strict=True)]


FALLING = [0.9, 0.3, 0.1, 0.05, 0.03, 0.02]


@pytest.mark.parametrize(
    ("losses", "values", "first", "said"),
    [
        (FALLING, [0.7, 0.75, 0.8, 0.8, 0.8, 0.79], 0, "2.2 % of its first epoch's, and accuracy"),
        (FALLING, [0.7, 0.75, 0.8, 0.78, 0.76, 0.7], 0, "since epoch 3 of 6"),
        ([*FALLING[:5], 0.0], [0.7, 0.75, 0.8, 0.8, 0.8, 0.79], 0, "fell to 0 %"),
        (FALLING, [0.9, 0.85, 0.7, 0.7, 0.7, 0.7], 2, "since epoch 3 of 6"),
        (FALLING, [0.7, 0.75, 0.8, 0.8, 0.8, 0.81], 0, ""),
        (FALLING, [0.7, 0.75, 1.0, 1.0, 1.0, 1.0], 0, ""),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.7, 0.75, 0.8, 0.8, 0.8, 0.79], 0, ""),
        (FALLING[:3], [0.8, 0.8, 0.8], 0, ""),
        ([0.0] * 6, [0.8] * 6, 0, ""),
    ],
    ids=["stood", "fell", "nothing left", "not in force", "rose", "perfect", "still learning", "short", "nothing to learn"],
)  # fmt: skip
def test_data_are_the_limit_where_the_loss_is_gone_and_quality_stands(losses, values, first, said):
    found = data_limit.notes(history(losses, values), ACCURACY, first)
    assert len(found) == bool(said)
    assert said in "".join(found)


@given(st.lists(st.tuples(st.floats(-1, 10), st.floats(0, 1)), min_size=1, max_size=20), st.integers(0, 19))
def test_a_metric_of_which_less_is_better_is_read_the_other_way_round(epochs, first):
    losses, values = zip(*epochs, strict=True)
    first = min(first, len(epochs) - 1)
    more = data_limit.notes(history(losses, [-v for v in values], "margin"), builders.METRICS["margin"], first)
    less = data_limit.notes(history(losses, [v + 1 for v in values], "mae"), ERROR, first)
    assert [line.replace("margin", "mae") for line in more] == less


def test_a_stage_that_learns_few_items_by_heart_says_so():
    """Only a training shows that the note comes from its own history: labels are drawn by lot, so nothing is to be learnt."""
    rng = np.random.default_rng(0)
    train, validation = (
        Split(inputs={tiny.INPUT: rng.normal(size=(n, 8, 8, 1)).astype(np.float32)}, labels=rng.integers(0, 4, n))
        for n in (16, 64)
    )
    tf_keras.utils.set_random_seed(0)
    chain = tiny.settings(epochs=40, learning_rate=0.01, prune=Prune(sparsity=0.1, schedule="constant"))
    _, [report] = tiny.train(tiny.cnn(), chain, data=(train, validation))
    assert report["epochs"][-1]["loss"] < 0.1 * report["epochs"][0]["loss"]
    assert [note for note in report["notes"] if note.startswith("data is the limit: ")]
