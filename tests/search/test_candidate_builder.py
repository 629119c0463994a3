"""From recorded results of jobs to a candidate's numbers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from builders import METRICS, measured

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import INTERVAL, RANGE, Measurement
from autoopt.core.recipe import Recipe
from autoopt.reporting import wording
from autoopt.search import candidate_builder

PROCESSES = [[[(ns // 2, ns)] * 5] for ns in (2_000_000, 2_020_000, 1_980_000, 2_010_000, 1_990_000)]
"""Of five processes, a round of pairs: a file that takes half as long as the reference, which itself is not so steady."""


def assembled(latency: list[Any], memory: list[int], reference: Candidate | None, **told: Any) -> Candidate:
    """A candidate of recorded results; only the store and the study's setting are made up."""
    recorded = {
        "proof": {"size_bytes": 9, "compressed_bytes": 5, "download_bytes": 4, "contents": {}, "reports": [], "sha256": "ab"},
        "accuracy": {"measurement": measured(0.9, 0.01).to_dict(), "agreement": None, "outcomes": "", "resamples": [], "classes": []},
        "latency": {"processes": latency, "flags": []},
        "memory": {"readings": [{"memory_bytes": bytes_} for bytes_ in memory], **told},
    }  # fmt: skip
    target = SimpleNamespace(exact=False, estimated=False, name="host", refuses=lambda scheme, quantize: "")
    values: dict[str, Any] = {
        "plan": SimpleNamespace(results={name: name for name in recorded}, file="f"),
        "store": SimpleNamespace(get=lambda key: json.dumps(recorded[key]).encode()),
        "setting": SimpleNamespace(target=target, threads=1),
    }
    return candidate_builder.candidate(
        0 if reference is None else 1, Recipe(), "search", [], quality="accuracy", reference=reference, **values
    )


def test_latency_in_milliseconds_carries_the_references_spread() -> None:
    """Every pair says exactly one half, so the ratio is known well; what it is half of is known to 1.4 %."""
    reference = assembled([[[(b, b) for _, b in one] for one in process] for process in PROCESSES], [100, 100], None)
    baseline_ms = reference.measurements["latency_ms"]
    assert baseline_ms.value == 2.0
    assert baseline_ms.ends == INTERVAL
    assert baseline_ms.low < 1.98 < 2.02 < baseline_ms.high  # Student's with five processes: wider than their range
    half = assembled(PROCESSES, [100, 100], reference)
    ratio, in_ms = half.measurements["latency_ratio"], half.measurements["latency_ms"]
    assert ratio.high / ratio.low < 1.05
    assert in_ms.value == pytest.approx(1.0)
    assert in_ms.high / in_ms.value >= baseline_ms.high / baseline_ms.value
    assert in_ms.value / in_ms.low >= baseline_ms.value / baseline_ms.low


def test_rescaled_milliseconds_carry_it_too() -> None:
    def at(number: int, ratio: float, low: float, value: float, high: float) -> Candidate:
        exact = Measurement.exact(ratio, "x")
        ms = Measurement(value=value, low=low, high=high, n=5, how="x")
        return Candidate(number=number, recipe=Recipe(), measurements={"latency_ratio": exact, "latency_ms": ms})

    reference, other = at(0, 1.0, 1.8, 2.0, 2.2), at(1, 0.5, 3.9, 4.0, 4.1)
    in_ms = candidate_builder.rescaled(other, reference).measurements["latency_ms"]
    assert (in_ms.low, in_ms.value, in_ms.high) == pytest.approx((0.9, 1.0, 1.1))


def test_memory_says_that_its_ends_are_a_range() -> None:
    found = assembled(PROCESSES, [1_000_000, 1_200_000], None).measurements["memory_bytes"]
    assert (found.value, found.low, found.high, found.n, found.ends) == (1_100_000, 1_000_000, 1_200_000, 2, RANGE)
    assert found.how == "peak resident, load and one run, fresh process; range of 2 readings"
    assert wording.interval(METRICS["memory_bytes"], found) == "1 MB to 1.2 MB, the range of 2 readings"


def test_memory_carries_what_its_target_said() -> None:
    told = ["2 of 9 operators on the CPU"]
    assert assembled(PROCESSES, [100], None, flags=told).measurements["memory_bytes"].flags == tuple(told)
    assert assembled(PROCESSES, [100], None).measurements["memory_bytes"].flags == ()
