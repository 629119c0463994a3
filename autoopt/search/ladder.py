"""The first trainings of a search: short ones, that show how much the model bears.

Each way into the space is a ladder. It begins in the middle, goes to the harsh end while the model holds, and to the mild end
where it breaks, with one step halfway back. Where the model does not bear all techniques at once, each is tried by itself. So
little is trained of what nobody would take.
"""

import enum
import functools
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
OF_WEIGHTS = ("levels", "cluster", "prune")
"""Techniques that make the download small, the one that costs least first; the first that a space has is tried alone."""


class Held(enum.Enum):
    """What has become of a rung: `NEW`, not begun; `BEGUN`; `GOOD`, it is worth to go on; `BROKEN`."""

    NEW = enum.auto()
    BEGUN = enum.auto()
    GOOD = enum.auto()
    BROKEN = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How harsh techniques are, and what follows.

    Attributes:
        harshness: 0 has the mildest values of the space, 1 the harshest.
        good: the next one, if the model has held.
        broken: the next one, if it has not.
    """

    harshness: float
    good: "Rung | None" = None
    broken: "Rung | None" = None


MIDDLE = Rung(
    harshness=0.5,
    good=Rung(harshness=1.0, broken=Rung(harshness=0.75)),
    broken=Rung(harshness=0.0, good=Rung(harshness=0.25)),
)
"""The first rung of each way: most spaces reach about as far as models go, so their middle tells most."""


def ways(space: SearchSpace) -> list[frozenset[str]]:
    """The ways into a space, by the techniques that they use: the one for weights, all that there are, channels, and these two."""
    found = [part for part in COMPRESSING if part in space.knobs]
    weights = next((part for part in OF_WEIGHTS if part in found), "")
    alone = [part for part in (weights, "channels") if part in found]
    parts = [alone[:1], found, alone[1:], alone]
    return [frozenset(way) for way in dict.fromkeys(map(tuple, parts)) if way]


def rungs(
    space: SearchSpace,
    schemes: Collection[str],
    defaults: Finetune,
    seed: int,
    held: Callable[[Recipe], Held],
) -> list[Recipe]:
    """The recipes to try next; none where all ways have come to their end, or something has to end first.

    Args:
        space: of the study.
        schemes: of the space, that the target runs.
        defaults: fine-tuning settings where the space names none.
        seed: of the recipes.
        held: says what has become of a recipe.
    """
    by_size = [name for name in SMALL if name in schemes]
    if not by_size:
        return []
    plain = [name for name in by_size if not SCHEMES[name].qat]

    def at(way: frozenset[str], rung: Rung) -> Recipe:
        choose = _chooser(way, rung.harshness, (plain or by_size)[0])
        return space.build(choose, defaults, seed)

    gone = {way: _gone(functools.partial(at, way), held) for way in ways(space)}
    whole = max(gone, key=len, default=frozenset[str]())
    became = [became for _, became in gone.get(whole, ())]
    # Where the model bears all techniques at once, few beside bring little. While that is not known, they are the better guess.
    needed = {
        way: Held.BROKEN in became or way == whole or (len(steps) == 1 and (number == 0 or became == [Held.BEGUN]))
        for number, (way, steps) in enumerate(gone.items())
    }
    begun = [(len(steps), steps[-1][0]) for way, steps in gone.items() if steps[-1][1] is Held.NEW and needed[way]]
    ordered = sorted(begun, key=lambda pair: pair[0])  # stable: of equal ones the simpler way first
    return [recipe for recipe in dict.fromkeys(recipe for _, recipe in ordered) if recipe.compresses]


def _gone(at: Callable[[Rung], Recipe], held: Callable[[Recipe], Held]) -> list[tuple[Recipe, Held]]:
    """The rungs of a way as far as it is gone, the next one included, and what has become of each."""
    rung: Rung | None = MIDDLE
    steps = []
    while rung is not None:
        steps.append((at(rung), held(at(rung))))
        rung = {Held.GOOD: rung.good, Held.BROKEN: rung.broken}.get(steps[-1][1])
    return steps


def _chooser(way: frozenset[str], harshness: float, scheme: str) -> Callable[[str, Knob], Value]:
    """Chooses the values of a rung: a short training, techniques as harsh as is wanted, and the middle of all else."""

    def choose(name: str, knob: Knob) -> Value:
        part, _, setting = name.partition(".")
        if name in OPTIONAL:
            wanted: Value = name in way or (name == "tune" and False not in knob)
            return wanted if wanted in knob else knob.middle()
        if name == "scheme":
            return scheme
        if name == "finetune.epochs":
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
