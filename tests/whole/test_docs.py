"""README and the pages of `docs/` say what is so: their examples are taken as they stand, and every public name is there.

The example of five minutes is not run here: it would search once more, for minutes. `tests/api/test_init.py` makes a study of a model file
and arrays, `tests/whole/test_study.py` runs one from the first candidate to a bundle that is verified.
"""

import ast
import dataclasses
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders
import click
import pytest
import yaml

import autoopt
from autoopt import targets
from autoopt.api.saved_study import SavedResults
from autoopt.cli.commands import main
from autoopt.core import budgets, search_space_yaml
from autoopt.core.metrics import STANDARD
from autoopt.core.recipe import PARTS, SCHEMES
from autoopt.models.scoring import BUILTIN
from autoopt.study.folder import KEYS, StudyFolder

DOCS = builders.ROOT / "docs"
PAGES = {
    str(path.relative_to(builders.ROOT)): path.read_text() for path in (builders.ROOT / "README.md", *DOCS.glob("*.md"))
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OUTPUTS = ("study.json", "study.db", "study.yaml")
"""Files of a study, which are named as modules are."""
OWNERS = {"autoopt": autoopt, "results": SavedResults}
"""What names in examples stand for."""


def blocks(language: str) -> list[Any]:
    """The code blocks of a language, each named by its page and line."""
    return [
        pytest.param(found[2], id=f"{name}:{text.count(chr(10), 0, found.start()) + 1}")
        for name, text in PAGES.items()
        for found in FENCE.finditer(text)
        if found[1] == language
    ]


def commands(text: str) -> Iterator[list[str]]:
    """The words after `autoopt` of each such command in lines of a shell."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if "autoopt" in words:
            given = words[words.index("autoopt") + 1 :]
            ends = [place for place, word in enumerate(given) if word in (">", "2>&1", "&", "|", "...")]
            yield given[: min(ends, default=len(given))]


def typed() -> list[Any]:
    """Every command of a shell block, and every one in running text that has an argument; whether it is whole."""
    found = {}
    for name, text in PAGES.items():
        shells = [block[2] for block in FENCE.finditer(text) if block[1] == "sh"]
        prose = re.findall(r"`(autoopt [a-z]+ [^`|]+)`", FENCE.sub("", text))
        for whole, sources in ((True, shells), (False, prose)):
            for given in (words for source in sources for words in commands(source)):
                found.setdefault((shlex.join(given), whole), name)
    return [pytest.param(shlex.split(given), whole, id=f"{name}: {given}") for (given, whole), name in found.items()]


@pytest.mark.parametrize(("given", "whole"), typed())
def test_commands_are_taken_as_they_stand(given: list[str], whole: bool) -> None:
    command = main.commands[given[0]]
    try:
        command.make_context("autoopt", given[1:])
    except click.MissingParameter:
        assert not whole  # running text may show one option alone


def test_commands_are_found() -> None:
    """Otherwise the test above would hold of nothing."""
    assert {parameter.values[0][0] for parameter in typed()} >= {"init", "check", "run", "pick", "export", "verify"}


@pytest.mark.parametrize("text", blocks("sh"))
def test_lines_of_a_shell_are_such(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    known = re.findall(r"^(\w+):", (builders.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= set(known)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_a_space_or_a_study_or_dasks(text: str, tmp_path: Path) -> None:
    values = yaml.safe_load(text)
    if values.keys() <= {*PARTS, "scheme"}:
        search_space_yaml.parse(values, "docs")
    elif values.keys() <= set(KEYS):
        (tmp_path / "study.yaml").write_text(text)
        StudyFolder(tmp_path).config()
    else:
        assert set(values) == {"distributed"}


def test_budgets_are_such() -> None:
    written = [text for page in PAGES.values() for text in re.findall(r"`([a-z]\w* [<>]= [^`]+)`", FENCE.sub("", page))]
    assert len(written) > 5
    for text in written:
        assert budgets.parse(text, builders.METRICS).text == text


def test_addresses_of_targets_are_such() -> None:
    shown = re.findall(r"^\| `([^`]+)` \|", PAGES["docs/targets.md"], re.MULTILINE)
    assert {targets.find(text).name.partition(":")[0] for text in shown} == set(targets.TARGETS)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles_and_names_what_there_is(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OWNERS:
            found = getattr(OWNERS[ast.unparse(node.value)], node.attr)
            assert found is not None
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("autoopt."):
            names = inspect.signature(getattr(autoopt, ast.unparse(node.func).removeprefix("autoopt."))).parameters
            assert {word.arg for word in node.keywords} <= set(names)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Those that a person follows in a checkout; `make docs` checks those of the site, headings too."""
    for target in LINK.findall(FENCE.sub("", PAGES[name])):
        file, _, heading = target.partition("#")
        if "://" in target:
            continue
        page = (builders.ROOT / name).parent / file if file else builders.ROOT / name
        assert page.exists(), target
        if heading:
            assert heading in anchors(page.read_text()), target


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_readme_fits_a_glance() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_every_public_name_is_in_the_reference() -> None:
    described = re.findall(r"^::: (\S+)$", PAGES["docs/api.md"], re.MULTILINE)
    public = {f"autoopt.{home}.{name}" for name, home in autoopt._HOMES.items()}
    assert public <= set(described)
    assert len(described) == len(set(described))


def test_every_knob_scheme_and_setting_is_described() -> None:
    example = yaml.safe_load(next(FENCE.finditer(PAGES["docs/space.md"]))[2])
    for part, kind in ((part, kind) for part, kind in PARTS.items() if part != "tune"):  # that has finetune's
        assert {field.name for field in dataclasses.fields(kind)} <= set(example[part])
        assert f"<!-- knobs {part} -->" in PAGES["docs/space.md"]
    assert set(SCHEMES) == set(example["scheme"])
    studies = [yaml.safe_load(block[2]) for block in FENCE.finditer(PAGES["docs/guide.md"]) if block[1] == "yaml"]
    assert set(KEYS) in [set(values) for values in studies]


def test_every_metric_is_named() -> None:
    assert [name for name in (*BUILTIN, *STANDARD) if f"`{name}`" not in PAGES["docs/guide.md"]] == []


def test_every_room_is_described_in_its_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGES["docs/developers.md"].partition("## The life")[0], re.MULTILINE)
    rooms = {path.name for path in (builders.ROOT / "autoopt").iterdir() if (path / "__init__.py").exists()}
    assert set(named) == rooms | {"errors"}
    contract = (builders.ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    assert named == re.findall(r"\w+", contract)


def test_code_that_developers_are_sent_to_is_there() -> None:
    """Files by their path, and modules by their room."""
    text, package = FENCE.sub("", PAGES["docs/developers.md"]), builders.ROOT / "autoopt"
    for path in re.findall(r"`(\w+(?:/\w+)+\.(?:py|md))", text):
        if "NAME" not in path:  # of what is yet to be written
            assert (builders.ROOT / path).exists() or (package / path).exists(), path
    rooms = "|".join(path.name for path in package.iterdir() if path.is_dir())
    for room, module in re.findall(rf"`(?:autoopt\.)?({rooms})\.(\w+)", text):
        assert f"{room}.{module}" in OUTPUTS or list((package / room).glob(f"{module}*")), f"{room}.{module}"


def test_the_site_is_built(tmp_path: Path) -> None:
    """As `make docs` does it, where its tools are installed: links within the site hold, and every knob has its meaning."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=builders.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "share of the channels to remove" in (tmp_path / "space.html").read_text()
