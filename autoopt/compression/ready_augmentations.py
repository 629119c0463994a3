"""Augmentations that are known by name: what each does to a batch, and which data it is for.

Each draws its random numbers from TensorFlow's operations or Keras' layers; see `augmentation` for how these are seeded.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SHIFTED = 0.1
"""An image is shifted by up to this share of its height and width (Keras' RandomTranslation)."""
CROPPED = 0.8
"""An image is cut down to this share of its height and width or more."""
MIXED = 0.2
"""Both parameters of the beta distribution of weights in mixup (Zhang et al. 2018)."""
MASKED = 0.2
"""A band that SpecAugment masks is up to this share of the axis (Park et al. 2019)."""
NOISE = 0.1
"""The standard deviation of the noise, against that of the batch."""
SMOOTH, SHARP = "bilinear", "nearest"
"""Ways in which values between pixels are made."""

Batch = tuple[Any, Any, Any]
"""Inputs, labels and weights (or None): tensors with items first."""
Shape = Sequence[int | None]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An augmentation that is known by name.

    Attributes:
        make: gives what is done to a batch; called anew for every epoch. What moves things takes whether labels that are maps
            are `smooth`; without it floats are.
        ranks: that inputs may have, with the items' axis.
        moves: it moves things within an image: labels, and weights, that are maps go along.
        keeps: an input's values stay, though elsewhere: also those that are looked up, or that mark padding.
        mixes: it adds up items, or adds to them: inputs that are indices can't take it.
        soft: labels become shares of classes.
    """

    make: Callable[..., Callable[[Batch], Batch]]
    ranks: tuple[int, ...]
    moves: bool = False
    keeps: bool = False
    mixes: bool = False
    soft: bool = False


def is_map(labels: Shape, inputs: Shape) -> bool:
    """Whether labels lie on the image of an input; both shapes are with the items' axis."""
    return len(labels) >= 3 and tuple(labels[1:3]) == tuple(inputs[1:3])


def mirrored(chosen: Any, values: Any) -> Any:
    """The chosen images, or maps, of a batch from right to left.

    Args:
        chosen: dtype bool, shape (items,).
        values: shape (items, height, width, ...).
    """
    import tensorflow as tf

    return tf.where(spread(chosen, values), tf.reverse(values, [2]), values)


def spread(part: Any, values: Any) -> Any:
    """Something with the first axes of `values`, and axes of one for the others, so that it is broadcast over them."""
    for _ in range(len(values.shape) - len(part.shape)):
        part = part[..., None]
    return part


def half(values: Any) -> Any:
    """Half of the items at random: dtype bool, shape (items,).

    Keras' RandomFlip tells nobody which ones it took, but labels and a teacher's outputs have to follow.
    """
    import tensorflow as tf

    return tf.random.uniform([tf.shape(values)[0]]) < 0.5


def _flip(smooth: bool | None = None) -> Callable[[Batch], Batch]:
    def apply(batch: Batch) -> Batch:
        inputs = batch[0]
        chosen = half(inputs)

        def along(values: Any) -> Any:
            return mirrored(chosen, values) if lies_on(values, inputs) else values

        return mirrored(chosen, inputs), along(batch[1]), along(batch[2])

    return apply


def lies_on(values: Any, inputs: Any) -> bool:
    """Whether labels or weights, or None, are a map of the images."""
    return values is not None and is_map(values.shape, inputs.shape)


def _shift(smooth: bool | None = None) -> Callable[[Batch], Batch]:
    import tf_keras

    seed = _seed()  # the same for all, so that a map is moved as its image is

    def layer(how: str) -> Any:
        return tf_keras.layers.RandomTranslation(SHIFTED, SHIFTED, fill_mode="nearest", interpolation=how, seed=seed)

    # A layer draws anew in every call, so each of the three parts of a batch has one of its own.
    layers = [{how: layer(how) for how in (SMOOTH, SHARP)} for _ in range(3)]

    def apply(batch: Batch) -> Batch:
        return _moved(batch, smooth, lambda part, values, how: layers[part][how](values, training=True))

    return apply


def _moved(batch: Batch, smooth: bool | None, move: Callable[[int, Any, str], Any]) -> Batch:
    """A batch with images that were moved, and with the labels and weights that are maps of them.

    Values between pixels are made of labels as of their image where labels are values; of classes the nearest one is taken.

    Args:
        batch: of images.
        smooth: whether labels are values; None where their type has to tell.
        move: of a part of the batch (0 to 2) with values of float32, shape (items, height, width, channels), and the way in
            which values between pixels are made.
    """
    import tensorflow as tf

    inputs, labels, weights = batch
    values = labels.dtype.is_floating if smooth is None else smooth

    def along(part: int, map_: Any, how: str) -> Any:
        if part and not lies_on(map_, inputs):
            return map_
        shape = tf.shape(map_)
        depth = math.prod(map_.shape[3:])
        image = tf.reshape(tf.cast(map_, tf.float32), (-1, *map_.shape[1:3], depth))
        return _like(tf.reshape(move(part, image, how), shape), map_)

    return along(0, inputs, SMOOTH), along(1, labels, SMOOTH if values else SHARP), along(2, weights, SHARP)


def _seed() -> int:
    """A seed that follows from the one that TensorFlow has."""
    import tensorflow as tf

    return int(tf.random.uniform([], 1, 2**30, tf.int32))


def _crop(smooth: bool | None = None) -> Callable[[Batch], Batch]:
    import tensorflow as tf

    def apply(batch: Batch) -> Batch:
        inputs = batch[0]
        number = tf.shape(inputs)[0]
        size = tf.random.uniform([number, 1], CROPPED, 1.0)
        start = tf.random.uniform([number, 2]) * (1 - size)
        boxes, rows, frame = tf.concat([start, start + size], axis=1), tf.range(number), inputs.shape[1:3]

        def cut(part: int, values: Any, how: str) -> Any:
            return tf.image.crop_and_resize(values, boxes, rows, frame, method=how)

        return _moved(batch, smooth, cut)

    return apply


def _mixup() -> Callable[[Batch], Batch]:
    import tensorflow as tf

    def apply(batch: Batch) -> Batch:
        inputs, labels, weights = batch
        number = tf.shape(inputs)[0]
        order = tf.random.shuffle(tf.range(number))
        one, other = (tf.random.gamma([number], MIXED) + 1e-30 for _ in range(2))
        share = tf.maximum(one, other) / (one + other)  # so that an item stays the greater part of its own mixture

        def blend(values: Any, part: Any) -> Any:
            """Each item with its partner; the axes of `part` are the first ones of `values`."""
            part = spread(part, values)
            return part * values + (1 - part) * tf.gather(values, order)

        mixed, soft = _like(blend(tf.cast(inputs, tf.float32), share), inputs), tf.cast(labels, tf.float32)
        if weights is None:
            return mixed, blend(soft, share), None
        weights = tf.cast(weights, tf.float32)
        together = blend(weights, share)
        part = tf.math.divide_no_nan(
            spread(share, weights) * weights, together
        )  # crossentropy is linear in labels: the loss is exact
        return mixed, blend(soft, part), together

    return apply


def _specaugment() -> Callable[[Batch], Batch]:
    import tensorflow as tf

    def apply(batch: Batch) -> Batch:
        inputs, labels, weights = batch
        values = tf.cast(inputs, tf.float32)
        usual = tf.reduce_mean(values, axis=list(range(1, len(values.shape))), keepdims=True)
        for axis in (1, 2):
            size, number = tf.cast(tf.shape(values)[axis], tf.float32), tf.shape(values)[0]
            width = tf.random.uniform([number, 1], 0.0, MASKED) * size
            start = tf.random.uniform([number, 1]) * (size - width)
            place = tf.range(size)[None, :] + 0.5
            band = (place >= start) & (place < start + width)
            around = [1] * len(values.shape)
            around[0], around[axis] = -1, int(values.shape[axis])
            values = tf.where(tf.reshape(band, around), usual, values)
        return _like(values, inputs), labels, weights

    return apply


def _noise() -> Callable[[Batch], Batch]:
    import tensorflow as tf
    import tf_keras

    layer = tf_keras.layers.GaussianNoise(1.0)

    def apply(batch: Batch) -> Batch:
        inputs, labels, weights = batch
        values = tf.cast(inputs, tf.float32)
        noise = layer(tf.zeros_like(values), training=True)
        return _like(values + NOISE * tf.math.reduce_std(values) * noise, inputs), labels, weights

    return apply


def _like(values: Any, inputs: Any) -> Any:
    """Values of float32 in the shape and type of the inputs that they were made of."""
    import tensorflow as tf

    if inputs.dtype.is_integer:
        values = tf.clip_by_value(tf.round(values), inputs.dtype.min, inputs.dtype.max)
    return tf.ensure_shape(tf.cast(values, inputs.dtype), inputs.shape)


IMAGES, SPECTRA, ANY = (4,), (3, 4), (2, 3, 4, 5)
READY: dict[str, Ready] = {
    "flip": Ready(make=_flip, ranks=IMAGES, moves=True, keeps=True),
    "shift": Ready(make=_shift, ranks=IMAGES, moves=True),
    "crop": Ready(make=_crop, ranks=IMAGES, moves=True),
    "mixup": Ready(make=_mixup, ranks=ANY, mixes=True, soft=True),
    "specaugment": Ready(make=_specaugment, ranks=SPECTRA),
    "noise": Ready(make=_noise, ranks=ANY, mixes=True),
}
"""All augmentations that are known by name."""
