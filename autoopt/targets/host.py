"""This machine, through the LiteRT interpreter, in fresh processes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from autoopt.errors import CandidateFailed
from autoopt.targets import litert_runner
from autoopt.targets.address import Address
from autoopt.targets.protocol import LiteRT, Timing

RUNNER = Path(litert_runner.__file__)


class Host(LiteRT):
    """`host`, with the option `xnnpack=off` to run the runtime's own kernels.

    Raises:
        ConfigError: for an unknown option.
    """

    exclusive = "machine"

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(("xnnpack",))
        self.name = address.text
        self.settings = {"threads": threads, "xnnpack": address.choice("xnnpack", ("on", "off")) == "on"}

    def describe(self) -> dict[str, Any]:
        """Processor, cores and runtime."""
        return {"target": self.name, **litert_runner.facts()}

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """Both files in turn, batch 1, in one fresh process.

        Raises:
            CandidateFailed: if the runtime can't run a file.
        """
        return Timing(rounds=[[(a, b) for a, b in one] for one in self._run("latency", file, reference)])

    def memory(self, file: bytes) -> dict[str, int]:
        """Growth of the peak resident memory from before loading to after one run.

        Raises:
            CandidateFailed: if the runtime can't run the file.
        """
        return {"memory_bytes": int(self._run("memory", file, b""))}

    def _run(self, what: str, file: bytes, reference: bytes) -> Any:
        with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
            paths = {"file": Path(folder, "candidate.tflite"), "reference": Path(folder, "reference.tflite")}
            paths["file"].write_bytes(file)
            paths["reference"].write_bytes(reference)
            asked = {"what": what, **self.settings} | {name: str(path) for name, path in paths.items()}
            done = subprocess.run(
                [sys.executable, "-I", str(RUNNER)],
                input=json.dumps(asked), capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode != 0:
            raise CandidateFailed(what, f"LiteRT can't run the file: {why(done.returncode, done.stderr)}")
        return json.loads(done.stdout.splitlines()[-1])


def why(code: int, said: str) -> str:
    """Why a runner ended: the signal, or the last line it said.

    Args:
        code: its exit code; negative (or from a shell over 128) for a signal.
        said: what it wrote to standard error.
    """
    if code < 0 or code > 128:
        return f"killed by signal {-code if code < 0 else code - 128}"
    return (said.strip().splitlines() or ["no message"])[-1][:300]
