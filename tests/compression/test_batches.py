"""Batches of a split: every item once an epoch, in the same order wherever the arrays lie."""

import dataclasses

import numpy as np
import pytest
import stores
import tensorflow as tf
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.compression import batches as module
from autoopt.compression import distillation, goals
from autoopt.compression.batches import Rows, batches
from autoopt.compression.goals import Lessons
from autoopt.execution import split_store
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Output, Split


def epochs_of(split, *, size=8, epochs=range(2), targets=None, weights=None):
    return list(batches(split, size, epochs, 3, split.labels if targets is None else targets, weights))


@settings(max_examples=15, deadline=None)
@given(items=st.integers(1, 40), size=st.integers(1, 50))
def test_each_epoch_has_every_item_once(items, size):
    x = np.arange(items, dtype=np.float32)[:, None]
    found = epochs_of(Split(inputs={"x": x}, labels=np.arange(items)), size=size)
    steps = -(-items // size)
    assert len(found) == 2 * steps
    for first in (0, steps):
        seen = np.concatenate([labels for _, labels in found[first : first + steps]])
        np.testing.assert_array_equal(np.sort(seen), np.arange(items))
    for inputs, labels in found:
        np.testing.assert_array_equal(inputs[:, 0], labels)


@pytest.mark.parametrize("limit", [0, 200, 10**9], ids=["all from files", "some from files", "all in memory"])
def test_arrays_in_files_give_the_same_batches(limit, monkeypatch, tmp_path):
    split = Split(
        inputs={"a": tiny.images(40, 0)[0], "b": np.arange(40, dtype=np.uint8)[:, None]}, labels=np.arange(40)
    )
    weights = np.linspace(0, 1, 40, dtype=np.float32)
    expected = epochs_of(split, weights=weights)
    store = Store(tmp_path)
    kept = split_store.get(store, stores.put(store, split))
    monkeypatch.setattr(module, "IN_MEMORY", limit)
    found = epochs_of(kept, weights=weights)
    assert len(found) == len(expected) == 10
    for ((a, b), labels, some), ((c, d), others, more) in zip(found, expected, strict=True):
        for one, other in ((a, c), (b, d), (labels, others), (some, more)):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            np.testing.assert_array_equal(one, other)


def test_going_on_at_an_epoch_gives_what_would_have_come():
    split = tiny.split(20, 1)
    whole = epochs_of(split, epochs=range(3))
    later = epochs_of(split, epochs=range(1, 3))
    for (a, b), (c, d) in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_labels_and_answers_in_files_give_the_same_targets(monkeypatch):
    """Side by side where a model is distilled, and apart where it has several outputs."""
    split, taught = tiny.split(20, 1), np.random.default_rng(0).random((20, 4)).astype(np.float32)
    several = Split(inputs=split.inputs, labels=np.arange(100.0, dtype=np.float32).reshape(20, 5))
    ends = (Output(name="a", shape=(2, 2), labels=(2, 2)), Output(name="b", shape=(1,), labels=(1,)))
    manifest = dataclasses.replace(tiny.manifest({"outputs": {"a": "mse", "b": "mse"}}), outputs=ends)

    def targets():
        loss = "sparse_categorical_crossentropy"
        yield distillation.goal(loss, split.labels, taught, {"distillation": 0.5})[1]
        yield goals.of("prune", manifest, several, Lessons(), {}, None, None).targets

    expected = [epochs_of(split, targets=each) for each in targets()]
    for place in (module, distillation, goals):
        monkeypatch.setattr(place, "IN_MEMORY", 0)
    for each, wanted in zip(targets(), expected, strict=True):
        assert all(isinstance(one, Rows) for one in (each if isinstance(each, tuple) else [each]))
        for (_, found), (_, known) in zip(epochs_of(split, targets=each), wanted, strict=True):
            for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(known), strict=True):
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
                np.testing.assert_array_equal(one, other)
