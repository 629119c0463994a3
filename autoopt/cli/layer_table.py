"""Which layer hurts, on a terminal: what each technique does to one layer alone, and the mix that is proposed for a size."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoopt.cli.output import columns
from autoopt.core.metrics import Metric, show_bytes
from autoopt.core.probes import EIGHT_BITS, FORMS, TECHNIQUES, Effect, ProbedLayer, Probes

MOST_LAYERS = 60
"""So many rows a table of layers has at most; of a longer model it shows the heaviest layers."""
WEIGHED = {"size_bytes": "", "compressed_bytes": " after gzip"}


def lines(plain: Mapping[str, Any], metric: Metric) -> Iterator[str]:
    """A row a layer: what it weighs, and signal to noise with each technique in it alone.

    Args:
        plain: see `Probes.to_dict`.
        metric: the task's.
    """
    probes = Probes.from_dict(plain)
    if probes.reason:
        yield from _wrapped(f"which layer hurts can't be told: {probes.reason}")
        return
    yield from _wrapped(
        "which layer hurts: the output's signal to noise in dB with one layer alone changed, untrained, on "
        f"{probes.items} training items (less is worse, * is worst)"
    )
    worst = {technique: probes.most_sensitive(technique) for technique in TECHNIQUES}
    shown = _heaviest(probes.layers)
    rows = [["layer", "weights", "int8 bytes", "gzip", *TECHNIQUES]]
    for probed in shown:
        eight = probed.forms.get(EIGHT_BITS)
        sizes = ["-", "-"] if eight is None else [f"{eight.size:,}", f"{eight.compressed:,}"]
        cells = [_cell(probes.effect(probed.layer, t), starred=worst[t] == probed.layer) for t in TECHNIQUES]
        rows.append([probed.layer, f"{probed.weights:,}", *sizes, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([f"{row[0]:{widths[0]}}", *cells]).rstrip()
    if len(shown) < len(probes.layers):
        yield f"and {len(probes.layers) - len(shown)} smaller layers"
    harm = [_harm(probes, technique, layer, metric) for technique, layer in worst.items() if layer is not None]
    if harm:
        yield from _wrapped(f"hurt most: {'; '.join(harm)}")
    tied = [" with ".join(cut.layers) for cut in probes.cuts if len(cut.layers) > 1]
    if tied:
        yield from _wrapped(f"channels go together: {'; '.join(tied)}")
    for note in probes.notes:
        yield from _wrapped(note)


def proposed(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The mix for each size that was asked for."""
    for row in rows:
        budget = f"for {show_bytes(row['budget'])}{WEIGHED[row['metric']]}"
        if row["reason"]:
            least = f": the smallest mix has about {show_bytes(row['size'])}" if row.get("size") else ""
            yield from _wrapped(f"{budget}: no mix is proposed: {row['reason']}{least}")
            continue
        noise = "no noise" if row["db"] is None else f"{row['db']:.1f} dB"
        yield from _wrapped(
            f"{budget}: about {show_bytes(row['size'])} at {noise}, before any training, by a mix of forms (errors of single "
            "layers added up: a first guess)"
        )
        by_form = {form: [layer for layer, has in row["forms"].items() if has == form] for form in FORMS}
        for form, layers in by_form.items():
            if layers:
                yield from _wrapped(f"  {form}: {', '.join(layers)}")
        if row["cuts"]:
            yield from _wrapped(f"  25 % fewer channels: {'; '.join(' with '.join(layers) for layers in row['cuts'])}")
        yield from _bits(row["bits"])


def _bits(row: Mapping[str, Any]) -> Iterator[str]:
    """What of it a space can hold today."""
    if row["reason"]:
        yield from _wrapped(f"  8 and 4 bits alone, which a space can name by layer, reach {show_bytes(row['size'])}")
        return
    noise = "no noise" if row["db"] is None else f"{row['db']:.1f} dB"
    yield from _wrapped(f"  8 and 4 bits alone, for the space: about {show_bytes(row['size'])} at {noise}")
    yield from (f"    {line}" for line in row["yaml"].splitlines())  # to be copied, so it is not wrapped


def _heaviest(layers: Sequence[ProbedLayer]) -> list[ProbedLayer]:
    """The layers that are shown, in the order of the model: those that were probed first of all."""
    order = sorted(layers, key=lambda probed: (not probed.forms, -probed.weights))[:MOST_LAYERS]
    return [probed for probed in layers if probed in order]


def _cell(effect: Effect | None, *, starred: bool) -> str:
    """Signal to noise, with room for the star."""
    if effect is None:
        return "- "
    return "same " if effect.db is None else f"{effect.db:.1f}{'*' if starred else ' '}"


def _harm(probes: Probes, technique: str, layer: str, metric: Metric) -> str:
    """What a technique does to the quality in the layer that bears it worst."""
    effect = probes.effect(layer, technique)
    told = (
        "" if effect is None or effect.change is None else f" ({metric.label} {metric.show_change(effect.change, 0.0)})"
    )
    return f"{technique} in {layer}{told}"


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, columns(), subsequent_indent=indent)
