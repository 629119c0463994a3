"""TensorFlow Lite Micro as a target: real runs of tiny files."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tiny
from ai_edge_litert.interpreter import Interpreter

from autoopt import targets
from autoopt.core.schemes import SCHEMES
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.targets import tflm_runner
from autoopt.targets.micro_compression import compress
from autoopt.tflite import conversion

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="pip install 'autoopt[micro]'")

layers = tf_keras.layers
RUNS = ("float32", "int8", "int8_io", "uint8_io", "int16x8", "qat_int8", "qat_int8_io", "qat_uint8_io")
BIAS_BYTES = 4 * 1000


@pytest.fixture
def micro():
    return targets.find("micro:64KB")


@functools.cache
def wide():
    """A float32 file whose int8 weights take more than 256 KiB, and whose first layer has 1000 channels."""
    tf_keras.utils.set_random_seed(0)
    stack = layers.Flatten(), layers.Dense(1000, activation="relu"), layers.Dense(300, activation="relu")
    return conversion.float32(tiny.network(*stack, layers.Dense(4)))


def runs(file, arena):
    """Whether TFLM loads and runs the file in that arena."""
    try:
        interpreter = runtime.Interpreter.from_bytes(file, arena_size=arena)
        interpreter.invoke()
    except RuntimeError:
        return False
    return True


def test_it_describes_itself(micro):
    told = micro.describe()
    assert told["target"] == "micro:64KB"
    assert told["processor"] == "any, with an arena of 64000 B"
    assert told["runtime"].startswith("tflite-micro ")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_refuses_what_the_runtime_has_no_kernels_for(scheme, micro):
    assert bool(micro.refuses(scheme)) == (scheme not in RUNS)


@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_what_it_takes_of_the_ways_to_quantize_runs(how, micro):
    file = tiny.file(tiny.recipe("int8_io", quantize=how))
    refused = micro.refuses("int8_io", how)
    assert bool(refused) == (bool(how.int4_dense or how.int4_share) and how.granularity == "channel")
    if refused:
        with pytest.raises(CandidateFailed, match="TFLM can't run the file"):
            micro.memory(file)
    else:
        assert 1000 < micro.memory(file)["memory_bytes"] < 10_000


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if not scheme.qat])
def test_what_it_refuses_fails_and_what_it_takes_runs(scheme, micro):
    file = tiny.file(tiny.recipe(scheme))
    if micro.refuses(scheme):
        with pytest.raises(CandidateFailed):
            micro.memory(file)
    else:
        assert 1000 < micro.memory(file)["memory_bytes"] < 10_000


@pytest.mark.parametrize("scheme", ["float32", "int8_io", "int16x8"])
def test_the_arena_is_exact_to_the_byte(scheme, micro):
    file = tiny.file(tiny.recipe(scheme))
    arena = micro.memory(file)["memory_bytes"]
    assert runs(file, arena)
    assert not runs(file, arena - 1)


def test_the_arena_does_not_depend_on_the_size_that_is_given():
    file = tiny.file(tiny.recipe("int8_io"))
    assert targets.find("micro:1").memory(file) == targets.find("micro:1GB").memory(file)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("micro:64000", 64000),
        ("micro:64KB", 64000),
        ("micro:64 KB", 64000),
        ("micro:64KiB", 65536),
        ("micro:0.5MB", 500_000),
        ("micro:64kb", 64000),
        ("micro:64000B", 64000),
    ],
)
def test_the_arena_is_a_budget_in_the_units_of_budgets(text, size):
    assert targets.find(text).budgets == (f"memory_bytes <= {size}",)


@pytest.mark.parametrize(
    "text",
    [
        "micro",
        "micro:",
        "micro:much",
        "micro:64XB",
        "micro:64KBKB",
        "micro:0",
        "micro:-5KB",
        "micro:nan",
        "micro:infMB",
    ],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match=r"target micro.*: expected .*arena|expected micro:ARENA"):
        targets.find(text)


def test_a_dynamic_file_fails_with_the_runtimes_own_words(micro):
    with pytest.raises(CandidateFailed) as caught:
        micro.memory(tiny.file(tiny.recipe("dynamic")))
    assert caught.value.stage == "micro"
    assert caught.value.reason.startswith("TFLM can't run the file: ")
    assert "Hybrid models are not supported on TFLite Micro" in caught.value.reason


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_file_cut_short_fails_its_candidate(share, micro):
    file = tiny.file(tiny.recipe("int8_io"))
    with pytest.raises(CandidateFailed, match=r"^micro: TFLM") as caught:
        micro.memory(file[: int(len(file) * share)])
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize("scheme", ["float32", "int8", "int8_io", "uint8_io", "int16x8"])
def test_its_outputs_are_those_of_litert(scheme):
    assert tflm_runner.difference(runtime, tiny.file(tiny.recipe(scheme)), 64000) == 0


def two_headed():
    """A file with two inputs of different shapes and two outputs."""
    a, b = layers.Input((4,), name="a"), layers.Input((3,), name="b")
    both = layers.Concatenate()([a, b])
    return conversion.float32(tf_keras.Model([a, b], [layers.Dense(2)(both), layers.Dense(5)(both)]))


def test_every_input_is_set_and_every_output_looked_at(monkeypatch):
    file = two_headed()
    assert tflm_runner.difference(runtime, file, 64000) == 0
    assert tflm_runner.alike(runtime, file, file, 64000)
    assert not tflm_runner.alike(runtime, file, two_headed(), 64000)  # other weights
    real = tflm_runner.run

    def spoiled(*arguments):
        first, second = real(*arguments)
        return [first, second + 0.5]

    monkeypatch.setattr(tflm_runner, "run", spoiled)
    assert tflm_runner.difference(runtime, file, 64000) == pytest.approx(0.5, abs=1e-3)


def test_indices_stay_inside_their_table(micro):
    words = layers.Input((6,), dtype="int32", name="words")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(50, 4)(words))
    assert micro.memory(conversion.float32(tf_keras.Model(words, layers.Dense(3)(pooled))))["memory_bytes"] > 0


@pytest.mark.parametrize("scheme", ["int8", "int8_io"])
def test_large_weights_are_found(scheme):
    """litert-quantizer lays them outside the flatbuffer, where TFLM does not look."""
    file = conversion.quantize(wide(), scheme, tiny.split(128, 2).inputs)
    assert len(file) > 256 * 1024
    arena = targets.find("micro:1MB").memory(file)["memory_bytes"]
    assert 2 * BIAS_BYTES < arena < 8 * BIAS_BYTES


def test_weights_outside_the_flatbuffer_do_not_pass(monkeypatch, micro):
    monkeypatch.setattr(conversion, "inline", lambda file: file)
    file = conversion.quantize(wide(), "int8_io", tiny.split(128, 2).inputs)
    with pytest.raises(CandidateFailed, match=r"TFLM's outputs differ from LiteRT's by "):
        micro.memory(file)


def test_outputs_that_are_no_numbers_do_not_pass(micro):
    inputs = layers.Input((4,), name="x")
    file = conversion.float32(tf_keras.Model(inputs, tf.math.log(inputs - 2)))
    with pytest.raises(CandidateFailed, match=r"TFLM's outputs differ from LiteRT's by nan"):
        micro.memory(file)


def test_it_has_no_latency(micro):
    assert "latency_ms" not in micro.measures
    with pytest.raises(NotImplementedError):
        micro.latency(b"", b"")


def test_a_step_is_that_of_what_the_output_was_dequantized_from():
    steps = {}
    for scheme in ("float32", "int8", "int8_io", "int16x8"):
        interpreter = Interpreter(model_content=tiny.file(tiny.recipe(scheme)))
        steps[scheme] = tflm_runner.step(interpreter, interpreter.get_output_details()[0]["index"])
    assert steps == {"float32": 0, "int8": 1 / 256, "int8_io": 1 / 256, "int16x8": pytest.approx(2**-15, rel=0.01)}


# --- look-up tables


@pytest.mark.parametrize("scheme", ["int8", "int8_io"])
@pytest.mark.parametrize("whole", [True, False])
def test_clusters_pay_as_tables_and_compute_the_same(scheme, whole):
    file = tiny.clustered(scheme, whole, "tensor" if whole else "channel")
    plain, tables = targets.find("micro:64KB"), targets.find("micro:64KB?weights=tables")
    found = tables.memory(file)
    flashed = tables.flashed(file)
    assert found["flash_bytes"] == len(flashed) < 0.9 * len(file)
    assert runs(flashed, found["memory_bytes"])
    assert not runs(flashed, found["memory_bytes"] - 1)
    assert tflm_runner.alike(runtime, file, flashed, 64000)
    assert plain.flashed(file) == file
    assert set(plain.memory(file)) == {"memory_bytes"}


def test_without_clusters_there_are_no_tables():
    file, tables = tiny.file(tiny.recipe("int8_io")), targets.find("micro:64KB?weights=tables")
    assert tables.flashed(file) == file
    assert tables.memory(file) == {
        **targets.find("micro:64KB").memory(file),
        "flash_bytes": len(file),
    }


def test_tables_that_hold_something_else_do_not_pass(monkeypatch):
    file = tiny.clustered()
    others = compress(tiny.clustered(fold=False, granularity="channel"))
    monkeypatch.setattr("autoopt.targets.micro.compress", lambda _: others)
    with pytest.raises(CandidateFailed, match="outputs with look-up tables are not those without"):
        targets.find("micro:64KB?weights=tables").memory(file)


def test_other_ways_to_store_weights_are_refused():
    with pytest.raises(ConfigError, match=r"weights: expected one of plain, tables, got 'zip'"):
        targets.find("micro:64KB?weights=zip")


def test_a_table_is_looked_up_where_it_has_rows(micro):
    """What lay in the arena by chance was taken for an index, and the arena that it took to be zeros for the smallest."""
    words = layers.Input((6,), dtype="int32", name="words")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(50, 4)(words))
    file = conversion.float32(tf_keras.Model(words, layers.Dense(3)(pooled)))
    indices = {"words": np.random.default_rng(0).integers(0, 50, (64, 6)).astype(np.int32)}
    assert micro.memory(conversion.quantize(file, "int8_io", indices))["memory_bytes"] < 5000


@pytest.mark.parametrize("layer", [layers.GRU, layers.LSTM])
def test_recurrent_layers_run_when_made_for_one_item(layer, micro):
    model = tiny.network(layer(4), layers.Dense(3), shape=(5, 4))
    file = conversion.float32(model, 1)
    x = {tiny.INPUT: np.random.default_rng(0).normal(size=(32, 5, 4)).astype(np.float32)}
    for made in (file, conversion.quantize(file, "int8_io", x), conversion.int16x8(model, x, 1)):
        assert 1000 < micro.memory(made)["memory_bytes"] < 40_000


def test_steps_of_all_items_in_a_row_run_when_made_for_one_item(micro):
    """The shape that was written was that of one step."""
    model = tiny.network(layers.TimeDistributed(layers.Dense(3)), shape=(5, 4))
    with pytest.raises(CandidateFailed, match="RESHAPE"):
        micro.memory(conversion.float32(model))
    file = conversion.float32(model, 1)
    x = {tiny.INPUT: np.random.default_rng(0).normal(size=(32, 5, 4)).astype(np.float32)}
    for made in (file, conversion.quantize(file, "int8_io", x)):
        assert micro.memory(made)["memory_bytes"] < 5000


def test_items_that_are_masked_in_part_are_compared(micro):
    """Of nothing but zeros, which are masked, the mean was no number."""
    words = layers.Input((6,), dtype="int32", name="words")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(50, 4, mask_zero=True)(words))
    file = conversion.float32(tf_keras.Model(words, layers.Dense(3)(pooled)), 1)
    assert micro.memory(file)["memory_bytes"] < 5000
