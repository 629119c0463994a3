"""How values look on one line, and in a notebook: short, printable, and with the names that others chose escaped."""

import html
import shlex
from collections.abc import Iterable, Sequence

WIDEST = 150
"""Characters of a text on one line."""


def short(text: object, width: int = WIDEST) -> str:
    """A text on one line of printable characters, cut where it is longer than `width` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def typed(path: object) -> str:
    """A path as one types it in a command: quoted where a shell needs that, and never taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def html_text(text: object, tag: str = "p") -> str:
    """An element of HTML that holds a text."""
    return f"<{tag}>{html.escape(str(text))}</{tag}>"


def html_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of HTML; every cell is a text that may hold anything.

    Args:
        header: the names of the columns.
        rows: a cell for each column.
    """
    head = "".join(html_text(name, "th") for name in header)
    body = "".join(f"<tr>{''.join(html_text(cell, 'td') for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
