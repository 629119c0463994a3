"""Reads a stream of data once, into array files that every job maps into memory.

A study that goes on compares the stream with the files that it has, and writes nothing where they are the same.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.models import item_weights, streams
from autoopt.models.answers import Growing, shaped
from autoopt.models.columns import Columns, Files, same
from autoopt.models.streams import Stream
from autoopt.models.task import Inputs, Split, side_by_side

LABELS = "labels"
MB = 1e6
SPARE_BYTES = 256 * MB
"""That are left free on the disk, for the files of the study itself."""
HEAD, WHOLE_S = 64, 5.0
"""Items that are read a second time, to see that a second pass gives the same; all of them where the first took no longer."""
TOLD_S = 2.0
"""Between two words on how far the reading is."""
CYCLE = 32
"""Items in a row that are those in front again, by which a stream is seen to go round."""
DOUBLES, MOST_DIFFERENT = 2000, 100_000
"""So many items for each different one show that a shuffled stream never ends; where there are more of those, the disk does."""
MOST_ROUNDS, FEW_ROUNDS, FEW_BYTES = 50, 3, 1e9
"""So often nobody repeats a set on purpose; and so often nobody does that with a set of so many bytes."""


@dataclass(frozen=True, kw_only=True)
class Spool:
    """Where a stream is kept.

    Attributes:
        folder: that exists, for this stream alone.
        before: what the study had of it when it last ran; None if it is new.
        progress: told how far the reading is, in a few words.
        files: those that are written are added to it.
    """

    folder: Path
    before: Split | None = None
    progress: Callable[[str], None] = lambda _: None
    files: Files = field(default_factory=dict)


Parts = Callable[[tuple[Any, ...]], tuple[Inputs, list[np.ndarray]]]
"""Makes arrays of a batch, or says what is wrong with it: inputs by name, and the labels of each output."""


def read(stream: Stream, where: str, model: Any, spool: Spool, parts: Parts) -> tuple[Inputs, list[np.ndarray], Any]:
    """Read a stream to its end.

    Args:
        stream: of batches.
        where: for messages.
        model: whose inputs and labels they are.
        spool: where they are kept.
        parts: how a batch is taken apart.

    Returns:
        inputs by name, mapped; the labels of each output; weights as they were given, None for none.

    Raises:
        ConfigError: if it is empty or never ends, its items change shape or dtype, or a second pass gives others.
        TargetUnavailable: if the disk can't hold it.
    """
    reading, started = _Reading(stream, where, spool), time.monotonic()
    with Columns(spool.folder) as columns:
        for elements, batch in streams.batches(stream, where, model):
            inputs, labels = parts(batch)
            reading.take(columns, inputs, labels, batch[2] if len(batch) == 3 else None, elements)
        if not reading.items:
            raise ConfigError(f"{where}: empty; expected one item or more")
        reading.settle(columns)
    arrays = reading.arrays(columns)
    few = reading.items if time.monotonic() - started < WHOLE_S else min(HEAD, reading.items)
    _expect_same_again(stream, where, model, parts, arrays, few)
    inputs = {name: arrays[file] for file, name in reading.names.items()}
    labels = [arrays[f"{LABELS}_{i}"] for i in range(reading.outputs)]
    return inputs, labels, reading.weights()


class _Reading:
    """One pass over a stream.

    Attributes:
        items: that were read.
        names: of the inputs, by the names of their files.
        outputs: how many have labels.
    """

    def __init__(self, stream: Stream, where: str, spool: Spool) -> None:
        self.stream, self.where, self.spool = stream, where, spool
        self.items, self.names, self.outputs = 0, dict[str, str](), 0
        self._same = spool.before is not None
        self._weights: Any = None
        self._shapes: list[tuple[int, ...]] = []
        self._elements, self._bytes, self._told = 0, 0, time.monotonic()
        self._heads: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._cycle = _Cycle()

    def take(self, columns: Columns, inputs: Inputs, labels: list[np.ndarray], weights: Any, elements: int) -> None:
        """Keep a batch, unless the study has it already."""
        self.names = {f"input_{i}": name for i, name in enumerate(inputs)}
        self.outputs = len(labels)
        batch = dict(zip(self.names, inputs.values(), strict=True))
        batch |= {f"{LABELS}_{i}": array for i, array in enumerate(labels)}
        size = self._expect_alike(batch)
        if self.stream.known is None:
            self._expect_end(batch, size)
        self._expect_weights(weights, size)
        if weights is not None:
            self._weights = _grown(self._weights, weights, f"{self.where}: weights", self.items)
        self._elements += elements
        self._bytes += sum(array.nbytes for array in batch.values())
        stands = self._same and _stands(self.spool.before, self.items, batch, self.outputs)
        if self._same and not stands:
            self._same = False
            self._copy(columns, self.items)
        if not self._same:
            self._expect_room(size)
            columns.append(batch)
        self.items += size
        self._tell()

    def _expect_end(self, batch: Mapping[str, np.ndarray], size: int) -> None:
        """Check that a stream does not go round and round."""
        rounds = self._cycle.rounds(batch, size)
        if rounds >= MOST_ROUNDS or (rounds >= FEW_ROUNDS and self._bytes > FEW_BYTES):
            raise ConfigError(
                f"{self.where}: the {self.stream.what} begins again and again after {self._cycle.length:,} items: does it "
                "never end? expected one pass over the data"
            )
        if self._cycle.different and self._cycle.seen >= DOUBLES * self._cycle.different:
            raise ConfigError(
                f"{self.where}: the {self.stream.what} gave only {self._cycle.different:,} different items among "
                f"{self._cycle.seen:,}: does it never end? expected one pass over the data"
            )

    def _expect_weights(self, weights: Any, size: int) -> None:
        """Check that a batch has a weight for each of its items."""
        for array in streams.leaves(weights) if weights is not None else ():
            if array.ndim == 0 or len(array) != size:
                raise ConfigError(
                    f"{self.where}: weights: expected {size} in a batch of {size} items, one an item, got shape {array.shape}"
                )
        shapes = [array.shape[1:] for array in streams.leaves(weights)] if weights is not None else []
        if shapes != (self._shapes or shapes):
            raise streams.differ(f"{self.where}: weights", self.stream)
        self._shapes = shapes

    def settle(self, columns: Columns) -> None:
        """Write what the study has, where it had more than there is now."""
        if self._same and self.spool.before is not None and len(self.spool.before) != self.items:
            self._same = False
            self._copy(columns, self.items)

    def arrays(self, columns: Columns) -> dict[str, np.ndarray]:
        """What was read, by file."""
        if not self._same or self.spool.before is None:
            return columns.arrays(self.spool.files)
        return dict(_before(self.spool.before, self.outputs, self._heads, 0, self.items))

    def weights(self) -> Any:
        """The weights of all items, as they were given."""
        return None if self._weights is None else _arrays(self._weights)

    def _copy(self, columns: Columns, stop: int) -> None:
        """Write what was found to be as before, now that something is not."""
        if self.spool.before is None:
            return
        for first in range(0, stop, streams.STACKED):
            last = min(first + streams.STACKED, stop)
            columns.append(_before(self.spool.before, self.outputs, self._heads, first, last))

    def _expect_alike(self, batch: Mapping[str, np.ndarray]) -> int:
        """Check that a batch is like those before it; returns how many items it has."""
        sizes = {len(array) if array.ndim else -1 for array in batch.values()}
        if len(sizes) > 1 or -1 in sizes:
            shapes = ", ".join(str(array.shape) for array in batch.values())
            raise ConfigError(
                f"{self.where}: expected as many labels as inputs in a batch, got arrays of shapes {shapes}"
            )
        heads = {name: (array.shape[1:], array.dtype) for name, array in batch.items()}
        self._heads = self._heads or heads
        for name, (shape, dtype) in heads.items():
            known, kind = self._heads.get(name, (None, dtype))
            if shape != known:
                raise streams.differ(self.where, self.stream)
            if dtype != kind:
                raise ConfigError(
                    f"{self.where}: the {self.stream.what}'s items differ in dtype: {dtype} at item {self.items:,}, {kind} "
                    "before; convert them"
                )
        return sizes.pop()

    def _expect_room(self, size: int) -> None:
        """Check that the disk holds what is still to come, as far as that is known."""
        free = shutil.disk_usage(self.spool.folder).free - SPARE_BYTES
        left = 0.0 if self.stream.known is None else self._bytes / self._elements * (self.stream.known - self._elements)
        here = self._bytes / max(1, self.items + size) * size
        if left + here <= free:
            return
        told = f"{(left + here) / MB:,.0f} MB more" if self.stream.known is not None else "more"
        hint = f" after {self.items:,} items; does it never end?" if self.stream.known is None and self.items else ""
        raise TargetUnavailable(
            f"{self.where}: needs {told}, and {max(0, free) / MB:,.0f} MB are free in {self.spool.folder.parent}{hint}; free space, "
            "or name another store (--store), then run the same command again"
        )

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= TOLD_S:
            self._told = now
            share = f" ({self._elements / self.stream.known:.0%})" if self.stream.known else ""
            self.spool.progress(f"reading {self.items:,} items, {self._bytes / MB:,.0f} MB{share}")


class _Cycle:
    """Sees that a stream begins again: its first items in a row come another time, or hardly any item is new.

    Attributes:
        length: items after which it did, the last time.
        seen: items in all.
    """

    def __init__(self) -> None:
        self._first: list[int] = []
        self._known: set[int] = set()
        self._matched, self.seen, self._began, self._rounds, self.length = 0, 0, 0, 0, 0

    @property
    def different(self) -> int:
        """Different items; 0 where there are too many to count, or so few that they may well be all that there can be."""
        return len(self._known) if CYCLE <= len(self._known) < MOST_DIFFERENT else 0

    def rounds(self, batch: Mapping[str, np.ndarray], size: int) -> int:
        """How often it has begun again, with this batch."""
        for i in range(size):
            item = hash(tuple(array[i].tobytes() for array in batch.values()))
            self.seen += 1
            if len(self._known) < MOST_DIFFERENT:
                self._known.add(item)
            if len(self._first) < CYCLE:
                self._first.append(item)
                continue
            at_start = item == self._first[0]
            self._matched = self._matched + 1 if item == self._first[self._matched] else int(at_start)
            if self._matched == CYCLE:
                self._matched, began = 0, self.seen - CYCLE
                self.length, self._began = began - self._began, began
                self._rounds += len(set(self._first)) > 1
        return self._rounds


def _before(
    before: Split, outputs: int, heads: Mapping[str, tuple[tuple[int, ...], Any]], first: int, last: int
) -> dict[str, np.ndarray]:
    """Items of a split as the columns of a stream."""
    found = {f"input_{i}": array[first:last] for i, array in enumerate(before.inputs.values())}
    labels = before.labels[first:last]
    if outputs == 1:
        return found | {f"{LABELS}_0": labels}
    at = 0
    for i in range(outputs):
        shape, dtype = heads[f"{LABELS}_{i}"]
        size = int(np.prod(shape, dtype=np.int64))
        found[f"{LABELS}_{i}"] = shaped(labels[:, at : at + size], shape).astype(dtype, copy=False)
        at += size
    return found


def _stands(before: Split | None, first: int, batch: Mapping[str, np.ndarray], outputs: int) -> bool:
    """Whether a split holds these items from its item `first` on."""
    if before is None:
        return False
    labels = side_by_side([batch[f"{LABELS}_{i}"] for i in range(outputs)])
    given = [array for name, array in batch.items() if not name.startswith(LABELS)]
    known = list(before.inputs.values())
    last = first + len(labels)
    return (
        len(known) == len(given)
        and all(same(mine[first:last], array) for mine, array in zip(known, given, strict=True))
        and same(before.labels[first:last], labels)
    )


def _expect_same_again(
    stream: Stream, where: str, model: Any, parts: Parts, arrays: Mapping[str, np.ndarray], items: int
) -> None:
    """Check that the first items of a second pass are those of the first, as a study that goes on will read them again."""
    seen, there = 0, len(next(iter(arrays.values())))
    for _, batch in streams.batches(stream, where, model):
        inputs, labels = parts(batch)
        again = [*inputs.values(), *labels]
        size = len(again[0])
        if not all(same(array[seen : seen + size], one) for array, one in zip(arrays.values(), again, strict=True)):
            raise ConfigError(
                f"{where}: the second pass gave other items: leave out shuffle(), autoopt shuffles by itself; random changes "
                "belong to training alone, not to the data"
            )
        seen += size
        if items <= seen < there:
            return
    if seen < items:
        raise ConfigError(
            f"{where}: the second pass gave {seen:,} items, and the first {there:,}: it must give the same each time"
        )


def _grown(held: Any, part: Any, where: str, items: int) -> Any:
    """Weights of all items so far, in the structure in which those of a batch come: with large maps they go into files."""
    if isinstance(part, Mapping):
        return {name: _grown(None if held is None else held[name], one, where, items) for name, one in part.items()}
    if isinstance(part, tuple | list):
        return [_grown(None if held is None else held[i], one, where, items) for i, one in enumerate(part)]
    held = held or Growing()
    held.append(item_weights.numbers(part, where, items))
    return held


def _arrays(held: Any) -> Any:
    """Arrays in place of what has grown, in the same structure."""
    if isinstance(held, Mapping):
        return {name: _arrays(one) for name, one in held.items()}
    return [_arrays(one) for one in held] if isinstance(held, list) else held.array()
