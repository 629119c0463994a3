"""The baseline's quality by Keras and by its file: the same, or the study stops."""

import numpy as np
import pytest
import tiny

from autoopt.errors import CandidateFailed
from autoopt.models import crosscheck
from autoopt.models.labels import VALUES, Meaning
from autoopt.models.task import Split

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 100)
OUTPUTS = RNG.dirichlet(np.ones(4), 100).astype(np.float32)


def told(name, meaning, direction="max", unit="fraction"):
    metric = {"name": name, "direction": direction, "unit": unit, "function": None, "meaning": meaning.to_dict()}
    return tiny.manifest(metric=metric)


def test_rounding_is_no_difference():
    noisy = OUTPUTS + RNG.normal(0, 1e-7, OUTPUTS.shape).astype(np.float32)
    found = crosscheck.compare(tiny.manifest(), Split(inputs={}, labels=LABELS), OUTPUTS, noisy)
    assert found["keras"] == pytest.approx(found["file"])
    assert found["file"] == pytest.approx((OUTPUTS.argmax(axis=1) == LABELS).mean())


def test_a_file_that_computes_something_else_is_told_so():
    with pytest.raises(CandidateFailed) as caught:
        crosscheck.compare(tiny.manifest(), Split(inputs={}, labels=LABELS), np.eye(4)[LABELS], OUTPUTS)
    assert caught.value.stage == "crosscheck"
    assert caught.value.reason.startswith(
        "Keras says accuracy 100.00 % of the untouched model, and its float32 file has "
    )
    assert "the conversion changed what the model computes" in caught.value.reason


def test_labels_that_are_read_otherwise_are_told_so(monkeypatch):
    """Keras's own metric stands beside autoopt's: what only one of them gets wrong is seen."""
    monkeypatch.setattr(crosscheck, "keras_value", lambda *given: 0.9)
    with pytest.raises(CandidateFailed, match="outputs are the same, so the labels are read otherwise"):
        crosscheck.compare(tiny.manifest(), Split(inputs={}, labels=LABELS), OUTPUTS, OUTPUTS)


@pytest.mark.parametrize(("off", "same"), [(0.0005, True), (0.05, False)])
def test_errors_may_differ_by_a_share_of_them(off, same):
    labels = RNG.normal(0, 1, (60, 1))
    manifest = told("mae", Meaning(kind=VALUES, classes=1, positions=1), "min", "")
    split = Split(inputs={}, labels=labels)
    by_keras, by_file = labels + 1, labels + 1 + off
    if same:
        assert crosscheck.compare(manifest, split, by_keras, by_file) == pytest.approx({"keras": 1.0, "file": 1.0005})
    else:
        with pytest.raises(CandidateFailed, match=r"Keras says mae 1 of the untouched model, .* has 1\.05"):
            crosscheck.compare(manifest, split, by_keras, by_file)


def test_a_number_that_is_none_differs():
    manifest = told("mae", Meaning(kind=VALUES, classes=1, positions=1), "min", "")
    outputs = np.full((4, 1), np.nan)
    with pytest.raises(CandidateFailed):
        crosscheck.compare(manifest, Split(inputs={}, labels=np.zeros(4)), outputs, outputs)
