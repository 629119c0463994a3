"""What a model's outputs mean, by loss, metric, shape and values."""

import numpy as np
import pytest
import tiny

from autoopt.reporting.bundle.ends import End
from autoopt.reporting.bundle.meaning import Meaning, of_outputs


def keras(name, **config):
    return {"keras": {"class_name": name, "config": config}}


OWN = {"module": "", "name": "own"}
LOGITS = keras("SparseCategoricalCrossentropy", from_logits=True)


def meaning(loss, metric, shape, recorded=None, **more):
    """Of a model's only output; the metric by its name."""
    told = tiny.manifest(loss, {"name": metric, "direction": "max", "unit": "", "function": {}})
    values = () if recorded is None else (np.asarray(recorded, np.float32),)
    (found,) = of_outputs(told, [End(shape=(1, *shape), dtype="float32")], values, **more)
    return found


@pytest.mark.parametrize(
    ("loss", "metric", "shape", "kind", "values"),
    [
        ("sparse_categorical_crossentropy", "accuracy", (4,), "classes", "probabilities"),
        ("categorical_crossentropy", "hits", (4,), "classes", "probabilities"),
        (LOGITS, "accuracy", (4,), "classes", "logits"),
        (keras("Custom>CategoricalFocalCrossentropy"), "f1", (4,), "classes", "probabilities"),
        ("categorical_hinge", "accuracy", (4,), "classes", "scores"),
        (OWN, "accuracy", (4,), "classes", "scores"),
        ("mse", "accuracy", (4,), "classes", "scores"),
        ("kld", "agreement", (4,), "classes", "scores"),
        ("binary_crossentropy", "accuracy", (1,), "binary", "probabilities"),
        ("binary_crossentropy", "accuracy", (), "binary", "probabilities"),
        ("bce", "auc", (1,), "binary", "probabilities"),
        (keras("BinaryCrossentropy", from_logits=True), "accuracy", (1,), "binary", "logits"),
        ("hinge", "accuracy", (1,), "binary", "scores"),
        (OWN, "auc", (1,), "binary", "scores"),
        ("mse", "binary_accuracy", (1,), "binary", "scores"),
        ("binary_crossentropy", "label_accuracy", (5,), "labels", "probabilities"),
        (keras("BinaryCrossentropy", from_logits=True), "f1", (5,), "labels", "logits"),
        ("sparse_categorical_crossentropy", "mean_iou", (8, 8, 3), "mask", "probabilities"),
        (LOGITS, "pixel_accuracy", (8, 8, 3), "mask", "logits"),
        ("binary_crossentropy", "mean_iou", (8, 8, 1), "mask", "probabilities"),
        (OWN, "mean_iou", (8, 8, 3), "mask", "scores"),
        ("sparse_categorical_crossentropy", "accuracy", (12, 7), "mask", "probabilities"),
        ("mse", "mae", (1,), "values", "numbers"),
        ("mean_squared_error", "r2", (3,), "values", "numbers"),
        (keras("Huber"), "rmse", (8, 8, 3), "values", "numbers"),
        (OWN, "own", (1,), "values", "numbers"),
        ("mse", "mae", (28, 28, 1), "values", "numbers"),
    ],
)
def test_the_kind_follows_from_loss_metric_and_shape(loss, metric, shape, kind, values):
    found = meaning(loss, metric, shape)
    assert (found.kind, found.values) == (kind, values)


def test_labels_with_one_1_among_zeros_are_classes():
    assert meaning("binary_crossentropy", "accuracy", (5,), one_hot=True).kind == "classes"
    assert not meaning("binary_crossentropy", "mean_iou", (8, 8, 3), one_hot=True).alone
    assert meaning("binary_crossentropy", "mean_iou", (8, 8, 3)).alone


@pytest.mark.parametrize(
    ("loss", "recorded", "values"),
    [
        (LOGITS, [[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]], "probabilities"),  # although the loss takes it for logits
        (LOGITS, [[0.1, 0.2, 0.3], [0.9, 0.8, 0.0]], "logits"),
        ("sparse_categorical_crossentropy", [[5.0, -2.0, 1.0]], "logits"),
        (OWN, [[0.1, 0.2, 0.7]], "probabilities"),
        (OWN, [[5.0, -2.0, 1.0]], "scores"),
        ("sparse_categorical_crossentropy", [[0.332, 0.332, 0.332]], "probabilities"),
    ],
)
def test_the_values_tell_whether_they_are_probabilities(loss, recorded, values):
    assert meaning(loss, "accuracy", (3,), recorded).values == values


def test_what_decides_alone_has_the_threshold_of_the_task():
    assert meaning(keras("BinaryCrossentropy", from_logits=True), "accuracy", (1,), [[0.3], [0.6]]) == Meaning(
        kind="binary", values="logits", alone=True, threshold=0.0
    )
    assert meaning("binary_crossentropy", "f1", (4,)).to_dict() == {
        "kind": "labels", "values": "probabilities", "threshold": 0.5
    }  # fmt: skip
    assert "threshold" not in meaning(LOGITS, "accuracy", (4,)).to_dict()


def test_several_outputs_each_follow_their_own_loss():
    told = tiny.manifest(
        {"outputs": {"where": "mse", "what": LOGITS, "odd": keras("BinaryCrossentropy", from_logits=True)}},
        {"name": "accuracy", "direction": "max", "unit": "", "function": {}},
    )
    ends = [End(shape=(1, n), dtype="float32", name=name) for name, n in (("odd", 1), ("where", 2), ("what", 5))]
    found = of_outputs(told, ends)
    assert [one.kind for one in found] == ["binary", "values", "classes"]
    assert [one.threshold for one in found] == [0.0, 0.5, 0.0]


def test_of_a_task_that_is_not_known_the_classes_names_tell():
    end = End(shape=(1, 3), dtype="float32")
    assert of_outputs(None, [end], names=3)[0].kind == "classes"
    assert of_outputs(None, [end])[0].kind == "values"
    assert of_outputs(None, [End(shape=(1, 1), dtype="float32")], names=2)[0].kind == "binary"
