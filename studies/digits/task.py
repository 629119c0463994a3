"""scikit-learn's handwritten digits (8x8, upsampled to 16x16) and a small CNN, trained here once."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import autoopt

BASELINE = Path(__file__).parent / "out" / "baseline.h5"


def data() -> dict[str, Any]:
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)[..., None]
    x_train, x_rest, y_train, y_rest = train_test_split(
        images, digits.target, test_size=800, random_state=0, stratify=digits.target
    )
    x_validation, x_test, y_validation, y_test = train_test_split(
        x_rest, y_rest, test_size=400, random_state=0, stratify=y_rest
    )
    return {"train": (x_train, y_train), "validation": (x_validation, y_validation), "test": (x_test, y_test)}


def network() -> tf_keras.Model:
    layers = tf_keras.layers
    inputs = layers.Input((16, 16, 1))
    x = inputs
    for filters, stride in ((32, 1), (64, 2), (64, 2)):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    return tf_keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def baseline(train: tuple[np.ndarray, np.ndarray]) -> tf_keras.Model:
    """The trained network, from a file after the first time."""
    if not BASELINE.exists():
        tf_keras.utils.set_random_seed(0)
        model = network()
        steps = 15 * -(-len(train[0]) // 32)
        rate = tf_keras.optimizers.schedules.CosineDecay(2e-3, steps)
        model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(*train, epochs=15, batch_size=32, verbose=0)
        BASELINE.parent.mkdir(exist_ok=True)
        unfinished = BASELINE.with_suffix(f".{os.getpid()}.h5")
        model.save(unfinished)
        unfinished.rename(BASELINE)
    return tf_keras.models.load_model(BASELINE, compile=False)


def task() -> autoopt.Task:
    splits = data()
    return autoopt.Task(
        model=baseline(splits["train"]),
        **splits,
        loss="sparse_categorical_crossentropy",
        finetune=autoopt.Finetune(epochs=2, learning_rate=1e-3, batch_size=32),
        class_names=tuple(str(digit) for digit in range(10)),
    )
