"""A limit for the store: when a search grows it beyond, what is needed least goes.

First the states of trainings that are not under way, the oldest first, then trained models and files of candidates that
others beat. What the front of any study in the store needs stays, and what candidates at work or waiting need.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoopt.core.metrics import show_bytes
from autoopt.core.recipe import Recipe
from autoopt.errors import TargetUnavailable
from autoopt.execution import store_entries
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import plan
from autoopt.execution.store_entries import Entry, Held
from autoopt.search import store_needs
from autoopt.search.driver import Driver
from autoopt.search.store_needs import KINDS
from autoopt.study import store_users
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Known

DOWN_TO = 0.9
"""Of the limit: so much is left when something goes, so that not every candidate makes something go."""
SHARE = 0.01
"""Of the time at most, that is spent on looking how large the store is and what can go."""
EVERY_S = 60.0
"""How often to look where nothing ends: the states of trainings grow meanwhile."""


def order(held: Held, kinds: Mapping[str, str]) -> list[Entry]:
    """What may go, in the order in which it goes: by kind, then the oldest first.

    Args:
        held: by the store.
        kinds: by key of what may go, its kind.
    """
    rank = {kind: number for number, kind in enumerate(KINDS)}
    there = [held.entries[key] for key in kinds if key in held.entries]
    return sorted(there, key=lambda entry: (rank[kinds[entry.key]], entry.written, entry.key))


def enough(entries: Iterable[Entry], size: float) -> list[Entry]:
    """The first of them that hold so many bytes together; all where they hold fewer."""
    found, freed = [], 0
    for entry in entries:
        if freed >= size:
            break
        found.append(entry)
        freed += entry.bytes
    return found


def in_words(entries: Sequence[Entry], kinds: Mapping[str, str]) -> str:
    """How many of each kind, and their bytes: `3 training states, 2 trained models (1.2 GB)`."""
    counts = Counter(kinds[entry.key] for entry in entries)
    told = [f"{counts[kind]} {kind if counts[kind] != 1 else kind[:-1]}" for kind in KINDS if counts[kind]]
    return f"{', '.join(told)} ({show_bytes(sum(entry.bytes for entry in entries))})"


@dataclass(kw_only=True)
class StoreLimit:
    """Keeps a run's note in its store up to date, and the store within its limit.

    Attributes:
        store: of the study.
        limit: bytes; None for as many as the disk holds.
    """

    store: Store
    limit: float | None
    _earlier: frozenset[str] = frozenset()
    _begun: dict[int, set[str]] = field(default_factory=dict)
    _signed: frozenset[str] | None = None
    _known: defaultdict[Path, Known] = field(default_factory=lambda: defaultdict(Known))
    _made: dict[Recipe, Mapping[str, str]] = field(default_factory=dict)
    _ended: int = -1
    _looked: float = -math.inf
    _look_again: float = -math.inf
    _gave_up: str = ""

    def begin(self, folder: StudyFolder) -> None:
        """Leave the study's note before anything else of it is there, with what it needed when it last ran.

        What it left undone then may not be taken up yet.
        """
        self._earlier = self._signed = store_users.own_needs(self.store, folder)
        store_users.sign(self.store, folder, self._earlier)

    def turn(self, driver: Driver) -> None:
        """Note down what candidates at work need, and hold the limit where some have ended, or a while has passed."""
        self._sign(driver, self._earlier)
        ended, now = len(driver.ledger.candidates) + len(driver.ledger.skipped), time.monotonic()
        if self.limit is None or now < self._look_again or (ended == self._ended and now < self._looked + EVERY_S):
            return
        self._hold(driver, self.limit)
        self._ended, self._looked, took = ended, now, time.monotonic() - now
        self._look_again = now + took / SHARE

    def end(self, driver: Driver, *, left: bool) -> None:
        """Note down what is still needed when a run ends.

        Args:
            driver: of the run.
            left: whether what an earlier run left undone is so still.
        """
        self._sign(driver, self._earlier if left else frozenset())
        if self.limit is not None:
            self._hold(driver, self.limit)

    def _sign(self, driver: Driver, earlier: frozenset[str]) -> None:
        for number, run in driver.runs.items():
            self._begun[number] = self._begun.get(number, set()) | store_needs.keys(run.plan)
        done = {*driver.ledger.candidates, *driver.ledger.skipped} - set(driver.runs)
        self._begun = {number: keys for number, keys in self._begun.items() if number not in done}
        needs = earlier.union(*self._begun.values())
        if needs != self._signed:
            store_users.sign(self.store, driver.ledger.folder, needs)
            self._signed = needs

    def _hold(self, driver: Driver, limit: float) -> None:
        """Look how large the store is, and make room where it is over the limit."""
        held = store_entries.look(self.store)
        if held.bytes <= limit:
            return
        try:
            removed, kinds = self._make_room(driver, held, held.bytes - DOWN_TO * limit)
        except TargetUnavailable as error:
            self._give_up(driver, str(error))
            return
        size = held.bytes - sum(entry.bytes for entry in removed)
        if removed:
            driver.view.note(
                f"the store was over its limit ({show_bytes(held.bytes)} of {show_bytes(limit)}); removed "
                f"{in_words(removed, kinds)} that nothing on the front needs"
            )
        if size > limit:
            self._give_up(
                driver, f"{show_bytes(size)} are left, of data, measurements, the front and candidates at work"
            )

    def _make_room(self, driver: Driver, held: Held, size: float) -> tuple[list[Entry], Mapping[str, str]]:
        results, setting = driver.ledger.results(), driver.setting
        kinds = store_needs.dispensable(results, setting, self.needs(driver), self._made)
        removed = enough(order(held, kinds), size)
        store_entries.remove(self.store, removed)
        return removed, kinds

    def needs(self, driver: Driver) -> set[str]:
        """Keys of what must stay for what is at work or waits here, and for other studies.

        Raises:
            TargetUnavailable: if what others need can't be known.
        """
        setting, waiting = driver.setting, driver.agenda.ahead()
        ahead = (store_needs.keys(plan(recipe, setting, begin=True)) for recipe in waiting)
        return store_needs.others(self.store, driver.ledger.folder, self._known).union(*self._begun.values(), *ahead)

    def _give_up(self, driver: Driver, why: str) -> None:
        """Say once that the limit can't be held, and go on."""
        if not self._gave_up:
            driver.view.note(f"the store's limit can't be held: {why}; the search goes on")
        self._gave_up = why
