"""What a job may see, and the small things that several kinds of jobs do."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from autoopt.errors import ResultLost
from autoopt.execution import split_store
from autoopt.execution.artifact_store import Store
from autoopt.models.task import Manifest, Split


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a job may see beside its settings.

    Attributes:
        store: for the task's model and data.
        parents: results of the jobs before it.
        settings: its own.
        threads: that it may use.
        progress: tells people what it is at, in a few words.
        foretell: says how many seconds the job will take in all, once that is known.
    """

    store: Store
    parents: Sequence[bytes]
    settings: Mapping[str, Any]
    threads: int
    progress: Callable[[str], None]
    foretell: Callable[[float], None] = lambda _: None

    def result(self, key: str) -> bytes:
        """What the task has in the store under a key."""
        return self._get(key)

    def manifest(self) -> Manifest:
        """The task, named by the setting `task`."""
        return Manifest.from_json(self._get(self.settings["task"]))

    def split(self, name: str, items: int = 0) -> Split:
        """One of the task's splits, mapped into memory.

        Args:
            name: of the split.
            items: so many of it at random, the same ones each time; 0 for all.
        """
        key = self.manifest().splits[name]
        whole = _there(key, split_store.get(self.store, key))
        return whole if not 0 < items < len(whole) else split_store.part(self.store, key, whole, items)

    def _get(self, key: str) -> bytes:
        return _there(key, self.store.get(key))


T = TypeVar("T")


def _there(key: str, found: T | None) -> T:
    """What the store was asked for.

    Raises:
        ResultLost: if it is not there.
    """
    if found is None:
        raise ResultLost(f"the store lost the task's data ({key[:12]}); run the same command again")
    return found


def limit_threads(threads: int) -> None:
    """Have TensorFlow take so many threads in this process; before its first operation, or it has no effect."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def to_json(values: Mapping[str, Any]) -> bytes:
    """A job's result as JSON: equal values give equal bytes."""
    return json.dumps(values, sort_keys=True, allow_nan=False).encode()
