"""Any Linux board with Python and ai-edge-litert, over OpenSSH's own client and the user's own ssh settings."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from typing import Any

from autoopt.errors import CandidateFailed, ConfigError, TargetLost, TargetUnavailable
from autoopt.system.locks import private_folder
from autoopt.targets import litert_runner
from autoopt.targets.address import Address
from autoopt.targets.host import RUNNER, why
from autoopt.targets.protocol import LiteRT, Timing, asking_again

FOLDER = ".cache/autoopt"
"""On the board, in the user's home: runner and files, by their digest."""
LIMIT_S = 900
CONNECTION_LOST = 255
"""What ssh ends with when it was not the command that failed."""
HOPELESS = (
    "Permission denied",
    "Host key verification failed",
    "Bad configuration",
    "Can't open user config",
    "Bad port",
)


class Ssh(LiteRT):
    """`ssh://user@host`, with the options `port`, `python`, `config` (an ssh_config file) and `xnnpack`.

    Raises:
        ConfigError: for an unknown option, or a host that could be taken for an option.
    """

    exclusive = "device"

    def __init__(self, address: Address, threads: int) -> None:
        address.expect(("port", "python", "config", "xnnpack"), where="//USER@HOST")
        self.name = address.text
        self.host, _, port = address.where.partition(":")
        if self.host.startswith("-"):
            raise ConfigError(f"target {address.text}: expected ssh://USER@HOST")
        self.port = address.options.get("port", port)
        if self.port and not self.port.isdigit():
            raise ConfigError(f"target {address.text}: expected a port number, got {self.port!r}")
        self.python = address.options.get("python", "python3")
        self.config = address.options.get("config", "")
        self.settings = {"threads": threads, "xnnpack": address.choice("xnnpack", ("on", "off")) == "on"}
        self._copied: dict[str, str] = {}

    def describe(self) -> dict[str, Any]:
        """The board's processor, cores, runtime, governor and temperature, where it tells them.

        Raises:
            ConfigError: if ssh is not installed or not let in, or ai-edge-litert is missing on the board.
            TargetUnavailable: if the board does not answer.
        """
        if shutil.which("ssh") is None:
            raise ConfigError(f"target {self.name}: ssh is not installed (Debian: apt install openssh-client)")
        return {"target": self.name, **self._run("facts", b"", b"")}

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """Both files in turn, batch 1, in one fresh process on the board.

        Raises:
            CandidateFailed: if the runtime there can't run a file.
            TargetLost: if the board does not answer any more.
        """
        return Timing(rounds=[[(a, b) for a, b in one] for one in self._run("latency", file, reference)])

    def memory(self, file: bytes) -> dict[str, int]:
        """Growth of the peak resident memory from before loading to after one run.

        Raises:
            CandidateFailed: if the runtime there can't run the file.
            TargetLost: if the board does not answer any more.
        """
        return {"memory_bytes": int(self._run("memory", file, b""))}

    def _run(self, what: str, file: bytes, reference: bytes) -> Any:
        script = self._copy(RUNNER.read_bytes(), "runner.py")
        self._copy(litert_runner.WARM.read_bytes(), "warmup.tflite")
        asked = {"what": what, "alone": True, **self.settings}
        asked |= {name: self._copy(data) for name, data in (("file", file), ("reference", reference)) if data}
        home, _, rest = self.python.partition("/")
        python = f'"$HOME"/{shlex.quote(rest)}' if home == "~" else shlex.quote(self.python)
        # The shell stays to tell of a crash: ssh itself would end as if the connection had been lost.
        done = self._ssh(f"cd {FOLDER} && {python} {script}; exit $?", json.dumps(asked).encode())
        said = done.stderr.decode(errors="replace")
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        reason = why(done.returncode, said)
        if done.returncode in (126, 127):
            raise ConfigError(f"target {self.name}: no {self.python} there ({reason}); name one by ?python=PATH")
        if done.returncode == litert_runner.NOT_INSTALLED:
            raise ConfigError(
                f"target {self.name}: {self.python} there has no ai-edge-litert ({reason}); "
                "pip install ai-edge-litert on it, or name another by ?python=PATH"
            )
        if what == "facts":
            raise ConfigError(f"target {self.name}: {self.python} there can't run autoopt's runner: {reason}")
        raise CandidateFailed(what, f"LiteRT on {self.host} can't run the file: {reason}")

    def _copy(self, data: bytes, name: str = "") -> str:
        """Have a file on the board, by the digest of its bytes; the name there.

        What was copied partly, when the connection broke, has another name.
        """
        name = name or f"{hashlib.sha256(data).hexdigest()[:32]}.tflite"
        if self._copied.get(name) == hashlib.sha256(data).hexdigest():
            return name
        there, part = f"{FOLDER}/{name}", f"{FOLDER}/{name}.{os.getpid()}.part"
        fresh = f"cat > {part} && mv -f {part} {there}"
        if name.endswith(".tflite") and name != "warmup.tflite":
            # Named by content: what is there need not be sent again (but what stands in the pipe must be read).
            fresh = f"if [ $(wc -c < {there} 2>/dev/null || echo 0) -eq {len(data)} ]; then cat > /dev/null; else {fresh}; fi"
        done = self._ssh(f"mkdir -p {FOLDER} && {fresh}", data)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise TargetUnavailable(f"target {self.name}: can't write {there} there: {said[:300]}")
        self._copied[name] = hashlib.sha256(data).hexdigest()
        return name

    @asking_again
    def _ssh(self, command: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run a command there; a connection that breaks is tried again.

        Raises:
            ConfigError: if trying again can't help.
            TargetLost: if it breaks every time.
        """
        options = {
            "BatchMode": "yes",  # never ask: nobody is there at night
            "ConnectTimeout": "10",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",  # one connection for many commands
            "ControlPath": str(private_folder("autoopt-ssh") / "%C"),
            "ControlPersist": "60",
        }
        arguments = ["ssh", *(["-F", self.config] if self.config else []), *(["-p", self.port] if self.port else [])]
        arguments += [text for name, value in options.items() for text in ("-o", f"{name}={value}")]
        try:
            done = subprocess.run(
                [*arguments, "--", self.host, command], input=given, capture_output=True, check=False, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise TargetLost(f"target {self.name}: no answer after {LIMIT_S} s") from error
        except FileNotFoundError as error:
            raise ConfigError(f"target {self.name}: ssh is not installed") from error
        if done.returncode == CONNECTION_LOST:
            said = " ".join(done.stderr.decode(errors="replace").split())[-300:] or "the connection was closed"
            if any(text in said for text in HOPELESS):
                raise ConfigError(f"target {self.name}: {said}")
            raise TargetLost(f"target {self.name} does not answer: {said}")
        return done
