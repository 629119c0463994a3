"""Losses of Keras 3 as those of tf_keras."""

import keras
import numpy as np
import pytest
import tf_keras

from autoopt.errors import ConfigError
from autoopt.models.keras3_losses import in_keras2

LABELS, OUTPUTS = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), np.array([[0.3, 0.7], [0.6, 0.4]], np.float32)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.MeanSquaredError(),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        keras.losses.Huber(delta=0.2),
        keras.losses.BinaryFocalCrossentropy(gamma=1.5),
        keras.losses.MeanAbsoluteError(reduction="mean"),
        keras.losses.MeanAbsoluteError(reduction="sum"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_of_keras_3_is_the_same_in_keras_2(loss):
    found = in_keras2(loss, "task: loss")
    assert isinstance(found, tf_keras.losses.Loss)
    np.testing.assert_allclose(found(LABELS, OUTPUTS), loss(LABELS, OUTPUTS), rtol=1e-5)
    again = tf_keras.losses.deserialize(tf_keras.losses.serialize(found))
    np.testing.assert_allclose(again(LABELS, OUTPUTS), loss(LABELS, OUTPUTS), rtol=1e-5)


def test_functions_and_classes_are_found_by_their_names():
    assert in_keras2(keras.losses.mean_squared_error, "task: loss") == "mean_squared_error"
    assert isinstance(in_keras2(keras.losses.Poisson, "task: loss"), tf_keras.losses.Poisson)


@pytest.mark.parametrize("loss", ["mse", tf_keras.losses.Huber(), np.mean, None])
def test_other_losses_stay_as_they_are(loss):
    assert in_keras2(loss, "task: loss") is loss


def test_a_loss_that_keras_2_does_not_have_is_named():
    with pytest.raises(ConfigError, match=r"task: loss: expected a loss that Keras 2 has too.* got .*Keras 3's Dice"):
        in_keras2(keras.losses.Dice(), "task: loss")
