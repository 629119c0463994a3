"""Writes to the terminal, alone in the package: names come from other people, and none of them may steer it."""

import re
import sys
import unicodedata

import click

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
"""What changes colours and weight, and nothing else."""


def printable(text: str) -> str:
    r"""A text in which what would steer the terminal, or turn its direction, can be seen, such as `\x1b`.

    Line ends stay, and spaces of all kinds and widths become one that is plain, but for the one that does not break.
    """
    return "".join(c if c.isprintable() or c in "\n\N{NO-BREAK SPACE}" else _seen(c) for c in text)


def _seen(character: str) -> str:
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """A text as `printable` shows it, with its line ends to be seen too."""
    return printable(text).replace("\n", "\\n")


def say(text: str = "", *, err: bool = False, nl: bool = True, bold: bool = False) -> None:
    """Write for a person.

    Args:
        text: one line or several.
        err: to standard error.
        nl: with a line end.
        bold: where the terminal can.
    """
    click.echo(click.style(printable(text), bold=True) if bold else printable(text), nl=nl, err=err)


def say_line(text: str, *, err: bool = False) -> None:
    """Write one line for a person, whatever stands in it."""
    click.echo(one_line(text), err=err)


def say_coloured(text: str) -> None:
    """Write what has colours of our own in it."""
    click.echo("".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(text)))


def give(text: str, *, nl: bool = True) -> None:
    """Write for a program: as it is, unless a person looks at it."""
    click.echo(printable(text) if sys.stdout.isatty() else text, nl=nl)


def ask(text: str) -> str:
    """What a person answers to a question on standard error; nothing if they skip it.

    Raises:
        click.Abort: if the person leaves.
    """
    return str(click.prompt(one_line(text), "", show_default=False, err=True)).strip()
