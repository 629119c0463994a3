"""What must hold before TensorFlow is imported anywhere in the tests, and how workers share them."""

import fcntl
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tensorflow-model-optimization knows no other Keras
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
MEMORY, LEAST_ROOM = Path("/dev/shm"), 4 << 30


def _is_roomy(folder: Path) -> bool:
    """Whether tests can write, and run, what they like in a folder."""
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize > LEAST_ROOM


if "TMPDIR" not in os.environ and _is_roomy(MEMORY):
    # Studies wait for the disk at each record, so that none is lost: here that was most of what a night's logic took.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
if "PYTEST_XDIST_WORKER" in os.environ:
    # As if each had one core; and a temporary folder each, or a measurement of one would freeze the others' jobs.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="w")
    SLOWEST_FIRST = ("whole", "execution", "api", "reporting", "models", "compression", "tflite", "targets")


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


HEAVY_ROOMS = ("models", "compression", "tflite", "targets", "execution", "api", "server", "whole")
"""Their tests build models, run files or start processes."""
FORKED = {"api", "models", "whole"}
"""Rooms whose tests have files of other people looked at, each in a process of its own."""
HEAVY_FIXTURES = ("chromium", "searched")
"""A browser, and a study that is searched for real."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave heavy rooms unread where slow tests are left out: reading them alone loads TensorFlow."""
    left_out = config.option.markexpr == "not slow" and collection_path.name in HEAVY_ROOMS
    return True if left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell what `make fast` leaves out; begin with the rooms whose tests take longest, so that the workers end together."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if not set(item.path.parts).isdisjoint(HEAVY_ROOMS) or not set(fixtures).isdisjoint(HEAVY_FIXTURES):
            item.add_marker("slow")
    if "PYTEST_XDIST_WORKER" in os.environ:
        rooms = [*SLOWEST_FIRST, ""]
        items.sort(key=lambda item: next(n for n, room in enumerate(rooms) if room in item.path.parts or not room))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Leave what is in use out of later searches for garbage: TensorFlow asks for one a conversion, of millions of objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def forked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is isolated forked from a process that has TensorFlow, where the subject is not how it is started."""
    if not FORKED.isdisjoint(request.path.parts):
        import forked

        monkeypatch.setattr("autoopt.system.isolation.start", forked.start)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran to its end, with its store; made once, whichever worker asks first. Tests copy it."""
    import tinystudy

    import autoopt

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "finished" / "study"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "finished" / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            autoopt.run(tinystudy.write(folder), trials=tinystudy.TRIALS)
            (shared / "finished" / "whole").touch()
    return folder
