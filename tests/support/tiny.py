"""Tiny models and data: an image of 8 x 8 shows in which of its four quarters it is bright."""

import dataclasses
import functools

import numpy as np
import tf_keras

from autoopt import Task
from autoopt.compression import stages
from autoopt.compression.training import Training
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Cluster, Finetune, Quantize
from autoopt.models import loading
from autoopt.models.task import Manifest, Split
from autoopt.tflite import conversion

layers = tf_keras.layers
INPUT = "image"
WAYS = {
    "keep": Quantize(keep=1),
    "keep 2": Quantize(keep=2),
    "ends": Quantize(keep_ends=True),
    "tensor": Quantize(granularity="tensor"),
    "percentile": Quantize(ranges="percentile"),
    "mse": Quantize(ranges="mse"),
    "equalized": Quantize(equalize=True),
    "corrected": Quantize(correct_bias=True),
    "int4": Quantize(int4_dense=True),
    "int4, tensor": Quantize(int4_dense=True, granularity="tensor"),
    "int4, share": Quantize(int4_share=0.5),
    "int4, all": Quantize(int4_share=1, granularity="tensor", equalize=True, correct_bias=True),
    "by layer": Quantize(bits_by_layer={"pointwise": 4, "scores": 8}),
    "much": Quantize(keep=1, granularity="tensor", ranges="mse", equalize=True, correct_bias=True, int4_dense=True),
}
"""Every setting of how integers are made."""


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


def uneven(seed=0):
    """Layers joined by ReLUs alone, each but the last with channels of very different ranges."""
    tf_keras.utils.set_random_seed(seed)
    model = network(
        layers.Conv2D(16, 3, padding="same", activation="relu", name="first"),
        layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise"),
        layers.Conv2D(16, 1, activation="relu", name="pointwise"),
        layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu", name="strided"),
        layers.Conv2D(8, 1, activation="relu", name="narrow"),
        layers.Flatten(),
        layers.Dense(16, activation="relu", name="hidden"),
        layers.Dense(4, name="scores"),
    )
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            channels = kernel.shape[-2 if isinstance(layer, layers.DepthwiseConv2D) else -1]
            factors = np.exp(rng.normal(0, 1.5, channels) * (layer.name not in ("narrow", "hidden", "scores")))
            kernel *= factors[:, None] if isinstance(layer, layers.DepthwiseConv2D) else factors
            layer.set_weights([kernel, rng.normal(0, 0.1, bias.shape)])
    return model


def task(model, **changes):
    """A task of this model and the images."""
    splits = {"train": images(256, 1), "validation": images(128, 2), "test": images(128, 3)}
    return Task(**({"model": model} | splits | changes))


def settings(epochs=1, learning_rate=1e-3, batch_size=32, seed=0, scheme="float32", **parts):
    """The stages of a recipe with these parts: pairs of a stage's name and settings."""
    finetune = Finetune(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
    return Recipe(scheme=scheme, finetune=finetune, seed=seed, **parts).stages()


def manifest(loss="sparse_categorical_crossentropy", metric=None):
    """A checked task without model and data: what a stage reads of it."""
    accuracy = {"name": "accuracy", "direction": "max", "unit": "fraction", "function": None}
    return Manifest(
        model="", splits={}, items={}, loss=loss, metric=metric or accuracy,
        finetune={}, class_names=(), source="", path="task.py",
    )  # fmt: skip


def training(told=None, data=None, progress=lambda _: None, taught=None):
    """What stages train with."""
    first, second = data or (split(256, 1), split(128, 2))
    return Training(manifest=told or manifest(), train=first, validation=second, progress=progress, taught=taught)


def train(model, chain, told=None, data=None, progress=lambda _: None):
    """Run stages, one after the other: the last model, and the report of each."""
    reports = []
    for name, values in chain:
        model, report = stages.run(name, model, values, training(told, data, progress))
        reports.append(report)
    return model, reports


def recipe(scheme="float32", **parts):
    """A recipe that trains for one epoch a stage."""
    return Recipe(scheme=scheme, finetune=Finetune(epochs=1, learning_rate=1e-3), **parts)


@functools.cache
def packed(made_by):
    """The packed cnn behind a recipe, trained once a test session; so are those of its earlier stages."""
    chain = made_by.stages()
    if not chain:
        tf_keras.utils.set_random_seed(0)
        model = cnn()
        model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        model.fit(*images(256, 1), epochs=3, verbose=0)
        return loading.pack(model)
    last = chain[-1][0]
    model, reports = loading.unpack(
        packed(dataclasses.replace(made_by, **({"scheme": "float32"} if last == "qat" else {last: None})))
    )
    model, more = train(model, chain[-1:])
    return loading.pack(model, reports + more)


@functools.cache
def file(made_by):
    """The cnn's `.tflite` by a recipe, made once a test session."""
    calibration = split(128, 2).inputs
    if made_by.scheme in conversion.BY_QUANTIZER:
        float32 = file(dataclasses.replace(made_by, scheme="float32"))
        return conversion.quantize(float32, made_by.scheme, calibration, how=made_by.quantize)
    same = dataclasses.replace(made_by, scheme="qat_int8" if SCHEMES[made_by.scheme].qat else "float32")
    model, _ = loading.unpack(packed(same))
    if made_by.scheme == "float32":
        return conversion.float32(model)
    return (
        conversion.int16x8(model, calibration)
        if made_by.scheme == "int16x8"
        else conversion.trained(model, made_by.scheme)
    )


@functools.cache
def clustered(scheme="int8_io", fold=True, granularity="tensor"):
    """A file of 6 clusters: in whole kernels if folded and with one scale, else in each channel."""
    made_by = recipe(scheme, cluster=Cluster(number=6, fold=fold), quantize=Quantize(granularity=granularity))
    model, _ = loading.unpack(packed(dataclasses.replace(made_by, scheme="float32")))
    return conversion.quantize(conversion.float32(model), scheme, split(128, 2).inputs, how=made_by.quantize)


def unlike(model, seed=0):
    """The model with weights that are not what it began with."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.uniform(0.05, 0.2, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model
