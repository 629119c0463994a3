"""What it takes to go on with a training that was stopped or killed, and when that is worth writing down."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LONGEST_S = 600.0
"""Seconds of training that a kill may cost, where an epoch takes longer than that."""
SHARE = 0.03
"""Share of a training's time that goes into keeping its state."""
FREE_S = 1.0
"""Seconds that keeping the state may take in any case, so that short trainings are kept too."""
BYTES_PER_S = 2e8
"""How fast a state is taken to be written, until the first one was."""

Arrays = list[np.ndarray]


@dataclass(kw_only=True)
class Progress:
    """How far a training has come, and what it takes to go on with it.

    Attributes:
        history: loss and quality of each epoch that is done.
        best: the best epoch (counting from 1) since the technique is in force; 0 before.
        best_weights: of that epoch, in the order of `get_weights`.
        weights: of the model now, with the technique's own variables; None before the first epoch.
        optimizer: its variables.
        step: batches of the epoch after those of `history` that were trained on already.
        sums: of these batches' losses, as Keras' metrics hold them.
        random: states of the layers that draw random numbers.
        seconds: of each epoch that was trained in this process.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    best_weights: Arrays = field(default_factory=list)
    weights: Arrays | None = None
    optimizer: Arrays = field(default_factory=list)
    step: int = 0
    sums: Arrays = field(default_factory=list)
    random: Arrays = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """About how many bytes `to_bytes` gives."""
        best = [] if self.best_weights is self.weights else self.best_weights
        return sum(array.nbytes for array in [*(self.weights or []), *self.optimizer, *best])

    def to_bytes(self) -> bytes:
        """`from_bytes` is the inverse."""
        latest = self.best_weights is self.weights  # the same weights once are enough
        meta = {"history": self.history, "best": self.best, "step": self.step, "latest": latest}
        best = [] if latest else self.best_weights
        groups = {"w": self.weights or [], "o": self.optimizer, "b": best, "s": self.sums, "r": self.random}
        arrays: dict[str, Any] = {f"{kind}{i:05}": a for kind, group in groups.items() for i, a in enumerate(group)}
        out = io.BytesIO()
        np.savez(out, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Progress":
        """What `to_bytes` made, also that of versions that knew whole epochs alone."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
            groups = {k: [arrays[n] for n in sorted(arrays.files) if n[0] == k and n != "meta"] for k in "wobsr"}
        latest = meta.pop("latest", not groups["b"])
        return cls(
            **meta,
            weights=groups["w"],
            optimizer=groups["o"],
            best_weights=groups["w"] if latest else groups["b"],
            sums=groups["s"],
            random=groups["r"],
        )


class Keeper:
    """Writes a training's state down after its epochs, and within an epoch that takes long, for a small share of its time.

    Args:
        put: where a state goes; None to keep none.
    """

    def __init__(self, put: Callable[[bytes], None] | None) -> None:
        self._put = put
        self._began = self._last = time.monotonic()
        self._spent, self._cost = 0.0, 0.0

    def overdue(self) -> bool:
        """Whether a kill would now cost more than `LONGEST_S` seconds."""
        return self._put is not None and time.monotonic() - self._last >= LONGEST_S

    def offer(self, progress: Progress) -> None:
        """Write it down, if the training has gone on for long enough to pay for that."""
        if self._put is None:
            return
        started = time.monotonic()
        cost = self._cost or progress.size / BYTES_PER_S
        if self._spent + cost > FREE_S + SHARE * (started - self._began):
            return
        self._put(progress.to_bytes())
        self._last = time.monotonic()
        self._cost = self._last - started
        self._spent += self._cost
