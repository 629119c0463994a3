"""Reading a study's results back, and writing the bundle that a person ships."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoopt.core.candidate import Candidate
from autoopt.core.reprs import typed
from autoopt.core.results import Pick, Results
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Manifest
from autoopt.study import on_end, records
from autoopt.study.folder import StudyFolder
from autoopt.study.layout import STUDY_YAML
from autoopt.study.records import Known
from autoopt.system.files import write_atomically

NAMED = 3
"""Damaged records that a warning names."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SavedResults(Results):
    """Results that lie in a study's folder, from which candidates can be exported.

    Attributes:
        folder: the study's.
        damaged: records that can't be relied on and are left out; running the study again restores them.
        reasons: what is wrong with each of them.
        manifest: key of the task in the study's store; `` of a study that was run before that was written down.
    """

    folder: StudyFolder
    damaged: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    manifest: str = ""

    def warning(self) -> str:
        """One line that names what is damaged and left out; `` where nothing is."""
        if not self.damaged:
            return ""
        again = f"`autoopt run {typed(self.folder.path)}` restores what it can"
        if len(self.damaged) == 1:
            return f"{self.damaged[0]} is damaged and left out ({self.reasons[0]}); {again}"
        named = [f"{path}: {why}" for path, why in zip(self.damaged[:NAMED], self.reasons, strict=False)]
        more = [f"and {len(self.damaged) - NAMED} more"] if len(self.damaged) > NAMED else []
        return f"{len(self.damaged)} records are damaged and left out ({'; '.join(named + more)}); {again}"

    def file(self, candidate: Candidate) -> bytes:
        """The candidate's `.tflite`.

        Raises:
            ConfigError: if the candidate failed.
            TargetUnavailable: if the store has lost it.
        """
        if candidate.failed:
            raise ConfigError(f"{candidate.name} failed ({candidate.failed_stage}: {candidate.reason}); it has no file")
        data = Store(self.folder.store()).get(candidate.file)
        if data is None:
            raise TargetUnavailable(
                f"the store {self.folder.store()} has lost the file of {candidate.name}; ",
                call=f"autoopt.run({str(self.folder.path)!r}, recipes=[candidate.recipe]) makes it again",
                command=f"`autoopt run {typed(self.folder.path)} --recipe RECIPE.json` makes it again",
            )
        return data

    def task(self) -> Manifest | None:
        """The study's task, or None if its store does not know it any more."""
        try:
            text = Store(self.folder.store()).get(self.manifest) if self.manifest else None
            return None if text is None else Manifest.from_json(text)
        except (ValueError, KeyError, TypeError, TargetUnavailable):
            return None

    def export(
        self,
        number: int | str | Candidate | Pick,
        to: str | os.PathLike[str],
        *,
        force: bool = False,
        samples: bool = True,
        replace: bool = False,
        model_card: bool = False,
    ) -> Path:
        """Write a candidate's bundle: the model, its card, code that runs it, how to check it, how to make it again.

        Args:
            number: of the candidate, or the candidate, or a pick.
            to: a folder that does not exist yet.
            force: overwrite an earlier bundle there.
            samples: take a few real items of the validation data along, with the outputs on them.
            replace: the same as `force`, by its earlier name.
            model_card: make its `README.md` a model card of the Hugging Face Hub.

        Returns:
            the folder.

        Raises:
            ConfigError: if there is no such candidate, nothing was picked, or something else is in the way.
            TargetUnavailable: if the store has lost it, or the folder can't be written.
        """
        candidate, target = self._chosen(number), Path(to)
        file = self.file(candidate)
        from autoopt.reporting.bundle import bundle  # what only reads results does without it

        ours = (force or replace) and (target / "card.json").exists()
        if target.exists() and not ours and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(
                f"{target}: exists already; give another folder, or ",
                call="force=True for an earlier bundle",
                command="--force for an earlier bundle",
            )
        foreign = sorted(p.name for p in target.iterdir() if p.name not in bundle.NAMES) if target.exists() else []
        if foreign:
            raise ConfigError(
                f"{target}: holds {foreign[0]}, which is of no bundle; move it away, or give another folder"
            )
        store = Store(self.folder.store())
        written = (self.folder.settings, self.folder.preparation)
        sources = {path.name: path.read_bytes() for path in written if path.is_file()}
        if STUDY_YAML in sources:  # whom a night tells of its end is nobody else's business
            sources[STUDY_YAML] = on_end.without(sources[STUDY_YAML])
        manifest = self.task()
        files = bundle.make(
            self, candidate, file, manifest=manifest, store=store, samples=samples, hub=model_card, more=sources
        )
        _write(files, target)
        return target

    def _chosen(self, given: int | str | Candidate | Pick) -> Candidate:
        if isinstance(given, Pick):
            if given.candidate is None:
                raise ConfigError(f"nothing was picked, so nothing is exported: {given.why}")
            return given.candidate
        return given if isinstance(given, Candidate) else self.find(given)


def _write(files: Mapping[str, bytes], target: Path) -> None:
    """Write a folder so that it is there as a whole, or not at all; what is there already is replaced."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            made = Path(folder, "bundle")
            for name, data in files.items():
                write_atomically(made / name, data)
            if target.exists():
                os.rename(target, Path(folder, "replaced"))
            os.rename(made, target)
    except OSError as error:
        raise TargetUnavailable(f"{target}: can't write the bundle ({error.strerror})") from error


def load(study: str | os.PathLike[str]) -> SavedResults:
    """The results of a study, finished or still running.

    Args:
        study: the study's folder.

    Raises:
        ConfigError: if it is no study, or was never run.
    """
    return load_again(StudyFolder(study), Known())


def load_again(folder: StudyFolder, known: Known) -> SavedResults:
    """The results of a study as `load` gives them, of which only what has changed is read.

    Args:
        folder: of the study.
        known: what was read before; it is brought up to date.

    Raises:
        ConfigError: as of `load`.
    """
    found = records.read(folder, known)
    header = found.header
    if header is None:
        damage = next((d for d in found.damaged if d.path == folder.header), None)
        if damage is None:
            how = f"run `autoopt run {typed(folder.path)}` first, or autoopt.run in Python"
            raise ConfigError(f"{folder.path}: no results yet; {how}")
        how = f"run `autoopt run {typed(folder.path)}` to restore it, or autoopt.run in Python"
        raise ConfigError(f"{damage.path}: can't be read ({damage.reason}); {how}")
    return SavedResults(
        study=header.study,
        metrics=header.metrics,
        quality=header.quality.name,
        objectives=header.objectives,
        budgets=header.budgets,
        candidates=found.candidates,
        skipped=found.skipped,
        provenance=header.provenance,
        manifest=header.manifest,
        equivalence=header.equivalence,
        folder=folder,
        damaged=tuple(str(damage.path) for damage in found.damaged),
        reasons=tuple(damage.reason for damage in found.damaged),
    )
