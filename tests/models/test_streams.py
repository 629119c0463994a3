"""What counts as a stream of data, and what its batches are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.errors import ConfigError
from autoopt.models import streams

X, Y = tiny.images(40, 0)


@pytest.fixture(scope="module")
def model():
    return tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(4))


class Sequence(tf_keras.utils.Sequence):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[i * 16 : i * 16 + 16], Y[i * 16 : i * 16 + 16]


class PyDataset(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[i * 16 : i * 16 + 16], Y[i * 16 : i * 16 + 16]


def in_batches():
    for first in range(0, 40, 16):
        yield X[first : first + 16], Y[first : first + 16]


def one_by_one():
    yield from zip(X, Y, strict=True)


def in_tensors():
    for first in range(0, 40, 16):
        yield tf.constant(X[first : first + 16]), tf.constant(Y[first : first + 16])


def in_lists():
    for x, y in zip(X, Y, strict=True):
        yield x.tolist(), int(y)


def in_lists_of_arrays():
    for first in range(0, 40, 16):
        yield list(X[first : first + 16]), list(Y[first : first + 16])


def in_lists_with_a_last_one():
    for first in range(0, 39, 13):
        yield list(X[first : first + 13]), list(Y[first : first + 13])
    yield [X[39]], [Y[39]]


def as_fit_takes_it():
    for first in range(0, 40, 16):
        yield [X[first : first + 16]], [Y[first : first + 16]]


def in_one_place():
    x, y = np.empty_like(X[0]), np.empty_like(Y[0])
    for first, label in zip(X, Y, strict=True):
        x[:], y[...] = first, label
        yield x, y


@pytest.mark.parametrize(
    "given",
    [
        Sequence(),
        in_one_place,
        in_lists_of_arrays,
        in_lists_with_a_last_one,
        as_fit_takes_it,
        tf.data.Dataset.from_tensor_slices(((X,), Y)).batch(16),
        PyDataset(),
        in_batches,
        one_by_one,
        in_tensors,
        in_lists,
        lambda: Sequence(),
        lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(7),
        lambda: iter([(X, Y)]),
        tf.data.Dataset.from_tensor_slices((X, Y)),
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(8, drop_remainder=True),
        tf.data.Dataset.from_tensors((X, Y)),
    ],
    ids=["Sequence", "the same array each time", "lists of arrays", "lists, a last one", "as fit takes it",
         "a tuple of one", "PyDataset", "batches", "items", "tensors", "lists", "makes a Sequence", "makes a dataset",
         "makes an iterator", "dataset", "batched", "whole batches", "one batch"],
)  # fmt: skip
def test_streams_give_their_items_as_often_as_they_are_asked(given, model):
    stream = streams.opened(given, "task.py: train")
    for _ in range(2):
        batches = [batch for _, batch in streams.batches(stream, "task.py: train", model)]
        np.testing.assert_allclose(np.concatenate([x for x, _ in batches]), X, rtol=1e-7)
        np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), Y)


@pytest.mark.parametrize("given", [(X, Y), [X, Y], np.zeros(3), None, {"a": X}, 3.0, "path"])
def test_what_is_no_stream_stays_as_it_is(given):
    assert streams.opened(given, "train") is given


def test_a_function_may_give_arrays():
    assert streams.opened(lambda: (X, Y), "train")[0] is X


def test_how_many_elements_there_are_is_known_where_it_can_be(model):
    counts = [
        (tf.data.Dataset.from_tensor_slices((X, Y)), 40),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(16), 3),
        (Sequence(), 3),
        (in_batches, None),
    ]
    for given, known in counts:
        stream = streams.opened(given, "train")
        assert stream.known == known
        assert known is None or sum(n for n, _ in streams.batches(stream, "train", model)) == known


def test_weights_may_be_none(model):
    for given in (lambda: ((x, y, None) for x, y in zip(X, Y, strict=True)), lambda: iter([(X, Y, None)])):
        [(_, (inputs, labels, weights))] = streams.batches(streams.opened(given, "train"), "train", model)
        assert (len(inputs), len(labels), weights) == (40, 40, None)


def test_items_of_a_length_that_is_left_open_are_no_batches():
    model = tiny.network(tf_keras.layers.Flatten(), tf_keras.layers.Dense(4), shape=(6, 5))
    x, y = np.zeros((20, 6, 5), np.float32), np.zeros(20, np.int64)
    open_length = tf.TensorSpec((None, 5), tf.float32), tf.TensorSpec((), tf.int64)
    data = tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=open_length)
    [(elements, (inputs, labels))] = streams.batches(streams.opened(data, "train"), "train", model)
    assert (elements, inputs.shape, labels.shape) == (20, (20, 6, 5), (20,))


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, i):
        return X, Y


class Silent(tf_keras.utils.Sequence):
    def __len__(self):
        raise RuntimeError("who\nknows")

    def __getitem__(self, i):
        return X, Y


def raising():
    yield X[:3], Y[:3]
    raise OSError("the disk\nis gone")


def bad_from_the_start():
    raise ValueError("no data here")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (one_by_one(), r"train: a generator can be read only once; give the function that makes it, without \(\)"),
        (iter(tf.data.Dataset.from_tensor_slices((X, Y))), r"train: a OwnedIterator can be read only once"),
        (iter([(X, Y)]), r"train: a list_iterator can be read only once"),
        (tf.data.Dataset.from_tensors((X, Y)).repeat(), "train: the dataset never ends"),
        (Endless(), "train: the Endless never ends"),
        (Silent(), "train: the Silent can't say its length: who knows"),
        (bad_from_the_start, r"train: bad_from_the_start\(\) raised ValueError: no data here"),
        (lambda: lambda: 3, r"train: expected data from <lambda>\(\), got 'function'"),
        (raising, r"train: the raising\(\) raised OSError after 1 elements: the disk is gone"),
        (lambda: iter([X]), r"train: expected a <lambda>\(\) of pairs \(inputs, labels\), .*got 'ndarray'"),
        (lambda: iter([(X, Y, Y, Y)]), r"of pairs .* got '4 parts'"),
        (lambda: iter([([[1, 2], [3]], 0)]), r"items differ in shape; pad or resize them"),
        (lambda: iter([(X[0], 0), (X[1, :4], 1)]), r"train: the <lambda>\(\)'s items differ in shape; pad or resize them"),
        (
            tf.data.Dataset.from_tensor_slices((X, Y)).map(lambda x, y: (tf.debugging.check_numerics(x / 0.0, "odd"), y)),
            r"train: the dataset raised InvalidArgumentError after 0 elements",
        ),
    ],
    ids=["generator", "a dataset's iterator", "iterator", "endless dataset", "endless PyDataset", "no length", "raises", "makes a function",
         "raises later", "no pairs", "too many", "ragged", "shapes differ", "TensorFlow raises"],
)  # fmt: skip
def test_bad_streams_are_told_in_one_line(given, message, model):
    with pytest.raises(ConfigError, match=message) as told:
        for _ in streams.batches(streams.opened(given, "train"), "train", model):
            pass
    assert "\n" not in str(told.value)
