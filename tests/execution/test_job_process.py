"""Jobs in processes of their own, for real: killed, frozen, without room, without their server, without their driver."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
import waiting

from autoopt.errors import CandidateFailed, TargetUnavailable
from autoopt.execution import job_graph, machine_gate, starting
from autoopt.execution import job_process as process
from autoopt.execution.job_graph import Job
from autoopt.execution.job_process import Outcome, run
from autoopt.execution.jobs import JOBS
from autoopt.execution.trouble import describe
from autoopt.execution.workplace import Workplace
from autoopt.system import gpus, scratch
from autoopt.system.locks import private_folder

linux = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked and frozen on Linux alone")
DRIVER = """
import math, os, sys, threading
from pathlib import Path
from autoopt.execution import machine_gate; from autoopt.execution import job_graph as pipeline
from autoopt.execution.job_process import Workplace, run

store, task, then = sys.argv[1:]
place = Workplace(store=store, mark="here", threads=1, job_seconds=math.inf, job_bytes=4 << 30)
job = pipeline.job("task", {"path": task}, salt="")
"""
PRELOADED = ("autoopt.system.lifeline", "autoopt.execution.job_process", "plain_jobs")
"""What a server imports that does without TensorFlow, which takes most of the time of jobs that do next to nothing."""
PLAIN = f"from autoopt.execution import starting\nstarting.PRELOADED = {PRELOADED!r}\n"
"""What gives a driver such a server."""
SUPPORT = Path(__file__).parents[1] / "support"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(SUPPORT), *os.environ.get("PYTHONPATH", "").split(":")]),
}


def never() -> bool:
    return False


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    folder = tmp_path / "store"
    (folder / "marks").mkdir(parents=True)
    (folder / "marks" / "here").touch()
    return Workplace(store=str(folder), mark="here", threads=1, job_seconds=500, job_bytes=4 << 30)


def job(tmp_path: Path, code: str) -> Job:
    """A job that does this: it reads a `task.py`, whose text is run."""
    path = tmp_path / "task.py"
    path.write_text(code)
    return job_graph.job("task", {"path": str(path)}, salt=code)


def driver(tmp_path: Path, place: Workplace, code: str, rest: str) -> subprocess.Popen[bytes]:
    """A process of its own that supervises such a job, and does the `rest`."""
    script, task = tmp_path / "driver.py", tmp_path / "task.py"
    script.write_text(DRIVER + PLAIN + rest)
    task.write_text(code)
    line = [sys.executable, str(script), place.store, str(task), str(tmp_path / "then")]
    return subprocess.Popen(line, start_new_session=True, env=ENVIRONMENT)


def gone(pid: int) -> bool:
    """Whether a process has ended, its exit code read or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ---- GPUs


@linux
def test_a_training_sees_one_gpu_and_no_other_job_sees_any(
    tmp_path: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool that names GPUs is played; what a job's process sees is real."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-a, first, 81559, 80000'; echo '1, GPU-b, second, 81559, 80000'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    gpus._asked.cache_clear()
    seen = (
        f"import os\nnames = {(gpus.VISIBLE, gpus.GROWTH)}\nraise ValueError([os.environ.get(name) for name in names])"
    )
    kind = JOBS["task"]
    found = []
    for trains, most in ((False, None), (True, None), (True, 0)):
        monkeypatch.setitem(JOBS, "task", replace(kind, gpu=trains))
        found.append(run(job(tmp_path, f"{seen}  # {trains} {most}"), replace(place, gpus=most), never).reason)
    gpus._asked.cache_clear()
    assert "['-1', None]" in found[0]
    assert "['GPU-a', 'true']" in found[1]
    assert "['-1', 'true']" in found[2]


# ---- whose fault it is


@linux
@pytest.mark.parametrize(
    ("number", "state"),
    [
        *((number, "killed") for number in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")),
        *((number, "failed") for number in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE")),
    ],
)
def test_a_kill_from_outside_is_told_from_a_crash(tmp_path: Path, place: Workplace, number: str, state: str) -> None:
    code = f"import os, signal\nsignal.signal(signal.{number}, signal.SIG_DFL) if '{number}' != 'SIGKILL' else None\n"
    outcome = run(job(tmp_path, f"{code}os.kill(os.getpid(), signal.{number})"), place, never)
    assert (outcome.state, number in outcome.reason) == (state, True), outcome.reason


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_machine_lacks_is_waited_for(code: int, wrapped: bool) -> None:
    error: Exception = OSError(code, os.strerror(code), "/tmp/file")
    if wrapped:
        failed = CandidateFailed("convert", "TensorFlow can't convert")
        failed.__cause__ = error
        error = failed
    told = describe(error, folders=[], most_bytes=1 << 30)
    assert (told["state"], os.strerror(code) in told["reason"]) == ("waiting", True)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("ResourceExhaustedError: /tmp/x/variables.data; No space left on device", "waiting"),
        ("OOM when allocating tensor with shape[8,8] and type float on CPU", "waiting"),
        ("OOM when allocating tensor with shape[100000,100000] and type float on CPU", "failed"),
        ("Unable to create file (unable to open file: errno = 24, error message = 'Too many open files')", "waiting"),
        ("Read-only file system", "blocked"),
        ("LiteRT can't run the file: killed by signal 9", "killed"),
        ("LiteRT can't run the file: killed by signal 11", "failed"),
        ("a shape does not fit", "failed"),
    ],
)
def test_what_libraries_pass_on_is_understood(text: str, state: str) -> None:
    assert describe(CandidateFailed("convert", text), folders=[], most_bytes=1 << 30)["state"] == state


@pytest.mark.parametrize(
    ("code", "state"), [(errno.ENOSPC, "blocked"), (errno.EMFILE, "waiting"), (errno.EIO, "waiting")]
)
def test_a_store_that_can_not_be_written_is_told_from_a_full_one(code: int, state: str) -> None:
    error = TargetUnavailable("store: can't write")
    error.__cause__ = OSError(code, os.strerror(code))
    assert describe(error, folders=[], most_bytes=1)["state"] == state


def test_an_array_that_can_never_be_had_is_the_candidate_s_fault() -> None:
    import numpy as np

    with pytest.raises(MemoryError) as raised:
        np.empty((1 << 30, 1 << 20))
    assert describe(raised.value, folders=[], most_bytes=1 << 30)["state"] == "failed"
    assert describe(MemoryError(), folders=[], most_bytes=1 << 30)["state"] == "waiting"


def test_a_missing_folder_of_ours_is_the_machine_s_fault_and_any_other_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "gone" / "file").read_text()
    assert describe(raised.value, folders=[tmp_path], most_bytes=1)["state"] == "failed"
    assert describe(raised.value, folders=[tmp_path / "gone"], most_bytes=1)["state"] == "waiting"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a server's socket, as that of the system's own temporary folder does."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@linux
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a file system of its own")
def test_a_full_temporary_folder_costs_no_candidate(tmp_path: Path, place: Workplace, short: Path) -> None:
    """A real full disk, which only a namespace of our own can have."""
    temporary = short
    rest = """
temporary = Path(%r)
os.environ["TMPDIR"] = str(temporary)
machine_gate.thaw_if_nobody_measures([])  # Python tries another folder where the first is full from the beginning
try:
    if then == "no room": (temporary / "filler").write_bytes(bytes(1 << 20))
    if then == "no names": [(temporary / f"filler{n}").touch() for n in range(1000)]
except OSError as error: print(error, file=sys.stderr)
print(run(job, place, lambda: False).state, flush=True)
for filler in temporary.glob("filler*"): filler.unlink()
print(run(job, place, lambda: False).reason, flush=True)
"""
    (tmp_path / "driver.py").write_text(DRIVER + PLAIN + rest % str(temporary))
    fine = "raise ValueError('all is well')"
    writes = "import tempfile\nopen(tempfile.gettempdir() + '/some', 'wb').write(bytes(50_000))\n"
    fills = f"from pathlib import Path\nif not Path('{tmp_path}/said').exists():\n    Path('{tmp_path}/said').touch()\n"
    fills += "    import tempfile\n    open(tempfile.gettempdir() + '/some', 'wb').write(bytes(1 << 20))\n"
    mount = f"mount -t tmpfs -o size=512k,nr_inodes=64 none {temporary} && exec"
    for when, code in (("no room", writes), ("no names", writes), ("filled by itself", fills)):
        (tmp_path / "task.py").write_text(code + fine)
        rows = [sys.executable, str(tmp_path / "driver.py"), place.store, str(tmp_path / "task.py"), when]
        line = ["unshare", "-Urm", "sh", "-c", f'{mount} "$@"', "sh", *rows]
        done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        if "unshare" in done.stderr or "mount" in done.stderr:
            pytest.skip(f"no file system of its own here: {done.stderr.strip()}")
        first, second = done.stdout.splitlines()
        assert first == "waiting", (when, done.stdout, done.stderr)
        assert "all is well" in second, (when, done.stdout, done.stderr)


@pytest.mark.parametrize("asked", [False, True])
def test_jobs_start_one_by_one_where_there_is_no_server(tmp_path: Path, place: Workplace, asked: bool) -> None:
    """Where that is asked for, and where a temporary folder's path is too long for a server's socket."""
    code = "import tensorflow as tf\nraise ValueError(f'all is well: {tf.add(1, 2)}')"
    (tmp_path / "task.py").write_text(code)
    (tmp_path / "driver.py").write_text(DRIVER + "print(run(job, place, lambda: False).reason)")
    (deep := tmp_path / ("a" * 100)).mkdir()
    changed = {"AUTOOPT_START": "spawn"} if asked else {"TMPDIR": str(deep)}
    line = [sys.executable, str(tmp_path / "driver.py"), place.store, str(tmp_path / "task.py"), ""]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | changed, check=False)
    assert "all is well: 3" in done.stdout, done.stderr


# ---- where a job works


def test_a_job_works_in_a_folder_of_its_own_and_finds_its_modules_in_order(tmp_path: Path, place: Workplace) -> None:
    code = f"""
import json, os, sys, tempfile
tempfile.mkdtemp()
told = dict(temporary=tempfile.gettempdir(), variable=os.environ["TMPDIR"], path=sys.path, safe="PYTHONSAFEPATH" in os.environ)
json.dump(told, open({str(tmp_path / "told")!r}, "w"))
raise ValueError("all is well")
"""
    outcome = run(job(tmp_path, code), place, never)
    assert "all is well" in outcome.reason
    told = json.loads((tmp_path / "told").read_text())
    assert told["temporary"] == told["variable"]
    assert Path(told["temporary"]).is_relative_to(scratch.place())
    assert not Path(told["temporary"]).exists()
    assert not [entry for entry in told["path"] if not entry or "dask" in entry]
    assert not told["safe"]


@linux
def test_a_module_in_the_current_folder_does_not_hide_the_library_s(
    tmp_path: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "colorsys.py").write_text("raise SystemExit('the wrong one')")
    (elsewhere / "only_here.py").write_text("")
    monkeypatch.chdir(elsewhere)
    monkeypatch.syspath_prepend("")
    outcome = run(job(tmp_path, "import colorsys, only_here\nraise ValueError('all is well')"), place, never)
    assert "all is well" in outcome.reason


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    scratch.remove()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    scratch.remove()


@linux
def test_folders_of_dead_runs_are_swept_and_those_of_living_ones_stay(temporary: Path) -> None:
    code = "import sys; from autoopt.system import scratch; print(scratch.place(), flush=True); sys.stdin.read()"
    environment = {**os.environ, "TMPDIR": str(temporary)}

    def begun() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    (dead, left), (living, kept) = begun(), begun()
    dead.kill()
    dead.communicate()
    assert left.is_dir()
    mine = scratch.place()
    assert (left.exists(), kept.exists(), mine.exists()) == (False, True, True)
    living.communicate("")
    assert not kept.exists()


def test_a_folder_that_was_removed_is_made_again(temporary: Path) -> None:
    first = scratch.place()
    shutil.rmtree(temporary / first.relative_to(temporary).parts[0])
    assert scratch.place() != first
    assert scratch.place().is_dir()


@linux
def test_a_private_folder_is_no_link_and_closed_to_others(temporary: Path) -> None:
    folder = private_folder("mine")
    folder.chmod(0o777)
    assert private_folder("mine").stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(temporary)
    with pytest.raises(Exception, match=r"mine-\d+ is a link; remove it, or set TMPDIR to another folder"):
        private_folder("mine")


# ---- the server that jobs are forked from


@pytest.fixture
def plain_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers that are started in the test do without TensorFlow; the last is ended, so that tests that follow have theirs."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.setattr(starting, "PRELOADED", PRELOADED)
    yield
    os.kill(_server(), signal.SIGKILL)


@linux
@pytest.mark.usefixtures("plain_server")
def test_a_lost_server_is_started_again(tmp_path: Path, place: Workplace) -> None:
    """Killed during a job, which is lost with it, and between jobs, which nobody notices."""
    fine = job(tmp_path, "raise ValueError('all is well')")
    assert "all is well" in run(fine, place, never).reason
    slow = f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(30)"
    lost = job(tmp_path, slow)
    seen: list[int] = []

    def killed() -> bool:
        if not seen and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            seen.append(int((tmp_path / "pid").read_text()))
            os.kill(_server(), signal.SIGKILL)
        return False

    assert run(lost, place, killed).state == "waiting"
    waiting.until(lambda: gone(seen[0]))
    (tmp_path / "task.py").write_text("raise ValueError('all is well')")
    assert "all is well" in run(fine, place, never).reason
    os.kill(_server(), signal.SIGKILL)
    assert "all is well" in run(fine, place, never).reason


def _server() -> int:
    return int(vars(forkserver._forkserver)["_forkserver_pid"])


@linux
def test_an_exit_code_of_one_s_own_is_not_taken_for_a_lost_server(tmp_path: Path, place: Workplace) -> None:
    outcome = run(job(tmp_path, "import os; os._exit(255)"), place, never)
    assert (outcome.state, "exit code 255" in outcome.reason) == ("failed", True)


@linux
def test_signals_to_the_driver_s_group_reach_no_job(tmp_path: Path, place: Workplace) -> None:
    """As `timeout`, a closed terminal and service managers send them."""
    begun, sent, done = (tmp_path / name for name in ("begun", "sent", "done"))
    code = f"from pathlib import Path\nimport waiting\nPath({str(begun)!r}).touch()\n"
    code += f"waiting.until(Path({str(sent)!r}).exists)\nPath({str(done)!r}).touch()"
    rest = "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nrun(job, place, lambda: False)\n"
    started = driver(tmp_path, place, code, rest)
    waiting.until(begun.exists, of=started)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.killpg(started.pid, number)
    sent.touch()
    started.wait()
    assert done.exists()


@linux
@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize("frozen", [True, False])
def test_no_process_outlives_a_killed_driver(tmp_path: Path, place: Workplace, frozen: bool, turn: int) -> None:
    """Nor what a job has started itself; a frozen one can't react to anything but being killed."""
    code = f"""
import os, subprocess, time
more = subprocess.Popen(["sleep", "600"])
open({str(tmp_path / "pid")!r}, "w").write(f"{{os.getpid()}} {{more.pid}}")
while True: time.sleep(0.01)
"""
    rest = """
threading.Thread(target=run, args=(job, place, lambda: False), daemon=True).start()
import time
while True:
    held = machine_gate.entered(lambda: False)
    held.__enter__()
    jobs = machine_gate.freeze()
    if jobs and os.path.exists(told := then[:-4] + "pid") and os.path.getsize(told):
        break
    machine_gate.thaw(jobs)
    held.__exit__(None, None, None)
    time.sleep(0.05)
if not %r:
    machine_gate.thaw(jobs)
    held.__exit__(None, None, None)
open(then, "w").close()
time.sleep(600)
"""
    started = driver(tmp_path, place, code, rest % frozen)
    try:
        waiting.until((tmp_path / "then").exists, of=started)
        pids = [int(pid) for pid in (tmp_path / "pid").read_text().split()]
        waiting.until(
            lambda: (psutil.Process(pids[0]).status() == psutil.STATUS_STOPPED) == frozen
        )  # a signal takes its time
        descendants = psutil.Process(started.pid).children(recursive=True)
    finally:  # else it would hold the machine's gate
        started.kill()
        started.wait()
    waiting.until(lambda: all(gone(pid) for pid in (*pids, *(p.pid for p in descendants))))


# ---- one measurement at a time


HOLDER = "from autoopt.execution import machine_gate; import time\nwith machine_gate.entered(lambda: False):\n print(flush=True); time.sleep(600)"


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another study that measures."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@linux
def test_nobody_begins_to_measure_while_a_forgotten_job_is_let_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run beside the measurement."""
    let_in: list[object] = []

    def send(pid: int, number: int) -> None:
        with machine_gate.entered(lambda: True) as gate:
            let_in.append(gate)

    monkeypatch.setattr(machine_gate, "send", send)
    assert machine_gate.thaw_if_nobody_measures([1])
    assert let_in == [None]


@linux
def test_a_stopped_study_is_not_waited_for(tmp_path: Path, place: Workplace, holder: subprocess.Popen[bytes]) -> None:
    """As by Ctrl-Z, while it measures: another goes on after a while, and its jobs are not left frozen."""
    assert not machine_gate.thaw_if_nobody_measures([])
    holder.send_signal(signal.SIGSTOP)
    measuring = replace(job(tmp_path, "raise ValueError('all is well')"), exclusive="machine")
    assert "all is well" in run(measuring, place, never).reason
    holder.send_signal(signal.SIGCONT)
    with machine_gate.entered(never) as gate:  # the gate is ours to hold, for everybody
        assert gate is not None
        assert not machine_gate.thaw_if_nobody_measures([])


@linux
def test_a_job_that_a_stopped_study_froze_goes_on(
    tmp_path: Path, place: Workplace, holder: subprocess.Popen[bytes]
) -> None:
    number, stopped = tmp_path / "pid", tmp_path / "stopped"
    code = f"import os, time\nopen({str(number)!r}, 'w').write(str(os.getpid()))\n"
    code += f"while not os.path.exists({str(stopped)!r}): time.sleep(0.01)\nraise ValueError('all is well')"
    begun: list[int] = []

    def froze() -> bool:
        if not begun and number.exists() and number.read_text():
            begun.append(int(number.read_text()))
            os.kill(begun[0], signal.SIGSTOP)
            waiting.until(lambda: psutil.Process(begun[0]).status() == psutil.STATUS_STOPPED)
            stopped.touch()  # which the job sees only when it goes on
        return False

    holder.send_signal(signal.SIGSTOP)
    outcome: Outcome = run(job(tmp_path, code), place, froze)
    assert (len(begun), "all is well" in outcome.reason) == (1, True)


# ---- limits


@linux
@pytest.mark.parametrize(
    ("limit", "foretold", "words"),
    [
        (1.0, None, "not done after 1 s (limits.job_time)"),
        (
            math.inf,
            None,
            "not done after 3 s (it said nothing of how long it takes; limits.job_time sets another limit)",
        ),
        (math.inf, 0.1, "not done after 1 s (it foretold less than a quarter of that;"),
        (
            math.inf,
            0.5,
            "not done after 2 s (4 times what its first epoch foretold; limits.job_time sets another limit)",
        ),
    ],
)
def test_a_job_takes_as_long_as_was_said(
    tmp_path: Path, place: Workplace, limit: float, foretold: float | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FORETOLD_S", 1.0)
    monkeypatch.setattr(process, "UNFORETOLD_S", 3.0)
    slow = job(tmp_path, "import time; time.sleep(60)")
    if foretold is not None:
        (tmp_path / "store" / "logs").mkdir()
        place.foretold(slow.key).write_text(str(foretold))
    outcome = run(slow, replace(place, job_seconds=limit), never)
    assert (outcome.state, words in outcome.reason) == ("failed", True), outcome.reason
    assert not place.foretold(slow.key).exists()


def test_a_clock_that_is_set_changes_no_job(tmp_path: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shift = time.time, iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: clock() - 86_400 * next(shift))
    outcome = run(replace(job(tmp_path, "import os; os._exit(3)")), place, never)
    assert (outcome.state, outcome.seconds >= 0) == ("failed", True)
