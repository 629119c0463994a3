"""Keras -> `.tflite` in every scheme.

The float32 file is made once by TensorFlow's converter; post-training schemes are made from that file
by litert-quantizer, in a fraction of the time and memory. TensorFlow's converter serves int16x8 and
models trained with quantization in the loop.
"""

import functools
import keyword
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.core.schemes import BY_RANGES, SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import CandidateFailed, retold
from autoopt.models import flatbuffer
from autoopt.models.opaque import ClosedModel
from autoopt.models.task import Inputs
from autoopt.models.unrolling import recurrent, unrolled
from autoopt.tflite import (
    activation_ranges,
    bias_correction,
    contents,
    cross_layer_equalization,
    exact_grids,
    layer_sensitivity,
    lookup_tables,
    low_bits,
    mending,
    trimming,
    unsigned_ends,
)
from autoopt.tflite.calibration import extremes
from autoopt.tflite.graph import Graph

INDICES = ("INT32", "INT64")
"""Types of whole numbers that values are no more."""
_KEY = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_./>-]*")
"""Names that TensorFlow's signatures take."""
BY_QUANTIZER = ("float16", "dynamic", *BY_RANGES)
"""Schemes made from the float32 file, without the Keras model."""


def float32(model: Any, batch: int | None = None) -> bytes:
    """The `.tflite` of a tf_keras model, or of a `ClosedModel`, unquantized.

    Args:
        model: the model.
        batch: items at once; see `_convert`.

    Raises:
        CandidateFailed: if TensorFlow can't convert it.
    """
    if isinstance(model, ClosedModel):
        return model.file
    return trimming.trim(_convert(model, "float32", batch=batch), names=True)


def int16x8(model: Any, calibration: Inputs, batch: int | None = None) -> bytes:
    """int8 weights and int16 activations, float in and out.

    A recurrent layer's first state is zero and has no range. For a batch of unknown size it is computed as the file runs,
    and TensorFlow's converter divides by that range; for one item it is a constant, which is folded away.

    Args:
        model: tf_keras model.
        calibration: by input name, each of shape (items, ...).
        batch: items at once; see `_convert`.

    Raises:
        CandidateFailed: if TensorFlow can't convert it.
    """
    import tensorflow as tf

    def samples() -> Iterator[dict[str, np.ndarray]]:
        for i in range(len(next(iter(calibration.values())))):
            yield {
                key: calibration[name][i : i + 1].astype(tensor.dtype.as_numpy_dtype)
                for key, name, tensor in zip(_keys(model), model.input_names, model.inputs, strict=True)
            }

    def settle(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]

    return trimming.trim(mending.separate_biases(_convert(model, "int16x8", settle, 1 if recurrent(model) else batch)))


def trained(model: Any, scheme: str, batch: int | None = None) -> bytes:
    """int8 with the ranges that quantization-aware training learnt.

    Args:
        model: tf_keras model with tfmot's quantization layers.
        scheme: one of `AFTER_TRAINING`.
        batch: items at once; see `_convert`.

    Raises:
        CandidateFailed: if TensorFlow can't convert it.
    """
    import tensorflow as tf

    def settle(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if SCHEMES[scheme].integer_io:
            converter.inference_input_type = converter.inference_output_type = tf.int8

    return trimming.trim(_with_ends(_convert(model, scheme, settle, batch), scheme))


def _convert(
    model: Any, what: str, settle: Callable[[Any], None] = lambda converter: None, batch: int | None = None
) -> bytes:
    """What TensorFlow's converter makes of a tf_keras model.

    Args:
        model: tf_keras model.
        what: for messages.
        settle: given the converter, to say how.
        batch: items at once, where the file would else compute shapes while it runs, which small runtimes can't; any
            number where it computes none, and by default.
    """
    if isinstance(model, ClosedModel):
        raise CandidateFailed("convert", f"{model.why}; TensorFlow needs the model itself for this scheme")
    if not all(np.isfinite(w).all() for w in model.get_weights() if w.dtype.kind == "f"):
        # In an integer file no trace would be left of it: NaN is rounded to some integer.
        raise CandidateFailed("convert", "the model holds NaN or infinite weights")
    with retold(lambda error: CandidateFailed("convert", f"TensorFlow can't convert to {what}: {_first_line(error)}")):
        stepwise = unrolled(model, whole=batch is None)
        if batch and recurrent(model):  # its first state has a row an item
            return _converted(stepwise, settle, batch)
        made = _converted(stepwise, settle)
        return _converted(stepwise, settle, batch) if batch and _open_inside(made) else made


def _converted(model: Any, settle: Callable[[Any], None], batch: int | None = None) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        _save(model, folder, batch)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        settle(converter)
        return bytes(converter.convert())


def _open_inside(file: bytes) -> bool:
    """Whether a file computes shapes as it runs, or has others written in it than come out for one item.

    Such as that of all steps of all items in one row, which small runtimes take as it is written.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Inside of a delegate no shapes are worked out.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=file, experimental_op_resolver_type=plain)
    written = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_tensor_details()}
    interpreter.allocate_tensors()
    found = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_tensor_details()}
    return "SHAPE" in contents.read(file).ops or any(found[index] != shape for index, shape in written.items())


def _save(model: Any, folder: str, batch: int | None) -> None:
    """Write what the converter needs of a tf_keras model: the function that it is, and its variables.

    `from_keras_model` writes every layer's own functions too, for training and without, which takes several times as long
    as the conversion itself; the file comes out the same.

    Args:
        model: tf_keras model.
        folder: where to.
        batch: items at once; None for any number.
    """
    import tensorflow as tf

    ends = zip(_keys(model), model.inputs, strict=True)

    @tf.function(input_signature=[tf.TensorSpec((batch, *end.shape[1:]), end.dtype, name=name) for name, end in ends])  # type: ignore[untyped-decorator]
    def serve(*inputs: Any) -> dict[str, Any]:
        found = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
        return dict(zip(model.output_names, tf.nest.flatten(found), strict=True))

    module = tf.Module()
    module.variables_of_the_model = model.variables
    tf.saved_model.save(module, folder, signatures=serve)


def _keys(model: Any) -> list[str]:
    """What the inputs are called in the file: as in the model, where TensorFlow takes that.

    Raises:
        ValueError: if it does not, and there are several to tell apart.
    """
    names: list[str] = model.input_names
    fit = all(_KEY.fullmatch(name) and not keyword.iskeyword(name) and name != "self" for name in names)
    if fit and len({name.lower() for name in names}) == len(names):
        return names
    if len(names) == 1:
        return ["input"]
    raise ValueError(
        f"rename the model's inputs ({', '.join(names)}): letters, digits and _, a letter first, no word of Python's, "
        "and not the same but for capitals"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def quantize(file: bytes, scheme: str, calibration: Inputs, threads: int = 1, how: Quantize | None = None) -> bytes:
    """A post-training scheme of a float32 `.tflite`.

    Args:
        file: the float32 file.
        scheme: one of `BY_QUANTIZER`.
        calibration: by input name, each of shape (items, ...).
        threads: for running the float model over the calibration set.
        how: a scheme of `recipe.BY_RANGES` is made; None for the usual way.

    Raises:
        CandidateFailed: if litert-quantizer can't make it.
    """
    how = how or Quantize()
    prefix = f"litert-quantizer can't make {scheme}"
    try:
        with retold(lambda error: CandidateFailed("quantize", f"{prefix}: {_first_line(error)}")):
            if how.equalize:
                file = cross_layer_equalization.equalize(file)
            made = _quantized(file, scheme, calibration, threads, how)
            if how.correct_bias:
                made = bias_correction.correct(file, made, calibration, threads)
            if how.int4:
                low_bits.expect_right(file, made, calibration, threads)
            return trimming.trim(_with_ends(made, scheme))
    except flatbuffer.Damaged as error:
        raise CandidateFailed("quantize", f"{prefix}: {error.reason}") from error


def _quantized(file: bytes, scheme: str, calibration: Inputs, threads: int, how: Quantize) -> bytes:
    from litert_quantizer import algorithm_manager, qtyping, quantizer

    graph = Graph(file)
    _expect_values(graph, scheme)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.tflite"), Path(folder, "quantized.tflite")
        source.write_bytes(file)

        def chosen() -> Any:
            q = quantizer.Quantizer(os.fspath(source))
            _choose(q, scheme, how)
            _choose_products(q, scheme, graph)
            return q

        def exported(q: Any) -> bytes:
            with np.errstate(invalid="ignore"):  # biases that their scale can't hold; they are mended below
                q.quantize(found, enable_progress_bar=False).export_model(os.fspath(target))
            made = inline(target.read_bytes())
            target.unlink()  # many are made where layers are compared, and litert-quantizer warns of each that it overwrites
            made = mending.type_unread_outputs(made)
            return mending.hold_biases(graph, made) if SCHEMES[scheme].integer else made

        q = chosen()
        found = extremes(q, file, calibration, threads) if q.need_calibration else None
        if found and how.ranges != "minmax":
            found = activation_ranges.narrow(file, found, calibration, how.ranges, threads)

        @functools.cache
        def without(floats: tuple[int, ...], fours: tuple[int, ...] = ()) -> bytes:
            """The file with the operators at these places of the graph in float, and dense ones in litert-quantizer's 4 bits."""
            q = chosen()
            for place in fours:
                q.add_static_config(
                    _only(graph, place), qtyping.TFLOperationName.FULLY_CONNECTED, 8, 4, _granularity(how)
                )
            for place in floats:
                kind = qtyping.TFLOperationName.__members__.get(graph.kind(place))
                if kind:  # it leaves all others in float anyway
                    never = algorithm_manager.AlgorithmName.NO_QUANTIZE
                    q.update_quantization_recipe(_only(graph, place), kind, algorithm_key=never)
            return exported(q)

        def made(floats: Sequence[int], fours: Sequence[int]) -> bytes:
            """The file with the operators at these places of the graph in float, and the weights of those in 4 bits."""
            fours = [place for place in fours if place not in floats]
            # `int4_dense` alone has the scales that it has always had.
            as_ever = how.bits_alone() == Quantize() and how.int4_dense
            made = (
                without(tuple(floats), tuple(fours))
                if as_ever
                else low_bits.stored(graph, without(tuple(floats)), fours, how)
            )
            made = made if scheme == "float16" else exact_grids.store(file, made)
            few = [graph.name(int(graph.operators[place].inputs[0])) for place in fours]
            return lookup_tables.store(made, scheme, few) if scheme in lookup_tables.READERS else made

        always, named = low_bits.asked(graph, scheme, how)
        floats, fours = [], []
        if how.keep or how.keep_ends:
            floats = layer_sensitivity.kept(file, how, lambda places: made(places, always), calibration, threads, named)
        if how.int4 or named:
            fours = low_bits.chosen(
                file, scheme, how, floats, lambda places: made(floats, places), calibration, threads
            )
        return made(floats, fours)


def _with_ends(file: bytes, scheme: str) -> bytes:
    """A file that takes and gives int8 or float32, with the scheme's own dtype where that is another."""
    return unsigned_ends.give(file) if SCHEMES[scheme].io == "uint8" else file


def _only(graph: Graph, place: int) -> str:
    """The pattern by which litert-quantizer finds one operator."""
    return f"^{re.escape(graph.scope(place))}$"


def _granularity(how: Quantize) -> Any:
    from litert_quantizer import qtyping

    granularity = qtyping.QuantGranularity
    return granularity.TENSORWISE if how.granularity == "tensor" else granularity.CHANNELWISE


def inline(file: bytes) -> bytes:
    """The same `.tflite` with all its weights inside the flatbuffer.

    litert-quantizer lays 256 KiB of them and more after it, where TensorFlow Lite Micro does not look:
    it would compute with whatever it finds, without a word.
    """
    model = flatbuffer.parse(file, "quantize")
    outside = [buffer for buffer in model.buffers if flatbuffer.outside(buffer)]
    if not outside:
        return file
    for buffer in outside:
        buffer.data = flatbuffer.data(buffer, file)
        buffer.offset = buffer.size = 0
    return flatbuffer.pack(model)


def _choose(q: Any, scheme: str, how: Quantize) -> None:
    from litert_quantizer import algorithm_manager, qtyping, recipe

    names, every = algorithm_manager.AlgorithmName, qtyping.TFLOperationName
    if scheme == "float16":
        half = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        q.update_quantization_recipe(".*", every.ALL_SUPPORTED, half, algorithm_key=names.FLOAT_CASTING)
    elif scheme == "dynamic":
        q.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    else:
        q.add_static_config(".*", every.ALL_SUPPORTED, 8, 8, _granularity(how))
        if not SCHEMES[scheme].integer_io:
            for end in (every.INPUT, every.OUTPUT):
                q.update_quantization_recipe(".*", end, algorithm_key=names.NO_QUANTIZE)


def _expect_values(graph: Graph, scheme: str) -> None:
    """Check that inputs of 8 bits are not to hold indices, of which there are more."""
    for tensor in graph.inputs if SCHEMES[scheme].integer_io else ():
        casts = [graph.operators[place] for place in graph.readers[tensor] if graph.kind(place) == "CAST"]
        if graph.dtype(tensor) == "FLOAT32" and any(graph.dtype(int(op.outputs[0])) in INDICES for op in casts):
            raise CandidateFailed(
                "quantize",
                f"{scheme}: the input {graph.name(tensor)} is taken for whole numbers, such as indices, and 8 bits hold 256; "
                "give the model an input of int32",
            )


def _choose_products(q: Any, scheme: str, graph: Graph) -> None:
    """Have constant factors of a product of matrices in a way that the runtime computes with.

    With a scale for each channel it computes something else where the constant stands on the left or is a stack of
    matrices; and with a constant of 8 bits on the left of what flows in float it fails.
    """
    from litert_quantizer import algorithm_manager, qtyping

    product = qtyping.TFLOperationName.BATCH_MATMUL
    for place, op in enumerate(graph.operators):
        if graph.kind(place) != product.value:
            continue
        left, right = (graph.is_constant(int(i)) for i in op.inputs)
        stack = right and len(graph.tensors[int(op.inputs[1])].shape) > 2
        only = _only(graph, place)
        if SCHEMES[scheme].integer and (left or stack):
            q.add_static_config(only, product, 8, 8, qtyping.QuantGranularity.TENSORWISE)
        elif left:
            q.update_quantization_recipe(only, product, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
