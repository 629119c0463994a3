"""What flows through a file is seen as it is."""

import numpy as np
import pytest
import tf_keras
import tiny

from autoopt.tflite import conversion
from autoopt.tflite.activation_reader import BATCH, batches
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers


@pytest.mark.parametrize("items", [1, BATCH, 2 * BATCH + 3])
@pytest.mark.parametrize("scheme", ["float32", "int8", "int8_io"])
def test_the_last_tensor_is_the_output(scheme, items):
    file, inputs = tiny.file(tiny.recipe(scheme)), tiny.split(items, 3).inputs
    last = Graph(file).outputs[0]
    seen = np.concatenate([value(last) for value in batches(file, inputs, 1)])
    assert np.abs(seen - outputs_of(file, inputs, 1)).max() < (1e-5 if scheme == "float32" else 2.1 / 256)


def test_each_input_has_its_own_data():
    ends = [layers.Input((3,), name=name) for name in ("wide", "narrow")]
    file = conversion.float32(tf_keras.Model(ends, layers.Concatenate()(ends)))
    data = {name: np.full((20, 3), value, np.float32) for name, value in (("narrow", 1), ("wide", 100))}
    seen = [value(Graph(file).outputs[0]) for value in batches(file, data, 1)]
    assert (np.concatenate(seen) == [100, 100, 100, 1, 1, 1]).all()


def test_every_tensor_on_the_way_is_seen():
    file, inputs = tiny.file(tiny.recipe()), tiny.split(5, 3).inputs
    graph = Graph(file)
    [value] = batches(file, inputs, 1)
    assert (value(graph.inputs[0]) == inputs[tiny.INPUT]).all()
    for layer in graph.layers():
        seen = value(layer.output)
        assert len(seen) == 5
        assert np.abs(seen).max() > 0
        assert (seen.min() >= 0) == (layer.activation == "RELU")
