"""Where candidates are measured. To add one: a class with these methods, listed in `TARGETS`."""

from collections.abc import Mapping
from typing import Any, Protocol

from autoopt.targets.host import Host


class Target(Protocol):
    """Runs a file and brings back raw readings; statistics are made of them in `measure`."""

    def describe(self) -> dict[str, Any]:
        """What a reader must know of the machine and the runtime, plain values."""

    def latency(self, file: bytes, reference: bytes, threads: int) -> list[list[tuple[int, int]]]:
        """For each fresh process its interleaved runs: pairs of ns (file, reference)."""

    def memory(self, file: bytes, threads: int) -> list[int]:
        """Peak resident bytes over load and one run, in fresh processes."""


TARGETS: Mapping[str, type[Target]] = {"host": Host}
