"""What a distillation's teacher says: a job that asks it once, and what a training makes of the answer.

The teacher is the untouched model, or one of the user's own. Where augmentation makes items that nobody can foresee, it
is asked in every step instead.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from autoopt.compression import augmentation
from autoopt.compression.goals import Lessons
from autoopt.execution import teachers
from autoopt.execution.jobs.context import Context, limit_threads
from autoopt.models.task import Split

IN_STEPS = b"asked in every step"
"""The result of the job where there is nothing that could be kept."""
PLAIN = b"\x93NUMPY"
"""What `.npy` begins with."""


def teach(context: Context) -> bytes:
    """What the teacher says to the training data.

    Returns:
        `.npy`, shape (items, ...); with flips alone `.npz` with that and the same of the mirror images; `IN_STEPS`
        where augmentation does anything else.
    """
    limit_threads(context.threads)
    manifest, out = context.manifest(), io.BytesIO()
    chosen = augmentation.in_force(manifest, context.settings)
    if chosen and not augmentation.flips_alone(chosen):
        return IN_STEPS
    train = context.split("train", context.settings.get("items", 0))
    says = teachers.of_task(manifest, context.result, train).says
    if not chosen:
        np.save(out, says(train), allow_pickle=False)
    else:
        np.savez(out, taught=says(train), mirrored=says(_mirror(train)))
    return out.getvalue()


def lessons(context: Context) -> Lessons:
    """What a training is taught: by its second parent, which `teach` made."""
    if len(context.parents) < 2:
        return Lessons()
    said, manifest = context.parents[1], context.manifest()
    foreign = bool(manifest.teacher)
    if said == IN_STEPS:
        asked = teachers.of_task(manifest, context.result, context.split("train"))
        return Lessons(teacher=asked.in_step, foreign=foreign)
    if said.startswith(PLAIN):
        return Lessons(taught=np.load(io.BytesIO(said), allow_pickle=False), foreign=foreign)
    with np.load(io.BytesIO(said), allow_pickle=False) as both:
        return Lessons(taught=both["taught"], mirrored=both["mirrored"], foreign=foreign)


def lessons_on(context: Context, train: Split, tuning: Mapping[str, Any]) -> Lessons:
    """The same for a few items, without a job of its own."""
    if not tuning.get("distillation"):
        return Lessons()
    manifest = context.manifest()
    teacher, foreign = teachers.of_task(manifest, context.result, train), bool(manifest.teacher)
    chosen = augmentation.in_force(manifest, tuning)
    if chosen and not augmentation.flips_alone(chosen):
        return Lessons(teacher=teacher.in_step, foreign=foreign)
    mirrored = teacher.says(_mirror(train)) if chosen else None
    return Lessons(taught=teacher.says(train), mirrored=mirrored, foreign=foreign)


def _mirror(split: Split) -> Split:
    """The mirror images of a split with one input."""
    return Split(inputs={name: array[:, :, ::-1] for name, array in split.inputs.items()}, labels=split.labels)
