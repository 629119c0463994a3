"""What a person reads on a terminal, made for 80 columns. Everything here prints, and decides nothing."""

import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.results import Pick, Results
from autoopt.reporting import text_plot, wording
from autoopt.reporting.comparison import Comparison, Difference, Reading
from autoopt.system import screen

if TYPE_CHECKING:
    from autoopt.api.doctor import Finding
    from autoopt.api.measure_file import Report
    from autoopt.api.saved_study import SavedResults
    from autoopt.core.search_space import SearchSpace

GAP = "  "
NARROWEST = 16
"""A column of text is not made narrower: rather the lines get longer than the terminal is wide."""
WIDEST, WIDEST_PLOT = 40, 100
"""Of a column of a comparison, and of a plot."""
LABEL = 16
"""Width of the names in a comparison, at most: so four candidates fit beside them."""
CLASSES = 10
"""How many classes a comparison prints."""
_FRAME = str.maketrans("┌┐└┘├┤┬┴┼─│", "+++++++++-|")
_GLUE = "\N{NO-BREAK SPACE}"
_QUANTITY = re.compile(r"(?<![\w.])([-+]?\d(?:[\d.,]*[\d.])?) (?=[%A-Za-z])")
"""A number and the space before its unit."""


def columns() -> int:
    """How wide the terminal is; 80 where the output goes elsewhere."""
    return shutil.get_terminal_size((80, 24)).columns


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of a text that is a list of words: broken after commas if that will do, never within `50 %`.

    Args:
        text: one line.
        width: of the lines; a single word may be longer.
        indent: of all lines but the first.
    """
    lines: list[str] = []
    for line in _fill(re.sub(r"(?<!,) ", _GLUE, text), width, indent):
        if len(line) <= width:
            lines.append(line)
        else:  # a part between two commas that is too long for a line of its own
            lines += _fill(line.strip(), width, indent, first=indent if lines else "")
    return lines or [""]


def _fill(text: str, width: int, indent: str, first: str = "") -> list[str]:
    """Lines as full as they get, broken at spaces, but not between a number and its unit."""
    held = _QUANTITY.sub(rf"\1{_GLUE}", text)
    lines = textwrap.wrap(
        held, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_GLUE, " ") for line in lines]


def _say(text: str, indent: str = "") -> None:
    """A sentence, wrapped for a person; whole where it goes elsewhere, so that it can be searched."""
    for line in _fill(text, columns() if sys.stdout.isatty() else len(text), indent):
        screen.say(line)


def _print_row(
    cells: Sequence[Sequence[str]], widths: Sequence[int], *, right: Iterable[int] = (), bold: bool = False
) -> None:
    """One row of a table, whose cells may have several lines; the columns in `right` are flush right."""
    from rich.cells import cell_len

    for place in range(max(map(len, cells))):
        texts = []
        for column, (lines, width) in enumerate(zip(cells, widths, strict=True)):
            text = lines[place] if place < len(lines) else ""
            room = " " * (width - cell_len(text))
            texts.append(room + text if column in right else text + room)
        screen.say(GAP.join(texts).rstrip(), bold=bold)


def print_front(
    results: Results, budgets: Sequence[Budget] | None = None, *, everything: bool = False, plot: bool = False
) -> None:
    """A table of the front (for the study's own budgets by default), and a plot of it.

    Args:
        results: the study's.
        budgets: in place of the study's own.
        everything: all candidates in the table, not the front alone.
        plot: with a plot above the table.
    """
    front, statuses = results.front(budgets), results.statuses(budgets)
    candidates = results.candidates if everything else front
    screen.say(f"{results.study}: {len(front)} of {len(results.candidates)} candidates on the front")
    drawn = ""
    if plot:
        width = min(max(columns(), text_plot.NARROWEST), WIDEST_PLOT)
        drawn = text_plot.draw(results, statuses, width, colour="NO_COLOR" not in os.environ)
    if drawn:
        screen.say_coloured(f"\n{_encodable(drawn)}\n")
    if candidates:
        _print_table(results, candidates, statuses)


def _print_table(results: Results, candidates: Sequence[Candidate], statuses: Mapping[int, str]) -> None:
    names = list(dict.fromkeys([*results.objectives, "size_bytes"]))
    starred = {n for n in names if any(n in c.measurements and c.measurements[n].flags for c in candidates)}
    rows = [
        [c.name, *(_value(results, c, n, n in starred) for n in names), _what(c, statuses[c.number])]
        for c in candidates
    ]
    headings = [[""], *(_heading(results.metrics[n].label, [row[1 + i] for row in rows]) for i, n in enumerate(names))]
    widths = [max(map(len, [*head, *(row[i] for row in rows)])) for i, head in enumerate(headings)]
    room = max(NARROWEST, columns() - sum(widths) - len(GAP) * len(widths))
    widths.append(room)
    deepest = max(map(len, headings))
    numbers = range(1, len(names) + 1)
    _print_row(
        [[""] * (deepest - len(lines)) + lines for lines in (*headings, ["recipe"])], widths, right=numbers, bold=True
    )
    for *cells, what in rows:
        _print_row([*([cell] for cell in cells), wrap(what, room, GAP)], widths, right=numbers)
    flags = sorted({flag for c in candidates for flag in results.flags(c)})
    if flags:
        screen.say(f"* {', '.join(flags)}")


def _heading(label: str, values: Sequence[str]) -> list[str]:
    """A column's heading, no wider than its values or its longest word."""
    return textwrap.wrap(label, max(map(len, [*values, *label.split()])), break_on_hyphens=False)


def _value(results: Results, candidate: Candidate, metric: str, starred: bool) -> str:
    m = candidate.measurements.get(metric)
    mark = ("*" if m is not None and m.flags else " ") if starred else ""  # so that digits stand below digits
    return ("-" if m is None else results.metrics[metric].show(m.value)) + mark


def _what(candidate: Candidate, status: str) -> str:
    text = candidate.recipe.label() + ("" if candidate.origin == "search" else f" ({candidate.origin})")
    if candidate.failed:
        return f"{text}: failed in {candidate.failed_stage}: {candidate.reason}"
    return text if status == "front" else f"{text} [{status}]"


def _encodable(plot: str) -> str:
    """The same in ASCII where the terminal's encoding lacks the frame."""
    try:
        plot.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plot.translate(_FRAME)
    return plot


def print_pick(results: Results, pick: Pick, budgets: Sequence[Budget]) -> None:
    """The recommended candidate and why; where nothing fits, what keeps everything out."""
    if pick.candidate is None:
        _say(f"pick: none. {pick.why}.", GAP)
        for line in pick.binding:
            _say(f"  keeps them out: {line}", GAP * 2)
        for c in pick.nearest:
            shown = ", ".join(
                f"{wording.label(results, n)} {results.metrics[n].show(m.value)}"
                for n, m in c.measurements.items()
                if n in results.objectives or n == "size_bytes"
            )
            _say(f"  nearest: {c.name} {c.recipe.label()}: {shown}", GAP * 2)
            for line in wording.misses(results, c, budgets):
                _say(f"    {line}", GAP * 3)
        return
    c = pick.candidate
    _say(f"pick: {c.name} {c.recipe.label()}", GAP)
    for name, metric in results.metrics.items():
        m = c.measurements.get(name)
        if m is None or metric.unit == "ratio":
            continue
        change, interval = wording.change(results, c, name), wording.interval(metric, m)
        screen.say(
            f"  {wording.label(results, name):26} {metric.show(m.value):>10}"
            + f"  {change}" * bool(change)
            + f"  ({interval})" * bool(interval)
        )
    if c.confirmation is not None:
        _say(f"  confirmed: {wording.confirmed(results, c)}", GAP * 2)
    elif text := wording.unconfirmed(results, c):
        _say(f"  {text}", GAP * 2)
    for text in wording.lost(results, c):
        _say(f"  {text}", GAP * 2)
    _say(f"  why: {pick.why}", GAP * 2)
    for text in (pick.doubt, pick.advice):
        if text:
            _say(f"  {text}", GAP * 2)
    for line in pick.binding:
        _say(f"  held back by: {line}", GAP * 2)


def print_paragraph(text: str) -> None:
    """A paragraph, wrapped for a person; one line where it goes elsewhere."""
    _say(text)


def print_end(results: "SavedResults") -> None:
    """What a search has come to."""
    from autoopt.reporting.ablation import verdicts

    print_front(results)
    screen.say()
    pick = results.pick()
    print_pick(results, pick, results.budgets)
    for verdict in verdicts(results):
        if not verdict.worth:
            screen.say(f"  {verdict.text()}")
    screen.say(f"\nreport: {results.folder.report}")
    if pick.candidate is not None:
        screen.say(f"model:  {results.folder.pick / 'model.tflite'}")


def print_status(results: "SavedResults", counts: Mapping[str, int], running: int | None) -> None:
    """How far a study is, and what failed."""
    from autoopt.core.formatting import duration

    state = f"running (process {running})" if running else "not running"
    screen.say(f"{results.study}: {len(results.candidates)} candidates, {state}")
    for name in ("front", "dominated", "infeasible", "failed"):
        screen.say(f"  {counts[name]:4d} {name}")
    for kind, names in wording.skips(results):
        screen.say(f"  {len(names):4d} recipes not trained, or not to the end: {kind}")
    for stage, reason, names in wording.failures(results):
        screen.say(f"  failed in {stage} ({len(names)}): {reason}")
    time = results.provenance.get("time", {})
    if time:
        screen.say(
            f"  {duration(time['jobs_s'])} in jobs, {duration(time['saved_by_store_s'])} saved by the store, "
            f"{duration(time['overhead_s'])} overhead"
        )


def print_comparison(found: Comparison) -> None:
    """Candidates as columns."""
    n = len(found.candidates)
    labels = [*(s.name for s in found.settings), *(r.metric.label for r in found.readings), "right, by class"]
    label = min(max(map(len, labels)), LABEL)
    width = (columns() - label) // n - len(GAP)
    widths = [label, *[max(NARROWEST - len(GAP), min(width, WIDEST))] * n]

    def row(name: str, cells: Iterable[Sequence[str]], *, bold: bool = False) -> None:
        wrapped = ([part for line in cell for part in wrap(line, widths[1])] or [""] for cell in cells)
        _print_row([wrap(name, label, GAP), *wrapped], widths, bold=bold)

    row("", ([c.name] for c in found.candidates), bold=True)
    row("recipe", ([c.recipe.label()] for c in found.candidates))
    screen.say()
    for setting in found.settings:
        row(setting.name, ([value] for value in setting.values))
    screen.say("\n" * bool(found.settings), nl=False)
    for reading in found.readings:
        ours = reading.metric == found.quality  # its change is told with an interval, in a row of its own
        row(reading.metric.label, (_reading(reading, place, change=not ours) for place in range(n)))
        for differences, where in (
            (found.differences, f"against {found.candidates[0].name}"),
            (found.tested, "on test split"),
        ):
            if ours and any(differences):
                row(f"{GAP}{where}", (_difference(found.quality, d) for d in differences))
    if found.classes:
        screen.say()
        row("right, by class", ([] for _ in range(n)))
        for shares in found.classes[:CLASSES]:
            row(f"{GAP}{shares.name}", ([f"{share:.1%}"] for share in shares.shares))
        if len(found.classes) > CLASSES:
            screen.say(f"{GAP}and {len(found.classes) - CLASSES} more (see --json)")
    screen.say("\n" * any(found.confirmed), nl=False)
    for candidate, text in zip(found.candidates, found.confirmed, strict=True):
        for line in _fill(f"{candidate.name} confirmed: {text}", columns(), GAP) if text else ():
            screen.say(line)
    flags = sorted({flag for r in found.readings for m in r.measurements if m is not None for flag in m.flags})
    if flags:
        screen.say(f"* {', '.join(flags)}")


def _reading(reading: Reading, place: int, *, change: bool) -> list[str]:
    m = reading.measurements[place]
    if m is None:
        return ["-"]
    shown = reading.metric.show(m.value) + ("*" if m.flags else "")
    interval, changed = wording.interval(reading.metric, m), reading.change(place) if change else ""
    return [shown, *[f"({interval})"] * bool(interval), *[changed] * bool(changed)]


def _difference(quality: Metric, difference: Difference | None) -> list[str]:
    if difference is None:
        return []
    value, low, high = (quality.show_change(x, 0) for x in (difference.value, difference.low, difference.high))
    return [value, f"({low.removesuffix(' points')} to {high})", difference.text()]


def print_measured(found: "Report", model: Path, against: Path | None) -> None:
    """What was found of one `.tflite`."""
    from autoopt.api import measure_file

    screen.say(f"{model}: {', '.join(f'{n} {name}' for name, n in found.contents.ops.items())}")
    for kind, ends in (("in", found.contents.inputs), ("out", found.contents.outputs)):
        for end in ends:
            screen.say(f"  {kind:3}  {end['name']}: {end['dtype']} {' x '.join(map(str, end['shape']))}")
    flags: dict[str, None] = {}
    for name, m in found.measurements.items():
        metric = measure_file.METRICS[name]
        label = metric.label if name != "latency_ratio" else f"latency against {against}"
        label = label if name != "agreement" else f"agreement with {against}"
        interval = wording.interval(metric, m)
        screen.say(
            f"  {label:18} {metric.show(m.value):>10}{f'  ({interval})' * bool(interval)}{'*' if m.flags else ''}"
        )
        flags |= dict.fromkeys(m.flags)
    if found.difference is not None:
        metric = next(measure_file.METRICS[name] for name in ("accuracy", "mae") if name in found.measurements)
        d, low, high = (metric.show_change(x, 0) for x in found.difference)
        screen.say(f"  difference of {metric.label} against {against}: {d} ({low} to {high})")
    if flags:
        screen.say(f"* {', '.join(flags)}")
    screen.say(f"  {wording.parts({part.part: part.compressed_bytes for part in found.parts})}")
    screen.say(f"  on {', '.join(f'{name} {value}' for name, value in found.device.items())}")


def print_self_test(held: int, wide: int, widths: Sequence[float]) -> None:
    """How far the noise goes.

    Args:
        held: how many intervals held 1.
        wide: how many were flagged as wide.
        widths: of all intervals.
    """
    from statistics import median

    screen.say(
        f"measured {len(widths)} times against itself: the 95 % interval contained 1, which is no difference, in {held} of {len(widths)}"
    )
    screen.say(
        f"width of the interval: {median(widths):.2%} (middle), {max(widths):.2%} (widest); {wide} flagged as wide"
    )


def print_space(found: "SearchSpace") -> None:
    """What a search space holds."""
    screen.say(found.source)
    width = max(map(len, found.knobs))
    for name, knob in found.knobs.items():
        text = {"False, True": "sometimes", "True": "always"}.get(str(knob), str(knob))
        screen.say(f"  {name:{width}}  {text}")
    if math.isinf(found.count()):
        screen.say(f"recipes: without end ({', '.join(found.continuous())} is continuous)")
    else:
        screen.say(f"recipes: {found.count():,.0f}")


def print_findings(found: "Sequence[Finding]") -> None:
    """What a machine has and lacks."""
    width = max(len(finding.topic) for finding in found)
    marks = {"good": " ", "poor": "!", "bad": "x"}
    for finding in found:
        lines = textwrap.wrap(finding.found, max(20, shutil.get_terminal_size().columns - width - 5)) or [""]
        for number, line in enumerate(lines):
            mark, topic = (marks[finding.state], finding.topic) if not number else (" ", "")
            screen.say(f"{mark} {topic:{width}}  {line}")
        if finding.advice:
            screen.say(f"  {'':{width}}  -> {finding.advice}")
