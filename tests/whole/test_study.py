"""The search as a user runs it: kill -9, crashes, full disks, second drivers; on a tiny real model."""

import contextlib
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinystudy as tiny
import waiting
from click.testing import CliRunner

import autoopt
from autoopt.api.saved_study import SavedResults
from autoopt.cli.commands import main
from autoopt.core.deflate import smallest_gzip
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution import job_process


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A finished study that a test may spoil; its store makes running it again quick."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


@pytest.fixture
def yet_to_run(copy: Path) -> Path:
    """A study without results, whose store has what most of its jobs would make: for what is about the search alone."""
    for path in (copy / "out").iterdir():
        if path.name != "store":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return copy


def optuna_states(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "out" / "study.db")) as database:
        return [state for (state,) in database.execute("select state from trials")]


def values(results: SavedResults) -> dict[str, tuple[float | None, ...]]:
    """What does not depend on timing, by recipe."""
    exact = ("accuracy", "size_bytes", "compressed_bytes")
    return {c.recipe.digest: (c.sha256, *(c.value(n) for n in exact)) for c in results.candidates}


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end when the test does."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def launch(started: list[subprocess.Popen[str]], *arguments: str | Path) -> subprocess.Popen[str]:
    command = [*tiny.COMMAND, *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=tiny.ENVIRONMENT)
    started.append(process)
    return process


def test_a_finished_study_has_a_baseline_schemes_and_a_front(finished: Path) -> None:
    results = autoopt.load(finished)
    assert [c.number for c in results.candidates] == list(range(tiny.TRIALS))
    assert [c.origin for c in results.candidates[:3]] == ["baseline", "scheme", "scheme"]
    assert not any(c.failed for c in results.candidates)
    assert results.baseline is not None
    assert results.baseline.measurements["latency_ratio"].value == 1.0
    assert results.front()
    for c in results.candidates:
        assert set(c.measurements) >= {"accuracy", "latency_ms", "size_bytes", "compressed_bytes", "memory_bytes"}
        assert len(results.file(c)) == c.measurements["size_bytes"].value
        assert len(smallest_gzip(results.file(c))) == c.measurements["download_bytes"].value
        assert sum(part["size_bytes"] for part in c.proof["parts"]) == c.measurements["size_bytes"].value
        assert c.finished.endswith("+00:00")
    assert (finished / "out" / "report.html").read_text().lower().startswith("<!doctype html>")
    assert [c.holds for c in autoopt.verify(finished / "out" / "pick").checks] == [True] * 4
    assert set(optuna_states(finished)) <= {"COMPLETE", "WAITING"}  # siblings wait for more trials


def test_running_again_does_nothing_and_says_so(copy: Path) -> None:
    done = tiny.invoke("run", copy, "--trials", tiny.TRIALS)
    assert done.returncode == 0, done.stderr
    assert "all trials are done" in done.stderr
    assert len(autoopt.load(copy).candidates) == tiny.TRIALS


def test_a_warm_store_repeats_nothing(copy: Path) -> None:
    before = autoopt.load(copy)
    for path in (copy / "out" / "study.db", copy / "out" / "candidates"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    after = autoopt.run(copy, trials=tiny.TRIALS)
    assert values(after) == values(before)
    assert sum(c.seconds for c in after.candidates) == 0
    assert sum(c.seconds_saved for c in after.candidates) > 1


def test_more_trials_go_on_from_where_it_stopped(copy: Path) -> None:
    before = autoopt.load(copy)
    after = autoopt.run(copy, trials=tiny.TRIALS + 2)
    assert len(after.candidates) == tiny.TRIALS + 2
    assert after.candidates[: tiny.TRIALS] == before.candidates
    assert len({c.recipe.digest for c in after.candidates}) == tiny.TRIALS + 2
    trained = [c for c in after.candidates if c.report]  # four of the space's six recipes that train one of two models
    shared = next(c for c in trained if any(c.report == other.report for other in trained if other.number < c.number))
    assert shared.seconds_saved >= sum(stage["seconds"] for stage in shared.report)


def test_kill_9_loses_nothing_finished(tmp_path: Path, finished: Path, started: list[subprocess.Popen[str]]) -> None:
    """One study is killed in its baseline, while it trains, and late; each time it goes on from what it had."""
    folder = tiny.write(tmp_path / "study")
    logs, candidates = folder / "out" / "store" / "logs", folder / "out" / "candidates"
    kept: dict[str, int] = {}
    for done, training in ((0, True), (3, True), (4, False)):  # what runs late may run too shortly to be caught at it
        driver = launch(started, "run", folder, "--trials", tiny.TRIALS)
        waiting.until(lambda least=done: len(list(candidates.glob("*.json"))) >= least, of=driver)
        if training:  # where nothing looks for so long that all is done, it has ended
            waiting.until(lambda over=driver.poll: any(logs.glob("*.progress")) or over() is not None)
        driver.kill()
        driver.wait()
        now = {path.name: path.stat().st_mtime_ns for path in candidates.glob("*.json")}
        assert now.items() >= kept.items()
        kept = now
        waiting.until(lambda: not _jobs_of(folder))

    again = tiny.invoke("run", folder, "--trials", tiny.TRIALS)
    assert again.returncode == 0, again.stderr
    results = autoopt.load(folder)
    found, undisturbed = values(results), values(autoopt.load(finished))
    assert len(found) == len(undisturbed) == tiny.TRIALS
    both = found.keys() & undisturbed.keys()  # what the sampler proposes follows from how often it was begun
    assert len(both) >= tiny.TRIALS - 1
    assert {digest: found[digest] for digest in both} == {digest: undisturbed[digest] for digest in both}
    assert {name: (candidates / name).stat().st_mtime_ns for name in kept} == kept
    assert "RUNNING" not in optuna_states(folder)


def _jobs_of(folder: Path) -> list[int]:
    """Processes that still have this study's store in their open files."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                files = [os.readlink(f) for f in (process / "fd").iterdir()]
            except OSError:
                continue
            if any(f.startswith(str(folder / "out" / "store")) for f in files):
                found.append(int(process.name))
    return found


FAULTS = {
    "segfault": "SIGSEGV",
    "abort": "SIGABRT",
    "raise": "the metric's own trouble",
    "nan": "hits on validation is nan",
    "exit": "exit code 7",
    "memory": "memory limit",
    "hang": "time limit",
}


def test_a_job_that_goes_wrong_costs_its_candidate_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault for real, in one study: fails with stage and reason, the search goes on.

    The job that hangs comes alone, and no limit holds before: where the machine is busy, any job may take as long.
    """
    study = tiny.STUDY.replace("sparsity: [0.5, 0.7]", "optional: true, sparsity: {low: 0.1, high: 0.9, step: 0.02}")
    study += "limits: {job_memory: 1.5 GB}\n"
    folder = tiny.write(tmp_path / "study", own_metric=True, study=study)
    (folder / "faults").mkdir()
    for fault in ({*FAULTS} - {"hang"}) | {"oom-kill"}:  # the last is not its candidate's fault: that is tried again
        (folder / "faults" / fault).touch()
    sparsities = [round(0.1 + 0.02 * count, 2) for count in range(len(FAULTS) + 1)]
    parts = {"scheme": "int8", "finetune": _tuning()}
    recipes = [autoopt.Recipe(prune=autoopt.Prune(sparsity=s, frequency=2), **parts) for s in sparsities]
    autoopt.run(folder, recipes=[autoopt.Recipe(), *recipes[:-1]])
    (folder / "faults" / "hang").touch()
    (folder / "study.yaml").write_text(study.replace("limits: {", "limits: {job_time: 1 s, "))
    limit, hangs = job_process._limit, folder / "hangs"
    with monkeypatch.context() as patch:
        patch.setattr(job_process, "_limit", lambda given: limit(given) if hangs.exists() else (math.inf, "none yet"))
        autoopt.run(folder, recipes=recipes[-1:])
    (folder / "study.yaml").write_text(study)
    results = autoopt.run(folder, recipes=[autoopt.Recipe(scheme="int8")])
    failed = [candidate for candidate in results.candidates if candidate.failed]
    assert [candidate.failed_stage for candidate in failed] == ["prune"] * len(FAULTS)
    for fault, words in FAULTS.items():
        assert sum(words in candidate.reason for candidate in failed) == 1, (fault, failed)
    assert len(results.candidates) == len(recipes) + 2
    states = optuna_states(folder)
    assert "RUNNING" not in states
    assert states.count("PRUNED") == len(FAULTS)


def test_recipes_asked_for_by_name_are_made_and_no_others(yet_to_run: Path) -> None:
    folder = yet_to_run
    named = [autoopt.Recipe(), autoopt.Recipe(scheme="int8")]
    results = autoopt.run(folder, recipes=named)
    assert [c.recipe for c in results.candidates] == named
    assert [c.origin for c in results.candidates] == ["baseline", "search"]
    # what an earlier run left waiting (the ends of the space) does not come before them
    autoopt.run(folder, trials=3)
    pruned = autoopt.Recipe(prune=autoopt.Prune(sparsity=0.4, frequency=2), finetune=_tuning())
    assert autoopt.run(folder, recipes=[pruned]).candidates[3:] == (autoopt.load(folder).candidates[-1],)
    assert autoopt.load(folder).candidates[-1].recipe == pruned


def _tuning() -> autoopt.Finetune:
    return autoopt.Finetune(epochs=1, learning_rate=0.002, batch_size=32)


def test_a_failure_is_not_kept_in_the_store(copy: Path) -> None:
    """What failed once is tried again in a new study on the same store."""
    results = autoopt.load(copy)
    stored = {path.name for path in (copy / "out" / "store").glob("??/*")}
    assert all(c.file in stored for c in results.candidates)


def test_a_second_driver_is_refused(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    folder = tiny.write(tmp_path / "study")
    first = launch(started, "run", folder)
    lock = folder / "out" / "driver.lock"
    waiting.until(lambda: lock.exists() and str(first.pid) in lock.read_text(), of=first)
    second = tiny.invoke("run", folder)
    assert second.returncode == 1
    assert f"another autoopt (process {first.pid}) is running this study" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_damaged_store_entry_is_made_again(copy: Path, finished: Path) -> None:
    results = autoopt.load(copy)
    spoilt = results.candidates[1]
    entry = copy / "out" / "store" / spoilt.file[:2] / spoilt.file
    entry.write_bytes(entry.read_bytes()[:-100])
    with pytest.raises(TargetUnavailable, match="has lost the file of #1"):
        results.export(1, copy / "bundle")
    shutil.rmtree(copy / "out" / "candidates")
    assert values(autoopt.run(copy, trials=tiny.TRIALS)) == values(autoopt.load(finished))
    autoopt.load(copy).export(1, copy / "bundle")


def test_a_damaged_candidate_file_is_left_out_then_restored(copy: Path, finished: Path) -> None:
    path = copy / "out" / "candidates" / "00001.json"
    path.write_text(path.read_text()[:-40])
    shown = tiny.invoke("front", copy)
    assert shown.returncode == 0
    assert "00001.json is damaged and left out" in shown.stderr
    header = copy / "out" / "study.json"
    header.write_text(header.read_text().replace("accuracy", "accuracu", 1))
    restored = tiny.invoke("run", copy, "--trials", tiny.TRIALS, "--plain")
    for spoilt in (path, header):
        assert f"warning: {spoilt} is damaged (" in restored.stderr
        assert f"set aside as {spoilt.name}.damaged" in restored.stderr
    assert values(autoopt.load(copy)) == values(autoopt.load(finished))
    assert path.with_name("00001.json.damaged").exists()
    assert header.with_name("study.json.damaged").exists()
    assert autoopt.load(copy).damaged == ()


def test_a_changed_task_or_space_is_refused(copy: Path) -> None:
    study = (copy / "study.yaml").read_text()
    (copy / "study.yaml").write_text(study.replace("[0.5, 0.7]", "[0.5, 0.8]"))
    with pytest.raises(ConfigError, match="its space changed since the study began"):
        autoopt.run(copy, trials=tiny.TRIALS)
    (copy / "study.yaml").write_text(study)
    task = (copy / "task.py").read_text()
    (copy / "task.py").write_text(task.replace("validation=data(200, 1)", "validation=data(200, 3)"))
    with pytest.raises(ConfigError, match="its task changed since the study began"):
        autoopt.run(copy, trials=tiny.TRIALS)


def test_budgets_reach_the_sampler_and_the_results(yet_to_run: Path) -> None:
    study = tiny.STUDY + 'budgets: ["size_bytes <= 0.5 * baseline"]\n'
    folder = tiny.write(yet_to_run, study=study)
    results = autoopt.run(folder, trials=3)
    assert results.statuses()[0] == "infeasible"
    assert {results.statuses()[1], results.statuses()[2]} <= {"front", "dominated"}
    with contextlib.closing(sqlite3.connect(folder / "out" / "study.db")) as database:
        query = "select value_json from trial_system_attributes where key like 'constraints%'"
        margins = [json.loads(value) for (value,) in database.execute(query)]
    assert len(margins) == 3
    assert sorted(m > 0 for m in margins) == [False, False, True]


def test_a_space_that_is_exhausted_ends_the_search(yet_to_run: Path) -> None:
    study = tiny.STUDY.replace("  prune: {sparsity: [0.5, 0.7], frequency: 2}\n", "").replace("trials: 5", "trials: 9")
    folder = tiny.write(yet_to_run, study=study)
    done = tiny.invoke("run", folder)
    assert done.returncode == 0
    assert "the space is exhausted" in done.stderr
    assert len(autoopt.load(folder).candidates) == 3


def test_ctrl_c_once_finishes_what_runs_and_the_same_command_goes_on(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    folder = tiny.write(tmp_path / "study")
    driver = launch(started, "run", folder)
    waiting.until((folder / "out" / "candidates" / "00000.json").exists, of=driver)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=waiting.LONGEST_S)
    assert driver.returncode == 0, err
    assert "stopping: running candidates finish first" in err
    assert "pick:" in out
    count = len(autoopt.load(folder).candidates)
    assert 1 <= count < 5
    assert "RUNNING" not in optuna_states(folder)


def test_ctrl_c_twice_stops_at_once_and_leaves_no_process(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    folder = tiny.write(tmp_path / "study", own_metric=True)
    driver = launch(started, "run", folder)
    (folder / "fault").write_text("hang")
    waiting.until((folder / "hangs").exists, of=driver)
    hanging = int((folder / "hangs").read_text())
    driver.send_signal(signal.SIGINT)
    waiting.until(lambda: "stopping" in driver.stderr.readline(), of=driver)  # type: ignore[union-attr]
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=waiting.LONGEST_S)
    assert driver.returncode == 1
    assert "stopped; run the same command again to go on" in err
    assert "Traceback" not in err
    waiting.until(lambda: not Path(f"/proc/{hanging}").exists())
    (folder / "fault").unlink()
    again = tiny.invoke("run", folder)
    assert again.returncode == 0, again.stderr
    assert len(autoopt.load(folder).candidates) == 5
    assert "RUNNING" not in optuna_states(folder)


def test_kill_9_ends_hanging_jobs_too(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    folder = tiny.write(tmp_path / "study", own_metric=True)
    driver = launch(started, "run", folder)
    (folder / "fault").write_text("hang")
    waiting.until((folder / "hangs").exists, of=driver)
    hanging = int((folder / "hangs").read_text())
    driver.kill()
    waiting.until(lambda: not Path(f"/proc/{hanging}").exists())


def test_a_full_disk_stops_the_study_and_loses_nothing(tmp_path: Path, finished: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        folder = tiny.write(tmp_path / "study", study=f"{tiny.STUDY}on_end: sh -c 'cat > told'\n")
        full = tiny.invoke("run", folder, "--store", disk / "store")
        assert full.returncode == 1, full.stderr
        assert "No space left on device" in full.stderr
        assert "Traceback" not in full.stderr
        told = json.loads((folder / "told").read_text())
        assert (told["state"], told["exit_code"]) == ("waiting", 1)
        assert "No space left on device" in told["text"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        again = tiny.invoke("run", folder)
        assert again.returncode == 0, again.stderr
        assert values(autoopt.load(folder)) == values(autoopt.load(finished))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "task.py").unlink(), "no such file"),
        (lambda f: (f / "task.py").write_text("x ="), "can't be imported (line 1)"),
        (lambda f: (f / "baseline.h5").write_bytes(b"no model"), "is damaged or cut short; save or copy it anew"),
        (lambda f: (f / "study.yaml").write_text("spice: mobile"), "unknown key 'spice'; did you mean 'space'?"),
        (lambda f: (f / "study.yaml").unlink(), "can't read it"),
        (lambda f: (f / "study.yaml").write_text(tiny.STUDY + "budgets: [latency_ms < 2]"), "expected 'METRIC <="),
        (lambda f: (f / "study.yaml").write_text(tiny.STUDY.replace("latency_ms", "speed")), "unknown metric 'speed'"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_exit_code_2(spoil: object, words: str, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study")
    spoil(folder)  # type: ignore[operator]
    done = CliRunner().invoke(main, ["run", str(folder)])
    assert done.exit_code == 2, done.stderr
    problem = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(problem) == 1
    assert problem[0].startswith("autoopt: ")
    assert words in problem[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trials": "20"}, "trials: expected a whole number of at least 1, got '20'"),
        ({"trials": 0}, "trials: expected a whole number of at least 1, got 0"),
        ({"hours": -1}, "hours: expected a number of at least 0, got -1"),
        ({"recipes": ["recipe.json"]}, "recipes: expected a list of autoopt.Recipe, .* got 'recipe.json'"),
        ({"recipes": "recipe.json"}, "recipes: expected a list of autoopt.Recipe, .* got 'recipe.json'"),
        ({"recipes": autoopt.Recipe()}, "recipes: expected a list of autoopt.Recipe, .* got <Recipe float32"),
    ],
)
def test_arguments_that_are_none_are_named_before_anything_is_read(
    settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        autoopt.run(tmp_path, **settings)  # type: ignore[arg-type]


def test_the_driver_stays_small_and_free_of_tensorflow(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "study")
    code = (
        "import autoopt, pathlib, re, sys\n"
        f"autoopt.run({str(folder)!r}, trials={tiny.TRIALS})\n"
        "assert 'tensorflow' not in sys.modules and 'tf_keras' not in sys.modules\n"
        # Not getrusage: it remembers the size of the process that this one was started from.
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )
    done = subprocess.run(
        [tiny.COMMAND[0], "-c", code], capture_output=True, text=True, env=tiny.ENVIRONMENT, check=True
    )
    assert int(done.stdout) < 400_000
