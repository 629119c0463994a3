"""When one candidate counts as as good as another, and whether the items are enough to tell.

The rule is this, for every face. Two candidates are *as good* if the qualities measured on the same items differ by
no more than the margin that the study allows (`equivalence` in study.yaml). So what is taken for a small saving never
loses more than the margin against the best that was measured, however few the items are: that a difference is not
significant never makes two candidates alike.

Whether this can be relied on is a second question. The items are *too few to tell* if the 95 % interval of the paired
difference holds 0, so that either may be the better one, and reaches further than the margin to both sides on average.
Then it is said, with about how many items would do: the width shrinks with the square root of their number.
"""

import math
from dataclasses import dataclass

import numpy as np

from autoopt.core import budgets
from autoopt.core.metrics import Metric

DEFAULT = {"fraction": "1 point"}
"""The margin of a metric, by its unit, where the study names none."""
RELATIVE = "1 % of baseline"
"""The same for all other units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """How much the qualities of two candidates may differ while they count as as good.

    Attributes:
        share: of the baseline's value; 0 for an absolute margin.
        offset: in the metric's unit.
        text: as the user wrote it.
    """

    share: float
    offset: float
    text: str

    def margin(self, reference: float | None) -> float:
        """The margin in the metric's unit.

        Args:
            reference: the baseline's value, or the best one's where there is no baseline.
        """
        return self.share * abs(reference or 0.0) + self.offset


def parse(text: str, metric: Metric) -> Equivalence:
    """Read a margin; the default of the metric's unit if the text is empty.

    Args:
        text: such as `1 point`, in the syntax of `budgets.allowance`.
        metric: the task's own.

    Raises:
        ConfigError: if it can't be read.
    """
    chosen = text or DEFAULT.get(metric.unit, RELATIVE)
    share, offset = budgets.allowance(chosen, metric, f"equivalence {chosen!r}")
    return Equivalence(share=share, offset=offset, text=chosen)


def as_good(differences: np.ndarray, margin: float) -> np.ndarray:
    """Whether pairs are as good, see the module's docstring.

    Args:
        differences: shape (..., 3), dtype float: value, low and high, as of `metrics.differences`.
        margin: in the metric's unit.

    Returns:
        shape (...), dtype bool.
    """
    # A margin such as 1 point is a decimal: what equals it is inside.
    return np.asarray(np.abs(differences[..., 0]) <= margin * (1 + 1e-9) + 1e-15)


def too_few(differences: np.ndarray, margin: float) -> np.ndarray:
    """Whether the items behind pairs are too few to tell, see the module's docstring.

    Args:
        differences: as of `as_good`.
        margin: as of `as_good`; with 0 no number of items would do, and none is too few.

    Returns:
        shape (...), dtype bool.
    """
    low, high = differences[..., 1], differences[..., 2]
    return np.asarray((low <= 0) & (high >= 0) & ((high - low) / 2 > margin) & (margin > 0))


def enough(items: int, differences: np.ndarray, margin: float) -> int:
    """About how many items would do for pairs that these items are too few for; 0 where they are not.

    Args:
        items: that were measured.
        differences: shape (pairs, 3), as of `as_good`.
        margin: as of `as_good`.
    """
    wide = differences[too_few(differences, margin)]
    if not len(wide):
        return 0
    times = (float(np.median(wide[:, 2] - wide[:, 1])) / 2 / margin) ** 2
    wanted = items * times
    step = 10.0 ** max(0, math.floor(math.log10(wanted)) - 1)  # two digits are as many as it can be relied on
    return int(math.ceil(wanted / step) * step)


def shown(margin: float, metric: Metric) -> str:
    """A margin for people, such as `1 point`."""
    if metric.unit == "fraction":
        points = f"{margin * 100:.3g}"
        return f"{points} point{'' if points == '1' else 's'}"
    return metric.show(margin)
