"""Metrics known by name: scikit-learn's on the items themselves, and Keras's own, say the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from autoopt.models import answers, crosscheck, score_counts, tallies
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning
from autoopt.models.scoring import BUILTIN, Score


def drawn(kind, items, positions, classes, seed):
    """Labels and outputs at random, and how they are read."""
    rng = np.random.default_rng(seed)
    shape = (items, positions, classes)
    if kind == CLASSES:
        labels, outputs = rng.integers(0, classes, shape[:2]), rng.dirichlet(np.ones(classes), shape[:2])
    elif kind == VALUES:
        labels = rng.normal(0, 3, shape)
        outputs = labels + rng.normal(0, 1, shape)
    else:
        labels, outputs = rng.integers(0, 2, shape), rng.random(shape)
    return labels, outputs.astype(np.float32), Meaning(kind=kind, classes=classes, positions=positions)


CASES = [(name, kind) for name, known in BUILTIN.items() for kind in known.kinds]


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=15, deadline=None)
@given(st.integers(3, 30), st.integers(1, 6), st.integers(2, 7), st.integers(0, 999))
def test_keras_says_the_same(name, kind, items, positions, classes, seed):
    classes = 1 if kind == BINARY else classes
    labels, outputs, meaning = drawn(kind, items, positions, classes, seed)
    try:
        ours = Score(name, meaning, labels, outputs).value()
    except ValueError:  # an AUC of one class
        return
    theirs = crosscheck.keras_value(name, meaning, labels, outputs)
    assert ours == pytest.approx(theirs, abs=0.01 if name == "auc" else 1e-4, rel=1e-4)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_items_that_are_drawn_twice_count_twice(name, kind):
    classes = 1 if kind == BINARY else 3
    labels, outputs, meaning = drawn(kind, 12, 2, classes, 1)
    chosen = np.random.default_rng(3).integers(0, 12, 12)
    found = Score(name, meaning, labels, outputs).resampled(chosen)
    assert found == pytest.approx(Score(name, meaning, labels[chosen], outputs[chosen]).value(), rel=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_masked_positions_are_left_out(name, kind):
    classes = 1 if kind == BINARY else 3
    labels, outputs, meaning = drawn(kind, 12, 5, classes, 1)
    mask = np.random.default_rng(3).random((12, 5)) < 0.6
    mask[:, 0] = True
    found = Score(name, meaning, labels, outputs, mask).value()
    garbage = np.where(mask[..., None], outputs, 1 - outputs[:, :, ::-1])
    assert found == pytest.approx(Score(name, meaning, labels, garbage, mask).value())
    expected = crosscheck.keras_value(name, meaning, labels, outputs, mask)
    assert found == pytest.approx(expected, abs=0.01 if name == "auc" else 1e-4)


def test_a_label_that_does_not_count_is_left_out():
    labels = np.array([[0, 1, 255], [2, 255, 255]])
    outputs = np.eye(3)[[[0, 2, 1], [2, 0, 0]]]
    meaning = Meaning(kind=CLASSES, classes=3, positions=3, ignored=255)
    found = Score("accuracy", meaning, labels, outputs)
    assert found.value() == pytest.approx(2 / 3)
    assert found.classes() == ((1, 1), (0, 1), (1, 1))


def test_the_issue_of_one_argmax_for_all_pixels():
    """Perfect outputs are right in all pixels, and the one right pixel of an item is one."""
    labels = np.random.default_rng(0).integers(0, 3, (20, 6, 6))
    meaning = Meaning(kind=CLASSES, classes=3, positions=36)
    assert Score("accuracy", meaning, labels, np.eye(3)[labels]).value() == 1
    one = np.eye(3)[(labels + 1) % 3]
    one[:, 0, 0] = np.eye(3)[labels[:, 0, 0]]
    found = Score("accuracy", meaning, labels, one)
    assert found.value() == pytest.approx(1 / 36)
    assert Score("exact_match", meaning, labels, one).value() == 0
    assert sum(n for _, n in found.classes()) == 720


def test_several_labels_count_one_by_one():
    labels = np.array([[1, 0, 1, 0], [0, 0, 0, 1]])
    outputs = np.array([[0.9, 0.2, 0.4, 0.1], [0.3, 0.2, 0.1, 0.8]])
    meaning = Meaning(kind=LABELS, classes=4, positions=1)
    assert Score("accuracy", meaning, labels, outputs).value() == 7 / 8
    assert Score("exact_match", meaning, labels, outputs).value() == 1 / 2
    expected = metrics.f1_score(labels, outputs > 0.5, average="macro", zero_division=0)
    assert Score("f1_macro", meaning, labels, outputs).value() == pytest.approx(expected)
    assert Score("accuracy", meaning, labels, outputs).classes() == ((1, 1), (0, 0), (0, 1), (1, 1))


def test_scores_that_are_no_numbers_are_wrong():
    labels, outputs = np.array([[0], [1]]), np.array([[np.nan], [np.inf]])
    meaning = Meaning(kind=BINARY, classes=1, positions=1)
    for name in ("accuracy", "f1", "f1_macro", "mean_iou", "balanced_accuracy"):
        assert Score(name, meaning, labels, outputs).value() == 0
    with pytest.raises(ValueError, match="no finite number"):
        Score("auc", meaning, labels, outputs).value()


def test_r2_and_errors_are_scikit_learns():
    labels, outputs, meaning = drawn(VALUES, 20, 1, 1, 0)
    truth, found = labels.reshape(20), outputs.reshape(20)
    assert Score("r2", meaning, labels, outputs).value() == pytest.approx(metrics.r2_score(truth, found))
    assert Score("rmse", meaning, labels, outputs).value() == pytest.approx(np.sqrt(np.square(truth - found).mean()))
    # Labels of one axis against outputs of two are aligned, not broadcast.
    assert Score("mae", meaning, truth, outputs).value() == pytest.approx(np.abs(truth - found).mean())


@pytest.mark.parametrize("kind", [CLASSES, BINARY, LABELS])
@settings(max_examples=8, deadline=None)
@given(st.integers(20, 60), st.booleans(), st.booleans(), st.integers(0, 99))
def test_an_area_of_scores_that_are_counted_is_that_of_sorted_ones(kind, items, logits, masked, seed):
    """Scores near 0 and 1 too, and negative ones."""
    rng, classes = np.random.default_rng(seed), 1 if kind == BINARY else 3
    labels = rng.integers(0, 3 if kind == CLASSES else 2, (items, 4) if kind == CLASSES else (items, 4, classes))
    right = np.eye(3)[labels] if kind == CLASSES else labels
    scores = 8 * (right - 0.5) + rng.normal(0, 8, (items, 4, classes))
    outputs = (scores if logits else 1 / (1 + np.exp(-scores))).astype(np.float32)
    mask = rng.random((items, 4)) < 0.7 if masked else None
    meaning = Meaning(kind=kind, classes=classes, positions=4)
    score, chosen = Score("auc", meaning, labels, outputs, mask), rng.integers(0, items, items)
    expected = score.value(), score.resampled(chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "SORTED_MOST", 0)
        patch.setattr(score_counts, "BINS", 1 << 19)  # quick, and wide enough that some scores share one
        assert score.value() == pytest.approx(expected[0], abs=2e-3)
        assert score.resampled(chosen) == pytest.approx(expected[1], abs=4e-3)


def test_what_has_no_area_is_told_of_counted_scores_too(monkeypatch):
    monkeypatch.setattr(tallies, "SORTED_MOST", 0)
    meaning = Meaning(kind=BINARY, classes=1, positions=1)
    with pytest.raises(ValueError, match="items of one class only"):
        Score("auc", meaning, np.zeros(5), np.linspace(0, 1, 5)).value()
    with pytest.raises(ValueError, match="no finite number"):
        Score("auc", meaning, np.arange(5) % 2, np.array([0, 1, np.nan, 0, 1])).value()
    equal = Score("auc", meaning, np.arange(4) % 2, np.array([0.0, -0.0, 1.0, 1.0]))
    assert equal.value() == 0.5


def test_keras_ranks_many_scores_among_a_part_of_them(monkeypatch):
    labels, outputs, meaning = drawn(LABELS, 400, 4, 3, 0)
    outputs = (outputs + labels / 2).astype(np.float32)
    exact = Score("auc", meaning, labels, outputs).value()
    monkeypatch.setattr(crosscheck, "RANKED", 1000)
    monkeypatch.setattr(answers, "COUNTED", 50)
    assert crosscheck.keras_value("auc", meaning, labels, outputs) == pytest.approx(exact, abs=0.01)
