"""One HTML file that says what a study found: nothing beside it, and no request to anywhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.io

from autoopt import words
from autoopt.candidate import Candidate
from autoopt.figures import front_figure
from autoopt.guard import effects, verdicts
from autoopt.metrics import Metric
from autoopt.results import Results
from autoopt.store import write_atomically

STATUSES = {
    "front": "no other candidate beats it on every objective",
    "dominated": "another candidate beats it",
    "infeasible": "outside a budget",
    "failed": "went wrong",
}
"""In the table's order, with what each means."""
_DATE_KEYS = ("finished", "date", "created", "started")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One metric of one candidate, in words; `value` is what a column is sorted by."""

    label: str
    value: float | None = None
    shown: str = "–"
    interval: str = ""
    change: str = ""
    how: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table of candidates."""

    candidate: Candidate
    status: str
    outside: tuple[str, ...]
    cells: tuple[Cell, ...]
    confirmed: str = ""
    lost: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


def write(results: Results, path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
        TargetUnavailable: if the disk is full or the folder can't be written.
    """
    write_atomically(path, render(results).encode())


def render(results: Results) -> str:
    """The report as one HTML page with plotly inside (about 5 MB)."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autoopt", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics = _columns(results)
    rows = _rows(results, metrics)
    pick = results.pick()
    return environment.get_template("report.html.j2").render(
        results=results,
        date=next((str(results.provenance[key]) for key in _DATE_KEYS if key in results.provenance), ""),
        summary=words.summary(results),
        metrics=metrics,
        rows=rows,
        statuses=STATUSES,
        pick=pick,
        confirmed="" if pick.candidate is None else words.confirmed(results, pick.candidate),
        lost=() if pick.candidate is None else words.lost(results, pick.candidate),
        verdicts=verdicts(results),
        curse=words.flattery(results),
        picked=pick.candidate and _cells(results, pick.candidate, metrics, paired=True),
        nearest=[row for c in pick.nearest for row in rows if row.candidate is c],
        export="" if pick.candidate is None else words.export_command(results, pick.candidate),
        figure=_figure(results) if any(not c.failed for c in results.candidates) else "",
        failures=words.failures(results),
        budgets=_budgets(results),
        provenance=list(_flat(results.provenance)),
    )


def _figure(results: Results) -> str:
    # plotly escapes `<`, `>` and `/` in its JSON, so no text of the user's can close the script.
    page: str = plotly.io.to_html(
        front_figure(results),
        full_html=False,
        include_plotlyjs=True,
        div_id="front",
        config={"showSendToCloud": False, "displaylogo": False, "responsive": True},
    )
    return page


def _columns(results: Results) -> list[Metric]:
    """The metrics that anybody has: the task's own first, then the objectives, then the rest."""
    order = dict.fromkeys((results.quality, *results.objectives, *results.metrics))
    # Latency in ms says the same as its ratio, with a change that people can read.
    shown = [n for n in order if n != "latency_ratio"]
    return [results.metrics[n] for n in shown if any(n in c.measurements for c in results.candidates)]


def _cells(results: Results, candidate: Candidate, metrics: list[Metric], *, paired: bool = False) -> tuple[Cell, ...]:
    return tuple(_cell(results, candidate, metric, paired) for metric in metrics)


def _cell(results: Results, candidate: Candidate, metric: Metric, paired: bool) -> Cell:
    measurement = candidate.measurements.get(metric.name)
    if measurement is None:
        return Cell(label=metric.label)
    detailed = paired and metric.name == results.quality
    change = words.quality_change(results, candidate) if detailed else words.change(results, candidate, metric.name)
    return Cell(
        label=metric.label,
        value=measurement.value,
        shown=metric.show(measurement.value),
        interval=words.interval(metric, measurement),
        change=change,
        how=measurement.how,
        flags=measurement.flags,
    )


def _rows(results: Results, metrics: list[Metric]) -> list[Row]:
    """Front first, then dominated, infeasible and failed; the best quality first inside each."""
    statuses, order = results.statuses(), list(STATUSES)
    sign = results.metrics[results.quality].sign

    def place(candidate: Candidate) -> tuple[float, ...]:
        value = candidate.value(results.quality)
        return (
            order.index(statuses[candidate.number]),
            float("inf") if value is None else sign * value,
            candidate.number,
        )

    return [
        Row(
            candidate=c,
            status=statuses[c.number],
            outside=() if c.failed else tuple(text for text, margin in results.margins(c).items() if margin > 0),
            cells=_cells(results, c, metrics),
            confirmed=words.confirmed(results, c),
            lost=words.lost(results, c),
            idle=tuple(
                f"{e.technique} brings nothing here (see {e.without.name})" for e in effects(results, c) if not e.worth
            ),
        )
        for c in sorted(results.candidates, key=place)
    ]


def _budgets(results: Results) -> list[tuple[str, str, int, int]]:
    """Text, limit in words, how many of the measured candidates are inside, how many were measured."""
    able = [c for c in results.candidates if not c.failed]
    lines = []
    for budget in results.budgets:
        limit = words.limit(results, budget)
        shown = "needs the baseline" if limit is None else results.metrics[budget.metric].show(limit)
        inside = 0 if limit is None else sum(results.fits(c, [budget]) for c in able)
        lines.append((budget.text, f"{budget.sense} {shown}" if limit is not None else shown, inside, len(able)))
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as `outer.inner`, lists in one line."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", str(value)
