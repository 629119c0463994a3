"""Names that others chose, made safe to stand in code, comments and Markdown."""

import re
import unicodedata

LONGEST = 300
_MARKDOWN = re.compile(r"([\\`*\[\]<>|])")
_COMMENT_MARKS = (("*/", "* /"), ("/*", "/ *"), ("\\", "/"), ("??", "? ?"))
"""What ends, nests or continues a comment in C, C++ or Kotlin; `??/` is C's old way to write a backslash."""


def one_line(text: object) -> str:
    """Printable characters alone, on one line: no line ends, control characters or changes of direction."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(printable.split())[:LONGEST]


def comment(text: object) -> str:
    """What can stand in a comment of Python, C, C++ or Kotlin without leaving it."""
    safe = one_line(text)
    while any(mark in safe for mark, _ in _COMMENT_MARKS):
        for mark, instead in _COMMENT_MARKS:
            safe = safe.replace(mark, instead)
    return safe


def markdown(text: object) -> str:
    """What reads as itself in Markdown, also in a table."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def code_span(text: object) -> str:
    """What reads as itself between Markdown's backticks, also in a table."""
    return one_line(text).replace("`", "'").replace("|", r"\|")


def identifier(text: object) -> str:
    """A name for C, of lower-case letters, digits and single underscores, that begins with a letter."""
    plain = unicodedata.normalize("NFKD", str(text)).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:60].rstrip("_")
    return words if words[:1].isalpha() else f"study_{words}".rstrip("_")
