"""Which way of scaling is chosen where nobody says it: by quality, then by what the model saw in training, then by order."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.errors import ConfigError
from autoopt.execution import likely_scaling

layers = tf_keras.layers
RNG = np.random.default_rng(0)
Y = np.arange(120) % 2
X = (RNG.normal(0, 0.1, (120, 4)) + np.where(Y, 1.0, -1.0)[:, None]).astype(np.float32)
ALL = np.arange(120)


def signs(*first, bias=0.0, last="sigmoid", weight=1.0):
    """A model that says yes where the sum of its inputs is over `-bias`."""
    model = tiny.network(*first, layers.Dense(1, activation=last), shape=(4,))
    model.layers[-1].set_weights([np.full((4, 1), weight), np.array([bias])])
    return model


def choose(model, ways, y=Y, **more):
    return likely_scaling.choose(model, ways, y, ALL, "here", **more)


def test_the_way_with_which_the_model_is_surely_better_is_chosen():
    found = choose(signs(bias=-5.0), {"first": X, "second": X + 1})
    assert found.way == "second"
    assert found.told == "accuracy of 120 items with first: 50.0%, second: 100.0%"


def test_the_preferred_way_needs_to_be_as_good_beyond_chance_alone():
    ways = {"first": X, "second": np.where(ALL[:, None] < 3, -X, X)}
    assert choose(signs(), ways, prefer="second").way == "second"
    assert choose(signs(), {"first": X, "second": -X}, prefer="second").way == "first"


def test_of_faultless_ways_the_first_is_chosen_and_said_to_be_unsure():
    """A larger scale always has the lower loss."""
    found = choose(signs(), {"first": X, "second": 100 * X})
    assert found.way == "first"
    assert found.told.endswith("; which is no sure sign")


def test_mistakes_that_are_made_with_too_much_confidence_tell_ways_apart():
    noisy = np.where(ALL[:, None] % 10 == 0, -0.2 * X, X)
    assert choose(signs(), {"first": 100 * noisy, "second": noisy}).way == "second"


@pytest.mark.parametrize(("scale", "way"), [(1.0, "first"), (50.0, "second")])
def test_what_arrived_at_a_normalization_in_training_tells_ways_apart(scale, way):
    norm = layers.BatchNormalization()
    model = signs(norm)
    norm.set_weights([np.ones(4), np.zeros(4), np.zeros(4), (scale * X).var(axis=0)])
    assert choose(model, {"first": X, "second": 50 * X}).way == way


def test_a_way_with_which_labels_fit_no_loss_is_left_out():
    """Outputs between 0 and 1 look like probabilities, which these labels are not."""
    y = 3 * X.sum(axis=1)
    found = choose(signs(last=None, weight=3.0), {"small": X / 100 + 0.02, "right": X}, y)
    assert found.way == "right"
    assert found.look.metric == "mae"


def test_a_model_that_is_no_better_than_chance_is_doubted():
    assert "no better than chance" in choose(signs(bias=9.0), {"first": X, "second": 2 * X}).told
    assert "chance" not in choose(signs(), {"first": X, "second": 2 * X}).told


def test_labels_that_fit_with_no_way_are_refused():
    with pytest.raises(ConfigError, match="here: labels: expected 0 and 1 of a model with one output"):
        choose(signs(), {"first": X, "second": 2 * X}, Y + 1)
