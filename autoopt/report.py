"""One HTML file that says what a study found: nothing beside it, and no request to anywhere."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.io

from autoopt.candidate import Candidate
from autoopt.figures import change_text, front_figure, interval_text, limit_of
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
        summary=_summary(results, rows),
        metrics=metrics,
        rows=rows,
        statuses=STATUSES,
        pick=pick,
        confirmed="" if pick.candidate is None else confirmed_text(results, pick.candidate),
        lost=() if pick.candidate is None else _lost(results, pick.candidate),
        verdicts=verdicts(results),
        curse=_curse(results),
        picked=pick.candidate and _cells(results, pick.candidate, metrics, paired=True),
        nearest=[row for c in pick.nearest for row in rows if row.candidate is c],
        export=""
        if pick.candidate is None
        else shlex.join(
            ["autoopt", "export", str(results.provenance.get("folder", results.study)), str(pick.candidate.number)]
        ),
        figure=_figure(results) if any(not c.failed for c in results.candidates) else "",
        failures=_failures(results),
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
    measurement, baseline = candidate.measurements.get(metric.name), results.baseline
    if measurement is None:
        return Cell(label=metric.label)
    change = change_text(results, candidate, metric.name)
    if change and paired and metric.name == results.quality and baseline is not None:
        reference = baseline.measurements[metric.name].value
        _, low, high = results.difference(candidate, baseline)
        ends = (metric.show_change(reference + end, reference) for end in (low, high))
        change += f" ({' to '.join(ends)})"
    return Cell(
        label=metric.label,
        value=measurement.value,
        shown=metric.show(measurement.value),
        interval=interval_text(metric, measurement),
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
            confirmed=confirmed_text(results, c),
            lost=_lost(results, c),
            idle=tuple(
                f"{e.technique} brings nothing here (see {e.without.name})" for e in effects(results, c) if not e.worth
            ),
        )
        for c in sorted(results.candidates, key=place)
    ]


def confirmed_text(results: Results, candidate: Candidate) -> str:
    """What was found on the test split, or `` for a candidate that was not confirmed."""
    again, metric = candidate.confirmation, results.metrics[results.quality]
    if again is None:
        return ""
    text = f"{metric.show(again.quality.value)} on the test split"
    found = None if results.baseline is None else results.confirmed_difference(candidate, results.baseline)
    if found is None or candidate is results.baseline:
        return text
    change, low, high = (metric.show_change(d, 0) for d in found)
    return f"{text}, {change} against the baseline ({low} to {high})"


def _lost(results: Results, candidate: Candidate) -> tuple[str, ...]:
    return tuple(
        f"class {c.name} is lost: {c.share:.0%} right, of {c.baseline:.0%} before ({c.items} items)"
        for c in results.dead_classes(candidate)
    )


def _curse(results: Results) -> str:
    """By how much the search's own numbers flattered what it put on the front."""
    found = [f for c in results.front() if (f := results.flattery(c)) is not None]
    if not found:
        return ""
    metric, n = results.metrics[results.quality], len(found)
    mean = metric.show_change(sum(found) / n, 0)
    members = "the one confirmed member" if n == 1 else f"{n} confirmed members"
    return (
        f"Winner's curse: against the test split, the search's own change of {metric.label} had flattered {members} "
        f"of the front by {mean} on average (negative: it had been too modest)."
    )


def _summary(results: Results, rows: list[Row]) -> str:
    if not rows:
        return "No candidates yet."
    counts = {status: sum(row.status == status for row in rows) for status in STATUSES}
    words = {"front": "on the front", "infeasible": "outside the budgets"}
    parts = [f"{count} {words.get(status, status)}" for status, count in counts.items() if count]
    hours = sum(c.seconds for c in results.candidates) / 3600
    work = f"; {hours:.1f} hours of work" if hours >= 0.1 else ""
    return f"{len(rows)} candidate{'' if len(rows) == 1 else 's'}: {', '.join(parts)}{work}."


def _failures(results: Results) -> list[tuple[str, str, list[str]]]:
    """Stage, reason, and who failed so: the most frequent first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for candidate in results.candidates:
        if candidate.failed:
            groups.setdefault((candidate.failed_stage, candidate.reason), []).append(candidate.name)
    return [(*key, names) for key, names in sorted(groups.items(), key=lambda item: -len(item[1]))]


def _budgets(results: Results) -> list[tuple[str, str, int, int]]:
    """Text, limit in words, how many of the measured candidates are inside, how many were measured."""
    able = [c for c in results.candidates if not c.failed]
    lines = []
    for budget in results.budgets:
        limit = limit_of(results, budget)
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
