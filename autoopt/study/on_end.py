"""Who is told when a run ends: `on_end:` of study.yaml, a command or an address."""

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from autoopt.core.validation import fail
from autoopt.errors import ConfigError

KEY = "on_end"
EXPECTED = "a command (a list of words, or a text) or an http(s) address"
SCHEMES = ("http", "https")


@dataclass(frozen=True, kw_only=True)
class OnEnd:
    """Who is told; one of the two is empty.

    Attributes:
        command: program and arguments.
        address: that is posted to.
    """

    command: tuple[str, ...] = ()
    address: str = ""

    @property
    def name(self) -> str:
        """How messages call it: the program, or nothing of an address, which may be a secret."""
        return Path(self.command[0]).name if self.command else "the address"


def read(value: Any, folder: Path) -> OnEnd:
    """What stands behind `on_end:`.

    Args:
        value: of the YAML.
        folder: of the study, in which a command works.

    Raises:
        ConfigError: if it is neither a command whose program is there nor an address.
    """
    if isinstance(value, str) and "://" in value.strip().split(" ")[0]:
        return OnEnd(address=_address(value.strip()))
    words = _words(value)
    program = os.path.expanduser(words[0])
    if not _is_there(program, folder):
        raise ConfigError(f"{KEY}: {words[0]!r} is no program that can be started here; expected {EXPECTED}")
    return OnEnd(command=(program, *words[1:]))


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ConfigError(f"{KEY}: {value!r} can't be split into words ({error}); give a list of words") from error
    sound = isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    if not sound or not value[0]:
        fail(KEY, EXPECTED, value)
    return list(value)


def _is_there(program: str, folder: Path) -> bool:
    """Whether a program can be started: by its name in PATH, or by its path from the study's folder."""
    if os.path.basename(program) == program:
        return shutil.which(program) is not None
    return shutil.which(os.path.join(folder.resolve(), program)) is not None


def _address(text: str) -> str:
    """Check an address; the message doesn't show all of it, for it may hold a secret."""
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ConfigError(f"{KEY}: expected an http(s) address, got one that can't be read ({error})") from error
    if parts.scheme.lower() not in SCHEMES:
        raise ConfigError(f"{KEY}: expected {EXPECTED}, got an address of the kind {parts.scheme}://")
    if not host or port == 0 or not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):
        raise ConfigError(
            f"{KEY}: expected an http(s) address such as https://example.org/nights, got one that is none"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{KEY}: a name or password in the address is not sent; post with a command such as curl")
    return text


def without(file: bytes) -> bytes:
    """A study.yaml without `on_end:`, for whom it is handed to: an address may be a secret.

    Args:
        file: its content; nothing is left of what is no YAML.
    """
    text = file.decode("utf-8-sig", "replace")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return b""
    if not isinstance(root, yaml.MappingNode):
        return file
    pairs = root.value
    places = [(key.start_mark, value.end_mark) for key, value in pairs if key.value == KEY]
    if not places:
        return file
    if root.flow_style:
        root.value = [pair for pair in pairs if pair[0].value != KEY]
        return yaml.serialize(root).encode()
    lines = text.splitlines(keepends=True)
    for start, end in reversed(places):
        last = max(start.line, end.line)  # an alias ends where its anchor stands
        ends_within = last == start.line or bool(lines[last : last + 1] and lines[last][: end.column].strip())
        del lines[start.line : last + ends_within]
    return "".join(lines).encode()
