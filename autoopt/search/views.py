"""What a person sees while a search runs: a live view in a terminal or a notebook, plain lines elsewhere."""

import contextlib
import dataclasses
import io
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from autoopt.core.candidate import Candidate
from autoopt.core.formatting import duration
from autoopt.core.metrics import Metric
from autoopt.system import screen

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

from autoopt.search.progress import Silent, Snapshot, Spending, View

SHOWN = 8
"""Rows of the front in the live view."""
NOTEBOOK_S = 1.0
"""Seconds between two redrawings in a notebook, whose every output travels to a browser."""
SAID = 12
"""Lines on candidates that a notebook keeps: a night has hundreds."""
NOTEBOOK_WIDTH = 110


READING_S = 30.0
"""Between two lines on how far the reading of data is, where each is a line of its own."""


class Plain(Silent):
    """One line for each thing that happens, on standard error, and one now and then while data is read."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def note(self, text: str) -> None:
        """Print it."""
        self._print(text)

    def update(self, snapshot: Snapshot) -> None:
        """Print how far the reading of data is, every half a minute."""
        if snapshot.reading and time.monotonic() - self._told >= READING_S:
            self._told = time.monotonic()
            self._print(snapshot.reading)

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Print what became of it."""
        self._print(describe(candidate, metrics, baseline))

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """Print why it ended and where the time went."""
        self._print(summary(snapshot, spent, why))

    def _print(self, text: str) -> None:
        screen.say_line(f"[{time.strftime('%H:%M:%S')}] {text}", err=True)


class Live(Silent):
    """A view that redraws itself: progress, running jobs, the front so far."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live as RichLive

        self._console = console
        self._live = RichLive(console=console, refresh_per_second=4, transient=True)
        self._last = 0.0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._live.__exit__(*exception)

    def note(self, text: str) -> None:
        """Print it above the view."""
        self._console.print(screen.one_line(text), style="dim", markup=False, highlight=False)

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Print what became of it above the view."""
        style = "red" if candidate.failed else None
        self._console.print(
            screen.one_line(describe(candidate, metrics, baseline)), style=style, markup=False, highlight=False
        )

    def update(self, snapshot: Snapshot) -> None:
        """Redraw, a few times a second at most."""
        if time.monotonic() - self._last > 0.2:
            self._live.update(draw(snapshot))
            self._last = time.monotonic()

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """Print why it ended and where the time went."""
        self._console.print(screen.one_line(summary(snapshot, spent, why)), markup=False, highlight=False)


class Notebook(Silent):
    """A view in the output of a notebook's cell, in one place that redraws itself; it needs no widgets."""

    def __init__(self, display: Callable[..., Any]) -> None:
        """Begin to show.

        Args:
            display: of IPython.
        """
        self._handle: Any = None
        self._display = display
        self._said: deque[str] = deque(maxlen=SAID)
        self._snapshot: Snapshot | None = None
        self._last = -math.inf

    def __exit__(self, *exception: Any) -> None:
        self._show()

    def note(self, text: str) -> None:
        """Keep it in sight."""
        self._said.append(text)
        self._show()

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Keep what became of it in sight."""
        self._said.append(describe(candidate, metrics, baseline))

    def update(self, snapshot: Snapshot) -> None:
        """Redraw, once a second at most."""
        self._snapshot = snapshot
        if time.monotonic() - self._last > NOTEBOOK_S:
            self._show()

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        """Show the end: why it came and where the time went."""
        self._snapshot = dataclasses.replace(snapshot, running=())
        self._said.append(summary(snapshot, spent, why))
        self._show()

    def _show(self) -> None:
        self._last = time.monotonic()
        with contextlib.suppress(Exception):  # the browser may be gone for the night: no reason to stop a search
            shown = self._draw()
            if self._handle is None:
                self._handle = self._display(shown, raw=True, display_id=True)
            else:
                self._handle.update(shown, raw=True)

    def _draw(self) -> dict[str, str]:
        """By its MIME type, for browsers and for consoles that show no HTML."""
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=NOTEBOOK_WIDTH, force_jupyter=False, color_system=None)
        for text in self._said:
            console.print(screen.one_line(text), markup=False, highlight=False)
        if self._snapshot is not None:
            console.print(draw(self._snapshot))
        text = console.export_text(clear=False)
        html = console.export_html(inline_styles=True, code_format="<pre style='white-space: pre'>{code}</pre>")
        return {"text/html": html, "text/plain": text}


def usual() -> "View":
    """The view for a call from Python: in a notebook or IPython the progress, elsewhere nothing."""
    try:
        from IPython import get_ipython
        from IPython.display import display

        shell = get_ipython()
    except ImportError:
        return Silent()
    if shell is None:
        return Silent()
    if type(shell).__name__ != "TerminalInteractiveShell":
        return Notebook(display)
    from rich.console import Console

    console = Console(stderr=True)
    return Live(console) if console.is_terminal else Plain()


def draw(snapshot: Snapshot) -> "RenderableType":
    """Progress, running jobs and the front so far, as rich draws them."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def shown(text: str, style: str = "") -> Text:  # as it is: a plain str would be read as rich's markup
        return Text(screen.one_line(text), style=style)

    left = snapshot.left_s()
    skipped = f", {snapshot.skipped} recipes skipped" if snapshot.skipped else ""
    counts = f"{snapshot.done} of {snapshot.total} candidates, {snapshot.failed} failed{skipped}"
    times = f"{duration(snapshot.elapsed_s)} gone" + ("" if left is None else f", about {duration(left)} left")
    head = Text(f"{counts} · {times} · {snapshot.hits} results from the store")
    bar = Table.grid()  # a bar by itself ends without a line break
    bar.add_row(ProgressBar(total=max(1, snapshot.total), completed=snapshot.done, width=60))
    jobs = Table.grid(padding=(0, 2))
    for number, recipe, job, at in snapshot.running:
        jobs.add_row(shown(f"#{number}"), shown(recipe), shown(job, "bold"), shown(at))
    front = snapshot.front()
    if snapshot.reading:
        return Group(bar, head, shown(snapshot.reading))
    if not front:
        return Group(bar, head, jobs)
    best = f" (best {SHOWN} by {snapshot.objectives[0]})" if len(front) > SHOWN else ""
    title = f"front so far: {len(front)} candidates{best}"
    names = [n for n in snapshot.objectives if n in snapshot.metrics]
    table = Table(title=shown(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("", *[snapshot.metrics[n].label for n in names], "recipe"):
        table.add_column(shown(heading), justify="right" if heading not in ("", "recipe") else "left")
    for c in front[:SHOWN]:
        values = [shown(snapshot.metrics[n].show(c.measurements[n].value)) for n in names]
        table.add_row(shown(c.name), *values, shown(c.recipe.label()))
    return Group(bar, head, jobs, Text(), table)


def describe(candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> str:
    """One line on a candidate that has ended."""
    what = f"{candidate.name} {candidate.recipe.label()}"
    if candidate.failed:
        return f"{what}: failed in {candidate.failed_stage}: {candidate.reason}"
    shown = [
        f"{metrics[name].show(candidate.measurements[name].value)}"
        for name in (next(iter(metrics)), "latency_ms", "compressed_bytes")
        if name in candidate.measurements
    ]
    kind = "" if candidate.origin == "search" else f" ({candidate.origin})"
    return f"{what}{kind}: {', '.join(shown)} compressed"


def summary(snapshot: Snapshot, spent: Spending, why: str) -> str:
    """How a run ended and where its time went."""
    share = spent.overhead / spent.wall if spent.wall else 0.0
    skipped = f"{snapshot.skipped} recipes skipped, " if snapshot.skipped else ""
    return (
        f"{why or 'done'}: {snapshot.done} candidates, {snapshot.failed} failed, {skipped}in {duration(spent.wall)}. "
        f"In jobs {spent.jobs:.1f} s, saved by the store {spent.saved:.1f} s ({spent.hits} results), "
        f"overhead {spent.overhead:.1f} s ({share:.1%} of the time)."
    )
