"""The task's metric of a file's outputs, with its interval."""

import math

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt.core.metrics import resampled_difference, unpack_outcomes, wilson
from autoopt.errors import CandidateFailed
from autoopt.models import quality
from autoopt.models.labels import BINARY, CLASSES, LABELS, VALUES, Meaning, single
from autoopt.models.scoring import Score
from autoopt.models.task import Split

scores = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.integers(2, 6)), elements=st.floats(-100, 100, width=32), unique=True
)


def right(labels, outputs, threshold=0.5):
    """Which items are given their class."""
    scores = outputs.reshape(len(outputs), -1).shape[1]
    return Score("accuracy", single(scores, threshold), labels, outputs).one_class()[1]


# --- accuracy


@pytest.mark.parametrize(
    ("labels", "outputs", "expected"),
    [
        ([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [True, True, False]),
        ([[0], [1]], [[0.9, 0.1], [0.9, 0.1]], [True, False]),
        ([[0, 1], [1, 0]], [[0.1, 0.9], [0.1, 0.9]], [True, False]),
        ([0, 1, 1], [[0.4], [0.6], [0.4]], [True, True, False]),
        ([0.0, 1.0], [0.4, 0.6], [True, True]),
        ([0, 0], [[0.9, np.nan], [np.nan, 0.1]], [False, False]),
        ([0, 1], [[np.nan], [np.inf]], [False, False]),
    ],
)
def test_which_items_are_right(labels, outputs, expected):
    assert right(np.array(labels), np.array(outputs)).tolist() == expected


def scored(manifest, labels, outputs, how):
    return quality.quality(manifest, Split(inputs={}, labels=np.asarray(labels)), outputs, how)


def quality_value(manifest, labels, outputs):
    return quality.value(manifest, Split(inputs={}, labels=np.asarray(labels)), outputs)


def test_logits_of_one_output_turn_at_zero():
    labels, logits = np.array([0, 1, 1]), np.array([[-0.1], [0.2], [-3.0]])
    assert right(labels, logits, 0.0).tolist() == [True, True, False]
    taking_logits = {"keras": {"config": {"from_logits": True}}}
    assert quality_value(tiny.manifest(taking_logits), labels, logits) == pytest.approx(2 / 3)
    assert scored(tiny.manifest(taking_logits), labels, logits, "").measurement.value == pytest.approx(2 / 3)
    assert quality_value(tiny.manifest("binary_crossentropy"), labels, logits) == pytest.approx(1 / 3)


@given(scores, st.data())
def test_index_and_one_hot_labels_mean_the_same(outputs, data):
    n, classes = outputs.shape
    labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    hits = right(labels, outputs)
    np.testing.assert_array_equal(hits, right(np.eye(classes)[labels], outputs))
    np.testing.assert_array_equal(hits, right(labels[:, None], outputs[:, None, :]))
    assert right(outputs.argmax(axis=1), outputs).all()


@given(scores, st.data())
def test_accuracy_is_counted_item_by_item(outputs, data):
    n, classes = outputs.shape
    labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    found = scored(tiny.manifest(), labels, outputs, "here")
    measurement, hits = found.measurement, unpack_outcomes(found.outcomes, n)
    assert found.predictions == tuple(outputs.argmax(axis=1))
    assert found.classes == tuple((hits[labels == c].sum(), (labels == c).sum()) for c in range(labels.max() + 1))
    np.testing.assert_array_equal(hits, right(labels, outputs))
    assert measurement.value == quality_value(tiny.manifest(), labels, outputs) == hits.mean()
    assert (measurement.low, measurement.high) == wilson(int(hits.sum()), n)
    assert (measurement.n, measurement.how) == (n, "here")


def test_agreement_counts_items_given_the_same_class():
    found = quality.agreement([0, 1, 2, 2], [0, 1, 1, 2])
    assert (found.value, found.n) == (0.75, 4)
    assert (found.low, found.high) == wilson(3, 4)


# --- a metric of one's own, by the bootstrap


def mae(labels, outputs):
    return float(np.abs(labels - outputs).mean())


def mean(labels, outputs):
    return float(outputs.mean())


def needs_both(labels, outputs):
    if len(set(labels.tolist())) < 2:
        raise ValueError("one class only")
    return float(outputs.mean())


def never_again(labels, outputs):
    """Defined for the items as they are, and for no draw of them."""
    if outputs.tolist() != sorted(set(outputs.tolist())):
        raise ValueError("an item stands twice")
    return float(outputs.mean())


def raising(labels, outputs):
    raise RuntimeError("two\nlines")


def nan(labels, outputs):
    return math.nan


def own(function):
    """A manifest with a function of this file as its metric."""
    found = {"module": __name__, "name": function.__name__}
    return tiny.manifest("mse", {"name": "own", "direction": "min", "unit": "", "function": found})


def test_bootstrap_interval_has_the_width_that_theory_gives():
    outputs = np.random.default_rng(1).normal(5, 2, 400)
    found = scored(own(mean), np.zeros(400), outputs, "here")
    measurement = found.measurement
    half = 1.96 * outputs.std() / math.sqrt(400)
    assert measurement.value == pytest.approx(outputs.mean())
    assert (measurement.high - measurement.low) / 2 == pytest.approx(half, rel=0.2)
    assert (measurement.n, measurement.how, measurement.flags) == (400, "here; bootstrap of 200 resamples", ())
    assert (found.outcomes, found.predictions) == ("", ())
    assert scored(own(mean), np.zeros(400), outputs, "here") == found


def test_two_files_are_resampled_on_the_same_items():
    outputs = np.random.default_rng(1).normal(5, 2, 50)
    one, other = (scored(own(mean), np.zeros(50), x, "").resamples for x in (outputs, outputs + 1))
    assert len(one) == quality.RESAMPLES
    np.testing.assert_allclose(np.array(other) - np.array(one), 1, atol=1e-5)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(100):
        outputs = np.random.default_rng(seed).normal(5, 2, 80)
        found = scored(own(mean), np.zeros(80), outputs, "").measurement
        held += found.low <= 5 <= found.high
    assert 88 <= held <= 99


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3)))
def test_bootstrap_interval_contains_its_value(outputs):
    found = scored(own(mae), np.zeros(len(outputs)), outputs, "").measurement
    assert found.low <= found.value <= found.high


def test_draws_for_which_the_metric_is_undefined_are_left_out():
    found = scored(own(needs_both), np.array([1] + [0] * 30), np.linspace(0, 1, 31), "")
    drawn = sum(x is not None for x in found.resamples)
    assert 100 <= drawn < 160  # 64 % of the draws hold the one item
    assert found.measurement.how.endswith(f"bootstrap of {drawn} resamples")
    assert found.measurement.flags == ()
    few = scored(own(never_again), np.zeros(5), np.arange(5.0), "").measurement
    assert few.flags == ("interval from few resamples",)
    assert few.low == few.value == few.high == 2


@pytest.mark.parametrize(
    ("function", "reason"),
    [(raising, "own's function raised RuntimeError: two lines"), (nan, "own is nan")],
)
def test_a_metric_that_gives_no_number_fails_the_candidate(function, reason):
    with pytest.raises(CandidateFailed) as caught:
        scored(own(function), np.zeros(4), np.zeros(4), "")
    assert (caught.value.stage, caught.value.reason) == ("accuracy", reason)


def divides(labels, outputs):
    if len(set(outputs.tolist())) < len(outputs):
        return 1 / 0
    return float(outputs.mean())


def test_a_draw_that_divides_by_zero_is_left_out_like_others():
    found = scored(own(divides), np.zeros(5), np.arange(5.0), "")
    assert found.measurement.value == 2
    assert "interval from few resamples" in found.measurement.flags


calls = []


def counting(labels, outputs):
    calls.append(len(outputs))
    return float(outputs.mean())


def test_a_slow_metric_is_called_for_groups_of_items(monkeypatch):
    """As often as there are groups, on all items together once more; its interval is as wide as the bootstrap's."""
    outputs = np.random.default_rng(1).normal(5, 2, 400)
    usual = scored(own(counting), np.zeros(400), outputs, "")
    assert len(calls) == 1 + quality.RESAMPLES
    calls.clear()
    monkeypatch.setattr(quality, "PATIENCE_S", 0.0)
    found = scored(own(counting), np.zeros(400), outputs, "")
    assert calls == [400] + [20] * 20
    assert found.protocol == "groups"
    assert found.measurement.how.endswith("resamples of 20 groups of items")
    assert found.measurement.value == usual.measurement.value
    half, expected = (m.high - m.low for m in (found.measurement, usual.measurement))
    assert half == pytest.approx(expected, rel=0.5)


def test_a_file_is_resampled_as_the_baseline_was(monkeypatch):
    """Else the two would not be compared on the same items."""
    outputs = np.random.default_rng(1).normal(5, 2, 100)
    split = Split(inputs={}, labels=np.zeros(100))
    found = quality.quality(own(mean), split, outputs, "", protocol="groups")
    again = quality.quality(own(mean), split, outputs + 1, "", protocol="groups")
    low, high = resampled_difference(0, 1, found.resamples, again.resamples)[1:]
    assert (low, high) == (pytest.approx(-1, abs=1e-5), pytest.approx(-1, abs=1e-5))


@pytest.mark.parametrize("error", [ZeroDivisionError, IndexError, KeyError, ValueError])
def test_a_metric_may_raise_whatever_it_likes_where_a_draw_does_not_define_it(error):
    labels = np.zeros(100)
    labels[:2] = 1

    def found(labels, outputs):
        if not labels.any():
            raise error("no positives")
        return float(labels.mean())

    measured = quality.resampled("precision", found, (labels, labels), "x").measurement
    assert measured.value == 0.02
    assert "bootstrap of 1" in measured.how


def test_resamples_that_are_all_the_same_are_no_certainty():
    labels = np.zeros(100)
    found = quality.resampled("f1", lambda labels, outputs: 1.0, (labels, labels), "x").measurement
    assert found.flags == ("interval unknown: all resamples give the same",)


# --- several labels an item


def test_pixels_of_an_item_hang_together():
    """Items that are right or wrong as a whole say no more than items of one pixel: the interval is as wide."""
    rng = np.random.default_rng(0)
    good = rng.random(100) < 0.7
    labels = rng.integers(0, 3, (100, 8, 8))
    outputs = np.eye(3)[np.where(good[:, None, None], labels, (labels + 1) % 3)]
    meaning = Meaning(kind=CLASSES, classes=3, positions=64)
    found = quality.score("accuracy", meaning, labels, outputs, "").measurement
    assert found.value == pytest.approx(good.mean())
    low, high = wilson(int(good.sum()), 100)
    assert found.high - found.low == pytest.approx(high - low, rel=0.25)
    assert found.n == 100


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("accuracy", Meaning(kind=LABELS, classes=3, positions=1)),
        ("f1_macro", Meaning(kind=LABELS, classes=3, positions=1)),
        ("auc", Meaning(kind=LABELS, classes=3, positions=1)),
        ("mean_iou", Meaning(kind=BINARY, classes=1, positions=3)),
        ("mae", Meaning(kind=VALUES, classes=3, positions=1)),
    ],
)
def test_two_files_are_compared_on_the_same_resamples(name, meaning):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 3))
    outputs = np.clip(labels * 0.4 + 0.3 + rng.normal(0, 0.3, labels.shape), 0, 1)
    one, other = (quality.score(name, meaning, labels, x, "") for x in (outputs, outputs))
    assert one.resamples == other.resamples
    assert len([x for x in one.resamples if x is not None]) == quality.RESAMPLES
    assert one.measurement.low < one.measurement.value < one.measurement.high
    assert one.predictions == ()


def test_an_auc_of_one_class_is_not_defined():
    with pytest.raises(CandidateFailed, match="auc is not defined here: there are items of one class only"):
        quality.score("auc", single(1), np.zeros(5), np.linspace(0, 1, 5), "")


def test_an_auc_of_many_outputs_is_resampled_by_groups(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (100, 10))
    outputs = labels + rng.normal(0, 1, labels.shape)
    meaning = Meaning(kind=BINARY, classes=1, positions=10)
    usual = quality.score("auc", meaning, labels, outputs, "").measurement
    monkeypatch.setattr(quality, "SORTED_MOST", 100)
    found = quality.score("auc", meaning, labels, outputs, "").measurement
    assert found.value == usual.value
    assert found.high - found.low == pytest.approx(usual.high - usual.low, rel=0.5)
