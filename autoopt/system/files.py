"""Writes files so that they are whole or not there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autoopt.errors import TargetUnavailable

_UMASK = os.umask(0)
os.umask(_UMASK)  # it can only be read by setting it: once, before there are threads


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell what the system says of a folder that can't be written in words for people.

    Raises:
        TargetUnavailable: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise TargetUnavailable(
            f"{folder}: can't write ({error.strerror}); free space or permissions, then run the same command again"
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        TargetUnavailable: if the disk is full or the folder can't be written.
    """
    temporary = ""
    with writing(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}-", suffix=".tmp")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes it private; a shared store must be readable
            os.replace(temporary, path)
        except OSError:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise
    _sync_folder(path.parent)


def open_to_readers(folder: Path) -> None:
    """Give a folder that was made as a temporary one, and so is private, the rights of any other."""
    folder.chmod(0o777 & ~_UMASK)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems without that notion are left as they are."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
