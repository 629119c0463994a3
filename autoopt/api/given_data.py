"""What a new study is made from besides its model: the protocol of the kinds of data that `autoopt init` takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autoopt.execution.likely_scaling import Look

PARTS = ("train", "validation", "test")
CLASS_NAMES = "class_names.json"
Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Told how many items are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Data that lies in a study's folder, and how its `task.py` reads it.

    Attributes:
        look: what the model makes of some of the items.
        splits: by name, the expression that gives inputs and labels.
        imports: lines of the standard library that are needed for that, in their order.
        functions: what stands above `task()`.
        begin: what `task()` begins with.
        class_names: the expression that gives them, or ``.
    """

    look: Look
    splits: Mapping[str, str]
    imports: tuple[str, ...] = ()
    functions: str = ""
    begin: str = ""
    class_names: str = ""


class GivenData(Protocol):
    """A kind of data that a study can be made from."""

    @property
    def path(self) -> Path:
        """The path of the data, by which messages name it."""

    def fill(self, folder: Path, model: Any, say: Say, progress: Progress) -> Filled:
        """Write the data into a study's folder.

        Args:
            folder: of the study.
            model: that was taken in; it has one input and one output.
            say: told what a person should know.
            progress: told how far it is, where it takes long.

        Raises:
            ConfigError: if the data is not such as the model takes.
        """
