"""What became of each class: an average may hide that one is lost."""

from collections.abc import Callable
from dataclasses import dataclass

from autoopt.core.candidate import Candidate

ALIVE, DEAD = 0.5, 0.1
"""A class is lost if the baseline gets at least the first share of its items right, and a candidate less than the second."""


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What became of one class.

    Attributes:
        name: of the class.
        items: of the class in the split.
        share: of them that the candidate gets right.
        baseline: of them that the baseline gets right.
    """

    name: str
    items: int
    share: float
    baseline: float

    @property
    def dead(self) -> bool:
        """Whether the class is lost: under a tenth right of what was half right or more."""
        return self.baseline >= ALIVE and self.share < DEAD


def between(candidate: Candidate, baseline: Candidate, name: Callable[[int], str]) -> list[ClassChange]:
    """What became of each class that the split has items of, the worst first.

    Args:
        candidate: a measured one.
        baseline: that it is compared with.
        name: a class's name, by its label.
    """
    pairs = zip(candidate.classes, baseline.classes, strict=False)
    changes = [
        ClassChange(name=name(label), items=items, share=right / items, baseline=before / items)
        for label, ((right, items), (before, _)) in enumerate(pairs)
        if items
    ]
    return sorted(changes, key=lambda change: change.share - change.baseline)
