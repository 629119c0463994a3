"""A few items and what the file made of them, as a bundle holds them; and running a file over them."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import CandidateFailed, ConfigError, TargetUnavailable
from autoopt.reporting.bundle import replay
from autoopt.reporting.bundle.ends import End
from autoopt.system import foreign_files
from autoopt.targets import litert_runner
from autoopt.targets.host import why

LIMIT_S = 300
REPLAY = Path(replay.__file__)
FACTS = ("runtime", "processor", "system")
"""What is told of the machine that ran them."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Items as a file takes them, and what it gave.

    Attributes:
        inputs: in the file's order, each of shape (items, ...), in the dtype that the file takes.
        outputs: likewise, in the dtype that the file gives.
        labels: the true classes, shape (items,), dtype int64; empty where they are no classes.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.outputs[0])

    def to_bytes(self) -> bytes:
        """Uncompressed `.npz`; `from_bytes` is the inverse."""
        arrays = dict(zip(_names(self.inputs, self.outputs), (*self.inputs, *self.outputs), strict=True))
        return _npz(arrays | ({"labels": self.labels} if len(self.labels) else {}))

    @classmethod
    def from_bytes(cls, data: bytes, where: str, inputs: Sequence[End], outputs: Sequence[End]) -> "Samples":
        """Read what `to_bytes` wrote; never unpickles.

        Args:
            data: the `.npz`.
            where: for messages.
            inputs: what the file takes.
            outputs: what it gives.

        Raises:
            ConfigError: if it is damaged, or holds something else.
        """
        names = _names(inputs, outputs)
        found = foreign_files.arrays(io.BytesIO(data), where, damaged="damaged")
        missing = [name for name in names if name not in found]
        if missing:
            raise ConfigError(f"{where}: expected {', '.join(names)}; {missing[0]} is missing")
        for name, end in zip(names, (*inputs, *outputs), strict=True):
            array = found[name]
            if array.shape[1:] != end.item or array.ndim == 0 or array.dtype.name != end.dtype:
                shape = ", ".join(map(str, ("items", *end.item)))
                raise ConfigError(
                    f"{where}: {name}: expected {end.dtype} of shape ({shape}), got {array.dtype} {array.shape}"
                )
        labels = found.get("labels", np.zeros(0, np.int64))
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ConfigError(f"{where}: labels: expected one class an item, got {labels.dtype} {labels.shape}")
        counts = {len(found[name]) for name in names} | ({len(labels)} if len(labels) else set())
        if len(counts) != 1 or 0 in counts:
            raise ConfigError(f"{where}: expected as many outputs as items, one or more, got {sorted(counts)}")
        arrays = tuple(found[name] for name in names)
        return cls(inputs=arrays[: len(inputs)], outputs=arrays[len(inputs) :], labels=labels)


def _names(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[str]:
    """What the arrays are called in the `.npz`."""
    given = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    return [*(f"input_{i}" for i in range(len(inputs))), *given]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of running a file.

    Attributes:
        inputs: as the file took them.
        outputs: as it gave them.
        steps: for each output the smallest difference between two of its values, if they were scaled back from integers, else 0.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    steps: tuple[float, ...]


def run(file: bytes, inputs: Sequence[np.ndarray], names: Sequence[str] = ()) -> Run:
    """Run a `.tflite` item by item in a fresh process, on one thread.

    Args:
        file: the `.tflite`.
        inputs: each of shape (items, ...), in the order and the dtypes that the file takes; or real values.
        names: of the task's inputs, where real values are given.

    Raises:
        CandidateFailed: if the runtime can't run it, or does not survive it.
        TargetUnavailable: if there is no room for a temporary folder.
    """
    arrays = {f"input_{i}": array for i, array in enumerate(inputs)}
    try:
        return _run(file, arrays | ({"names": np.array(names)} if names else {}), len(inputs))
    except OSError as error:
        raise TargetUnavailable(f"can't run the file in {tempfile.gettempdir()} ({error.strerror or error})") from error


def _run(file: bytes, asked: Mapping[str, np.ndarray], inputs: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="autoopt-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(file)
        (folder / "asked.npz").write_bytes(_npz(asked))
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(REPLAY), name],
                capture_output=True, text=True, check=False, errors="replace", timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CandidateFailed("samples", f"LiteRT was not done after {LIMIT_S} s") from error
        if done.returncode != 0:
            raise CandidateFailed("samples", f"LiteRT can't run the file: {why(done.returncode, done.stderr)}")
        with np.load(folder / "answer.npz", allow_pickle=False) as answer:
            return Run(
                inputs=tuple(answer[f"input_{i}"] for i in range(inputs)),
                outputs=tuple(answer[f"output_{i}"] for i in range(len(answer["steps"]))),
                steps=tuple(answer["steps"].tolist()),
            )


def here() -> dict[str, Any]:
    """This machine and its runtime, in words."""
    return {name: value for name, value in litert_runner.facts().items() if name in FACTS} | {"threads": 1}


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()
