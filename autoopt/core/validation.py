"""Refusing bad input in one clear line: where, expected, got, and the nearest known word."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from autoopt.errors import ConfigError

LARGEST = 2**63
"""Whole numbers from this on are refused: nothing here counts so far, and other libraries' integers end there."""
LONGEST = 200
"""Characters of a value that a message shows: the rest says nothing more."""


def fail(where: str, expected: str, got: object) -> NoReturn:
    """Refuse a value.

    Raises:
        ConfigError: always, as `where: expected X, got Y`.
    """
    raise ConfigError(f"{where}: expected {expected}, got {_shown(got)}")


def _shown(got: object) -> str:
    """A value in one line that is not too long, whatever it is."""
    if isinstance(got, int) and abs(got) >= LARGEST:
        return f"a whole number of {_digits(got)} digits"
    try:
        text = repr(got)
    except (ValueError, RecursionError):  # huge numbers inside, or a list that holds itself
        return f"a {type(got).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


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
    if type(values) is dict and values.keys() <= set(known):
        return
    if not isinstance(values, Mapping):
        fail(where, f"a mapping with keys {', '.join(known)}", values)
    for key in values:
        if key not in known:
            word = key[:LONGEST] if isinstance(key, str) else _shown(key)
            raise ConfigError(f"{where}: unknown key {_shown(key)}; {nearest(word, known)}")


def expect_present(where: str, values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse a mapping without a key that it needs.

    Raises:
        ConfigError: naming the first that is missing.
    """
    for name in names:
        if name not in values:
            raise ConfigError(f"{where}: {name} is missing" if where else f"{name} is missing")


def expect_number(
    where: str, value: Any, *, minimum: float | None = None, maximum: float | None = None, whole: bool = False
) -> Any:
    """Return `value` if it is a finite number (not a truth value) from `minimum` to `maximum`.

    Raises:
        ConfigError: otherwise.
    """
    kinds = int if whole else (int, float)
    what = "a whole number" if whole else "a number"
    if minimum is not None:
        what += f" of at least {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, kinds):
        fail(where, what, value)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise ConfigError(f"{where}: expected {what}, got one of {_digits(value)} digits")
    if not math.isfinite(value) or (minimum is not None and value < minimum):
        fail(where, what, value)
    if maximum is not None and value > maximum:
        fail(where, f"{what}{' and' if minimum is not None else ' of'} at most {maximum}", value)
    return value


def _digits(value: int) -> int:
    """About how many decimal digits a whole number has, which Python does not print beyond some thousands."""
    return int(abs(value).bit_length() * math.log10(2)) + 1


def expect_text(where: str, value: Any) -> str:
    """Return `value` if it is a text.

    Raises:
        ConfigError: otherwise.
    """
    if not isinstance(value, str):
        fail(where, "a text", value)
    return value


def expect_one_of(where: str, value: Any, known: Iterable[str]) -> str:
    """Return `value` if it is one of the known words.

    Raises:
        ConfigError: naming the known word nearest to it.
    """
    known = list(known)
    if not isinstance(value, str):
        fail(where, f"one of {', '.join(known)}", value)
    if value not in known:
        raise ConfigError(f"{where}: unknown {where} {value!r}; {nearest(value, known)}")
    return value


def expect_list(where: str, value: Any) -> Sequence[Any]:
    """Return `value` if it is a list or a tuple.

    Raises:
        ConfigError: otherwise.
    """
    if not isinstance(value, list | tuple):
        fail(where, "a list", value)
    return value


def expect_shape(where: str, value: Any, shape: "Shape") -> None:
    """Check plain nested values against an example of their types.

    Args:
        where: for the message.
        value: plain values.
        shape: of an example: `str`, `int`, `float` (any finite number), `object` (anything) or a tuple of those and None;
            `[example]` for a list of such; `{str: example}` for a mapping of such, and `{"name": example, ...}` for a
            mapping in which these keys, where they are there, have such values.

    Raises:
        ConfigError: naming the path of the first value of another type.
    """
    if not shape.fits(value):
        _expect_like(where, value, shape.example)


def _expect_like(where: str, value: Any, shape: Any) -> None:
    """Name the first value that differs from an example of its type."""
    if isinstance(shape, list):
        for place, item in enumerate(expect_list(where, value)):
            _expect_like(f"{where}[{place}]", item, shape[0])
    elif isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            fail(where, "a mapping", value)
        for key, item in value.items():
            _expect_like(f"{where}.{key}", item, shape.get(key, shape.get(str, object)))
    elif isinstance(shape, tuple):
        if value is not None or None not in shape:
            _expect_like(where, value, next(one for one in shape if one is not None))
    elif shape in (int, float):
        expect_number(where, value, whole=shape is int)
    elif shape is bool:
        if not isinstance(value, bool):
            fail(where, "true or false", value)
    elif shape is str:
        expect_text(where, value)


class Shape:
    """Types that plain nested values should have, compiled once to a quick test.

    Args:
        example: as in `expect_shape`.
    """

    def __init__(self, example: Any) -> None:
        self.example = example
        self.fits = _test(example)


def _test(example: Any) -> Callable[[Any], bool]:
    """A test whether a value of Python's own types surely has a shape; quick, for it makes no texts."""
    if example in (float, int):
        return _is_number if example is float else _is_whole
    if example in (str, bool):
        return lambda value: type(value) is example
    if isinstance(example, list):
        each = _test(example[0])
        return lambda value: isinstance(value, list | tuple) and all(map(each, value))
    if isinstance(example, Mapping):
        tests = {key: _test(item) for key, item in example.items() if key is not str}
        rest = _test(example.get(str, object))

        def fits(value: Any) -> bool:
            if not isinstance(value, dict):
                return False
            for key, item in value.items():  # noqa: SIM110 - `all` takes twice as long, and this is what reading costs
                if not tests.get(key, rest)(item):
                    return False
            return True

        return fits
    if isinstance(example, tuple):
        each_of = [_test(one) for one in example if one is not None]
        empty = None in example
        return lambda value: empty if value is None else any(test(value) for test in each_of)
    return _is_anything


def _is_whole(value: Any) -> bool:
    return type(value) is int and -LARGEST < value < LARGEST


def _is_number(value: Any) -> bool:
    return (type(value) is float and math.isfinite(value)) or _is_whole(value)


def _is_anything(value: Any) -> bool:
    return True
