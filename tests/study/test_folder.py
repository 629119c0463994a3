import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import autoopt
from autoopt.cli import commands
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.study.folder import StudyFolder

SPACE = "space: {scheme: [float32]}\n"


def study(tmp_path: Path, text: str) -> StudyFolder:
    (tmp_path / "study.yaml").write_text(text)
    return StudyFolder(tmp_path)


def test_a_short_study_has_sensible_defaults(tmp_path: Path) -> None:
    config = study(tmp_path, "space: smoke").config()
    assert config.task == tmp_path / "task.py"
    assert config.objectives == ("quality", "latency_ms", "compressed_bytes")
    assert (config.target.name, config.threads, config.seed, config.sampler) == ("host", 1, 0, "tpe")
    assert config.confirm
    assert config.limits.job_bytes is None
    assert config.store_limit is None


@pytest.mark.parametrize(
    ("target", "objectives"),
    [
        ("micro:64KB", ("quality", "memory_bytes", "size_bytes")),
        ("vela:ethos-u55-128", ("quality", "latency_ms", "flash_bytes")),
    ],
)
def test_objectives_follow_the_target(tmp_path: Path, target: str, objectives: tuple[str, ...]) -> None:
    folder = study(tmp_path, f"space: smoke\ntarget: {target}")
    assert folder.config().objectives == objectives
    assert folder.config("host").objectives == ("quality", "latency_ms", "compressed_bytes")


def test_an_arena_is_a_budget(tmp_path: Path) -> None:
    config = study(tmp_path, "space: smoke\ntarget: micro:64KB\nbudgets: size_bytes <= 1 MB").config()
    assert config.budgets == ("size_bytes <= 1 MB", "memory_bytes <= 64000")


def test_all_keys_are_read(tmp_path: Path) -> None:
    text = SPACE + (
        "task: my_task.py\nobjectives: [accuracy, size_bytes]\nbudgets: size_bytes <= 300 KB\ntrials: 7\nhours: 0.5\n"
        "target: host\nthreads: 2\nseed: 3\nsampler: random\nslots: 1\nlimits: {job_time: 30 min, job_memory: 4 GB}\n"
        "store: {limit: 20 GB}\n"
    )
    config = study(tmp_path, text).config()
    assert config.task == tmp_path / "my_task.py"
    assert config.budgets == ("size_bytes <= 300 KB",)
    assert (config.trials, config.hours, config.threads, config.seed, config.slots) == (7, 0.5, 2, 3, 1)
    assert (config.limits.job_seconds, config.limits.job_bytes) == (1800, 4_000_000_000)
    assert config.store_limit == 20e9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "space: expected a bundled space"),
        ("space: moble", "did you mean 'mobile'?"),
        ("space: gone.yaml", "gone.yaml: can't read it (No such file or directory); expected a space"),
        ("space: {scheme: [int7]}", "study.yaml: space: scheme: unknown scheme 'int7'; did you mean"),
        (SPACE + "trails: 3", "unknown key 'trails'; did you mean 'trials'?"),
        (SPACE + "trials: 0", "trials: expected a whole number of at least 1, got 0"),
        (SPACE + "trials: many", "trials: expected a whole number"),
        (SPACE + "trials: true", "trials: expected a whole number"),
        (SPACE + "hours: -1", "hours: expected a number of at least 0, got -1"),
        (
            SPACE + "hours: soon",
            "hours: expected a number of hours of at least 0, or a duration such as '90 min', got 'soon'",
        ),
        (SPACE + "hours: .nan", "line 2: hours: expected a finite number, got .nan"),
        (SPACE + "hours: 1e400", "hours: expected a number of hours of at least 0, or a duration"),
        (SPACE + "hours: 1.0e+400", "line 2: hours: expected a finite number, got 1.0e+400"),
        (
            SPACE + "hours: 1:30",
            "hours: expected a text or a number, got 1:30, which YAML reads as 90; put it in quotes",
        ),
        (SPACE + "seed: " + "9" * 400, "line 2: seed: expected a number, got one of 400 digits"),
        (SPACE + "seed: 4294967296", "seed: expected a whole number of at least 0 and at most 4294967295"),
        (SPACE + "slots: 1000000000", "slots: expected a whole number of at least 1 and at most 10000"),
        (
            SPACE + "trials: 3\ntrials: 4",
            "line 3: the key 'trials' stands there twice (first in line 2); leave one out",
        ),
        (SPACE + "limits: {job_time: 1 h, job_time: 2 h}", "the key 'job_time' stands there twice in limits"),
        (SPACE + 'task: "a\\0b.py"', "line 2: task: expected a text without NUL"),
        (SPACE + 'space: "a\\0b.yaml"', "the key 'space' stands there twice"),
        ("space: " + "[" * 10_000, "line 1: expected at most 30 levels of nesting"),
        ("space: &a [*a]", "line 1: space[0]"),
        (SPACE + "seed: 2026-13-45", "line 2: seed: expected a timestamp, got '2026-13-45'"),
        (SPACE + "seed: !!python/object:os.system 3", "expected plain YAML without tags"),
        (SPACE + "budgets: [size_bytes <= 1 KB, [x]]", "budgets: expected a list of texts"),
        (SPACE + 'target: "\\n\\u2028"', "unknown target ''; known: host"),
        (SPACE + "sampler: [tpe]", "sampler: expected one of tpe"),
        ("? [1, 2]\n: 3", "line 1: expected keys that are texts, got a list or a mapping as a key"),
        (SPACE + "objectives: []", "objectives: the list is empty"),
        (SPACE + "objectives: {a: 1}", "objectives: expected a list of texts"),
        (SPACE + "target: moon", "unknown target 'moon'"),
        (SPACE + "equivalence: [1]", "equivalence: expected a margin such as '1 point' or '1 % of baseline'"),
        (SPACE + "equivalence: true", "equivalence: expected a margin"),
        (SPACE + "limits: {job_memory: 4}", "limits.job_memory: expected such as '4 GB', got 4"),
        (SPACE + "limits: {job_time: 30 days}", "limits.job_time: expected such as '30 min'"),
        (SPACE + "sampler: tpee", "did you mean 'tpe'?"),
        (SPACE + "task: /etc/passwd", "task: expected a file inside the study's folder"),
        (SPACE + "task: ../task.py", "task: expected a file inside the study's folder"),
        (SPACE + "limits: {job_time: 30}", "limits.job_time: expected such as '30 min', got 30"),
        (SPACE + "limits: {job_memory: 4 GBs}", "limits.job_memory: expected such as '4 GB'"),
        (SPACE + "limits: {job_memory: -4 GB}", "limits.job_memory: expected"),
        (SPACE + "limits: {memory: 4 GB}", "unknown key 'memory'; did you mean 'job_memory'?"),
        (
            SPACE + "store: /somewhere",
            "store: expected its limit, such as {limit: 20 GB}, got '/somewhere'; the store's folder",
        ),
        (SPACE + "store: {limit: 20}", "store.limit: expected such as '20 GB', got 20"),
        (SPACE + "store: {limit: }", "store.limit: expected such as '20 GB'"),
        (SPACE + "store: {size: 20 GB}", "store: unknown key 'size'"),
        (SPACE + "store: [20 GB]", "store: expected a mapping with keys limit"),
        ("[", "not YAML"),
        ("- a", "study: expected a mapping"),
    ],
)
def test_bad_configuration_names_file_expected_and_got(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study(tmp_path, text).config()
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder; `autoopt init"):
        StudyFolder(tmp_path / "nowhere")


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    first, second = StudyFolder(tmp_path), StudyFolder(tmp_path)
    assert first.driver() is None
    with first.lock():
        assert second.driver() is not None
        with pytest.raises(TargetUnavailable, match="is running this study"):
            second.lock()
    second.lock().close()


def test_a_look_at_the_lock_keeps_no_driver_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.lock().close()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            folder.driver()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            folder.lock().close()
    finally:
        stop.set()
        looking.join()


@pytest.mark.parametrize(
    ("memory", "time"),
    [("4GB", "30min"), ("4 gb", "0.5 h"), ("4000 MB", "1800s"), ("4e9", "0 h 30 min"), ("4_000_000_000", "1_800 s")],
)
def test_units_of_limits_stand_with_or_without_a_space(tmp_path: Path, memory: str, time: str) -> None:
    limits = study(tmp_path, f"{SPACE}limits: {{job_memory: {memory}, job_time: {time}}}").config().limits
    assert (limits.job_bytes, limits.job_seconds) == (4_000_000_000, 1800)


@pytest.mark.parametrize(
    ("given", "hours"),
    [("8", 8), ("0", 0), ("1.5", 1.5), ("90 min", 1.5), ("1 h 30 min", 1.5), ("1.5h", 1.5), ("1e1", 10)],
)
def test_hours_are_a_number_or_a_duration(tmp_path: Path, given: str, hours: float) -> None:
    assert study(tmp_path, f"{SPACE}hours: {given}").config().hours == hours


@pytest.mark.parametrize(
    ("given", "read"), [("1 point", "1 point"), ("0.02", "0.02"), ("1 % of baseline", "1 % of baseline")]
)
def test_an_equivalence_margin_is_read_as_it_stands(tmp_path: Path, given: str, read: str) -> None:
    assert study(tmp_path, f"{SPACE}equivalence: {given}").config().equivalence == read
    assert study(tmp_path, SPACE).config().equivalence == ""


@pytest.mark.parametrize("name", ["plain", " spaces ", "100%", "a?b#c", "new\nline", "ü"])
def test_a_store_elsewhere_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = StudyFolder(tmp_path)
    folder.out.mkdir()
    folder.store_note.write_bytes(f"{tmp_path / name}\n".encode())
    assert folder.store() == tmp_path / name


def test_a_damaged_note_of_the_store_is_one_line(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.store_note.mkdir(parents=True)
    with pytest.raises(TargetUnavailable, match=r"store\.path: can't read where the store is"):
        folder.store()
    folder.store_note.rmdir()
    for text in (b"", b"\n", b"a\0b"):
        folder.store_note.write_bytes(text)
        with pytest.raises(TargetUnavailable, match="expected the store's folder"):
            folder.store()


@pytest.mark.parametrize("text", [b"", b"no number", b"\xff\xfe", b"9" * 10_000, "٣".encode()])
def test_whatever_stands_in_the_lock_a_driver_is_seen(tmp_path: Path, text: bytes) -> None:
    folder = StudyFolder(tmp_path)
    with folder.lock():
        (folder.out / "driver.lock").write_bytes(text)
        assert StudyFolder(tmp_path).driver() is not None
        with pytest.raises(TargetUnavailable, match="is running this study"):
            StudyFolder(tmp_path).lock()


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "1 GB", "1:30"])
def test_hours_that_are_none_are_refused_on_the_command_line_and_in_python(tmp_path: Path, given: str) -> None:
    study(tmp_path, SPACE)
    shown = CliRunner().invoke(commands.main, ["run", str(tmp_path), f"--hours={given}"])
    assert shown.exit_code == 2
    assert "a duration such as '90 min', got" in shown.stderr
    with pytest.raises(ConfigError, match="hours: expected a number of hours of at least 0, or a duration"):
        autoopt.run(tmp_path, hours=given)
