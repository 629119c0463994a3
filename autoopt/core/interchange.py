"""Results as one JSON text that other programs and other machines read."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from autoopt.core import budgets as budget_syntax
from autoopt.core import json_text
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.metrics import METRIC_SHAPE, Metric
from autoopt.core.validation import Shape, expect_present, expect_shape, nearest
from autoopt.errors import ConfigError

FORMAT = 1
"""Version of the text."""
_SHAPE = Shape(
    {
        "format": int,
        "study": str,
        "metrics": [METRIC_SHAPE],
        "quality": str,
        "objectives": [str],
        "budgets": [str],
        "provenance": {str: object},
        "candidates": [{str: object}],
        "skipped": [{str: object}],
        "equivalence": str,
    }
)
"""Types of what stands in the text."""
NEEDED = ("format", "study", "metrics", "quality", "objectives", "budgets", "provenance", "candidates")


def text(results: Any) -> str:
    """Everything that `Results` hold; `read` is the inverse."""
    return json.dumps(
        {
            "format": FORMAT,
            "study": results.study,
            "metrics": [dataclasses.asdict(m) for m in results.metrics.values()],
            "quality": results.quality,
            "objectives": list(results.objectives),
            "budgets": [b.text for b in results.budgets],
            "provenance": dict(results.provenance),
            "candidates": [c.to_dict() for c in results.candidates],
            "skipped": [s.to_dict() for s in results.skipped],
            **({"equivalence": results.equivalence} if results.equivalence else {}),
        },
        allow_nan=False,
    )


def read(written: str) -> dict[str, Any]:
    """The arguments that make `Results` equal to those that were written.

    Raises:
        ConfigError: if it is not such a text.
    """
    try:
        return _arguments(json_text.parse(written))
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"results: not a results file of autoopt: {error}") from error


def _arguments(plain: Any) -> dict[str, Any]:
    if isinstance(plain, Mapping) and plain.get("format", FORMAT) != FORMAT:
        raise ConfigError(f"expected format {FORMAT}, got {plain['format']}; use a matching autoopt")
    expect_shape("results", plain, _SHAPE)
    expect_present("", plain, NEEDED)
    found = (Metric.from_dict("metrics: each", values) for values in plain["metrics"])
    metrics = {metric.name: metric for metric in found}
    candidates = tuple(Candidate.from_dict(c) for c in plain["candidates"])
    measured = (name for candidate in candidates for name in candidate.measurements)
    for name in (plain["quality"], *plain["objectives"], *measured):
        if name not in metrics:
            raise ConfigError(f"unknown metric {name!r}; {nearest(name, metrics)}")
    return {
        "study": plain["study"],
        "metrics": metrics,
        "quality": plain["quality"],
        "objectives": tuple(plain["objectives"]),
        "budgets": tuple(budget_syntax.parse(b, metrics, stored=True) for b in plain["budgets"]),
        "candidates": candidates,
        "skipped": tuple(Skipped.from_dict(s) for s in plain.get("skipped", ())),
        "provenance": plain["provenance"],
        "equivalence": plain.get("equivalence", ""),
    }
