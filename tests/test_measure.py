"""Statistics of what was run: accuracy, intervals, running a file, latency against the baseline."""

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

from autoopt import convert, measure, models
from autoopt.errors import CandidateFailed
from autoopt.metrics import unpack_outcomes, wilson
from autoopt.targets import Timing
from autoopt.task import Split

layers = tf_keras.layers
X, Y = tiny.images(70, 9)
scores = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.integers(2, 6)), elements=st.floats(-100, 100, width=32), unique=True
)


# --- accuracy


@pytest.mark.parametrize(
    ("labels", "outputs", "right"),
    [
        ([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [True, True, False]),
        ([[0], [1]], [[0.9, 0.1], [0.9, 0.1]], [True, False]),
        ([[0, 1], [1, 0]], [[0.1, 0.9], [0.1, 0.9]], [True, False]),
        ([0, 1, 1], [[0.4], [0.6], [0.4]], [True, True, False]),
        ([0.0, 1.0], [0.4, 0.6], [True, True]),
        ([0, 0], [[0.9, np.nan], [np.nan, 0.1]], [False, False]),
        ([0, 1], [[np.nan], [np.inf]], [False, False]),
    ],
)
def test_which_items_are_right(labels, outputs, right):
    assert measure.correct(np.array(labels), np.array(outputs)).tolist() == right


def scored(manifest, labels, outputs, how):
    return measure.quality(manifest, Split(inputs={}, labels=np.asarray(labels)), outputs, how)


def quality_value(manifest, labels, outputs):
    return measure.quality_value(manifest, Split(inputs={}, labels=np.asarray(labels)), outputs)


def test_logits_of_one_output_turn_at_zero():
    labels, logits = np.array([0, 1, 1]), np.array([[-0.1], [0.2], [-3.0]])
    assert measure.correct(labels, logits, 0.0).tolist() == [True, True, False]
    taking_logits = {"keras": {"config": {"from_logits": True}}}
    assert quality_value(tiny.manifest(taking_logits), labels, logits) == pytest.approx(2 / 3)
    assert scored(tiny.manifest(taking_logits), labels, logits, "").measurement.value == pytest.approx(2 / 3)
    assert quality_value(tiny.manifest("binary_crossentropy"), labels, logits) == pytest.approx(1 / 3)


@given(scores, st.data())
def test_index_and_one_hot_labels_mean_the_same(outputs, data):
    n, classes = outputs.shape
    labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    right = measure.correct(labels, outputs)
    np.testing.assert_array_equal(right, measure.correct(np.eye(classes)[labels], outputs))
    np.testing.assert_array_equal(right, measure.correct(labels[:, None], outputs[:, None, :]))
    assert measure.correct(outputs.argmax(axis=1), outputs).all()


@given(scores, st.data())
def test_accuracy_is_counted_item_by_item(outputs, data):
    n, classes = outputs.shape
    labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    found = scored(tiny.manifest(), labels, outputs, "here")
    measurement, right = found.measurement, unpack_outcomes(found.outcomes, n)
    assert found.predictions == tuple(outputs.argmax(axis=1))
    assert found.classes == tuple((right[labels == c].sum(), (labels == c).sum()) for c in range(labels.max() + 1))
    np.testing.assert_array_equal(right, measure.correct(labels, outputs))
    assert measurement.value == quality_value(tiny.manifest(), labels, outputs) == right.mean()
    assert (measurement.low, measurement.high) == wilson(int(right.sum()), n)
    assert (measurement.n, measurement.how) == (n, "here")


def test_agreement_counts_items_given_the_same_class():
    found = measure.agreement([0, 1, 2, 2], [0, 1, 1, 2])
    assert (found.value, found.n) == (0.75, 4)
    assert (found.low, found.high) == wilson(3, 4)


# --- a metric of one's own, by the bootstrap


def mae(labels, outputs):
    return float(np.abs(labels - outputs).mean())


def mean(labels, outputs):
    return float(outputs.mean())


def needs_both(labels, outputs):
    if len(set(labels.tolist())) < 2:
        raise ValueError("one class only")
    return float(outputs.mean())


def never_again(labels, outputs):
    """Defined for the items as they are, and for no draw of them."""
    if outputs.tolist() != sorted(set(outputs.tolist())):
        raise ValueError("an item stands twice")
    return float(outputs.mean())


def raising(labels, outputs):
    raise RuntimeError("two\nlines")


def nan(labels, outputs):
    return math.nan


def own(function):
    """A manifest with a function of this file as its metric."""
    found = {"module": __name__, "name": function.__name__}
    return tiny.manifest("mse", {"name": "own", "direction": "min", "unit": "", "function": found})


def test_bootstrap_interval_has_the_width_that_theory_gives():
    outputs = np.random.default_rng(1).normal(5, 2, 400)
    quality = scored(own(mean), np.zeros(400), outputs, "here")
    measurement = quality.measurement
    half = 1.96 * outputs.std() / math.sqrt(400)
    assert measurement.value == pytest.approx(outputs.mean())
    assert (measurement.high - measurement.low) / 2 == pytest.approx(half, rel=0.2)
    assert (measurement.n, measurement.how, measurement.flags) == (400, "here; bootstrap of 200 resamples", ())
    assert (quality.outcomes, quality.predictions) == ("", ())
    assert scored(own(mean), np.zeros(400), outputs, "here") == quality


def test_two_files_are_resampled_on_the_same_items():
    outputs = np.random.default_rng(1).normal(5, 2, 50)
    one, other = (scored(own(mean), np.zeros(50), x, "").resamples for x in (outputs, outputs + 1))
    assert len(one) == measure.RESAMPLES
    np.testing.assert_allclose(np.array(other) - np.array(one), 1, atol=1e-5)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(100):
        outputs = np.random.default_rng(seed).normal(5, 2, 80)
        found = scored(own(mean), np.zeros(80), outputs, "").measurement
        held += found.low <= 5 <= found.high
    assert 88 <= held <= 99


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3)))
def test_bootstrap_interval_contains_its_value(outputs):
    found = scored(own(mae), np.zeros(len(outputs)), outputs, "").measurement
    assert found.low <= found.value <= found.high


def test_draws_for_which_the_metric_is_undefined_are_left_out():
    quality = scored(own(needs_both), np.array([1] + [0] * 30), np.linspace(0, 1, 31), "")
    drawn = sum(x is not None for x in quality.resamples)
    assert 100 <= drawn < 160  # 64 % of the draws hold the one item
    assert quality.measurement.how.endswith(f"bootstrap of {drawn} resamples")
    assert quality.measurement.flags == ()
    few = scored(own(never_again), np.zeros(5), np.arange(5.0), "").measurement
    assert few.flags == ("interval from few resamples",)
    assert few.low == few.value == few.high == 2


@pytest.mark.parametrize(
    ("function", "reason"),
    [(raising, "own's function raised RuntimeError: two lines"), (nan, "own is nan")],
)
def test_a_metric_that_gives_no_number_fails_the_candidate(function, reason):
    with pytest.raises(CandidateFailed) as caught:
        scored(own(function), np.zeros(4), np.zeros(4), "")
    assert (caught.value.stage, caught.value.reason) == ("accuracy", reason)


# --- running a file


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int8_io"])
def test_batches_give_what_single_items_give(scheme):
    file = tiny.file(tiny.recipe(scheme))
    together = measure.outputs_of(file, {tiny.INPUT: X}, 1)
    alone = [measure.outputs_of(file, {tiny.INPUT: X[i : i + 1]}, 1) for i in range(len(X))]
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(("scheme", "error"), [("float32", 1e-5), ("float16", 0.01), ("int8", 0.1), ("int8_io", 0.1)])
def test_outputs_are_the_keras_models(scheme, error):
    model, _ = models.unpack(tiny.packed(tiny.recipe()))
    outputs = measure.outputs_of(tiny.file(tiny.recipe(scheme)), {tiny.INPUT: X}, 2)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0), atol=error)


def test_a_graph_that_fixes_its_batch_runs_item_by_item():
    import tensorflow as tf

    fixed = layers.Lambda(lambda x: tf.reshape(x, (1, 64)))
    model = tiny.network(fixed, layers.Dense(4))
    file = convert.float32(model)
    expected = np.concatenate([model(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(measure.outputs_of(file, {tiny.INPUT: X[:5]}, 1), expected, atol=1e-5)


def test_several_inputs_are_told_apart_by_name():
    first, second = tf_keras.Input((2,), name="b"), tf_keras.Input((2,), name="a")
    file = convert.float32(tf_keras.Model([first, second], layers.Subtract()([first, second])))
    one, three = np.ones((40, 2)), np.full((40, 2), 3.0)
    for inputs in ({"b": three, "a": one}, {"a": one, "b": three}):
        np.testing.assert_array_equal(measure.outputs_of(file, inputs, 1), np.full((40, 2), 2.0))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_cut_short_fails_its_candidate(share):
    file = tiny.file(tiny.recipe())
    with pytest.raises(CandidateFailed, match=r"^accuracy: LiteRT can't run the file: "):
        measure.outputs_of(file[: int(len(file) * share)], {tiny.INPUT: X}, 1)


@given(
    arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(-50, 50, width=32)),
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.floats(0.01, 0.5),
    st.integers(-100, 100),
)
def test_quantized_values_come_back_within_half_a_step(values, dtype, scale, zero):
    zero = max(zero, np.iinfo(dtype).min)
    detail = {"dtype": dtype, "quantization": (scale, zero)}
    back = measure.dequantize(measure.quantize(values, detail), detail)
    low, high = ((limit - zero) * scale for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, np.clip(values, low, high), atol=scale / 2 + 1e-3)


def test_what_is_not_quantized_passes():
    detail = {"dtype": np.float32, "quantization": (0.0, 0)}
    values = np.array([0.1, -1e6])
    np.testing.assert_array_equal(measure.quantize(values, detail), values.astype(np.float32))
    np.testing.assert_array_equal(measure.dequantize(values.astype(np.float32), detail), values.astype(np.float32))


# --- sizes


def test_compressed_size_shows_zeros_and_is_always_the_same():
    noise = np.random.default_rng(0).bytes(10_000)
    sparse = noise[:3000] + bytes(7000)
    assert measure.compressed_bytes(noise) >= 10_000
    assert 3000 <= measure.compressed_bytes(sparse) < 3200
    assert measure.compressed_bytes(sparse) == measure.compressed_bytes(bytes(bytearray(sparse)))


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
    found = [measure.latency_ratio(runs(ratio, seed), "") for seed in range(100)]
    assert sum(m.low <= ratio <= m.high for m in found) >= 95
    assert np.median([(m.high - m.low) / m.value for m in found]) < 0.02
    assert all(m.n == 8 * 6 * 40 for m in found)


@pytest.mark.parametrize(
    "load", [{"spells": 0.6}, {"bursts": 0.2}, {"spikes": 0.15}, {"spells": 0.5, "bursts": 0.1, "spikes": 0.1}]
)
def test_load_on_the_machine_hardly_moves_the_ratio(load):
    for seed in range(20):
        found = measure.latency_ratio(runs(0.5, seed, **load), "")
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
    forth = measure.latency_ratio(processes, "")
    back = measure.latency_ratio(each(processes, lambda a, b: (b, a)), "")
    assert forth.low <= forth.value * (1 + 1e-12)
    assert forth.value <= forth.high * (1 + 1e-12)
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((forth.value, forth.low, forth.high))


@given(times)
def test_a_file_that_takes_the_same_as_the_baseline_has_ratio_one(processes):
    same = measure.latency_ratio(each(processes, lambda a, _: (a, a)), "")
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
    assert measure.latency_ratio(processes, "").flags == flags


def test_with_too_few_calm_processes_next_to_nothing_is_claimed():
    found = measure.latency_ratio([SAME] * 2, "")
    assert found.low < 0.6 < 1.6 < found.high


def test_the_targets_own_flags_are_kept():
    assert measure.latency_ratio([SAME] * 3, "", ["on the GPU", "on the GPU"]).flags == ("on the GPU",)


def test_computed_times_are_exact():
    found = measure.latency_ratio([[[(150, 100)]]], "", exact=True)
    assert (found.value, found.low, found.high, found.flags) == (pytest.approx(1.5), found.value, found.value, ())


@pytest.mark.parametrize(("spread", "expected"), [(0.0005, 4), (0.5, 9)])
def test_timing_goes_on_until_the_interval_is_narrow(spread, expected):
    rng = np.random.default_rng(0)

    def once():
        return Timing(rounds=[[(int(1e6 * math.exp(rng.normal(0, spread))), 1_000_000)]])

    assert len(measure.steady(once, fewest=4, most=9)) == expected


def test_scaling_keeps_interval_and_flags():
    wide = measure.latency_ratio([[[(100, 100)]], [[(102, 100)]], [[(98, 100)]]], "")
    ms = measure.scale(wide, 4.0, "times 4 ms")
    assert (ms.value, ms.low, ms.high) == pytest.approx((4 * wide.value, 4 * wide.low, 4 * wide.high))
    assert (ms.n, ms.how, ms.flags) == (3, "times 4 ms", ("wide interval",))
    assert measure.scale(measured(2.0), 0.5, "").value == 1.0


def test_repeats_have_their_range_as_interval():
    found = measure.repeated([5, 3, 4], "thrice")
    assert (found.value, found.low, found.high, found.n, found.how) == (4, 3, 5, 3, "thrice")


def test_a_file_for_one_item_is_given_one_at_a_time():
    """It takes more without a word, and computes with the first of them."""

    class First(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, "x")])
        def __call__(self, x):
            return x + tf.slice(x, (0, 0), (1, 1))

    module = First()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(measure.outputs_of(converter.convert(), {"x": x}, 1), x + x[:, :1], rtol=1e-6)
