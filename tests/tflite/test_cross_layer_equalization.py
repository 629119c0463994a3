"""Equalization changes what is stored, not what is computed."""

import functools

import numpy as np
import pytest
import tf_keras
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.tflite import conversion
from autoopt.tflite.cross_layer_equalization import equalize, pairs
from autoopt.tflite.graph import Graph
from autoopt.tflite.interpreter import outputs_of

layers = tf_keras.layers
IMAGES = tiny.split(32, 2).inputs


def built(*stack):
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(*stack)
    rng = np.random.default_rng(0)
    model.set_weights([w if w.ndim > 1 else rng.normal(0, 0.2, w.shape) for w in model.get_weights()])
    return conversion.float32(model)


@functools.cache
def stacked():
    """Every kind of pair: strides, two outputs a channel, dense ones."""
    return built(
        layers.Conv2D(6, 3, activation="relu"),
        layers.Conv2D(4, 2, strides=2),
        layers.DepthwiseConv2D(2, depth_multiplier=2, strides=2, padding="same", activation="relu"),
        layers.Conv2D(3, 1),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dense(5),
    )


def relative(outputs, expected):
    return np.abs(outputs - expected).max() / np.abs(expected).max()


def ranges(graph, layer, axis):
    values = np.abs(graph.real(layer.weights))
    return values.max(axis=tuple(a for a in range(values.ndim) if a != axis))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=40, max_size=40), st.integers(0, 39))
def test_outputs_stay_and_ranges_meet(logarithms, dead):
    """Whatever the channels' ranges are, and if one is dead."""
    graph = Graph(stacked())
    factors = np.exp(logarithms)
    factors[dead] = 0
    used = 0
    for layer in graph.layers():
        kernel = graph.constant(layer.weights)
        shape = [-1 if a == layer.axis else 1 for a in range(kernel.ndim)]
        mine = factors[used : used + kernel.shape[layer.axis]]
        used += len(mine)
        graph.store(layer.weights, kernel * mine.reshape(shape).astype(np.float32))
    assert used <= 40
    before = graph.to_bytes()
    after = equalize(before)
    expected = outputs_of(before, IMAGES, 1)
    assert relative(outputs_of(after, IMAGES, 1), expected) < 1e-4
    assert all(np.isfinite(Graph(after).real(layer.weights)).all() for layer in Graph(after).layers())


@pytest.mark.parametrize("make", [stacked, lambda: conversion.float32(tiny.uneven())], ids=["stacked", "uneven"])
def test_both_sides_of_a_channel_have_one_range(make):
    """Where no bias forbids: see the next test."""
    graph = Graph(make())
    for layer in graph.layers():
        graph.store(layer.bias, np.zeros_like(graph.constant(layer.bias)))
    after = Graph(equalize(graph.to_bytes()))
    found = pairs(after)
    assert len(found) == (4 if make is stacked else 5)
    for first, second in found:
        ahead, behind = (
            ranges(after, first, first.axis),
            ranges(after, second, 3 if second.kind != "FULLY_CONNECTED" else 1),
        )
        behind = behind.reshape(len(ahead), -1).max(axis=1)
        assert np.allclose(ahead, behind, rtol=0.02)


def test_a_channel_that_lives_by_its_bias_is_not_blown_up():
    file = built(layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 3))
    graph = Graph(file)
    first = graph.layers()[0]
    kernel = graph.constant(first.weights)
    kernel[2] *= 1e-9
    graph.store(first.weights, kernel)
    graph.store(first.bias, np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    after = Graph(equalize(graph.to_bytes()))
    assert np.abs(after.constant(after.layers()[0].bias)).max() < 4
    assert relative(outputs_of(after.to_bytes(), IMAGES, 1), outputs_of(graph.to_bytes(), IMAGES, 1)) < 1e-4


def test_a_second_time_changes_nothing_more():
    once = equalize(stacked())
    again, before = Graph(equalize(once)), Graph(once)
    for layer in before.layers():
        assert np.allclose(again.constant(layer.weights), before.constant(layer.weights), rtol=0.01, atol=1e-6)


# --- where there is nothing to equalize


def read_twice():
    inputs = layers.Input((8, 8, 1), name=tiny.INPUT)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.Conv2D(4, 3, padding="same")(x)
    return conversion.float32(tf_keras.Model(inputs, layers.Add()([x, y])))


def two_outputs():
    inputs = layers.Input((8, 8, 1), name=tiny.INPUT)
    x = layers.Conv2D(4, 3)(inputs)
    return conversion.float32(tf_keras.Model(inputs, [x, layers.Conv2D(4, 3)(x)]))


def shared():
    inputs = layers.Input((8, 8, 1), name=tiny.INPUT)
    twice = layers.Conv2D(1, 3, padding="same", activation="relu")
    return conversion.float32(tf_keras.Model(inputs, twice(twice(inputs))))


UNPAIRED = {
    "relu6": lambda: built(layers.Conv2D(4, 3), layers.ReLU(6.0), layers.Conv2D(4, 3)),
    "tanh": lambda: built(layers.Conv2D(4, 3, activation="tanh"), layers.Conv2D(4, 3)),
    "pooled": lambda: built(layers.Conv2D(4, 3), layers.MaxPool2D(), layers.Conv2D(4, 3)),
    "flattened": lambda: built(layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4)),
    "one layer": lambda: built(layers.Flatten(), layers.Dense(4)),
    "read twice": read_twice,
    "two outputs": two_outputs,
    "shared": shared,
}


@pytest.mark.parametrize("name", UNPAIRED)
def test_a_graph_without_pairs_is_left_as_it_is(name):
    tf_keras.utils.set_random_seed(0)
    file = UNPAIRED[name]()
    assert equalize(file) is file
