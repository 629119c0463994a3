"""Areas under ROC curves of more scores than can be sorted in memory: they are counted in narrow bins.

Scores in one bin count as equal. Probabilities are put into bins by their log odds, so that bins stay narrow near 0 and 1:
odds in one bin differ by some hundredths at most, and of pairs in one bin a half counts, which is right on average.
"""

import numpy as np

MOST_BITS, BINS = 20, 1 << 22
"""Bits of a score that tell its bin, and bins of all classes together: 64 MB with the counts of both kinds."""


class ScoreCounts:
    """How often each score was given where a class is, and where it is not.

    Args:
        classes: that have scores.
        probable: whether all scores lie between 0 and 1.
    """

    def __init__(self, classes: int, probable: bool) -> None:
        self.classes, self.probable = classes, probable
        self.bits = max(12, min(MOST_BITS, (BINS // classes).bit_length() - 1))
        self._counts = np.zeros((2, classes << self.bits))

    def take(self, truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
        """Count some more scores.

        Args:
            truth: shape (rows, classes), dtype bool: which classes are there.
            scores: shape (rows, classes).
            weights: shape (rows,): what each row counts for.
        """
        bins = self._bins(scores) + (np.arange(self.classes) << self.bits)
        each = np.broadcast_to(weights[:, None], bins.shape)
        for counts, chosen in zip(self._counts, (~truth, truth), strict=True):
            counts += np.bincount(bins[chosen], weights=each[chosen], minlength=len(counts))

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        """The bin of each score: the first bits of a float32, turned so that they are in order."""
        values = scores.astype(np.float32)
        if self.probable:
            with np.errstate(divide="ignore"):
                values = np.log(values) - np.log1p(-values)
        bits = (values + np.float32(0)).view(np.uint32)  # which makes 0.0 of -0.0
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        return (ordered >> np.uint32(32 - self.bits)).astype(np.int64)

    def areas(self) -> list[float]:
        """The area of each class that is there, and not everywhere."""
        found = []
        for without, within in zip(*(each.reshape(self.classes, -1) for each in self._counts), strict=True):
            pairs = without.sum() * within.sum()
            if pairs:
                below = np.cumsum(without) - without / 2  # of what is equal a half
                found.append(float(within @ below / pairs))
        return found
