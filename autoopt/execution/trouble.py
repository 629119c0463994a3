"""Whose fault an error is: the candidate's, the user's, or the machine's, which counts against neither."""

import errno
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import AutooptError, CandidateFailed, ConfigError, ResultLost, TargetLost, one_line

MAY_PASS = (
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE,
)  # fmt: skip
"""Errors of the machine that may be gone in a while."""
NEEDS_A_PERSON = (errno.EROFS, errno.EFBIG)
"""Errors of the machine that somebody has to mend."""
_WORDS = {os.strerror(code): code for code in (*MAY_PASS, *NEEDS_A_PERSON) if code != errno.EAGAIN}
"""What libraries that raise errors of their own pass on of the system's."""
_NO_MEMORY = re.compile(r"std::bad_alloc|failed to allocate memory|OOM when allocating|[Cc]annot allocate memory")
_OF_GPU = re.compile(r"device:GPU|allocator GPU")
"""Such memory does not come back by waiting: it is the training's own that fills it."""
_SHAPE = re.compile(r"allocat\w+ tensor with shape\s*\[([\d,\s]*)\]")
_KILLED = re.compile(r"killed by signal (?:1|2|9|15)\b")


def describe(error: BaseException, *, folders: Sequence[Path], most_bytes: int) -> dict[str, Any]:
    """State, reason and where it is known the stage of a job that raised an error (see `process.Outcome`).

    Args:
        error: what was raised.
        folders: where the job works and keeps results; what is missing there is not the candidate's fault.
        most_bytes: the job's memory limit; a single piece of memory over it will never be had.
    """
    text = one_line(error, 500)
    if isinstance(error, ConfigError) and not _of_machine(error, folders, most_bytes):
        return {"state": "config", "reason": text}
    if isinstance(error, ResultLost):
        return {"state": "unavailable", "reason": text}
    if isinstance(error, TargetLost):
        return {"state": "away", "reason": text}
    if isinstance(error, AutooptError) and not isinstance(error, CandidateFailed | ConfigError):
        passes = isinstance(error.__cause__, OSError) and error.__cause__.errno in MAY_PASS and not _full(error)
        return {"state": "waiting" if passes else "blocked", "reason": text}
    if found := _of_machine(error, folders, most_bytes):
        return found
    if isinstance(error, CandidateFailed):
        state = "killed" if _KILLED.search(error.reason) else "failed"
        return {"state": state, "stage": error.stage, "reason": error.reason}
    return {"state": "failed", "reason": f"{type(error).__name__}: {text}" if text else type(error).__name__}


def _full(error: BaseException) -> bool:
    """Whether the study's own disk is full, which a person has to mend: jobs would fill it again."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def _of_machine(error: BaseException, folders: Sequence[Path], most_bytes: int) -> dict[str, Any] | None:
    """State and reason if the machine is behind an error, or behind what it was raised for."""
    found = (_one(link, folders, most_bytes) for link in _chain(error))
    return next((one for one in found if one is not None), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with those that it was raised for, or while they were handled."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _one(error: BaseException, folders: Sequence[Path], most_bytes: int) -> dict[str, Any] | None:
    text = one_line(error)
    if isinstance(error, AutooptError) and not isinstance(error, CandidateFailed | ConfigError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error, folders)
    if isinstance(error, MemoryError) or (_NO_MEMORY.search(text) and not _OF_GPU.search(text)):
        if _asked_bytes(error, text) > most_bytes:
            return None
        return {"state": "waiting", "reason": f"no memory was left for it ({text[:200] or 'MemoryError'})"}
    code = next((code for words, code in _WORDS.items() if words in text), None)
    return None if code is None else _told(code, "", text[:200])


def _of_system(error: OSError, folders: Sequence[Path]) -> dict[str, Any] | None:
    path = str(error.filename or "")
    if error.errno in (*MAY_PASS, *NEEDS_A_PERSON):
        return _told(int(error.errno), path, "")
    missing = [folder for folder in folders if not folder.is_dir()]
    if error.errno == errno.ENOENT and (missing or "No usable temporary directory" in str(error)):
        return {"state": "waiting", "reason": f"{missing[0] if missing else 'the temporary folder'} is missing"}
    ours = any(path == str(folder) or path.startswith(f"{folder}{os.sep}") for folder in folders)
    if ours and error.errno in (errno.EACCES, errno.EPERM):
        return {"state": "blocked", "reason": f"{path}: {error.strerror}; mend that, then run the same command again"}
    return None


def _told(code: int, path: str, said: str) -> dict[str, Any]:
    where = f"{path}: " if path else ""
    more = f" ({said})" if said and said != os.strerror(code) else ""
    if code in NEEDS_A_PERSON:
        return {
            "state": "blocked",
            "reason": f"{where}{os.strerror(code)}{more}; mend it, then run the same command again",
        }
    return {"state": "waiting", "reason": f"{where}{os.strerror(code)}{more}"}


def _asked_bytes(error: BaseException, text: str) -> float:
    """At least how much memory was asked for at once; 0 where that is not told."""
    kind, sizes = getattr(error, "dtype", None), getattr(error, "shape", None)  # as numpy's errors have them
    if isinstance(kind, np.dtype) and isinstance(sizes, tuple):
        return float(math.prod(sizes) * kind.itemsize)
    shape = _SHAPE.search(text)
    count = 1.0
    for size in shape[1].split(",") if shape else ():
        count *= float(size.strip() or 1)
    return count if shape else 0.0
