"""How a run ended is written down and told, whatever became of it; telling costs neither results nor exit codes."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from saved_study import study  # noqa: F401 - the fixture

from autoopt.api.ending import COMMAND_S, Ending, exit_code, now
from autoopt.api.saved_study import load
from autoopt.api.summary import summary
from autoopt.core import last_run
from autoopt.core.last_run import LastRun
from autoopt.errors import CandidateFailed, ConfigError, Stopped, TargetUnavailable
from autoopt.search.stopping import ALL_DONE, INTERRUPTED
from autoopt.study import run_record
from autoopt.study.folder import StudyFolder
from autoopt.study.on_end import OnEnd

KEEPS = "import os, sys; open('got.json', 'w').write(sys.stdin.read()); open('env', 'w').write(repr(dict(os.environ)))"


def python(code: str) -> OnEnd:
    return OnEnd(command=(sys.executable, "-c", code))


class Night:
    """A run that ends as a test wants it."""

    def __init__(self, folder: Path, on_end: OnEnd | None = None) -> None:
        self.folder, self.said = StudyFolder(folder), []
        run = LastRun(kind=last_run.SEARCH, trials=3, hours=None, begun=now())
        self.ending = Ending(self.folder, python(KEEPS) if on_end is None else on_end, run, self.said.append)

    def run(self, outcome=ALL_DONE) -> None:
        with self.ending.followed():
            self.ending.begin()
            if isinstance(outcome, BaseException):
                raise outcome
            self.ending.searched(outcome)
            self.ending.written(load(self.folder.path))

    @property
    def got(self) -> dict:
        return json.loads((self.folder.path / "got.json").read_text())


def test_a_run_that_ends_is_told_and_written_down(study: Path) -> None:  # noqa: F811
    night = Night(study)
    night.run()
    assert night.said == []
    assert night.got["state"] == "ended"
    assert night.got["exit_code"] == 0
    assert night.got["reason"] == "all trials are done"
    assert night.got["pick"]["candidate"]["number"] == 1
    assert "The pick is #1 (int8 (int8 in/out))" in night.got["text"]
    environment = eval((study / "env").read_text())  # a dict's repr
    assert environment["AUTOOPT_TEXT"] == night.got["text"]
    assert environment["AUTOOPT_STATE"] == "ended"
    assert environment["AUTOOPT_EXIT_CODE"] == "0"
    assert environment["AUTOOPT_STUDY"] == night.got["study"] == study.name
    assert run_record.read(night.folder).state == "ended"


@pytest.mark.parametrize(
    ("outcome", "state", "code", "reason"),
    [
        (INTERRUPTED, "interrupted", 0, ""),
        (Stopped("stopped by SIGTERM; run the same command again to go on"), "interrupted", 1, "stopped by SIGTERM"),
        (KeyboardInterrupt(), "interrupted", 1, "KeyboardInterrupt"),
        (TargetUnavailable("out: can't write (No space left on device)"), "waiting", 1, "No space left on device"),
        (MemoryError(), "waiting", 1, "MemoryError"),
        (ConfigError("task.py: boom"), "failed", 2, "task.py: boom"),
        (CandidateFailed("accuracy", "the baseline itself can't be measured"), "failed", 1, "the baseline itself"),
        (RuntimeError("a fault\nof ours"), "failed", 1, "RuntimeError: a fault of ours"),
    ],
)
def test_whatever_ends_a_run_is_told_and_goes_on_its_way(study: Path, outcome, state, code, reason) -> None:  # noqa: F811
    night = Night(study)
    if isinstance(outcome, BaseException):
        with pytest.raises(type(outcome)) as raised:
            night.run(outcome)
        assert raised.value is outcome
    else:
        night.run(outcome)
    assert (night.got["state"], night.got["exit_code"]) == (state, code)
    assert reason in night.got["reason"]
    assert "31 candidates" not in night.got["text"]
    assert "3 candidates: 1 on the front" in night.got["text"]
    assert summary(study).state == state


def test_a_run_that_nothing_fits_is_told_with_its_exit_code(study: Path) -> None:  # noqa: F811
    header = StudyFolder(study).header
    header.write_text(header.read_text().replace("1.5 ms", "1 us"))
    night = Night(study)
    night.run()
    assert night.got["exit_code"] == exit_code(load(study)) == 1
    assert night.got["pick"]["candidate"] is None


def test_what_is_told_holds_no_place_of_this_machine(study: Path) -> None:  # noqa: F811
    night = Night(study)
    with pytest.raises(TargetUnavailable):
        night.run(
            TargetUnavailable(
                f"{night.folder.out}: can't write, nor /home/me/.cache/store/ab or ssh://pi@10.0.0.7:22; x / 255 is kept"
            )
        )
    text = json.dumps(night.got)
    assert str(study) not in text
    assert str(study.parent) not in text
    assert night.got["reason"] == f"{study.name}/out: can't write, nor ab or ssh; x / 255 is kept"
    assert f"`autoopt run {study.name}` goes on" in night.got["text"]


def test_a_run_that_could_not_begin_is_not_told(study: Path) -> None:  # noqa: F811
    night = Night(study)
    with pytest.raises(TargetUnavailable), night.ending.followed():
        raise TargetUnavailable("another autoopt is running this study")
    assert not (study / "got.json").exists()
    assert run_record.read(night.folder) is None


@pytest.mark.parametrize(
    ("on_end", "said"),
    [
        (python("raise SystemExit(3)"), "ended with exit code 3"),
        (OnEnd(command=("./gone",)), "gone can't be started (No such file or directory)"),
        (OnEnd(address="http://127.0.0.1:9/secret"), "127.0.0.1: Connection refused"),
    ],
)
def test_who_can_not_be_told_costs_one_line_and_nothing_else(study: Path, on_end, said) -> None:  # noqa: F811
    night = Night(study, on_end)
    night.run()
    (line,) = night.said
    assert line.startswith("warning: on_end: ")
    assert said in line
    assert "secret" not in line
    assert run_record.read(night.folder).exit_code == 0
    night = Night(study, on_end)
    with pytest.raises(ConfigError, match="boom"):
        night.run(ConfigError("boom"))


def test_whatever_goes_wrong_in_telling_does_not_end_a_run(study: Path, monkeypatch) -> None:  # noqa: F811
    def fail(*of: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", fail)
    night = Night(study)
    night.run()
    assert night.said == ["warning: on_end: RuntimeError: can't start new thread; nothing else depends on it"]


def test_ctrl_c_gives_up_telling_alone(study: Path) -> None:  # noqa: F811
    assert COMMAND_S > 1
    night = Night(study, python(f"import os, time; os.kill({os.getpid()}, {signal.SIGINT:d}); time.sleep(1000)"))
    night.run()
    assert night.said == ["warning: on_end: stopped by Ctrl-C; nothing else depends on it"]


def test_what_a_person_has_to_see_to_is_told_while_it_runs(study: Path) -> None:  # noqa: F811
    night = Night(study)
    with night.folder.lock():
        night.ending.begin()
        night.ending.call("#3 has waited for 15 min 00 s: no phone")
        found = summary(study)
    assert night.got["state"] == found.state == "waiting"
    assert night.got["exit_code"] is None
    assert "waits for you" in found.text
    assert "#3 has waited for 15 min 00 s: no phone" in found.text
    assert summary(study).state == "cut off"


def test_where_there_is_no_room_to_write_it_down_it_is_told_still(study: Path) -> None:  # noqa: F811
    night = Night(study)
    night.folder.last_run.mkdir()  # whatever keeps the file from being written
    night.run()
    assert night.got["state"] == "ended"
    assert summary(study).state == "unknown"


def test_an_end_is_not_written_over_the_beginning_of_a_later_run(study: Path) -> None:  # noqa: F811
    first, second = Night(study), Night(study)
    with first.ending.followed():
        first.ending.begin()
        second.ending.begin()
        first.ending.searched(ALL_DONE)
        first.ending.written(load(study))
    assert run_record.read(second.folder).state == "begun"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"kind": "search", "trials": "x"}', b" " * 200_000])
def test_a_damaged_record_is_as_none(study: Path, content: bytes) -> None:  # noqa: F811
    StudyFolder(study).last_run.write_bytes(content)
    assert summary(study).state == "unknown"


def test_results_that_can_not_be_read_are_not_none(study: Path) -> None:  # noqa: F811
    Night(study).run()
    StudyFolder(study).header.write_text("{")
    with pytest.raises(ConfigError, match=r"study.json: can't be read"):
        summary(study)


def test_a_study_that_was_never_run_has_no_summary(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results yet"):
        summary(tmp_path)
