"""Whether data is scaled as a model expects it."""

import re

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.execution import input_scaling
from autoopt.models.task import Split

layers = tf_keras.layers
INSIDE = {
    "plain": list,
    "rescaling": lambda: [layers.Rescaling(1 / 255)],
    "normalized": lambda: [layers.BatchNormalization(momentum=0.5, name="norm")],
}


def images(n, seed):
    """Images in 0..1: class 1 is brighter."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.uniform(0, 0.6, (n, 8, 8, 1)).astype(np.float32)
    x[labels == 1] += 0.2
    return x, labels


def model(inside, factor=1.0):
    """Trained on images times a factor; the tanh makes it hang on how they are scaled."""
    tf_keras.utils.set_random_seed(0)
    made = tiny.network(
        *INSIDE[inside](), layers.Flatten(), layers.Dense(8, activation="tanh"), layers.Dense(2, activation="softmax")
    )
    made.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    x, y = images(256, 0)
    made.fit(x * factor, y, epochs=15, verbose=0)
    return made


def told(made, scale):
    x, y = images(200, 1)
    split = Split(inputs={tiny.INPUT: scale(x).astype(np.float32)}, labels=y)
    low, high = float(split.inputs[tiny.INPUT].min()), float(split.inputs[tiny.INPUT].max())
    found = input_scaling.examined(made, tiny.manifest(), split, 1)
    return list(input_scaling.suspicions(found | {"range": [low, high]}, "accuracy", "fraction"))


@pytest.mark.parametrize(
    ("inside", "factor", "scale", "way", "figures"),
    [
        ("plain", 1, lambda x: x * 255, "x / 255", r"is \d\d\.\d%; with"),
        ("rescaling", 255, lambda x: x, "x * 255", "; the model scales its inputs itself .*0.00392"),
        (
            "normalized",
            1,
            lambda x: x * 255,
            "x / 255",
            r"norm varies 2\d\d times .*norm varies (1|0\.9|1\.0)\d* times",
        ),
    ],
)
def test_a_better_scaling_is_named_with_its_figures(inside, factor, scale, way, figures):
    [warning] = told(model(inside, factor), scale)
    assert "the data seems not to be scaled as in the model's training: it reaches from" in warning
    assert f"with {way} it is" in warning
    assert re.search(figures, warning), warning


@pytest.mark.parametrize(("inside", "factor"), [("plain", 1), ("rescaling", 255), ("normalized", 1)])
def test_data_as_in_training_is_not_blamed(inside, factor):
    assert told(model(inside, factor), lambda x: x * factor) == []


def test_labels_that_are_wrong_are_no_matter_of_scaling():
    made = model("plain")
    x, y = images(200, 1)
    split = Split(inputs={tiny.INPUT: x}, labels=np.random.default_rng(2).permutation(y))
    found = input_scaling.examined(made, tiny.manifest(), split, 1)
    assert not any(row["better"] for row in found["scalings"])
    assert list(input_scaling.suspicions(found | {"range": [0.0, 1.0]}, "accuracy", "fraction")) == []


def test_other_data_is_told_from_other_scaling():
    """What varies in another way than in training, in no usual scale, is said without blaming the scale."""
    [warning] = told(model("normalized"), lambda x: x * 6)
    assert "is this data like what it was trained on?" in warning
