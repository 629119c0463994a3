"""YAML files that a person wrote: read in one place, and refused in one line that names file, line, key and value.

PyYAML's safe loader runs nothing, but it keeps the last of two equal keys, takes `.nan`, and follows aliases and brackets
however deep they go. So the file's nodes are looked at before anything is made of them.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from autoopt.core.validation import LARGEST
from autoopt.errors import ConfigError, one_line

LARGEST_FILE = 1_000_000
"""Bytes: no study or space is longer, and PyYAML takes a second for as much."""
DEEPEST = 30
"""Brackets in brackets: a space has five."""
MOST = 20_000
"""Values in all, those that stand behind an alias counted each time."""
LONGEST_NUMBER = 1000
"""Characters of a number that Python reads in no time."""
_NULL, _FLOAT, _INT, _MERGE, _VALUE = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "float", "int", "merge", "value")
)
_PLAIN = (_NULL, _FLOAT, _INT, _MERGE, _VALUE, *(f"tag:yaml.org,2002:{name}" for name in ("bool", "str", "timestamp")))
_NESTED = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class Missing(ConfigError):
    """There is no such file, or it can't be read."""


def load(path: Path) -> Any:
    """The plain values of a YAML file; None for an empty one.

    Raises:
        Missing: if there is no such file, or it can't be read.
        ConfigError: naming file, line, key, expected and got, for what is no YAML of plain values.
    """
    text = _text(path)
    try:
        _expect_shallow(text, path)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Check(path, loader).check(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {one_line(error, 300)}") from error


def _text(path: Path) -> str:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise Missing(f"{path}: expected a YAML file, got a folder")
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for ever
            raise Missing(f"{path}: expected a YAML file, got a pipe or a device")
        if found.st_size > LARGEST_FILE:
            raise ConfigError(f"{path}: expected at most {LARGEST_FILE} bytes of YAML, got {found.st_size}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Missing(f"{path}: can't read it ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8, got the byte 0x{error.object[error.start]:02x}") from error
    except ValueError as error:  # what no file system takes: a NUL in the name
        raise Missing(f"{str(path)!r}: can't read it (no file is called so)") from error


def _expect_shallow(text: str, path: Path) -> None:
    """Refuse deep nesting by the events alone: to compose such nodes would take all of Python's stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                line = f"line {event.start_mark.line + 1}: " if event.start_mark is not None else ""
                raise ConfigError(f"{path}: {line}expected at most {DEEPEST} levels of nesting, got more")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Check:
    """Looks at the nodes of a document, as often as they stand in it.

    Args:
        path: of the file, for messages.
        loader: makes values of scalars.
    """

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self._path, self._loader, self._seen = path, loader, 0

    def check(self, node: yaml.Node, where: str = "", depth: int = 0) -> None:
        """Refuse what is no plain finite value.

        Raises:
            ConfigError: naming file, line and key.
        """
        self._seen += 1
        if depth > DEEPEST or self._seen > MOST:
            self._refuse(node, where, "values that end", "aliases (`*name`) that stand for too many, or for themselves")
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, where)
        elif node.tag not in _NESTED:
            self._refuse(node, where, "plain YAML without tags", f"the tag {node.tag}")
        elif isinstance(node, yaml.MappingNode):
            for key, value in self._pairs(node, where):
                self.check(value, key, depth + 1)
        else:
            for place, value in enumerate(node.value):
                self.check(value, f"{where}[{place}]", depth + 1)

    def _pairs(self, node: yaml.MappingNode, where: str) -> Iterator[tuple[str, yaml.Node]]:
        """Each value with its key's path, once it is known that the key stands there once."""
        lines: dict[Any, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, where, "keys that are texts", "a list or a mapping as a key")
            name = self._scalar(key, where)
            if name in lines:
                first = lines[name]
                raise ConfigError(
                    f"{self._path}: line {key.start_mark.line + 1}: the key {key.value[:60]!r} stands there twice"
                    f"{f' in {where}' if where else ''} (first in line {first}); leave one out"
                )
            lines[name] = key.start_mark.line + 1
            yield f"{where}.{key.value[:60]}" if where else key.value[:60], value

    def _scalar(self, node: yaml.ScalarNode, where: str) -> Any:
        if node.tag not in _PLAIN:
            self._refuse(node, where, "plain YAML without tags", f"the tag {node.tag}")
        if node.tag in (_MERGE, _VALUE):
            return node.value
        if node.tag == _INT and len(node.value) > LONGEST_NUMBER:
            self._refuse(node, where, "a number", f"one of {len(node.value)} digits")
        try:
            value = self._loader.construct_object(node)
        except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError):
            # PyYAML tells of a date such as 2026-13-45, or of a text that is tagged as a number, in many ways.
            self._refuse(node, where, f"a {node.tag.rpartition(':')[2]}", repr(node.value[:60]))
        if node.tag == _INT and ":" in node.value:  # YAML 1.1 counts in sixties
            got = f"{node.value[:60]}, which YAML reads as {value}; put it in quotes"
            self._refuse(node, where, "a text or a number", got)
        if isinstance(value, int) and abs(value) >= LARGEST:
            self._refuse(node, where, "a number", f"one of {len(node.value)} digits")
        if isinstance(value, str) and "\0" in value:
            self._refuse(node, where, "a text without NUL", repr(value[:60]))
        if isinstance(value, float) and value - value != 0:
            self._refuse(node, where, "a finite number", node.value[:60])
        return value

    def _refuse(self, node: yaml.Node, where: str, expected: str, got: str) -> NoReturn:
        place = f"line {node.start_mark.line + 1}{f': {where}' if where else ''}"
        raise ConfigError(f"{self._path}: {place}: expected {expected}, got {got}")
