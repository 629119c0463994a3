"""Temporary folders in a place of the user's: gone after, and those of the dead before."""

import contextlib
import subprocess
import sys

import pytest

from autoopt.system import scratch

PREFIX = ".my [study]*-autoopt-init-"
DIES = """
import os, signal, sys
from pathlib import Path
from autoopt.system import scratch
with scratch.beside(Path(sys.argv[1]), sys.argv[2], "abc-") as folder:
    (folder / "large").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(place):
    return sorted(path.name for path in place.iterdir())


def test_it_is_gone_after_whatever_happens(tmp_path):
    with contextlib.suppress(RuntimeError), scratch.beside(tmp_path, PREFIX, "abc-") as folder:
        assert folder.name.startswith(f"{PREFIX}abc-")
        assert folder.parent == tmp_path
        (folder / "inside").mkdir()
        raise RuntimeError
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="without locks the living can't be told from the dead")
def test_what_a_killed_process_left_goes_before_and_nothing_else(tmp_path):
    (tmp_path / ".my s-autoopt-init-kept").mkdir()
    (tmp_path / "kept").write_text("a user's own")
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path), PREFIX], check=False)
    assert len(names(tmp_path)) == 3
    with scratch.beside(tmp_path, PREFIX) as first, scratch.beside(tmp_path, PREFIX) as second:
        assert first.is_dir(), "a living process keeps its own"
        assert names(tmp_path) == sorted([".my s-autoopt-init-kept", "kept", first.name, second.name])
    assert names(tmp_path) == [".my s-autoopt-init-kept", "kept"]


def test_a_place_that_is_not_there_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), scratch.beside(tmp_path / "none", PREFIX):
        pass
