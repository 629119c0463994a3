import json
from pathlib import Path

import pytest

from autoopt.core.formatting import duration
from autoopt.search.progress import Recorder, Snapshot
from autoopt.search.views import Plain


class Spent:
    jobs, saved, wall, hits, overhead = 90.0, 30.0, 100.0, 7, 5.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (25500, "7 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_time_left_follows_the_pace_and_the_limit() -> None:
    assert Snapshot(done=2, failed=0, total=10, elapsed_s=20).left_s() is None
    assert Snapshot(done=5, failed=0, total=10, elapsed_s=20).left_s() == 20
    assert Snapshot(done=5, failed=0, total=10, elapsed_s=20, hours=30 / 3600).left_s() == 10
    assert Snapshot(done=10, failed=0, total=5, elapsed_s=20).left_s() == 0
    assert Snapshot(done=45, failed=0, total=50, elapsed_s=20, earlier=40).left_s() == 20
    assert Snapshot(done=41, failed=0, total=50, elapsed_s=20, earlier=40).left_s() is None


def test_a_recorder_tells_those_outside_and_passes_everything_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "now.json"
    with Recorder(Plain(), path) as view:
        view.note("reading")
        view.update(Snapshot(done=3, failed=1, total=9, running=((3, "int8", "convert", ""),), elapsed_s=30))
        found = json.loads(path.read_text())
        assert found["running"] == [[3, "int8", "convert", ""]]
        assert (found["done"], found["total"], found["left_s"]) == (3, 9, 60)
        view.update(Snapshot(done=4, failed=1, total=9))
        assert json.loads(path.read_text()) == found, "once a second is enough"
        view.finish(Snapshot(done=4, failed=1, total=4), Spent(), "time is up")
    assert not path.exists()
    assert "time is up" in capsys.readouterr().err


def test_a_recorder_that_can_not_write_stops_nobody(tmp_path: Path) -> None:
    with Recorder(Plain(), tmp_path / "no such folder" / "now.json") as view:
        view.update(Snapshot(done=3, failed=1, total=9))
