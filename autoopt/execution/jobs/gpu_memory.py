"""A training that finds its GPU's memory full is tried once more, with half the batch."""

import dataclasses
from collections.abc import Callable, Iterator

from autoopt.errors import CandidateFailed
from autoopt.execution.jobs.context import Context

HALVED = "half"
"""What is added to the key of a training's state: the two batches have different steps."""


def tried_twice(context: Context, train: Callable[[Context, list[str]], bytes]) -> bytes:
    """Train, and where that takes more memory than the GPU has, once more with half the batch.

    Args:
        context: of a job with the settings `finetune` and `state`.
        train: does the job; it is given what people should know of how it came about.

    Raises:
        CandidateFailed: if half the batch is too large, too.
    """
    import tensorflow as tf

    size = context.settings["finetune"]["batch_size"]
    try:
        return train(context, [])
    except (tf.errors.ResourceExhaustedError, CandidateFailed) as error:
        if not is_of_gpu(error) or size == 1:
            raise
    # Out of the handler, so that nothing holds what the first try had in memory.
    half = size // 2
    context.progress(f"out of GPU memory; again with batches of {half}")
    settings = {
        **context.settings,
        "finetune": {**context.settings["finetune"], "batch_size": half},
        "state": context.settings["state"] + HALVED,
    }
    try:
        return train(
            dataclasses.replace(context, settings=settings),
            [f"out of GPU memory with batches of {size}: trained with {half}"],
        )
    except (tf.errors.ResourceExhaustedError, CandidateFailed) as error:
        if not is_of_gpu(error):
            raise
        raise CandidateFailed(
            context.settings["stage"],
            f"out of GPU memory with batches of {size}, and of {half}; use a smaller finetune.batch_size, fewer slots, or gpus: 0",
        ) from error


def is_of_gpu(error: BaseException) -> bool:
    """Whether an error, or one that it was raised for, says that a GPU's memory is full."""
    import tensorflow as tf

    return any(isinstance(link, tf.errors.ResourceExhaustedError) and "GPU" in str(link) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
