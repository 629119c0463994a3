"""Fine-tuning shared by all stages: cosine learning rate, best epoch by validation, stop on divergence.

It can stop after an epoch and go on from there in another process, as if it had never stopped.
"""

import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoopt.compression import batchnorm_recalibration, distillation
from autoopt.compression.batches import batches
from autoopt.compression.wrapping import Wrapped
from autoopt.errors import CandidateFailed
from autoopt.models import quality as quality_of
from autoopt.models.task import Manifest, Split, broadcast, side_by_side

DIVERGED = 10.0
"""A loss this many times the worst before it has diverged, once the technique is in force: masks alone raise it."""
LOW = 0.1
"""A loss under this is too small to be a measure for others."""
GLANCE = 50
"""Steps between two looks at the loss: each look makes the device wait for Python."""

Arrays = list[np.ndarray]


@dataclass(kw_only=True)
class Progress:
    """How far a training has come, and what it takes to go on with it.

    Attributes:
        history: loss and quality of each epoch that is done.
        best: the best epoch (counting from 1) since the technique is in force; 0 before.
        best_weights: of that epoch, in the order of `get_weights`.
        weights: of the model now, with the technique's own variables; None before the first epoch.
        optimizer: its variables.
        seconds: of each epoch that was trained in this process.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    best_weights: Arrays = field(default_factory=list)
    weights: Arrays | None = None
    optimizer: Arrays = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """`from_bytes` is the inverse."""
        latest = self.best_weights is self.weights  # the same weights once are enough
        meta = {"history": self.history, "best": self.best}
        groups = {"w": self.weights or [], "o": self.optimizer, "b": [] if latest else self.best_weights}
        arrays: dict[str, Any] = {f"{kind}{i:05}": a for kind, group in groups.items() for i, a in enumerate(group)}
        out = io.BytesIO()
        np.savez(out, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Progress":
        """What `to_bytes` made."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
            groups = {k: [arrays[n] for n in sorted(arrays.files) if n[0] == k and n != "meta"] for k in "wob"}
        return cls(**meta, weights=groups["w"], optimizer=groups["o"], best_weights=groups["b"] or groups["w"])


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every stage trains with, whatever it does.

    Attributes:
        manifest: the task: loss and metric.
        train: data to train on.
        validation: data to choose the best epoch on.
        progress: told `epoch 1/3` and its like.
        taught: what the untouched model says to each item of `train`, for distillation.
        foretell: told after the first epoch how many seconds all of them will take.
    """

    manifest: Manifest
    train: Split
    validation: Split
    progress: Callable[[str], None]
    taught: np.ndarray | None = None
    foretell: Callable[[float], None] = lambda _: None

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

    Going on from an epoch gives the same weights as never having stopped, but for layers that draw random
    numbers of their own (dropout).

    Args:
        stage: for messages.
        wrapped: the model with its scaffolding.
        tuning: fields of `Finetune`.
        training: data, loss and metric.
        seed: of the order of the data.
        begun: where to go on from.
        until: the epoch after which to stop, instead of the last.

    Raises:
        CandidateFailed: if the loss or the quality is no finite number, or the loss explodes.
    """
    import tf_keras

    model, epochs, averaging = wrapped.model, tuning["epochs"], tuning.get("averaging", 0.0)
    steps = training.steps(tuning)
    rate = tf_keras.optimizers.schedules.CosineDecay(tuning["learning_rate"], decay_steps=steps * epochs)
    average = {"use_ema": True, "ema_momentum": averaging, "ema_overwrite_frequency": None} if averaging else {}
    loss, targets = _goal(stage, training, tuning)
    model.compile(optimizer=tf_keras.optimizers.Adam(rate, **average), loss=loss)
    # Else the first step makes the optimizer's variables, and its graph is built a second time without that.
    model.optimizer.build(model.trainable_variables)
    now = begun or Progress()
    first, last = len(now.history), epochs if until is None else min(until, epochs)
    if now.weights is not None and first < last:
        model.set_weights(now.weights)
        for variable, kept in zip(model.optimizer.variables, now.optimizer, strict=True):
            variable.assign(kept)
    validation, quality = training.validation, training.manifest.quality

    def settle() -> None:
        """Give the model the weights that it would end with if this epoch was the best."""
        if averaging:
            model.optimizer.finalize_variable_values(model.trainable_variables)
            wrapped.settle(model)
        if tuning.get("recalibrate"):
            batchnorm_recalibration.recalibrate(model, training.train)

    class Watch(tf_keras.callbacks.Callback):  # type: ignore[misc]
        _supports_tf_logs = True  # Keras' own switch: do not turn every step's logs into numbers

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.monotonic()
            training.progress(f"epoch {epoch + 1}/{epochs}")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch % GLANCE == 0:
                self._finite(float(logs["loss"]))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            loss = self._finite(float(logs["loss"]))
            now.weights = settled = model.get_weights()
            if averaging or tuning.get("recalibrate"):
                settle()
                settled = model.get_weights()
            value = quality_of.value(training.manifest, validation, outputs(model, validation))
            if not math.isfinite(value):
                raise CandidateFailed(stage, f"{quality.name} on validation is {value} after epoch {epoch + 1}")
            worst = max((h["loss"] for h in now.history), default=math.inf)
            if epoch > wrapped.first_epoch and loss > DIVERGED * max(worst, LOW):
                raise CandidateFailed(
                    stage, f"diverged: loss {worst:.3g} at most before, {loss:.3g} after epoch {epoch + 1}"
                )
            now.history.append({"loss": loss, quality.name: value})
            before = now.history[now.best - 1][quality.name] if now.best else value
            if epoch >= min(wrapped.first_epoch, epochs - 1) and quality.sign * value <= quality.sign * before:
                now.best, now.best_weights = epoch + 1, settled
            if settled is not now.weights:
                model.set_weights(now.weights)
            now.seconds.append(time.monotonic() - self.began)
            if epoch == first:  # building the graph counts in, so it is rather too much
                training.foretell(now.seconds[-1] * (last - first))

        def _finite(self, loss: float) -> float:
            if not math.isfinite(loss):
                raise CandidateFailed(stage, f"the loss became {loss} in epoch {len(now.history) + 1}")
            return loss

    if first < last:
        model.fit(
            batches(training.train, tuning["batch_size"], range(first, last), seed, targets, training.weights()),
            steps_per_epoch=steps,
            initial_epoch=first,
            epochs=last,
            callbacks=[*wrapped.callbacks, Watch()],
            verbose=0,
        )
    if len(now.history) == epochs:
        model.set_weights(now.best_weights)  # the last epoch always qualifies
    else:
        now.optimizer = [variable.numpy() for variable in model.optimizer.variables]
    return now


def _goal(stage: str, training: Training, tuning: Mapping[str, Any]) -> tuple[Any, Any]:
    """Loss and targets, as `compile` and `fit` take them."""
    manifest, labels = training.manifest, training.train.labels
    if not manifest.outputs:
        return distillation.goal(manifest.loss_function(), labels, training.taught, tuning)
    if tuning.get("distillation"):
        raise CandidateFailed(stage, "distillation needs a model with one output")
    return manifest.loss_function(), manifest.targets(labels)


def outputs(model: Any, split: Split, size: int = 256) -> np.ndarray:
    """What `predict` gives, without the pipeline that it builds each time (as long as many steps of a small model)."""
    chunks = [
        model.predict_on_batch([array[i : i + size] for array in split.inputs.values()])
        for i in range(0, len(split), size)
    ]
    return np.concatenate([side_by_side(chunk) if isinstance(chunk, list | tuple) else chunk for chunk in chunks])
