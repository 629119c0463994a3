"""Microcontrollers: TensorFlow Lite Micro's own runtime says how large the arena must be, and what comes out."""

import itertools
import json
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from autoopt.core import units
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import AutooptError, CandidateFailed, ConfigError
from autoopt.targets.address import Address
from autoopt.targets.micro_compression import compress
from autoopt.targets.protocol import Deployable, Timing, installed

RUNNER = Path(__file__).with_name("tflm_runner.py")
LIMIT_S = 600


class Micro:
    """`micro:ARENA`, such as `micro:64000` or `micro:64KB`: does it fit, and does it compute the same?

    With `?weights=tables` weights lie in flash as indices into tables of their values, where that is smaller.

    Its kernels on this machine say nothing of speed on a microcontroller, so there is no latency.

    Raises:
        ConfigError: for a size that can't be read.
    """

    measures: tuple[str, ...] = ("memory_bytes",)
    objectives: tuple[str, ...] = ("quality", "memory_bytes", "size_bytes")
    reference = "float32"
    exclusive = ""
    exact = True
    estimated = False
    one_item = True

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(("weights",), where="ARENA, such as micro:64KB")
        self.name = address.text
        self.tables = address.choice("weights", ("plain", "tables")) == "tables"
        if self.tables:
            self.measures = ("memory_bytes", "flash_bytes")
            self.objectives = ("quality", "memory_bytes", "flash_bytes")
        where = f"target {address.text}"
        expected = "the arena's size such as micro:64KB"
        self.arena = int(units.size(where, address.where, expected=expected, tiny=True))
        if self.arena < 1:
            raise ConfigError(f"{where}: expected an arena of 1 byte or more")
        self.budgets = (f"memory_bytes <= {self.arena}" + (" B" if self.arena < units.TINY else ""),)

    def refuses(self, scheme: str, how: Quantize | None = None) -> str:
        """TFLM has no kernels that mix float activations with stored integers or halves; layers in float it runs."""
        if how is not None and (how.int4_dense or how.int4_share) and how.granularity == "channel":
            return (
                "TensorFlow Lite Micro runs dense layers in 4 bits with one scale a tensor alone "
                "(int4_dense and int4_share need granularity: tensor)"
            )
        if scheme == "float32" or SCHEMES[scheme].integer:
            return ""
        return "TensorFlow Lite Micro runs float32, int8 and int16x8 alone"

    @cached_property
    def _version(self) -> str:
        return installed("tflite-micro", self.name, "micro")

    def describe(self) -> dict[str, Any]:
        """Runtime and arena."""
        return {
            "target": self.name,
            "processor": f"any, with an arena of {self.arena} B",
            "runtime": f"tflite-micro {self._version}",
            "system": "64-bit structures: a 32-bit part needs slightly less",
        }

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """TFLM on this machine has no latency worth knowing.

        Raises:
            NotImplementedError: always; `measures` says so.
        """
        raise NotImplementedError("micro measures no latency")

    def memory(self, file: bytes) -> dict[str, int]:
        """The smallest arena that the file runs in, exact to the byte; with tables, that of the file with them, and its size.

        Raises:
            CandidateFailed: if TFLM can't run it, or computes something else than LiteRT's reference kernels, or with
                tables not the very same.
        """
        if not self.tables:
            return {"memory_bytes": self._arena(file, file)}
        flashed = self.flashed(file)
        return {"memory_bytes": self._arena(file, flashed), "flash_bytes": len(flashed)}

    def fallbacks(self, file: bytes) -> tuple[str, ...]:
        """All runs in one runtime."""
        return ()

    def flashed(self, file: bytes) -> bytes:
        """What goes into flash.

        Raises:
            CandidateFailed: if tables can't be made.
        """
        _ = self._version
        return compress(file) if self.tables else file

    def deployable(self, file: bytes) -> Deployable:
        """The file, or that with look-up tables if it has them."""
        try:
            flashed = self.flashed(file) if self.tables else file
        except AutooptError as error:
            return Deployable(file=file, notes=(f"No look-up tables: {error}.",))
        if flashed == file:
            return Deployable(file=file)
        sizes = f"{len(flashed)} bytes in place of {len(file)}"
        return Deployable(file=flashed, notes=(f"Weights are indices into tables ({sizes}), which only TFLM decodes.",))

    def _arena(self, file: bytes, flashed: bytes) -> int:
        _ = self._version
        # A process of its own: the runtime aborts on some files.
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(RUNNER), str(len(file))],
                input=file + flashed,
                capture_output=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise CandidateFailed("micro", f"TFLM was not done after {LIMIT_S} s") from error
        text = done.stderr.decode(errors="replace").strip().splitlines()
        if done.returncode != 0:
            killed = f"killed by signal {-done.returncode}; " if done.returncode < 0 else ""
            raise CandidateFailed("micro", f"TFLM can't run the file: {killed}{_reason(text)}")
        found = json.loads(done.stdout)
        if found["off_by"]:
            raise CandidateFailed("micro", f"TFLM's outputs differ from LiteRT's by {found['off_by']:g}")
        if not found["same"]:
            raise CandidateFailed("micro", "TFLM's outputs with look-up tables are not those without")
        return int(found["arena_bytes"])


def _reason(lines: list[str]) -> str:
    """The kernels' complaint, which stands before Python's traceback of what follows from it."""
    said = list(itertools.takewhile(lambda line: not line.startswith("Traceback"), lines))
    return " ".join((said or lines or ["it ended without a word"])[-2:])[:300]
