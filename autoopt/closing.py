"""Models without a graph of Keras layers: they are converted at once, and served with post-training schemes alone."""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autoopt.errors import ConfigError
from autoopt.replaying import reason


class End(NamedTuple):
    """An input or output of a model; the first axis is the batch's, and open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


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
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self.file)
        signatures = interpreter.get_signature_list()
        if len(signatures) == 1:
            runner = interpreter.get_signature_runner(next(iter(signatures)))
            sides = [runner.get_input_details(), runner.get_output_details()]
        else:
            given = (interpreter.get_input_details(), interpreter.get_output_details())
            sides = [{detail["name"]: detail for detail in side} for side in given]
        inputs, outputs = ([_end(name, detail) for name, detail in side.items()] for side in sides)
        return inputs, outputs

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


def _end(name: str, detail: dict[str, Any]) -> End:
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return End(name, (None, *(None if size < 0 else int(size) for size in sizes[1:])), np.dtype(detail["dtype"]).name)


def read(path: Path, where: str) -> ClosedModel:
    """A float32 `.tflite` of the user's.

    Raises:
        ConfigError: if it can't be read, or is quantized already.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise ConfigError(f"{where}: model: {path} is not a file")
    model = ClosedModel(file=path.read_bytes(), why="it is a .tflite: there are no layers to train")
    try:
        several = len(model.outputs) > 1
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}: model: {path} is no .tflite that LiteRT can read") from error
    if _quantized(model.file):
        raise ConfigError(f"{where}: model: {path} is quantized already; expected the float32 file that it came from")
    signatures = Interpreter(model_content=model.file).get_signature_list()
    if several and len(signatures) != 1:
        raise ConfigError(
            f"{where}: model: {path} has several outputs, and {len(signatures)} signatures to name them by; "
            "convert it anew with one"
        )
    return model


def _quantized(file: bytes) -> bool:
    """Whether a file holds tensors in half precision, or integers that stand for real values."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = schema.ModelT.InitFromPackedBuf(file, 0).subgraphs[0].tensors
    scales = (tensor.quantization.scale if tensor.quantization is not None else None for tensor in tensors)
    halves = any(tensor.type == schema.TensorType.FLOAT16 for tensor in tensors)
    return halves or any(scale is not None and len(scale) > 0 for scale in scales)


def close(model: Any, why: str, where: str) -> ClosedModel:
    """A subclassed tf_keras model.

    Raises:
        ConfigError: if TensorFlow can't convert it, such as when it was never called.
    """
    import tensorflow as tf

    return _converted(lambda: tf.lite.TFLiteConverter.from_keras_model(model), why, where)


def close_keras3(model: Any, why: str, where: str) -> ClosedModel:
    """A model of Keras 3 that can't be rebuilt layer by layer, such as a subclassed one.

    Raises:
        ConfigError: if TensorFlow can't convert it, such as when it was never called.
    """
    import keras  # type: ignore[import-untyped]
    import tensorflow as tf
    from keras.src.export.export_utils import get_input_signature  # type: ignore[import-untyped]

    def make() -> Any:
        # `model.export` would leave augmentation on, whose mode is training where nobody says otherwise.
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", lambda *inputs: model(*inputs, training=False), get_input_signature(model))
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder)

    with tempfile.TemporaryDirectory() as folder:
        return _converted(make, why, where)


def saved_model(path: Path, why: str, where: str) -> ClosedModel:
    """A SavedModel without a graph of Keras layers.

    Raises:
        ConfigError: if TensorFlow can't convert it.
    """
    import tensorflow as tf

    return _converted(lambda: tf.lite.TFLiteConverter.from_saved_model(str(path)), why, where)


def _converted(make: Callable[[], Any], why: str, where: str) -> ClosedModel:
    try:
        return ClosedModel(file=bytes(make().convert()), why=why)
    except Exception as error:  # the converter raises many kinds, all about this one model
        raise ConfigError(
            f"{where}: model: {why}, and TensorFlow can't convert it as it is: {reason(error)}; "
            "call a subclassed model once on data before handing it over"
        ) from error
