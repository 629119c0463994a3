"""Budgets asked for on the terminal, one after the other, with what can still be had."""

import sys
from collections.abc import Mapping, Sequence

from autoopt.core.budgets import SHORT_FORMS
from autoopt.core.metrics import Metric
from autoopt.core.results import Results
from autoopt.errors import ConfigError
from autoopt.system import screen

QUESTIONS = {"max_accuracy_drop": "", **SHORT_FORMS}
"""What `ask` asks for: a short form of a budget, and the metric that it limits (`` for the task's own)."""


def attended() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin.isatty()


def ask(results: Results, texts: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Ask for one budget after the other, and say each time what can still be had.

    Args:
        results: the study's.
        texts: budgets that hold already.
        given: short forms (see `Results.pick`) that hold already, and are not asked for.

    Returns:
        the short forms, those given among them.

    Raises:
        ConfigError: if nobody is there to answer.
        click.Abort: if the person leaves (Ctrl-C, or the end of the input).
    """
    if not attended():
        raise ConfigError(
            "--ask needs a terminal to ask on; give budgets as options instead, such as --max-latency 2ms"
        )
    answers = {name: text for name, text in given.items() if text is not None}
    if results.budgets:
        own = "".join(f"\n  {budget.text}" for budget in results.budgets)
        screen.say(f"The study's own budgets hold if you give none:{own}", err=True)
    for short, name in QUESTIONS.items():
        metric = results.metrics[name or results.quality]
        if short not in answers and any(metric.name in c.measurements for c in results.ranking().candidates):
            answer = _ask_one(results, metric, short, texts, answers)
            answers |= {short: answer} if answer else {}
    return answers


def _ask_one(results: Results, metric: Metric, short: str, texts: Sequence[str], answers: dict[str, str]) -> str:
    """One question, asked until the answer can be read and leaves something; `` where it is skipped."""
    measured = results.ranking().candidates
    fitting = [c for c in measured if results.fits(c, results.parse_budgets(texts, **answers))]
    seen = sorted(
        (c for c in fitting if metric.name in c.measurements), key=lambda c: c.measurements[metric.name].value
    )
    shown = [metric.show(c.measurements[metric.name].value) for c in seen]
    wanted = _wanted(results, metric, shown)
    if not wanted or len(fitting) < 2:  # then there is nothing to choose any more
        return ""
    span = shown[0] if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]}"
    screen.say(
        f"{metric.label}: {span} among the {len(fitting)} of {len(measured)} candidates that fit so far", err=True
    )
    while True:
        answer = screen.ask(f"  {wanted}")
        if not answer:
            return ""
        try:
            (asked,) = results.parse_budgets(**{short: answer})
        except ConfigError as error:
            screen.say(f"  {error}", err=True)
            continue
        if any(results.fits(c, [asked]) for c in fitting):
            return answer
        best = 0 if metric.direction == "min" else -1
        screen.say(f"  nothing fits {asked.text}: the best is {shown[best]}, of {seen[best].name}", err=True)


def _wanted(results: Results, metric: Metric, shown: Sequence[str]) -> str:
    """What to type, or `` where no limit can be set."""
    if not shown:
        return ""
    if metric.name != results.quality:
        return f"at most (such as {shown[len(shown) // 2]}; Enter skips)"
    reference = None if results.baseline is None else results.baseline.value(metric.name)
    if reference is None:
        return ""
    side = "below" if metric.direction == "max" else "above"
    example = "1 point" if metric.unit == "fraction" else f"{abs(reference) / 20:.2g}"
    return f"{side} the baseline's {metric.show(reference)} by at most (such as {example}; Enter skips)"
