"""A front in text, for a terminal: one character a candidate."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoopt.core.metrics import Metric
from autoopt.core.results import Results
from autoopt.reporting.axes import Scale, fitting, measured, role_of

MARKS = {"dominated": ".", "out of budget": "x", "front": "o", "baseline": "*"}
"""In the order in which they are drawn: a later one covers an earlier one."""
COLOURS = {"front": "cyan", "baseline": "orange"}
ROWS, NARROWEST = 15, 40
_REACH = 2.0
"""How far an axis goes beyond what matters, relative to its spread."""
_EDGE = 0.03
"""Share of an axis that is left free at either end."""


@dataclass(frozen=True, kw_only=True)
class Axis(Scale):
    """A scale from `low` to `high`, which are places (see `Scale.place`)."""

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float], anchors: Sequence[float]) -> "Axis":
        """The axis on which the anchors are told apart.

        Args:
            metric: what is drawn.
            values: of all candidates, one or more.
            anchors: of those that matter; what lies far from them is cut off, so that one hopeless candidate
                does not squeeze the front into a line.
        """
        low, high = min(values), max(values)
        bare = cls(**fitting(metric, values))
        first, last = bare.place(low), bare.place(high)
        near, far = (bare.place(pick(anchors, default=low)) for pick in (min, max))
        if far > near:
            reach = _REACH * (far - near)
            first, last = max(first, near - reach), min(last, far + reach)
        alike = last - first <= 1e-9 * abs(last)
        edge = abs(last) / 2 or 1.0 if alike else _EDGE * (last - first)
        return dataclasses.replace(bare, low=first - edge, high=last + edge)

    def holds(self, value: float) -> bool:
        """Whether a value is not cut off."""
        return self.low <= self.place(value) <= self.high

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Places with their text: round numbers, one to about `most` (3 or more)."""
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            for digits in ((1, 2, 5), (1, 3), (1,)):
                found = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
                found = [tick for tick in found if self.low <= math.log10(tick) <= self.high]
                if 2 <= len(found) <= most:
                    return [(math.log10(tick), f"{tick:g}") for tick in found]
            ends = (0.75 * self.low + 0.25 * self.high, 0.25 * self.low + 0.75 * self.high)
            return [(math.log10(tick), f"{tick:g}") for tick in (float(f"{10**end:.2g}") for end in ends)]
        rough = (self.high - self.low) / most
        decade = math.floor(math.log10(rough))
        step = next(s for d in (decade, decade + 1) for n in (1, 2, 5) if (s := float(f"{n}e{d}")) >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        decimals = max(0, -math.floor(math.log10(step)))
        return [(n * step, f"{n * step:.{decimals}f}") for n in range(first, last + 1)]


def draw(results: Results, statuses: Mapping[int, str], width: int, *, colour: bool = False) -> str:
    """The front among all measured candidates: latency across where it was measured, quality upwards.

    Args:
        results: the study's.
        statuses: by candidate number, see `Results.statuses`.
        width: in characters, `NARROWEST` or more.
        colour: with a terminal's colours.

    Returns:
        lines without a last line break, or `` where fewer than two candidates can be drawn.
    """
    down = results.quality
    across = measured(results, "latency_ms", taken=down)
    drawn = [c for c in results.candidates if not c.failed and {down, across} <= set(c.measurements)]
    if len(drawn) < 2:
        return ""
    kinds = {c.number: role_of(results, statuses, c) for c in drawn}
    anchors = [c for c in drawn if kinds[c.number] in ("front", "baseline")]
    x, y = (
        Axis.of(results.metrics[name], *([c.measurements[name].value for c in some] for some in (drawn, anchors)))
        for name in (across, down)
    )
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in MARKS}
    beyond = 0
    for c in drawn:
        at = c.measurements[across].value, c.measurements[down].value
        if x.holds(at[0]) and y.holds(at[1]):
            groups[kinds[c.number]].append((x.place(at[0]), y.place(at[1])))
        else:
            beyond += 1
    legend = "  ".join(f"{MARKS[name]} {name}" for name in reversed(MARKS) if groups[name])
    more = f", {beyond} more beyond the edges" if beyond else ""
    rows = _canvas(groups, x, y, width, colour)
    return "\n".join([_ends(y.title, legend, width), *rows, f"{x.title}{more}".center(width).rstrip()])


def _ends(left: str, right: str, width: int) -> str:
    room = width - len(left) - len(right)
    return f"{left}{' ' * room}{right}" if room >= 2 else f"{left}\n{right:>{width}}"


def _canvas(
    groups: dict[str, list[tuple[float, float]]], x: Axis, y: Axis, width: int, colour: bool
) -> list[str]:  # fmt: skip
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, ROWS + 3)
    for axis, name, most in ((x, "x", width // 12), (y, "y", ROWS // 3)):
        places, texts = zip(*axis.ticks(most), strict=True)
        ruler = figure.ruler(name)
        ruler.lim(axis.low, axis.high)
        ruler.ticks(list(places), list(texts))
    for name, mark in MARKS.items():
        if groups[name]:
            across, down = zip(*groups[name], strict=True)
            marker = plotext.marker(mark, COLOURS.get(name, "default"))
            figure.draw(figure.signal(list(across), list(down), marker=marker))
    return str(figure.build().string(colorless=not colour)).rstrip("\n").split("\n")
