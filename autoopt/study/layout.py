"""Where the files of a study lie and what they are called.

NAME/study.yaml NAME/task.py     what the user writes
NAME/out/                        everything produced; may be deleted as a whole
"""

import os
import re
from pathlib import Path

STUDY_YAML = "study.yaml"
PREPARATION = "preparation.json"
"""What was done to raw data before the model saw it, where `autoopt init` did it."""
_RECORD = re.compile(r"(\d{5}|[1-9]\d{5,17})\.json", re.ASCII)
"""How files of records are named; copies that a sync tool or an editor leaves beside them are named otherwise."""


class Layout:
    """The paths of a study's files, whether they are there or not.

    Args:
        path: of the study's folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The study's name: its folder's."""
        return self.path.resolve().name

    @property
    def settings(self) -> Path:
        """What the user writes: the study's configuration."""
        return self.path / STUDY_YAML

    @property
    def preparation(self) -> Path:
        """What was done to raw data, if `autoopt init` made arrays of it."""
        return self.path / PREPARATION

    @property
    def out(self) -> Path:
        """Everything produced."""
        return self.path / "out"

    @property
    def lock_file(self) -> Path:
        """Held by the driver that runs the study, whose process number stands in it."""
        return self.out / "driver.lock"

    @property
    def database(self) -> Path:
        """Optuna's."""
        return self.out / "study.db"

    @property
    def identity(self) -> Path:
        """What all results of the study have in common, see `identity.Identity`."""
        return self.out / "identity.json"

    @property
    def header(self) -> Path:
        """What is needed to judge the candidates: metrics, objectives, budgets, provenance."""
        return self.out / "study.json"

    @property
    def candidates(self) -> Path:
        """A JSON file a candidate."""
        return self.out / "candidates"

    @property
    def skipped(self) -> Path:
        """A JSON file a recipe that was not trained."""
        return self.out / "skipped"

    @property
    def table(self) -> Path:
        """The candidates as CSV, for people and spreadsheets."""
        return self.out / "candidates.csv"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.out / "report.html"

    @property
    def now(self) -> Path:
        """What the driver is at, for whoever watches from outside; gone when it ends."""
        return self.out / "now.json"

    @property
    def last_run(self) -> Path:
        """What was asked of the last run, and how it ended."""
        return self.out / "run.json"

    @property
    def pick(self) -> Path:
        """The recommended candidate's bundle."""
        return self.out / "pick"

    @property
    def usual_store(self) -> Path:
        """The store's folder, where no other was asked for."""
        return self.out / "store"

    @property
    def store_note(self) -> Path:
        """Says where the store is, if it is elsewhere."""
        return self.out / "store.path"

    def candidate_file(self, number: int) -> Path:
        """Where a candidate's JSON is."""
        return self.candidates / record(number)

    def skipped_file(self, number: int) -> Path:
        """Where it is written down why a recipe was not trained."""
        return self.skipped / record(number)

    def candidate_files(self) -> dict[int, Path]:
        """The files of candidates that are there, by number, from the lowest on."""
        return _records(self.candidates)

    def skipped_files(self) -> dict[int, Path]:
        """The files of recipes that were not trained that are there, by number, from the lowest on."""
        return _records(self.skipped)


def record(number: int) -> str:
    """The name of a record's file."""
    return f"{number:05d}.json"


def place_aside(path: Path) -> Path:
    """A free place beside a damaged record: `00003.json.damaged`, or `00003.json.damaged.2` where that is taken.

    Args:
        path: of the record.
    """
    place, count = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(place):
        count += 1
        place = path.with_name(f"{path.name}.damaged.{count}")
    return place


def _records(folder: Path) -> dict[int, Path]:
    """The records in a folder by number: files with the exact name that `record` gives."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(name.removesuffix(".json")) for name in names if _RECORD.fullmatch(name))
    return {number: folder / record(number) for number in numbers}
