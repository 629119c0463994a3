"""Bring a user's model in, and carry models between jobs as bytes."""

import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import rebuilding
from autoopt.errors import ConfigError

FLAT_KINDS = ("Functional", "Sequential")


def load(model: Any, where: str = "task") -> Any:
    """A user's model as a built, flat tf_keras model.

    Args:
        model: a tf_keras or Keras 3 model, or the path of an `.h5`, `.keras` or SavedModel.
        where: for messages.

    Returns:
        the tf_keras model, not compiled.

    Raises:
        ConfigError: if it is no such model, naming what was found and what to do.
    """
    import tf_keras

    if isinstance(model, (str, Path)):
        model = _read(Path(model), where)
    if rebuilding.is_keras3(model):
        model = rebuilding.rebuild(model, where)
    if not isinstance(model, tf_keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise ConfigError(f"{where}: model: expected a Keras model or a path, got {kind}")
    if type(model).__name__ not in FLAT_KINDS:
        raise ConfigError(
            f"{where}: model: expected a functional or sequential model, got the subclassed {type(model).__name__}; "
            "its layers can't be rebuilt one by one"
        )
    if not model.built or not model.inputs:
        raise ConfigError(f"{where}: model: has no input shape yet; give it an Input layer or call model.build(...)")
    if any(None in tuple(i.shape)[1:] for i in model.inputs):
        shapes = ", ".join(f"{i.name} {tuple(i.shape)}" for i in model.inputs)
        raise ConfigError(f"{where}: model: expected fixed input shapes (only the batch may vary), got {shapes}")
    return model


def _read(path: Path, where: str) -> Any:
    import tf_keras

    if not path.exists():
        raise ConfigError(f"{where}: model: no file {path}")
    if path.is_file() and _keras3(path):
        return rebuilding.read(str(path), where)
    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: model: {path} can't be read as a Keras 2 model: {reason}") from error


def _keras3(path: Path) -> bool:
    import h5py  # type: ignore[import-untyped]

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            with h5py.File(path) as file:
                version = file.attrs["keras_version"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return str(version).startswith("3")


def nested(model: Any) -> list[str]:
    """Names of the layers that are models themselves, which tfmot can't look into."""
    import tf_keras

    return [layer.name for layer in model.layers if isinstance(layer, tf_keras.Model)]


def fingerprint(model: Any) -> str:
    """SHA-256 of architecture and weights, the same in every process."""
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.shape}{weight.dtype}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def pack(model: Any, reports: Sequence[dict[str, Any]] = ()) -> bytes:
    """A model and the reports of the stages behind it, as bytes; `unpack` is the inverse."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.h5")
        with warnings.catch_warnings():
            # HDF5 is meant: tf_keras reads tfmot's layers back from it.
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
            model.save(path, include_optimizer=False, save_format="h5")
        weights = path.read_bytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (("model.h5", weights), ("reports.json", json.dumps(list(reports)).encode())):
            # A fixed date: the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def unpack(data: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """A model and the reports behind it; layers of quantization-aware training are known here."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    with zipfile.ZipFile(io.BytesIO(data)) as archive, tempfile.TemporaryDirectory() as folder:
        reports = json.loads(archive.read("reports.json"))
        path = Path(folder, "model.h5")
        path.write_bytes(archive.read("model.h5"))
        with tfmot.quantization.keras.quantize_scope():
            model = tf_keras.models.load_model(path, compile=False)
    return model, reports


def reports_of(data: bytes) -> list[dict[str, Any]]:
    """The reports alone, without loading TensorFlow."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found: list[dict[str, Any]] = json.loads(archive.read("reports.json"))
        return found


def normalized(data: bytes) -> list[str]:
    """Layers of a packed model that batch normalization comes right after, without loading TensorFlow.

    In a `.tflite` it is folded into their kernels, by a factor for each channel.
    """
    import h5py

    with zipfile.ZipFile(io.BytesIO(data)) as archive, h5py.File(io.BytesIO(archive.read("model.h5"))) as file:
        model = json.loads(file.attrs["model_config"])
    layers = model["config"]["layers"]
    names = [layer["config"]["name"] for layer in layers]
    found = []
    for place, layer in enumerate(layers):
        if layer["class_name"] != "BatchNormalization":
            continue
        if "inbound_nodes" in layer:
            found += [source[0] for node in layer["inbound_nodes"] for source in node]
        elif place:
            found.append(names[place - 1])
    return found
