"""What labels and outputs mean: inferred from both together, or refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.errors import ConfigError
from autoopt.models import labels as labels_of
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning

RNG = np.random.default_rng(0)
SOFT = RNG.dirichlet(np.ones(3), 40).astype(np.float32)
SIGMOIDS = RNG.uniform(0.01, 0.99, (40, 3)).astype(np.float32)
LOGITS = RNG.normal(0, 4, (40, 3)).astype(np.float32)
YES = RNG.integers(0, 2, 40)
CHANCE = np.where(YES, 0.7, 0.2).astype(np.float32)[:, None]
LOGIT = np.where(YES, 3.0, -4.0).astype(np.float32)[:, None]
INDEX = RNG.integers(0, 3, 40)
MULTI = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0]] * 10)
AGES = RNG.integers(0, 95, 40)
PIXELS = RNG.integers(0, 3, (40, 4, 4))
SOFT_PIXELS = RNG.dirichlet(np.ones(3), (40, 4, 4)).astype(np.float32)
MASK = RNG.integers(0, 2, (40, 4, 4, 1))


@pytest.mark.parametrize(
    ("labels", "outputs", "loss", "logits", "kind", "positions", "threshold"),
    [
        (INDEX, SOFT, "sparse_categorical_crossentropy", False, CLASSES, 1, 0.5),
        (INDEX[:, None], LOGITS, "sparse_categorical_crossentropy", True, CLASSES, 1, 0.5),
        (INDEX.astype(float), SOFT, "sparse_categorical_crossentropy", False, CLASSES, 1, 0.5),
        (np.eye(3)[INDEX], SOFT, "categorical_crossentropy", False, CLASSES, 1, 0.5),
        (np.eye(3)[INDEX], LOGITS, "categorical_crossentropy", True, CLASSES, 1, 0.5),
        (np.eye(3)[INDEX], SIGMOIDS, "binary_crossentropy", False, CLASSES, 1, 0.5),
        (MULTI, SIGMOIDS, "binary_crossentropy", False, LABELS, 1, 0.5),
        (MULTI, LOGITS, "binary_crossentropy", True, LABELS, 1, 0.0),
        (YES, CHANCE, "binary_crossentropy", False, BINARY, 1, 0.5),
        (YES[:, None].astype(bool), CHANCE, "binary_crossentropy", False, BINARY, 1, 0.5),
        (YES, CHANCE[:, 0], "binary_crossentropy", False, BINARY, 1, 0.5),
        (YES, LOGIT, "binary_crossentropy", True, BINARY, 1, 0.0),
        (YES, CHANCE * 1.2 - 0.1, "binary_crossentropy", False, BINARY, 1, 0.5),
        (YES, CHANCE * 3 - 1, "mean_squared_error", False, BINARY, 1, 0.5),
        (PIXELS, SOFT_PIXELS, "sparse_categorical_crossentropy", False, CLASSES, 16, 0.5),
        (PIXELS[..., None], SOFT_PIXELS, "sparse_categorical_crossentropy", False, CLASSES, 16, 0.5),
        (MASK, MASK * 0.5 + 0.2, "binary_crossentropy", False, BINARY, 16, 0.5),
        (MASK[..., 0], MASK * 6.0 - 3, "binary_crossentropy", True, BINARY, 16, 0.0),
        (AGES, AGES[:, None] + 3.0, "mean_squared_error", False, VALUES, 1, 0.5),
        (AGES, np.maximum(AGES[:, None] - 50.0, 0), "mean_squared_error", False, VALUES, 1, 0.5),
        (YES * 2 - 1, np.tanh(LOGIT), "mean_squared_error", False, VALUES, 1, 0.5),
        (LOGITS + 0.1, LOGITS, "mean_squared_error", False, VALUES, 1, 0.5),
    ],
)
def test_loss_and_meaning_follow_from_labels_and_outputs(labels, outputs, loss, logits, kind, positions, threshold):
    found = labels_of.infer_loss(labels, outputs, labels, "here")
    assert (found.loss, found.from_logits) == (loss, logits)
    assert found.reason
    meaning = labels_of.read(labels, outputs, labels, found.loss, "here")
    assert (meaning.kind, meaning.positions, meaning.threshold) == (kind, positions, threshold)
    assert Meaning.from_dict(meaning.to_dict()) == meaning


@pytest.mark.parametrize(
    ("labels", "outputs", "message"),
    [
        (YES * 2 - 1, CHANCE, r"expected 0 and 1 of a model with one output, got -1 and 1; give \(labels == 1\)"),
        (YES + 1, CHANCE, "got 1 and 2"),
        (YES + 1, LOGIT, "got 1 and 2"),
        (YES * 255, CHANCE, r"got 0 and 255; give \(labels == 255\)"),
        (MASK * 255, MASK * 0.5 + 0.2, "got 0 and 255"),
        (AGES, CHANCE, r"reach from \d+ to \d+, but the outputs only from 0.2 to 0.7"),
        (INDEX + 1, SOFT, "expected class indices 0 to 2 .*, got 3; subtract 1"),
        (INDEX - 1, SOFT, "expected class indices 0 to 2 .*, got -1"),
        (INDEX + 0.5, SOFT, "expected class indices 0 to 2"),
        (MULTI, SOFT, "several are 1 at once, but the outputs sum to 1, as those of a softmax"),
        (np.zeros((40, 4)), SOFT, "expected one class index an item, or labels of the outputs' own shape"),
        (np.zeros((40, 4)), CHANCE, "expected 1 an item"),
    ],
)
def test_what_can_not_be_meant_is_refused(labels, outputs, message):
    with pytest.raises(ConfigError, match=f"here: labels: .*{message}"):
        labels_of.infer_loss(labels, outputs, labels, "here")


@pytest.mark.parametrize(
    ("labels", "outputs", "loss", "kind", "threshold"),
    [
        (YES * 2 - 1, np.tanh(LOGIT), "hinge", BINARY, 0.0),
        (YES, LOGIT, "squared_hinge", BINARY, 0.0),
        (YES, LOGIT, {"module": "", "name": "own"}, BINARY, 0.0),
        (YES, CHANCE, {"module": "", "name": "own"}, BINARY, 0.5),
        # The loss is told scores, but they are probabilities: what they say is what counts.
        (YES, CHANCE, {"keras": {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}}, BINARY, 0.5),
        (YES.astype(float), CHANCE * 3 - 1, "mse", BINARY, 0.5),
        (MULTI.astype(float), SIGMOIDS, "mean_squared_error", VALUES, 0.5),
        (SIGMOIDS, SIGMOIDS, "binary_crossentropy", VALUES, 0.5),
        (SOFT, SOFT, "categorical_crossentropy", CLASSES, 0.5),
        (AGES, AGES[:, None] + 1.0, {"module": "", "name": "own"}, VALUES, 0.5),
        (INDEX, LOGITS, {"module": "", "name": "own"}, CLASSES, 0.5),
    ],
)
def test_a_given_loss_tells_how_labels_are_read(labels, outputs, loss, kind, threshold):
    meaning = labels_of.read(labels, outputs, labels, loss, "here")
    assert (meaning.kind, meaning.threshold) == (kind, threshold)


def test_a_hinge_takes_minus_one_for_no():
    meaning = labels_of.read(YES * 2 - 1, np.tanh(LOGIT), YES * 2 - 1, "hinge", "here")
    np.testing.assert_array_equal(meaning.truth(YES * 2 - 1)[:, 0], YES)
    np.testing.assert_array_equal(meaning.predicted(np.tanh(LOGIT))[:, 0], YES)


@given(
    labels=st.sampled_from(["int64", "uint8", "float32", "bool"]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            arrays.array_shapes(min_dims=1, max_dims=3, max_side=6),
            elements=st.booleans() if dtype == "bool" else st.sampled_from([0, 1, 2, 5]),
        )
    ),
    broken=st.sampled_from([0, -1, 0.5, 7]),
    size=st.integers(1, 200),
)
def test_a_few_telling_items_answer_as_all_of_them(labels, broken, size):
    if labels.dtype.kind == "f":
        labels.flat[labels.size // 2] = broken
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoopt.models.columns.CHUNK_BYTES", size)
        patch.setattr(labels_of, "CHUNK_BYTES", size)
        few = labels_of.telling(labels)
    assert few.dtype == labels.dtype
    assert few.shape[1:] == labels.shape[1:]
    for question in (np.min, np.max, labels_of.whole, labels_of.ones):
        assert question(few) == question(labels)
    assert (len(np.unique(few)) == 2) == (len(np.unique(labels)) == 2)
    if labels.ndim > 1:
        assert labels_of.exclusive(few) == labels_of.exclusive(labels)
    if labels.nbytes <= size:
        assert few is labels
