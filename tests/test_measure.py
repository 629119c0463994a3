"""What was run: outputs of a file, sizes, latency against the baseline."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from builders import measured
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoopt import benchmark, convert, interpreter, latency_statistics, models
from autoopt.errors import CandidateFailed
from autoopt.metrics import INTERVAL, RANGE, Measurement
from autoopt.targets import Timing

layers = tf_keras.layers
X, Y = tiny.images(70, 9)
# --- running a file


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int8_io"])
def test_batches_give_what_single_items_give(scheme):
    file = tiny.file(tiny.recipe(scheme))
    together = interpreter.outputs_of(file, {tiny.INPUT: X}, 1)
    alone = [interpreter.outputs_of(file, {tiny.INPUT: X[i : i + 1]}, 1) for i in range(len(X))]
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(("scheme", "error"), [("float32", 1e-5), ("float16", 0.01), ("int8", 0.1), ("int8_io", 0.1)])
def test_outputs_are_the_keras_models(scheme, error):
    model, _ = models.unpack(tiny.packed(tiny.recipe()))
    outputs = interpreter.outputs_of(tiny.file(tiny.recipe(scheme)), {tiny.INPUT: X}, 2)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0), atol=error)


def test_a_graph_that_fixes_its_batch_runs_item_by_item():
    import tensorflow as tf

    fixed = layers.Lambda(lambda x: tf.reshape(x, (1, 64)))
    model = tiny.network(fixed, layers.Dense(4))
    file = convert.float32(model)
    expected = np.concatenate([model(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(interpreter.outputs_of(file, {tiny.INPUT: X[:5]}, 1), expected, atol=1e-5)


def test_several_inputs_are_told_apart_by_name():
    first, second = tf_keras.Input((2,), name="b"), tf_keras.Input((2,), name="a")
    file = convert.float32(tf_keras.Model([first, second], layers.Subtract()([first, second])))
    one, three = np.ones((40, 2)), np.full((40, 2), 3.0)
    for inputs in ({"b": three, "a": one}, {"a": one, "b": three}):
        np.testing.assert_array_equal(interpreter.outputs_of(file, inputs, 1), np.full((40, 2), 2.0))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_cut_short_fails_its_candidate(share):
    file = tiny.file(tiny.recipe())
    with pytest.raises(CandidateFailed, match=r"^accuracy: LiteRT can't run the file: "):
        interpreter.outputs_of(file[: int(len(file) * share)], {tiny.INPUT: X}, 1)


@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-50, 50, width=32)),
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.floats(0.01, 0.5),
    st.integers(-100, 100),
)
def test_quantized_values_come_back_within_half_a_step(values, dtype, scale, zero):
    zero = max(zero, np.iinfo(dtype).min)
    detail = {"dtype": dtype, "quantization": (scale, zero)}
    back = interpreter.dequantize(interpreter.quantize(values, detail), detail)
    low, high = ((limit - zero) * scale for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, np.clip(values, low, high), atol=scale / 2 + 1e-3)


def test_what_is_not_quantized_passes():
    detail = {"dtype": np.float32, "quantization": (0.0, 0)}
    values = np.array([0.1, -1e6])
    np.testing.assert_array_equal(interpreter.quantize(values, detail), values.astype(np.float32))
    np.testing.assert_array_equal(interpreter.dequantize(values.astype(np.float32), detail), values.astype(np.float32))


# --- sizes


def test_compressed_size_shows_zeros_and_is_always_the_same():
    noise = np.random.default_rng(0).bytes(10_000)
    sparse = noise[:3000] + bytes(7000)
    assert interpreter.compressed_bytes(noise) >= 10_000
    assert 3000 <= interpreter.compressed_bytes(sparse) < 3200
    assert interpreter.compressed_bytes(sparse) == interpreter.compressed_bytes(bytes(bytearray(sparse)))


# --- latency against the baseline


def runs(ratio, seed, processes=8, rounds=6, pairs=40, spells=0.0, bursts=0.0, spikes=0.0):
    """Rounds as a target gives them.

    With jitter, slow spells of a whole round in which the two don't slow down alike, bursts of load that slow
    both runs of a pair, and spikes that hit one run.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(processes):
        place = np.exp(rng.normal(0, 0.004, 2))  # where this process's memory lies
        one = []
        for _ in range(rounds):
            slow = np.array([1.3, 1.5]) if rng.random() < spells else np.ones(2)
            both = np.array([ratio, 1.0]) * 1e6 * place * slow * (1 + rng.gamma(2, 0.005, (pairs, 2)))
            both *= np.where(rng.random((pairs, 1)) < bursts, rng.uniform(1.5, 10, (pairs, 1)), 1)
            both *= np.where(rng.random((pairs, 2)) < spikes, rng.uniform(1.5, 10, (pairs, 2)), 1)
            one.append([(int(a), int(b)) for a, b in both])
        made.append(one)
    return made


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_intervals_hold_the_true_ratio_about_as_often_as_they_say(ratio):
    found = [latency_statistics.latency_ratio(runs(ratio, seed), "") for seed in range(100)]
    assert sum(m.low <= ratio <= m.high for m in found) >= 95
    assert np.median([(m.high - m.low) / m.value for m in found]) < 0.02
    assert all(m.n == 8 * 6 * 40 for m in found)


@pytest.mark.parametrize(
    "load", [{"spells": 0.6}, {"bursts": 0.2}, {"spikes": 0.15}, {"spells": 0.5, "bursts": 0.1, "spikes": 0.1}]
)
def test_load_on_the_machine_hardly_moves_the_ratio(load):
    for seed in range(20):
        found = latency_statistics.latency_ratio(runs(0.5, seed, **load), "")
        assert found.value == pytest.approx(0.5, rel=0.015)


pair = st.tuples(st.integers(100, 10**9), st.integers(100, 10**9))
times = st.lists(
    st.lists(st.lists(pair, min_size=1, max_size=5), min_size=1, max_size=3),
    min_size=1,
    max_size=5,
)


def each(processes, change):
    return [[[change(a, b) for a, b in one] for one in rounds] for rounds in processes]


@given(times)
def test_swapping_the_two_inverts_the_ratio(processes):
    forth = latency_statistics.latency_ratio(processes, "")
    back = latency_statistics.latency_ratio(each(processes, lambda a, b: (b, a)), "")
    assert forth.low <= forth.value * (1 + 1e-12)
    assert forth.value <= forth.high * (1 + 1e-12)
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((forth.value, forth.low, forth.high))


@given(times)
def test_a_file_that_takes_the_same_as_the_baseline_has_ratio_one(processes):
    same = latency_statistics.latency_ratio(each(processes, lambda a, _: (a, a)), "")
    assert same.value == 1
    assert same.low <= 1 <= same.high


SAME = [[(100, 100)]] * 2


@pytest.mark.parametrize(
    ("processes", "flags"),
    [
        ([SAME] * 3, ()),
        ([[[(100, 100)]], [[(102, 100)]], [[(98, 100)]]], ("wide interval",)),
        ([SAME] * 2, ("wide interval",)),
        (
            [[[(100, 100)]], [[(100, 100)]], [[(130, 130)]], [[(130, 130)]]],
            ("the reference became 30% slower meanwhile: throttling, or other load", "wide interval"),
        ),
    ],
)
def test_what_a_reader_must_know_of_a_latency_is_flagged(processes, flags):
    assert latency_statistics.latency_ratio(processes, "").flags == flags


def test_with_too_few_calm_processes_next_to_nothing_is_claimed():
    found = latency_statistics.latency_ratio([SAME] * 2, "")
    assert found.low < 0.6 < 1.6 < found.high


def test_the_targets_own_flags_are_kept():
    assert latency_statistics.latency_ratio([SAME] * 3, "", ["on the GPU", "on the GPU"]).flags == ("on the GPU",)


def test_computed_times_are_exact():
    found = latency_statistics.latency_ratio([[[(150, 100)]]], "", exact=True)
    assert (found.value, found.low, found.high, found.flags) == (pytest.approx(1.5), found.value, found.value, ())


@pytest.mark.parametrize(("spread", "expected"), [(0.0005, 4), (0.5, 9)])
def test_timing_goes_on_until_the_interval_is_narrow(spread, expected):
    rng = np.random.default_rng(0)

    def once():
        return Timing(rounds=[[(int(1e6 * math.exp(rng.normal(0, spread))), 1_000_000)]])

    assert len(benchmark.steady(once, fewest=4, most=9)) == expected


def test_scaling_keeps_interval_and_flags():
    wide = latency_statistics.latency_ratio([[[(100, 100)]], [[(102, 100)]], [[(98, 100)]]], "")
    ms = latency_statistics.scale(wide, Measurement.exact(4.0, "x"), "times 4 ms")
    assert (ms.value, ms.low, ms.high) == pytest.approx((4 * wide.value, 4 * wide.low, 4 * wide.high))
    assert (ms.n, ms.how, ms.flags) == (3, "times 4 ms", ("wide interval",))
    assert latency_statistics.scale(measured(2.0), Measurement.exact(0.5, "x"), "").value == 1.0


def test_milliseconds_are_as_uncertain_as_the_ratio_and_the_reference_together():
    """0.5 within 1 % times 4 ms within 10 %: errors that are independent add as their squares."""
    ratio = Measurement(value=0.5, low=0.5 / 1.01, high=0.5 * 1.01, n=5, how="x")
    reference = Measurement(value=4.0, low=4 / 1.1, high=4 * 1.1, n=5, how="x")
    ms = latency_statistics.scale(ratio, reference, "")
    factor = np.exp(np.hypot(np.log(1.01), np.log(1.1)))
    assert (ms.value, ms.low, ms.high) == pytest.approx((2.0, 2 / factor, 2 * factor))
    assert ms.high / ms.value > 1.1


def test_a_time_over_processes_has_students_interval():
    """Checked by hand: ln of 2.0, 2.1, 1.9, 2.05, 1.95 ms has the standard deviation 0.0396, and t(0.99, 4) is 3.747."""
    found = latency_statistics.over_processes([2.0, 2.1, 1.9, 2.05, 1.95], "so", ["on the GPU"])
    half = np.hypot(3.747 * 0.03958 / 5**0.5, latency_statistics.RESOLUTION)
    mean = np.exp(np.mean(np.log([2.0, 2.1, 1.9, 2.05, 1.95])))
    assert (found.value, found.n, found.how, found.flags, found.ends) == (2.0, 5, "so", ("on the GPU",), INTERVAL)
    assert (found.low, found.high) == pytest.approx((mean * np.exp(-half), mean * np.exp(half)), rel=1e-3)


def test_a_computed_time_is_exact():
    found = latency_statistics.over_processes([2.0], "so")
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_the_interval_over_processes_covers_the_truth():
    rng = np.random.default_rng(0)
    made = [latency_statistics.over_processes(np.exp(rng.normal(0, 0.05, 5)), "") for _ in range(500)]
    assert np.mean([m.low <= 1 <= m.high for m in made]) > 0.94


def test_a_few_readings_have_a_range_which_is_no_interval():
    found = latency_statistics.repeated([5, 3, 4], "thrice")
    assert (found.value, found.low, found.high, found.n) == (4, 3, 5, 3)
    assert (found.how, found.ends) == ("thrice; range of 3 readings", RANGE)
    assert Measurement.from_dict(found.to_dict()) == found
    alone = latency_statistics.repeated([5], "computed")
    assert (alone.how, alone.ends) == ("computed", INTERVAL)
    assert "ends" not in alone.to_dict()


def test_a_file_for_one_item_is_given_one_at_a_time():
    """It takes more without a word, and computes with the first of them."""

    class First(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, "x")])
        def __call__(self, x):
            return x + tf.slice(x, (0, 0), (1, 1))

    module = First()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(interpreter.outputs_of(converter.convert(), {"x": x}, 1), x + x[:, :1], rtol=1e-6)
