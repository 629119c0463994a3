"""Which study a folder holds: what all of its results have in common, written down beside them and in its database.

The database may be lost, or another one put in its place; the machine may be another, or a library newer.
"""

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt.errors import ConfigError
from autoopt.execution import job_graph
from autoopt.execution.job_graph import Setting
from autoopt.search.sampler import Proposals
from autoopt.study import records
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Header

COMPARED = ("task", "objectives", "target", "space", "seed")
"""What may not change while a study goes on, or its results would not compare."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What all results of a study have in common.

    Attributes:
        task: its fingerprint.
        objectives: names of metrics.
        target: with the threads that it measures with.
        space: digest of the space.
        seed: of the search.
        measured_on: machine and versions of the libraries that latencies were measured with; empty if unknown.
        study: a name of its own, by which the database is known to be the study's; empty if unknown.
    """

    task: str
    objectives: tuple[str, ...]
    target: str
    space: str
    seed: int
    measured_on: dict[str, str] = field(default_factory=dict)
    study: str = ""


def machine(device: Mapping[str, Any]) -> str:
    """What identifies a machine, by what a target says of it."""
    return " ".join(str(device.get(name, "")) for name in ("processor", "cores", "runtime"))


def measured_on(setting: Setting) -> dict[str, str]:
    """What latencies hang on beside the files: a target that computes them is the same on every machine."""
    machine = {} if setting.target.exact else {"machine": setting.machine}
    return {**machine, **job_graph.library_versions()}


def write(path: Path, identity: Identity) -> None:
    """Write a study's identity beside its records."""
    records.write(path, dataclasses.asdict(identity), indent=1)


def read(path: Path) -> Identity | None:
    """The identity that stands beside a study's records; None where there is none.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        values = records.read_values(path)
        return Identity(**{**values, "objectives": tuple(values["objectives"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); restore it, or delete it to go on without") from error


def settle(folder: StudyFolder, now: Identity, proposals: Proposals, has_records: bool) -> Identity:
    """Make sure that a study may go on, and that its database is its own.

    Args:
        folder: of the study.
        now: what the study is now.
        proposals: its database.
        has_records: whether candidates or skipped recipes are written down.

    Returns:
        what the study was when it last ran; `now` with a name, if it begins.

    Raises:
        ConfigError: naming what changed since the study began.
    """
    beside, inside = read(folder.identity), proposals.identity
    if not has_records and not inside:  # nothing is done yet: what stands beside is of a study that was deleted
        beside = None
    for facts in (None if beside is None else dataclasses.asdict(beside), inside):
        _expect_same(facts or {}, now, folder.path)
    if beside is not None and inside and inside.get("study", beside.study) != beside.study:
        raise ConfigError(
            f"{folder.database}: belongs to another study; put the study's own back, or delete it: it is made again "
            "from the records"
        )
    name = (beside.study if beside else "") or inside.get("study", "") or uuid.uuid4().hex
    if inside.get("study") != name:
        proposals.identity = {**{part: getattr(now, part) for part in COMPARED}, "study": name}
    before = beside or dataclasses.replace(now, measured_on=_measured_before(folder, now) if has_records else {})
    before = dataclasses.replace(before, study=name)
    if beside is None:
        write(folder.identity, before)
    return before


def _measured_before(folder: StudyFolder, now: Identity) -> dict[str, str]:
    """What the latencies of a study hang on that began before this was written down: by its header."""
    header = records.read_header(folder)
    facts = header.provenance if isinstance(header, Header) else {}
    known = {**facts.get("libraries", {}), "machine": machine(facts.get("device", {}))}
    if not facts or any(name not in known for name in now.measured_on):
        return now.measured_on
    return {name: known[name] for name in now.measured_on}


def _expect_same(facts: dict[str, Any], now: Identity, where: Path) -> None:
    for part in COMPARED:
        value = getattr(now, part)
        known = facts.get(part, value)
        if (tuple(known) if isinstance(known, list) else known) != value:
            raise ConfigError(
                f"{where}: its {part} changed since the study began, and results would not compare; "
                f"copy the study to a new folder, or delete {where / 'out'} to begin anew"
            )
