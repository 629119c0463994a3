"""Reading a study's results back, and the bundle that a person ships."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt import budgets as budget_syntax
from autoopt import words
from autoopt.candidate import Candidate
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.folder import StudyFolder
from autoopt.metrics import STANDARD, Metric
from autoopt.results import Results
from autoopt.store import Store, write_atomically


@dataclass(frozen=True, kw_only=True)
class SavedResults(Results):
    """Results that lie in a study's folder, from which candidates can be exported.

    Attributes:
        folder: the study's.
        damaged: candidate files that could not be read; running the study again restores them.
    """

    folder: StudyFolder
    damaged: tuple[str, ...] = ()

    def file(self, candidate: Candidate) -> bytes:
        """The candidate's `.tflite`.

        Raises:
            ConfigError: if the candidate failed.
            TargetUnavailable: if the store has lost it.
        """
        if candidate.failed:
            raise ConfigError(f"{candidate.name} failed ({candidate.failed_stage}: {candidate.reason}); it has no file")
        data = Store(self.folder.store()).get(candidate.file)
        if data is None:
            raise TargetUnavailable(
                f"the store {self.folder.store()} has lost the file of {candidate.name}; "
                f"`autoopt run {self.folder.path} --recipe RECIPE.json` makes it again"
            )
        return data

    def export(self, number: int | str, to: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Write a candidate's bundle: the model, its card, its recipe, how to make it again.

        Args:
            number: of the candidate.
            to: a folder that does not exist yet.
            replace: overwrite an earlier bundle there.

        Returns:
            the folder.

        Raises:
            ConfigError: if there is no such candidate, or something else is in the way.
        """
        candidate, target = self.find(number), Path(to)
        file = self.file(candidate)
        ours = replace and (target / "card.json").exists()
        if target.exists() and not ours and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{target}: exists already; give another folder, or --force for an earlier bundle")
        card = make_card(self, candidate)
        files = {
            "model.tflite": file,
            "card.json": json.dumps(card, indent=2).encode(),
            "card.md": card_text(card).encode(),
            "recipe.json": candidate.recipe.to_json().encode(),
            "REPRODUCE.md": _reproduce(card).encode(),
        }
        for name in ("study.yaml", "task.py"):
            source = self.folder.path / name
            if source.is_file():
                files[name] = source.read_bytes()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
                made = Path(folder, "bundle")
                for name, data in files.items():
                    write_atomically(made / name, data)
                if target.exists():
                    os.rename(target, Path(folder, "replaced"))
                os.rename(made, target)
        except OSError as error:
            raise TargetUnavailable(f"{target}: can't write the bundle ({error.strerror})") from error
        return target


def load(study: str | os.PathLike[str]) -> SavedResults:
    """The results of a study, finished or still running.

    Args:
        study: the study's folder.

    Raises:
        ConfigError: if it is no study, or was never run.
    """
    folder = StudyFolder(study)
    try:
        header = json.loads(folder.header.read_text(encoding="utf-8"))
        quality = Metric(**header["quality"])
    except FileNotFoundError:
        raise ConfigError(f"{folder.path}: no results yet; run `autoopt run {folder.path}` first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder.header}: can't be read; run `autoopt run {folder.path}` to restore it") from error
    metrics = {quality.name: quality, **STANDARD}
    found, damaged = [], []
    for path in sorted(folder.candidates.glob("*.json")):
        candidate = read_candidate(path)
        if candidate is None:
            damaged.append(str(path))
        else:
            found.append(candidate)
    return SavedResults(
        study=header["study"],
        metrics=metrics,
        quality=quality.name,
        objectives=tuple(header["objectives"]),
        budgets=tuple(budget_syntax.parse(text, metrics) for text in header["budgets"]),
        candidates=tuple(found),
        provenance=header["provenance"],
        folder=folder,
        damaged=tuple(damaged),
    )


def read_candidate(path: Path) -> Candidate | None:
    """A candidate from its file, or None if that is absent, cut short or damaged."""
    try:
        return Candidate.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return None


def make_card(results: Results, candidate: Candidate) -> dict[str, Any]:
    """Everything that the next person must know of a candidate, plain values."""
    metrics = {}
    for name, measurement in candidate.measurements.items():
        metric = results.metrics[name]
        metrics[name] = measurement.to_dict() | {"unit": metric.unit, "direction": metric.direction}
        first = results.reference(name)
        reference = None if first is None else first.value(name)
        if reference is not None:
            metrics[name] |= {"baseline": reference, "change": metric.show_change(measurement.value, reference)}
            metrics[name]["shown"] = metric.show(measurement.value)
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
        "confirmed": _confirmed(results, candidate),
        "classes": [dataclasses.asdict(c) | {"lost": c.dead} for c in results.class_changes(candidate)],
        "lost": list(words.lost(results, candidate)),
        "budgets": results.margins(candidate),
        "proof": {
            "operators": proof.get("ops", {}),
            "float_islands": proof.get("float_islands", {}),
            "integer_share": proof.get("integer_share"),
            "weights": list(proof.get("weights", [])),
        },
        "stages": [dict(report) for report in candidate.report],
        "provenance": dict(results.provenance),
    }


def _confirmed(results: Results, candidate: Candidate) -> dict[str, Any] | None:
    """What was found on the test split, or None."""
    again = candidate.confirmation
    if again is None:
        return None
    found: dict[str, Any] = {"metric": results.quality, **again.quality.to_dict()}
    found["in_words"] = words.confirmed(results, candidate)
    baseline = results.baseline
    change = None if baseline is None else results.confirmed_difference(candidate, baseline)
    if change is not None:
        names = ("change", "change_low", "change_high")
        found |= dict(zip(names, change, strict=True)) | {"search_flattered_by": results.flattery(candidate)}
    return found


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = [
        f"# {card['study']}: candidate #{card['candidate']}",
        "",
        f"{card['recipe_in_words']} ({card['status']})",
        "",
        f"`model.tflite` sha256 `{card['sha256']}`",
        "",
        "| metric | value | 95 % interval | change from the float32 baseline | how |",
        "|---|---|---|---|---|",
    ]
    for name, m in card["metrics"].items():
        metric = Metric(name=name, direction=m["direction"], unit=m["unit"])
        interval = "exact" if m["low"] == m["high"] else f"{metric.show(m['low'])} to {metric.show(m['high'])}"
        flags = f" ({', '.join(m['flags'])})" if m["flags"] else ""
        lines.append(
            f"| {metric.label} | {metric.show(m['value'])} | {interval}{flags} | {m.get('change', '')} | {m['how']} |"
        )
    if card["confirmed"] is not None:
        lines += ["", f"Confirmed: {card['confirmed']['in_words']}."]
    lines += [f"\n{text[0].upper()}{text[1:]}." for text in card["lost"]]
    lines += [
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
            lines.append(f"| {kind[:-1]} | `{end['name']}` | {shape} | {end['dtype']} | {quantization}")
    lines += ["", "A quantized value q stands for `(q - zero point) * scale`.", "", "## Proof, read from the file", ""]
    proof = card["proof"]
    lines.append("Operators: " + ", ".join(f"{count} {name}" for name, count in proof["operators"].items()))
    if proof["float_islands"]:
        islands = ", ".join(f"{count} {name}" for name, count in proof["float_islands"].items())
        lines.append(f"Computed in float: {islands}")
    lines += ["", "| weights | shape | dtype | zeros | distinct values per channel |", "|---|---|---|---|---|"]
    for w in proof["weights"]:
        shape = " x ".join(map(str, w["shape"]))
        lines.append(f"| `{w['name']}` | {shape} | {w['dtype']} | {w['sparsity']:.1%} | {w['distinct_per_channel']} |")
    for stage in card["stages"]:
        skipped = ", ".join(f"{s['layer']} ({s['why']})" for s in stage["skipped"]) or "nothing"
        lines += ["", f"Stage {stage['stage']}: {len(stage['touched'])} kernels, best epoch {stage['best_epoch']} of "
                  f"{len(stage['epochs'])}; skipped: {skipped}."]  # fmt: skip
    lines += ["", "## Measured", ""]
    lines += [f"- {name}: {_flat(value)}" for name, value in card["provenance"].items() if value not in (None, [], {})]
    return "\n".join(lines) + "\n"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _reproduce(card: Mapping[str, Any]) -> str:
    libraries = "".join(f"- {name} {number}\n" for name, number in card["provenance"].get("libraries", {}).items())
    return (
        "# Making this model again\n\n"
        f"Candidate #{card['candidate']} of the study `{card['study']}`, recipe {card['recipe_digest']}.\n\n"
        "1. Install autoopt and these versions, which results follow from:\n\n"
        f"{libraries}\n"
        "2. In the study's folder (its `study.yaml` and `task.py` are copied here; your model and data must lie where "
        "the task expects them):\n\n"
        f"       autoopt run STUDY --recipe recipe.json\n\n"
        f"3. Compare: the task's fingerprint was `{card['provenance'].get('task', '')}`, the file's sha256 "
        f"`{card['sha256']}`. Training on several threads may differ in the last digits between machines; "
        "post-training schemes give the same bytes.\n"
    )
