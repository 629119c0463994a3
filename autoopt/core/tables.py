"""Candidates as tables: pandas for who calculates on, HTML for who looks at a notebook."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import STANDARD, Metric
from autoopt.core.reprs import html_table, html_text, short

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Rows of a table in a notebook."""
TEXTS = ("status", "origin", "recipe", "flags", "failed_stage", "reason", "digest", "sha256")
"""Columns of texts; `confirmed` is true or false, and all others are numbers."""


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "pd.DataFrame":
    """Rows as a pandas table, indexed by number; a number that was not measured is NaN, never None.

    Args:
        rows: of `Results.rows`.
        columns: their names.
    """
    import pandas as pd

    kinds = {"number": "int64", "confirmed": "bool"} | dict.fromkeys(TEXTS, "str")
    series = {
        name: pd.Series([row[name] for row in rows], dtype=kinds.get(name, "float64"), name=name) for name in columns
    }
    return pd.DataFrame(series, columns=list(columns)).set_index("number")


def html(candidates: Sequence[Candidate], metrics: Mapping[str, Metric] | None = None) -> str:
    """Candidates as a table of HTML: number, recipe, and every metric that any of them has, with its unit.

    Args:
        candidates: the first `SHOWN` are shown.
        metrics: by name; where they are not given the task's own metric is a bare number.
    """
    shown = candidates[:SHOWN]
    if metrics is None:
        names = dict.fromkeys(name for c in shown for name in c.measurements)
        metrics = {name: STANDARD.get(name, Metric(name=name, direction="max")) for name in names}
    known = [metric for name, metric in metrics.items() if any(name in c.measurements for c in shown)]
    rows = ([c.name, c.recipe.label(), *(_cell(c, metric) for metric in known)] for c in shown)
    text = html_table(["", "recipe", *(metric.label for metric in known)], rows)
    left = len(candidates) - len(shown)
    return text + (html_text(f"and {left} more") if left else "")


def _cell(candidate: Candidate, metric: Metric) -> str:
    value = candidate.value(metric.name)
    return "" if value is None else metric.show(value)


class Front(list[Candidate]):
    """The candidates of a front, best first in the first objective: a list that also is a table."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        metrics: Mapping[str, Metric],
        table: "Callable[[Iterable[Candidate]], pd.DataFrame]",
    ) -> None:
        super().__init__(candidates)
        self._metrics, self._table = metrics, table

    def table(self) -> "pd.DataFrame":
        """The candidates as a pandas table, indexed by number; columns and units as of `Results.table`."""
        return self._table(self)

    def __repr__(self) -> str:
        return f"<Front of {len(self)}: {short(', '.join(c.name for c in self)) or 'no candidates'}>"

    def _repr_html_(self) -> str:
        return html(self, self._metrics)
