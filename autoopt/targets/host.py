"""This machine, through the LiteRT interpreter, in fresh processes."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autoopt.errors import CandidateFailed

RUNNER = Path(__file__).with_name("runner.py")
PROCESSES = 5
MEMORY_PROCESSES = 2


class Host:
    """Measures on the machine that the job runs on."""

    def describe(self) -> dict[str, Any]:
        """Processor, cores and runtime."""
        return {
            "target": "host",
            "processor": processor(),
            "cores": os.cpu_count() or 1,
            "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
            "system": f"{platform.system()} {platform.machine()}",
        }

    def latency(self, file: bytes, reference: bytes, threads: int) -> list[list[tuple[int, int]]]:
        """Interleaved with the reference, batch 1, in `PROCESSES` fresh processes.

        Raises:
            CandidateFailed: if the runtime can't run the file.
        """
        raw = [_run("latency", file, reference, threads) for _ in range(PROCESSES)]
        return [[(a, b) for a, b in pairs] for pairs in raw]

    def memory(self, file: bytes, threads: int) -> list[int]:
        """Growth of the peak resident memory from before loading to after one run.

        Raises:
            CandidateFailed: if the runtime can't run the file.
        """
        return [int(_run("memory", file, b"", threads)) for _ in range(MEMORY_PROCESSES)]


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _run(what: str, file: bytes, reference: bytes, threads: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        paths = {"file": Path(folder, "candidate.tflite"), "reference": Path(folder, "reference.tflite")}
        paths["file"].write_bytes(file)
        paths["reference"].write_bytes(reference)
        asked = {"what": what, "threads": threads} | {name: str(path) for name, path in paths.items()}
        done = subprocess.run(
            [sys.executable, "-I", str(RUNNER)], input=json.dumps(asked), capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        how = f"killed by signal {-done.returncode}" if done.returncode < 0 else last[:300]
        raise CandidateFailed(what, f"LiteRT can't run the file: {how}")
    return json.loads(done.stdout.splitlines()[-1])
