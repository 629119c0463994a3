"""What to try beside what the sampler proposes: recipes that are cheap, or that mark out the front.

Training is what a search pays for, so these follow from what is trained already, or from the space's ends.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoopt.core.parameters import Knob, Value
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space import Choose, SearchSpace
from autoopt.core.stage_settings import COMPRESSING, Finetune, Quantize

T = TypeVar("T")

POOL = 3
"""Proposals of the sampler that wait, of which the one with most of its training done already is tried first."""
PATIENCE = 4
"""A proposal that others went before so often is next, whatever it costs."""
SMALL = (
    "int8_io", "uint8_io", "int8", "qat_int8_io", "qat_uint8_io", "qat_int8", "dynamic", "int16x8", "float16", "float32",
)  # fmt: skip
"""Schemes by the size of their files, the smallest first."""


def siblings(recipe: Recipe, schemes: Iterable[str], quantize: Quantize | None = None) -> list[Recipe]:
    """Recipes that share all training with one that is done.

    Args:
        recipe: whose models are trained.
        schemes: post-training ones.
        quantize: how those with ranges are made, where the recipe does not say.
    """
    if not recipe.compresses:  # nothing was trained, or only for its own scheme
        return []
    how = recipe.quantize or quantize
    return [dataclasses.replace(recipe, scheme=name, quantize=how) for name in schemes if name != recipe.scheme]


def corners(space: SearchSpace, schemes: Collection[str], defaults: Finetune, seed: int = 0) -> list[Recipe]:
    """The centre and the ends of the space: a bit of all, what should be smallest, and what should lose least.

    Where the space has learned levels, these alone stand in place of a bit of all.

    The centre comes first: of one training it brings the most. Where only the scheme decides the speed, the baseline's
    own schemes are the fastest end; where channels are removed, the smallest is the fastest too.

    Args:
        space: of the study.
        schemes: of the space, that the target runs.
        defaults: fine-tuning settings where the space names none.
        seed: of the recipes.
    """
    by_size = [name for name in SMALL if name in schemes]
    if not by_size:
        return []
    strong: dict[str, Value] = {**dict.fromkeys(COMPRESSING, True), "scheme": by_size[0]}
    # The mildest technique alone: clusters by the hundred lose less than any pruning that pays.
    mildest = next((part for part in ("levels", "cluster", "prune", "channels") if part in space.knobs), "")
    mild: dict[str, Value] = {**{part: part == mildest for part in COMPRESSING}, "scheme": by_size[-1]}
    plain = [name for name in by_size if not SCHEMES[name].qat] or by_size
    # Levels alone lose little and save most; all techniques at once break many a model.
    first = {part: part == "levels" or "levels" not in space.knobs for part in COMPRESSING}
    middle: dict[str, Value] = {**first, "scheme": plain[0 if "levels" in space.knobs else len(plain) // 2]}
    found = [
        space.build(_toward(middle), defaults, seed),
        space.build(
            _toward(
                strong,
                high=("channels.ratio", "prune.sparsity", "finetune.epochs"),
                low=("cluster.number", "levels.number"),
            ),
            defaults,
            seed,
        ),
        space.build(
            _toward(
                mild,
                high=("cluster.number", "levels.number", "finetune.epochs"),
                low=("channels.ratio", "prune.sparsity"),
            ),
            defaults,
            seed,
        ),
    ]
    return [recipe for recipe in dict.fromkeys(found) if recipe.trains]


def _toward(wanted: Mapping[str, Value], *, high: Sequence[str] = (), low: Sequence[str] = ()) -> Choose:
    """Chooses what is wanted, the ends that are named, and the middle of all else."""

    def choose(name: str, knob: Knob) -> Value:
        if name in wanted and wanted[name] in knob:
            return wanted[name]
        values = list(knob.extremes())
        if name in high:
            return max(values)
        if name in low:
            return min(values)
        return knob.middle()

    return choose


@dataclass(frozen=True, kw_only=True)
class Waiting(Generic[T]):
    """A proposal that waits for its turn.

    Attributes:
        proposal: of the sampler.
        passed: how many went before it since it was made.
    """

    proposal: T
    passed: int = 0


def next_of(pool: Sequence[Waiting[T]], work: Callable[[T], float]) -> tuple[T, list[Waiting[T]]]:
    """The proposal with the least work to do, but nobody waits for ever.

    Args:
        pool: one or more, the oldest first.
        work: what a proposal costs, in any unit; of equal ones the oldest goes first.

    Returns:
        the chosen one, and the others.
    """
    oldest = pool[0]
    alone = len(pool) == 1  # then its work, which has to be read from the store, is of no interest
    chosen = oldest if alone or oldest.passed >= PATIENCE else min(pool, key=lambda waiting: work(waiting.proposal))
    others = [dataclasses.replace(w, passed=w.passed + 1) for w in pool if w is not chosen]
    return chosen.proposal, others
