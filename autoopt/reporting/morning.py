"""What a person wants to know who comes in the morning: what was asked, how it ended, what to ship, and what to do next."""

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.core import last_run
from autoopt.core.candidate import Candidate
from autoopt.core.formatting import duration
from autoopt.core.last_run import LastRun
from autoopt.core.reprs import typed
from autoopt.core.results import Pick, Results
from autoopt.reporting import plain, wording

RUNNING, CUT_OFF, UNKNOWN = "running", "cut off", "unknown"
"""States beside those of `LastRun`: a driver is at work, it ended without a word, and it was not written down."""
_SAID = {
    last_run.ENDED: "The last run ended",
    last_run.INTERRUPTED: "The last run was interrupted",
    last_run.WAITING: "The last run stopped and waits for you",
    last_run.FAILED: "The last run failed",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A study in one paragraph.

    Attributes:
        study: its name.
        state: one of `last_run.STATES`, or `RUNNING`, `CUT_OFF`, `UNKNOWN`.
        text: the paragraph.
        reason: why it is in that state, as it was told; may be empty.
        next: what to do, a sentence that is in the paragraph too.
        run: the last one; None where that was not written down.
        counts: how many candidates there are of each status, and how many recipes were skipped.
        budgets: of the study, as they were written.
        pick: as plain values; None where there are no results yet.
    """

    study: str
    state: str
    text: str
    reason: str
    next: str
    run: LastRun | None
    counts: dict[str, int]
    budgets: tuple[str, ...]
    pick: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        run = self.run
        return {
            "study": self.study,
            "state": self.state,
            "reason": self.reason,
            "exit_code": None if run is None else run.exit_code,
            "begun": "" if run is None else run.begun,
            "since": "" if run is None else run.since,
            "text": self.text,
            "next": self.next,
            "counts": self.counts,
            "budgets": list(self.budgets),
            "pick": self.pick,
        }


def summarize(
    results: Results | None, run: LastRun | None, *, study: str, place: str, at_work: bool = False
) -> Summary:
    """A study in one paragraph.

    Args:
        results: of the study; None where there are none yet.
        run: the last one, None where that was not written down.
        study: its name.
        place: its folder.
        at_work: whether a driver runs it now.
    """
    state = _state(run, at_work)
    chosen = None if results is None else results.pick()
    what_next = _next(results, chosen, state, place)
    sentences = [_asked(results, run, study), _ended(run, state)]
    if results is None:
        sentences.append("No candidate has been measured yet.")
    else:
        sentences.append(wording.summary(results))
        if chosen is not None and results.candidates:
            sentences += _picked(results, chosen)
    return Summary(
        study=study,
        state=state,
        text=" ".join(sentence for sentence in [*sentences, what_next] if sentence),
        reason="" if run is None else run.reason,
        next=what_next,
        run=run,
        counts={} if results is None else _counts(results),
        budgets=() if results is None else tuple(budget.text for budget in results.budgets),
        pick=None if results is None or chosen is None else plain.pick(results, chosen, results.budgets),
    )


def _state(run: LastRun | None, at_work: bool) -> str:
    if at_work:
        return last_run.WAITING if run is not None and run.state == last_run.WAITING else RUNNING
    if run is None:
        return UNKNOWN
    return CUT_OFF if run.exit_code is None or run.state == last_run.BEGUN else run.state


def _counts(results: Results) -> dict[str, int]:
    counted = Counter(results.statuses().values())
    names = ("front", "dominated", "infeasible", "failed")
    return {
        "candidates": len(results.candidates),
        **{name: counted[name] for name in names},
        "skipped": len(results.skipped),
    }


def _asked(results: Results | None, run: LastRun | None, study: str) -> str:
    """What the study is for, in a sentence."""
    limits = _limits(run)
    if results is None:
        return f"The study {study} was to make {limits}." if limits else f"This is the study {study}."
    goals = listed([results.metrics[name].label for name in results.objectives])
    target = results.provenance.get("target")
    where = f" on {target}" if target else ""
    inside = f", inside {listed([budget.text for budget in results.budgets])}" if results.budgets else ""
    made = f"; the last run was to make {limits}" if limits else ""
    return f"The study {study} looks for the best {goals}{where}{inside}{made}."


def _limits(run: LastRun | None) -> str:
    """How many candidates a run was to make, and in what time; `` where it was to search for none."""
    if run is None or run.kind != last_run.SEARCH:
        return ""
    hours = "" if run.hours is None else f" in at most {duration(run.hours * 3600)}"
    return f"{run.trials} candidate{'' if run.trials == 1 else 's'} in all{hours}"


def _ended(run: LastRun | None, state: str) -> str:
    """How it stands, in a sentence; `` where nothing is known."""
    why = f": {run.reason.rstrip('.')}" if run is not None and run.reason else ""
    since = _when(run.since) if run is not None else ""
    if state == RUNNING:
        return "It is still running."
    if state == UNKNOWN or run is None:
        return ""
    if state == CUT_OFF:
        return (
            f"The last run, begun{_when(run.begun)}, was cut off without a word (by a kill, a power cut or a full disk): "
            "what was finished is kept."
        )
    if run.exit_code is None:
        return f"It is still running, but waits for you{since.replace(' at ', ' since ')}{why}."
    return f"{_SAID[state]}{since}{why}."


def _when(moment: str) -> str:
    """A moment in this machine's time, such as ` at 2026-11-27 06:12`; `` for what is none."""
    try:
        return f" at {datetime.datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # no date, or one that no clock shows
        return ""


def _picked(results: Results, chosen: Pick) -> list[str]:
    """The pick with its figures, or what keeps everything out."""
    c = chosen.candidate
    if c is None:
        lines = [f"There is no pick: {chosen.why}."]
        if chosen.binding:
            lines.append(f"What keeps them out: {'; '.join(chosen.binding)}.")
        if chosen.nearest:
            first = chosen.nearest[0]
            missed = "; ".join(wording.misses(results, first, results.budgets))
            lines.append(f"The nearest is {first.name} ({first.recipe.label()}): {missed}.")
        return lines
    lines = [f"The pick is {c.name} ({c.recipe.label()}): {'; '.join(figures(results, c))}."]
    if results.budgets:
        number = len(results.budgets)
        which = {1: "the budget", 2: "both budgets"}.get(number, f"all {number} budgets")
        lines.append(f"It is inside {which}.")
    if text := wording.confirmed(results, c):
        lines.append(f"Confirmed: {text}.")
    doubts = (wording.unconfirmed(results, c), *wording.lost(results, c), chosen.doubt, chosen.advice)
    return lines + [f"{text[0].upper()}{text[1:]}." for text in doubts if text]


def figures(results: Results, candidate: Candidate) -> list[str]:
    """What was measured of a candidate, with the change against the baseline: the quality, the objectives and the size."""
    names = dict.fromkeys([results.quality, *results.objectives, "size_bytes"])
    found = []
    for name in names:
        value = candidate.value(name)
        if value is None:
            continue
        ours = name == results.quality
        change = wording.quality_change(results, candidate) if ours else wording.change(results, candidate, name)
        against = " against the baseline" if ours and change else ""
        text = f"{wording.label(results, name)} {results.metrics[name].show(value)}"
        found.append(f"{text}, {change}{against}" if change else text)
    return found


def _next(results: Results | None, chosen: Pick | None, state: str, place: str) -> str:
    """What to do, in a sentence."""
    report, place = typed(f"{place}/out/report.html"), typed(place)
    on, picked = f"`autoopt run {place}` goes on", None if chosen is None else chosen.candidate
    if state == RUNNING:
        return f"Next: wait; `autoopt dashboard {place}` shows how far it is."
    if state == last_run.WAITING:
        return f"Next: see to what it waits for; then {on}."
    if state == last_run.FAILED:
        return f"Next: mend that; then {on}."
    if state in (last_run.INTERRUPTED, CUT_OFF):
        return f"Next: {on}{_ship(place, picked, '; or ')}."
    if results is None or not results.candidates:
        return f"Next: {on}."
    if picked is None:
        return (
            f"Next: loosen a budget (`autoopt pick {place} --ask`), or search on (`autoopt run {place} --trials MORE`)."
        )
    if chosen is not None and chosen.advice:
        return f"Next: keep the untouched model, or search on (`autoopt run {place} --trials MORE`)."
    return f"Next: read {report}{_ship(place, picked, ', and ')}."


def _ship(place: str, picked: Candidate | None, joined: str) -> str:
    """How to have the pick's bundle, as the end of a sentence."""
    if picked is None:
        return ""
    return f"{joined}`autoopt export {place} {picked.number} --to shipped` writes what to ship"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence: `a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
