"""Tiny models and data: an image of 8 x 8 shows in which of its four quarters it is bright."""

import numpy as np
import tf_keras

from autoopt import Task
from autoopt.recipe import Finetune, Recipe
from autoopt.task import Split

layers = tf_keras.layers
INPUT = "image"


def images(n, seed):
    """`n` images of shape (8, 8, 1) with the quarter that is bright in each as its label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    x = rng.normal(0, 0.5, (n, 8, 8, 1)).astype(np.float32)
    for i, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        x[i, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    return x, labels


def split(n, seed):
    """The same as a split."""
    x, labels = images(n, seed)
    return Split(inputs={INPUT: x}, labels=labels)


def network(*stack, shape=(8, 8, 1), name=INPUT):
    """A functional model of these layers, one after the other."""
    x = inputs = layers.Input(shape, name=name)
    for layer in stack:
        x = layer(x)
    return tf_keras.Model(inputs, x)


def cnn(last="softmax"):
    """Conv2D with one input channel, BatchNorm, DepthwiseConv2D, 1x1 Conv2D, two Dense."""
    return network(
        layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise"),
        layers.ReLU(),
        layers.Conv2D(16, 1, name="pointwise"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(16, activation="relu", name="hidden"),
        layers.Dense(4, activation=last, name="scores"),
    )


def task(model, **changes):
    """A task of this model and the images."""
    splits = {"train": images(256, 1), "validation": images(128, 2), "test": images(128, 3)}
    return Task(**({"model": model} | splits | changes))


def settings(epochs=1, learning_rate=1e-3, batch_size=32, seed=0, scheme="float32", **parts):
    """The stages of a recipe with these parts: pairs of a stage's name and settings."""
    finetune = Finetune(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
    return Recipe(scheme=scheme, finetune=finetune, seed=seed, **parts).stages()
