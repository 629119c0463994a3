"""Training stages: each turns a Keras model into another one, fine-tuned, with a report of what it did.

To add one: write a module with a function like `prune.wrap`, and list it in `STAGES`.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from autoopt import models
from autoopt.errors import CandidateFailed
from autoopt.stages import cluster, finetune, prune, qat
from autoopt.stages.finetune import Progress
from autoopt.stages.wrapped import Wrapped, keep_skipped
from autoopt.task import Manifest, Split


class Stage(Protocol):
    """Prepares a model for training with its technique in the loop."""

    def __call__(self, model: Any, settings: dict[str, Any], steps_per_epoch: int) -> Wrapped:
        """Wrap `model` (which may be used up by it)."""


STAGES: dict[str, Stage] = {"prune": prune.wrap, "cluster": cluster.wrap, "qat": qat.wrap}
"""In pipeline order."""


def run(
    name: str,
    model: Any,
    settings: dict[str, Any],
    manifest: Manifest,
    train: Split,
    validation: Split,
    progress: Callable[[str], None],
    begun: Progress | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Run one stage.

    Args:
        name: a key of `STAGES`.
        model: tf_keras model; it is used up.
        settings: of the stage, with `finetune` and `seed` (see `Recipe.stages`).
        manifest: the task: loss and metric.
        train: data to train on.
        validation: data to choose the best epoch on.
        progress: told `epoch 1/3` and its like.
        begun: what `begin` gave for the same stage, to go on from.

    Returns:
        the new model and its report, plain values.

    Raises:
        CandidateFailed: if tfmot refuses the model, or training goes wrong.
    """
    started = time.monotonic()
    wrapped = _wrap(name, model, settings, len(train))
    trained = finetune.fit(
        name, wrapped, settings["finetune"], manifest, train, validation, progress, seed=settings["seed"], begun=begun
    )
    result = wrapped.unwrap(wrapped.model)
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
    }
    return result, report


def begin(
    name: str,
    model: Any,
    settings: dict[str, Any],
    manifest: Manifest,
    train: Split,
    validation: Split,
    progress: Callable[[str], None],
) -> Progress:
    """Run a stage's first epochs: until its technique is in force, so that its quality says something.

    Arguments and errors are those of `run`.
    """
    wrapped = _wrap(name, model, settings, len(train))
    until = _judged(wrapped, settings)
    tuning, seed = settings["finetune"], settings["seed"]
    return finetune.fit(name, wrapped, tuning, manifest, train, validation, progress, seed=seed, until=until)


def one_shot(name: str, model: Any, settings: dict[str, Any]) -> Any:
    """A model with a stage's masks or centroids, not trained: what it weighs, not what it is worth.

    Args:
        name: `prune` or `cluster`.
        model: tf_keras model; it is used up.
        settings: of the stage, with `finetune` and `seed`.

    Raises:
        CandidateFailed: as of `run`.
    """
    wrapped = _wrap(name, model, settings | (prune.AT_ONCE if name == "prune" else {}))
    if name == "prune":
        prune.apply(wrapped.model)
    return wrapped.unwrap(wrapped.model)


def _judged(wrapped: Wrapped, settings: dict[str, Any]) -> int:
    """The first epoch (counting from 1) whose quality is the technique's."""
    return min(wrapped.first_epoch + 1, int(settings["finetune"]["epochs"]))


def _wrap(name: str, model: Any, settings: dict[str, Any], items: int = 1) -> Wrapped:
    """The model with the stage's technique in the loop, to be trained on so many items."""
    import tf_keras

    if inside := models.nested(model):
        raise CandidateFailed(name, f"tensorflow-model-optimization can't look into the nested model {inside[0]}")
    tf_keras.utils.set_random_seed(settings["seed"])
    steps = -(-items // settings["finetune"]["batch_size"])
    try:
        wrapped = STAGES[name](model, settings, steps)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CandidateFailed(name, f"tensorflow-model-optimization refused the model: {reason}") from error
    if not wrapped.touched:
        raise CandidateFailed(name, "no layer of this model can take it")
    wrapped.callbacks.append(keep_skipped(wrapped, settings))
    return wrapped
