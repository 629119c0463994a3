"""Android phones, over adb, with TensorFlow Lite's own `benchmark_model` binary, which the user gives."""

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from autoopt.errors import CandidateFailed, ConfigError, TargetLost, TargetUnavailable
from autoopt.targets.address import Address
from autoopt.targets.host import why
from autoopt.targets.protocol import LiteRT, Timing, asking_again

FOLDER = "/data/local/tmp/autoopt"
DELEGATES = {
    "cpu": "--use_xnnpack=true",
    "gpu": "--use_gpu=true",
    "nnapi": "--use_nnapi=true",
    "none": "--use_xnnpack=false",
}
"""What the option `delegate` may be, and what `benchmark_model` calls it."""
RUNS = 50
PAIRS = 3
"""Runs of the binary with each file, in turn: it measures one file at a time."""
LIMIT_S = 900
ACCELERATORS = ("gpu", "nnapi")
"""Delegates that must take the graph; what XNNPACK leaves, the runtime's own kernels on the CPU run."""
ENDED = "autoopt-ended:"
"""Said on the phone after a command, with its exit code: old releases of adb lose that, and all lose what is
on its way when the phone goes."""
_STATISTICS = re.compile(r"\bcount=\d+ .*")
_STATISTIC = re.compile(r"(\w+)=([\d.e+]+)")
_MEMORY = re.compile(
    r"(?:delta from the start of the tool|Peak memory footprint) \(MB\): init=[-\d.]+ overall=([-\d.]+)"
)
_DECLINED = re.compile(
    r"Though \w+ delegate is explicitly applied, the model graph will not be executed by the delegate"
)
_PARTLY = re.compile(r"the model graph will be partially executed by the delegate w/ (\d+) delegate kernels")
_LOST = re.compile(
    r"device '?.*'? ?(not found|offline)|device offline|no devices|protocol fault|closed|connection reset"
)
_UNAUTHORIZED = "unauthorized"


class Adb(LiteRT):
    """`adb:SERIAL?benchmark_model=PATH`, with the option `delegate` (cpu, gpu, nnapi, none).

    Raises:
        ConfigError: for an unknown option, or if the binary is not named.
    """

    exclusive = "device"

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(("benchmark_model", "delegate"), where="SERIAL (see `adb devices`)")
        self.name = address.text
        self.serial = address.where
        self.delegate = address.choice("delegate", tuple(DELEGATES))
        if "benchmark_model" not in address.options:
            raise ConfigError(f"target {address.text}: name TensorFlow Lite's binary: ?benchmark_model=PATH")
        self.binary = Path(address.options["benchmark_model"]).expanduser()
        self.threads = threads
        self._pushed: set[str] = set()

    def describe(self) -> dict[str, Any]:
        """The phone's model, chip, Android version, temperature where it tells it, and the binary's digest.

        Raises:
            ConfigError: if adb or the binary is missing, or the phone has not allowed this machine.
            TargetUnavailable: if the phone does not answer.
        """
        if shutil.which("adb") is None:
            raise ConfigError(f"target {self.name}: adb is not installed (Debian: apt install adb)")
        names = {
            "phone": "ro.product.model",
            "processor": "ro.soc.model",
            "board": "ro.board.platform",
            "system": "ro.build.version.release",
        }
        said = self._shell("; ".join(f"getprop {name}" for name in names.values())).stdout.splitlines()
        found: dict[str, Any] = dict(zip(names, (line.strip() for line in said), strict=False))
        found["processor"] = found.get("processor") or found.get("board") or "unknown"
        found["system"] = f"Android {found.get('system', '')}".strip()
        heat = self._shell("cat /sys/class/thermal/thermal_zone0/temp 2>/dev/null || true").stdout.strip()
        if heat.lstrip("-").isdigit():
            found["temperature_c"] = round(int(heat) / 1000, 1)
        return {
            "target": self.name,
            **found,
            "runtime": f"benchmark_model {self._digest()[:12]}, delegate {self.delegate}",
        }

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """The binary's times of both files in turn; its 5th percentile where it prints it, else its minimum.

        Raises:
            CandidateFailed: if the binary can't run a file, or the delegate takes nothing of it.
            TargetLost: if the phone does not answer any more.
        """
        rounds, flags = [], set[str]()
        for number in range(PAIRS):
            times = {}
            for which in (file, reference) if number % 2 == 0 else (reference, file):
                said = self._benchmark(which)
                times[which] = _time_ns(said)
                if which == file and self.delegate in ACCELERATORS and (part := _PARTLY.search(said)):
                    flags.add(f"the {self.delegate} delegate runs a part of the graph only ({part[1]} kernels)")
            rounds.append([(times[file], times[reference])])
        return Timing(rounds=rounds, flags=tuple(sorted(flags)))

    def memory(self, file: bytes) -> dict[str, int]:
        """Growth of the binary's memory footprint from its start to after the runs.

        Raises:
            CandidateFailed: if the binary can't run the file, or says nothing of memory.
            TargetLost: if the phone does not answer any more.
        """
        found = _MEMORY.search(self._benchmark(file))
        if found is None:
            raise CandidateFailed("memory", "benchmark_model said nothing of memory; use a newer one")
        return {"memory_bytes": max(0, round(float(found[1]) * (1 << 20)))}

    def _benchmark(self, file: bytes) -> str:
        binary = self._push(self._binary(), "benchmark_model")
        model = self._push(file, f"{hashlib.sha256(file).hexdigest()[:32]}.tflite")
        settings = f"--num_threads={self.threads} --num_runs={RUNS} --warmup_runs=5 {DELEGATES[self.delegate]}"
        done = self._shell(f"{binary} --graph={model} {settings} 2>&1")
        if done.returncode != 0:
            errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]  # the first is the cause
            reason = why(done.returncode, errors[0] if errors else done.stdout)
            raise CandidateFailed("latency", f"benchmark_model can't run the file: {reason}")
        if self.delegate in ACCELERATORS and _DECLINED.search(done.stdout):
            raise CandidateFailed("latency", f"the {self.delegate} delegate takes nothing of the graph")
        return done.stdout

    def _binary(self) -> bytes:
        try:
            return self.binary.read_bytes()
        except OSError as error:
            raise ConfigError(f"target {self.name}: can't read {self.binary} ({error.strerror})") from error

    def _digest(self) -> str:
        return hashlib.sha256(self._binary()).hexdigest()

    def _push(self, data: bytes, name: str) -> str:
        there = f"{FOLDER}/{name}"
        if there in self._pushed:
            return there
        with tempfile.NamedTemporaryFile(prefix="autoopt-") as local:
            local.write(data)
            local.flush()
            self._shell(f"mkdir -p {FOLDER}")
            done = self._adb("push", local.name, there)
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise TargetUnavailable(f"target {self.name}: can't copy to {there}: {said}")
        self._shell(f"chmod 755 {there}")
        self._pushed.add(there)
        return there

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        done = self._adb("shell", f"{command}; echo {ENDED}$?")
        said, _, code = done.stdout.rpartition(ENDED)
        return subprocess.CompletedProcess(done.args, int(code), said, done.stderr)

    @asking_again
    def _adb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run adb; a phone that is gone is tried again.

        Raises:
            ConfigError: if adb is missing, or the phone has not allowed this machine.
            TargetLost: if the phone does not answer.
        """
        line = ["adb", "-s", self.serial, *arguments]
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=LIMIT_S, errors="replace")
        except FileNotFoundError as error:
            raise ConfigError(f"target {self.name}: adb is not installed (Debian: apt install adb)") from error
        except subprocess.TimeoutExpired as error:
            raise TargetLost(f"target {self.name}: no answer after {LIMIT_S} s to {shlex.join(line)}") from error
        said = " ".join(done.stderr.split())
        if done.returncode != 0 and _UNAUTHORIZED in said:
            raise ConfigError(f"target {self.name}: allow USB debugging on the phone ({said[:200]})")
        cut = arguments[0] == "shell" and not re.search(rf"{ENDED}\d+\s*$", done.stdout)
        if cut or (done.returncode != 0 and _LOST.search(said)):
            raise TargetLost(f"target {self.name} does not answer: {said[:300] or 'the connection was closed'}")
        return done


def _time_ns(said: str) -> int:
    """The last statistics line is that of the measured runs; those before it are of the warm-up."""
    lines = _STATISTICS.findall(said)
    found = dict(_STATISTIC.findall(lines[-1])) if lines else {}
    for name in ("p5", "min", "curr"):  # newest release first; a single run has no minimum
        if name in found:
            return round(float(found[name]) * 1000)
    raise CandidateFailed("latency", f"benchmark_model printed no times: {why(0, said)}")
