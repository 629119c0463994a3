"""`.tflite` files of a plain function, without signatures or with as many as are asked for."""

import functools

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from autoopt.models import flatbuffer

FACTORS = np.arange(8, dtype=np.float32).reshape(4, 2) + 1


@functools.cache
def plain():
    """A file without a signature: `first` times `FACTORS` and twice the whole numbers `second`, for any number of items."""
    given = [tf.TensorSpec((None, 4), tf.float32, "first"), tf.TensorSpec((None, 3), tf.int32, "second")]
    traced = tf.function(lambda x, n: (tf.matmul(x, FACTORS), n * 2), input_signature=given)
    return tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()]).convert()


def signed(**signatures):
    """The same file with signatures by name: the names of both inputs and both outputs in each."""
    model = flatbuffer.parse(plain(), "test")
    graph = model.subgraphs[0]
    model.signatureDefs = [
        _signature(key, zip(names[:2], graph.inputs, strict=True), zip(names[2:], graph.outputs, strict=True))
        for key, names in signatures.items()
    ]
    return flatbuffer.pack(model)


def behind(file):
    """The same file with its largest constant behind the flatbuffer, at an offset of as many bytes as every offset has."""
    model = flatbuffer.parse(file, "test")
    largest = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda buffer: len(buffer.data))
    values, largest.data = bytes(np.asarray(largest.data, np.uint8)), None
    largest.offset, largest.size = 1 << 20, len(values)
    largest.offset = len(flatbuffer.pack(model))
    return flatbuffer.pack(model) + values


def _signature(key, inputs, outputs):
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key, 0
    made.inputs, made.outputs = _ends(inputs), _ends(outputs)
    return made


def _ends(named):
    ends = []
    for name, tensor in named:
        end = schema.TensorMapT()
        end.name, end.tensorIndex = name, int(tensor)
        ends.append(end)
    return ends
