"""Studies that were never searched, with a real file and real data in their store, to write bundles of."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import stores
import tf_keras

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Measurement
from autoopt.core.recipe import Recipe
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Manifest, Split
from autoopt.study.folder import StudyFolder
from autoopt.tflite import contents, conversion
from autoopt.tflite.parts import parts

CLASSES = ("north west", "north east", "south west", "south east")
ACCURACY = {"name": "accuracy", "direction": "max", "unit": "fraction", "function": None}


def study(
    folder: Path,
    file: bytes,
    split: Split | None,
    *,
    scheme: str = "float32",
    name: str = "quarters",
    classes: tuple[str, ...] = CLASSES,
    target: str = "host",
    metric: dict[str, object] | None = None,
    loss: object = "sparse_categorical_crossentropy",
) -> SavedResults:
    """A study of one candidate: this file; its data are gone where no split is given."""
    place = StudyFolder(folder)
    place.candidates.mkdir(parents=True)
    store = Store(place.store())
    metric = metric or ACCURACY
    splits = {} if split is None else {"validation": split.digest}
    if split is not None:
        stores.put(store, split)
    manifest = Manifest(
        model="", splits=splits, items={}, loss=loss, metric=metric, finetune={}, class_names=classes,
        source="", path="task.py",
    ).to_json().encode()  # fmt: skip
    key, digest = hashlib.sha256(manifest).hexdigest(), hashlib.sha256(file).hexdigest()
    store.put(key, manifest)
    store.put(digest, file)
    measured = {str(metric["name"]): 0.9, "size_bytes": len(file), "memory_bytes": 5012}
    candidate = Candidate(
        number=1,
        recipe=Recipe(scheme=scheme),
        measurements={name: Measurement.exact(value, "made up") for name, value in measured.items()},
        proof=contents.read(file).to_dict() | {"parts": [dataclasses.asdict(part) for part in parts(file)]},
        file=digest,
        sha256=digest,
    )
    place.candidate_file(1).write_text(json.dumps(candidate.to_dict()))
    header = {
        "study": name,
        "quality": {key: metric[key] for key in ("name", "direction", "unit")},
        "objectives": [metric["name"], "size_bytes"],
        "budgets": [],
        "manifest": key,
        "provenance": {
            "target": target,
            "class_names": list(classes),
            "device": {"runtime": "tflite-micro 0", "system": "64-bit structures"},
        },
    }
    place.header.write_text(json.dumps(header))
    return autoopt.load(folder)


def bundle(folder: Path, file: bytes, split: Split | None, **more: object) -> Path:
    """The bundle of that candidate, under `folder`."""
    (folder / "study").mkdir(parents=True)
    return study(folder / "study", file, split, **more).export(1, folder / "bundle")  # type: ignore[arg-type]


def two_headed(folder: Path, scheme: str = "float32") -> Path:
    """The bundle of a file with two inputs and two outputs, each of a shape of its own."""
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(1)
    a, b = layers.Input((4,), name="zebra"), layers.Input((3,), name="ant")
    both = layers.Concatenate()([a, b])
    where, what = layers.Dense(2, name="where")(both), layers.Dense(5, activation="softmax", name="what")(both)
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((20, size)).astype(np.float32) for name, size in (("zebra", 4), ("ant", 3))}
    file = conversion.float32(tf_keras.Model([a, b], [where, what]))
    if scheme != "float32":
        file = conversion.quantize(file, scheme, inputs)
    return bundle(
        folder, file, Split(inputs=inputs, labels=np.zeros((20, 7))), scheme=scheme, classes=(),
        loss={"outputs": {"where": "mse", "what": "categorical_crossentropy"}},
        metric=ACCURACY | {"name": "mae", "function": {}},
    )  # fmt: skip


def samples(folder: Path) -> dict[str, np.ndarray]:
    """What a bundle's `samples.npz` holds."""
    with np.load(folder / "samples.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def card(folder: Path) -> dict[str, object]:
    """A bundle's card."""
    return dict(json.loads((folder / "card.json").read_text()))
