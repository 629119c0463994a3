"""`on_end:` of study.yaml: what is taken, what is refused, and what a bundle's copy leaves out."""

import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import ConfigError
from autoopt.study import on_end
from autoopt.study.folder import StudyFolder
from autoopt.study.on_end import OnEnd


def config(folder, text):
    (folder / "study.yaml").write_text(f"space: smoke\n{text}\n")
    return StudyFolder(folder).config().on_end


def test_a_command_is_words_or_a_text_that_is_split_like_a_shell_does(tmp_path):
    python = sys.executable
    assert config(tmp_path, f"on_end: [{python}, -c, 'print(1); print(2)']") == OnEnd(
        command=(python, "-c", "print(1); print(2)")
    )
    assert config(tmp_path, f"on_end: {python} -c 'print(1)' $HOME") == OnEnd(
        command=(python, "-c", "print(1)", "$HOME")
    )
    assert config(tmp_path, "on_end: sh -c 'curl https://x.org/y'").command[0] == "sh"


def test_a_script_of_the_study_is_found_beside_its_settings(tmp_path):
    script = tmp_path / "tell.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError, match=r"study.yaml: on_end: './tell.sh' is no program that can be started here"):
        config(tmp_path, "on_end: ./tell.sh")
    script.chmod(0o755)
    assert config(tmp_path, "on_end: ./tell.sh").command == ("./tell.sh",)


@pytest.mark.parametrize("address", ["https://ntfy.sh/night", "http://127.0.0.1:8080/x?y=z", "HTTPS://x.org"])
def test_an_address_is_one_with_http(tmp_path, address):
    assert config(tmp_path, f"on_end: {address}") == OnEnd(address=address)


def test_nobody_is_told_by_default(tmp_path):
    assert config(tmp_path, "") is None
    assert config(tmp_path, "on_end:") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on_end: 3", "on_end: expected a command"),
        ("on_end: true", "on_end: expected a command"),
        ("on_end: []", "on_end: expected a command"),
        ("on_end: ''", "on_end: expected a command"),
        ("on_end: ['', x]", "on_end: expected a command"),
        ("on_end: [sh, 1]", "on_end: expected a command"),
        ("on_end: {sh: x}", "on_end: expected a command"),
        ('on_end: ["s\\0h"]', "on_end[0]: expected a text without NUL"),
        ('on_end: "sh -c \'x"', "can't be split into words (No closing quotation)"),
        ("on_end: no-such-program-at-all x", "'no-such-program-at-all' is no program"),
        ("on_end: /", "'/' is no program"),
        ("on_end: ftp://x.org/y", "got an address of the kind ftp://"),
        ("on_end: 'https://'", "got one that is none"),
        ("on_end: 'https://x.org:0/'", "got one that is none"),
        ("on_end: 'https://x.org:99999/'", "can't be read"),
        ("on_end: 'https://x.org/a b'", "got one that is none"),
        ("on_end: 'https://me:secret@x.org/'", "is not sent"),
    ],
)
def test_what_is_neither_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "told",
    [
        "on_end: https://x.org/secret\n",
        "on_end: https://x.org/secret  # of mine\n",
        "on_end: [curl, https://x.org/secret]\n",
        "on_end: [curl,\n  https://x.org/secret]\n",
        "on_end:\n- curl\n- https://x.org/secret\n",
        "on_end:\n  - curl\n  - https://x.org/secret\n",
        "on_end: >-\n  curl\n  https://x.org/secret\n",
        "on_end: 'curl\n  https://x.org/secret'\n",
        '"on_end": "https://x.org/secret"\n',
    ],
)
def test_a_copy_for_others_leaves_it_out_and_the_rest_as_it_was(told):
    before, after = "space: smoke  # mine\ntrials: 3\n", "budgets:\n- size_bytes <= 3 KB\nseed: 1\n"
    for text in (before + told + after, told + before + after, before + after + told, before + after + told.rstrip()):
        assert on_end.without(text.encode()).decode() == before + after


@given(spaces=st.integers(1, 3), values=st.dictionaries(st.sampled_from("abc"), st.lists(st.text()), min_size=1))
def test_whatever_stands_beside_it_stays(spaces, values):
    for flow in (True, False):
        text = yaml.safe_dump({**values, "on_end": ["curl", "secret"]}, sort_keys=True, default_flow_style=flow)
        indented = text if flow else "".join(" " * spaces + line for line in text.splitlines(keepends=True))
        if yaml.safe_load(indented) == yaml.safe_load(text):
            assert yaml.safe_load(on_end.without(indented.encode())) == values


def test_what_is_no_yaml_is_not_handed_on():
    assert on_end.without(b"on_end: [https://x.org/secret") == b""
    assert on_end.without(b"[" * 5000) == b""
    assert on_end.without(b"- on_end") == b"- on_end"
