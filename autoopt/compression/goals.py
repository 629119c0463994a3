"""What a stage trains towards: its loss, its targets, and what becomes of a batch before it is trained on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.compression import augmentation, distillation
from autoopt.compression.augmentation import Names
from autoopt.compression.batches import IN_MEMORY, Rows, feed
from autoopt.compression.ready_augmentations import Batch
from autoopt.errors import CandidateFailed
from autoopt.models import labels as labels_of
from autoopt.models.task import Manifest, Split

SAMPLE = 64
"""Items on which it is looked at whether outputs are probabilities."""

Teacher = Callable[[Any], Any]
"""Inputs of a batch by position, tensors -> the teacher's outputs, a tensor."""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a teacher says: to each item, also to its mirror image, or asked in every step.

    Attributes:
        taught: its outputs, shape (items, ...).
        mirrored: its outputs for the mirror images.
        teacher: where it has to be asked for what augmentation makes of the items.
        foreign: it is a teacher of the user's own, whose outputs may be of another kind than the model's.
    """

    taught: np.ndarray | None = None
    mirrored: np.ndarray | None = None
    teacher: Teacher | None = None
    foreign: bool = False


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a stage trains towards.

    Attributes:
        loss: as `compile` takes it.
        targets: stand for the labels of the training data.
        change: gives anew for every epoch what is done to a batch; None for nothing.
        teacher: is asked in every step, and what it says joins the labels.
    """

    loss: Any
    targets: Any
    change: Callable[[], Callable[[Batch], Batch]] | None = None
    teacher: Teacher | None = None


def of(
    stage: str,
    manifest: Manifest,
    train: Split,
    lessons: Lessons,
    tuning: Mapping[str, Any],
    model: Any,
    outputs: Callable[[Any, Split], np.ndarray],
) -> Goal:
    """The goal of a stage.

    Args:
        stage: for messages.
        manifest: the task: its loss and augmentation.
        train: the training data.
        lessons: of the teacher, for distillation.
        tuning: fields of `Finetune`.
        model: that is trained.
        outputs: gives those of a model for a split.
    """
    chosen = augmentation.in_force(manifest, tuning)
    distilled = bool(tuning.get("distillation"))
    if manifest.outputs and distilled:
        raise CandidateFailed(stage, "distillation needs a model with one output")
    names = Names(
        inputs=tuple(train.inputs), outputs=tuple(o.name for o in manifest.outputs) or Names(inputs=()).outputs
    )
    loss, targets = manifest.loss_function(), _targets(manifest, train.labels)
    own = outputs(model, train.part(0, SAMPLE)) if distilled and lessons.foreign else None
    if not chosen:
        if distilled:
            loss, targets = distillation.goal(loss, targets, lessons.taught, tuning, own)
        return Goal(loss=loss, targets=targets)
    changing = _Changing(manifest, names, chosen, model.output_shape, loss, train.labels)
    if not distilled or (lessons.taught is None and lessons.teacher is None):
        return Goal(loss=changing.loss, targets=targets, change=changing.make)
    place, dtype = changing.labels(train.labels)
    if lessons.mirrored is not None:
        assert lessons.taught is not None
        mixed = distillation.mixed(changing.loss, place, dtype, lessons.taught, tuning, own)
        return Goal(loss=mixed, targets=(targets, lessons.taught, lessons.mirrored), change=lambda: _picked)
    assert lessons.teacher is not None
    example = np.asarray(lessons.teacher(feed(train.part(0, SAMPLE))))
    mixed = distillation.mixed(changing.loss, place, dtype, example, tuning, own)
    return Goal(loss=mixed, targets=targets, change=changing.make, teacher=lessons.teacher)


def _targets(manifest: Manifest, labels: np.ndarray) -> Any:
    """Labels as `fit` takes them; those of several outputs are taken apart batch by batch where they are large."""
    if not manifest.outputs or labels.nbytes <= IN_MEMORY:
        return manifest.targets(labels)

    def of_output(i: int, shape: tuple[int, ...]) -> Rows:
        def made(places: np.ndarray) -> Any:
            return manifest.targets(labels[places])[i]

        return Rows(shape=(len(labels), *shape), dtype=labels.dtype, made=made)

    return tuple(of_output(i, output.labels) for i, output in enumerate(manifest.outputs))


def _picked(batch: Batch) -> Batch:
    """A flipped batch with labels and what was taught in one tensor."""
    inputs, (labels, taught), weights = augmentation.with_mirror(batch)
    return inputs, distillation.joined(labels, taught), weights


class _Changing:
    """Augmentation of a task, with the loss that its labels need."""

    def __init__(self, manifest: Manifest, names: Names, chosen: Any, output: Any, loss: Any, labels: Any) -> None:
        self.manifest, self.names, self.chosen, self.output = manifest, names, chosen, output
        self.on_shares = augmentation.on_shares(manifest.augment)
        self.soft = any(augmentation.name_of(each) in self.on_shares for each in chosen)
        self.hot = self.soft and "sparse" in labels_of.loss_name(manifest.loss)
        self.smooth = not manifest.outputs and augmentation.smooth(labels, manifest.loss)
        self.loss = loss
        if self.hot:
            import tf_keras

            given = labels_of.settings(manifest.loss)
            kept = {name: given[name] for name in ("from_logits", "reduction") if name in given}
            self.loss = tf_keras.losses.CategoricalCrossentropy(**kept)

    def labels(self, given: np.ndarray) -> tuple[tuple[int, ...], Any]:
        """Shape of an item's labels, and their type, behind the augmentation."""
        if self.hot:
            return tuple(int(size) for size in self.output[1:]), np.dtype(np.float32)
        return given.shape[1:], np.dtype(np.float32) if self.soft else given.dtype

    def make(self) -> Callable[[Batch], Batch]:
        """What is done to a batch."""
        manifest = self.manifest

        def shares(labels: Any) -> Any:
            return augmentation.shared_out(labels, self.output, manifest.loss)

        return augmentation.made(
            self.chosen, self.names, manifest.source, manifest.path, (self.on_shares, shares), self.smooth
        )


@contextmanager
def asking(model: Any, teacher: Teacher | None) -> Iterator[None]:
    """Have the teacher asked in every training step of a model, on the inputs that the model gets."""
    if teacher is None:
        yield
        return
    step = model.train_step

    def taught_step(data: Any) -> Any:
        inputs, labels, *weights = data
        return step((inputs, distillation.joined(labels, teacher(inputs)), *weights))

    model.train_step = taught_step
    try:
        yield
    finally:
        del model.train_step
