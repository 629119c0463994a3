"""What `autoopt check` proposes for a size: which layer has which form, from probes of each alone."""

from collections.abc import Mapping
from typing import Any

from autoopt.core.layer_mixes import propose
from autoopt.core.probes import Probes
from autoopt.tflite.interpreter import compressed_bytes

WEIGHED = {"size_bytes": False, "compressed_bytes": True}
"""Metrics that a size may be given for, and whether that is after gzip."""


def proposals(probes: Probes, sizes: Mapping[str, float], file: bytes | None, reason: str) -> list[dict[str, Any]]:
    """A mix for each size.

    Args:
        probes: of the model's layers.
        sizes: budgets in bytes, by metric (see `WEIGHED`).
        file: the model's int8 `.tflite`, untrained: what is no weight in it stays in every mix; None if it can't be had.
        reason: why it can't be had.

    Returns:
        for each size the fields of `Proposal`, plain, and `metric` and `db`.
    """
    found = []
    for metric, budget in sizes.items():
        row: dict[str, Any] = {"metric": metric, "budget": budget, "reason": reason}
        if file is not None:
            weighed = compressed_bytes(file) if WEIGHED[metric] else len(file)
            mix = propose(probes, budget, weighed, compressed=WEIGHED[metric])
            row |= {
                "forms": {**mix.forms},
                "cuts": [list(layers) for layers in mix.cuts],
                "size": mix.size,
                "error": mix.error,
                "db": mix.db,
                "reason": mix.reason,
            }
        found.append(row)
    return found
