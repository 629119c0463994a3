"""Bring a user's model in, and carry models between jobs as bytes."""

import hashlib
import io
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import ConfigError, one_line, retold
from autoopt.models import keras3, keras_files, opaque, saved_models, user_code
from autoopt.models.flatten import flatten
from autoopt.models.graph_replay import NotRebuilt, reason
from autoopt.models.input_shapes import expect_fixed, expect_numbers, expect_sizes
from autoopt.models.keras_internals import all_layers, functional_class, safe_mode
from autoopt.models.opaque import ClosedModel
from autoopt.system import foreign_files

FLAT_KINDS = ("Functional", "Sequential")
"""Names of the classes whose models are nothing but graphs of layers."""
LIBRARIES = ("tf_keras", "tensorflow_model_optimization", "autoopt")
"""Whose layers every job knows."""
ENDS = "ends.json"
"""In a packed model: the names of several outputs, which stages give to other layers."""
NO_LAYERS = "it is a SavedModel without Keras layers"
WEIGHTS_ALONE = "build the model in Python, load_weights into it, and save the whole model: model.save('model.keras')"
CODE = "code.json"
"""In a packed model: where its layers of the user's own are found."""


def load(
    model: Any,
    where: str = "task",
    *,
    custom_objects: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    signature: str = "",
    input_size: Any = (),
    notes: list[str] | None = None,
) -> Any:
    """A user's model as a built, flat tf_keras model, or as what it converts to where it has no graph of layers.

    Args:
        model: a tf_keras or Keras 3 model, or the path of an `.h5`, `.keras`, SavedModel or float32 `.tflite`.
        where: for messages.
        custom_objects: layers and functions of the user's own, by name; for a Keras 3 model its own classes, or the
            tf_keras layers that stand for them.
        allow_code: a Lambda layer's code, which a file brings with it, may run.
        signature: of a SavedModel, which then has no layers; by default the only one, or `serving_default`.
        input_size: of the axes beside the batch that the inputs leave open, in their order.
        notes: what people should know of what became of the model is added to it.

    Returns:
        the tf_keras model, not compiled; or a `ClosedModel`.

    Raises:
        ConfigError: if it is no such model, naming what was found and what to do.
    """
    sizes = expect_sizes(input_size, where)
    own = by_own_names(custom_objects or {})
    advice = "a float32 .tflite that TensorFlow made of it can be given instead"
    with retold(
        lambda error: ConfigError(
            f"{where}: model: can't be taken in ({type(error).__name__}: {reason(error)}); {advice}"
        )
    ):
        return _load(model, where, own, allow_code, signature, sizes, notes)


def _load(
    model: Any,
    where: str,
    custom_objects: dict[str, Any],
    allow_code: bool,
    signature: str,
    sizes: tuple[int, ...],
    notes: list[str] | None,
) -> Any:
    import tf_keras

    if signature and not (isinstance(model, (str, Path)) and Path(model).is_dir()):
        raise ConfigError(f"{where}: signature: {signature!r} is for the folder of a SavedModel; leave it out")
    tf_keras.utils.get_custom_objects().update(custom_objects)
    if isinstance(model, (str, Path)):
        model = _read(Path(model), where, custom_objects, allow_code, signature, sizes)
    if isinstance(model, ClosedModel):
        expect_numbers(model, where)
        return expect_fixed(model, where)
    if keras3.is_keras3(model) and (inside := keras3.subclassed(model)) is not None:
        why = f"{inside} is subclassed: its layers can't be rebuilt one by one"
        return expect_fixed(opaque.close_keras3(model, why, where, sizes), where)
    if keras3.is_keras3(model):
        try:
            model = keras3.rebuild(model, where, sizes, notes)
        except NotRebuilt as error:
            return expect_fixed(opaque.close_keras3(model, _explained(error), where, sizes), where)
    if not isinstance(model, tf_keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise ConfigError(f"{where}: model: expected a Keras model or a path, got {kind}")
    if (inside := subclassed(model)) is not None:
        why = f"{inside} is subclassed: its layers can't be rebuilt one by one"
        return expect_fixed(opaque.close(model, why, where, sizes), where)
    if not model.built or not model.inputs:
        raise ConfigError(f"{where}: model: has no input shape yet; give it an Input layer or call model.build(...)")
    expect_numbers(model, where)
    if len({id(tensor) for tensor in model.outputs}) < len(model.outputs):
        raise ConfigError(f"{where}: model: two of its outputs are the same tensor; leave one out")
    for layer in model.layers:
        if getattr(layer, "stateful", False) and isinstance(layer, tf_keras.layers.RNN):
            raise ConfigError(
                f"{where}: model: the layer {layer.name} is stateful: what it says of an item hangs on those before; "
                "build it with stateful=False"
            )
    if not sizes:
        expect_fixed(model, where)
    try:
        flat = flatten(model, where, sizes, notes)
    except NotRebuilt as error:
        return expect_fixed(opaque.close(model, _explained(error), where, sizes), where)
    _expect_known(flat, custom_objects, where)
    return flat


def by_own_names(custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    """Objects by the names that they were given, and classes by their own too: saved layers are found by those."""
    return {made.__name__: made for made in custom_objects.values() if isinstance(made, type)} | dict(custom_objects)


def _explained(error: NotRebuilt) -> str:
    """Why a model stays as it is, and how to get more of it."""
    return f"{error} (to have it trained too, {error.advice})" if error.advice else str(error)


def _expect_known(model: Any, custom_objects: Mapping[str, Any], where: str) -> None:
    """Check that a job can build the model's layers again."""
    for layer in model.layers:
        for one in (layer, getattr(layer, "layer", layer)):
            kind = type(one).__name__
            if type(one).__module__.partition(".")[0] not in LIBRARIES and kind not in custom_objects:
                raise ConfigError(
                    f"{where}: model: the layer {one.name} is a {kind} of your own; "
                    f"give the task its class: custom_objects={{'{kind}': {kind}}}"
                )


def plain_kind(model: Any) -> bool:
    """Whether a tf_keras model computes what its graph of layers says: its class may bring a training of its own."""
    from tf_keras import Sequential

    functional = functional_class()
    return isinstance(model, functional | Sequential) and type(model).call in (functional.call, Sequential.call)


def subclassed(model: Any) -> str | None:
    """The class of a tf_keras model, or of one inside it, that has no graph of layers; None if all have one."""
    import tf_keras

    if not plain_kind(model):
        return type(model).__name__
    inside = [subclassed(layer) for layer in model.layers if isinstance(layer, tf_keras.Model)]
    return next((name for name in inside if name is not None), None)


def _read(
    path: Path,
    where: str,
    custom_objects: Mapping[str, Any],
    allow_code: bool,
    signature: str,
    sizes: tuple[int, ...],
) -> Any:
    import tf_keras

    if not path.exists():
        raise ConfigError(f"{where}: model: no file {path}")
    if path.suffix == ".tflite":
        return opaque.read(path, where)
    known = _known(custom_objects)
    _expect_model(path, where)
    if path.is_dir():
        saved_models.check(path, where, allow_code=allow_code)
        if not allow_code and (why := saved_models.unsafe_layers(path, known)) is not None:
            return opaque.saved_model(path, f"{why}: only its graph is taken", where, signature, sizes)
    elif keras_files.check(path, where, known, allow_code=allow_code):
        return keras3.read(str(path), where, custom_objects, allow_code)
    if signature and signature != opaque.DEFAULT:
        return opaque.saved_model(path, f"its signature {signature} is a function, not layers", where, signature, sizes)
    begin = f"{where}: model: {path} can't be read as a Keras 2 model"
    try:
        with retold(lambda error: ConfigError(f"{begin}: {_unread(error)}")), safe_mode(not allow_code):
            model = tf_keras.models.load_model(path, compile=False, safe_mode=not allow_code)
    except ConfigError:
        if path.is_dir() and (path / "saved_model.pb").exists():
            return opaque.saved_model(path, NO_LAYERS, where, input_size=sizes)
        raise
    if not path.is_dir():
        return model
    if not isinstance(model, tf_keras.Model):
        return opaque.saved_model(path, NO_LAYERS, where, input_size=sizes)
    if (inside := subclassed(model)) is not None:
        why = f"{inside} is subclassed: its layers can't be rebuilt one by one"
        return opaque.saved_model(path, why, where, input_size=sizes)
    # A SavedModel brings layers along as graphs, and a Lambda's code, which nothing has looked at.
    revived = [layer for layer in all_layers(model) if type(layer).__module__.endswith("saved_model.load")]
    strange = [layer for layer in revived if type(layer).__name__ not in (*FLAT_KINDS, "InputLayer")]
    if strange and not (allow_code and all(type(layer).__name__ == "Lambda" for layer in strange)):
        kind = type(strange[0]).__name__
        why = f"its layer {strange[0].name} is a {kind}, which is not one of Keras's"
        return opaque.saved_model(path, why, where, input_size=sizes)
    return model


def _unread(error: Exception) -> str:
    """Why Keras 2 can't read a file, and what to do."""
    text = one_line(error, 300)
    if "Lambda" in text or "lambda" in text:
        return f"{text}; it brings code with it: if you trust the file, set allow_code=True (init: --allow-code)"
    if "Unknown layer" in text or "custom_objects" in text or "Could not locate class" in text:
        return f"{text}; give the task the classes of its own layers as custom_objects={{name: class}}"
    return text


def _known(custom_objects: Mapping[str, Any]) -> set[str]:
    """Names of classes and functions of the user's own: given to the task, or registered by its code."""
    import tf_keras

    registered = dict(tf_keras.utils.get_custom_objects())
    if "keras" in sys.modules:
        import keras  # type: ignore[import-untyped]

        registered |= keras.saving.get_custom_objects()
    own = {
        n for n, o in registered.items() if getattr(o, "__module__", "").partition(".")[0] not in ("keras", "tf_keras")
    }
    return {name.rpartition(">")[2] for name in own} | set(custom_objects)


def _expect_model(path: Path, where: str) -> None:
    """Check that a file or folder can hold a Keras model or a SavedModel.

    Raises:
        ConfigError: saying what it is instead, and what to do.
    """
    import h5py  # type: ignore[import-untyped]

    begin = f"{where}: model: {path}"
    if not path.is_dir():
        foreign_files.expect_regular(path, f"{where}: model", empty=True)
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return
        if list(path.glob("*.index")) or (path / "checkpoint").exists():
            raise ConfigError(f"{begin} is a checkpoint, which holds weights alone; {WEIGHTS_ALONE}")
        raise ConfigError(f"{begin} is a folder without a saved_model.pb; expected a SavedModel")
    if h5py.is_hdf5(path):
        try:
            with h5py.File(path) as file:
                whole = "model_config" in file.attrs
        except OSError as error:
            raise ConfigError(f"{begin} is damaged or cut short; save or copy it anew") from error
        if not whole:
            raise ConfigError(f"{begin} holds weights alone; {WEIGHTS_ALONE}")
    elif not zipfile.is_zipfile(path):
        damaged = path.suffix in (".h5", ".hdf5", ".keras")
        if damaged:
            raise ConfigError(f"{begin} is damaged or cut short; save or copy it anew")
        raise ConfigError(f"{begin} is no Keras model; expected a .h5, .keras, SavedModel or float32 .tflite")


def fingerprint(model: Any, code: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of architecture, weights and code of the user's own, the same in every process."""
    if isinstance(model, ClosedModel):
        return hashlib.sha256(model.file).hexdigest()
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(f"{weight.shape}{weight.dtype}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    if code:
        digest.update(json.dumps(code, sort_keys=True).encode())
    return digest.hexdigest()


def pack(
    model: Any, reports: Sequence[dict[str, Any]] = (), *, code: Mapping[str, Any] | None = None, like: bytes = b""
) -> bytes:
    """A model and the reports of the stages behind it, as bytes; `unpack` is the inverse.

    Args:
        model: a tf_keras model, or a `ClosedModel`.
        reports: in the order of the stages.
        code: `objects` of the user's own (see `usercode.describe`) by name, `source` and `path` of `task.py`.
        like: a packed model that it comes from, with the code that it needs and the names of its outputs.
    """
    parts = _parts(model) | {"reports.json": json.dumps(list(reports)).encode()}
    if code:
        parts[CODE] = json.dumps(code).encode()
    if len(model.outputs) > 1:
        parts[ENDS] = json.dumps(list(model.output_names)).encode()
    if like:
        with zipfile.ZipFile(io.BytesIO(like)) as before:
            parts |= {name: before.read(name) for name in (CODE, ENDS) if name in before.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in parts.items():
            # A fixed date: the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def _parts(model: Any) -> dict[str, bytes]:
    if isinstance(model, ClosedModel):
        return {"model.tflite": model.file, "why.txt": model.why.encode()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.h5")
        with warnings.catch_warnings():
            # HDF5 is meant: tf_keras reads tfmot's layers back from it.
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
            model.save(path, include_optimizer=False, save_format="h5")
        return {"model.h5": path.read_bytes()}


def knowing() -> Any:
    """A context in which layers of quantization-aware training, and autoopt's own, are known."""
    import tensorflow_model_optimization as tfmot

    from autoopt.models import stand_ins

    return tfmot.quantization.keras.quantize_scope(stand_ins.LAYERS)


def unpack(data: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """A model and the reports behind it; layers of quantization-aware training and of the user's own are known here."""
    import tf_keras

    with zipfile.ZipFile(io.BytesIO(data)) as archive, tempfile.TemporaryDirectory() as folder:
        reports = json.loads(archive.read("reports.json"))
        if "model.tflite" in archive.namelist():
            return ClosedModel(file=archive.read("model.tflite"), why=archive.read("why.txt").decode()), reports
        if CODE in archive.namelist():
            code = json.loads(archive.read(CODE))
            found = {name: user_code.find(o, code["source"], code["path"]) for name, o in code["objects"].items()}
            tf_keras.utils.get_custom_objects().update(found)
        path = Path(folder, "model.h5")
        path.write_bytes(archive.read("model.h5"))
        with knowing():
            model = tf_keras.models.load_model(path, compile=False)
        if ENDS in archive.namelist():
            model.output_names = json.loads(archive.read(ENDS))
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
