"""Where candidates are measured. To add one: a class as `protocol.Target` says, listed in `TARGETS`."""

from collections.abc import Callable, Mapping

from autoopt.core.latency_statistics import Rounds
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.targets.adb import Adb
from autoopt.targets.address import Address
from autoopt.targets.edgetpu import EdgeTpu
from autoopt.targets.host import Host
from autoopt.targets.micro import Micro
from autoopt.targets.protocol import Deployable, Target, Timing
from autoopt.targets.ssh import Ssh
from autoopt.targets.vela import Vela

__all__ = ["TARGETS", "Deployable", "Rounds", "Target", "Timing", "find"]

TARGETS: Mapping[str, Callable[[Address, int], Target]] = {
    "host": Host,
    "ssh": Ssh,
    "adb": Adb,
    "vela": Vela,
    "micro": Micro,
    "edgetpu": EdgeTpu,
}


def find(text: str, threads: int = 1) -> Target:
    """The target of that name; nothing is started or asked yet.

    Args:
        text: as in `study.yaml` and `--target`, such as `host`, `ssh://pi@board`, `vela:ethos-u55-128`.
        threads: of the interpreter, where there is one.

    Raises:
        ConfigError: if there is no such target, or it does not know an option.
    """
    address = Address.parse(text)
    if address.scheme not in TARGETS:
        raise ConfigError(f"target {text}: unknown target {address.scheme!r}; {nearest(address.scheme, TARGETS)}")
    return TARGETS[address.scheme](address, threads)
