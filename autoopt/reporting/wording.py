"""What is said of candidates, for people: the same sentences in terminal, report, dashboard and bundle."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import RANGE, Measurement, Metric, show_bytes
from autoopt.core.reprs import typed
from autoopt.core.results import Results
from autoopt.core.selection import UNCONFIRMED, filled

UNCOMPARED = ("latency_ratio", "agreement")
"""Metrics that are told against the baseline already."""


def interval(metric: Metric, measurement: Measurement) -> str:
    """The 95 % interval, or the range of a few readings with what it is; `` for what is exact."""
    if measurement.low == measurement.high:
        return ""
    text = f"{metric.show(measurement.low)} to {metric.show(measurement.high)}"
    return f"{text}, the range of {measurement.n} readings" if measurement.ends == RANGE else text


def parts(sizes: Mapping[str, int]) -> str:
    """Where the bytes of a compressed file go, the most first; `` where that is not known.

    Args:
        sizes: bytes after gzip -9 by part.
    """
    told = [f"{part} {show_bytes(size)}" for part, size in sorted(sizes.items(), key=lambda one: -one[1]) if size > 0]
    return f"after gzip -9: {', '.join(told)}" if told else ""


def change(results: Results, candidate: Candidate, metric: str) -> str:
    """The change from the baseline, or `` where there is nothing to compare."""
    baseline, value = results.reference(metric), candidate.value(metric)
    reference = None if baseline is None or candidate is baseline else baseline.value(metric)
    if value is None or reference is None or metric in UNCOMPARED:
        return ""
    return results.metrics[metric].show_change(value, reference)


def quality_change(results: Results, candidate: Candidate) -> str:
    """The change of quality from the baseline with its interval, or `` where there is nothing to compare."""
    baseline = results.baseline
    if baseline is None or candidate is baseline or candidate.value(results.quality) is None:
        return ""
    return _difference(results, results.difference(candidate, baseline), baseline.measurements[results.quality].value)


def _difference(results: Results, found: tuple[float, float, float], reference: float) -> str:
    metric = results.metrics[results.quality]
    value, *ends = (metric.show_change(reference + difference, reference) for difference in found)
    return f"{value} ({' to '.join(ends)})"


def confirmed(results: Results, candidate: Candidate) -> str:
    """What was found on the test split, or `` for a candidate that was not confirmed."""
    again, metric = candidate.confirmation, results.metrics[results.quality]
    if again is None:
        return ""
    text = f"{metric.label} {metric.show(again.quality.value)} on the test split, which the search never saw"
    found = None if results.baseline is None else results.confirmed_difference(candidate, results.baseline)
    flattery = results.flattery(candidate)
    if found is None or flattery is None:
        return text
    text += f": {_difference(results, found, 0.0)} against the baseline there"
    return f"{text}; {_estimate(metric, flattery)}"


def _estimate(metric: Metric, flattery: float) -> str:
    """How far the search's own estimate was from what the test split says, in words.

    Args:
        metric: the task's own.
        flattery: by how much the estimate was better, in the metric's unit.
    """
    off = -metric.sign * flattery
    amount = metric.show_change(abs(off), 0).lstrip("+")
    if not off or not any(digit in amount for digit in "123456789"):
        return "the search estimate was right"
    return f"the search estimate was {amount} too {'high' if off > 0 else 'low'}"


def label(results: Results, metric: str) -> str:
    """A metric's label, with the split that candidates' measurements are of where some have numbers of both."""
    text = results.metrics[metric].label
    return f"{text} (validation split)" if metric == results.quality and results.confirms else text


def unconfirmed(results: Results, candidate: Candidate) -> str:
    """That a candidate was not confirmed, or `` where it was, or none was."""
    if candidate.confirmation is not None or not results.confirms:
        return ""
    return filled(results, UNCONFIRMED)


def lost(results: Results, candidate: Candidate) -> tuple[str, ...]:
    """A line for each class that the candidate has lost."""
    return tuple(
        f"class {c.name} is lost: {c.share:.0%} of its {c.items} items are right, {c.baseline:.0%} were before"
        for c in results.dead_classes(candidate)
    )


def flattery(results: Results) -> str:
    """By how much the search's own estimates were off for what it put on the front, or ``."""
    found = [f for c in results.front() if (f := results.flattery(c)) is not None]
    if not found:
        return ""
    metric, n = results.metrics[results.quality], len(found)
    members = "the one confirmed candidate" if n == 1 else f"{n} confirmed candidates"
    average = "on average, " if n > 1 else ""
    return (
        f"For {members} of the front, {average}{_estimate(metric, sum(found) / n)}: the change of {metric.label} against "
        "the baseline on the validation split, held against that on the test split. A search picks what looks best, and "
        "some of that is luck."
    )


def limit(results: Results, budget: Budget) -> float | None:
    """The budget's limit in the metric's unit, or None if it needs a baseline that is not there."""
    baseline = results.reference(budget.metric)
    reference = None if baseline is None else baseline.value(budget.metric)
    return None if budget.factor != 0 and reference is None else budget.bound(reference)


def misses(results: Results, candidate: Candidate, budgets: Sequence[Budget]) -> list[str]:
    """A line for each budget that a candidate is outside of: by how much, relative to the limit."""
    lines = []
    for budget in budgets:
        metric, margin = results.metrics[budget.metric], results.margins(candidate, [budget])[budget.text]
        if margin == float("inf"):
            lines.append(f"misses {budget.text}: {metric.label} was not measured")
        elif margin > 0 and metric.unit == "fraction":
            lines.append(f"misses {budget.text} by {margin * 100:.2g} points{_split(results, candidate, budget)}")
        elif margin > 0:
            share = 100 * results.excess(candidate, [budget])
            over = f"{share:,.0f} %" if share >= 10 else f"{share:.2g} %"
            lines.append(f"misses {budget.text} by {over}{_split(results, candidate, budget)}")
    return lines


def _split(results: Results, candidate: Candidate, budget: Budget) -> str:
    """On which split a candidate misses a budget, and with what; `` where there is one alone."""
    found = results.hardest(candidate, budget)
    if found is None or not found.split:
        return ""
    return f" on the {found.split} split ({results.metrics[budget.metric].show(found.value)})"


def against(results: Results, metrics: Iterable[str]) -> str:
    """What changes are told against, in a sentence."""
    baseline = results.baseline
    if baseline is None:
        return "The baseline has not been measured, so no change can be shown."
    text = f"Changes are against the baseline, {baseline.name} ({baseline.recipe.label()})"
    others: dict[int, list[str]] = {}
    for name in metrics:
        first = results.reference(name)
        if first is not None and first is not baseline and name not in UNCOMPARED:
            others.setdefault(first.number, []).append(results.metrics[name].label)
    for number, labels in others.items():
        text += f"; of {', '.join(labels)} against #{number} ({results.find(number).recipe.label()}), because the target can't run the baseline"
    return f"{text}."


def command(results: Results, verb: str, *rest: str) -> str:
    """What to type where the search was run, such as `autoopt export studies/digits 7`."""
    folder = typed(results.provenance.get("folder", results.study))
    return " ".join(["autoopt", verb, folder, *map(shlex.quote, rest)])


def export_command(results: Results, candidate: Candidate) -> str:
    """What to type to have the candidate's bundle."""
    return command(results, "export", str(candidate.number))


def failures(results: Results) -> list[tuple[str, str, list[str]]]:
    """Stage, reason, and who failed so: the most frequent first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for candidate in results.candidates:
        if candidate.failed:
            groups.setdefault((candidate.failed_stage, candidate.reason), []).append(candidate.name)
    return [(*key, names) for key, names in sorted(groups.items(), key=lambda item: -len(item[1]))]


def skips(results: Results) -> list[tuple[str, list[str]]]:
    """Why recipes were not trained, or not to the end, in a word, and which."""
    groups: dict[str, list[str]] = {}
    for skipped in results.skipped:
        groups.setdefault(skipped.kind, []).append(skipped.name)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def summary(results: Results) -> str:
    """How many candidates there are, and what became of them."""
    if not results.candidates:
        return "No candidates yet."
    counts, n = Counter(results.statuses().values()), len(results.candidates)
    words = {
        "front": "on the front",
        "dominated": "beaten by others",
        "infeasible": "outside the budgets",
        "failed": "failed",
    }
    parts = [f"{counts[status]} {text}" for status, text in words.items() if counts[status]]
    if results.skipped:
        parts.append(f"and {len(results.skipped)} recipe{'' if len(results.skipped) == 1 else 's'} skipped untrained")
    hours = sum(c.seconds for c in results.candidates) / 3600
    work = f"; {hours:.1f} hours of work" if hours >= 0.1 else ""
    return f"{n} candidate{'' if n == 1 else 's'}: {', '.join(parts)}{work}."
