"""What `autoopt check` found, on a terminal: layer by layer what each technique touches, and what to expect of a night."""

import textwrap
from collections.abc import Iterator, Sequence

import click

from autoopt.api.checked import Checked, Tried
from autoopt.cli import layer_table
from autoopt.cli.layer_table import MOST_LAYERS
from autoopt.cli.output import columns
from autoopt.core.formatting import duration
from autoopt.core.metrics import Metric, show_bytes
from autoopt.core.schemes import SCHEMES
from autoopt.system.screen import printable


def text(found: Checked) -> str:
    """The whole, for a person."""
    lines = [
        *_layers(found),
        "",
        *_techniques(found.stages),
        *_schemes(found.schemes),
        *_recipes(found.recipes),
        "",
        *layer_table.lines(found.probes, Metric(**found.metric)),
        *layer_table.proposed(found.proposals),
        "",
        *_night(found),
    ]
    for warning in found.warnings:
        lines += textwrap.wrap(f"! {warning}", columns(), subsequent_indent="  ")
    verdict = "all of the space works" if found.works else "not all of the space works, see above"
    return printable("\n".join([*lines, "", f"{verdict}; checked in {duration(found.seconds)}"]))


def _layers(found: Checked) -> Iterator[str]:
    """A row a layer: its share of the weights and of the computing, and who changes it."""
    if not found.layers:
        yield "a model without Keras layers"
        return
    weights, adds = (sum(row[name] for row in found.layers) or 1 for name in ("weights", "multiply_adds"))
    shown = found.layers
    if len(shown) > MOST_LAYERS:
        heaviest = sorted(shown, key=lambda row: -row["weights"] / weights - row["multiply_adds"] / adds)[:MOST_LAYERS]
        shown = [row for row in found.layers if row in heaviest]
    names = [tried.name for tried in found.stages]
    rows = [["layer", "kind", "weights", "multiply-adds", *names]]
    for row in shown:
        marks = ["failed" if t.reason else "yes" if row["layer"] in t.touched else "no" for t in found.stages]
        rows.append(
            [row["layer"], row["kind"], f"{row['weights'] / weights:.1%}", f"{row['multiply_adds'] / adds:.1%}", *marks]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for line in rows:
        cells = [
            f"{cell:>{w}}" if 2 <= i < 4 else f"{cell:{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    if len(shown) < len(found.layers):
        yield f"and {len(found.layers) - len(shown)} smaller layers"


def _techniques(stages: Sequence[Tried]) -> Iterator[str]:
    for tried in stages:
        if tried.reason:
            yield from _wrapped(f"{tried.name}: fails: {tried.reason}")
            continue
        why = dict[str, list[str]]()
        for layer, reason in tried.skipped.items():
            why.setdefault(reason, []).append(layer)
        left = "".join(f"; not {_some(layers)}: {reason}" for reason, layers in why.items())
        notes = "".join(f"; {note}" for note in tried.notes)
        yield from _wrapped(
            f"{tried.name}: {len(tried.touched)} layers{left}{notes}; {tried.step_s * 1000:.3g} ms a step, "
            f"up to {show_bytes(tried.peak_bytes)} of memory"
        )


def _some(layers: Sequence[str]) -> str:
    return ", ".join(layers[:4]) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")


def _schemes(schemes: Sequence[Tried]) -> Iterator[str]:
    for tried in schemes:
        label = SCHEMES[tried.name].label
        yield from _wrapped(
            f"{label}: fails: {tried.reason}" if tried.reason else f"{label}: {show_bytes(tried.size_bytes)}"
        )


def _recipes(recipes: Sequence[Tried]) -> Iterator[str]:
    if recipes:
        worked = sum(not tried.reason for tried in recipes)
        yield from _wrapped(
            f"{worked} of {len(recipes)} recipes work that together hold every value of the space's lists"
        )
    for tried in recipes:
        if tried.reason:
            yield from _wrapped(f"{tried.name}: fails: {tried.reason}")


def _night(found: Checked) -> Iterator[str]:
    yield f"the untouched model: {found.quality} on the validation split"
    if found.trial_s is None:
        yield "no recipe of the space works on this model"
        return
    least, most = found.trials
    span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    yield from _wrapped(
        f"a trial takes about {duration(found.trial_s)}, the {found.asked} asked for up to "
        f"{duration(found.asked * found.trial_s)}; {found.hours:g} hours are enough for {span} (the search saves some of the work)"
    )
    if found.epoch_s:
        yield from _wrapped(f"an epoch takes about {duration(found.epoch_s)} with the slowest technique")
    if found.part is not None:
        items, then = found.part
        yield from _wrapped(
            f"that is few: with `search: {{items: {items}}}` in study.yaml the search trains on so many items, and {found.hours:g} "
            f"hours are enough for {then:,}; the front is trained again on all of them. A GPU helps too, see `autoopt doctor`"
        )


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(click.unstyle(line), columns(), subsequent_indent="    ")
