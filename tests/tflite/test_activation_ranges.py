"""Narrower ranges are worth what they cut off."""

import numpy as np
import pytest
import tiny
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.stage_settings import Quantize
from autoopt.tflite import conversion
from autoopt.tflite.activation_ranges import BINS, OUTSIDE, mse, percentile
from autoopt.tflite.interpreter import outputs_of
from autoopt.tflite.layer_sensitivity import sqnr_db

spread = st.floats(0.01, 1000)
samples = st.builds(
    lambda seed, scale, tail, shift: np.random.default_rng(seed).standard_t(tail, 5000) * scale + shift * scale,
    st.integers(0, 99), spread, st.sampled_from([2, 3, 30]), st.floats(-3, 3),
)  # fmt: skip


def quantized(values, low, high):
    """As an int8 tensor with this range holds them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale


def error(values, low, high):
    return float(np.square(quantized(values, low, high) - values).mean())


@given(samples, st.booleans())
def test_ranges_lie_within_the_extremes_and_mse_is_better(values, positive):
    values = np.maximum(values, 0) if positive and values.max() > 0 else values
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values[values != 0], bins=BINS, range=(low, high))[0].astype(float)
    for way in (percentile, mse):
        least, most = way(counts, low, high)
        assert low <= least <= max(low, 0)
        assert min(high, 0) <= most <= high
        assert least < most
    outside = np.mean((values < percentile(counts, low, high)[0]) | (values > percentile(counts, low, high)[1]))
    assert outside <= 2 * OUTSIDE
    assert error(values, *mse(counts, low, high)) <= 1.1 * error(values, low, high)


@pytest.mark.parametrize("way", [percentile, mse])
def test_one_value_far_off_does_not_set_the_range(way):
    values = np.append(np.random.default_rng(0).normal(0, 1, 1_000_000), 30.0)
    counts = np.histogram(values, bins=BINS, range=(values.min(), 30))[0]
    assert way(counts, float(values.min()), 30.0)[1] < 20


@pytest.mark.parametrize("way", [percentile, mse])
def test_a_tensor_that_is_all_zero_keeps_its_range(way):
    assert way(np.zeros(BINS), 0.0, 1.0)[0] == 0


def broken_pixel(rng, images):
    """One of sixteen thousand."""
    images[7, 3, 3] = 500


def heavy_tails(rng, images):
    """The squared error of the few far out stands against that of the many."""
    images[:] = rng.standard_t(3, images.shape)


@pytest.mark.parametrize(("how", "spoil", "gain_db"), [("percentile", broken_pixel, 10), ("mse", heavy_tails, 0.3)])
def test_ordinary_items_gain_by_what_unusual_ones_lose(how, spoil, gain_db):
    images = tiny.split(256, 2).inputs
    calibration = {tiny.INPUT: images[tiny.INPUT].copy()}
    spoil(np.random.default_rng(0), calibration[tiny.INPUT])
    file = tiny.file(tiny.recipe()) if how == "percentile" else conversion.float32(tiny.uneven())
    expected = outputs_of(file, images, 1)
    usual, narrow = (
        sqnr_db(expected, outputs_of(conversion.quantize(file, "int8", calibration, how=way), images, 1))
        for way in (None, Quantize(ranges=how))
    )
    assert narrow > usual + gain_db


@pytest.mark.parametrize("how", ["percentile", "mse"])
def test_ranges_that_the_runtime_prescribes_are_left(how):
    interpreter = Interpreter(model_content=tiny.file(tiny.recipe("int8_io", quantize=Quantize(ranges=how))))
    [end] = interpreter.get_output_details()
    assert end["quantization"] == (1 / 256, -128)
