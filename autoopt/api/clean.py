"""Making room: what of a study's store can go, since nothing on its front needs it."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.core.metrics import show_bytes
from autoopt.core.recipe import Recipe
from autoopt.core.reprs import typed
from autoopt.core.validation import expect_one_of
from autoopt.errors import ConfigError
from autoopt.execution import store_entries
from autoopt.execution.artifact_store import Store
from autoopt.execution.store_entries import Entry
from autoopt.search import store_limit, store_needs
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Known

KEEP = ("front",)
"""What may be kept."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What went, or would go.

    Attributes:
        store: the store's folder.
        bytes: of all files in it before.
        entries: what went or would go, in that order.
        kinds: by the key of each, its kind.
        removed: whether they are gone.
    """

    store: Path
    bytes: int
    entries: tuple[Entry, ...]
    kinds: Mapping[str, str]
    removed: bool

    @property
    def freed(self) -> int:
        """Bytes of what went or would go."""
        return sum(entry.bytes for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: how many of each kind, and their bytes."""
        kinds: dict[str, dict[str, int]] = {kind: {"number": 0, "bytes": 0} for kind in store_needs.KINDS}
        for entry in self.entries:
            found = kinds[self.kinds[entry.key]]
            found["number"] += 1
            found["bytes"] += entry.bytes
        return {
            "store": str(self.store),
            "bytes": self.bytes,
            "freed": self.freed,
            "removed": self.removed,
            "kinds": kinds,
        }

    def text(self) -> str:
        """A line for people."""
        where = f"{self.store}: {show_bytes(self.bytes)}"
        if not self.entries:
            return f"{where}; nothing can go"
        what = store_limit.in_words(self.entries, self.kinds)
        return f"{where}; removed {what}" if self.removed else f"{where}; {what} can go; `--yes` removes them"


def clean(study: str | os.PathLike[str], *, keep: str = "front", remove: bool = False) -> Cleaned:
    """Find what a study's store holds and nothing on its front needs, and remove it if that is asked for.

    Training states, trained models and files of candidates that others beat, that failed or were skipped go; what the front
    of this study or of another one in the store needs stays, and what candidates need that are not done. Measurements stay.

    Args:
        study: the study's folder.
        keep: what stays, one of `KEEP`.
        remove: do so; else only look.

    Raises:
        ConfigError: if it is no study, or was never run.
        TargetUnavailable: if it runs at this moment, or it can't be known what must stay.
    """
    expect_one_of("keep", keep, KEEP)
    folder = StudyFolder(study)
    store = Store(folder.store())
    with contextlib.ExitStack() as stack:
        if remove:
            stack.enter_context(folder.lock())
        found = store_needs.past(folder, store, Known())
        if found is None:
            raise ConfigError(f"{folder.path}: no results yet; run `autoopt run {typed(folder.path)}` first")
        wanted = store_needs.others(store, folder, defaultdict(Known))
        made: dict[Recipe, Mapping[str, str]] = {}
        kinds = store_needs.dispensable(found.results, found.setting, wanted, made)
        held = store_entries.look(store)
        entries = tuple(store_limit.order(held, kinds))
        if remove:
            store_entries.remove(store, entries)
    return Cleaned(store=store.root, bytes=held.bytes, entries=entries, kinds=kinds, removed=remove)
