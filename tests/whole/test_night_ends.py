"""Who is told when a night ends, as a user runs it: what becomes of the run is only seen where one really runs."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import tinystudy as tiny
import waiting

TELL = f"on_end: [{sys.executable}, -c, \"import sys; open('got.json', 'a').write(sys.stdin.read() + chr(10))\"]\n"


def told(folder: Path) -> list[dict[str, object]]:
    """All that was told so far."""
    return [json.loads(line) for line in (folder / "got.json").read_text().splitlines()]


def test_a_night_that_ends_is_told_and_summed_up(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    (folder / "study.yaml").write_text(tiny.STUDY + TELL)
    done = tiny.invoke("run", folder)
    assert done.returncode == 0, done.stderr
    (got,) = told(folder)
    assert (got["state"], got["reason"], got["exit_code"]) == ("ended", "all trials are done", 0)
    shown = tiny.invoke("summary", folder)
    assert shown.returncode == 0
    assert "the last run was to make 5 candidates in all." in shown.stdout
    assert ": all trials are done. 5 candidates: " in shown.stdout
    assert "The pick is #" in shown.stdout


def test_a_night_that_fails_before_anything_was_measured_is_told(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", study=tiny.STUDY + TELL)
    (folder / "task.py").write_text("raise RuntimeError('the data moved')\n")
    done = tiny.invoke("run", folder)
    assert done.returncode == 2
    (got,) = told(folder)
    assert (got["state"], got["exit_code"]) == ("failed", 2)
    assert "the data moved" in str(got["reason"])
    assert str(tmp_path) not in json.dumps(got)
    shown = tiny.invoke("summary", folder)
    assert shown.returncode == 0
    assert "No candidate has been measured yet." in shown.stdout


def test_a_night_that_the_system_ends_is_told_at_once(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "study", own_metric=True, study=tiny.STUDY + TELL)
    (folder / "fault").write_text("hang")
    command = [*tiny.COMMAND, "run", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=tiny.ENVIRONMENT) as driver:
        try:
            waiting.until((folder / "hangs").exists, of=driver)
            driver.send_signal(signal.SIGTERM)
            driver.communicate(timeout=waiting.LONGEST_S)
        finally:
            driver.kill()
    assert driver.returncode == 1
    (got,) = told(folder)
    assert (got["state"], got["exit_code"]) == ("interrupted", 1)
    assert str(got["reason"]).startswith("stopped by SIGTERM")
