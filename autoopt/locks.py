"""Advisory locks between processes, which the system lets go when a holder dies, however it dies."""

import contextlib
import sys
from typing import IO, Any

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
