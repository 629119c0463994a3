"""A teacher of the user's own: taken in, refused in one line, and asked as the untouched model would be."""

import io
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from real_jobs import never, result, taken_in, workplace

from autoopt.compression import distillation, training
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.errors import ConfigError
from autoopt.execution import job_graph, task_checks, taught_store, teachers
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_process import run
from autoopt.execution.jobs import teaching
from autoopt.execution.jobs.context import Context
from autoopt.models import loading
from autoopt.models.task import Manifest

layers = tf_keras.layers


def sure(images):
    """Knows by the quarters' means, as an array."""
    quarters = np.asarray(images).reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)
    return np.exp(8 * quarters) / np.exp(8 * quarters).sum(axis=1, keepdims=True)


def tensors(images):
    return tf.nn.softmax(tf.reduce_mean(tf.reshape(tf.constant(images), (-1, 16, 4)), axis=1))


def two(images):
    return sure(images)[:, :2]


def one(images):
    return sure(images)[:1]


def unsure(images):
    return sure(images) * float("nan")


def angry(images):
    raise ValueError("not today")


def big():
    """A teacher larger than its pupil, which gives scores of any size."""
    tf_keras.utils.set_random_seed(1)
    return tiny.network(
        layers.Conv2D(32, 3, activation="relu"), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(4)
    )


def take(tmp_path, **changes):
    path = tmp_path / "task.py"
    path.write_text("")
    store = Store(tmp_path / "store")
    return task_checks.prepare(tiny.task(tiny.cnn(), **changes), path, store), store


def asked(manifest, store, split):
    return teachers.of_task(manifest, lambda key: store.get(key) or b"", split)


def in_keras3():
    inputs = keras.Input((8, 8, 1), name="picture")
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize("kind", ["tf_keras", "keras 3", "path", "closed", "array function", "tensor function"])
def test_it_is_asked_for_what_it_says_itself(tmp_path, kind):
    split = tiny.split(20, 4)
    x = split.inputs[tiny.INPUT]
    model = in_keras3() if kind == "keras 3" else big()
    if kind == "path":
        model.save(tmp_path / "teacher.keras")
    given = {
        "path": tmp_path / "teacher.keras",
        "closed": Subclassed(),
        "array function": sure,
        "tensor function": tensors,
    }.get(kind, model)
    if kind == "closed":
        given(x[:1])
    wanted = np.asarray(given(x) if callable(given) else model(x))
    taken, store = take(tmp_path, teacher=given)
    teacher = asked(taken.manifest, store, split)
    np.testing.assert_allclose(teacher.says(split), wanted, atol=1e-4)

    @tf.function
    def step(inputs):
        return teacher.in_step(inputs)

    np.testing.assert_allclose(step(tf.constant(x)), wanted, atol=1e-4)
    assert step.get_concrete_function(tf.TensorSpec((None, 8, 8, 1))).structured_outputs.shape[1:] == (4,)


class Subclassed(tf_keras.Model):
    """A model without a graph of layers."""

    def __init__(self):
        super().__init__()
        self.scores = layers.Dense(4)

    def call(self, inputs):
        return self.scores(tf.reshape(inputs, (-1, 64)))


def narrow():
    return tiny.network(layers.Flatten(), layers.Dense(3))


def other_input():
    return tiny.network(layers.Flatten(), layers.Dense(4), shape=(9, 9, 1))


def two_inputs():
    one, other = layers.Input((8, 8, 1)), layers.Input((3,))
    return tf_keras.Model([one, other], layers.Dense(4)(layers.Concatenate()([layers.Flatten()(one), other])))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (narrow, r"teacher: expected outputs of shape \(items, 4\) as the model has them, got \(items, 3\)"),
        (lambda: two, r"teacher: expected outputs of shape \(items, 4\) as the model has them, got \(items, 2\)"),
        (lambda: one, r"teacher: expected outputs of shape \(items, 4\) as the model has them, got 1 for 256 items"),
        (other_input, r"teacher: expected to take an input of shape \(items, 8, 8, 1\), got one of \(items, 9, 9, 1\)"),
        (two_inputs, r"teacher: expected the model's inputs \(image\), got input_"),
        (lambda: unsure, "teacher: expected numbers, got NaN or infinity"),
        (lambda: angry, "teacher: can't be asked about a batch of the model's inputs: not today"),
        (lambda: 3, "teacher: expected a Keras model, a path, or a function of a batch of inputs, got int"),
        (lambda: "nowhere.h5", "teacher: .*nowhere.h5"),
        (lambda: lambda images: sure(images), "teacher: expected a function defined at the top level"),
    ],
)
def test_what_is_no_teacher_of_this_model_is_named(tmp_path, teacher, message):
    with pytest.raises(ConfigError, match=message) as caught:
        take(tmp_path, teacher=teacher())
    assert "\n" not in str(caught.value)


def test_it_is_part_of_the_fingerprint_where_there_is_one_and_has_distillation_on(tmp_path):
    without, _ = take(tmp_path)
    assert "teacher" not in without.manifest.to_json()
    several = [take(tmp_path, teacher=teacher)[0].manifest for teacher in (sure, tensors, big())]
    assert len({each.fingerprint for each in (without.manifest, *several)}) == 4
    for each in several:
        assert Manifest.from_json(each.to_json()) == each
        assert each.finetune["distillation"] == 0.5
    taken, _ = take(tmp_path, teacher=sure, finetune=Finetune())
    assert any("teacher: it is asked only where finetune.distillation is over 0" in line for line in taken.warnings)


def said(monkeypatch, manifest, store, tuned=b"", **settings):
    """What the job that asks the teacher gives, and what a training makes of it."""
    monkeypatch.setattr(teaching, "limit_threads", lambda _: None)  # it is for a process of the job's own
    key = "m" * 64
    store.put(key, manifest.to_json().encode())
    more = {"store": store, "threads": 1, "progress": lambda _: None}
    given = {"task": key, **settings}
    answer = teaching.teach(Context(parents=[tuned or store.get(manifest.model)], settings=given, **more))
    finetune = {"finetune": {"distillation": 0.5, **settings}}
    parents = [b"", answer, *([tuned] if tuned else [])]
    return teaching.lessons(Context(parents=parents, settings={"task": key, **finetune}, **more))


def test_answers_that_somebody_removed_are_asked_for_again(tmp_path, monkeypatch):
    """The job that asked counts as done, and would not be done again."""
    taken, store = take(tmp_path, teacher=sure, augment=["flip"])
    put = taught_store.put

    def removed(*given):
        key, arrays = put(*given)
        shutil.rmtree(store.folder(key))
        return key, arrays

    monkeypatch.setattr(taught_store, "put", removed)
    found = said(monkeypatch, taken.manifest, store, augment="flip")
    x = tiny.images(256, 1)[0]
    np.testing.assert_allclose(found.taught, sure(x), rtol=1e-5)
    np.testing.assert_allclose(found.mirrored, sure(x[:, :, ::-1]), rtol=1e-5)


def test_answers_of_before_are_still_read(tmp_path, monkeypatch):
    taken, store = take(tmp_path)
    store.put("m" * 64, taken.manifest.to_json().encode())
    arrays = {"taught": np.ones((4, 4), np.float32), "mirrored": np.zeros((4, 4), np.float32)}
    plain, both = io.BytesIO(), io.BytesIO()
    np.save(plain, arrays["taught"])
    np.savez(both, **arrays)
    more = {"store": store, "threads": 1, "progress": lambda _: None, "settings": {"task": "m" * 64}}
    for written, names in ((plain, ["taught"]), (both, ["taught", "mirrored"])):
        found = teaching.lessons(Context(parents=[b"", written.getvalue()], **more))
        for name in names:
            np.testing.assert_array_equal(getattr(found, name), arrays[name])


def test_it_takes_the_place_of_the_untouched_model(tmp_path, monkeypatch):
    taken, store = take(tmp_path, teacher=sure, augment=["flip", "noise"])
    x = tiny.images(256, 1)[0]
    plain = said(monkeypatch, taken.manifest, store, augment="none")
    np.testing.assert_allclose(plain.taught, sure(x), rtol=1e-5)
    flips = said(monkeypatch, taken.manifest, store, augment="flip")
    np.testing.assert_allclose(flips.mirrored, sure(x[:, :, ::-1]), rtol=1e-5)
    step = said(monkeypatch, taken.manifest, store)
    assert step.taught is None
    np.testing.assert_allclose(step.teacher(tf.constant(x)), sure(x), rtol=1e-5)
    assert (plain.foreign, flips.foreign, step.foreign) == (True, True, True)
    assert len(said(monkeypatch, taken.manifest, store, augment="none", items=10).taught) == 10

    usual, store = take(tmp_path)
    untouched = said(monkeypatch, usual.manifest, store)
    np.testing.assert_allclose(
        untouched.taught, training.outputs(tiny.cnn(), tiny.split(4, 1)).shape and untouched.taught
    )
    assert not untouched.foreign


def test_what_the_model_has_become_takes_its_place_unless_there_is_a_teacher(tmp_path, monkeypatch):
    tuned, x = big(), tiny.images(256, 1)[0]
    packed, wanted = loading.pack(tuned), big()(x).numpy()
    own, store = take(tmp_path, augment=["flip", "noise"])
    for augment in ("none", "flip"):
        found = said(monkeypatch, own.manifest, store, packed, augment=augment)
        np.testing.assert_allclose(found.taught, wanted, atol=1e-4)
    step = said(monkeypatch, own.manifest, store, packed)
    np.testing.assert_allclose(step.teacher(tf.constant(x)), wanted, atol=1e-4)
    assert not step.foreign
    taught, store = take(tmp_path, teacher=sure, augment=["noise"])
    for augment in ("none", "all"):
        found = said(monkeypatch, taught.manifest, store, packed, augment=augment)
        says = found.taught if augment == "none" else found.teacher(tf.constant(x))
        np.testing.assert_allclose(says, sure(x), rtol=1e-5)


def test_scores_of_a_teacher_are_compared_with_probabilities_of_its_pupil():
    """Both say the same, one in scores and the other in probabilities: nothing is left to learn."""
    scores = np.array([[3.0, -1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    shares = tf.nn.softmax(scores).numpy()
    labels, tuning = np.array([0, 1]), {"distillation": 1.0, "temperature": 2.0}
    for taught, own in ((scores, shares), (shares, shares)):
        loss, targets = distillation.goal("sparse_categorical_crossentropy", labels, taught, tuning, own)
        assert float(loss(tf.constant(targets), tf.constant(own))) == pytest.approx(0, abs=1e-5)


TASK = """
import numpy as np
import tensorflow as tf
import tf_keras
import autoopt

def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(64, 8, 8, 1)).astype(np.float32), rng.integers(0, 4, 64)

def teacher(images):
    return np.tile(np.float32([[0.97, 0.01, 0.01, 0.01]]), (len(images), 1))

def wobble(images, labels):
    return images + tf.random.normal(tf.shape(images), stddev=0.1), labels

def task():
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 1))
    flat = tf_keras.layers.Flatten()(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(4, "softmax")(tf_keras.layers.Dense(16, "relu")(flat)))
    return autoopt.Task(
        model=model, train=data(0), validation=data(1), test=data(2), teacher=teacher, augment=["flip", wobble, "mixup"]
    )
"""


@pytest.mark.parametrize("augment", ["none", "flip", "all"])
def test_a_model_that_is_distilled_says_what_its_teacher_says(tmp_path: Path, augment: str) -> None:
    """Real jobs, for teacher and augmentation have to be found again in processes of their own."""
    place = workplace(tmp_path / "store")
    setting, facts = taken_in(tmp_path, place, TASK)
    assert facts["augment"] == ["flip", "wobble", "mixup"]
    tuning = Finetune(epochs=4, learning_rate=0.02, batch_size=16, distillation=1.0, augment=augment)
    recipe = Recipe(prune=Prune(sparsity=0.3, frequency=1), finetune=tuning)
    jobs = [job for job in job_graph.plan(recipe, setting).jobs if job.name in ("teach", "prune")]
    for job in jobs:
        outcome = run(job, place, never)
        assert outcome.state == "done", outcome.reason
    model, _ = loading.unpack(result(place, jobs[-1]))
    assert (training.outputs(model, tiny.split(40, 3)).argmax(axis=1) == 0).mean() > 0.8
    cover = job_graph.job("cover", {"stages": recipe.stages(), "task": setting.task}, (setting.model,), salt=augment)
    assert run(cover, place, never).state == "done"
