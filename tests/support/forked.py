"""Processes for `isolation.call` that are forked from the server of jobs, which has the libraries already: loading takes 3 s each."""

import os
import sys
from pathlib import Path
from typing import IO, Any

from autoopt.execution import starting
from autoopt.system import isolation


class Forked:
    """What `isolation` needs of a process: `subprocess.Popen` in small."""

    def __init__(self, process: Any, stdout: IO[str]) -> None:
        self.pid, self.stdout, self._process = process.pid, stdout, process

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()

    def wait(self) -> int:
        self._process.join()
        code: int = self._process.exitcode
        return code

    def kill(self) -> None:
        self._process.kill()


def start(folder: Path, log: IO[bytes]) -> Forked:
    """In place of `isolation.start`."""
    process, hear = starting.process(
        _answer, str(folder), log.name, os.getcwd(), sys.path, isolation.environment(folder)
    )
    return Forked(process, os.fdopen(os.dup(hear.fileno()), encoding="utf-8"))


def _answer(spoken: Any, folder: str, log: str, place: str, path: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    sys.path[:] = path
    os.dup2(spoken.fileno(), 1)
    spoken.close()
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(written, 2)
    os.close(written)
    isolation.answer(folder)
