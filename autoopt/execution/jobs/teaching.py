"""What a distillation's teacher says: a job that asks it once, and what a training makes of the answer.

The teacher is the untouched model, or one of the user's own. Where augmentation makes items that nobody can foresee, it
is asked in every step instead.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autoopt.compression import augmentation
from autoopt.compression.goals import Lessons
from autoopt.execution import taught_store, teachers
from autoopt.execution.jobs.context import Context, limit_threads, to_json
from autoopt.execution.taught_store import Said
from autoopt.models.task import Split

IN_STEPS = b"asked in every step"
"""The result of the job where there is nothing that could be kept."""
PLAIN = b"\x93NUMPY"
"""What `.npy` begins with, which stores of before have."""
KEPT = b"{"
"""What the result begins with where the answers lie in files of their own."""


def teach(context: Context) -> bytes:
    """What the teacher says to the training data: files in the store, of large maps too large for a result.

    Returns:
        JSON: `taught`, the key of the files, and what was asked: `items` and `mirrored`; `IN_STEPS` where augmentation does anything but flips.
    """
    limit_threads(context.threads)
    manifest, items = context.manifest(), context.settings.get("items", 0)
    chosen = augmentation.in_force(manifest, context.settings)
    if chosen and not augmentation.flips_alone(chosen):
        return IN_STEPS
    told = {"items": items, "mirrored": bool(chosen)}
    return to_json({"taught": _ask(context, context.parents[0], **told)[0], **told})


def _ask(context: Context, model: bytes, items: int, mirrored: bool) -> tuple[str, Said]:
    """Ask the teacher about the training data, and keep what it says: its key, and all of it."""
    manifest, train = context.manifest(), context.split("train", items)
    asked = teachers.of_task(manifest, context.result, train, model)
    plain = ({"taught": part} for part in asked.in_parts(train))
    said: Iterator[Mapping[str, np.ndarray]] = plain
    if mirrored:
        pairs = zip(asked.in_parts(train), asked.in_parts(_mirror(train)), strict=True)
        said = ({"taught": part, "mirrored": mirror} for part, mirror in pairs)
    return taught_store.put(context.store, _told(context, said, len(train)), len(train))


def _told(context: Context, said: Iterator[Mapping[str, np.ndarray]], items: int) -> Iterator[Mapping[str, np.ndarray]]:
    """Pass on what a teacher says, and tell the share of the items that it was asked for."""
    done = 0
    for part in said:
        yield part
        done += len(part["taught"])
        context.progress(f"asking the teacher: {done / items:.0%}")


def lessons(context: Context) -> Lessons:
    """What a training is taught: by its second parent, which `teach` made.

    A third parent is the teacher, where that is neither the untouched model nor the task's own.
    """
    if len(context.parents) < 2:
        return Lessons()
    said, manifest = context.parents[1], context.manifest()
    foreign, model = bool(manifest.teacher), b"".join(context.parents[2:])
    if said == IN_STEPS:
        asked = teachers.of_task(manifest, context.result, context.split("train"), model)
        return Lessons(teacher=asked.in_step, foreign=foreign)
    if said.startswith(KEPT):
        told = json.loads(said)
        arrays = taught_store.get(context.store, told["taught"])
        if arrays is None:  # somebody removed the files; the job that made them counts as done
            _, arrays = _ask(context, model, told["items"], told["mirrored"])
        return Lessons(taught=arrays["taught"], mirrored=arrays.get("mirrored"), foreign=foreign)
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
