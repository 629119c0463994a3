"""Advisory locks between processes, which the system lets go when a holder dies, however it dies; where they lie."""

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from autoopt.errors import TargetUnavailable

MEETING = "AUTOOPT_TMPDIR"
"""The variable by which a job, whose own temporary folder is another, knows where all processes of this user meet."""


def meeting_place() -> Path:
    """The temporary folder that this user's processes on this machine share: `TMPDIR`, or the system's."""
    return Path(os.environ.get(MEETING) or tempfile.gettempdir())


def private_folder(name: str) -> Path:
    """A folder on this machine that all processes of this user share, and nobody else enters.

    Raises:
        TargetUnavailable: if it is another user's, a link, or can't be closed to others.
    """
    folder = meeting_place() / f"{name}-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if hasattr(os, "getuid"):
        _expect_private(folder)
    return folder


def _expect_private(folder: Path) -> None:
    facts = folder.lstat()
    advice = "remove it, or set TMPDIR to another folder"
    if not stat.S_ISDIR(facts.st_mode):
        what = "a link" if stat.S_ISLNK(facts.st_mode) else "not a folder"
        raise TargetUnavailable(f"{folder} is {what}; {advice}")
    if facts.st_uid != os.getuid():
        raise TargetUnavailable(f"{folder} belongs to another user; {advice}")
    if stat.S_IMODE(facts.st_mode) != 0o700:
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
        if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
            raise TargetUnavailable(f"{folder} is open to other users, and stays so; {advice}")


if sys.platform == "win32":

    def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
        """Windows has no such locks: nobody is kept out."""
        return True

else:
    import fcntl

    def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
        """Lock an open file, or a folder's descriptor, until it is closed; False if another process holds it."""
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        return False
