"""YAML is read in one place, and what is no plain YAML is refused in one line."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import yaml_file
from autoopt.core.yaml_file import Missing
from autoopt.errors import ConfigError

LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: .nan", "line 1: a: expected a finite number, got .nan"),
        ("a:\n  b: [1, -.inf]", "line 2: a.b[1]: expected a finite number, got -.inf"),
        ("a: 1.0e+400", "line 1: a: expected a finite number, got 1.0e+400"),
        ("a: " + "9" * 400, "line 1: a: expected a number, got one of 400 digits"),
        ("a: " + "9" * 5000, "line 1: a: expected a number, got one of 5000 digits"),
        ("a: 0x" + "f" * 5000, "line 1: a: expected a number, got one of"),
        ("a: 99999999999999999999", "line 1: a: expected a number, got one of 20 digits"),
        ("[" * 10_000, "line 1: expected at most 30 levels of nesting, got more"),
        ("[" * 10_000 + "]" * 10_000, "line 1: expected at most 30 levels of nesting, got more"),
        ("{a: " * 10_000, "line 1: expected at most 30 levels of nesting, got more"),
        ("- " * 10_000 + "a", "line 1: expected at most 30 levels of nesting, got more"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice (first in line 1); leave one out"),
        ("x:\n  a: 1\n  a: 1", "line 3: the key 'a' stands there twice in x (first in line 2); leave one out"),
        (LAUGHS, "expected values that end, got aliases (`*name`) that stand for too many, or for themselves"),
        ("a: &a {b: *a}", "expected values that end, got aliases"),
        ("a: !!python/name:os.system x", "line 1: a: expected plain YAML without tags, got the tag tag:yaml.org,2002:python"),
        ("a: !mine {b: 1}", "line 1: a: expected plain YAML without tags, got the tag !mine"),
        ("a: !!binary xx", "line 1: a: expected plain YAML without tags"),
        ("a: !!set {b}", "line 1: a: expected plain YAML without tags"),
        ("a: !!int many", "line 1: a: expected a int, got 'many'"),
        ("a: !!bool perhaps", "line 1: a: expected a bool, got 'perhaps'"),
        ("a: !!timestamp soon", "line 1: a: expected a timestamp, got 'soon'"),
        ("a: 2026-02-31", "line 1: a: expected a timestamp, got '2026-02-31'"),
        ("a: 2:4", "line 1: a: expected a text or a number, got 2:4, which YAML reads as 124; put it in quotes"),
        ('a: "x\\0y"', "line 1: a: expected a text without NUL"),
        ("a: x\0y", "not YAML"),
        ("{a: 1}: 2", "line 1: expected keys that are texts, got a list or a mapping as a key"),
        ("<<: 5", "not YAML"),
        ("a: [1\nb: 2", "not YAML"),
        ("a: *b", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        (b"a: \xff", "expected UTF-8, got the byte 0xff"),
        ("a: 1".encode("utf-16"), "expected UTF-8, got the byte 0xff"),
        ("a: 1\n" * 300_000, "expected at most 1000000 bytes of YAML, got 1500000"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        yaml_file.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert words in said
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", None),
        ("# nothing", None),
        ("\ufeffa: 1", {"a": 1}),
        ("a: &x {b: [1, 2.5, true, null, text]}\nc: *x", {"a": {"b": [1, 2.5, True, None, "text"]}, "c": {"b": [1, 2.5, True, None, "text"]}}),
        ("base: &b {a: 1, c: 2}\nown: {<<: *b, a: 3}", {"base": {"a": 1, "c": 2}, "own": {"a": 3, "c": 2}}),
        ("a: 1e-3", {"a": "1e-3"}),
        ("1: a\n2: b", {1: "a", 2: "b"}),
    ],
)  # fmt: skip
def test_plain_yaml_is_read(tmp_path: Path, text: str, values: object) -> None:
    assert yaml_file.load(written(tmp_path, text)) == values


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(-1e300, 1e300)
    | st.text("abcüß €#:-[]{}'\"\n ", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_pyyaml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, values: object) -> None:
    path = written(tmp_path_factory.mktemp("yaml"), yaml.safe_dump(values, allow_unicode=True))
    assert yaml_file.load(path) == values


def test_what_is_no_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "none", "none: can't read it (No such file or directory)"),
        (tmp_path / "folder", "folder: expected a YAML file, got a folder"),
        (tmp_path / "pipe", "pipe: expected a YAML file, got a pipe or a device"),
        (Path("/dev/zero"), "/dev/zero: expected a YAML file, got a pipe or a device"),
        (Path("a\0b"), "can't read it (no file is called so)"),
    ):
        with pytest.raises(Missing) as caught:
            yaml_file.load(path)
        assert words in str(caught.value)
