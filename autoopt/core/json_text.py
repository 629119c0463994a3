"""JSON that comes from a file: read strictly, and sealed with a checksum of its content.

Python's own reader takes NaN, numbers that no float holds, and keys that stand there twice; whoever works with such
values fails later, elsewhere. Here they are refused where they stand.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from autoopt.core.validation import LARGEST

CHECKSUM = "checksum"
"""The key that holds the SHA-256 of the canonical JSON of all other keys."""


def parse(text: str | bytes) -> Any:
    """Read JSON with finite numbers of a sensible size, and each key once.

    Raises:
        ValueError: in one line, for anything else.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse,
            parse_float=_number,
            parse_int=_whole,
            object_pairs_hook=_mapping,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno}") from error


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > len(str(LARGEST)) or abs(value := int(text)) >= LARGEST:
        raise ValueError(f"a whole number of {len(text)} digits is too large")
    return value


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands there twice")
    return found


def checksum(values: Mapping[str, Any]) -> str:
    """The SHA-256 of the canonical JSON of what `parse` gives: sorted keys, no spaces; in hexadecimal digits."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """Plain values as JSON with their checksum beside them; `unsealed` is the inverse.

    Raises:
        ValueError: for a number that is not finite.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))  # keys become texts, which are sorted otherwise
    return json.dumps({**plain, CHECKSUM: checksum(plain)}, indent=indent).encode()


def unsealed(text: str | bytes) -> dict[str, Any]:
    """Read what `sealed` wrote, without the checksum; what an earlier version wrote without one is read as well.

    Raises:
        ValueError: in one line, if it is no such text, or its content is not what was sealed.
    """
    values = _plain(text)
    if not isinstance(values, dict) or CHECKSUM not in values:
        values = parse(text)
        if not isinstance(values, dict):
            raise ValueError(f"expected a mapping, got {type(values).__name__}")
        return values
    given = values.pop(CHECKSUM)
    if given != checksum(values):
        raise ValueError("its content does not match its checksum")
    return values


def _plain(text: str | bytes) -> Any:
    """What Python's own reader makes of a text, which is quick: a checksum that matches says that all of it is sound."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
