"""An augmentation that is known by name is refused where it would make data wrong, and what may be wrong is said."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt import Task
from autoopt.errors import ConfigError
from autoopt.execution import input_readers, task_checks
from autoopt.execution.artifact_store import Store

layers = tf_keras.layers
ITEMS = 40
RNG = np.random.default_rng(0)
IMAGES = RNG.random((ITEMS, 8, 8, 1)).astype(np.float32)
IDS = RNG.integers(1, 50, (ITEMS, 10))
STEPS = RNG.random((ITEMS, 12, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, ITEMS)
MOVES = ("flip", "shift", "crop")


def softmax(number=3):
    return layers.Dense(number, activation="softmax")


class Tokens(layers.Layer):
    """Looks tokens up, where no layer of the model's graph shows it."""

    def __init__(self, **more):
        super().__init__(**more)
        self.table = layers.Embedding(50, 4)

    def call(self, inputs):
        return self.table(inputs)


class Places(layers.Layer):
    """Adds something for each place, out of a table of places."""

    def __init__(self, **more):
        super().__init__(**more)
        self.table = layers.Embedding(12, 5)

    def call(self, inputs):
        return inputs + self.table(tf.range(12))


def take(folder, model, x, y, augment, **more):
    folder.mkdir(exist_ok=True)
    path = folder / "task.py"
    path.write_text("")
    data = {name: (x[i:], y[i:]) for i, name in enumerate(("train", "validation", "test"))}
    return task_checks.prepare(Task(model=model, **data, augment=augment, **more), path, Store(folder / "store"))


def expect_refused(folder, model, x, y, augment, message, **more):
    with pytest.raises(ConfigError, match=message) as caught:
        take(folder, model, x, y, augment, **more)
    assert "\n" not in str(caught.value)


def flat(*stack):
    return tiny.network(layers.Conv2D(4, 3, padding="same"), *stack)


MAP = RNG.integers(0, 3, (ITEMS, 8, 8))


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize(
    ("stack", "labels", "loss"),
    [
        ((softmax(), layers.Reshape((64, 3))), MAP.reshape(ITEMS, 64), None),
        ((softmax(), layers.Reshape((64, 3))), MAP.reshape(ITEMS, 64, 1), None),
        ((softmax(), layers.Reshape((64, 3))), np.eye(3, dtype=np.float32)[MAP.reshape(ITEMS, 64)], None),
        ((layers.Dense(1, activation="sigmoid"), layers.Flatten()), (MAP > 0).reshape(ITEMS, 64).astype(int), None),
        ((layers.Flatten(), layers.Dense(64)), IMAGES.reshape(ITEMS, 64), None),
        (
            (layers.MaxPooling2D(2), layers.Dense(1), layers.Flatten(), layers.Activation("sigmoid")),
            (MAP[:, ::2, ::2] > 0).reshape(ITEMS, 16).astype(int),
            "binary_crossentropy",
        ),
        ((layers.MaxPooling2D(2), softmax()), MAP[:, ::2, ::2], None),
    ],
)
def test_labels_of_several_places_that_are_no_map_of_the_image_can_not_follow(tmp_path, name, stack, labels, loss):
    expect_refused(tmp_path / "a", flat(*stack), IMAGES, labels, name, f"augment: {name}: .*can't follow; ", loss=loss)


@pytest.mark.parametrize(
    ("stack", "labels"),
    [
        ((softmax(),), MAP),
        ((layers.Flatten(), softmax(64)), np.eye(64, dtype=np.float32)[RNG.integers(0, 64, ITEMS)]),
        ((layers.GlobalAveragePooling2D(), layers.Dense(5, activation="sigmoid")), RNG.integers(0, 2, (ITEMS, 5))),
        ((layers.GlobalAveragePooling2D(keepdims=True), softmax()), CLASSES.reshape(ITEMS, 1, 1)),
    ],
)
def test_labels_that_are_maps_or_of_the_whole_image_are_taken_without_a_word(tmp_path, stack, labels):
    assert not any("augment" in said for said in take(tmp_path, flat(*stack), IMAGES, labels, "flip").warnings)


@pytest.mark.parametrize("labels", [RNG.random((ITEMS, 4)), RNG.random(ITEMS) * 90, RNG.integers(0, 8, (ITEMS, 2))])
def test_labels_that_are_values_may_be_places(tmp_path, labels):
    model = flat(layers.Flatten(), layers.Dense(labels[0].size))
    for name in MOVES:
        got = take(tmp_path / name, model, IMAGES, labels.astype(np.float32), name)
        assert any(f"augment: {name}: " in said and "wrong for boxes, key points" in said for said in got.warnings)
    assert not any("boxes" in said for said in take(tmp_path, model, IMAGES, labels, "noise").warnings)


def looked_up(inputs):
    return layers.Embedding(50, 4)(inputs)


@pytest.mark.parametrize(
    "reader",
    [
        looked_up,
        lambda x: looked_up(tf.cast(x, tf.int32)),
        lambda x: looked_up(tf.cast(x, tf.int32)[:, :4]),
        lambda x: layers.Embedding(50, 4, mask_zero=True)(tf.cast(x, tf.int32)),
        lambda x: tf.one_hot(tf.cast(x, tf.int32), 50),
        lambda x: tf.gather(tf.eye(50), tf.cast(x, tf.int32)),
    ],
)
def test_an_input_that_is_looked_up_takes_no_other_values(tmp_path, reader):
    inputs = tf_keras.Input((10,))
    model = tf_keras.Model(inputs, softmax()(layers.GlobalAveragePooling1D()(reader(inputs))))
    for name in ("noise", "mixup"):
        message = f"augment: {name}: .*looks its input up in a table"
        expect_refused(tmp_path / name, model, IDS.astype(np.float32), CLASSES, name, message)


def test_a_layer_of_the_users_own_that_looks_up_is_found_by_what_it_gives(tmp_path):
    tokens = tiny.network(Tokens(), layers.GlobalAveragePooling1D(), softmax(), shape=(10,))
    more = {"custom_objects": {"Tokens": Tokens}}
    ids = IDS.astype(np.float32)
    expect_refused(tmp_path / "a", tokens, ids, CLASSES, "noise", "looks its input up in a table, so", **more)
    places = tiny.network(Places(), layers.GlobalAveragePooling1D(), softmax(), shape=(12, 5))
    more = {"custom_objects": {"Places": Places}}
    assert take(tmp_path / "b", places, np.round(STEPS * 9), CLASSES, "noise", **more).manifest.augment


def test_whole_numbers_that_are_values_are_taken(tmp_path):
    bins = layers.Discretization([10.0, 20.0, 30.0])
    binned = tiny.network(bins, layers.Embedding(4, 4), layers.GlobalAveragePooling1D(), softmax(), shape=(10,))
    for number, model in enumerate((binned, tiny.network(softmax(), shape=(10,)))):
        folder = tmp_path / str(number)
        assert take(folder, model, IDS.astype(np.float32), CLASSES, ["noise", "mixup"]).manifest.augment


def test_boards_of_pieces_that_are_looked_up_may_be_flipped_alone(tmp_path):
    model = tiny.network(layers.Reshape((64,)), layers.Embedding(9, 4), layers.GlobalAveragePooling1D(), softmax())
    pieces = np.round(IMAGES * 8)
    for name in ("shift", "crop", "specaugment", "noise"):
        expect_refused(tmp_path / name, model, pieces, CLASSES, name, f"augment: {name}: .*looks its input up")
    assert take(tmp_path / "flip", model, pieces, CLASSES, "flip").manifest.augment


@pytest.mark.parametrize("name", ["noise", "mixup", "specaugment"])
def test_padding_that_is_told_by_its_value_stays_as_it_is(tmp_path, name):
    padded = STEPS.copy()
    padded[:, 6:] = 0
    inputs = tf_keras.Input((12, 5))
    hidden = layers.LSTM(3)(layers.Masking()(inputs))
    compared = layers.LSTM(3)(inputs, mask=tf.not_equal(inputs[..., 0], 0.0))
    for number, x in enumerate((hidden, compared)):
        message = f"augment: {name}: .*the model leaves out steps by their value"
        model = tf_keras.Model(inputs, softmax()(x))
        expect_refused(tmp_path / str(number), model, padded, CLASSES, name, message)


class Hidden(layers.Layer):
    """Gives the mean of the steps that are not zero."""

    def call(self, inputs):
        counts = tf.cast(tf.reduce_any(inputs > 0, axis=-1, keepdims=True), tf.float32)
        return tf.reduce_sum((inputs + 1) * counts, axis=1) / tf.reduce_sum(counts, axis=1)


def test_a_layer_of_the_users_own_that_masks_is_found_by_what_it_gives(tmp_path):
    padded = STEPS.copy()
    padded[:, 6:] = 0
    model, more = tiny.network(Hidden(), softmax(), shape=(12, 5)), {"custom_objects": {"Hidden": Hidden}}
    expect_refused(tmp_path / "a", model, padded, CLASSES, "noise", "leaves out steps by their value, and", **more)
    assert take(tmp_path / "b", model, STEPS, CLASSES, "noise", **more).manifest.augment


def test_zeros_that_are_values_are_taken(tmp_path):
    padded = STEPS.copy()
    padded[:, 6:] = 0
    stack = [layers.LayerNormalization(), layers.UnitNormalization(), layers.ReLU(), layers.LSTM(3), softmax()]
    assert take(tmp_path / "a", tiny.network(*stack, shape=(12, 5)), padded, CLASSES, "noise").manifest.augment
    inputs = tf_keras.Input((12, 5))
    drawn = layers.Dropout(0.5)(layers.Flatten()(inputs), training=True)
    model = tf_keras.Model(inputs, softmax()(drawn))
    assert take(tmp_path / "b", model, padded, CLASSES, "noise").manifest.augment


def test_who_reads_an_input_is_told_by_name():
    net = tiny.network(layers.Masking(name="hides"), layers.LSTM(3), softmax(), shape=(12, 5))
    assert input_readers.found(net) == input_readers.Readers(masks="hides")
    net = tiny.network(layers.Embedding(50, 4, name="table"), layers.LSTM(3), softmax(), shape=(10,))
    assert input_readers.found(net) == input_readers.Readers(looks_up="table")
    assert input_readers.found(tiny.cnn()) == input_readers.Readers()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "categorical_hinge", tf_keras.losses.Hinge(), "own"])
def test_a_hinge_takes_no_mixed_labels(tmp_path, loss):
    several = loss == "categorical_hinge"
    model = tiny.network(layers.Flatten(), layers.Dense(3 if several else 1, activation="tanh"))
    labels = np.eye(3, dtype=np.float32)[CLASSES] if several else CLASSES % 2
    given = tf_keras.losses.hinge if loss == "own" else loss
    expect_refused(
        tmp_path / "a", model, IMAGES, labels, "mixup", "mixup: mixes labels, and a hinge's labels", loss=given
    )


@pytest.mark.parametrize("labels", [CLASSES, CLASSES.astype(np.float32), CLASSES[:, None].astype(np.float32)])
def test_class_indices_are_not_mixed_where_nobody_knows_what_the_loss_makes_of_them(tmp_path, labels):
    model = tiny.network(layers.Flatten(), softmax())
    loss = tf_keras.losses.sparse_categorical_crossentropy
    message = "mixup: mixes labels, which a loss of your own may not take as whole numbers"
    expect_refused(tmp_path / "a", model, IMAGES, labels, "mixup", message, loss=loss)


def seen_as_index(x, y):
    assert y.dtype == tf.int64
    assert len(y.shape) == 1
    return x, tf.where(y == 2, tf.zeros_like(y), y)


def seen_as_shares(x, y):
    assert y.dtype == tf.float32
    assert y.shape[1:] == (3,)
    return x, y[:, ::-1]


def test_a_function_is_tried_on_what_it_gets_before_and_behind_mixup(tmp_path):
    model = tiny.network(layers.Flatten(), softmax())
    got = take(tmp_path / "a", model, IMAGES, CLASSES, [seen_as_index, "mixup", seen_as_shares])
    [said] = [said for said in got.warnings if "augment" in said]
    assert "seen_as_shares: stands behind mixup, so it gets labels as shares, float32 of shape (items, 3)" in said
    expect_refused(tmp_path / "b", model, IMAGES, CLASSES, ["mixup", seen_as_index], r"behind mixup, on shares")
    expect_refused(tmp_path / "c", model, IMAGES, CLASSES, [seen_as_shares, "mixup"], "augment: seen_as_shares: ")


def untouched(x, y):
    return x, y


def test_weights_of_places_do_not_go_through_a_function(tmp_path):
    weights = np.ones((ITEMS, 8, 8), np.float32)
    path = tmp_path / "task.py"
    path.write_text("")
    data = {"train": (IMAGES, MAP, weights), "validation": (IMAGES[1:], MAP[1:]), "test": (IMAGES[2:], MAP[2:])}
    for augment, expected in ((untouched, True), ("flip", False)):
        got = task_checks.prepare(
            Task(model=flat(softmax()), **data, augment=augment), path, Store(tmp_path / str(expected))
        )
        assert any("weights that belong to places stay where they are" in said for said in got.warnings) == expected
