"""One HTML file that says what a study found: nothing beside it, and no request to anywhere."""

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from autoopt.core.formatting import duration
from autoopt.core.results import Results
from autoopt.reporting import importance, report_data, wording
from autoopt.system.files import write_atomically

_DATE_KEYS = ("finished", "date", "created", "started")
_TIMES = {
    "wall_s": "all runs together",
    "jobs_s": "in jobs",
    "saved_by_store_s": "saved by the store",
    "overhead_s": "in which no job was at work",
}


def write(results: Results, path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
        TargetUnavailable: if the disk is full or the folder can't be written.
    """
    write_atomically(path, render(results).encode(errors="replace"))  # a path need not be UTF-8


def render(results: Results) -> str:
    """The report as one HTML page with plotly inside (about 5 MB)."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autoopt.reporting", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["signed"] = lambda percent: "0.0" if abs(percent) < 0.05 else f"{percent:+.1f}"
    return environment.get_template("report.html.j2").render(
        results=results,
        date=next((str(results.provenance[key]) for key in _DATE_KEYS if key in results.provenance), ""),
        summary=wording.summary(results),
        pick=results.pick(),
        quality=results.metrics[results.quality],
        costs=[results.metrics[name] for name in results.objectives if name != results.quality],
        techniques=importance.of_techniques(results),
        importance=importance.of_knobs(results),
        curse=wording.flattery(results),
        failures=wording.failures(results),
        budgets=_budgets(results),
        time=_time(results),
        provenance=list(_flat({k: v for k, v in results.provenance.items() if k != "time"})),
        data=report_data.data(results),
        plotly=get_plotlyjs(),
        script=resources.files("autoopt.reporting").joinpath("assets", "report.js").read_text(encoding="utf-8"),
    )


def _budgets(results: Results) -> list[tuple[str, str, int, int]]:
    """Text, limit in words, how many of the measured candidates are inside, how many were measured."""
    able = [c for c in results.candidates if not c.failed]
    lines = []
    for budget in results.budgets:
        limit = wording.limit(results, budget)
        shown = "needs the baseline" if limit is None else results.metrics[budget.metric].show(limit)
        inside = 0 if limit is None else sum(results.fits(c, [budget]) for c in able)
        lines.append((budget.text, f"{budget.sense} {shown}" if limit is not None else shown, inside, len(able)))
    return lines


def _time(results: Results) -> list[tuple[str, str]]:
    spent = results.provenance.get("time", {})
    return [(text, duration(spent[name])) for name, text in _TIMES.items() if name in spent]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as `outer.inner`, lists in one line."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", str(value)
