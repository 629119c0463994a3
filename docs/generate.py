"""What the documentation takes from elsewhere when MkDocs builds it, so that it is written once.

A line `<!-- knobs PART -->` becomes the table of that part's settings, `<!-- schemes -->` that of the schemes, and `<!-- modules -->`
the list of all modules by room. The experiments' pages are read from where they lie.
"""

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from griffe import Docstring, DocstringSectionAttributes
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from autoopt.core import stage_settings
from autoopt.core.schemes import SCHEMES

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the checkout."""
SHOWN = ("*.md", "*.png")
"""Files of experiments that pages show or link to."""
_MARK = re.compile(r"^<!-- (\w+)(?: (\w+))? -->$", re.MULTILINE)
CHOICES: dict[str, tuple[str, ...]] = {
    "channels.importance": stage_settings.IMPORTANCES,
    "channels.scope": stage_settings.SCOPES,
    "prune.schedule": stage_settings.SCHEDULES,
    "prune.allocation": stage_settings.ALLOCATIONS,
    "cluster.initialisation": stage_settings.INITIALISATIONS,
    "quantize.granularity": stage_settings.GRANULARITIES,
    "quantize.ranges": stage_settings.RANGES,
    "finetune.frozen": stage_settings.FROZEN,
}
"""The words that a setting takes, where those are all."""
KINDS = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Have the experiments' pages and pictures in the site, below `experiments/`."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(f"experiments/*/{pattern}")):
            name = str(path.relative_to(ROOT))
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is made from the code. Links out of `docs/` hold for who reads the checkout; the site has no such step."""
    return _MARK.sub(_made, markdown).replace("](../experiments/", "](experiments/")


def _made(mark: re.Match[str]) -> str:
    kind, of = mark[1], mark[2]
    if kind == "knobs" and of in stage_settings.PARTS:
        return knobs(of)
    if kind == "schemes":
        return schemes()
    if kind == "modules":
        return modules()
    raise PluginError(f"docs: {mark[0]}: expected knobs of {', '.join(stage_settings.PARTS)}, schemes or modules")


def knobs(part: str) -> str:
    """The table of a part's settings: name, values, default and meaning, from the fields of its class and their docstring.

    Raises:
        PluginError: for a setting whose meaning stands nowhere.
    """
    known = _meanings(stage_settings.PARTS[part])
    rows = []
    for field in dataclasses.fields(stage_settings.PARTS[part]):
        if field.name not in known:
            raise PluginError(f"docs: {part}.{field.name} has no meaning in its class's docstring")
        path = f"{part}.{field.name}"
        takes = ", ".join(f"`{word}`" for word in CHOICES[path]) if path in CHOICES else KINDS[field.type]
        default = "needed" if field.default is dataclasses.MISSING else f"`{_yaml(field.default)}`"
        rows.append((f"`{path}`", takes, default, known[field.name]))
    return _table(("knob", "values", "default", "meaning"), rows)


def schemes() -> str:
    """The table of schemes."""
    rows = [
        (f"`{name}`", scheme.label, _mark(scheme.integer), scheme.io, _mark(scheme.qat))
        for name, scheme in SCHEMES.items()
    ]
    return _table(("scheme", "shown as", "computes in integers", "takes and gives", "trained with quantization"), rows)


def modules() -> str:
    """All modules, by room from the top, each with the first sentence of its docstring."""
    lines = []
    for room in rooms():
        paths = sorted((ROOT / "autoopt" / room).rglob("*.py")) or [ROOT / "autoopt" / f"{room}.py"]
        lines += [f"\n**{room}**\n"]
        lines += [f"- `{_dotted(path)}`: {_sentence(path)}" for path in paths if path.name != "__init__.py"]
    return "\n".join(lines)


def rooms() -> list[str]:
    """The rooms in their order, as the contract that holds it has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [room.strip() for layer in layers for room in layer.split("|")]


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _sentence(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")


def _meanings(part: type) -> dict[str, str]:
    """What a class's docstring says of its attributes, on one line each."""
    sections = Docstring(part.__doc__ or "").parse("google")
    found = [section for section in sections if isinstance(section, DocstringSectionAttributes)]
    return {item.name: " ".join(item.description.split()) for section in found for item in section.value}


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _mark(holds: bool) -> str:
    return "yes" if holds else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
