"""ResNet-8 of MLPerf Tiny (Apache-2.0) on CIFAR-10.

Reads `models/ic_resnet8.h5` and `cifar10_dev.npz` (x_train, y_train, x_test, y_test; images as uint8)
from the folder named by AUTOOPT_DATA; by default `shared/data` beside the repository.
"""

import os
from pathlib import Path

import numpy as np

import autoopt

DATA = Path(os.environ.get("AUTOOPT_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def task() -> autoopt.Task:
    if not DATA.is_dir():
        raise autoopt.ConfigError(f"{DATA}: no such folder; set AUTOOPT_DATA to one with cifar10_dev.npz and models/")
    with np.load(DATA / "cifar10_dev.npz", allow_pickle=False) as arrays:
        x_train, y_train = arrays["x_train"], arrays["y_train"].reshape(-1)
        x_rest, y_rest = arrays["x_test"], arrays["y_test"].reshape(-1)
    half = len(x_rest) // 2
    return autoopt.Task(
        model=DATA / "models" / "ic_resnet8.h5",
        train=(x_train, y_train),
        validation=(x_rest[:half], y_rest[:half]),
        test=(x_rest[half:], y_rest[half:]),
        loss="sparse_categorical_crossentropy",
        finetune=autoopt.Finetune(epochs=2, learning_rate=3e-4, batch_size=64),
        class_names=CLASSES,
    )
