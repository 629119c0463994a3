"""Masks of steps."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers

from autoopt.models import loading

# Keras 3 copies its own variables in a way that numpy 2 will give up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer '.*was passed an input with a mask attached to it:UserWarning"),
]


def half_masked(x):
    return [layers.Conv1D(3, 3, padding="same")(x), x]  # a convolution gives unmasked steps


@pytest.mark.parametrize("name", ["product", "scaled", "sigmoid", "convolution", "beside", "plus"])
def test_what_unmasks_in_keras_3_does_so_in_keras_2(name):
    operator = {
        "product": lambda x: layers.Dense(3)(x) * x, "scaled": lambda x: x * 2.0, "sigmoid": keras.ops.sigmoid,
        "convolution": layers.Conv1D(3, 3, padding="same"), "beside": lambda x: layers.Concatenate()(half_masked(x)),
        "plus": lambda x: layers.Add()(half_masked(x)),
    }  # fmt: skip
    x = layers.Input((6, 3))
    model = tiny.unlike(keras.Model(x, layers.LSTM(2)(operator[name](layers.Masking(0.25)(x)))))
    series = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    series[1, 3:] = 0.25
    made, _ = loading.unpack(loading.pack(loading.load(model)))
    np.testing.assert_allclose(made(series), model.predict(series, verbose=0), atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_that_may_attend_to_none_gets_what_keras_3_gives_it(dropout):
    x = layers.Input((6, 3))
    masked = layers.Masking(0.25)(x)
    attended = layers.MultiHeadAttention(2, 2, dropout=dropout)(masked, masked)
    series = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    series[1, 3:], series[2] = 0.25, 0.25
    model = tiny.unlike(keras.Model(x, layers.Flatten()(attended)))
    made, _ = loading.unpack(loading.pack(loading.load(model)))
    np.testing.assert_allclose(made(series), model.predict(series, verbose=0), atol=1e-5)


def test_dense_steps_behind_an_all_true_mask_are_rebuilt():
    x = layers.Input((6,))
    words = layers.Embedding(3, 4, mask_zero=True)(x)
    joined = layers.Concatenate()([layers.Conv1D(3, 3, padding="same")(words), words])
    model = tiny.unlike(keras.Model(x, layers.LSTM(2)(layers.TimeDistributed(layers.Dense(3))(joined))))
    given = np.random.default_rng(0).integers(0, 3, (4, 6))
    made, _ = loading.unpack(loading.pack(loading.load(model)))
    np.testing.assert_allclose(made(given), model.predict(given, verbose=0), atol=1e-5)
