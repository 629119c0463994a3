"""Advisory locks between processes, which the system lets go when a holder dies, however it dies; where they lie."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from autoopt.errors import TargetUnavailable


def private_folder(name: str) -> Path:
    """A folder on this machine that all processes of this user share, and nobody else enters.

    Raises:
        TargetUnavailable: if it is another user's.
    """
    folder = Path(tempfile.gettempdir(), f"{name}-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise TargetUnavailable(f"{folder} belongs to another user; remove it, or set TMPDIR to another folder")
    return folder


if sys.platform == "win32":

    def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
        """Windows has no such locks: nobody is kept out."""
        return True

else:
    import fcntl

    def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
        """Lock an open file until it is closed; False if another process holds it."""
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        return False
