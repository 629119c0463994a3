"""Coral's Edge TPU, by its own compiler: what it places on the chip, and what stays with the CPU. No device is needed.

The compiler says how it lays a model out and nothing of how long it takes, so there is no latency.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autoopt.core import units
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import AutooptError, CandidateFailed, ConfigError
from autoopt.targets.address import Address
from autoopt.targets.protocol import Deployable, Timing

PROGRAM = "edgetpu_compiler"
COMPILED = "model_edgetpu.tflite"
"""Name of what the compiler makes, as it would give it itself."""
LIMIT_S = 600
MAPPED = "Mapped to Edge TPU"
TOLD = 4
"""Kinds of operators that a line names."""
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_SIZE = r":\s*([\d.]+)\s*([KMGT]?i?B)"
_ON_CHIP = re.compile(f"On-chip memory used for caching model parameters{_SIZE}")
_OFF_CHIP = re.compile(f"Off-chip memory used for streaming uncached model parameters{_SIZE}")
_TOTAL = re.compile(r"Total number of operations:\s*(\d+)")
_ON_CPU = re.compile(r"Number of operations that will run on CPU:\s*(\d+)")
_ROW = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d+) +(\S.*?)\s*$", re.MULTILINE)
_ERRORS = re.compile(r"^.*(?:error|failed|invalid|not quantized).*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Operators of one kind that fared alike.

    Attributes:
        operator: such as `CONV_2D`.
        count: how many.
        status: `MAPPED`, or why they stay with the CPU, in the compiler's words.
    """

    operator: str
    count: int
    status: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the compiler said of a model.

    Attributes:
        on_chip: bytes of parameters that stay in the chip's memory.
        off_chip: bytes of parameters that are sent to it anew for every item.
        operators: in all.
        on_cpu: of them, that the CPU does.
        rows: by kind, where the compiler listed them.
    """

    on_chip: int
    off_chip: int
    operators: int
    on_cpu: int
    rows: tuple[Row, ...] = ()

    @property
    def left(self) -> str:
        """The operators that stay with the CPU, and why, in words; `` where there are none or they are not listed."""
        rows = [row for row in self.rows if row.status != MAPPED]
        told = [f"{row.count} {row.operator} ({row.status})" for row in rows[:TOLD]]
        return ", ".join(told) + f" and {len(rows) - TOLD} kinds more" * (len(rows) > TOLD)


def read(text: str) -> Layout | None:
    """What a compiler's report says; None for one without the figures, as when it failed."""
    sizes = [_ON_CHIP.search(text), _OFF_CHIP.search(text)]
    total = _TOTAL.search(text)
    if total is None or sizes[0] is None or sizes[1] is None:
        return None
    on_chip, off_chip = (round(float(found[1]) * units.BYTES[found[2].lower()]) for found in sizes if found)
    rows = tuple(Row(operator=name, count=int(count), status=status) for name, count, status in _ROW.findall(text))
    on_cpu = _ON_CPU.search(text)  # not said where there are none
    return Layout(
        on_chip=on_chip,
        off_chip=off_chip,
        operators=int(total[1]),
        on_cpu=int(on_cpu[1]) if on_cpu else 0,
        rows=rows,
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A file, what the compiler said of it, and what it made."""

    file: bytes
    layout: Layout
    compiled: bytes


class EdgeTpu:
    """`edgetpu`, where Coral's `edgetpu_compiler` is on the PATH.

    Raises:
        ConfigError: for anything behind its name.
    """

    measures: tuple[str, ...] = ("memory_bytes", "flash_bytes")
    objectives: tuple[str, ...] = ("quality", "size_bytes")
    budgets: tuple[str, ...] = ()
    reference = "uint8_io"
    exclusive = ""
    exact = True
    estimated = False
    one_item = True

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(())
        self.name = address.text
        self._last: _Made | None = None

    def refuses(self, scheme: str, how: Quantize | None = None) -> str:
        """The Edge TPU computes in integers of 8 bits, and in one piece of the model alone."""
        if how is not None and (how.keep or how.keep_ends):
            return "layers in float (keep, keep_ends) end the piece of the model that an Edge TPU takes"
        if how is not None and how.int4:
            return "an Edge TPU has weights of 8 bits alone (int4_dense, int4_share, bits_by_layer)"
        if SCHEMES[scheme].integer and scheme != "int16x8":
            return ""
        return "an Edge TPU runs integers of 8 bits alone (schemes uint8_io, int8_io, int8, and qat_ of each)"

    @cached_property
    def _program(self) -> str:
        found = shutil.which(PROGRAM)
        if found is None:
            raise ConfigError(
                f"target {self.name}: {PROGRAM} is not on the PATH; https://coral.ai/docs/edgetpu/compiler"
            )
        return found

    @cached_property
    def _version(self) -> str:
        done = self._run("--version")
        found = _VERSION.search(done.stdout + done.stderr)
        return found[1] if found else "of an unknown version"

    def describe(self) -> dict[str, Any]:
        """The compiler and its version."""
        return {
            "target": self.name,
            "processor": "Edge TPU",
            "runtime": f"{PROGRAM} {self._version}",
            "system": "compiled, not run",
        }

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """The compiler says nothing of time.

        Raises:
            NotImplementedError: always; `measures` says so.
        """
        raise NotImplementedError("edgetpu measures no latency")

    def memory(self, file: bytes) -> dict[str, int]:
        """Parameters in the chip's own memory, and those that don't fit there and are sent for every item (`flash_bytes`).

        Raises:
            CandidateFailed: if the file can't be compiled, or nothing of it runs on the Edge TPU.
        """
        layout = self._compile(file).layout
        return {"memory_bytes": layout.on_chip, "flash_bytes": layout.off_chip}

    def fallbacks(self, file: bytes) -> tuple[str, ...]:
        """How many operators stay with the CPU, which, and why.

        Raises:
            CandidateFailed: as of `memory`.
        """
        layout = self._compile(file).layout
        if not layout.on_cpu:
            return ()
        why = f": {layout.left}" if layout.left else ""
        return (f"{layout.on_cpu} of {layout.operators} operators on the CPU{why}",)

    def deployable(self, file: bytes) -> Deployable:
        """What the compiler makes of the file; the file itself where that can't be had here."""
        try:
            made, version = self._compile(file), self._version
        except AutooptError as error:
            note = f"Not compiled for {self.name}: {error}. The array is model.tflite, which runs on the CPU alone."
            return Deployable(file=file, notes=(note,))
        note = f"{COMPILED}, compiled by {PROGRAM} {version}; run it with Coral's delegate or libedgetpu."
        return Deployable(file=made.compiled, notes=(note, *self.fallbacks(file)), name=COMPILED)

    def _compile(self, file: bytes) -> _Made:
        """Compile a file; the last one is remembered, for several things are asked of it."""
        if self._last is None or self._last.file != file:
            self._last = self._compiled(file)
        return self._last

    def _compiled(self, file: bytes) -> _Made:
        with tempfile.TemporaryDirectory(prefix="autoopt-edgetpu-") as folder:
            path = Path(folder, "model.tflite")
            path.write_bytes(file)
            done = self._run("-s", "-o", folder, str(path))
            made = path.with_name(COMPILED)
            compiled = made.read_bytes() if made.exists() else b""
        text = done.stdout + done.stderr
        layout = read(text)
        if done.returncode != 0 or layout is None or not compiled:
            raise CandidateFailed("edgetpu", f"{PROGRAM} can't compile the file: {_reason(done.returncode, text)}")
        if layout.on_cpu >= layout.operators:
            why = f": {layout.left}" if layout.left else ""
            raise CandidateFailed(
                "edgetpu", f"none of the {layout.operators} operators runs on the Edge TPU{why}"[:300]
            )
        return _Made(file=file, layout=layout, compiled=compiled)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._program, *arguments],
                capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CandidateFailed("edgetpu", f"{PROGRAM} was not done after {LIMIT_S} s") from error
        except OSError as error:
            raise ConfigError(f"target {self.name}: {self._program} can't be started ({error.strerror})") from error


def _reason(code: int, text: str) -> str:
    """What it says of why it failed: the last line that speaks of an error."""
    if code < 0:
        return f"killed by signal {-code}"
    found = [line.strip() for line in _ERRORS.findall(text)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = next((line for line in found if line.startswith("Compilation failed: ")), None)
    return (told or (found or lines or ["no message"])[-1])[:300]
