"""Fine-tuning shared by all stages: cosine learning rate, best epoch by validation, stop on divergence.

It can stop after an epoch and go on from there in another process, as if it had never stopped.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression import augmentation, batchnorm_recalibration, goals, optimizing
from autoopt.compression.batches import batches
from autoopt.compression.goals import Lessons
from autoopt.compression.training_state import Keeper, Progress
from autoopt.compression.wrapping import Wrapped
from autoopt.core.metrics import Metric
from autoopt.errors import CandidateFailed
from autoopt.models import quality as quality_of
from autoopt.models.keras_internals import optimizer_state, seeded_draws
from autoopt.models.task import Manifest, Split, broadcast, side_by_side

DIVERGED = 10.0
"""A loss this many times the worst before it has diverged, once the technique is in force: masks alone raise it."""
LOW = 0.1
"""A loss under this is too small to be a measure for others."""
ASKED = 256
"""Items that a model is asked about at a time."""
MOST_BYTES = 1 << 28
"""Of inputs and outputs of the items that a model is asked about at a time."""
GLANCE = 50
"""Steps between two looks at the loss: each look makes the device wait for Python."""


@dataclass(frozen=True, kw_only=True)
class Training(Lessons):
    """What every stage trains with, whatever it does, beside what a teacher says.

    Attributes:
        manifest: the task: loss and metric.
        train: data to train on.
        validation: data to choose the best epoch on.
        progress: told `epoch 1/3` and its like.
        foretell: told after the first epoch how many seconds all of them will take.
        keep: where the state of the training goes while it is under way; None to keep none.
    """

    manifest: Manifest
    train: Split
    validation: Split
    progress: Callable[[str], None]
    foretell: Callable[[float], None] = lambda _: None
    keep: Callable[[bytes], None] | None = None

    def loss(self) -> Any:
        """The loss of a model with one output.

        Raises:
            NotImplementedError: if it has several.
        """
        if self.manifest.outputs:
            raise NotImplementedError("choosing by the loss needs a model with one output")
        return self.manifest.loss_function()

    def weights(self) -> Any:
        """What the items of `train` count for, as `fit` takes it; None where all count alike."""
        weights, ends = self.train.weights, self.manifest.outputs
        if weights is None or not ends:
            return weights
        return tuple(broadcast(weights[:, i], output.shape) for i, output in enumerate(ends))

    def steps(self, tuning: Mapping[str, Any]) -> int:
        """Batches in an epoch."""
        return -(-len(self.train) // int(tuning["batch_size"]))


def fit(
    stage: str,
    wrapped: Wrapped,
    tuning: dict[str, Any],
    training: Training,
    *,
    seed: int,
    begun: Progress | None = None,
    until: int | None = None,
) -> Progress:
    """Train `wrapped.model` in place; after the last epoch it is left with the weights of its best one.

    Going on gives the same weights as never having stopped, but for layers of the user's own that draw random numbers.

    Args:
        stage: for messages.
        wrapped: the model with its scaffolding.
        tuning: fields of `Finetune`.
        training: data, loss and metric.
        seed: of the order of the data, and of what layers draw.
        begun: where to go on from.
        until: the epoch after which to stop, instead of the last.

    Raises:
        CandidateFailed: if the loss or the quality is no finite number, or the loss explodes.
    """
    now, quality = begun or Progress(), training.manifest.quality
    last = tuning["epochs"] if until is None else min(until, tuning["epochs"])
    if len(now.history) < last and not _over(now, wrapped, tuning, quality):
        with seeded_draws(wrapped.model, seed) as draws:
            _Fitting(stage, wrapped, tuning, training, seed, now, draws).run(last)
    if _over(now, wrapped, tuning, quality):
        wrapped.model.set_weights(now.best_weights)  # the last epoch always qualifies
    return now


def _over(now: Progress, wrapped: Wrapped, tuning: Mapping[str, Any], quality: Metric) -> bool:
    """Whether the last epoch is done, or patience with those that came at an end."""
    if len(now.history) >= tuning["epochs"]:
        return True
    since = [epoch[quality.name] for epoch in now.history[wrapped.first_epoch :]]
    return optimizing.impatient(since, quality.sign, tuning.get("patience", 0))


class _Fitting:
    """One training, from where it stands: Keras' loop, and what is done between its steps and epochs."""

    def __init__(
        self,
        stage: str,
        wrapped: Wrapped,
        tuning: dict[str, Any],
        training: Training,
        seed: int,
        now: Progress,
        draws: Any,
    ) -> None:
        self.stage, self.wrapped, self.tuning, self.training = stage, wrapped, tuning, training
        self.seed, self.now, self.draws = seed, now, draws
        self.model, self.quality = wrapped.model, training.manifest.quality
        self.steps = training.steps(tuning)
        self.keeper = Keeper(training.keep)
        self.goal = goals.of(stage, training.manifest, training.train, training, tuning, self.model, outputs)
        wrapped.notes += optimizing.prepare_precision(tuning)
        self.model.compile(optimizer=optimizing.optimizer(tuning, self.steps), loss=self.goal.loss)
        # Else the first step makes the optimizer's variables, and its graph is built a second time without that.
        self.model.optimizer.build(self.model.trainable_variables)
        if now.weights is not None:
            self._restore()

    def _restore(self) -> None:
        """Give the model and its optimizer what they had where the training stopped."""
        now = self.now
        self.model.set_weights(now.weights)
        for variable, value in zip(optimizer_state(self.model.optimizer), now.optimizer, strict=False):
            variable.assign(value)  # a GPU's losses have a scale, which stands last
        for variable, value in zip(self.draws, now.random, strict=False):  # older states have none
            variable.assign(value)

    def _remember(self) -> None:
        """Write into the progress what `_restore` needs, but for the weights."""
        self.now.optimizer = [variable.numpy() for variable in optimizer_state(self.model.optimizer)]
        self.now.random = [variable.numpy() for variable in self.draws]

    def run(self, last: int) -> None:
        """Train up to the end of an epoch, counting from 1; the first one may have been begun."""
        self.first, self.last = len(self.now.history), last
        with goals.asking(self.model, self.goal.teacher):
            while (first := len(self.now.history)) < last and not self._over():
                apart = self.now.step or self.goal.change  # an epoch that was begun, or draws its own random numbers
                self._fit(range(first, first + 1 if apart else last))
                self.model.set_weights(self.now.weights)  # at its end Keras' loop leaves averages in their place
        self._remember()

    def _over(self) -> bool:
        return _over(self.now, self.wrapped, self.tuning, self.quality)

    def _fit(self, epochs: range) -> None:
        import tf_keras

        class Watch(tf_keras.callbacks.Callback):  # type: ignore[misc]
            _supports_tf_logs = True  # Keras' own switch: do not turn every step's logs into numbers
            on_epoch_begin = staticmethod(self._before_epoch)
            on_train_batch_end = staticmethod(self._after_step)
            on_epoch_end = staticmethod(self._after_epoch)

        self.before = self.now.step
        self.model.fit(
            self._data(epochs),
            steps_per_epoch=self.steps - self.before,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            callbacks=[*self.wrapped.callbacks, Watch()],
            verbose=0,
        )

    def _data(self, epochs: range) -> Any:
        """The batches that are left of these epochs, as they are trained on."""
        training, size = self.training, self.tuning["batch_size"]
        data = batches(training.train, size, epochs, self.seed, self.goal.targets, training.weights())
        if self.goal.change:
            data = augmentation.mapped(data, self.goal.change, self.seed, epochs.start)
        return data.skip(self.before) if self.before else data

    def _before_epoch(self, epoch: int, logs: Any = None) -> None:
        self.began = time.monotonic()
        self.training.progress(f"epoch {epoch + 1}/{self.tuning['epochs']}")

    def _after_step(self, batch: int, logs: Any = None) -> None:
        if batch == 0 and self.now.sums:  # before its first step, Keras has no metrics to give them to
            for variable, value in zip(self._sums(), self.now.sums, strict=True):
                variable.assign_add(value)
            self.now.sums = []
        if batch % GLANCE == 0:
            self._finite(float(logs["loss"]))
        if self.keeper.overdue() and self.before + batch + 1 < self.steps:
            self.now.step, self.now.sums = self.before + batch + 1, [variable.numpy() for variable in self._sums()]
            self.now.weights = self.model.get_weights()
            self._remember()
            self.keeper.offer(self.now)
            self.now.step, self.now.sums = 0, []

    def _sums(self) -> list[Any]:
        """The variables in which Keras adds up the losses of an epoch."""
        return [variable for metric in self.model.metrics for variable in metric.variables]

    def _after_epoch(self, epoch: int, logs: Any = None) -> None:
        now, tuning, name = self.now, self.tuning, self.quality.name
        loss = self._finite(float(self.model.metrics[0].result()))
        now.weights = settled = self.model.get_weights()
        if tuning.get("averaging") or tuning.get("recalibrate"):
            self._settle()
            settled = self.model.get_weights()
        value = self._measured(epoch)
        worst = max((h["loss"] for h in now.history), default=math.inf)
        if epoch > self.wrapped.first_epoch and loss > DIVERGED * max(worst, LOW):
            raise CandidateFailed(
                self.stage, f"diverged: loss {worst:.3g} at most before, {loss:.3g} after epoch {epoch + 1}"
            )
        now.history.append({"loss": loss, name: value})
        before, sign = now.history[now.best - 1][name] if now.best else value, self.quality.sign
        if epoch >= min(self.wrapped.first_epoch, tuning["epochs"] - 1) and sign * value <= sign * before:
            now.best, now.best_weights = epoch + 1, settled
        if settled is not now.weights:
            self.model.set_weights(now.weights)
        share = 1 - self.before / self.steps
        now.seconds.append((time.monotonic() - self.began) / share)
        if len(now.seconds) == 1:  # building the graph counts in, so it is rather too much
            self.training.foretell(now.seconds[-1] * (self.last - self.first))
        now.step, self.before = 0, 0
        if self._over():
            self.model.stop_training = True
        elif len(now.history) < self.last:  # else whoever stops here keeps it
            self._remember()
            self.keeper.offer(now)

    def _settle(self) -> None:
        """Give the model the weights that it would end with if this epoch was the best."""
        if self.tuning.get("averaging"):
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            self.wrapped.settle(self.model)
        if self.tuning.get("recalibrate"):
            batchnorm_recalibration.recalibrate(self.model, self.training.train)

    def _measured(self, epoch: int) -> float:
        """The quality on the validation data."""
        validation = self.training.validation
        value = quality_of.value(self.training.manifest, validation, outputs_in_parts(self.model, validation))
        if not math.isfinite(value):
            raise CandidateFailed(self.stage, f"{self.quality.name} on validation is {value} after epoch {epoch + 1}")
        return float(value)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise CandidateFailed(self.stage, f"the loss became {loss} in epoch {len(self.now.history) + 1}")
        return loss


def outputs(model: Any, split: Split) -> np.ndarray:
    """What `predict` gives, without the pipeline that it builds each time (as long as many steps of a small model)."""
    return np.concatenate(list(outputs_in_parts(model, split)))


def outputs_in_parts(model: Any, split: Split) -> Iterator[np.ndarray]:
    """The same without holding all of it: in the order of the items what the model gives for some of them."""
    size = at_once(model, split)
    for i in range(0, len(split), size):
        found = model.predict_on_batch([array[i : i + size] for array in split.inputs.values()])
        yield side_by_side(found) if isinstance(found, list | tuple) else found


def at_once(model: Any, split: Split) -> int:
    """How many items a model is asked about at a time: fewer than `ASKED` where they, or what it gives for them, are large."""
    shapes = [tuple(tensor.shape)[1:] for tensor in model.outputs]
    values = sum(math.prod(array.shape[1:]) for array in split.inputs.values())
    values += sum(math.prod(int(size or 1) for size in shape) for shape in shapes)
    return max(1, min(ASKED, MOST_BYTES // max(1, 4 * values)))
