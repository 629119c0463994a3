"""A content-addressed store: key -> bytes, written whole or not at all, checked on reading.

A key is the SHA-256 of everything that a job's result follows from (see `job_graph`), so an entry never
goes stale. Each file carries the SHA-256 of its content: what was cut short or has rotted is dropped
and made again. Failures are never stored.
"""

import contextlib
import hashlib
import struct
from pathlib import Path

from autoopt.errors import TargetUnavailable
from autoopt.system.files import write_atomically

MAGIC = b"autoopt1"
_DIGEST_SIZE = hashlib.sha256().digest_size
_SECONDS = struct.Struct("<d")
_HEAD = len(MAGIC) + _DIGEST_SIZE


class Store:
    """A folder of results by key; several processes and machines may share it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._seconds: dict[str, tuple[tuple[int, int], float]] = {}

    def path(self, key: str) -> Path:
        """Where a key's file is, or would be."""
        if not key.isalnum():
            raise ValueError(f"not a key: {key!r}")
        return self.root / key[:2] / key

    def folder(self, key: str) -> Path:
        """Where the files of a key are, or would be, that has several (see `split_store`)."""
        return self.path(key).with_name(f"{key}.columns")

    def put(self, key: str, data: bytes, seconds: float = 0.0) -> None:
        """Keep `data` under `key`; an entry that is there already is replaced by its equal.

        Args:
            key: letters and digits.
            data: what to keep.
            seconds: what it took to make: what a later hit saves.

        Raises:
            TargetUnavailable: if it can't be written.
        """
        body = _SECONDS.pack(seconds) + data
        write_atomically(self.path(key), MAGIC + hashlib.sha256(body).digest() + body)

    def get(self, key: str) -> bytes | None:
        """What is kept under `key`, or None; a damaged entry is removed and counts as absent.

        Raises:
            TargetUnavailable: if the folder can't be read.
        """
        body = self._body(key)
        return None if body is None else body[_SECONDS.size :]

    def seconds(self, key: str) -> float | None:
        """What an intact entry took to make, or None where there is none.

        A search asks this of the same entries again and again: one that has not changed is not read anew.
        """
        try:
            found = self.path(key).stat()
        except OSError:
            found = None
        version = None if found is None else (found.st_mtime_ns, found.st_size)
        if version is not None and (known := self._seconds.get(key)) is not None and known[0] == version:
            return known[1]
        body = self._body(key)
        if body is None:
            self._seconds.pop(key, None)
            return None
        seconds = float(_SECONDS.unpack_from(body)[0])
        if version is not None:
            self._seconds[key] = version, seconds
        return seconds

    def size(self, key: str) -> int | None:
        """Bytes of what is kept under `key`, by its file's length alone; None where there is none."""
        try:
            return max(0, self.path(key).stat().st_size - _HEAD - _SECONDS.size)
        except OSError:
            return None

    def _body(self, key: str) -> bytes | None:
        path = self.path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TargetUnavailable(
                f"{path}: can't read ({error.strerror}); mend that, then run the same command again"
            ) from error
        body = raw[_HEAD:]
        if raw[:_HEAD] == MAGIC + hashlib.sha256(body).digest():
            return body
        with contextlib.suppress(OSError):  # in a folder that may only be read it stays, and stays absent
            path.unlink()
        return None
