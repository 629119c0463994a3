"""Makes a model's inputs of the rows of a person's own table, as `preparation.json` says what was done to the first one.

Stands alone, on numpy, beside `own_files`: what follows the imports becomes part of a bundle's `predict.py`.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.reporting.bundle.own_files import BadInput

# ---- what follows stands in predict.py as it is

# Cells that pandas, with which the first table was read, takes for missing.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)


def prepared_rows(path: Path, item: tuple[int, ...], told: Any) -> np.ndarray | None:
    """The inputs of a table's rows, items first; None for a table without names, whose numbers are the inputs themselves.

    Args:
        path: of a .csv with the columns that the model was trained on, in any order, and perhaps others.
        item: shape of an item.
        told: what `preparation.json` holds.
    """
    names, rows = _table(path, told)
    if rows is None:
        return None
    steps, decimal = told["columns"], told.get("read", {}).get("decimal", ".")
    x = np.zeros((len(rows), steps[-1]["values"][1]), np.float32)
    for step in steps:
        (first, last), place = step["values"], names.index(step["column"])
        categories = {text: i for i, text in enumerate(step.get("categories", ()))}
        strange = []
        for row, (line, cells) in enumerate(rows):
            cell = cells[place] if place < len(cells) else ""
            where = f"line {line}: column {step['column']!r}"
            if step["kind"] != "category":
                x[row, first] = _scaled(cell, step, decimal, f"{path.name}: {where}")
                continue
            if cell not in MISSING and cell.strip() not in categories:
                strange.append(f"{where}: {cell.strip()[:40]!r}")
            x[row, first:last] = _coded(cell, step, categories, last - first, f"{path.name}: {where}")
        if strange:
            more = f" (as in {len(strange) - 1} rows more)" if len(strange) > 1 else ""
            print(f"{path.name}: CAUTION: {strange[0]} was not there in training and counts as not given{more}")
    known = {step["column"] for step in steps}
    others = ", ".join(name for name in names if name and name not in known)
    done = f"{len(rows)} row{'s' * (len(rows) != 1)} prepared as preparation.json says"
    print(f"{path.name}: {done}{'; left out ' * bool(others)}{others[:200]}")
    return x.reshape(len(rows), *item)


def _table(path: Path, told: Any) -> tuple[list[str], list[tuple[int, list[str]]] | None]:
    """The names of a table's columns, and its rows with the numbers of their lines; None for a table without names."""
    wanted = [step["column"] for step in told["columns"]]
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = stream.readlines()
        usual = [told.get("read", {}).get("delimiter", ","), ",", ";", "\t", "|"]
        heads = {between: next(csv.reader(lines, delimiter=between, skipinitialspace=True), []) for between in usual}
        named = {between: len({cell.strip() for cell in head} & set(wanted)) for between, head in heads.items()}
        reader = csv.reader(lines, delimiter=max(named, key=lambda one: named[one]), skipinitialspace=True)
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
        names = [cell.strip() for cell in rows[0][1]] if rows else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path.name}: can't be read as a table ({' '.join(str(error).split())[:200]})") from error
    if not rows:
        raise BadInput(f"{path.name}: holds no items")
    if not set(wanted) & set(names):
        if not all(_numeral(cell) for cell in lines[0].replace(";", ",").replace("\t", ",").split(",")):
            raise BadInput(f"{path.name}: expected the columns' names in the first row: {', '.join(wanted)[:300]}")
        return [], None
    lost = [name for name in wanted if name not in names]
    twice = [name for name in wanted if names.count(name) > 1]
    if lost or twice:
        what = f"no column {lost[0]!r}" if lost else f"several columns are called {twice[0]!r}"
        raise BadInput(f"{path.name}: {what}; expected {', '.join(wanted)[:300]}")
    wide = next((line for line, cells in rows if len(cells) > len(names)), None)
    if wide:
        raise BadInput(f"{path.name}: line {wide}: more cells than the {len(names)} names in the first row")
    return names, rows[1:]


def _scaled(cell: str, step: Any, decimal: str, where: str) -> float:
    """What a cell of numbers becomes."""
    number = step["missing"] if cell in MISSING else _numbered(cell.strip(), step, decimal, where)
    return float((number - step["subtract"]) / step["divide"])


def _coded(cell: str, step: Any, categories: dict[str, int], width: int, where: str) -> Any:
    """What a cell with a category becomes; one that was not there in training is as good as none."""
    place = step["missing"] if cell in MISSING else categories.get(cell.strip(), step["missing"])
    if step["coding"] == "one-hot":
        return [float(i == place) for i in range(width)]
    if place is None:
        raise BadInput(f"{where}: expected one of {', '.join(categories)[:200]}, got {cell.strip()[:40]!r}")
    return place


def _numbered(text: str, step: Any, decimal: str, where: str) -> float:
    if "read_as" in step:
        if text.lower() in step["read_as"]:
            return float(step["read_as"][text.lower()])
        raise BadInput(f"{where}: expected one of {', '.join(step['read_as'])}, got {text[:40]!r}")
    plain = text.replace(",", ".") if decimal == "," else text
    if not _numeral(plain):
        raise BadInput(f"{where}: expected a number, got {text[:40]!r}")
    return float(plain)


def _numeral(text: str) -> bool:
    """Whether a text is a finite number as tables have them."""
    try:
        return bool(np.isfinite(float(text))) and "_" not in text
    except ValueError:
        return False
