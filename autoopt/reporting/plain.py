"""What was found as plain values, for programs."""

from collections.abc import Sequence
from typing import Any

from autoopt.core.budgets import Budget
from autoopt.core.results import Pick, Results


def pick(results: Results, chosen: Pick, budgets: Sequence[Budget]) -> dict[str, Any]:
    """A pick as plain values.

    Args:
        results: that it was picked from.
        chosen: the pick.
        budgets: that it is inside of.
    """
    found = None if chosen.candidate is None else results.rows([chosen.candidate], budgets)[0]
    plain = {"candidate": found, "tied": [c.number for c in chosen.tied], "why": chosen.why}
    plain |= {"doubt": chosen.doubt, "advice": chosen.advice}
    return plain | {"binding": list(chosen.binding), "nearest": results.rows(chosen.nearest, budgets)}
