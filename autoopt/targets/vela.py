"""Arm's Ethos-U NPUs, by the cost model of Arm's own compiler, Vela: an estimate, not a measurement."""

import csv
import os
import re
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Quantize
from autoopt.errors import AutooptError, CandidateFailed, ConfigError
from autoopt.targets.address import Address
from autoopt.targets.protocol import Deployable, Timing, installed

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
FAMILIES = {
    "u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "u65": ("Ethos_U65_High_End", "Dedicated_Sram"),
    "u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_512KB"),
}
"""System configuration and memory mode by family, of those in Vela's `Arm/vela.ini`. Vela's own defaults
differ from release to release, so they are always given."""
LIMIT_S = 600
COMPILED = "model_vela.tflite"
"""Name of what Vela makes, as Vela itself would give it."""
_CPU = re.compile(r"CPU operators = (\d+)")
_NPU = re.compile(r"NPU operators = (\d+)")


class Vela:
    """`vela:ethos-u55-128`, with the options `system-config` and `memory-mode`.

    Raises:
        ConfigError: for an unknown accelerator or option.
    """

    measures = ("latency_ms", "memory_bytes", "flash_bytes")
    objectives = ("quality", "latency_ms", "flash_bytes")
    budgets: tuple[str, ...] = ()
    reference = "int8_io"
    exclusive = ""
    exact = True
    estimated = True
    one_item = True

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(("system-config", "memory-mode"), where="ACCELERATOR, such as vela:ethos-u55-128")
        self.name = address.text
        self.accelerator = address.where
        if self.accelerator not in ACCELERATORS:
            known = ", ".join(ACCELERATORS)
            raise ConfigError(f"target {address.text}: unknown accelerator {self.accelerator!r}; known: {known}")
        system, memory = FAMILIES[self.accelerator.split("-")[1]]
        self.system_config = address.options.get("system-config", system)
        self.memory_mode = address.options.get("memory-mode", memory)

    def refuses(self, scheme: str, how: Quantize | None = None) -> str:
        """An Ethos-U computes in integers, and its host may have no floating point.

        Vela leaves layers in float, and their weights, out of its estimate; of 4-bit weights it crashes.
        """
        if how is not None and (how.keep or how.keep_ends):
            return "an Ethos-U computes in integers alone, and no layer can stay in float (keep, keep_ends)"
        if how is not None and how.int4:
            return "Vela can't compile 4-bit weights (int4_dense, int4_share, bits_by_layer)"
        if SCHEMES[scheme].integer_io:
            return ""
        return (
            "an Ethos-U runs int8 with integer inputs and outputs alone (schemes int8_io, uint8_io, and qat_ of both)"
        )

    @cached_property
    def _version(self) -> str:
        return installed("ethos-u-vela", self.name, "npu")

    def describe(self) -> dict[str, Any]:
        """Accelerator, configuration and Vela's version."""
        return {
            "target": self.name,
            "processor": self.accelerator,
            "runtime": f"ethos-u-vela {self._version}",
            "system": f"system config {self.system_config}, memory mode {self.memory_mode}",
            "estimated": "by Vela's cost model, not measured",
        }

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """Vela's inference time of both files.

        Raises:
            CandidateFailed: if Vela can't compile a file, or places nothing on the NPU.
        """
        (mine, flags, _), (theirs, _, _) = self._compile(file), self._compile(reference)
        times = [round(float(summary["inference_time"]) * 1e9) for summary in (mine, theirs)]
        return Timing(rounds=[[(times[0], times[1])]], flags=flags)

    def memory(self, file: bytes) -> dict[str, int]:
        """SRAM that one run takes; flash (on systems without, DRAM) for weights and what overflows SRAM.

        Raises:
            CandidateFailed: if Vela can't compile the file.
        """
        summary, _, _ = self._compile(file)

        def sizes(*names: str) -> int:
            return round(1024 * sum(float(summary[f"{name}_memory_used"]) for name in names))

        return {"memory_bytes": sizes("sram"), "flash_bytes": sizes("on_chip_flash", "off_chip_flash", "dram")}

    def fallbacks(self, file: bytes) -> tuple[str, ...]:
        """Nothing: the flags of the latency tell of operators that are left to the CPU."""
        return ()

    def compiled(self, file: bytes) -> bytes:
        """What the device runs: the `.tflite` with the operators for the NPU compiled.

        Raises:
            CandidateFailed: if Vela can't compile the file, or places nothing on the NPU.
            ConfigError: if Vela is not installed.
        """
        return self._compile(file)[2]

    def deployable(self, file: bytes) -> Deployable:
        """What Vela makes of the file; the file itself where that can't be had here."""
        try:
            compiled, facts = self.compiled(file), self.describe()
        except AutooptError as error:
            note = f"Not compiled for {self.name}: {error}. The array is model.tflite, which runs on the CPU alone."
            return Deployable(file=file, notes=(note,))
        note = f"{COMPILED}, compiled by {facts['runtime']} for {facts['processor']}, {facts['system']}."
        return Deployable(file=compiled, notes=(note,), name=COMPILED)

    def _compile(self, file: bytes) -> tuple[dict[str, str], tuple[str, ...], bytes]:
        """Vela's summary of a file, what it left to the CPU, and what it made of it.

        A process of its own: Vela is known to crash on some files, and it prints a lot.
        """
        _ = self._version
        with tempfile.TemporaryDirectory(prefix="autoopt-vela-") as folder:
            path = Path(folder, "model.tflite")
            path.write_bytes(file)
            options = {
                "--accelerator-config": self.accelerator,
                "--config": os.path.join("Arm", "vela.ini"),
                "--system-config": self.system_config,
                "--memory-mode": self.memory_mode,
                "--output-dir": folder,
            }
            call = "from ethosu.vela.vela import main; main()"
            arguments = [text for pair in options.items() for text in pair]
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-c", call, str(path), *arguments],
                    capture_output=True, text=True, check=False, timeout=LIMIT_S,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise CandidateFailed("vela", f"Vela was not done after {LIMIT_S} s") from error
            tables = sorted(Path(folder).glob("*summary*.csv"))
            if "CliOptionError" in done.stderr + done.stdout:
                raise ConfigError(f"target {self.name}: {_reason(done)}")
            if done.returncode != 0 or not tables:
                raise CandidateFailed("vela", f"Vela can't compile the file: {_reason(done)}")
            with tables[0].open(encoding="utf-8", newline="") as table:
                summary = next(csv.DictReader(table))
            made = path.with_name(f"{path.stem}_vela.tflite")
            compiled = made.read_bytes() if made.exists() else b""
        cpu, npu = (int(found[1]) if (found := pattern.search(done.stdout)) else 0 for pattern in (_CPU, _NPU))
        if npu == 0:
            raise CandidateFailed("vela", f"Vela places none of the {cpu} operators on the NPU")
        left = (f"{cpu} of {cpu + npu} operators on the CPU, not in the estimate",) if cpu else ()
        return dict(summary), left, compiled


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return ((errors or lines or ["no message"])[-1])[:300]
