"""Augmentation: what is done at random to the batches of a fine-tuning, and to nothing else.

What is drawn follows from the recipe's seed, the epoch and the step: the operations are traced anew for every epoch, with a
seed of its own, and whoever goes on within an epoch draws for the batches that are done, too.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.compression.ready_augmentations import READY, Batch, half, lies_on, mirrored, spread
from autoopt.models import labels as labels_of
from autoopt.models import user_code
from autoopt.models.task import Manifest

ALL, NONE = "all", "none"
"""Values of the setting `finetune.augment` beside the names of a task's augmentations."""
FLIP = "flip"

Described = Mapping[str, str]
"""An augmentation as a manifest has it: `ready`, or the `module` and `name` of a function."""


def name_of(described: Described) -> str:
    """What the setting `finetune.augment` calls it."""
    return described.get("ready") or described["name"]


def in_force(manifest: Manifest, tuning: Mapping[str, Any]) -> tuple[Described, ...]:
    """The augmentations that a fine-tuning with these settings applies, in their order."""
    wanted = tuning.get("augment", ALL)
    return tuple(each for each in manifest.augment if wanted in (ALL, name_of(each)))


def on_shares(augmentations: Sequence[Described]) -> tuple[str, ...]:
    """Names of the augmentations of a task that get labels as shares: what mixes them, and functions behind it in the list.

    A function's place in the list tells what it gets, whether the others are in force or not.
    """
    soft = [_soft(each) for each in augmentations]
    behind = augmentations[soft.index(True) :] if any(soft) else ()
    return tuple(name_of(each) for each in behind if "ready" not in each or _soft(each))


def _soft(described: Described) -> bool:
    return "ready" in described and READY[described["ready"]].soft


def smooth(labels: Any, loss: Any) -> bool:
    """Whether labels are values, between which there are others, and no classes.

    Args:
        labels: shape (items, ...), of all items.
        loss: as a manifest has it.
    """
    name, some = labels_of.loss_name(loss), labels_of.telling(labels)
    if "sparse" in name:
        return False
    near = name.startswith(labels_of.REGRESSION)
    if labels_of.ones(some):
        return near and labels.dtype.kind == "f"
    return near or not labels_of.whole(some)


def flips_alone(augmentations: Sequence[Described]) -> bool:
    """Whether an item is itself or its mirror image, and nothing else."""
    return [name_of(each) for each in augmentations if "ready" in each] == [FLIP] and len(augmentations) == 1


@dataclass(frozen=True, kw_only=True)
class Names:
    """How a user's function knows inputs and labels: by name where there are several.

    Attributes:
        inputs: of the model, in its order.
        outputs: of the model, in its order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("labels",)

    def apply(self, function: Callable[[Any, Any], Any], batch: Batch) -> Batch:
        """What a user's function makes of a batch; its shapes are those of before, whether TensorFlow sees that or not."""
        import tensorflow as tf

        inputs, labels, weights = batch
        found = function(named(self.inputs, inputs), named(self.outputs, labels))
        changed = in_order(self.inputs, found[0]), in_order(self.outputs, found[1])
        inputs, labels = tf.nest.map_structure(
            lambda new, old: tf.ensure_shape(new, old.shape), changed, (inputs, labels)
        )
        return inputs, labels, weights


def named(names: tuple[str, ...], values: Any) -> Any:
    """Values in order as a user's function gets them: a dict by name, or the only one itself."""
    return values if len(names) == 1 else dict(zip(names, values, strict=True))


def in_order(names: tuple[str, ...], values: Any) -> Any:
    """The inverse of `named`."""
    return values if len(names) == 1 else tuple(values[name] for name in names)


def made(
    augmentations: Sequence[Described],
    names: Names,
    source: str,
    path: str,
    shares: tuple[Sequence[str], Callable[[Any], Any]],
    smooth: bool,
) -> Callable[[Batch], Batch]:
    """All that is done to a batch, one after the other.

    Args:
        augmentations: as a manifest has them.
        names: of inputs and outputs.
        source: text of `task.py`, for functions in it.
        path: of `task.py`.
        shares: names of the augmentations that get labels as shares, and what makes shares of labels.
        smooth: whether labels are values, and no classes.
    """

    def own(described: Described) -> Callable[[Batch], Batch]:
        function = user_code.find(described, source, path)
        return lambda batch: names.apply(function, batch)

    def ready(name: str) -> Callable[[Batch], Batch]:
        return READY[name].make(smooth) if READY[name].moves else READY[name].make()

    steps = [ready(each["ready"]) if "ready" in each else own(each) for each in augmentations]
    turned = next((i for i, each in enumerate(augmentations) if name_of(each) in shares[0]), None)

    def apply(batch: Batch) -> Batch:
        for i, step in enumerate(steps):
            batch = step((batch[0], shares[1](batch[1]), batch[2]) if i == turned else batch)
        return batch

    return apply


def shared_out(labels: Any, output: Sequence[int | None], loss: Any) -> Any:
    """Labels as shares, which can be mixed: of classes where they are indices, else themselves as float32.

    Args:
        labels: shape (items, ...).
        output: shape of the model's output, with the items' axis.
        loss: as a manifest has it.
    """
    import tensorflow as tf

    return one_hot(labels, output) if "sparse" in labels_of.loss_name(loss) else tf.cast(labels, tf.float32)


def one_hot(labels: Any, output: Sequence[int | None]) -> Any:
    """Class indices as shares of classes, which can be mixed.

    Args:
        labels: dtype int, shape (items, ...) with or without an axis of one.
        output: shape of the model's output, with the items' axis.
    """
    import tensorflow as tf

    if len(labels.shape) == len(output):
        labels = tf.squeeze(labels, -1)
    return tf.one_hot(tf.cast(labels, tf.int32), int(output[-1] or 1))


def with_mirror(batch: Batch) -> Batch:
    """Flip a batch whose labels come with a teacher's outputs: `(labels, of the image, of its mirror)` -> `(labels, taught)`."""
    import tensorflow as tf

    inputs, (labels, plain, mirror), weights = batch
    chosen = half(inputs)
    labels, weights = (mirrored(chosen, each) if lies_on(each, inputs) else each for each in (labels, weights))
    picked = tf.where(spread(chosen, plain), mirror, plain)
    return mirrored(chosen, inputs), (labels, picked), weights


def mapped(data: Any, make: Callable[[], Callable[[Batch], Batch]], seed: int, epoch: int) -> Any:
    """A dataset's batches of one epoch as they are after augmentation.

    Args:
        data: a `tf.data.Dataset` of inputs and labels, or of inputs, labels and weights.
        make: gives what is done to a batch.
        seed: of the recipe.
        epoch: counting from 0.
    """
    import tensorflow as tf

    drawn = derived(seed, epoch)
    tf.random.set_seed(drawn)
    apply = make()

    def changed(inputs: Any, labels: Any, *weights: Any) -> Any:
        batch = apply((inputs, labels, weights[0] if weights else None))
        return batch if weights else batch[:2]

    step = tf.function(changed)
    for variable in step.get_concrete_function(*data.element_spec).graph.variables:
        reset(variable, drawn)
    found = data.map(step, num_parallel_calls=1).prefetch(2)
    tf.random.set_seed(seed)
    return found


def derived(seed: int, epoch: int) -> int:
    """A seed that follows from both: nearby ones give unrelated draws."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=4).digest(), "little")


def reset(variable: Any, seed: int) -> None:
    """Begin anew what a generator (`tf.random.Generator`, or that of a Keras layer) draws; leave other variables alone."""
    import tensorflow as tf

    algorithms = {3: "philox", 2: "threefry"}
    if variable.dtype == tf.int64 and tuple(variable.shape) in ((2,), (3,)):
        variable.assign(tf.random.create_rng_state(seed, algorithms[int(variable.shape[0])]))
