"""Models without a graph of Keras layers: they are converted at once, and served with post-training schemes alone."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import ConfigError, retold
from autoopt.models import file_ends, flatbuffer
from autoopt.models.file_ends import End
from autoopt.models.graph_replay import reason
from autoopt.models.input_shapes import filled, text_advice
from autoopt.models.keras_internals import all_layers, input_signature
from autoopt.system import foreign_files, isolation

DEFAULT = "serving_default"
"""The signature that TensorFlow takes where none is named."""
CALLED = "; call a subclassed model once on data before handing it over"


@dataclass(frozen=True, kw_only=True)
class ClosedModel:
    """A model that can be converted and quantized, but not looked into or trained.

    Attributes:
        file: its float32 `.tflite`.
        why: in words for people.
    """

    file: bytes = dataclasses.field(repr=False)
    why: str

    @cached_property
    def _ends(self) -> tuple[list[End], list[End]]:
        return file_ends.read(self.file)

    @property
    def inputs(self) -> list[End]:
        """As of a Keras model."""
        return self._ends[0]

    @property
    def outputs(self) -> list[End]:
        """As of a Keras model."""
        return self._ends[1]

    @property
    def input_names(self) -> list[str]:
        """As of a Keras model."""
        return [end.name for end in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """As of a Keras model."""
        return [end.name for end in self.outputs]


def read(path: Path, where: str) -> ClosedModel:
    """A float32 `.tflite` of the user's.

    Raises:
        ConfigError: if it can't be read, or is quantized already.
    """
    from ai_edge_litert.interpreter import Interpreter

    file = foreign_files.read(path, f"{where}: model")
    try:
        isolation.call(_try, file)
    except isolation.Crashed as error:
        raise ConfigError(
            f"{where}: model: LiteRT ended with {error} on {path}: it is damaged, or asks for more than there is; convert it anew"
        ) from error
    model = ClosedModel(file=file, why="it is a .tflite: there are no layers to train")
    try:
        several = len(model.outputs) > 1
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}: model: {path} is no .tflite that LiteRT can read") from error
    try:
        quantized = _quantized(model.file)
    except flatbuffer.Damaged as error:
        raise ConfigError(f"{where}: model: {path}: {error.reason}; convert it anew") from error
    if quantized:
        raise ConfigError(f"{where}: model: {path} is quantized already; expected the float32 file that it came from")
    for end in model.inputs:
        if None in end.shape[1:]:
            shape = f"({', '.join(map(str, end.shape))})"
            raise ConfigError(
                f"{where}: model: {path} leaves the size of its input {end.name} {shape} open; convert it anew with a fixed "
                "one, or give the model that it was made of"
            )
    signatures = file_ends.signatures(Interpreter(model_content=model.file))
    if len(signatures) > 1:
        raise ConfigError(
            f"{where}: model: {path} has {len(signatures)} signatures ({', '.join(signatures)}); "
            "convert one of them to a file of its own"
        )
    if several and len(signatures) != 1:
        raise ConfigError(
            f"{where}: model: {path} has several outputs, and {len(signatures)} signatures to name them by; "
            "convert it anew with one"
        )
    return model


def _try(file: bytes) -> None:
    """Run a file once on zeros; what it says of itself is asked later, by who survives it."""
    from ai_edge_litert.interpreter import Interpreter

    with contextlib.suppress(ValueError, RuntimeError):
        interpreter = Interpreter(model_content=file)
        interpreter.allocate_tensors()
        for end in interpreter.get_input_details():
            interpreter.set_tensor(end["index"], np.zeros(end["shape"], end["dtype"]))
        interpreter.invoke()


def _quantized(file: bytes) -> bool:
    """Whether a file holds tensors in half precision, or integers that stand for real values."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = flatbuffer.parse(file, "model").subgraphs[0].tensors
    scales = (tensor.quantization.scale if tensor.quantization is not None else None for tensor in tensors)
    halves = any(tensor.type == schema.TensorType.FLOAT16 for tensor in tensors)
    return halves or any(scale is not None and len(scale) > 0 for scale in scales)


def close(model: Any, why: str, where: str, input_size: Sequence[int] = ()) -> ClosedModel:
    """A subclassed tf_keras model.

    Args:
        model: the model.
        why: it has no graph of layers.
        where: for messages.
        input_size: of the axes that its inputs leave open.

    Raises:
        ConfigError: if TensorFlow can't convert it, such as when it was never called.
    """
    import tensorflow as tf

    def make() -> Any:
        if not input_size:
            return tf.lite.TFLiteConverter.from_keras_model(model).convert()
        model.save(folder, save_format="tf")
        return _at_size(folder, DEFAULT, input_size, where)

    with tempfile.TemporaryDirectory() as folder:
        return _converted(make, why, where, CALLED)


def close_keras3(model: Any, why: str, where: str, input_size: Sequence[int] = ()) -> ClosedModel:
    """A model of Keras 3 that can't be rebuilt layer by layer, such as a subclassed one; see `close`.

    Raises:
        ConfigError: if TensorFlow can't convert it, such as when it was never called.
    """
    import keras  # type: ignore[import-untyped]
    import tensorflow as tf

    def fixed(spec: Any) -> Any:
        return tf.TensorSpec(filled(spec.shape, input_size, where), spec.dtype, spec.name)

    def make() -> Any:
        # `model.export` would leave augmentation on, whose mode is training where nobody says otherwise.
        archive = keras.export.ExportArchive()
        archive.track(model)
        given = keras.tree.map_structure(fixed, input_signature(model))
        serve = tf.function(lambda *inputs: model(*inputs, training=False), given, autograph=False)
        with _unrolled(model):
            serve.get_concrete_function()
        archive.add_endpoint("serve", serve)
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()

    with tempfile.TemporaryDirectory() as folder:
        return _converted(make, why, where, CALLED)


@contextlib.contextmanager
def _unrolled(model: Any) -> Iterator[None]:
    """Have the recurrent layers inside a model of Keras 3 take their steps one by one: the converter can't take their loops."""
    import keras

    loops = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN) and not layer.unroll]
    for layer in loops:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in loops:
            layer.unroll = False


def saved_model(path: Path, why: str, where: str, signature: str = "", input_size: Sequence[int] = ()) -> ClosedModel:
    """One signature of a SavedModel.

    Args:
        path: of its folder.
        why: it has no graph of Keras layers.
        where: for messages.
        signature: its name; by default the only one, or `serving_default`.
        input_size: of the axes that its inputs leave open.

    Raises:
        ConfigError: if there are several and none is named, or TensorFlow can't convert it.
    """
    import tensorflow as tf

    key = _signature(path, where, signature)

    def make() -> Any:
        if input_size:
            return _at_size(str(path), key, input_size, where)
        return tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=[key]).convert()

    return _converted(make, why, where)


def _signature(path: Path, where: str, asked: str) -> str:
    """The name of the signature that is meant.

    Raises:
        ConfigError: if it isn't there, is not clear, takes text, or the file can't be read.
    """
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    read = saved_model_pb2.SavedModel()
    damaged = f"{where}: model: {path}: its saved_model.pb is damaged; save or copy it anew"
    with retold(lambda error: ConfigError(damaged)):  # protobuf's own kinds
        read.ParseFromString((path / "saved_model.pb").read_bytes())
        signatures = {name: s for name, s in read.meta_graphs[0].signature_def.items() if not name.startswith("__")}
    names = ", ".join(sorted(signatures)) or "none"
    if asked and asked not in signatures:
        raise ConfigError(f"{where}: signature: {path} has no signature {asked!r}; it has {names}")
    if not signatures:
        raise ConfigError(
            f"{where}: model: {path} has no signature: save it with tf.saved_model.save(model, path, signatures=function)"
        )
    key = asked or (DEFAULT if DEFAULT in signatures else next(iter(signatures)))
    if not asked and key != DEFAULT and len(signatures) > 1:
        raise ConfigError(
            f"{where}: model: {path} has {len(signatures)} signatures ({names}) and none is {DEFAULT}; "
            f"say which, such as signature={key!r} (init: --signature {key})"
        )
    for name, end in signatures[key].inputs.items():
        if end.dtype == types_pb2.DT_STRING:
            raise ConfigError(f"{where}: model: {text_advice(name, '')}")
    return key


def _at_size(folder: str, key: str, input_size: Sequence[int], where: str) -> Any:
    """The `.tflite` of a signature with its open axes closed."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    function = loaded.signatures[key]
    _, named = function.structured_input_signature
    fixed = {
        name: tf.TensorSpec(filled(end.shape.as_list(), input_size, where), end.dtype, name)
        for name, end in named.items()
    }
    module = tf.Module()
    module.loaded = loaded
    call = tf.function(lambda **given: function(**given)).get_concrete_function(**fixed)
    with tempfile.TemporaryDirectory() as made:
        tf.saved_model.save(module, made, signatures=call)
        return tf.lite.TFLiteConverter.from_saved_model(made).convert()


def _converted(make: Callable[[], Any], why: str, where: str, advice: str = "") -> ClosedModel:
    begin = f"{where}: model: {why}, and TensorFlow can't convert it as it is"
    with retold(lambda error: ConfigError(f"{begin}: {reason(error)}{advice}")):
        return ClosedModel(file=bytes(make()), why=why)
