"""Whatever the task, what is told of the untouched model's file is what Keras and scikit-learn say of the model.

Real conversion is what may go wrong here, and no cheaper way shows it; the models have a handful of weights.
"""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from autoopt import Task
from autoopt.execution import split_store, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import crosscheck, loading, quality
from autoopt.tflite import conversion, interpreter

layers = tf_keras.layers
ITEMS = 60


KINDS = ("classes", "one-hot", "yes", "labels", "values", "whole values", "pixels", "mask", "tokens")
TASKS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "logits": st.booleans(),
        "keras3": st.booleans(),
        "column": st.booleans(),
        "end": st.sampled_from(["last", "apart", "reshaped"]),
        "seed": st.integers(0, 99),
    }
)


def task(kind, logits, keras3, column, end, seed):
    """A model with data, the metric that is expected, and its value by scikit-learn as a function of outputs."""
    rng = np.random.default_rng(seed)
    threshold = 0.0 if logits else 0.5
    if kind in ("pixels", "mask"):
        x = rng.random((ITEMS, 6, 6, 1), dtype=np.float32)
        last = 1 if kind == "mask" else 3
        y = rng.integers(0, max(2, last), (ITEMS, 6, 6, 1) if column or kind == "mask" else (ITEMS, 6, 6))
    elif kind == "tokens":
        x, last = rng.random((ITEMS, 5, 4), dtype=np.float32), 3
        y = rng.integers(0, 3, (ITEMS, 5))
    else:
        x = rng.random((ITEMS, 7), dtype=np.float32)
        last = {"classes": 3, "one-hot": 3, "labels": 4}.get(kind, 1)
        y = {
            "classes": lambda: rng.integers(0, 3, (ITEMS, 1) if column else ITEMS),
            "one-hot": lambda: np.eye(3)[rng.integers(0, 3, ITEMS)],
            "yes": lambda: rng.integers(0, 2, (ITEMS, 1) if column else ITEMS),
            "labels": lambda: np.concatenate([rng.integers(0, 2, (ITEMS - 1, 4)), [[1, 1, 0, 0]]]),
            "values": lambda: rng.normal(3, 2, (ITEMS, 1) if column else ITEMS),
            "whole values": lambda: rng.integers(0, 95, ITEMS),
        }[kind]()
    ends = {"yes": "sigmoid", "labels": "sigmoid", "mask": "sigmoid"}.get(kind, "softmax")
    activation = None if logits or "values" in kind else ends
    model = network(x.shape[1:], last, activation, end, keras3, rng)

    def score(p):
        if "values" in kind:
            return metrics.mean_absolute_error(y.ravel(), p.ravel())
        if kind in ("yes", "labels", "mask"):
            return metrics.accuracy_score(y.ravel(), p.ravel() > threshold)
        truth = y.argmax(axis=-1) if kind == "one-hot" else y
        return metrics.accuracy_score(truth.ravel(), p.reshape(-1, last).argmax(axis=-1))

    return model, x, y, "mae" if "values" in kind else "accuracy", score


def network(shape, last, activation, end, keras3, rng):
    """A model that ends in its activation in one of three ways."""
    import keras

    library = keras if keras3 else tf_keras
    kind = library.layers
    x = inputs = library.Input(shape)
    x = (
        kind.Conv2D(4, 3, padding="same", activation="relu")(x)
        if len(shape) == 3
        else kind.Dense(6, activation="relu")(x)
    )
    x = kind.Dropout(0.5)(x)
    x = kind.Dense(last, activation=activation if end == "last" else None)(x)
    if end == "apart" and activation:
        x = kind.Activation(activation)(x)
    if end == "reshaped":
        x = kind.Reshape((*shape[:-1], last))(kind.Activation(activation)(x) if activation else x)
    model = library.Model(inputs, x)
    model.set_weights(
        [rng.normal(0, 2, w.shape) for w in model.get_weights()]
    )  # outputs far from 0 and from each other
    return model


@settings(max_examples=12, deadline=None, derandomize=True)
@given(TASKS)
def test_a_file_is_as_good_as_keras_and_scikit_learn_say(drawn):
    model, x, y, metric, score = task(**drawn)
    expected = score(np.asarray(model.predict(x, verbose=0)))
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place, "store"))
        pair = (x, y)
        taken = task_checks.prepare(
            Task(model=model, train=pair, validation=pair, test=pair), Path(place, "task.py"), store
        )
        manifest = taken.manifest
        split = split_store.get(store, manifest.splits["validation"])
        rebuilt, _ = loading.unpack(store.get(manifest.model))
    outputs = interpreter.outputs_of(conversion.float32(rebuilt), split.inputs, 1)
    found = quality.quality(manifest, split, outputs, "here").measurement
    assert manifest.quality.name == metric
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert found.low <= found.value <= found.high
    compared = crosscheck.compare(manifest, split, rebuilt.predict(x, verbose=0), outputs)
    assert compared["keras"] == pytest.approx(expected, rel=1e-4)
