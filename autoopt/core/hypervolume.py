"""How far a search has come: the hypervolume that its front covers."""

import moocore
import numpy as np

from autoopt.core.ranking import non_dominated
from autoopt.core.results import Results


def history(results: Results) -> list[tuple[str, float]]:
    """The hypervolume after each candidate inside the budgets, in the order in which they were finished.

    Each objective is scaled from the worst value (0) to the best (1) that any such candidate has, so that the
    volume is the share of that box that the front covers. A new best or worst value moves the whole history.

    Returns:
        when, as `Candidate.finished`, and the volume from 0 to 1, which never falls.
    """
    signs = [results.metrics[name].sign for name in results.objectives]
    able = [c for c in results.candidates if c.finished and results.fits(c)]
    able = [c for c in able if all(c.value(name) is not None for name in results.objectives)]
    if not able:
        return []
    able.sort(key=lambda c: (c.finished, c.number))
    values = np.array([[c.measurements[name].value for name in results.objectives] for c in able]) * signs
    best, worst = values.min(axis=0), values.max(axis=0)
    span = np.where(worst > best, worst - best, 1.0)
    # An objective in which all are equal decides nothing: it covers its whole side.
    points = np.where(worst > best, (values - best) / span, 0.0)
    found, front = [], np.empty((0, points.shape[1]))
    for candidate, point in zip(able, points, strict=True):
        front = np.vstack([front, point])
        front = front[non_dominated(front)]
        found.append((candidate.finished, float(moocore.hypervolume(front, ref=np.ones(points.shape[1])))))
    return found
