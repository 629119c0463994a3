"""A training that is stopped anywhere goes on as if nothing had been, and keeping its state costs little."""

import io
import itertools
import json

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.compression import stages, training_state
from autoopt.compression.training_state import Keeper, Progress
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Prune

layers = tf_keras.layers
DATA = (tiny.split(80, 1), tiny.split(64, 2))


def drawing():
    """A model with layers that draw at random: by an operation, by a generator, inside of a wrapper, with a seed."""
    tf_keras.utils.set_random_seed(0)
    return tiny.network(
        layers.RandomFlip(),
        layers.GaussianNoise(0.1),
        layers.Conv2D(8, 3, name="conv"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.SpatialDropout2D(0.2),
        layers.Flatten(),
        layers.Dense(16, activation="relu", name="hidden"),
        layers.Dropout(0.5, seed=4),
        layers.Dense(4, activation="softmax", name="scores"),
    )


def trained(parts, keep=None, begun=None, **tuning):
    finetune = Finetune(**{"epochs": 2, "batch_size": 16, "learning_rate": 1e-2} | tuning)
    [(name, values)] = Recipe(finetune=finetune, **parts).stages()
    training = stages.Training(
        manifest=tiny.manifest(), train=DATA[0], validation=DATA[1], progress=lambda _: None, keep=keep
    )
    model, report = stages.run(name, drawing(), values, training, begun)
    return model.get_weights(), [report[key] for key in ("epochs", "best_epoch", "touched")]


@pytest.mark.parametrize(
    ("parts", "tuning"),
    [
        ({"channels": Channels(ratio=0.5, multiple=4)}, {}),
        ({"prune": Prune(sparsity=0.5, frequency=2)}, {"averaging": 0.9, "recalibrate": True}),
        ({"cluster": Cluster(number=6)}, {}),
        ({"scheme": "qat_int8"}, {"epochs": 1}),
    ],
    ids=["channels", "prune", "cluster", "qat"],
)
def test_from_every_step_it_goes_on_to_the_very_same_model(parts, tuning, monkeypatch):
    """A real training, for what Keras and tfmot keep between two steps is the question."""
    monkeypatch.setattr(training_state, "LONGEST_S", 0.0)
    monkeypatch.setattr(training_state, "FREE_S", np.inf)
    states = []
    weights, report = trained(parts, states.append, **tuning)
    places = [(len(progress.history), progress.step) for progress in map(Progress.from_bytes, states)]
    assert places == [(e, s) for e, s in itertools.product(range(tuning.get("epochs", 2)), range(5)) if e or s]
    for state in states[2::3]:  # within an epoch, behind one, and in the last
        again, told = trained(parts, begun=Progress.from_bytes(state), **tuning)
        assert told == report
        assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_two_trainings_of_a_model_that_draws_at_random_are_the_same():
    first, second = (trained({"prune": Prune(sparsity=0.5)})[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_state_of_versions_that_knew_whole_epochs_alone_is_read():
    weights, optimizer = [np.arange(3.0)], [np.array(7)]
    meta = np.frombuffer(json.dumps({"history": [{"loss": 1.0}], "best": 1}).encode(), dtype=np.uint8)
    out = io.BytesIO()
    np.savez(out, meta=meta, w00000=weights[0], o00000=optimizer[0])
    found = Progress.from_bytes(out.getvalue())
    assert (found.history, found.best, found.step, found.random) == ([{"loss": 1.0}], 1, 0, [])
    assert np.array_equal(found.best_weights[0], weights[0])
    assert np.array_equal(found.optimizer[0], 7)


class Clock:
    """Time that passes when it is told to, and while something is written, at so many bytes a second."""

    def __init__(self, monkeypatch, speed):
        self.now, self.speed, self.written = 0.0, speed, []
        monkeypatch.setattr(training_state.time, "monotonic", lambda: self.now)

    def put(self, data):
        self.written.append(self.now)
        self.now += len(data) / self.speed


@pytest.mark.parametrize("speed", [1e5, 1e7, 1e9])
@pytest.mark.parametrize("size", [1_000, 5_000_000])
@pytest.mark.parametrize("epoch", [0.01, 1.0, 60.0])
def test_keeping_costs_a_small_share_of_the_time(monkeypatch, speed, size, epoch):
    clock = Clock(monkeypatch, speed)
    keeper = Keeper(clock.put)
    progress = Progress(history=[], weights=[np.zeros(size, np.uint8)])
    progress.best_weights = progress.weights
    for _ in range(300):
        clock.now += epoch
        keeper.offer(progress)
    spent = clock.now - 300 * epoch
    first = size / speed  # until one is written, nobody knows how slow the disk is
    assert spent <= training_state.FREE_S + 1.1 * training_state.SHARE * clock.now + first
    if size / speed < training_state.SHARE * epoch:
        assert len(clock.written) == 300


def test_within_an_epoch_it_is_kept_after_ten_minutes(monkeypatch):
    clock = Clock(monkeypatch, 1e9)
    keeper = Keeper(clock.put)
    clock.now += training_state.LONGEST_S - 1
    assert not keeper.overdue()
    clock.now += 1
    assert keeper.overdue()
    keeper.offer(Progress(weights=[np.zeros(9)]))
    assert not keeper.overdue()
    assert len(clock.written) == 1


def test_nothing_is_kept_where_nobody_asks(monkeypatch):
    clock = Clock(monkeypatch, 1)
    keeper = Keeper(None)
    clock.now += 1e6
    assert not keeper.overdue()
    keeper.offer(Progress())
    assert clock.written == []
