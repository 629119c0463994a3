"""What `autoopt check` proposes for a size: which layer has which form, from probes of each alone."""

from collections.abc import Mapping
from typing import Any

import yaml

from autoopt.core.layer_mixes import BITS, EVERY, Proposal, propose
from autoopt.core.probes import EIGHT_BITS, Probes
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
        for each size the fields of `Proposal`, plain, with `metric` and `db`; and `bits`, the same for the best mix of
        nothing but what `quantize.bits_by_layer` can say, with its lines in a space as `yaml`.
    """
    found = []
    for metric, budget in sizes.items():
        row: dict[str, Any] = {"metric": metric, "budget": budget, "reason": reason}
        if file is not None:
            weighed = compressed_bytes(file) if WEIGHED[metric] else len(file)
            mix, bits = (
                propose(probes, budget, weighed, compressed=WEIGHED[metric], allowed=allowed)
                for allowed in (EVERY, BITS)
            )
            row |= _plain(mix) | {"bits": _plain(bits) | {"yaml": "" if bits.reason else written(bits)}}
        found.append(row)
    return found


def written(mix: Proposal) -> str:
    """The lines of a space that give layers their bits; those of 8 need no word."""
    few = {layer: BITS[form] for layer, form in mix.forms.items() if form != EIGHT_BITS}
    return yaml.safe_dump({"quantize": {"bits_by_layer": [few]}}, default_flow_style=None, sort_keys=False, width=1000)


def _plain(mix: Proposal) -> dict[str, Any]:
    return {
        "forms": {**mix.forms},
        "cuts": [list(layers) for layers in mix.cuts],
        "size": mix.size,
        "error": mix.error,
        "db": mix.db,
        "reason": mix.reason,
    }
