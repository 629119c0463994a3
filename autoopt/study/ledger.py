"""What became of each recipe that a search took up, in memory and in files of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from autoopt.core import reference_values
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.results import Results
from autoopt.study import records
from autoopt.study.folder import StudyFolder
from autoopt.study.objectives import Terms
from autoopt.study.records import Header


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
        """The numbers of all that is written down, from the lowest on."""
        return records.numbers(self.folder)

    def recall(self, number: int) -> Candidate | Skipped | None:
        """Take over what an earlier run wrote down; None if it did not finish, or its file was damaged."""
        candidate = records.read_candidate(self.folder, number, self.terms.quality)
        if isinstance(candidate, Candidate):
            self.candidates[number] = candidate
            return candidate
        skipped = records.read_skipped(self.folder, number)
        if not isinstance(skipped, Skipped):
            return None
        self.skipped[number] = skipped
        return skipped

    def keep(self, candidate: Candidate) -> None:
        """Write a candidate down."""
        number = candidate.number
        if self.candidates.get(number) != candidate:
            records.write_candidate(self.folder, candidate)
            self.candidates = {**self.candidates, number: candidate}
        if self.skipped.pop(number, None) is not None:  # it was taken up again
            records.remove_skipped(self.folder, number)

    def skip(self, skipped: Skipped) -> None:
        """Write down that a recipe is not trained, or no further."""
        records.write_skipped(self.folder, skipped)
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
        known = {**self.candidates, candidate.number: candidate}.values()
        excesses = {}
        for budget in self.terms.budgets:
            reference = reference_values.reference_value(known, budget.metric)
            excess = reference_values.excess(budget, candidate.value(budget.metric), reference)
            if excess is not None:
                excesses[budget.text] = excess
        values = [candidate.value(o) for o in self.terms.objectives]
        measured = [] if candidate.failed else [v for v in values if v is not None]
        return measured if measured and len(measured) == len(values) else None, excesses

    def write_header(self, manifest: str, provenance: Mapping[str, Any]) -> None:
        """What `autoopt.load` needs beside the candidates."""
        header = Header(
            study=self.folder.name,
            quality=self.terms.quality,
            objectives=self.terms.objectives,
            budgets=self.terms.budgets,
            equivalence=self.terms.equivalence,
            manifest=manifest,
            provenance=provenance,
        )
        records.write_header(self.folder, header)
