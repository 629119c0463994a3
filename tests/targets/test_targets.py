"""What holds for every target of the table, whichever it is: a new one is tried by being listed."""

import pytest
import tiny

from autoopt import targets
from autoopt.core.budgets import parse
from autoopt.core.metrics import STANDARD
from autoopt.core.schemes import SCHEMES
from autoopt.errors import ConfigError
from autoopt.targets import TARGETS, Deployable

EXAMPLES = {
    "host": "host",
    "ssh": "ssh://pi@board",
    "adb": "adb:PHONE?benchmark_model=/data/benchmark_model",
    "vela": "vela:ethos-u55-128",
    "micro": "micro:64KB",
    "edgetpu": "edgetpu",
}
HERE = [name for name in EXAMPLES if name not in ("ssh", "adb")]  # those two need a device that answers


@pytest.fixture(scope="module")
def file():
    return tiny.file(tiny.recipe("int8_io"))


@pytest.fixture
def target(request):
    return targets.find(EXAMPLES[request.param])


each = pytest.mark.parametrize("target", list(EXAMPLES), indirect=True)


def test_there_is_an_example_of_every_target():
    assert set(EXAMPLES) == set(TARGETS)


@each
def test_its_name_finds_it(target):
    again = targets.find(target.name)
    assert (type(again), again.name) == (type(target), target.name)


@each
def test_what_it_measures_and_trades_is_known(target):
    assert set(target.measures) <= {"latency_ms", "memory_bytes", "flash_bytes"}
    assert set(target.objectives) <= {"quality", "size_bytes", "compressed_bytes", *target.measures}
    assert len(set(target.objectives)) == len(target.objectives) > 1
    for text in target.budgets:
        assert parse(text, STANDARD).metric in target.measures


@each
def test_it_runs_its_own_reference_and_says_why_not_of_others(target):
    assert target.refuses(target.reference) == ""
    reasons = {scheme: target.refuses(scheme) for scheme in SCHEMES}
    assert all(isinstance(reason, str) for reason in reasons.values())
    assert any(reason == "" for scheme, reason in reasons.items() if scheme != "float32")


@each
def test_what_has_the_machine_to_itself_is_measured_on_it(target):
    assert target.exclusive in ("machine", "device", "")
    assert target.exclusive == "" or not (target.exact or target.estimated)


@each
def test_what_is_deployed_is_the_file_or_made_of_it(target, file):
    made = target.deployable(file)
    assert made is None or (isinstance(made, Deployable) and len(made.file) > 0)


@pytest.mark.parametrize("target", HERE, indirect=True)
def test_it_brings_what_it_says_that_it_measures(target, file):
    try:
        told = target.describe()
    except ConfigError as error:
        pytest.skip(str(error))
    assert told["target"] == target.name
    assert told["processor"]
    assert told["runtime"]
    memory = target.memory(file)
    assert set(memory) == set(target.measures) - {"latency_ms"}
    assert all(isinstance(size, int) and size > 0 for size in memory.values())
    if "latency_ms" in target.measures:
        rounds = target.latency(file, file).rounds
        assert len(rounds) > 0
        assert all(mine > 0 < theirs for pairs in rounds for mine, theirs in pairs)


@pytest.mark.parametrize("text", ["hots", "micro:64KB?hurry=1", "ssh://"])
def test_an_address_that_is_none_is_told(text):
    with pytest.raises(ConfigError, match="target"):
        targets.find(text)
