"""Training stages: each turns a Keras model into another one, fine-tuned, with a report of what it did.

To add one: write a module with a function like `weight_pruning.wrap`, and list it in `STAGES`.
"""

import dataclasses
import time
from typing import Any, Protocol

from autoopt.compression import (
    channel_pruning,
    clustering,
    data_limit,
    further_training,
    levels,
    quantization_aware,
    weight_pruning,
)
from autoopt.compression import training as finetune
from autoopt.compression.training import Training
from autoopt.compression.training_state import Progress
from autoopt.compression.wrapping import KEPT, Wrapped, keep_skipped, thaw
from autoopt.errors import CandidateFailed, one_line
from autoopt.models.opaque import ClosedModel


class Stage(Protocol):
    """Prepares a model for training with its technique in the loop."""

    def __call__(self, model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
        """Wrap `model` (which may be used up by it); without `training` it is not to be trained."""


STAGES: dict[str, Stage] = {
    "tune": further_training.wrap,
    "channels": channel_pruning.wrap,
    "prune": weight_pruning.wrap,
    "cluster": clustering.wrap,
    "levels": levels.wrap,
    "qat": quantization_aware.wrap,
}
"""In pipeline order."""


def run(
    name: str, model: Any, settings: dict[str, Any], training: Training, begun: Progress | None = None
) -> tuple[Any, dict[str, Any]]:
    """Run one stage.

    Args:
        name: a key of `STAGES`.
        model: tf_keras model; it is used up.
        settings: of the stage, with `finetune` and `seed` (see `Recipe.stages`).
        training: what it trains with.
        begun: what `begin` gave for the same stage, or what was kept when it was stopped, to go on from.

    Returns:
        the new model and its report, plain values.

    Raises:
        CandidateFailed: if tfmot refuses the model, or training goes wrong.
    """
    started = time.monotonic()
    wrapped = _wrap(name, model, settings, training)
    trained = finetune.fit(name, wrapped, settings["finetune"], training, seed=settings["seed"], begun=begun)
    result = wrapped.unwrap(wrapped.model)
    told = [*wrapped.notes, *data_limit.notes(trained.history, training.manifest.quality, wrapped.first_epoch)]
    report = {
        "stage": name,
        "touched": wrapped.describe(result),
        "skipped": wrapped.skipped,
        "epochs": trained.history,
        "best_epoch": trained.best,
        "judged_epoch": _judged(wrapped, settings),
        "seconds": round(time.monotonic() - started, 3),
        # The first epoch also builds the graph; where it is the only one, it is all that is known.
        "epoch_seconds": round(min(trained.seconds, default=0.0), 3),
        **wrapped.facts,
    }
    return result, report | ({"notes": told} if told else {})


def begin(
    name: str, model: Any, settings: dict[str, Any], training: Training, begun: Progress | None = None
) -> Progress:
    """Run a stage's first epochs: until its technique is in force, so that its quality says something.

    Arguments and errors are those of `run`. Where `begun` has come further already, its later epochs are not told.
    """
    wrapped = _wrap(name, model, settings, training)
    until = _judged(wrapped, settings)
    reached = finetune.fit(
        name, wrapped, settings["finetune"], training, seed=settings["seed"], begun=begun, until=until
    )
    return dataclasses.replace(reached, history=reached.history[:until])


def one_shot(name: str, model: Any, settings: dict[str, Any], training: Training | None = None) -> Any:
    """A model with a stage's masks, centroids or levels, or without its channels, not trained: what it weighs, not its worth.

    Args:
        name: `channels`, `prune`, `cluster` or `levels`.
        model: tf_keras model; it is used up.
        settings: of the stage, with `finetune` and `seed`.
        training: data, for settings that choose by it.

    Raises:
        CandidateFailed: as of `run`.
    """
    wrapped = _wrap(name, model, settings | (weight_pruning.AT_ONCE if name == "prune" else {}), training)
    if name == "prune":
        weight_pruning.apply(wrapped.model)
    return wrapped.unwrap(wrapped.model)


def _judged(wrapped: Wrapped, settings: dict[str, Any]) -> int:
    """The first epoch (counting from 1) whose quality is the technique's."""
    return min(wrapped.first_epoch + 1, int(settings["finetune"]["epochs"]))


def _wrap(name: str, model: Any, settings: dict[str, Any], training: Training | None) -> Wrapped:
    """The model with the stage's technique in the loop."""
    import tf_keras

    maker = "autoopt" if name in ("tune", "channels", "levels") else "tensorflow-model-optimization"
    if isinstance(model, ClosedModel):
        raise CandidateFailed(name, model.why)
    tf_keras.utils.set_random_seed(settings["seed"])
    if settings["finetune"].get("frozen", "train") == "train":
        thaw(model)
    try:
        wrapped = STAGES[name](model, settings, training)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise CandidateFailed(name, f"{maker} can't take the model: {one_line(error, 300)}") from error
    if not wrapped.touched:
        alone = f": of {row['layer']}, {KEPT}" if (row := _kept(wrapped)) else ""
        raise CandidateFailed(name, f"no layer of this model can take it{alone}")
    if not wrapped.model.trainable_variables:
        raise CandidateFailed(name, "nothing is left to train: all layers are frozen, and finetune.frozen is keep")
    wrapped.callbacks.append(keep_skipped(wrapped, settings))
    return wrapped


def _kept(wrapped: Wrapped) -> dict[str, str] | None:
    """The first layer that was left alone because it is frozen."""
    return next((row for row in wrapped.skipped if row["why"] == KEPT), None)
