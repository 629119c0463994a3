"""Refusing bad input in one clear line: where, expected, got, and the nearest known word."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from autoopt.errors import ConfigError


def fail(where: str, expected: str, got: object) -> NoReturn:
    """Refuse a value.

    Raises:
        ConfigError: always, as `where: expected X, got Y`.
    """
    raise ConfigError(f"{where}: expected {expected}, got {got!r}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'X'?` for a word that resembles a known one, else the known ones."""
    known = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def expect_keys(where: str, values: object, known: Iterable[str]) -> None:
    """Refuse what is no mapping, and keys that are not known.

    Raises:
        ConfigError: naming the first unknown key and the known one nearest to it.
    """
    known = list(known)
    if not isinstance(values, Mapping):
        fail(where, f"a mapping with keys {', '.join(known)}", values)
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {nearest(key, known)}")


def expect_number(where: str, value: Any, *, minimum: float | None = None, whole: bool = False) -> Any:
    """Return `value` if it is a finite number (not a truth value) of at least `minimum`.

    Raises:
        ConfigError: otherwise.
    """
    kinds = int if whole else (int, float)
    what = "a whole number" if whole else "a number"
    if minimum is not None:
        what += f" of at least {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        fail(where, what, value)
    if minimum is not None and value < minimum:
        fail(where, what, value)
    return value
