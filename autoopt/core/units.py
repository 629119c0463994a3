"""Numbers with their units, as people write them: one reader for sizes, and one for durations.

    4 GB   4GB   4 gb   4e9   256 KiB        90 s   90s   1.5h   1 h 30 min   2 ms   1,234 ms

KB is 1000 B and KiB is 1024 B. Case does not count, nor does a space before the unit. Of a bare number only who asks
can know what it means, or that it needs a unit.
"""

import math
import re

from autoopt.core.validation import fail
from autoopt.errors import ConfigError

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
BYTES: dict[str, float] = {
    "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
}  # fmt: skip
"""Bytes in each unit of size."""
MILLISECONDS: dict[str, float] = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1, "s": 1e3, "min": 6e4, "h": 3.6e6}
"""Milliseconds in each unit of time."""
TINY = 1000
"""A bare number of bytes below this is asked back: no model is that small, and who writes 60 means kilobytes."""
LONGEST = 100
"""Characters: no quantity has more."""
_UNIT = r"[A-Za-zµμ]+"
_ONE = re.compile(rf"\s*({NUMBER})\s*({_UNIT})?\s*")
_PART = re.compile(rf"({NUMBER})\s*({_UNIT})\s*")
_SUM = re.compile(rf"{NUMBER}\s*{_UNIT}(?:\s*{NUMBER}\s*{_UNIT})+")


def number(text: str) -> float:
    """The value of what `NUMBER` matches; infinity where no float holds it."""
    return float(text.replace("_", "").replace(",", ""))


def size(where: str, given: object, *, expected: str = "a size such as '4 GB'", tiny: bool = False) -> float:
    """Bytes.

    Args:
        where: it was given, for messages.
        given: a text, or a number of bytes.
        expected: in words.
        tiny: whether a bare number below `TINY` is taken for bytes.

    Raises:
        ConfigError: for what is no size over 0, and for a bare number that hardly means bytes.
    """
    found = _ONE.fullmatch(text_of(given))
    unit = "" if found is None or found[2] is None else found[2].lower()
    if found is None or (unit and unit not in BYTES):
        fail(where, expected, given)
    value = number(found[1])
    if not unit and 0 < value < TINY and not tiny:
        raise ConfigError(
            f"{where}: expected {expected}, got {given}: of what? Write '{found[1]} KB', or '{found[1]} B'"
        )
    return _positive(where, expected, given, value * BYTES[unit or "b"])


def seconds(where: str, given: object, *, expected: str = "a duration such as '30 min'", bare: str = "") -> float:
    """Seconds, of one number with its unit or of several one after the other, the largest unit first.

    Args:
        where: it was given, for messages.
        given: a text, or a bare number.
        expected: in words.
        bare: the unit of a bare number; `` where it needs one.

    Raises:
        ConfigError: for what is no duration over 0.
    """
    text = text_of(given)
    found = _ONE.fullmatch(text)
    if found is not None and found[2] is None and bare:
        text = f"{text} {bare}"
    value = milliseconds(text)
    if value is None:
        fail(where, expected, given)
    return _positive(where, expected, given, value / 1000)


def milliseconds(text: str) -> float | None:
    """Milliseconds in a text such as `1 h 30 min`; None if it is none."""
    parts = _PART.findall(text.strip())
    if not parts or not re.fullmatch(rf"(?:{_PART.pattern})+", text.strip()):
        return None
    units = [MILLISECONDS.get(unit.lower()) for _, unit in parts]
    known = [unit for unit in units if unit is not None]
    if len(known) < len(units) or known != sorted(set(known), reverse=True):
        return None  # `30 min 1 h` and `1 h 1 h` are slips, most likely
    return math.fsum(number(amount) * unit for (amount, _), unit in zip(parts, known, strict=True))


def summed(text: str) -> str:
    """The text with each sum of durations, such as `1 s 500 ms`, as one in milliseconds."""

    def one(found: re.Match[str]) -> str:
        value = milliseconds(found[0])
        return found[0] if value is None else f"{value!r} ms"

    return _SUM.sub(one, text)


def text_of(given: object) -> str:
    """What was given, as a text; an empty one, which nothing matches, for what can't be a quantity."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return ""
    try:
        text = str(given)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return ""
    return text if len(text) <= LONGEST else ""


def _positive(where: str, expected: str, given: object, value: float) -> float:
    if not 0 < value < math.inf:
        fail(where, expected, given)
    return value
