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
from autoopt.models import answers, spooling, user_data
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


@pytest.mark.parametrize("limit", [1 << 26, 100])
def test_weights_of_batches_are_joined_whatever_numbers_they_are(limit, read, monkeypatch):
    """In memory, and in a file where they are many: whole numbers first cut no fraction off."""
    monkeypatch.setattr(answers, "CHUNK_BYTES", limit)
    whole = np.arange(100) / 2

    def weighted():
        for i in range(0, 100, 20):
            given = whole[i : i + 20]
            yield X[i : i + 20], Y[i : i + 20], (given * 2).astype(int) if i == 0 else given

    wanted = np.where(np.arange(100) < 20, 2 * whole, whole)
    np.testing.assert_array_equal(read(weighted)[1], wanted)


def test_weights_that_are_no_numbers_or_change_shape_are_named(read):
    def wrong(second):
        return lambda: iter([(X[:10], Y[:10], np.ones(10)), (X[10:20], Y[10:20], second)])

    with pytest.raises(ConfigError, match="train: weights: expected numbers, got None for item 13"):
        read(wrong([1.0, 1.0, 1.0, None, *[1.0] * 6]))
    with pytest.raises(ConfigError, match=r"train: weights: the .* items differ in shape"):
        read(wrong(np.ones((10, 8))))


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


@pytest.mark.parametrize(("whole_s", "twice"), [(0.0, 7), (1e9, 10)], ids=["the head", "all of a quick one"])
def test_each_batch_is_asked_for_once_but_for_what_is_looked_at_again(whole_s, twice, read, monkeypatch):
    monkeypatch.setattr(spooling, "WHOLE_S", whole_s)
    asked = collections.Counter()

    class Counted(tf_keras.utils.Sequence):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            asked[i] += 1
            return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    read(Counted())
    assert set(asked) == set(range(10))
    assert [asked[i] for i in range(10)] == [2] * twice + [1] * (10 - twice), "64 items are looked at again at least"


def forever():
    while True:
        yield from zip(X, Y, strict=True)


def forever_in_batches():
    while True:
        yield from batches()()


def forever_shorter():
    while True:
        yield X[:40], Y[:40]


ONE = iter([(X, Y)])
FEWER, MORE = iter([100, 70]), iter([70, 100])


def once():
    yield from ONE


def shorter():
    last = next(FEWER)
    yield X[:last], Y[:last]


def longer():
    last = next(MORE)
    yield X[:last], Y[:last]


def late():
    order = np.r_[:90, 90 + np.random.default_rng().permutation(10)]
    yield X[order], Y[order]


def misaligned():
    for i in range(10):
        yield X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10], np.full(5 + 10 * (i % 2), float(i))


def forever_shuffled():
    while True:
        for i in np.random.default_rng().permutation(40):
            yield X[i], Y[i]


def one_is_wider():
    for i in range(100):
        yield X[i].astype(np.float64 if i == 50 else np.float32), Y[i]


def names_change():
    yield {"image": X[:10]}, Y[:10]
    yield X[10:], Y[10:]


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
        (forever, r"the forever\(\) begins again and again after 100 items: does it never end\?"),
        (forever_in_batches, r"begins again and again after 100 items: does it never end\?"),
        (forever_shorter, r"begins again and again after 40 items: does it never end\?"),
        (forever_shuffled, r"gave only 40 different items among 8,\d+: does it never end\?"),
        (one_is_wider, r"items differ in dtype"),
        (once, r"the second pass gave 0 items, and the first 100"),
        (shorter, r"the second pass gave 70 items, and the first 100: it must give the same each time"),
        (longer, r"the second pass gave other items"),
        (late, r"the second pass gave other items"),
        (misaligned, r"weights: expected 10 in a batch of 10 items, one an item, got shape \(5,\)"),
        (lambda: iter([(X[:10], Y[:10], 1.0)]), r"weights: expected 10 in a batch of 10 items, one an item, got shape \(\)"),
        (lambda: iter([(X[:10], Y[:10], np.ones(10)), (X[10:], Y[10:])]), r"element 1 has other parts or names than those before"),
        (names_change, r"element 1 has other parts or names than those before"),
        (lambda: iter([(X, np.ma.masked_equal(Y, 1))]), r"some values are masked; leave these items out, or fill them"),
        (tf.data.Dataset.from_tensor_slices((X, np.array(list("abcd"))[Y])).batch(8), r"labels: expected numbers.*; number the names"),
        (changing_dtype, r"items differ in dtype: float64 at item 10, float32 before; convert them"),
        (changing_shape, r"items differ in shape; pad or resize them"),
        (shuffled, r"the second pass gave other items: leave out shuffle\(\)"),
        (noisy, r"the second pass gave other items"),
        (tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(100), r"the second pass gave other items"),
        (lambda: iter([(X[:10], Y[:9])]), r"as many labels as inputs in a batch, got arrays of shapes \(10, 8, 8, 1\), \(9,\)"),
        (lambda: iter([(X[:10, :4], Y[:10])]), r"input image: expected shape \(items, 8, 8, 1\), got \(10, 4, 8, 1\)"),
        (lambda: iter([({"other": X}, Y)]), r"expected inputs named image, got 'other'"),
    ],
    ids=["nothing", "no items", "endless", "endless batches", "endless, short", "endless, shuffled", "one is wider", "only once", "shorter", "longer", "shuffled late",
         "weights misaligned", "weight a batch", "weights at first", "names change", "masked", "text", "dtype", "shape", "shuffled", "noisy", "shuffled dataset",
         "too few labels", "size", "names"],
)  # fmt: skip
def test_bad_streams_are_refused(given, message, read, monkeypatch):
    monkeypatch.setattr(spooling, "DOUBLES", 200)
    with pytest.raises(ConfigError, match=f"task.py: train.*{message}"):
        read(given)


def test_equal_items_are_no_sign_of_a_stream_that_never_ends(read):
    """Neither a constant set nor one with many doubles goes round."""
    assert len(read(lambda: iter([(X[:1], Y[:1])] * 200))[0]) == 200
    doubled = np.repeat(X, 2, axis=0)
    assert len(read(batches(doubled, np.repeat(Y, 2)))[0]) == 200


@pytest.mark.parametrize("times", [2, 20])
def test_a_set_may_come_more_than_once(times, read):
    """As who oversamples has it."""
    assert len(read(lambda: (batch for _ in range(times) for batch in batches()()))[0]) == 100 * times


def test_a_large_set_goes_round_three_times_at_most(read, monkeypatch):
    monkeypatch.setattr(spooling, "FEW_BYTES", 1000)
    with pytest.raises(ConfigError, match="again and again after 100 items"):
        read(forever_in_batches)
    assert len(read(lambda: (batch for _ in range(3) for batch in batches()()))[0]) == 300


def test_a_disk_that_is_too_small_is_told_before_it_is_full(read, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(spooling.shutil, "disk_usage", lambda _: usage(0, 0, spooling.SPARE_BYTES + 20_000))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10)
    with pytest.raises(
        TargetUnavailable, match=r"task.py: train: needs 0 MB more, and 0 MB are free in .*; free space"
    ):
        read(data)
    assert len(read(batches(X[:50], Y[:50], 10))[0]) == 50
    monkeypatch.setattr(spooling.shutil, "disk_usage", lambda _: usage(0, 0, spooling.SPARE_BYTES))
    with pytest.raises(TargetUnavailable, match=r"needs more, .* are free in .*; free space"):
        read(batches())


def test_how_far_it_is_is_told(read, monkeypatch):
    monkeypatch.setattr(spooling, "TOLD_S", 0.0)
    told = []
    read(tf.data.Dataset.from_tensor_slices((X, Y)).batch(50), progress=told.append)
    assert told == ["reading 50 items, 0 MB (50%)", "reading 100 items, 0 MB (100%)"]
