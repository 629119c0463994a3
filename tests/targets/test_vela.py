"""Arm's Ethos-U by Vela's cost model: real compilations of tiny files."""

import functools

import pytest
import tf_keras
import tiny

from autoopt import targets
from autoopt.core.schemes import SCHEMES
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.tflite import conversion

pytest.importorskip("ethosu.vela", reason="pip install 'autoopt[npu]'")

layers = tf_keras.layers


@pytest.fixture
def vela():
    return targets.find("vela:ethos-u55-128")


@pytest.fixture(scope="module")
def file():
    return tiny.file(tiny.recipe("int8_io"))


@functools.cache
def dense(share):
    """An int8 file of two larger layers with that share of the weights, the others are zero."""
    tf_keras.utils.set_random_seed(0)
    model = tiny.network(layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(256), layers.Dense(4))
    for layer in model.layers[2:]:
        kernel, bias = layer.get_weights()
        kernel.reshape(-1)[int(share * kernel.size) :] = 0
        layer.set_weights([kernel, bias])
    return conversion.quantize(conversion.float32(model), "int8_io", tiny.split(128, 2).inputs)


def milliseconds(target, file):
    timing = target.latency(file, file)
    (((mine, theirs),),) = timing.rounds
    assert mine == theirs > 0
    return mine / 1e6


def test_it_describes_itself(vela):
    told = vela.describe()
    assert (told["target"], told["processor"]) == ("vela:ethos-u55-128", "ethos-u55-128")
    assert told["runtime"].startswith("ethos-u-vela ")
    assert told["system"] == "system config Ethos_U55_High_End_Embedded, memory mode Shared_Sram"
    assert vela.estimated
    assert "not measured" in told["estimated"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_takes_integers_from_end_to_end_alone(scheme, vela):
    assert bool(vela.refuses(scheme)) == (scheme not in ("int8_io", "uint8_io", "qat_int8_io", "qat_uint8_io"))


def test_bytes_are_moved_on_the_npu_itself(vela, file):
    timing = vela.latency(tiny.file(tiny.recipe("uint8_io")), file)
    assert timing.flags == ()  # no operator is left to the CPU
    (((mine, theirs),),) = timing.rounds
    assert theirs < mine < 2 * theirs


@pytest.mark.parametrize("how", tiny.WAYS.values(), ids=tiny.WAYS)
def test_it_takes_integers_of_8_bits_alone(how, vela):
    refused = vela.refuses("int8_io", how)
    assert bool(refused) == bool(how.keep or how.keep_ends or how.int4)
    if not refused:
        assert vela.memory(tiny.file(tiny.recipe("int8_io", quantize=how)))["flash_bytes"] > 0


@pytest.mark.parametrize("accelerator", ["u55-32", "u65-512", "u85-2048"])
def test_every_family_makes_an_estimate(accelerator, file):
    target = targets.find(f"vela:ethos-{accelerator}")
    timing = target.latency(file, file)
    assert timing.flags == ()
    assert 0 < timing.rounds[0][0][0] < 1e6
    sizes = target.memory(file)
    assert set(sizes) | {"latency_ms"} == set(target.measures)
    assert all(0 < size < 20_000 for size in sizes.values())


def test_the_candidate_comes_first_and_its_reference_second(vela, file):
    (((mine, theirs),),) = vela.latency(file, dense(1)).rounds
    assert mine < theirs


def test_an_estimate_is_the_same_again(vela, file):
    assert vela.latency(file, file) == vela.latency(file, file)


def test_zeros_shrink_flash_and_time(vela):
    full, sparse = (vela.memory(dense(share)) for share in (1, 0.2))
    assert sparse["flash_bytes"] < 0.6 * full["flash_bytes"]
    assert milliseconds(vela, dense(0.2)) < milliseconds(vela, dense(1))


def test_accelerators_and_memory_modes_differ():
    texts = (
        "vela:ethos-u55-32",
        "vela:ethos-u65-512",
        "vela:ethos-u55-256?memory-mode=Sram_Only",
        "vela:ethos-u55-256?system-config=Ethos_U55_Deep_Embedded",
    )
    assert len({milliseconds(targets.find(text), dense(1)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vela", "expected vela:ACCELERATOR, such as vela:ethos-u55-128"),
        ("vela:ethos-u56-128", "unknown accelerator 'ethos-u56-128'; known: ethos-u55-32, .*ethos-u85-2048"),
        ("vela:ethos-u55-128?memory=Sram_Only", "unknown option 'memory'; .*'?memory-mode'?"),
    ],
)
def test_an_accelerator_or_option_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        targets.find(text)


@pytest.mark.parametrize("option", ["memory-mode", "system-config"])
def test_a_configuration_that_vela_does_not_know_is_refused(option, file):
    target = targets.find(f"vela:ethos-u55-128?{option}=Nonsense")
    for measure in (target.memory, lambda f: target.latency(f, f)):
        with pytest.raises(ConfigError, match=r"target vela:.*Nonsense"):
            measure(file)


@pytest.mark.parametrize("scheme", ["float32", "dynamic"])
def test_a_file_of_which_the_npu_runs_nothing_fails_its_candidate(scheme, vela):
    with pytest.raises(CandidateFailed, match="vela: Vela places none of the 7 operators on the NPU"):
        vela.memory(tiny.file(tiny.recipe(scheme)))


def test_what_is_left_to_the_cpu_is_told(vela):
    mixed = tiny.file(tiny.recipe("int8"))  # float inputs and outputs: quantized and dequantized by the CPU
    (flag,) = vela.latency(mixed, mixed).flags
    assert flag.endswith("operators on the CPU, not in the estimate")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_cut_short_fails_its_candidate(share, vela, file):
    with pytest.raises(CandidateFailed, match=r"^vela: Vela can't compile the file: ") as caught:
        vela.memory(file[: int(len(file) * share)])
    assert "\n" not in caught.value.reason


def test_it_leaves_no_files(vela, file, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    vela.memory(file)
    assert list(tmp_path.iterdir()) == []
