"""What the report's page shows and decides by, as plain values.

The page hides and shows. Front, ties and pick of any budgets come from orders and relations of candidates
that are computed here (see `Ranking`), sets of candidates being written as bits: bit k is candidate k.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from autoopt.core.budgets import SHORT_FORMS, UNITS, Budget
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import RANGE
from autoopt.core.results import Results
from autoopt.core.selection import DOUBT, UNCONFIRMED, WHY, advice, filled
from autoopt.reporting import wording
from autoopt.reporting.ablation import Effect, effects
from autoopt.reporting.axes import Scale, chosen_axes, fitting
from autoopt.reporting.comparison import settings
from autoopt.reporting.figures import COLOURING, GREY, ROLES, SHADE, WITH_ERRORS, Axis, front_layout

MAX_CLASS_COUNTS = 50_000
"""Per-class counts beyond this many are left to `autoopt compare`: the page must stay small."""


def data(results: Results) -> dict[str, Any]:
    """Everything that the page's script needs, plain values for JSON."""
    ranking = results.ranking()
    relations = ranking.relations()
    ranked = {c.number for c in ranking.candidates}
    candidates = [*ranking.candidates, *(c for c in results.candidates if c.number not in ranked)]
    metrics = shown_metrics(results)
    texts, found = _Texts(), effects(results)
    limits, others = _limits(results)
    budgeted = [budget.metric for budget in results.budgets]
    baseline = results.baseline
    counted = baseline is not None and len(baseline.classes) * len(candidates) <= MAX_CLASS_COUNTS
    return {
        "study": results.study,
        "command": wording.command(results, "export"),
        "quality": results.quality,
        "against": wording.against(results, metrics),
        "why": {kind: filled(results, text) for kind, text in WHY.items()},
        "doubt": filled(results, DOUBT),
        "unconfirmed": filled(results, UNCONFIRMED) if results.confirms else "",
        "margin": filled(results, "{margin}"),
        "metrics": {name: _metric(results, name, candidates) for name in metrics},
        "candidates": [
            _candidate(results, c, metrics, texts, [e for e in found.get(c.number, ()) if not e.worth], classes=counted)
            for c in candidates
        ],
        "texts": list(texts),
        "baseline": None if baseline is None else next(i for i, c in enumerate(candidates) if c is baseline),
        "ranked": len(ranking.candidates),
        "complete": _bits(ranking.complete),
        "ties": [_bits(relation.as_good) for relation in relations],
        # Of a pair the better one's row holds it, counted from its own place: it is the best of what it is asked about.
        "too_few": [_bits(relation.too_few[place:]) for place, relation in enumerate(relations)],
        "enough": [relation.enough for relation in relations],
        "items": [c.measurements[results.quality].n for c in ranking.candidates],
        "beaten_by": [_bits(ranking.beaten_by(place)) for place in range(len(ranking.candidates))],
        "fastest": ranking.fastest,
        "smallest": ranking.smallest,
        "by_low": ranking.by_low,
        "by_value": ranking.by_value,
        "reach": [ranking.reach(place) for place in range(len(ranking.candidates))],
        "pick_command": wording.command(results, "pick"),
        "axes": dict(zip(("x", "y", "color"), chosen_axes(results), strict=True)),
        "references": {name: _references(results, name) for name in dict.fromkeys((*metrics, *budgeted))},
        "limits": limits,
        "others": others,
        "class_items": [n for _, n in baseline.classes] if baseline is not None and counted else [],
        "class_names": list(results.provenance.get("class_names", ())) if counted else [],
        "figure": _figure(),
    }


def shown_metrics(results: Results) -> list[str]:
    """The metrics that any candidate has: the task's own first, then the objectives, then the rest."""
    order = dict.fromkeys((results.quality, *results.objectives, *results.metrics))
    # Latency in ms says the same as its ratio, with a change that people can read.
    traded = {*results.objectives, *(budget.metric for budget in results.budgets)}
    names = [n for n in order if n != "latency_ratio" or n in traded]
    return [n for n in names if n in results.metrics and any(n in c.measurements for c in results.candidates)]


def _bits(row: Sequence[bool] | np.ndarray) -> str:
    return f"{sum(1 << int(place) for place in np.flatnonzero(row)):x}"


def _metric(results: Results, name: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """A metric with its axis: what is drawn is `factor` times the value."""
    metric = results.metrics[name]
    axis = Axis.of(metric, [v for c in candidates if (v := c.value(name)) is not None])
    return {
        "label": metric.label,
        "direction": metric.direction,
        "unit": axis.unit,
        "factor": axis.factor,
        "title": escape(axis.title, quote=False),
        "layout": axis.layout(),
        "log": axis.log,
        "inner": axis.inner,
    }


def _references(results: Results, name: str) -> list[float | None]:
    """The baseline's value, on validation and, if confirmed, on test."""
    if results.baseline is None:
        return [None]
    return [reference for _, reference in results.readings(results.baseline, name)]


class _Texts(dict[str, int]):
    """Texts that many candidates share: each is written once, and its place elsewhere."""

    def place(self, text: str) -> int:
        return self.setdefault(text, len(self))


def _candidate(
    results: Results,
    candidate: Candidate,
    metrics: Sequence[str],
    texts: _Texts,
    idle: Sequence[Effect],
    *,
    classes: bool,
) -> dict[str, Any]:
    readings = results.readings(candidate, results.quality)
    found = {
        "number": candidate.number,
        "label": candidate.recipe.label(),
        "recipe": {texts.place(knob): texts.place(value) for knob, value in settings(candidate.recipe).items()},
        "origin": "" if candidate.origin == "search" else candidate.origin,
        "cells": [_cell(results, candidate, name, texts) for name in metrics],
        "test": readings[1][0] if len(readings) > 1 else None,
        "test_shown": results.metrics[results.quality].show(readings[1][0] or 0.0) if len(readings) > 1 else "",
        "advice": "" if candidate.failed else advice(results, candidate),
        "confirmed": wording.confirmed(results, candidate),
        "lost": list(wording.lost(results, candidate)),
        "idle": [f"{e.technique} brings nothing here (see {e.without.name})" for e in idle],
        "refused": candidate.refused,
        "failed": f"{candidate.failed_stage}: {candidate.reason}" if candidate.failed else "",
        "sha256": candidate.sha256,
        "parts": wording.parts({part["part"]: part["compressed_bytes"] for part in candidate.proof.get("parts", ())}),
        "classes": [right for right, _ in candidate.classes] if classes else [],
    }
    return {name: value for name, value in found.items() if value not in ("", [], {}, None)}


def _cell(results: Results, candidate: Candidate, name: str, texts: _Texts) -> list[Any] | None:
    """Value, low, high, value shown, interval, change, how it was measured, flags, what the ends are; these are drawn."""
    m, metric = candidate.measurements.get(name), results.metrics[name]
    if m is None:
        return None
    change = wording.change(results, candidate, name)
    if name == results.quality and not candidate.failed:
        change = wording.quality_change(results, candidate)
    exact = m.low == m.high
    ends = [None if exact else _short(float(f"{end:.6g}")) for end in (m.low, m.high)]
    return [
        _short(m.value),
        *ends,
        metric.show(m.value),
        wording.interval(metric, m),
        change,
        texts.place(m.how),
        list(m.flags),
        *(("range",) if m.ends == RANGE else ()),
    ]


def _short(value: float) -> float:
    """A whole number without its `.0`."""
    return int(value) if value.is_integer() else value


# ---- limits: one box each, and what does not fit into a box


def _limits(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The boxes, with the study's own budgets filled in; and the study's other budgets."""
    boxes = {box["id"]: box for box in _boxes(results)}
    others = []
    for budget in results.budgets:
        box, limit = _box_of(results, budget), wording.limit(results, budget)
        if box not in boxes or limit is None or boxes[box]["default"]:
            others.append(dataclasses.asdict(budget))
        else:
            amount = abs(budget.offset) if boxes[box]["relative"] else limit
            boxes[box]["default"] = f"{amount / boxes[box]['scale']:.15g}"
    return list(boxes.values()), others


def _boxes(results: Results) -> list[dict[str, Any]]:
    names = shown_metrics(results)
    found = [_a_box(results, results.quality)] if results.quality in names else []
    if found and results.baseline is not None:
        found.insert(0, _a_box(results, results.quality, relative=True))
    # An objective of the user's own kind can be limited too.
    wanted = dict.fromkeys((*SHORT_FORMS.values(), *(n for n in results.objectives if n != results.quality)))
    return found + [_a_box(results, name) for name in wanted if name in names]


def _a_box(results: Results, name: str, *, relative: bool = False) -> dict[str, Any]:
    metric = results.metrics[name]
    axis = Scale(**fitting(metric, [v for c in results.candidates if (v := c.value(name)) is not None]))
    more = metric.direction == "max"
    scale = UNITS[metric.unit].get(axis.unit.lower(), 1.0)
    text = f"{name} {'>=' if more else '<='} "
    label = f"{metric.label}, at {'least' if more else 'most'}"
    if relative:
        text += f"baseline {'-' if more else '+'} "
        label = f"{metric.label}, {'below' if more else 'above'} the baseline by at most"
    unit = "points" if relative and axis.unit == "%" else axis.unit
    return {
        "id": f"{name}_change" if relative else name,
        "metric": name,
        "sense": ">=" if more else "<=",
        "relative": relative,
        "label": label,
        "unit": unit,
        "scale": scale,
        "text": text,
        "suffix": f" {axis.unit}" if axis.unit.lower() in UNITS[metric.unit] and axis.unit else "",
        "units": {unit: factor for unit, factor in UNITS[metric.unit].items() if unit},
        "default": "",
    }


def _box_of(results: Results, budget: Budget) -> str:
    """The id of the box that can hold a budget, or ``."""
    metric = results.metrics[budget.metric]
    more = metric.direction == "max"
    if budget.sense != (">=" if more else "<="):
        return ""
    if budget.metric != results.quality or budget.factor == 0:
        return budget.metric
    allows_loss = budget.share == 0 and (budget.offset <= 0 if more else budget.offset >= 0)
    return f"{budget.metric}_change" if budget.factor == 1 and allows_loss else ""


def _figure() -> dict[str, Any]:
    """The figure's look; the page puts the points in."""
    blank: Mapping[str, Any] = {"type": "scatter", "mode": "markers", "hoverinfo": "text"}
    return {
        "traces": [{**blank, "name": role, "marker": look} for role, look in ROLES.items()],
        "layout": front_layout(),
        "colouring": COLOURING,
        "with_errors": list(WITH_ERRORS),
        "grey": GREY,
        "shade": SHADE,
    }
