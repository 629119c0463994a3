"""From the results of its jobs to a candidate."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from autoopt.core import deflate, latency_statistics
from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import RESIDENT, Measurement
from autoopt.core.recipe import Recipe
from autoopt.errors import ResultLost
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Plan, Setting
from autoopt.execution.job_process import Outcome
from autoopt.targets import benchmark

SLOWER = 0.15
"""How much slower than when the baseline was measured the machine may be before a reader is told."""


def candidate(
    number: int,
    recipe: Recipe,
    origin: str,
    outcomes: Iterable[Outcome],
    *,
    plan: Plan,
    store: Store,
    setting: Setting,
    quality: str,
    reference: Candidate | None,
) -> Candidate:
    """A candidate whose jobs are all done.

    Args:
        number: of the candidate.
        recipe: it was made by.
        origin: `baseline`, `scheme` or `search`.
        outcomes: of its jobs.
        plan: names the results.
        store: holds them.
        setting: of the study.
        quality: name of the task's metric.
        reference: that latency is relative to; None for the reference itself.

    Raises:
        ResultLost: if the store has lost a result meanwhile.
    """
    found = _read(plan, store, number)
    proof, seen = found["proof"], found["accuracy"]
    measurements = {
        quality: Measurement.from_dict(seen["measurement"]),
        "size_bytes": Measurement.exact(proof["size_bytes"], "bytes of the file"),
        "compressed_bytes": Measurement.exact(proof["compressed_bytes"], "bytes after gzip -9"),
        "download_bytes": Measurement.exact(proof["download_bytes"], deflate.HOW),
        **_memory(found, setting),
        **_latency(found, setting, reference),
    }
    if seen["agreement"] is not None:
        measurements["agreement"] = Measurement.from_dict(seen["agreement"])
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
        **_items(seen),
        refused=setting.target.refuses(recipe.scheme, recipe.quantize),
        seconds=seconds,
        seconds_saved=saved,
    )


def confirmed(
    before: Candidate, *, plan: Plan, store: Store, setting: Setting, reference: Candidate | None
) -> Candidate:
    """A candidate with what was found when it was measured again.

    Args:
        before: as the search measured it.
        plan: names the results, see `pipeline.plan` with `confirm`.
        store: holds them.
        setting: of the study.
        reference: that latency is relative to; None for the reference itself.

    Raises:
        ResultLost: if the store has lost a result meanwhile.
    """
    found = _read(plan, store, before.number)
    again = _latency(found, setting, reference)
    seen = found["accuracy"]
    return dataclasses.replace(
        before,
        measurements={**before.measurements, **again},
        confirmation=Confirmation(
            quality=Measurement.from_dict(seen["measurement"]),
            **_items(seen),
            searched={name: before.measurements[name] for name in again},
        ),
    )


def rescaled(candidate: Candidate, reference: Candidate, flag: str = "") -> Candidate:
    """A candidate with its milliseconds read off the reference's, which was measured anew since.

    Args:
        candidate: measured earlier.
        reference: that latency is relative to.
        flag: what to say beside its latency.
    """
    ratio, own = candidate.measurements.get("latency_ratio"), reference.measurements.get("latency_ms")
    if ratio is None or own is None or candidate.number == reference.number:
        return candidate
    if flag and flag not in ratio.flags:
        ratio = dataclasses.replace(ratio, flags=(*ratio.flags, flag))
    in_ms = latency_statistics.scale(ratio, own, f"ratio to {reference.name} x {own.value:.4g} ms")
    return dataclasses.replace(
        candidate, measurements={**candidate.measurements, "latency_ratio": ratio, "latency_ms": in_ms}
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


def _items(seen: Mapping[str, Any]) -> dict[str, Any]:
    """What was kept of the items that a quality was measured on."""
    classes = tuple((right, n) for right, n in seen["classes"])
    return {"outcomes": seen["outcomes"], "resamples": tuple(seen["resamples"]), "classes": classes}


def _read(plan: Plan, store: Store, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in plan.results.items():
        data = store.get(key)
        if data is None:
            raise ResultLost(f"the store lost the {name} of #{number}; run the same command again")
        found[name] = json.loads(data)
    return found


def _seconds(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    """Seconds in its own jobs, and those that shared results saved."""
    done = [o for o in outcomes if o.state == "done"]
    return sum(o.seconds for o in done if not o.cached), sum(o.seconds for o in done if o.cached)


def _memory(found: Mapping[str, Any], setting: Setting) -> dict[str, Measurement]:
    if "memory" not in found:
        return {}
    readings, flags = found["memory"]["readings"], tuple(found["memory"].get("flags", ()))
    how = f"on {setting.target.name}" if setting.target.exact else f"{RESIDENT}, load and one run, fresh process"
    return {
        name: benchmark.flagged(
            latency_statistics.repeated([reading[name] for reading in readings], how, flags), setting.target
        )
        for name in readings[0]
    }


def _latency(found: Mapping[str, Any], setting: Setting, reference: Candidate | None) -> dict[str, Measurement]:
    """Latency as a ratio to the reference, and in ms: the ratio times what the reference took."""
    if "latency" not in found:
        return {}
    processes, flags = found["latency"]["processes"], found["latency"]["flags"]
    protocol = f"batch 1, {setting.threads} thread(s), {len(processes)} fresh processes"
    if setting.target.exact:
        protocol = f"computed by {setting.target.name}"
    if reference is None:
        per_process = [
            latency_statistics.p10([ns for one in process for pair in one for ns in pair]) / 1e6
            for process in processes
        ]
        in_ms = latency_statistics.over_processes(per_process, f"{protocol}, 10th percentiles")
        return {
            "latency_ratio": benchmark.flagged(Measurement.exact(1.0, "by definition"), setting.target),
            "latency_ms": benchmark.flagged(dataclasses.replace(in_ms, flags=tuple(flags)), setting.target),
        }
    reference_ms = reference.measurements["latency_ms"]
    by = reference_ms.value
    now = latency_statistics.p10([b for process in processes for one in process for _, b in one]) / 1e6
    if now > (1 + SLOWER) * by:
        flags = [*flags, f"the device was {now / by - 1:.0%} slower than when the baseline was measured"]
    how = f"{protocol}, interleaved with {reference.name}"
    ratio = benchmark.flagged(
        latency_statistics.latency_ratio(processes, how, flags, exact=setting.target.exact), setting.target
    )
    in_ms = latency_statistics.scale(ratio, reference_ms, f"ratio to {reference.name} x {by:.4g} ms")
    return {"latency_ratio": ratio, "latency_ms": in_ms}
