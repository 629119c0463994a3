"""What a new study is made from besides its model: the protocol of the kinds of data that `autoopt init` takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autoopt.execution import criteria
from autoopt.models import labels as labels_of
from autoopt.models import user_data
from autoopt.models.labels import Inferred, Meaning
from autoopt.models.task import Split

PARTS = ("train", "validation", "test")
PREPARATION = "preparation.json"
"""In a study's folder: what was done to the raw data before the model saw it."""
CLASS_NAMES = "class_names.json"
Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Told how many items are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Data that lies in a study's folder, and how its `task.py` reads it.

    Attributes:
        loss: that labels and outputs look like.
        meaning: how labels are read.
        splits: by name, the expression that gives inputs and labels.
        imports: modules that are needed for that.
        functions: what stands above `task()`.
        begin: what `task()` begins with.
        class_names: the expression that gives them, or ``.
    """

    loss: Inferred
    meaning: Meaning
    splits: Mapping[str, str]
    imports: tuple[str, ...] = ()
    functions: str = ""
    begin: str = ""
    class_names: str = ""

    @property
    def metric(self) -> str:
        """The metric that suits the labels."""
        return "mae" if self.meaning.kind == labels_of.VALUES else "accuracy"


class GivenData(Protocol):
    """A kind of data that a study can be made from."""

    @property
    def path(self) -> Path:
        """Of the data, for messages."""

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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a model makes of some items.

    Attributes:
        loss: that all labels and these outputs look like.
        meaning: how labels are read.
        outputs: shape (items, ...).
    """

    loss: Inferred
    meaning: Meaning
    outputs: np.ndarray = field(repr=False)


def look(model: Any, labels: np.ndarray, some: Split, where: str) -> Seen:
    """The loss that labels and outputs look like, and how they are read.

    Args:
        model: that was taken in.
        labels: shape (items, ...), of all items.
        some: of the items.
        where: for messages.

    Raises:
        ConfigError: if items are not such as the model takes, or labels fit no loss.
    """
    user_data.check_split(some, where, model)
    outputs = criteria.given_by(model, some)
    loss = labels_of.infer_loss(labels, outputs, some.labels, where)
    return Seen(loss=loss, meaning=labels_of.read(labels, outputs, some.labels, loss.described, where), outputs=outputs)
