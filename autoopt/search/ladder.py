"""The first trainings of a search: into the space from its mild side, one technique at a time, then together.

Each way into the space is a ladder. Its next rung is tried once the one before has held; where one breaks the model, the
search steps back halfway, once, and goes no further that way. So little is trained of what nobody would take.
"""

import enum
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from autoopt.core import meaning
from autoopt.core.meaning import Milder
from autoopt.core.parameters import Choice, Knob, Range, Value
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import COMPRESSING, FIELDS, OPTIONAL, Finetune

SMALL = (
    "int8_io", "uint8_io", "int8", "qat_int8_io", "qat_uint8_io", "qat_int8", "dynamic", "int16x8", "float16", "float32",
)  # fmt: skip
"""Schemes by the size of their files, the smallest first."""
HARSHNESS = (0.0, 0.5, 1.0)
"""Of the rungs: 0 has the mildest values of the space, 1 the harshest."""
OF_WEIGHTS = ("levels", "cluster", "prune")
"""Techniques that make the download small, the one that costs least first; the first that a space has is tried alone."""


class Held(enum.Enum):
    """What has become of a rung: `NEW`, not begun; `BEGUN`; `GOOD`, it is worth to go on; `BROKEN`."""

    NEW = enum.auto()
    BEGUN = enum.auto()
    GOOD = enum.auto()
    BROKEN = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Way:
    """A ladder into the space.

    Attributes:
        parts: the techniques that it uses.
        after: the ways whose mildest rung has to hold before.
    """

    parts: frozenset[str]
    after: tuple["Way", ...] = ()


def ways(space: SearchSpace) -> list[Way]:
    """The ways into a space: the technique for weights, channels, these two together, and all that there is."""
    found = [part for part in COMPRESSING if part in space.knobs]
    weights = next((part for part in OF_WEIGHTS if part in found), "")
    alone = [Way(parts=frozenset({part})) for part in (weights, "channels") if part in found]
    both = [Way(parts=frozenset().union(*(way.parts for way in alone)), after=tuple(alone))] if len(alone) > 1 else []
    everything = Way(parts=frozenset(found), after=tuple(alone))
    return [*alone, *both, *([everything] if everything.parts not in [way.parts for way in (*alone, *both)] else [])]


def rungs(
    space: SearchSpace,
    schemes: Collection[str],
    defaults: Finetune,
    seed: int,
    held: Callable[[Recipe], Held],
    *,
    distilled: bool = True,
) -> list[Recipe]:
    """The recipes to try next; none where all ways have come to their end, or something has to end first.

    Args:
        space: of the study.
        schemes: of the space, that the target runs.
        defaults: fine-tuning settings where the space names none.
        seed: of the recipes.
        held: says what has become of a recipe.
        distilled: whether there is a teacher to learn from.
    """
    by_size = [name for name in SMALL if name in schemes]
    if not by_size:
        return []
    plain = [name for name in by_size if not SCHEMES[name].qat]

    def at(way: Way, harshness: float) -> Recipe:
        choose = _chooser(way, harshness, (plain or by_size)[0], distilled)
        return space.build(choose, defaults, seed)

    found: list[tuple[float, Recipe]] = []
    for way in ways(space):
        if all(held(at(before, HARSHNESS[0])) is Held.GOOD for before in way.after):
            found += _next(lambda harshness, way=way: at(way, harshness), held)  # type: ignore[misc]
    ordered = sorted(found, key=lambda pair: pair[0])  # stable: of equal ones the simpler way first
    return [recipe for recipe in dict.fromkeys(recipe for _, recipe in ordered) if recipe.compresses]


def _next(at: Callable[[float], Recipe], held: Callable[[Recipe], Held]) -> list[tuple[float, Recipe]]:
    """The next rung of a way and its harshness, if there is one to begin."""
    good = None
    for harshness in HARSHNESS:
        became = held(at(harshness))
        if became is Held.GOOD:
            good = harshness
            continue
        if became is Held.BROKEN:
            if good is None:
                return []
            harshness = (good + harshness) / 2  # one step back
        return [(harshness, at(harshness))] if held(at(harshness)) is Held.NEW else []
    return []


def _chooser(way: Way, harshness: float, scheme: str, distilled: bool) -> Callable[[str, Knob], Value]:
    """Chooses the values of a rung: short trainings, the technique as harsh as is wanted, the middle of all else."""

    def choose(name: str, knob: Knob) -> Value:
        part, _, setting = name.partition(".")
        if name in OPTIONAL:
            wanted: Value = name in way.parts or (name == "tune" and False not in knob)
            return wanted if wanted in knob else knob.middle()
        if name == "scheme":
            return scheme
        if name == "finetune.epochs":
            return min(knob.extremes())
        if name == "finetune.distillation" and not distilled:
            return min(knob.extremes())
        milder = meaning.of(FIELDS[part][setting]).milder
        if part == "quantize" and milder is Milder.LESS:
            return min(knob.extremes())
        if part in COMPRESSING and milder in (Milder.LESS, Milder.MORE):
            return _along(knob, harshness if milder is Milder.LESS else 1 - harshness)
        return knob.middle()

    return choose


def _along(knob: Knob, share: float) -> Value:
    """The value that lies so far from a knob's lowest to its highest; the middle of what is no number."""
    if isinstance(knob, Range):
        return knob.along(share)
    numbers = _numbers(knob)
    return numbers[round(share * (len(numbers) - 1))] if numbers else knob.middle()


def _numbers(knob: Choice) -> Sequence[Value]:
    """The values of a list in their order; none if they are no numbers."""
    numbers = [value for value in knob.values if isinstance(value, int | float) and not isinstance(value, bool)]
    return sorted(numbers) if len(numbers) == len(knob.values) else []
