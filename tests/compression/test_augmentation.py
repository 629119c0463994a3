"""Augmentation: what is drawn follows from seed, epoch and step, labels and teachers follow the items, and no other data is touched."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny

from autoopt.compression import augmentation, goals, stages, training, training_state
from autoopt.compression.batches import batches
from autoopt.compression.goals import Lessons
from autoopt.compression.ready_augmentations import READY
from autoopt.compression.training_state import Progress
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.models.task import Split

layers = tf_keras.layers
ITEMS, SIZE, SEED = 40, 16, 3
DATA = tiny.split(ITEMS, 1)
GENERATOR = tf.random.Generator.from_seed(1)
LAYER = layers.RandomFlip("vertical", seed=5)
ROTATION = layers.RandomRotation(0.2)


def brighter(images, labels):
    return images + tf.random.normal([tf.shape(images)[0], 1, 1, 1]), labels


def by_generator(images, labels):
    return images * GENERATOR.uniform([tf.shape(images)[0], 1, 1, 1]), labels


def by_layers(images, labels):
    return ROTATION(LAYER(images, training=True), training=True), labels


def inside(images, labels):
    """Draws within a loop and a condition of the graph."""
    turned = tf.map_fn(lambda image: tf.image.rot90(image, tf.random.uniform([], 0, 4, tf.int32)), images)
    return tf.cond(tf.random.uniform([]) < 0.5, lambda: turned, lambda: -turned), labels


def none_of_two(images, labels):
    """There are no labels of class 2 any more; takes class indices."""
    return images, tf.where(labels == 2, tf.zeros_like(labels), labels)


def backwards(images, labels):
    """Classes the other way round; takes shares."""
    return images, labels[:, ::-1]


OWN = {function.__name__: {"module": __name__, "name": function.__name__} for function in (brighter, by_generator, by_layers, inside)}  # fmt: skip
ON_LABELS = {f.__name__: {"module": __name__, "name": f.__name__} for f in (none_of_two, backwards)}
EACH = {**{name: {"ready": name} for name in READY}, **OWN}


def manifest(*names, **more):
    return dataclasses.replace(tiny.manifest(**more), augment=tuple((EACH | ON_LABELS)[name] for name in names))


def goal(told, data=DATA, lessons=None, model=None, **tuning):
    return goals.of("prune", told, data, lessons or Lessons(), tuning, model or tiny.cnn(), training.outputs)


def seen(aim, epoch, data=DATA, skip=0, weights=None):
    """The batches of an epoch, as they are trained on."""
    raw = batches(data, SIZE, range(epoch, epoch + 1), SEED, aim.targets, weights)
    changed = augmentation.mapped(raw, aim.change, SEED, epoch).skip(skip)
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), batch) for batch in changed]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True))


@pytest.mark.parametrize("name", list(EACH))
def test_what_is_drawn_follows_from_seed_epoch_and_step(name):
    aim = goal(manifest(name))
    first = seen(aim, 0)
    tf.random.uniform([3]), GENERATOR.uniform([3]), LAYER(DATA.inputs[tiny.INPUT], training=True)
    assert same(first, seen(aim, 0))
    assert same(first[1:], seen(aim, 0, skip=1))
    raw = [x.numpy() for x, _ in batches(DATA, SIZE, range(1), SEED, DATA.labels)]
    assert all(before.shape == x.shape and before.dtype == x.dtype for before, (x, _) in zip(raw, first, strict=True))
    assert not all(np.array_equal(before, x) for before, (x, _) in zip(raw, first, strict=True))
    constant = Split(inputs={tiny.INPUT: np.repeat(DATA.inputs[tiny.INPUT][:1], ITEMS, axis=0)}, labels=DATA.labels)
    epochs = [np.concatenate([x for x, _ in seen(aim, epoch, constant)]) for epoch in range(2)]
    if name != "mixup":  # equal items have equal mixtures
        assert not np.array_equal(*epochs)
        assert not np.array_equal(epochs[0][:SIZE], epochs[0][SIZE : 2 * SIZE])


def test_several_are_applied_in_their_order_and_a_setting_chooses():
    told = manifest("flip", "brighter")
    names = lambda **tuning: [augmentation.name_of(each) for each in augmentation.in_force(told, tuning)]  # noqa: E731
    assert names() == names(augment="all") == ["flip", "brighter"]
    assert names(augment="brighter") == ["brighter"]
    assert names(augment="none") == []
    assert goal(told, augment="none").change is None
    assert goal(tiny.manifest()).change is None


def fitted(told, keep=None, begun=None, **tuning):
    finetune = Finetune(epochs=2, batch_size=SIZE, learning_rate=1e-2, **tuning)
    [(name, values)] = Recipe(prune=Prune(sparsity=0.5, frequency=2), finetune=finetune, seed=SEED).stages()
    given = training.Training(
        manifest=told, train=DATA, validation=tiny.split(32, 2), progress=lambda _: None, keep=keep
    )
    tf_keras.utils.set_random_seed(0)
    model, report = stages.run(name, tiny.cnn(), values, given, begun)
    return model.get_weights(), report["epochs"]


def test_training_goes_on_within_an_augmented_epoch_to_the_very_same_model(monkeypatch):
    """A real training: what was drawn before the kill has to be drawn over for what comes behind it."""
    monkeypatch.setattr(training_state, "LONGEST_S", 0.0)
    monkeypatch.setattr(training_state, "FREE_S", np.inf)
    told, states = manifest("shift", "by_generator", "noise"), []
    weights, epochs = fitted(told, states.append, averaging=0.9)
    assert not same(weights, fitted(told, augment="none", averaging=0.9)[0])
    for state in (states[0], states[-1]):
        assert Progress.from_bytes(state).step
        again, history = fitted(told, begun=Progress.from_bytes(state), averaging=0.9)
        assert history == epochs
        assert same(weights, again)


def image_and_map(dtype=np.float32):
    """Images whose labels are the images themselves, as indices of two classes."""
    x = (np.random.default_rng(0).uniform(size=(ITEMS, 8, 8, 1)) < 0.5).astype(dtype)
    return Split(inputs={tiny.INPUT: x}, labels=x[..., 0].astype(np.int32))


@pytest.mark.parametrize("name", ["flip", "shift", "crop"])
def test_labels_that_are_maps_follow_their_image(name):
    data = image_and_map()
    model = tiny.network(layers.Conv2D(2, 3, padding="same", activation="softmax"))
    moved = 0
    for x, y in seen(goal(manifest(name), data, model=model), 0, data):
        assert y.dtype == np.int32
        certain = (x[..., 0] < 0.02) | (x[..., 0] > 0.98)  # between them a pixel is made of several
        assert certain.mean() > 0.02
        assert np.array_equal(y[certain], np.round(x[..., 0])[certain])
        moved += len(y)
    assert moved == ITEMS


MOVES = ["flip", "shift", "crop"]


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize(("dtype", "shape"), [(np.float32, (8, 8)), (np.uint8, (8, 8, 1)), (np.float32, (8, 8, 1, 1))])
def test_labels_that_are_values_of_the_image_stay_its_values(name, dtype, shape):
    """An autoencoder's labels are its inputs, also between two pixels."""
    x = np.random.default_rng(0).uniform(0, 1 if dtype == np.float32 else 255, (ITEMS, 8, 8, 1)).astype(dtype)
    data = Split(inputs={tiny.INPUT: x}, labels=x.reshape(ITEMS, *shape))
    told = manifest(name, loss="mean_squared_error")
    for new, labels in seen(goal(told, data, model=tiny.network(layers.Conv2D(1, 3, padding="same"))), 0, data):
        np.testing.assert_array_equal(new.reshape(labels.shape), labels)
        assert labels.dtype == dtype


@pytest.mark.parametrize("name", MOVES)
def test_weights_of_places_follow_their_image(name):
    data = image_and_map()
    weights = 1 + data.labels.astype(np.float32)
    model = tiny.network(layers.Conv2D(2, 3, padding="same", activation="softmax"))
    for _, labels, moved in seen(goal(manifest(name), data, model=model), 0, data, weights=weights):
        np.testing.assert_array_equal(moved, 1 + labels)
    whole = np.random.default_rng(0).uniform(size=(ITEMS, 1, 1)).astype(np.float32)
    found = [part for *_, part in seen(goal(manifest(name), data, model=model), 0, data, weights=whole)]
    assert {part.shape[1:] for part in found} == {(1, 1)}


def test_weights_of_places_follow_an_image_whose_teacher_was_asked_before():
    data = image_and_map()
    model = tiny.network(layers.Conv2D(2, 3, padding="same", activation="softmax"))
    x = data.inputs[tiny.INPUT]
    lessons = Lessons(taught=says(model, x), mirrored=says(model, x[:, :, ::-1]))
    aim = goal(manifest("flip"), data, lessons, model, distillation=0.5)
    for _, targets, moved in seen(aim, 0, data, weights=data.labels.astype(np.float32)):
        np.testing.assert_array_equal(moved.reshape(len(moved), -1), targets[:, :64])


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("labels", "loss", "smooth"),
    [
        (RANDOM.integers(0, 5, (9, 4, 4)), "sparse_categorical_crossentropy", False),
        (RANDOM.integers(0, 5, (9, 4, 4)).astype(np.float32), "sparse_categorical_crossentropy", False),
        (RANDOM.integers(0, 2, (9, 4, 4)).astype(np.float32), "binary_crossentropy", False),
        (RANDOM.uniform(size=(9, 4, 4)), "binary_crossentropy", True),
        (np.eye(3)[RANDOM.integers(0, 3, (9, 4, 4))], "categorical_crossentropy", False),
        (RANDOM.integers(0, 255, (9, 4, 4)), "mean_squared_error", True),
        (RANDOM.integers(0, 2, (9, 4, 4)).astype(np.float32), "mae", True),
        (RANDOM.integers(0, 2, (9, 4, 4)), "mse", False),
        (RANDOM.uniform(size=(9, 4, 4)), {"module": "", "name": "own"}, True),
        (RANDOM.integers(0, 5, (9, 4, 4)), {"module": "", "name": "own"}, False),
    ],
)
def test_between_values_there_are_others_and_between_classes_none(labels, loss, smooth):
    assert augmentation.smooth(labels, loss) == smooth


def test_the_loss_of_shares_is_reduced_as_that_of_indices():
    given = {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True, "reduction": "sum"}}
    loss = goal(manifest("mixup", loss={"keras": given})).loss
    assert (loss.reduction, loss.get_config()["from_logits"]) == ("sum", True)


def test_labels_become_shares_where_mixup_comes():
    told = manifest("none_of_two", "mixup", "backwards")
    for _, shares in seen(goal(told), 0):
        assert shares.shape[1:] == (4,)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert not shares[:, 1].any()  # class 2, backwards
    for _, labels in seen(goal(told, augment="none_of_two"), 0):
        assert labels.dtype == DATA.labels.dtype
        assert set(labels) == {0, 1, 3}
    aim = goal(told, augment="backwards")  # its place in the list tells what it gets, whoever is in force beside it
    assert isinstance(aim.loss, tf_keras.losses.CategoricalCrossentropy)
    raw = [y.numpy() for _, y in batches(DATA, SIZE, range(1), SEED, DATA.labels)]
    for before, (_, shares) in zip(raw, seen(aim, 0), strict=True):
        np.testing.assert_array_equal(shares, np.eye(4)[3 - before])
    assert seen(goal(manifest("mixup", "flip"), augment="flip"), 0)[0][1].dtype == DATA.labels.dtype


@pytest.mark.parametrize("name", MOVES)
def test_whole_numbers_stay_whole_numbers(name):
    data = dataclasses.replace(image_and_map(np.uint8), labels=DATA.labels)
    assert all(x.dtype == np.uint8 for x, _ in seen(goal(manifest(name), data), 0, data))


def test_mixed_items_have_mixed_labels_and_the_loss_of_their_weights():
    """The loss of a mixture is the mixture of both items' losses, with their weights."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, ITEMS)
    x = np.zeros((ITEMS, 8, 8, 1), np.float32)
    x.reshape(ITEMS, -1)[:, :4] = np.eye(4)[labels]  # an item shows its label, and its weight behind it
    weights = rng.uniform(0.5, 2, ITEMS).astype(np.float32)
    x[:, 7, 7, 0] = weights
    x[:, 7, :4, 0] = np.eye(4)[labels] * weights[:, None]
    data = Split(inputs={tiny.INPUT: x}, labels=labels, weights=weights)
    aim = goal(manifest("mixup"), data)
    assert isinstance(aim.loss, tf_keras.losses.CategoricalCrossentropy)
    for images, shares in seen(aim, 0, data):
        np.testing.assert_allclose(shares, images.reshape(len(images), -1)[:, :4], rtol=1e-5)
        assert shares.max(axis=1).min() >= 0.5 - 1e-6
    for images, shares, together in seen(aim, 0, data, weights=weights):
        np.testing.assert_allclose(together, images[:, 7, 7, 0], rtol=1e-5)
        np.testing.assert_allclose(shares * together[:, None], images[:, 7, :4, 0], rtol=1e-4, atol=1e-6)


def test_no_augmentation_reaches_other_data():
    """What reads the data beside the training itself finds it as it was given."""
    before = DATA.inputs[tiny.INPUT].copy()
    told = manifest("flip", "noise")
    _, epochs = fitted(told, recalibrate=True, augment="none")
    assert epochs == fitted(tiny.manifest(), recalibrate=True)[1]
    fitted(told, recalibrate=True)
    assert np.array_equal(before, DATA.inputs[tiny.INPUT])


# --- teachers


def says(model, x):
    return model.predict_on_batch(x)


def test_with_flips_alone_a_teacher_that_was_asked_before_says_what_it_would_say_now():
    teacher = tiny.cnn()
    x = DATA.inputs[tiny.INPUT]
    lessons = Lessons(taught=says(teacher, x), mirrored=says(teacher, x[:, :, ::-1]))
    flipped = 0
    for images, targets in seen(goal(manifest("flip"), lessons=lessons, distillation=0.5), 0):
        np.testing.assert_allclose(targets[:, 1:], says(teacher, images), atol=1e-5)
        known = {(image.tobytes(), label) for image, label in zip(x, DATA.labels, strict=True)}
        there = [(image.tobytes(), int(label)) in known for image, label in zip(images, targets[:, 0], strict=True)]
        flipped += there.count(False)
    assert ITEMS / 4 < flipped < 3 * ITEMS / 4


def test_else_the_teacher_is_asked_in_every_step_for_what_the_model_sees():
    """Trained for a step or two, for it is the step that asks."""
    net, teacher, asked = tiny.cnn(), tiny.cnn(), []

    def told(inputs):
        answer = tf.py_function(
            lambda x: (asked.append(x.numpy()), teacher(x, training=False))[1], [inputs], tf.float32
        )
        return tf.ensure_shape(answer, (None, 4))

    aim = goal(manifest("noise"), lessons=Lessons(teacher=told), model=net, distillation=1.0)
    net.compile("sgd", aim.loss)
    data = [(x, y) for x, y in seen(aim, 0)]
    asked.clear()
    with goals.asking(net, aim.teacher):
        for x, y in data:
            net.train_on_batch(x, y)
    assert same([x for x, _ in data], asked)
    assert "train_step" not in vars(net)


def test_a_model_like_its_teacher_has_nothing_to_learn_from_augmented_items():
    """Trained, for a loss of zero shows that labels, weights and outputs all stand in their place."""
    for name in ("mixup", "shift", "flip"):
        net = tiny.network(layers.Flatten(), layers.Dense(4, activation="softmax"))
        x = DATA.inputs[tiny.INPUT]
        lessons = (
            Lessons(taught=says(net, x), mirrored=says(net, x[:, :, ::-1]))
            if name == "flip"
            else Lessons(teacher=lambda inputs, net=net: net(inputs, training=False))
        )
        aim = goal(manifest(name), lessons=lessons, model=net, distillation=1.0)
        net.compile("sgd", aim.loss)
        raw = batches(DATA, SIZE, range(1), SEED, aim.targets)
        with goals.asking(net, aim.teacher):
            history = net.fit(augmentation.mapped(raw, aim.change, SEED, 0), verbose=0).history
        assert history["loss"][0] == pytest.approx(0, abs=1e-4), name
