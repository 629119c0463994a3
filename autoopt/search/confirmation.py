"""Measuring again when the search has ended: which candidates, and how their numbers are read then."""

import dataclasses
from collections.abc import Collection, Sequence

from autoopt.core.candidate import Candidate
from autoopt.core.ranking import readings
from autoopt.core.results import Results
from autoopt.errors import Stopped
from autoopt.search import candidate_builder
from autoopt.search.agenda import Agenda
from autoopt.search.driver import Driver
from autoopt.search.stopping import CONFIRMED

NEAR_TIES = 4
"""At most so many beside the front."""
EXACT_TIE = 0.01
"""Sizes are exact; those within this share of each other count as tied here."""


def choose(results: Results) -> list[Candidate]:
    """The baseline and what latencies are relative to, the front, the pick and its ties, and near-ties of the front.

    A near-tie is beaten by members of the front, but by none on grounds that the measurements make
    sure of: what beat it may be luck.
    """
    front, pick = results.front(), results.pick()
    first = [c for c in results.candidates if not c.failed and c.origin in ("baseline", "scheme")]
    chosen = {c.number: c for c in (*first, *front)}
    measured = [c for c in results.candidates if all(name in c.measurements for name in results.objectives)]
    near = [c for c in measured if results.fits(c) and c.number not in chosen]
    ties = [c for c in near if not any(surely_beats(results, f, c) for f in front)]
    extra = dict.fromkeys(c.number for c in (*((pick.candidate,) if pick.candidate else ()), *pick.tied, *ties))
    by_number = {c.number: c for c in results.candidates}
    for number in [n for n in extra if n not in chosen][:NEAR_TIES]:
        chosen[number] = by_number[number]
    return [chosen[number] for number in sorted(chosen)]


def left(results: Results, tried: Collection[int] = ()) -> list[Candidate]:
    """Those of `choose` that are not confirmed yet.

    Once some were tried, those of front and pick alone: what takes the place of others there would be held to one split,
    where those that it is preferred to were held to two.

    Args:
        results: the study's.
        tried: numbers of those that were measured again a moment ago, or could not be.
    """

    def waits(candidate: Candidate) -> bool:
        return candidate.confirmation is None and candidate.number not in tried

    pick = results.pick().candidate
    shown = dict.fromkeys(c.number for c in (*results.front(), *((pick,) if pick else ())))
    return [candidate for candidate in (map(results.find, shown) if tried else choose(results)) if waits(candidate)]


def surely_beats(results: Results, a: Candidate, b: Candidate) -> bool:
    """Whether `a` is at least as good as `b` on every objective, and better on one beyond the measurements' spread."""
    sure = False
    for name in results.objectives:
        sign = results.metrics[name].sign
        found = readings(a, b, name)
        if found is None:
            return False
        ma, mb = found
        if sign * ma.value > sign * mb.value:
            return False
        if name == results.quality:
            _, low, high = results.difference(a, b)
            sure |= ma.value != mb.value and (low > 0 or high < 0)
        elif ma.low == ma.high and mb.low == mb.high:
            sure |= abs(ma.value - mb.value) > EXACT_TIE * abs(mb.value)
        else:
            sure |= ma.high < mb.low or mb.high < ma.low
    return sure


def confirm(driver: Driver) -> None:
    """Measure front and near-ties again: more repeats, and the test split, which the search never saw.

    Where that changes front or pick, what takes their place is measured again too.

    Raises:
        Stopped: if it was interrupted.
    """
    before, driver.reason = driver.reason, None
    tried: set[int] = set()
    while chosen := left(driver.ledger.results(), tried):
        tried |= {candidate.number for candidate in chosen}
        _confirm_some(driver, chosen)
    driver.reason = before or CONFIRMED


def _confirm_some(driver: Driver, chosen: Sequence[Candidate]) -> None:
    what = "a candidate" if len(chosen) == 1 else f"{len(chosen)} candidates"
    driver.view.note(f"confirming {what} on the test split, with more repeats")
    for candidate in chosen:
        driver.confirm(candidate)
    while driver.runs:
        driver.turn()
        if driver.reason is not None:
            raise Stopped(
                "stopped while confirming; ",
                call="autoopt.confirm goes on with it",
                command="`autoopt confirm` goes on with it",
            )
    rescale(driver.agenda)


def rescale(agenda: Agenda, flag: str = "") -> None:
    """Read all milliseconds off the reference's, which was measured anew.

    Args:
        agenda: of the study, whose ledger has the candidates.
        flag: what to say beside those latencies, if they were measured otherwise than the reference was; then
            nothing counts as confirmed.
    """
    if (reference := agenda.reference()) is not None:
        for candidate in agenda.ledger.candidates.values():
            rescaled = candidate_builder.rescaled(candidate, reference, flag)
            agenda.ledger.keep(dataclasses.replace(rescaled, confirmation=None) if flag else rescaled)
        agenda.learnt()
