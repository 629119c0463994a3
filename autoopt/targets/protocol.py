"""What every target offers. Targets bring back raw readings; `core.latency_statistics` makes estimates of them."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import tenacity

from autoopt.core.latency_statistics import Rounds
from autoopt.core.stage_settings import Quantize
from autoopt.errors import ConfigError, TargetLost

ATTEMPTS = 3
asking_again = tenacity.retry(
    retry=tenacity.retry_if_exception_type(TargetLost),
    stop=tenacity.stop_after_attempt(ATTEMPTS),
    wait=tenacity.wait_exponential(multiplier=1, max=8),
    reraise=True,
)
"""Of what reaches a device that may be gone for a moment."""


def installed(package: str, target: str, extra: str) -> str:
    """A package's version.

    Args:
        package: that the target needs.
        target: its name, for the message.
        extra: of autoopt, that installs the package.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise ConfigError(f"target {target}: {package} is not installed; pip install 'autoopt[{extra}]'") from error


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one fresh process measured.

    Attributes:
        rounds: of interleaved runs, in ns: (file, reference); before each round both were loaded anew.
        flags: what a reader must know, such as operators that ran elsewhere.
    """

    rounds: Rounds
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deployable:
    """What is built into the firmware of a target that runs no files.

    Attributes:
        file: the model as the target runs it.
        notes: what must be known of it, a line each.
        name: of a file of its own in a bundle, for what is no plain `.tflite` any more; `` for none.
    """

    file: bytes
    notes: tuple[str, ...] = ()
    name: str = ""


class Target(Protocol):
    """Runs files and brings back raw readings."""

    @property
    def name(self) -> str:
        """As `targets.find` takes it."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that it brings, among `latency_ms`, `memory_bytes` and `flash_bytes`."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """What to trade where the study doesn't say; `quality` is the task's metric."""

    @property
    def budgets(self) -> tuple[str, ...]:
        """Limits that it sets itself."""

    @property
    def reference(self) -> str:
        """The scheme of the untouched model that latencies are relative to."""

    @property
    def exclusive(self) -> str:
        """What a measurement has to itself.

        `machine` (this one: all else is frozen), `device` (one measurement at a time, wherever from)
        or `` (it disturbs nothing).
        """

    @property
    def exact(self) -> bool:
        """Whether readings are computed, so that one is enough."""

    @property
    def estimated(self) -> bool:
        """Whether readings come from a cost model, not from a run."""

    @property
    def one_item(self) -> bool:
        """Whether its runtime takes one item at a time and computes no shapes, so that a file is made for that."""

    def refuses(self, scheme: str, how: Quantize | None = None) -> str:
        """Why it can't run files of that scheme, made so, or `` if it can."""

    def deployable(self, file: bytes) -> Deployable | None:
        """What is built into its firmware; None if it runs files.

        What it is made of may be missing on this machine: then that is the file as it is, and a note says so.
        """

    def describe(self) -> dict[str, Any]:
        """What a reader must know of device and runtime, plain values; `processor` and `runtime` among them.

        Raises:
            ConfigError: if what it needs is not installed.
            TargetUnavailable: if it does not answer.
        """

    def latency(self, file: bytes, reference: bytes) -> Timing:
        """Time both files in turn, in one fresh process.

        Raises:
            CandidateFailed: if it can't run a file.
            TargetLost: if it does not answer any more.
        """

    def memory(self, file: bytes) -> dict[str, int]:
        """Bytes that one run takes, by metric.

        Raises:
            CandidateFailed: if it can't run the file.
            TargetLost: if it does not answer any more.
        """

    def fallbacks(self, file: bytes) -> tuple[str, ...]:
        """What a reader of its memory must know, such as operators that run elsewhere.

        Raises:
            CandidateFailed: if it can't run the file.
        """


class LiteRT:
    """What targets have in common that run LiteRT and time it."""

    measures = ("latency_ms", "memory_bytes")
    objectives = ("quality", "latency_ms", "compressed_bytes")
    budgets: tuple[str, ...] = ()
    reference = "float32"
    exact = False
    estimated = False
    one_item = False

    def refuses(self, scheme: str, how: Quantize | None = None) -> str:
        """LiteRT runs them all."""
        return ""

    def deployable(self, file: bytes) -> Deployable | None:
        """LiteRT runs files."""
        return None

    def fallbacks(self, file: bytes) -> tuple[str, ...]:
        """What ran elsewhere shows in the times, whose flags say so."""
        return ()
