"""Outputs in parts: cut anew, put together in memory or in a file, and counted as if they were whole."""

import gc
import tempfile

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.models import answers, quality
from autoopt.models.answers import Parts, cut, peeked, shaped, whole
from autoopt.models.labels import BINARY, CLASSES, VALUES, Meaning
from autoopt.models.scoring import BUILTIN, Score
from autoopt.models.task import Split, apart

CASES = [(name, kind) for name, known in BUILTIN.items() for kind in known.kinds]


def parted(array, sizes):
    """Parts of an array of these sizes, and the rest, that can be read again and again."""
    return Parts(lambda: iter(np.split(array, np.cumsum(sizes)[np.cumsum(sizes) < len(array)])))


@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1), st.integers(1, 50))
def test_they_are_cut_into_parts_of_any_size(items, sizes, step):
    array = np.arange(2 * items).reshape(items, 2)
    found = list(cut(parted(array, sizes), step))
    assert [len(part) for part in found[:-1]] == [step] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate(found), array)
    np.testing.assert_array_equal(np.concatenate(list(cut(array, step))), array)


def test_a_look_at_the_first_computes_nothing_twice():
    begun = []

    def parts():
        begun.append(1)
        yield from np.arange(6).reshape(3, 2)

    first, again = peeked(Parts(parts))
    assert first.tolist() == [0, 1]
    assert [part.tolist() for part in again] == [[0, 1], [2, 3], [4, 5]]
    assert len(begun) == 1


def test_what_is_large_is_mapped_from_a_file_that_goes_with_the_array(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = np.random.default_rng(0).random((50, 3, 2))
    assert not isinstance(whole(parted(array, [20, 7])), np.memmap)
    monkeypatch.setattr(answers, "CHUNK_BYTES", 500)
    found = whole(parted(array, [20, 7]))
    assert isinstance(found, np.memmap)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(found, array)
    turned = shaped(np.concatenate([array.reshape(50, 6)] * 2, axis=1)[:, 3:9], (3, 2))
    np.testing.assert_array_equal(turned, np.roll(array.reshape(50, 6), 3, axis=1).reshape(50, 3, 2))
    del found, turned
    gc.collect()


def test_labels_of_several_outputs_come_apart_in_files_as_in_memory(monkeypatch):
    rng = np.random.default_rng(0)
    one, other = rng.random((40, 4, 4)), rng.random((40, 2))
    together = np.concatenate([one.reshape(40, -1), other], axis=1)
    monkeypatch.setattr(answers, "CHUNK_BYTES", 100)
    first, second = apart(together, [(4, 4), (2,)])
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(second, other)


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=10, deadline=None)
@given(
    st.integers(3, 20), st.lists(st.integers(1, 6), min_size=1), st.integers(1, 40), st.booleans(), st.integers(0, 99)
)
def test_a_metric_of_parts_is_that_of_all(name, kind, items, sizes, counted, masked, seed):
    """However the outputs come, and however few of them are counted at a time."""
    rng, classes, positions = np.random.default_rng(seed), 1 if kind == BINARY else 3, 4
    shape = (items, positions, classes)
    labels = rng.integers(0, 3, shape[:2]) if kind == CLASSES else rng.integers(0, 2, shape)
    outputs = rng.random(shape).astype(np.float32)
    labels = rng.random(shape) if kind == VALUES else labels
    mask = rng.random(shape[:2]) < 0.7 if masked else None
    if mask is not None:
        mask[:, 0] = True
    meaning = Meaning(kind=kind, classes=classes, positions=positions)
    with pytest.MonkeyPatch.context() as patch:
        expected = Score(name, meaning, labels, outputs, mask)
        patch.setattr(answers, "COUNTED", counted)
        patch.setattr(answers, "CHUNK_BYTES", 200)
        found = Score(name, meaning, labels, parted(outputs, sizes), mask)
        assert found.classes() == expected.classes()
        for chosen in (np.arange(items), rng.integers(0, items, items)):
            assert found.resampled(chosen) == expected.resampled(chosen)


def middle(labels, outputs, inputs):
    return float(np.median(outputs) + labels.mean() + inputs["x"].mean())


def test_a_metric_of_ones_own_gets_the_same_numbers_from_a_file(monkeypatch):
    rng = np.random.default_rng(0)
    split = Split(inputs={"x": rng.random((60, 5))}, labels=rng.random((60, 3)))
    outputs = rng.random((60, 3)).astype(np.float32)
    function = {"module": __name__, "name": "middle"}
    told = {"name": "middle", "direction": "max", "unit": "", "function": function, "inputs": True}
    manifest = tiny.manifest("mse", told)
    expected = quality.quality(manifest, split, outputs, "", "groups")
    monkeypatch.setattr(answers, "CHUNK_BYTES", 100)
    monkeypatch.setattr(quality, "CHUNK_BYTES", 100)
    monkeypatch.setattr(quality, "IN_MEMORY", 1000)
    found = quality.quality(manifest, split, parted(outputs, [7, 20]), "")
    assert found == expected
    assert found.protocol == "groups"
