"""What a setting of a recipe means: its name, its words, when it applies, and which of its values takes less from a model.

It stands once, at the setting's field (`core.stage_settings`); the space, the bounds and the comparison follow from it.
"""

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Get = Callable[[str], Any]
"""Another setting's value, by its name."""
_KEY = "meaning"


class Milder(enum.Enum):
    """Which of two values of a setting takes less from a model, all else being equal.

    `LESS`: the lower one. `MORE`: the higher one. `SAME`: different values can't be compared. `ANY`: it makes no difference.
    """

    LESS = enum.auto()
    MORE = enum.auto()
    SAME = enum.auto()
    ANY = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a setting means.

    Attributes:
        label: its name for people.
        words: what a value is called.
        milder: which value takes less from a model.
        applies: whether it means anything beside the other settings of its part.
        follows: where it does not apply, its value follows from the others, and is told all the same.
        rare: it is told only where it is not at its default.
        written: turns any way in which a value may be given into the one in which a recipe holds it.
        quiet: canonical JSON leaves it out at its default, so that older recipes keep their digests.
    """

    label: str
    words: Callable[[Any], str] = str
    milder: Milder = Milder.ANY
    applies: Callable[[Get], bool] = lambda get: True
    follows: bool = False
    rare: bool = False
    quiet: bool = False
    written: Callable[[Any], Any] = lambda value: value


def setting(default: Any = dataclasses.MISSING, **meaning: Any) -> Any:
    """A dataclass's field with its meaning.

    Args:
        default: none for a setting that must be given.
        meaning: fields of `Meaning`.
    """
    return dataclasses.field(default=default, metadata={_KEY: Meaning(**meaning)})


def of(field: "dataclasses.Field[Any]") -> Meaning:
    """The meaning of a field that `setting` made."""
    found: Meaning = field.metadata[_KEY]
    return found


def percent(share: float) -> str:
    """A share in words, with as many digits as a recipe keeps."""
    return f"{share * 100:.10g} %"


def yes_or_no(value: bool) -> str:
    """A truth value in words."""
    return "yes" if value else "no"
