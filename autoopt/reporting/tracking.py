"""A study's candidates as programs that track experiments know them: a run each, with parameters and metrics."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoopt.core.candidate import Candidate
from autoopt.core.results import Results

_UNNAMED = re.compile(r"[^\w\-. /]")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One candidate.

    Attributes:
        number: in its study.
        name: for people, such as `#7 int8`.
        parameters: of the recipe, such as `prune.sparsity`; what is None is left out.
        metrics: by name, those of the test split as `NAME_test`; empty if it failed.
        tags: what else is known of it, as texts.
        failed: whether it went wrong.
        began: seconds since 1970.
        ended: likewise.
    """

    number: int
    name: str
    parameters: Mapping[str, str | float | bool]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    failed: bool
    began: float
    ended: float


def tracked(results: Results) -> list[Tracked]:
    """All candidates of a study, in order."""
    statuses, picked = results.statuses(), results.pick().candidate
    return [_one(results, c, statuses[c.number], c is picked) for c in results.candidates]


def _one(results: Results, c: Candidate, status: str, picked: bool) -> Tracked:
    values = {_plain(name): m.value for name, m in c.measurements.items()}
    if c.confirmation is not None:
        values[f"{_plain(results.quality)}_test"] = c.confirmation.quality.value
    tags = {
        "study": results.study,
        "candidate": str(c.number),
        "status": status,
        "origin": c.origin,
        "pick": "yes" if picked else "no",
        "recipe": c.recipe.label(),
        "recipe_digest": c.recipe.digest,
        "sha256": c.sha256,
        "flags": "; ".join(results.flags(c)),
        "failed_stage": c.failed_stage,
        "reason": c.reason or c.refused,
        "target": str(results.provenance.get("target", "")),
    }
    ended = _moment(c.finished)
    return Tracked(
        number=c.number,
        name=f"{c.name} {c.recipe.label()}",
        parameters=_flat(c.recipe.to_dict()),
        metrics=values,
        tags={f"autoopt.{name}": text for name, text in tags.items() if text},
        failed=c.failed,
        began=max(0.0, ended - c.seconds),
        ended=ended,
    )


def _plain(name: str) -> str:
    """A metric's name in the characters that trackers allow."""
    return _UNNAMED.sub("_", name)


def _flat(values: Mapping[str, Any], begin: str = "") -> dict[str, str | float | bool]:
    found: dict[str, str | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{begin}{name}.")
        elif value is not None:
            found[f"{begin}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


def _moment(finished: str) -> float:
    """When a candidate was done, seconds since 1970; 0 where that is not known."""
    try:
        return datetime.datetime.fromisoformat(finished).timestamp()
    except (ValueError, OverflowError):
        return 0.0
