"""GPUs of this machine, each lent to as many jobs at a time as its memory allows, whoever of this user's studies runs them."""

import contextlib
import csv
import functools
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoopt.system.locks import private_folder, try_lock
from autoopt.system.scratch import PRIVATE

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that names the GPUs which a process may use."""
NONE = "-1"
"""Its value for no GPU at all."""
GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"
"""With it TensorFlow takes memory as it needs it, and not all that there is."""
JOB_BYTES = 8e9
"""Of a GPU's memory, that a job is given room for."""
MOST_JOBS = 4
"""At a time on one GPU: more take from each other what they gain."""
POLL_S = 0.2
ASK_S = 20
FIELDS = ("index", "uuid", "name", "memory.total", "memory.free")
"""What `nvidia-smi` is asked for."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        index: as CUDA and `nvidia-smi` count, where both go by the bus.
        uuid: by which CUDA finds it, whatever others there are.
        name: for people.
        total_bytes: of memory.
        free_bytes: of memory, when it was asked for.
    """

    index: int
    uuid: str
    name: str
    total_bytes: float
    free_bytes: float

    @property
    def jobs(self) -> int:
        """How many may use it at a time."""
        return max(1, min(MOST_JOBS, int(self.total_bytes // JOB_BYTES)))


def found() -> list[Gpu]:
    """The GPUs that this process may use, by NVIDIA's own tool; none where it is not there or does not answer."""
    return visible(_asked(), os.environ)


@functools.cache
def _asked() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(read(done.stdout)) if done.returncode == 0 else ()


def read(text: str) -> Iterator[Gpu]:
    """The GPUs in what the tool prints; lines that say something else are left out."""
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        with contextlib.suppress(ValueError):
            index, uuid, name, total, free = row
            yield Gpu(int(index), uuid, name, float(total) * 2**20, float(free) * 2**20)


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """Those that the variable leaves, in its order: it names them by index or by the beginning of a UUID.

    As for CUDA, the first name that fits none ends the list.
    """
    if VISIBLE not in environment:
        return list(gpus)
    left = []
    for name in (part.strip() for part in environment[VISIBLE].split(",")):
        fits = [gpu for gpu in gpus if name == str(gpu.index) or (name[:4] == "GPU-" and gpu.uuid.startswith(name))]
        if len(fits) != 1:
            break
        left += fits
    return left


@contextlib.contextmanager
def lent(most: int | None, stopped: Callable[[], bool]) -> Iterator[str | None]:
    """A GPU for one job; it waits until one is free.

    Args:
        most: GPUs that may be used; None for all.
        stopped: whether to wait no longer.

    Yields:
        its UUID, or `NONE` where no GPU may be used; `` where none is known; None if stopped before.

    Raises:
        TargetUnavailable: if the folder of the locks is not private.
    """
    gpus = found()[:most]
    if not gpus:
        yield NONE if most == 0 else ""
        return
    folder = private_folder(PRIVATE)
    while True:
        # Empty ones come first: a second job on one is slower than alone on another.
        for place in range(max(gpu.jobs for gpu in gpus)):
            for gpu in gpus:
                if place < gpu.jobs and (held := _held(folder / f"{gpu.uuid}-{place}")) is not None:
                    try:
                        yield gpu.uuid
                    finally:
                        os.close(held)
                    return
        if stopped():
            yield None
            return
        time.sleep(POLL_S)


def _held(path: Path) -> int | None:
    """A lock, held; None while another process, or another job of this one, has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if try_lock(file):
        return file
    os.close(file)
    return None


def environment(gpu: str | None) -> dict[str, str]:
    """What a job's environment says of GPUs.

    Args:
        gpu: UUID of its own, or `NONE`; `` where the machine has none that is known, and all is left as it is; None for a job that
            must not touch any.
    """
    if gpu is None:
        return {VISIBLE: NONE}
    return {VISIBLE: gpu, GROWTH: "true"} if gpu else {}
