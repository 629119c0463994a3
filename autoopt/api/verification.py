"""Checks a bundle: that its files are those that were written, and that the model still computes the same."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.core.reprs import html_text, short
from autoopt.core.validation import fail
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.reporting.bundle.bundle import GUARDED, MODEL, SAMPLES
from autoopt.reporting.bundle.card import NAME as CARD
from autoopt.reporting.bundle.ends import End, names
from autoopt.reporting.bundle.escaping import one_line
from autoopt.reporting.bundle.samples import Samples, here, run
from autoopt.system import foreign_files

RELATIVE = 1e-4
"""Of the largest output: by how much floats may differ, which other processors add up in another order."""
OTHERS = [name for name in GUARDED if name != MODEL]
MOST_STEPS = 1
"""By how many steps integers may differ: some processors round otherwise."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: a file's, or `outputs`.
        holds: whether it is as it should be; None if it could not be checked.
        text: what was found, for people.
    """

    name: str
    holds: bool | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found of a bundle.

    Attributes:
        folder: of the bundle.
        study: that it came from.
        candidate: its number there.
        checks: in order.
        recorded_on: runtime and machine that the outputs were recorded on.
        run_on: runtime and machine that they were compared on.
    """

    folder: str
    study: str
    candidate: str
    checks: tuple[Check, ...]
    recorded_on: Mapping[str, Any] = field(default_factory=dict)
    run_on: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        what = f"candidate #{self.candidate} of {self.study} in {self.folder}"
        return f"<Verification of {short(what)}: {'holds' if self.holds else 'DIFFERS'}>"

    def _repr_html_(self) -> str:
        return html_text(self.text(), "pre")

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return all(check.holds is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": self.folder,
            "study": self.study,
            "candidate": self.candidate,
            "holds": self.holds,
            "checks": [{"name": c.name, "holds": c.holds, "text": c.text} for c in self.checks],
            "recorded_on": dict(self.recorded_on),
            "run_on": dict(self.run_on),
        }

    def text(self) -> str:
        """A line a check, and where it was recorded and run."""
        marks = {True: "holds", False: "DIFFERS", None: "not checked"}
        lines = [f"{self.folder}: candidate #{self.candidate} of the study {self.study}"]
        lines += [f"  {check.name:17} {marks[check.holds]}: {check.text}" for check in self.checks]
        for what, where in (("recorded on", self.recorded_on), ("compared on", self.run_on)):
            if where:
                lines.append(f"  {what:17} {', '.join(map(str, where.values()))} thread")
        return "\n".join(lines)


def verify(folder: str | os.PathLike[str]) -> Verification:
    """Check a bundle that `autoopt export` wrote: are its files those, and does the model still compute the same?

    Args:
        folder: of the bundle.

    Returns:
        what was looked at; `holds` says whether nothing differs, and `text()` what was found.

    Raises:
        ConfigError: if it is no bundle, or its card or samples are damaged.
        TargetUnavailable: if there is no room to run the model.
    """
    path = Path(folder)
    card = read_card(path)
    inputs, outputs = ([End.of(end) for end in card[kind]] for kind in ("inputs", "outputs"))
    digests = {MODEL: card["sha256"]} | {name: card["files"][name] for name in OTHERS if name in card["files"]}
    contents = {name: read(path, name) for name in digests}
    samples = None
    if SAMPLES in contents:
        samples = Samples.from_bytes(contents[SAMPLES], str(path / SAMPLES), inputs, outputs)
    checks = [_intact(name, contents[name], digest) for name, digest in digests.items()]
    told = card["samples"]
    if samples is None:
        checks.append(Check(name="outputs", holds=None, text=f"no stored samples ({one_line(told['why'])})"))
    elif not checks[0].holds:
        checks.append(Check(name="outputs", holds=None, text=f"{MODEL} is not the file that they were recorded with"))
    else:
        checks.append(_outputs(contents[MODEL], samples, names(outputs, "output")))
    ran = checks[-1].holds is not None
    return Verification(
        folder=str(path),
        study=one_line(card["study"]),
        candidate=one_line(card["candidate"]),
        checks=tuple(checks),
        recorded_on={name: one_line(value) for name, value in told["recorded_on"].items()} if samples else {},
        run_on=here() if ran else {},
    )


def read_card(path: Path) -> dict[str, Any]:
    """The card, with all that is read of it checked.

    Raises:
        ConfigError: naming what is wrong.
    """
    if path.is_file():
        raise ConfigError(f"{path}: no such folder, but a file; give the folder of its bundle")
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; expected a bundle that `autoopt export` wrote")
    if not (path / CARD).is_file():
        raise ConfigError(f"{path}: no bundle of autoopt ({CARD} is missing)")
    where = str(path / CARD)
    try:
        card = json.loads(read(path, CARD))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(card, dict):
        fail(where, "an object", type(card).__name__)
    defaults = {"files": {}, "samples": {"items": 0, "why": "the bundle is from before autoopt kept them"}}
    card = {**defaults, **card}  # bundles of autoopt's first days
    kinds = {"sha256": str, "inputs": list, "outputs": list, "files": dict, "samples": dict}
    for name, kind in kinds.items():
        if not isinstance(card.get(name), kind):
            fail(f"{where}: {name}", {str: "a text", list: "a list", dict: "an object"}[kind], card.get(name))
    try:
        ends = [End.of(end) for kind in ("inputs", "outputs") for end in card[kind]]
        sound = all(np.dtype(end.dtype).kind in "biuf" and end.size >= 0 for end in ends)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{where}: inputs and outputs: can't be read ({type(error).__name__}: {error})") from error
    told = card["samples"]
    if told.get("items") and SAMPLES not in card["files"]:
        fail(f"{where}: files", f"the sha256 of {SAMPLES}", card["files"])
    if SAMPLES in card["files"]:
        if not sound or not card["inputs"] or not card["outputs"]:
            fail(f"{where}: inputs and outputs", "shape and dtype of each", card["inputs"])
        if not isinstance(told.get("recorded_on"), dict):
            fail(f"{where}: samples.recorded_on", "an object", told.get("recorded_on"))
    return card | {
        "study": card.get("study", ""),
        "candidate": card.get("candidate", ""),
        "samples": {"why": "", **told},
    }


def read(path: Path, name: str) -> bytes:
    """A file of the bundle.

    Raises:
        ConfigError: if it is missing, or lies outside.
    """
    file = path / name
    if not file.is_file():
        raise ConfigError(f"{path}: {name} is missing; export the candidate again")
    if not file.resolve().is_relative_to(path.resolve()):
        raise ConfigError(f"{file}: leads out of the bundle; expected a file of its own")
    return foreign_files.read(file, empty=True)


def _intact(name: str, data: bytes, digest: Any) -> Check:
    found = hashlib.sha256(data).hexdigest()
    if found == digest:
        return Check(name=name, holds=True, text=f"sha256 {found[:12]}... as in {CARD}")
    return Check(name=name, holds=False, text=f"sha256 {found[:12]}..., {CARD} says {one_line(digest)[:12]}...")


def _outputs(file: bytes, samples: Samples, called: Sequence[str]) -> Check:
    """Compare what the file gives now with what it gave, output by output."""
    try:
        found = run(file, samples.inputs)
    except CandidateFailed as error:
        return Check(name="outputs", holds=False, text=one_line(error.reason))
    n = len(samples)
    items = f"{n} stored sample{'s' * (n > 1)}"
    if len(found.outputs) != len(called):
        return Check(name="outputs", holds=False, text=f"{len(found.outputs)} in place of {len(called)}")
    each = [_output(*of, items) for of in zip(samples.outputs, found.outputs, found.steps, strict=True)]
    if len(each) == 1:
        return Check(name="outputs", holds=each[0][0], text=each[0][1])
    text = ", ".join(f"{name} {how}" for name, (_, how) in zip(called, each, strict=True))
    return Check(name="outputs", holds=all(same for same, _ in each), text=text)


def _output(recorded: np.ndarray, found: np.ndarray, step: float, items: str) -> tuple[bool, str]:
    """Whether an output is the same, and how far it is apart."""
    if found.shape != recorded.shape or found.dtype != recorded.dtype:
        return False, f"{found.dtype} {found.shape} in place of {recorded.dtype} {recorded.shape} on {items}"
    same, how = compare(recorded, found, step)
    text = f"{how} on {items}"
    if not same and recorded.ndim == 2 and recorded.shape[1] > 1:
        kept = int((recorded.argmax(axis=1) == found.argmax(axis=1)).sum())
        text += f"; the largest output is the same for {kept} of {len(recorded)}"
    return same, text


def compare(recorded: np.ndarray, found: np.ndarray, step: float) -> tuple[bool, str]:
    """Whether outputs are the same as far as processors agree, and how far they are apart.

    Integers may differ by one step of the quantization, and so may floats that were scaled back from
    integers; other floats by a small part of the largest.

    Args:
        recorded: shape (items, ...), as the file gave them once.
        found: as it gives them now, same shape and dtype.
        step: the smallest difference between two of them, if they were scaled back from integers, else 0.
    """
    if np.array_equal(recorded, found, equal_nan=recorded.dtype.kind == "f"):
        return True, "equal"
    a, b = recorded.astype(np.float64), found.astype(np.float64)
    if (
        not np.array_equal(a[~np.isfinite(a)], b[~np.isfinite(a)], equal_nan=True)
        or not np.isfinite(b[np.isfinite(a)]).all()
    ):
        return False, "NaN or infinity in place of numbers, or the reverse,"
    a, b = a[np.isfinite(a)], b[np.isfinite(a)]
    largest = float(np.abs(a - b).max())
    if recorded.dtype.kind in "iub" or step:
        steps = round(largest / (step or 1.0), 3)
        shown = f"{steps:g} step{'s' * (steps != 1)} of the quantization"
        return steps <= MOST_STEPS, f"{'equal within' if steps <= MOST_STEPS else 'up to'} {shown}"
    scale = float(np.abs(a).max())
    part = largest / scale if scale else np.inf
    if part <= RELATIVE:
        return True, f"equal within {part:.1g} of the largest output"
    return False, f"up to {part:.2g} of the largest output apart"
