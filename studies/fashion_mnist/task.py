"""A small CNN on Fashion-MNIST, deliberately under-trained: fine-tuning alone improves it.

Reads `models/fashion_cnn.h5` and `fashion_mnist_dev.npz` (x_train, y_train, x_test, y_test; uint8)
from the folder named by AUTOOPT_DATA; by default `shared/data` beside the repository.
"""

import os
from pathlib import Path

import numpy as np

import autoopt

DATA = Path(os.environ.get("AUTOOPT_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 images of shape (items, 28, 28) as the model takes them."""
    return (images / 255).astype(np.float32)[..., None]


def task() -> autoopt.Task:
    if not DATA.is_dir():
        raise autoopt.ConfigError(
            f"{DATA}: no such folder; set AUTOOPT_DATA to one with fashion_mnist_dev.npz and models/"
        )
    with np.load(DATA / "fashion_mnist_dev.npz", allow_pickle=False) as arrays:
        x_train, y_train = scaled(arrays["x_train"]), arrays["y_train"]
        x_rest, y_rest = scaled(arrays["x_test"]), arrays["y_test"]
    half = len(x_rest) // 2
    return autoopt.Task(
        model=DATA / "models" / "fashion_cnn.h5",
        train=(x_train, y_train),
        validation=(x_rest[:half], y_rest[:half]),
        test=(x_rest[half:], y_rest[half:]),
        loss="sparse_categorical_crossentropy",
        finetune=autoopt.Finetune(epochs=2, learning_rate=1e-3, batch_size=64),
        class_names=CLASSES,
    )
