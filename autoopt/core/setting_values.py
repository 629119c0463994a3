"""What a setting of a recipe may hold: numbers, truth values, words."""

from typing import Any

from autoopt.core.validation import fail

DECIMALS = 10
"""That a setting keeps."""


def number(where: str, value: Any) -> float:
    """A setting as a float; numpy's numbers count, texts and truth values don't.

    Raises:
        ConfigError: for what is no number.
    """
    if isinstance(value, bool | str | bytes):
        fail(where, "a number", value)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        fail(where, "a number", value)


def rounded(where: str, value: Any) -> float:
    """A setting as a float of ten decimals, so that equal settings have one digest.

    Raises:
        ConfigError: for what is no number.
    """
    return round(number(where, value), DECIMALS) + 0.0  # which turns -0.0 into 0.0


def expect_heard(where: str, value: Any) -> None:
    """Refuse a setting that is not 0, and would be taken for 0 for having so few decimals.

    Raises:
        ConfigError: if it is so small, or no number.
    """
    if number(where, value) and not rounded(where, value):
        fail(where, f"0, or a number of at least {10.0**-DECIMALS:g}", value)


def expect_one_of(where: str, value: object, known: tuple[str, ...]) -> None:
    """Check that a setting is one of these words.

    Raises:
        ConfigError: if it is none.
    """
    if value not in known:
        fail(where, f"one of {', '.join(known)}", value)


def expect_truth(where: str, value: object) -> None:
    """Check that a setting is true or false.

    Raises:
        ConfigError: if it is neither.
    """
    if not isinstance(value, bool):
        fail(where, "true or false", value)
