"""What became of each recipe that a search took up, in memory and in files of their own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autoopt.candidate import Candidate, Skipped
from autoopt.export import read_candidate, read_skipped
from autoopt.folder import StudyFolder
from autoopt.results import Results
from autoopt.store import write_atomically
from autoopt.terms import Terms


class Ledger:
    """Candidates and skipped recipes by their numbers.

    Args:
        folder: of the study.
        terms: that it is judged by.
    """

    def __init__(self, folder: StudyFolder, terms: Terms) -> None:
        self.folder, self.terms = folder, terms
        self.candidates: dict[int, Candidate] = {}
        self.skipped: dict[int, Skipped] = {}

    def numbers(self) -> list[int]:
        """Of all that is written down, from the lowest on."""
        files = [*self.folder.candidates.glob("*.json"), *self.folder.skipped.glob("*.json")]
        return sorted({int(file.stem) for file in files if file.stem.isdigit()})

    def recall(self, number: int) -> Candidate | Skipped | None:
        """Take over what an earlier run wrote down; None if it did not finish, or its file was damaged."""
        candidate = read_candidate(self.folder.candidate_file(number))
        if candidate is not None:
            self.candidates[number] = candidate
            return candidate
        skipped = read_skipped(self.folder.skipped_file(number))
        if skipped is not None:
            self.skipped[number] = skipped
        return skipped

    def keep(self, candidate: Candidate) -> None:
        """Write a candidate down."""
        number = candidate.number
        if self.candidates.get(number) != candidate:
            write_atomically(self.folder.candidate_file(number), json.dumps(candidate.to_dict()).encode())
            self.candidates = {**self.candidates, number: candidate}
        if self.skipped.pop(number, None) is not None:  # it was taken up again
            self.folder.skipped_file(number).unlink(missing_ok=True)

    def skip(self, skipped: Skipped) -> None:
        """Write down that a recipe is not trained, or no further."""
        write_atomically(self.folder.skipped_file(skipped.number), json.dumps(skipped.to_dict()).encode())
        self.skipped[skipped.number] = skipped

    def results(self) -> Results:
        """All of it, to be judged."""
        return Results(
            study=self.folder.name,
            metrics=self.terms.metrics,
            quality=self.terms.quality.name,
            objectives=self.terms.objectives,
            budgets=self.terms.budgets,
            equivalence=self.terms.equivalence,
            candidates=tuple(self.candidates[number] for number in sorted(self.candidates)),
            skipped=tuple(self.skipped[number] for number in sorted(self.skipped)),
        )

    def told(self, candidate: Candidate) -> tuple[Sequence[float] | None, dict[str, float]]:
        """What a sampler is told of a candidate: its objectives (None if it failed), and by budget how far it is outside."""
        reference = self.candidates.get(0, candidate)
        excesses = {}
        for budget in self.terms.budgets:
            value, base = candidate.value(budget.metric), reference.value(budget.metric)
            if value is not None:
                scale = abs(budget.bound(base)) or 1.0  # budgets of all units weigh alike
                excesses[budget.text] = budget.margin(value, base) / scale
        values = [candidate.value(o) for o in self.terms.objectives]
        known = [] if candidate.failed else [v for v in values if v is not None]
        return known if known and len(known) == len(values) else None, excesses

    def write_header(self, manifest: str, provenance: Mapping[str, Any]) -> None:
        """What `autoopt.load` needs beside the candidates."""
        quality = self.terms.quality
        header = {
            "study": self.folder.name,
            "quality": {"name": quality.name, "direction": quality.direction, "unit": quality.unit},
            "objectives": list(self.terms.objectives),
            "budgets": [b.text for b in self.terms.budgets],
            "manifest": manifest,
            "provenance": dict(provenance),
            **({"equivalence": self.terms.equivalence} if self.terms.equivalence else {}),
        }
        write_atomically(self.folder.header, json.dumps(header, indent=1).encode())
