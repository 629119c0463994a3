"""A temporary folder of this process's own, in which its jobs work; it goes with the process, or is swept by the next one.

The folder is locked as long as its process lives, so that a dead run's is told from a living one's, whatever number the
process had. The system's own cleaning of old temporary files leaves locked folders alone, too.
"""

import atexit
import contextlib
import glob
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoopt.system.locks import private_folder, try_lock

PRIVATE = "autoopt"
LIFELINE = "lifeline"
"""Name of the pipe by which others learn that this process has ended."""
_making = threading.Lock()
_mine: list["_Place"] = []


@dataclass(frozen=True)
class _Place:
    """A folder with the descriptors that are held open for it."""

    folder: Path
    process: int
    descriptors: tuple[int, ...]


def place() -> Path:
    """This process's own folder, made at first use, and again where somebody has removed it.

    Raises:
        OSError: if it can't be made: no room, for one.
        TargetUnavailable: if the folder above it is not private.
    """
    with _making:
        if _mine and (_mine[0].process != os.getpid() or not _mine[0].folder.is_dir()):
            _mine.clear()  # what it held stays open: closing the lifeline would end the jobs that run
        if not _mine:
            root = private_folder(PRIVATE) / "scratch"
            root.mkdir(mode=0o700, exist_ok=True)
            sweep(root)
            _mine.append(_made(root))
            atexit.register(remove)
        return _mine[0].folder


def _made(root: Path) -> _Place:
    """A locked folder; another process that sweeps may take one away between its making and its locking."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
        if sys.platform == "win32":
            return _Place(folder, os.getpid(), ())
        with contextlib.suppress(FileNotFoundError):
            held = os.open(folder, os.O_RDONLY)
            if try_lock(held) and folder.exists():
                lifeline = folder / LIFELINE
                os.mkfifo(lifeline, 0o600)
                return _Place(folder, os.getpid(), (held, os.open(lifeline, os.O_RDWR)))
            os.close(held)


def sweep(root: Path) -> None:
    """Remove folders whose processes have ended."""
    if sys.platform == "win32":  # without locks the living can't be told from the dead
        return
    for folder in root.iterdir():
        _sweep(folder)


def _sweep(folder: Path) -> None:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    if try_lock(held):
        shutil.rmtree(folder, ignore_errors=True)
    os.close(held)


@contextlib.contextmanager
def beside(place: Path, prefix: str, more: str = "") -> Iterator[Path]:
    """A temporary folder in a place of the user's, gone after; those that killed processes left there go before.

    Args:
        place: a folder.
        prefix: of the folder's name, with which no name begins that a person would give.
        more: of the name, after the prefix.

    Raises:
        OSError: if it can't be made.
    """
    windows = sys.platform == "win32"  # without locks the living can't be told from the dead
    for left in () if windows else place.glob(f"{glob.escape(prefix)}*"):
        _sweep(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{more}", dir=place))
        held = None if windows else os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        if held is None or (try_lock(held) and folder.exists()):  # else another process has swept it
            break
        os.close(held)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def for_job(key: str) -> Iterator[Path]:
    """A folder for everything temporary of one job, removed however that ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"{key[:8]}-", dir=place()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove() -> None:
    """Give the folder up; the next use makes a new one."""
    with _making:
        if _mine and _mine[0].process == os.getpid():
            shutil.rmtree(_mine[0].folder, ignore_errors=True)
        _leave()


def _leave() -> None:
    for found in _mine:
        for descriptor in found.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _mine.clear()
