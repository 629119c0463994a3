"""The card: everything that the next person must know of a candidate, as plain values and as Markdown."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import RANGE, Metric
from autoopt.core.results import Results
from autoopt.reporting import wording
from autoopt.reporting.bundle.escaping import code_span, markdown

NAME = "card.json"
TEXT = "card.md"


def make_card(results: Results, candidate: Candidate) -> dict[str, Any]:
    """What is known of the candidate, plain values."""
    metrics = {}
    for name, measurement in candidate.measurements.items():
        metric = results.metrics[name]
        metrics[name] = measurement.to_dict() | {
            "unit": metric.unit,
            "direction": metric.direction,
            "label": metric.label,
            "shown": metric.show(measurement.value),
        }
        first = results.reference(name)
        reference = None if first is None else first.value(name)
        if first is not None and reference is not None:
            ends = first.measurements[name]
            metrics[name] |= {"baseline": reference, "baseline_low": ends.low, "baseline_high": ends.high}
            metrics[name] |= {"change": wording.change(results, candidate, name)}
    baseline = results.baseline
    if baseline is not None and baseline.value(results.quality) is not None and results.quality in metrics:
        metrics[results.quality]["difference"] = list(results.difference(candidate, baseline))
    proof = candidate.proof
    return {
        "study": results.study,
        "candidate": candidate.number,
        "recipe": candidate.recipe.to_dict(),
        "recipe_in_words": candidate.recipe.label(),
        "recipe_digest": candidate.recipe.digest,
        "status": results.statuses()[candidate.number],
        "sha256": candidate.sha256,
        "inputs": list(proof.get("inputs", [])),
        "outputs": list(proof.get("outputs", [])),
        "metrics": metrics,
        "quality": results.quality,
        "against": wording.against(results, metrics),
        "confirmed": _confirmed(results, candidate),
        "classes": [dataclasses.asdict(c) | {"lost": c.dead} for c in results.class_changes(candidate)],
        "lost": list(wording.lost(results, candidate)),
        "budgets": results.margins(candidate),
        "proof": {
            "operators": proof.get("ops", {}),
            "float_islands": proof.get("float_islands", {}),
            "integer_share": proof.get("integer_share"),
            "weights": list(proof.get("weights", [])),
            "parts": list(proof.get("parts", [])),
        },
        "stages": [dict(report) for report in candidate.report],
        "provenance": _leaving(results.provenance),
    }


def _leaving(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a study outside of the house: its folder by name, not where that lies."""
    folder = str(provenance.get("folder", ""))
    name = Path(folder).name
    if not name:
        return dict(provenance)
    return {k: v.replace(folder, name) if isinstance(v, str) else v for k, v in provenance.items()}


def _confirmed(results: Results, candidate: Candidate) -> dict[str, Any] | None:
    """What was found on the test split, or None."""
    again = candidate.confirmation
    if again is None:
        return None
    found: dict[str, Any] = {"metric": results.quality, **again.quality.to_dict()}
    found["in_words"] = wording.confirmed(results, candidate)
    baseline = results.baseline
    change = None if baseline is None else results.confirmed_difference(candidate, baseline)
    if change is not None and baseline is not None and baseline.confirmation is not None:
        names = ("change", "change_low", "change_high")
        found |= dict(zip(names, change, strict=True)) | {"search_flattered_by": results.flattery(candidate)}
        theirs = baseline.confirmation.quality
        found |= {"baseline": theirs.value, "baseline_low": theirs.low, "baseline_high": theirs.high}
    return found


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    sections = (_head, _measured, _ends, _samples, _proof, _parts, _stages, _provenance)
    return "\n".join(line for section in sections for line in section(card)) + "\n"


def _head(card: Mapping[str, Any]) -> list[str]:
    return [
        f"# {markdown(card['study'])}: candidate #{card['candidate']}",
        "",
        f"{markdown(card['recipe_in_words'])} ({card['status']})",
        "",
        f"`model.tflite` sha256 `{card['sha256']}`",
        "",
    ]


def _measured(card: Mapping[str, Any]) -> list[str]:
    lines = [
        "| metric | value | 95 % interval | change | how |",
        "|---|---|---|---|---|",
    ]
    for name, m in card["metrics"].items():
        metric = Metric(name=name, direction=m["direction"], unit=m["unit"], label=m["label"])
        interval = "exact" if m["low"] == m["high"] else f"{metric.show(m['low'])} to {metric.show(m['high'])}"
        interval += f", the range of {m['n']} readings" if m.get("ends") == RANGE and interval != "exact" else ""
        flags = f" ({markdown(', '.join(m['flags']))})" if m["flags"] else ""
        lines.append(
            f"| {markdown(metric.label)} | {metric.show(m['value'])} | {interval}{flags} | {m.get('change', '')} "
            f"| {markdown(m['how'])} |"
        )
    if card["confirmed"] is not None:
        lines += ["", f"Confirmed: {markdown(card['confirmed']['in_words'])}."]
    lines += ["", markdown(card["against"])]
    return lines + [f"\n{markdown(text[0].upper() + text[1:])}." for text in card["lost"]]


def _ends(card: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## Inputs and outputs",
        "",
        "| | name | shape | dtype | scale | zero point |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("inputs", "outputs"):
        for end in card[kind]:
            scale, zero = end["scale"], end["zero_point"]
            shape = " x ".join(map(str, end["shape"]))
            quantization = "| |" if scale is None else f"{scale:.8g} | {zero} |"
            lines.append(
                f"| {kind[:-1]} | `{code_span(end.get('key') or end['name'])}` | {shape} | {end['dtype']} | {quantization}"
            )
    lines += ["", "A quantized value q stands for `(q - zero point) * scale`.", ""]
    return [*lines, *_data(card), *_meaning(card)]


def _data(card: Mapping[str, Any]) -> list[str]:
    """What to feed the inputs with."""
    facts = card.get("data") or ()
    lines = []
    for end, fact in zip(card["inputs"], facts, strict=False):
        name = code_span(end.get("key") or end["name"])
        lines.append(
            f"The task's data for `{name}`: {fact['dtype']} from {fact['low']:.6g} to {fact['high']:.6g} "
            f"({fact['items']} items of the {fact['split']} data). Feed the model with such values."
        )
    return [*lines, ""] if lines else []


WORDS = {
    "classes": "one class of several",
    "binary": "one of two classes",
    "labels": "a yes or no for each label",
    "mask": "a class at each place",
    "values": "numbers",
}


def _meaning(card: Mapping[str, Any]) -> list[str]:
    """What comes out, in a sentence for each output."""
    lines = []
    for end, meaning in zip(card["outputs"], card.get("meaning", ()), strict=False):
        name, of = code_span(end.get("key") or end["name"]), meaning["values"]
        how = "" if of == "numbers" else f", as {of}"
        over = f"; over {meaning['threshold']:g} means yes" if "threshold" in meaning else ""
        lines.append(f"`{name}` means {WORDS[meaning['kind']]}{how}{over}.")
    return [*lines, ""] if lines else []


def _samples(card: Mapping[str, Any]) -> list[str]:
    found = card.get("samples")
    if found is None:
        return []
    if not found["items"]:
        return [f"No stored samples: {markdown(found['why'])}.", ""]
    where = ", ".join(markdown(value) for name, value in found["recorded_on"].items() if name != "threads")
    return [f"Stored samples: {found['items']}; outputs recorded with {where}, one thread.", ""]


def _proof(card: Mapping[str, Any]) -> list[str]:
    proof = card["proof"]
    lines = ["## Proof, read from the file", "", f"Operators: {_counted(proof['operators'])}"]
    if proof["float_islands"]:
        lines.append(f"Computed in float: {_counted(proof['float_islands'])}")
    lines += ["", "| weights | shape | dtype | zeros | distinct values per channel |", "|---|---|---|---|---|"]
    for w in proof["weights"]:
        shape, zeros = " x ".join(map(str, w["shape"])), f"{w['sparsity']:.1%}"
        lines.append(f"| `{code_span(w['name'])}` | {shape} | {w['dtype']} | {zeros} | {w['distinct_per_channel']} |")
    return lines


def _parts(card: Mapping[str, Any]) -> list[str]:
    """Where the file's bytes go; nothing for candidates of before that was looked at."""
    found = card["proof"].get("parts") or ()
    if not found:
        return []
    lines = ["", "## Where the bytes go", "", "| part | bytes in the file | bytes after gzip -9 |", "|---|---|---|"]
    sums = {"part": "all", **{name: sum(part[name] for part in found) for name in ("size_bytes", "compressed_bytes")}}
    for part in (*found, sums):
        lines.append(f"| {markdown(part['part'])} | {part['size_bytes']:,} | {part['compressed_bytes']:,} |")
    return [
        *lines,
        "",
        "After gzip a part takes by how much more the file has with it than without it and those above it.",
    ]


def _counted(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {markdown(name)}" for name, count in operators.items())


def _stages(card: Mapping[str, Any]) -> list[str]:
    lines = []
    for stage in card["stages"]:
        skipped = ", ".join(markdown(f"{s['layer']} ({s['why']})") for s in stage["skipped"]) or "nothing"
        lines += ["", f"Stage {stage['stage']}: {len(stage['touched'])} kernels, best epoch {stage['best_epoch']} of "
                  f"{len(stage['epochs'])}; skipped: {skipped}."]  # fmt: skip
        lines += [f"- {markdown(note)}" for note in stage.get("notes", ())]
    return lines


def _provenance(card: Mapping[str, Any]) -> list[str]:
    told = {name: value for name, value in card["provenance"].items() if value not in (None, [], {})}
    return ["", "## Measured", "", *(f"- {markdown(name)}: {markdown(_flat(value))}" for name, value in told.items())]


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
