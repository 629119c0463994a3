"""Which devices a search may use, as `study.yaml` says under `search`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Which devices a search uses.

    Attributes:
        siblings: once a model is trained, all its post-training schemes are tried: seconds each.
        corners: centre and ends of the space are tried before the sampler is asked.
        sharing: of several proposals the one whose training is done already goes first. Off unless asked for: what
            waits was proposed before the last results were known, which cost more time than it saved
            (`experiments/search_efficiency`).
        skipping: what can't fit the budgets or reach the front is not trained.
        halving: a training that turns out so is stopped at the end of a stage, or after its first epochs.
        items: of the training data, that the search trains on; what is on the front in the end is trained again on all.
            0 for all from the beginning.
    """

    siblings: bool = True
    corners: bool = True
    sharing: bool = False
    skipping: bool = True
    halving: bool = True
    items: int = 0
