"""The exception tree: everything that can go wrong has one of three fates.

- `ConfigError`: what the user wrote is wrong; they correct it (exit code 2).
- `CandidateFailed`: one candidate can't be made or measured; the search goes on.
- `TargetUnavailable`: the world is not ready (engine gone, disk full, study busy); the same command
  may succeed later, so nothing is recorded against any candidate (exit code 1).

What libraries and the user's own code raise becomes one of these by `retold`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class AutooptError(Exception):
    """Base of every error that autoopt raises on purpose; its text is one line for a person.

    What to do about it may be an argument in Python and an option on the command line. Then the error carries both:
    its text speaks to who calls from Python, and `command_line` to who typed a command.
    """

    exit_code = 1
    """The exit code of a command that ends with such an error."""

    def __init__(self, *arguments: object, call: str = "", command: str = "") -> None:
        """Make an error.

        Args:
            arguments: the text.
            call: what to do in Python, the end of the text.
            command: what to do on the command line, likewise.
        """
        self._command = f"{arguments[0]}{command}" if command else ""
        super().__init__(*((f"{arguments[0]}{call}", *arguments[1:]) if call else arguments))

    @property
    def command_line(self) -> str:
        """The text for who typed a command."""
        return self._command or str(self)


class ConfigError(AutooptError):
    """Input is wrong: where, expected, got, what to do."""

    exit_code = 2


class CandidateFailed(AutooptError):
    """One candidate can't be had, and trying again would fail again.

    Attributes:
        stage: the job in which it failed, such as `prune` or `proof`.
        reason: one line for a person.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class TargetUnavailable(AutooptError):
    """What the work needs is not there now; the same command can be run again."""


class Stopped(TargetUnavailable):
    """A person, or the system, has ended the work; the same command goes on."""


class ResultLost(TargetUnavailable):
    """A result that should be in the store is not; making it again helps."""


class TargetLost(TargetUnavailable):
    """The device that measures does not answer any more; waiting for it may help."""


@contextmanager
def retold(
    tell: Callable[[Exception], AutooptError],
    passing: tuple[type[Exception], ...] = (AutooptError, MemoryError),
) -> Iterator[None]:
    """Raise one of our errors in place of whatever foreign code raises within: libraries raise kinds that nobody can list.

    The foreign error stays the cause of ours, for some are the machine's fault.

    Args:
        tell: makes our error of the foreign one.
        passing: kinds that pass as they are. By default those are our own, which say already what is wrong, and a lack
            of memory, which says nothing of what was worked on. The user's own code may be to blame for these too.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:  # the one broad net for foreign code
        raise tell(error) from error


def one_line(error: object, most: int | None = None) -> str:
    """The text of an error on one line.

    Args:
        error: the error, or a part of its text.
        most: characters, after which it is cut; None for all of it.
    """
    return " ".join(str(error).split())[:most]
