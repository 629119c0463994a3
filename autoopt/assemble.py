"""From the results of its jobs to a candidate."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from autoopt import measure
from autoopt.candidate import Candidate
from autoopt.errors import ResultLost
from autoopt.metrics import Measurement
from autoopt.pipeline import Plan
from autoopt.process import Outcome
from autoopt.recipe import Recipe
from autoopt.store import Store


def candidate(
    number: int,
    recipe: Recipe,
    origin: str,
    outcomes: Iterable[Outcome],
    *,
    plan: Plan,
    store: Store,
    quality: str,
    threads: int,
    baseline: Candidate | None,
) -> Candidate:
    """A candidate whose jobs are all done.

    Args:
        number: of the candidate.
        recipe: it was made by.
        origin: `baseline`, `scheme` or `search`.
        outcomes: of its jobs.
        plan: names the results.
        store: holds them.
        quality: name of the task's metric.
        threads: that latency was measured with.
        baseline: that latency is relative to; None for the baseline itself.

    Raises:
        ResultLost: if the store has lost a result meanwhile.
    """
    found: dict[str, Any] = {}
    for name, key in plan.results.items():
        data = store.get(key)
        if data is None:
            raise ResultLost(f"the store lost the {name} of #{number}; run the same command again")
        found[name] = json.loads(data)
    proof = found["proof"]
    measurements = {
        quality: Measurement.from_dict(found["accuracy"]["measurement"]),
        "size_bytes": Measurement.exact(proof["size_bytes"], "bytes of the file"),
        "compressed_bytes": Measurement.exact(proof["compressed_bytes"], "bytes after gzip -9"),
        "memory_bytes": measure.repeated(
            found["memory"]["bytes"], "peak resident memory of load and one run, fresh process"
        ),
        **_latency(found["latency"]["pairs"], threads, baseline),
    }
    seconds, saved = _seconds(outcomes)
    return Candidate(
        number=number,
        recipe=recipe,
        origin=origin,
        measurements=measurements,
        proof=proof["contents"],
        report=proof["reports"],
        file=plan.file,
        sha256=proof["sha256"],
        outcomes=found["accuracy"]["outcomes"],
        seconds=seconds,
        seconds_saved=saved,
    )


def failed(
    number: int, recipe: Recipe, origin: str, outcomes: Iterable[Outcome], *, stage: str, reason: str
) -> Candidate:
    """A candidate that went wrong in a stage, for a reason."""
    seconds, saved = _seconds(outcomes)
    return Candidate(
        number=number,
        recipe=recipe,
        origin=origin,
        failed_stage=stage,
        reason=reason,
        seconds=seconds,
        seconds_saved=saved,
    )


def _seconds(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    """Seconds in its own jobs, and those that shared results saved."""
    done = [o for o in outcomes if o.state == "done"]
    return sum(o.seconds for o in done if not o.cached), sum(o.seconds for o in done if o.cached)


def _latency(
    pairs: Sequence[Sequence[tuple[int, int]]], threads: int, baseline: Candidate | None
) -> dict[str, Measurement]:
    """Latency as a ratio to the baseline, and in ms: the ratio times what the baseline took."""
    protocol = f"batch 1, {threads} thread(s), {len(pairs)} fresh processes, 10th percentiles"
    if baseline is None:
        per_process = [measure.p10([ns for pair in process for ns in pair]) / 1e6 for process in pairs]
        return {
            "latency_ratio": Measurement.exact(1.0, "by definition"),
            "latency_ms": measure.repeated(per_process, protocol),
        }
    ratio = measure.latency_ratio(pairs, f"{protocol}, interleaved with the baseline")
    by = baseline.measurements["latency_ms"].value
    return {"latency_ratio": ratio, "latency_ms": measure.scale(ratio, by, f"ratio to the baseline x {by:.4g} ms")}
