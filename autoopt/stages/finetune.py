"""Fine-tuning shared by all stages: cosine learning rate, best epoch by validation, stop on divergence."""

import math
from collections.abc import Callable
from typing import Any

from autoopt import measure
from autoopt.errors import CandidateFailed
from autoopt.stages.wrapped import Wrapped
from autoopt.task import Manifest, Split

DIVERGED = 10.0
"""A loss this many times the worst before it has diverged, once the technique is in force: masks alone raise it."""
LOW = 0.1
"""A loss under this is too small to be a measure for others."""


def fit(
    stage: str,
    wrapped: Wrapped,
    tuning: dict[str, Any],
    manifest: Manifest,
    train: Split,
    validation: Split,
    progress: Callable[[str], None],
) -> tuple[list[dict[str, float]], int]:
    """Train `wrapped.model` in place and leave it with the weights of its best epoch.

    Args:
        stage: for messages.
        wrapped: the model with its scaffolding.
        tuning: fields of `Finetune`.
        manifest: loss and metric.
        train: data to train on.
        validation: data to choose the best epoch on.
        progress: told `epoch 1/3` and its like.

    Returns:
        loss and quality of each epoch, and the best epoch (counting from 1).

    Raises:
        CandidateFailed: if the loss or the quality is no finite number, or the loss explodes.
    """
    import tf_keras

    model, epochs = wrapped.model, tuning["epochs"]
    steps = -(-len(train) // tuning["batch_size"])
    rate = tf_keras.optimizers.schedules.CosineDecay(tuning["learning_rate"], decay_steps=steps * epochs)
    model.compile(optimizer=tf_keras.optimizers.Adam(rate), loss=manifest.loss_function())
    history: list[dict[str, float]] = []
    quality = manifest.quality
    best: tuple[float, int, list[Any]] | None = None

    class Watch(tf_keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            progress(f"epoch {epoch + 1}/{epochs}")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(loss := logs["loss"]):
                raise CandidateFailed(stage, f"the loss became {loss} in epoch {len(history) + 1}, step {batch + 1}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            nonlocal best
            outputs = model.predict(feed(validation), batch_size=256, verbose=0)
            value = measure.quality_value(manifest, validation.labels, outputs)
            history.append({"loss": float(logs["loss"]), quality.name: value})
            if not math.isfinite(value):
                raise CandidateFailed(stage, f"{quality.name} on validation is {value} after epoch {epoch + 1}")
            worst = max((h["loss"] for h in history[:epoch]), default=math.inf)
            if epoch > wrapped.first_epoch and logs["loss"] > DIVERGED * max(worst, LOW):
                raise CandidateFailed(
                    stage, f"diverged: loss {worst:.3g} at most before, {logs['loss']:.3g} after epoch {epoch + 1}"
                )
            score = -quality.sign * value
            if epoch >= min(wrapped.first_epoch, epochs - 1) and (best is None or score >= best[0]):
                best = (score, epoch + 1, model.get_weights())

    model.fit(
        feed(train),
        train.labels,
        batch_size=tuning["batch_size"],
        epochs=epochs,
        callbacks=[*wrapped.callbacks, Watch()],
        verbose=0,
    )
    assert best is not None  # the last epoch always qualifies
    model.set_weights(best[2])
    return history, best[1]


def feed(split: Split) -> Any:
    """A split's inputs as `fit` and `predict` take them: by position, names play no part."""
    arrays = list(split.inputs.values())
    return arrays[0] if len(arrays) == 1 else arrays
