"""A study's records: its header, a file a candidate, and a file a recipe that was not trained.

Each is sealed with a checksum and checked for sense when it is read. What is damaged is named and left out; only the
run that holds the study moves it aside, so that it can be made again from the store, and nothing is lost.
"""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from autoopt.core import budgets as budget_syntax
from autoopt.core import equivalence as equivalences
from autoopt.core import json_text
from autoopt.core.budgets import Budget
from autoopt.core.candidate import Candidate, Skipped
from autoopt.core.metrics import METRIC_SHAPE, STANDARD, Metric, expect_outcomes
from autoopt.core.validation import Shape, expect_present, expect_shape
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.study.folder import StudyFolder
from autoopt.study.layout import place_aside
from autoopt.system.files import write_atomically

T = TypeVar("T")
LARGEST_BYTES = 100_000_000
"""A record over this is none: those of large models have a few megabytes."""
TIMES = ("jobs_s", "saved_by_store_s", "overhead_s")
"""What the header says of how time was spent."""
_PROVENANCE = {
    "folder": str,
    "date": str,
    "target": str,
    "libraries": {str: str},
    "device": {str: object},
    "class_names": [object],
    "warnings": [str],
    "time": {str: float},
}
_SHAPE = Shape(
    {
        "study": str,
        "manifest": str,
        "equivalence": str,
        "objectives": [str],
        "budgets": [str],
        "quality": METRIC_SHAPE,
        "provenance": _PROVENANCE,
    }
)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A record that can't be relied on.

    Attributes:
        path: its file.
        reason: what is wrong, in one line.
        aside: the name that its file was given when it was set aside, or ``.
    """

    path: Path
    reason: str
    aside: str = ""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is needed to judge a study's candidates.

    Attributes:
        study: the study's name.
        quality: the task's own metric.
        objectives: names of metrics.
        budgets: the study's limits.
        equivalence: by how much qualities may differ and count as as good; `` for the default.
        manifest: key of the task in the store; `` of a study that was run before that was written down.
        provenance: where and how it was measured.
    """

    study: str
    quality: Metric
    objectives: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    equivalence: str = ""
    manifest: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics that candidates may have, by name."""
        return {self.quality.name: self.quality, **STANDARD}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        quality = self.quality
        return {
            "study": self.study,
            "quality": {"name": quality.name, "direction": quality.direction, "unit": quality.unit},
            "objectives": list(self.objectives),
            "budgets": [b.text for b in self.budgets],
            "manifest": self.manifest,
            "provenance": dict(self.provenance),
            **({"equivalence": self.equivalence} if self.equivalence else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: naming the first value that can't be.
        """
        expect_shape("header", values, _SHAPE)
        expect_present("header", values, ("study", "quality", "objectives", "budgets", "provenance"))
        quality = Metric.from_dict("header: quality", values["quality"])
        metrics = {quality.name: quality, **STANDARD}
        unknown = [name for name in values["objectives"] if name not in metrics]
        if unknown or not values["objectives"]:
            raise ConfigError(f"header: expected objectives among {', '.join(metrics)}, got {unknown or 'none'}")
        spent = values["provenance"].get("time", {})
        if spent and set(spent) != set(TIMES):
            raise ConfigError(f"header: expected times {', '.join(TIMES)}, got {', '.join(spent)}")
        found = cls(
            study=values["study"],
            quality=quality,
            objectives=tuple(values["objectives"]),
            budgets=tuple(budget_syntax.parse(text, metrics, stored=True) for text in values["budgets"]),
            equivalence=values.get("equivalence", ""),
            manifest=values.get("manifest", ""),
            provenance=dict(values["provenance"]),
        )
        equivalences.parse(found.equivalence, quality)
        return found


@dataclass(frozen=True, kw_only=True)
class Records:
    """All of a study's records as they lie in its folder.

    Attributes:
        header: None where it is missing or damaged.
        candidates: in the order of their numbers.
        skipped: likewise.
        damaged: what is left out, and why.
    """

    header: Header | None
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    damaged: tuple[Damage, ...]


def read(folder: StudyFolder, known: "Known | None" = None) -> Records:
    """Read all records, and write nothing.

    Args:
        folder: of the study.
        known: what was read of it before; files that did not change are not read again, and it is brought up to date.
    """
    with _without_collecting():
        return _read_all(folder, Unknown() if known is None else known)


class Known:
    """Records that were read before, with what tells whether their files have changed since."""

    def __init__(self) -> None:
        self._found: dict[Path, tuple[object, Any]] = {}

    def get(self, path: Path, basis: object, read: Callable[[], T]) -> T:
        """What was read of a file before, or is read now.

        Args:
            path: of the file.
            basis: what else the reading hangs on.
            read: reads the file.
        """
        try:
            found = path.stat()
        except OSError:
            return read()
        version = (found.st_mtime_ns, found.st_size, found.st_ino, basis)
        before = self._found.get(path)
        if before is None or before[0] != version:
            before = self._found[path] = version, read()
        kept: T = before[1]
        return kept


class Unknown(Known):
    """Stands for no earlier reading where there will be no later one."""

    def get(self, path: Path, basis: object, read: Callable[[], T]) -> T:
        """Read the file, whatever was read before."""
        return read()


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Have Python not look for garbage while thousands of values are made that all stay: a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read_all(folder: StudyFolder, known: Known) -> Records:
    header = read_header(folder)
    head = header if isinstance(header, Header) else None
    quality = None if head is None else head.quality
    store = _store(folder)
    candidates = [
        known.get(path, quality, functools.partial(_read_candidate, path, n, quality, store))
        for n, path in folder.candidate_files().items()
    ]
    skipped = [
        known.get(path, None, functools.partial(_read_skipped, path, n)) for n, path in folder.skipped_files().items()
    ]
    return Records(
        header=head,
        candidates=tuple(found for found in candidates if isinstance(found, Candidate)),
        skipped=tuple(found for found in skipped if isinstance(found, Skipped)),
        damaged=tuple(found for found in (header, *candidates, *skipped) if isinstance(found, Damage)),
    )


def numbers(folder: StudyFolder) -> list[int]:
    """The numbers of all candidates and skipped recipes that are written down, from the lowest on."""
    return sorted({*folder.candidate_files(), *folder.skipped_files()})


def read_header(folder: StudyFolder) -> Header | Damage | None:
    """The study's header; None if there is none."""
    return _read(folder.header, Header.from_dict)


def read_candidate(folder: StudyFolder, number: int, quality: Metric | None = None) -> Candidate | Damage | None:
    """A candidate; None if there is no file of it.

    Args:
        folder: of the study.
        number: of the candidate.
        quality: the task's own metric, where it is known.
    """
    return _read_candidate(folder.candidate_file(number), number, quality, _store(folder))


def _read_candidate(path: Path, number: int, quality: Metric | None, store: Store | None) -> Candidate | Damage | None:
    def made(values: Mapping[str, Any]) -> Candidate:
        candidate = Candidate.from_dict(values)
        _expect_number(candidate.number, number)
        if quality is not None:
            _expect_metrics(candidate, quality)
        if store is not None:
            _expect_stored(candidate, store)
        return candidate

    return _read(path, made)


def _store(folder: StudyFolder) -> Store | None:
    """Where the candidates' files are; None where that can't be known, which says nothing against a record."""
    with contextlib.suppress(TargetUnavailable):
        return Store(folder.store())
    return None


def read_skipped(folder: StudyFolder, number: int) -> Skipped | Damage | None:
    """A recipe that was not trained; None if there is no file of it."""
    return _read_skipped(folder.skipped_file(number), number)


def _read_skipped(path: Path, number: int) -> Skipped | Damage | None:
    def made(values: Mapping[str, Any]) -> Skipped:
        skipped = Skipped.from_dict(values)
        _expect_number(skipped.number, number)
        return skipped

    return _read(path, made)


def write_header(folder: StudyFolder, header: Header) -> None:
    """Write the study's header; see `write`."""
    write(folder.header, header.to_dict(), indent=1)


def write_candidate(folder: StudyFolder, candidate: Candidate) -> None:
    """Write a candidate; see `write`."""
    write(folder.candidate_file(candidate.number), candidate.to_dict())


def write_skipped(folder: StudyFolder, skipped: Skipped) -> None:
    """Write down that a recipe was not trained; see `write`."""
    write(folder.skipped_file(skipped.number), skipped.to_dict())


def remove_skipped(folder: StudyFolder, number: int) -> None:
    """Forget that a recipe was not trained, for it was taken up again."""
    folder.skipped_file(number).unlink(missing_ok=True)


def write(path: Path, values: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write a record.

    Raises:
        TargetUnavailable: if the disk is full or the folder can't be written.
    """
    write_atomically(path, json_text.sealed(values, indent=indent))


def read_values(path: Path) -> dict[str, Any]:
    """The values of a record, the inverse of `write`.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is damaged.
    """
    return json_text.unsealed(path.read_bytes())


def set_aside(folder: StudyFolder) -> tuple[Damage, ...]:
    """Move damaged records out of the way, so that they are made again; only for who holds the study's lock.

    Nothing is deleted: each is renamed as `place_aside` says.

    Raises:
        TargetUnavailable: if one can't be renamed.
    """
    return tuple(_moved(damage) for damage in read(folder).damaged)


def _moved(damage: Damage) -> Damage:
    place = place_aside(damage.path)
    try:
        os.rename(damage.path, place)
    except OSError as error:
        raise TargetUnavailable(f"{damage.path}: damaged, and can't be set aside ({error.strerror})") from error
    return dataclasses.replace(damage, aside=place.name)


def _read(path: Path, make: Callable[[Mapping[str, Any]], T]) -> T | Damage | None:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for ever
            return Damage(path=path, reason="it is no file")
        if found.st_size > LARGEST_BYTES:
            return Damage(path=path, reason=f"it has {found.st_size} bytes")
        return make(read_values(path))
    except FileNotFoundError:
        return Damage(path=path, reason="it is a link to nothing") if path.is_symlink() else None
    except OSError as error:
        return Damage(path=path, reason=f"it can't be read ({error.strerror})")
    except (ValueError, ConfigError) as error:
        return Damage(path=path, reason=str(error))


def _expect_number(found: int, expected: int) -> None:
    if found != expected:
        raise ConfigError(f"expected the number in its name, {expected}, got {found}")


def _expect_metrics(candidate: Candidate, quality: Metric) -> None:
    """Refuse metrics that the study does not have, and a candidate without the task's own."""
    unknown = [name for name in candidate.measurements if name != quality.name and name not in STANDARD]
    if unknown:
        raise ConfigError(f"the study has no metric {unknown[0]}")
    if not candidate.failed and quality.name not in candidate.measurements:
        raise ConfigError(f"{quality.name} is missing, and it did not fail")
    if not candidate.failed:
        expect_outcomes("outcomes", candidate.outcomes, candidate.measurements[quality.name].n)


def _expect_stored(candidate: Candidate, store: Store) -> None:
    """Refuse a size that is not that of the candidate's file in the store, where that is there and intact."""
    size, key = candidate.value("size_bytes"), candidate.file
    if size is None or not key.isalnum():
        return
    try:
        stored = store.size(key)
        if stored is None or stored == size:
            return
        content = store.path(key).read_bytes()[-stored:]
    except OSError:  # what can't be looked at says nothing against the record
        return
    if hashlib.sha256(content).hexdigest() == candidate.sha256:  # else it is the store that is damaged
        raise ConfigError(f"size_bytes: expected {stored}, the size of its file in the store, got {size:.0f}")
