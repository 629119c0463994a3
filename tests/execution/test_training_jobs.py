"""Training jobs in processes of their own: what a kill costs them, and what they leave in the store."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from real_jobs import never, result, taken_in, workplace

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.execution import job_graph, split_store, taught_store
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job
from autoopt.execution.job_process import run
from autoopt.execution.workplace import Workplace
from autoopt.models import loading
from autoopt.models.task import Manifest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")
STEPS, EPOCHS = 5, 3
TASK = """
import os, signal
from pathlib import Path
import numpy as np
import tensorflow as tf
import tf_keras
import autoopt

HERE = Path({here!r})

def step(labels):
    with (HERE / "steps").open("a") as file:
        file.write("x")
    deadly = HERE / "deadly"
    if deadly.exists() and (HERE / "steps").stat().st_size == int(deadly.read_text()):
        deadly.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    most = HERE / "most"
    if most.exists() and len(labels) > int(most.read_text()):
        raise MemoryError("OOM when allocating tensor with shape[1024] on /device:GPU:0 by allocator GPU_0_bfc")
    return labels

def loss(labels, outputs):
    labels = tf.ensure_shape(tf.numpy_function(step, [labels], labels.dtype), labels.shape)
    return tf_keras.losses.sparse_categorical_crossentropy(labels, outputs)

def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(16 * {steps}, 6)).astype(np.float32), rng.integers(0, 3, 16 * {steps})

def task():
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((6,))
    hidden = tf_keras.layers.Dropout(0.3)(tf_keras.layers.Dense(32, "relu")(inputs))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3, "softmax")(hidden))
    return autoopt.Task(model=model, train=data(0), validation=data(1), test=data(2), loss=loss)
"""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return workplace(tmp_path / "store")


def planned(tmp_path: Path, place: Workplace, begin: bool, **tuning: float) -> list[Job]:
    """The jobs that train the only stage of a recipe."""
    setting, _ = taken_in(tmp_path, place, TASK.format(here=str(tmp_path), steps=STEPS))
    finetune = Finetune(**{"epochs": EPOCHS, "batch_size": 16, **tuning})  # type: ignore[arg-type]
    recipe = Recipe(prune=Prune(sparsity=0.5, end=0.3, frequency=1), finetune=finetune)
    (tmp_path / "steps").write_bytes(b"")
    return [job for job in job_graph.plan(recipe, setting, begin=begin).jobs if job.name in ("teach", "begin", "prune")]


def steps(tmp_path: Path) -> int:
    """How many steps were trained since the last call."""
    file = tmp_path / "steps"
    found = file.stat().st_size
    file.write_bytes(b"")
    return found


def states(place: Workplace, jobs: list[Job]) -> list[str]:
    """Keys of the states in the store."""
    return [job.settings["state"] for job in jobs if Store(Path(place.store)).path(job.settings["state"]).exists()]


def test_a_kill_in_the_second_epoch_costs_that_epoch_alone(tmp_path: Path, place: Workplace) -> None:
    """A real job and a real signal, for it is the store that has to have the state by then."""
    [job] = jobs = planned(tmp_path, place, begin=False)
    (tmp_path / "deadly").write_text(str(STEPS + 3))
    assert run(job, place, never).state == "killed"
    assert steps(tmp_path) == STEPS + 3
    assert states(place, jobs)
    assert run(job, place, never).state == "done"
    assert steps(tmp_path) == (EPOCHS - 1) * STEPS
    assert not states(place, jobs)

    elsewhere = workplace(tmp_path / "elsewhere")
    planned(tmp_path, elsewhere, begin=False)
    assert run(job, elsewhere, never).state == "done"
    assert steps(tmp_path) == EPOCHS * STEPS
    first, second = (weights(where, job) for where in (place, elsewhere))
    assert first == second


def weights(place: Workplace, job: Job) -> list[bytes]:
    from autoopt.models import loading

    return [array.tobytes() for array in loading.unpack(result(place, job))[0].get_weights()]


def test_the_first_epochs_go_on_from_where_the_training_of_a_killed_run_was(tmp_path: Path, place: Workplace) -> None:
    """Killed without a job of its own for the first epochs, which the next run has: it trains none of them again."""
    [whole] = planned(tmp_path, place, begin=False)
    (tmp_path / "deadly").write_text(str(2 * STEPS + 2))
    assert run(whole, place, never).state == "killed"
    steps(tmp_path)
    begin, rest = planned(tmp_path, place, begin=True)
    assert run(begin, place, never).state == "done"
    assert steps(tmp_path) == 0
    told = json.loads(result(place, begin))
    assert len(told["epochs"]) == 1
    assert run(rest, place, never).state == "done"
    assert steps(tmp_path) == STEPS


def test_a_part_of_the_data_is_trained_on_and_taught(tmp_path: Path, place: Workplace) -> None:
    """For real, because teacher and training read their items in processes of their own, and must read the same ones."""
    jobs = planned(tmp_path, place, begin=False, items=37, distillation=0.5)
    assert [job.name for job in jobs] == ["teach", "prune"]
    for job in jobs:
        outcome = run(job, place, never)
        assert outcome.state == "done", outcome.reason
    assert steps(tmp_path) == 3 * EPOCHS, "37 items are three batches of 16"
    store = Store(Path(place.store))
    answers = taught_store.get(store, json.loads(store.get(jobs[0].key) or b"")["taught"])
    assert answers is not None
    [taught] = answers.values()
    assert taught.shape == (37, 3)
    manifest = Manifest.from_json(store.get(jobs[0].settings["task"]) or b"")
    train = split_store.get(store, manifest.splits["train"])
    assert train is not None
    model, _ = loading.unpack(store.get(manifest.model) or b"")
    np.testing.assert_allclose(taught, model.predict(*train.some(37).inputs.values(), verbose=0), atol=1e-6)


@pytest.mark.parametrize(("most", "batch"), [(8, 8), (4, None)])
def test_a_gpu_whose_memory_is_full_is_tried_with_half_the_batch(
    tmp_path: Path, place: Workplace, most: int, batch: int | None
) -> None:
    """There is no GPU here: the loss raises what TensorFlow raises of one."""
    begin, prune = planned(tmp_path, place, begin=True)
    (tmp_path / "most").write_text(str(most))
    if batch is None:
        outcome = run(begin, place, never)
        assert (outcome.state, outcome.stage) == ("failed", "prune")
        assert outcome.reason.startswith("out of GPU memory with batches of 16, and of 8; use a smaller")
        return
    for job in (begin, prune):
        outcome = run(job, place, never)
        assert outcome.state == "done", outcome.reason
    store = Store(Path(place.store))
    [report] = loading.reports_of(store.get(prune.key) or b"")
    assert report["notes"][0] == "out of GPU memory with batches of 16: trained with 8"
    done = len(json.loads(store.get(begin.key) or b"")["epochs"])
    assert steps(tmp_path) == 2 * STEPS * EPOCHS + 2, "the first step of each job fails, and no epoch is trained twice"
    assert 0 < done < EPOCHS
    assert not any(store.path(prune.settings["state"] + end).exists() for end in ("", "half"))
