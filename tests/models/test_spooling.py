"""Streams that are read into array files: whole, once, and compared with what a study has already."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.models import spooling, user_data
from autoopt.models.spooling import Spool
from autoopt.models.task import Split, side_by_side

X, Y = tiny.images(100, 0)


@pytest.fixture(scope="module")
def model():
    return tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(4))


@pytest.fixture
def read(model, tmp_path):
    """Reads a stream; what was written is in `files`."""

    def call(given, before=None, model=model, **more):
        folder = tmp_path / f"place {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        spool = Spool(folder=folder, before=before, **more)
        inputs, labels, weights = user_data.read(given, "task.py: train", model, spool)
        return Split(inputs=inputs, labels=side_by_side(labels)), weights, sorted(p.name for p in folder.iterdir())

    return call


def batches(x=X, y=Y, size=16):
    """A function that yields an array's batches."""
    return lambda: ((x[i : i + size], y[i : i + size]) for i in range(0, len(x), size))


def test_a_stream_becomes_files_with_dtypes_as_given(read):
    for dtype in ("uint8", "float16", "float64", "int32", "bool"):
        split, weights, files = read(batches(X.astype(dtype), Y.astype("uint8")))
        assert files == ["input_0.npy", "labels_0.npy"]
        assert weights is None
        assert split.digest == Split(inputs={tiny.INPUT: X.astype(dtype)}, labels=Y.astype("uint8")).digest


@settings(max_examples=30)
@given(items=st.integers(1, 60), size=st.integers(1, 60), had=st.integers(0, 70), wrong=st.integers(0, 69))
def test_what_a_study_had_before_never_changes_what_is_read(items, size, had, wrong, model, tmp_path_factory):
    before = X[:had].copy()
    if wrong < had:
        before[wrong] += 1
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder=folder, before=Split(inputs={tiny.INPUT: before}, labels=Y[:had]))
    inputs, labels, _ = user_data.read(batches(X[:items], Y[:items], size), "train", model, spool)
    np.testing.assert_array_equal(inputs[tiny.INPUT], X[:items])
    np.testing.assert_array_equal(labels[0], Y[:items])
    written = list(folder.iterdir())
    equal = had == items and wrong >= had
    assert bool(written) == (not equal), "an equal stream is not written again"


def test_weights_come_in_their_own_structure(read):
    def weighted():
        for i in range(0, 100, 30):
            yield X[i : i + 30], Y[i : i + 30], np.arange(i, min(i + 30, 100))

    split, weights, _ = read(weighted)
    np.testing.assert_array_equal(weights, np.arange(100))
    again, weights, files = read(weighted, before=split)
    np.testing.assert_array_equal(weights, np.arange(100))
    assert files == []
    assert again.digest == split.digest


def test_several_inputs_and_outputs_are_known_again(read):
    first, second = tf_keras.Input((3,), name="first"), tf_keras.Input((2,), name="second")
    both = tf_keras.layers.Concatenate()([first, second])
    ends = [tf_keras.layers.Dense(2, name="left")(both), tf_keras.layers.Dense(1, name="right")(both)]
    model = tf_keras.Model([first, second], ends)
    rng = np.random.default_rng(0)
    a, b = rng.random((50, 3), np.float32), rng.random((50, 2), np.float32)
    left, right = rng.integers(0, 2, 50), rng.random((50, 1), np.float32)

    def named():
        for i in range(50):
            yield {"second": b[i], "first": a[i]}, {"left": left[i], "right": right[i]}

    def in_order():
        for i in range(0, 50, 20):
            yield [a[i : i + 20], b[i : i + 20]], [left[i : i + 20], right[i : i + 20]]

    split, _, files = read(named, model=model)
    assert read(in_order, model=model)[0].digest == split.digest
    assert files == ["input_0.npy", "input_1.npy", "labels_0.npy", "labels_1.npy"]
    np.testing.assert_array_equal(split.inputs["first"], a)
    np.testing.assert_array_equal(split.labels, np.column_stack([left, right]))
    again, _, files = read(named, before=split, model=model)
    assert files == []
    assert again.digest == split.digest
    left = 1 - left
    changed, _, files = read(named, before=split, model=model)
    assert len(files) == 4
    np.testing.assert_array_equal(changed.labels, np.column_stack([left, right]))


def test_each_batch_is_asked_for_once_but_for_the_head(read):
    asked = collections.Counter()

    class Counted(tf_keras.utils.Sequence):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            asked[i] += 1
            return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    read(Counted())
    assert set(asked) == set(range(10))
    assert [asked[i] for i in range(10)] == [2] * 7 + [1] * 3, "64 items are looked at again"


def forever():
    while True:
        yield from zip(X, Y, strict=True)


def forever_in_batches():
    while True:
        yield from batches()()


def changing_dtype():
    yield X[:10], Y[:10]
    yield X[10:20].astype(np.float64), Y[10:20]


def changing_shape():
    yield X[:10], np.eye(4)[Y[:10]]
    yield X[10:20], Y[10:20]


def shuffled():
    order = np.random.default_rng().permutation(100)
    yield X[order], Y[order]


def noisy():
    yield X + np.random.default_rng().normal(size=X.shape).astype(np.float32), Y


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: iter(()), "empty; expected one item or more"),
        (lambda: iter([(X[:0], Y[:0])]), "empty; expected one item or more"),
        (forever, r"the forever\(\) begins again after 100 items: does it never end\?"),
        (forever_in_batches, r"begins again after 100 items: does it never end\?"),
        (changing_dtype, r"items differ in dtype: float64 at item 10, float32 before; convert them"),
        (changing_shape, r"items differ in shape; pad or resize them"),
        (shuffled, r"the second pass gave other items: leave out shuffle\(\)"),
        (noisy, r"the second pass gave other items"),
        (tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(100), r"the second pass gave other items"),
        (lambda: iter([(X[:10], Y[:9])]), r"as many labels as inputs in a batch, got arrays of shapes \(10, 8, 8, 1\), \(9,\)"),
        (lambda: iter([(X[:10, :4], Y[:10])]), r"input image: expected shape \(items, 8, 8, 1\), got \(10, 4, 8, 1\)"),
        (lambda: iter([({"other": X}, Y)]), r"expected inputs named image, got 'other'"),
    ],
    ids=["nothing", "no items", "endless", "endless batches", "dtype", "shape", "shuffled", "noisy", "shuffled dataset",
         "too few labels", "size", "names"],
)  # fmt: skip
def test_bad_streams_are_refused(given, message, read):
    with pytest.raises(ConfigError, match=f"task.py: train.*{message}"):
        read(given)


def test_equal_items_are_no_sign_of_a_stream_that_never_ends(read):
    """Neither a constant set nor one with many doubles goes round."""
    assert len(read(lambda: iter([(X[:1], Y[:1])] * 200))[0]) == 200
    doubled = np.repeat(X, 2, axis=0)
    assert len(read(batches(doubled, np.repeat(Y, 2)))[0]) == 200


def test_a_disk_that_is_too_small_is_told_before_it_is_full(read, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(spooling.shutil, "disk_usage", lambda _: usage(0, 0, spooling.SPARE_BYTES + 20_000))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10)
    with pytest.raises(TargetUnavailable, match=r"task.py: train needs 0 MB more, and 0 MB are free; free space"):
        read(data)
    assert len(read(batches(X[:50], Y[:50], 10))[0]) == 50
    monkeypatch.setattr(spooling.shutil, "disk_usage", lambda _: usage(0, 0, spooling.SPARE_BYTES))
    with pytest.raises(TargetUnavailable, match=r"needs more, .* are free after 0 items; does it never end\?"):
        read(batches())


def test_how_far_it_is_is_told(read, monkeypatch):
    monkeypatch.setattr(spooling, "TOLD_S", 0.0)
    told = []
    read(tf.data.Dataset.from_tensor_slices((X, Y)).batch(50), progress=told.append)
    assert told == ["reading 50 items, 0 MB (50%)", "reading 100 items, 0 MB (100%)"]
