"""The kinds of faults: each is a function that does one to a study and says what it found wrong afterwards."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import tiny

import autoopt
from autoopt.errors import AutooptError

POLL_S = 0.01
SOON_S = 10
"""Within which what is told to end has ended."""


class Ground:
    """What all faults are done to: a model, a finished study, how it ended and how long it took."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random, self.count = place, random.Random(seed), 0
        self.model = tiny.model(place / "model")
        self.finished = tiny.make(place / "finished", self.model)
        started = time.monotonic()
        if wrong := self.finished.finish():
            raise SystemExit(f"the undisturbed run {wrong[0]}")
        self.seconds = time.monotonic() - started
        self.reference = tiny.values(self.finished.folder)

    def fresh(self) -> tiny.Study:
        """A study that was not run yet."""
        self.count += 1
        return tiny.make(self.place / f"study{self.count}", self.model)

    def copied(self) -> tiny.Study:
        """A copy of the finished one."""
        study = self.fresh()
        shutil.rmtree(study.folder)
        shutil.copytree(self.finished.folder, study.folder, symlinks=True)
        return study

    def moment(self) -> float:
        """Some time after the start, before the end."""
        return self.random.uniform(0, self.seconds)


def _wait(driver: subprocess.Popen[str], until: Callable[[], object], seconds: float) -> bool:
    """Whether something came about before the driver ended, or time was up."""
    patience = time.monotonic() + seconds
    while driver.poll() is None and time.monotonic() < patience:
        if until():
            return True
        time.sleep(POLL_S)
    return False


def _end(ground: Ground, study: tiny.Study, before: dict[str, int]) -> list[str]:
    """Run it to the end, examine it, remove it."""
    wrong = study.finish() + study.orphans()
    wrong += wrong or tiny.incomplete(study, ground.reference, before)
    tiny.clear(study)
    return list(dict.fromkeys(wrong))


def kill(ground: Ground, number: int) -> list[str]:
    """The driver is killed (SIGKILL), every other time while one of its jobs is frozen."""
    study = ground.fresh()
    driver = study.start()
    if number % 2:
        _wait(driver, lambda: any(_is_frozen(job) for job in study.jobs(driver.pid)), tiny.LONGEST_S)
    else:
        _wait(driver, lambda: False, ground.moment())
    driver.kill()
    driver.wait()
    before = study.kept()
    wrong = study.orphans()
    return wrong + _end(ground, study, before)


def _is_frozen(job: psutil.Process) -> bool:
    try:
        return bool(job.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def signalled(ground: Ground, number: int) -> list[str]:
    """The driver gets SIGTERM, SIGHUP, SIGINT, or its whole group gets SIGTERM."""
    study = ground.fresh()
    driver = study.start()
    begun = study.folder / "out" / "driver.lock"
    _wait(driver, begun.exists, tiny.LONGEST_S)
    _wait(driver, lambda: False, ground.moment())
    which = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)[number % 4]
    if driver.poll() is None:
        (os.killpg if number % 4 == 3 else os.kill)(driver.pid, which)
    told = time.monotonic()
    try:
        driver.wait(timeout=tiny.LONGEST_S if which == signal.SIGINT else SOON_S)
        wrong = []
    except subprocess.TimeoutExpired:
        wrong = [f"{which.name}: not at its end after {time.monotonic() - told:.0f} s"]
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    if driver.returncode not in (0, 1, -signal.SIGKILL):
        wrong.append(f"{which.name}: ends with code {driver.returncode}")
    if "Traceback" in study.said():
        wrong.append(f"{which.name}: prints a traceback: {tiny.last_line(study.said())}")
    before = study.kept()
    return wrong + study.orphans() + _end(ground, study, before)


def job_killed(ground: Ground, number: int) -> list[str]:
    """A job is killed from outside; the run goes on and ends as if nothing had been."""
    study = ground.fresh()
    driver = study.start()
    _wait(driver, lambda: False, ground.moment())
    _wait(driver, lambda: study.jobs(driver.pid), tiny.LONGEST_S)
    for job in study.jobs(driver.pid)[:1]:
        job.kill()
    return _goes_on(ground, study, driver)


def server_killed(ground: Ground, number: int) -> list[str]:
    """The server that jobs are forked from is killed; likewise."""
    study = ground.fresh()
    driver = study.start()
    _wait(driver, lambda: study.jobs(driver.pid), tiny.LONGEST_S)
    _wait(driver, lambda: False, ground.moment())
    for child in psutil.Process(driver.pid).children() if driver.poll() is None else ():
        if "forkserver" in " ".join(child.cmdline()):
            child.kill()
    return _goes_on(ground, study, driver)


def _goes_on(ground: Ground, study: tiny.Study, driver: subprocess.Popen[str]) -> list[str]:
    try:
        code = driver.wait(timeout=tiny.LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(driver.pid, signal.SIGKILL)
        code = driver.wait()
    wrong = [] if code == 0 else [f"the run itself ends with code {code}: {tiny.last_line(study.said())}"]
    return wrong + _end(ground, study, study.kept())


# ---- full disks: in a namespace of its own, where a small file system can be mounted


def disk_full(ground: Ground, number: int) -> list[str]:
    """The study's disk, or the temporary folder's, is full from some moment on; then there is room again."""
    study = ground.fresh()
    which = "study" if number % 2 else "temporary"
    line = [sys.executable, str(Path(__file__)), which, str(study.place), f"{ground.moment()}"]
    done = subprocess.run([_program("unshare"), "-Urm", *line], capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"can't be tried: {tiny.last_line(done.stderr)}"]
    wrong = [f"{which}: {text}" for text in done.stdout.splitlines()]
    return wrong + [f"{which}: {text}" for text in _end(ground, study, study.kept())]


def _inside(which: str, place: Path, moment: float) -> list[str]:
    """Mount a small disk where the study or its temporary files are, fill it, free it; what was wrong meanwhile."""
    study = tiny.Study(place)
    small = study.folder if which == "study" else study.temporary
    inputs = {path.name: path.read_bytes() for path in small.iterdir()}
    subprocess.run([_program("mount"), "-t", "tmpfs", "-o", "size=64m", "none", str(small)], check=True)
    for name, content in inputs.items():
        (small / name).write_bytes(content)
    driver = study.start()
    _wait(driver, lambda: False, moment)
    _fill(small / "filler")
    _wait(driver, lambda: False, 10)
    wrong = []
    if which == "study" and driver.poll() == 0 and "all trials are done" not in study.said():
        wrong.append("ends with code 0 without room")
    (small / "filler").unlink()
    code = driver.wait(timeout=tiny.LONGEST_S)
    if "Traceback" in study.said():
        wrong.append(f"prints a traceback: {tiny.last_line(study.said())}")
    if which == "temporary" and code != 0:
        wrong.append(f"ends with code {code}: {tiny.last_line(study.said())}")
    kept = place / "kept"  # what is in the mount is gone with the namespace
    shutil.copytree(study.folder, kept)
    subprocess.run([_program("umount"), "-l", str(small)], check=True)
    if which == "study":
        shutil.rmtree(study.folder)
        shutil.move(kept, study.folder)
    else:
        shutil.rmtree(kept)
    return wrong


def _program(name: str) -> str:
    return shutil.which(name) or name


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(1 << 16)):
                pass
        except OSError:
            return


# ---- damage


def damaged(content: bytes, rng: random.Random) -> bytes | None:
    """The same content, damaged in one of some ways; None: the file is gone."""
    at = rng.randrange(max(1, len(content)))
    ways: list[Callable[[], bytes | None]] = [
        lambda: content[:at],
        lambda: content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :] if content else b"",
        lambda: content[:at] + bytes(min(4096, len(content) - at)) + content[at + 4096 :],
        lambda: b"",
        lambda: b"[1, 2]",
        lambda: b"\xff\xfe" + content,
        lambda: content + content[:at],
        lambda: None,
    ]
    return rng.choice(ways)()


def record_damaged(ground: Ground, number: int) -> list[str]:
    """A file of a finished study is damaged: of a candidate, the header, what was skipped, the store, or Optuna's."""
    study = ground.copied()
    out = study.folder / "out"
    kinds: dict[str, list[Path]] = {
        "candidate": sorted((out / "candidates").glob("*.json")),
        "header": [out / "study.json"],
        "skipped": sorted((out / "skipped").glob("*.json")),
        "store": sorted((out / "store").glob("??/*")),
        "database": [out / "study.db"],
    }
    names = [name for name, paths in kinds.items() if paths]
    kind = names[number % len(names)]
    path = ground.random.choice(kinds[kind])
    made = damaged(path.read_bytes(), ground.random)
    path.unlink()
    if made is not None:
        path.write_bytes(made)
    wrong = _in_words(lambda: tiny.shown_wrongly(study.folder, ground.reference))
    wrong += _in_words(lambda: _again(study, ground.reference))
    tiny.clear(study)
    return [f"{kind}: {text}" for text in wrong]


def _again(study: tiny.Study, reference: dict[str, list[Any]]) -> list[str]:
    autoopt.run(study.folder)
    return tiny.shown_wrongly(study.folder, reference)


def model_damaged(ground: Ground, number: int) -> list[str]:
    """The model's file is damaged: it is refused in one line, or taken as what it is."""
    study = ground.fresh()
    made = damaged(ground.model, ground.random)
    path = study.folder / "model.h5"
    path.unlink()
    if made is not None:
        path.write_bytes(made)
    wrong = _in_words(lambda: [] if autoopt.run(study.folder, recipes=[autoopt.Recipe()]) else ["no results"])
    tiny.clear(study)
    return wrong


def _in_words(what: Callable[[], list[str]]) -> list[str]:
    """What it finds wrong; a line for people from it is right, all else it raises is not."""
    try:
        return what()
    except AutooptError as error:
        return [] if "\n" not in str(error) else [f"says more than a line: {error!s:.150}"]
    except Exception as error:  # that is what is looked for
        return [f"raises {type(error).__name__}: {' '.join(str(error).split())[:150]}"]


KINDS: dict[str, Callable[[Ground, int], list[str]]] = {
    "kills": kill,
    "signals": signalled,
    "jobs": job_killed,
    "servers": server_killed,
    "disks": disk_full,
    "records": record_damaged,
    "models": model_damaged,
}
"""By the name of the option that says how many."""

if __name__ == "__main__":
    for found in _inside(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])):
        print(found)
