"""Budgets asked for one after the other."""

import io
import os
import pty
import select
import signal
import sys

import click
import pytest
from builders import candidate, results
from click.testing import CliRunner, Result

from autoopt.cli import prompts
from autoopt.core.results import Results
from autoopt.errors import ConfigError

STUDY = results(
    candidate(0, "baseline", accuracy=0.95, latency_ms=8.0, size_bytes=8e6, compressed_bytes=7e6),
    candidate(1, accuracy=0.945, latency_ms=4.0, size_bytes=4e6, compressed_bytes=3e6),
    candidate(2, accuracy=0.90, latency_ms=2.0, size_bytes=2e6, compressed_bytes=1e6),
    candidate(3, accuracy=0.60, latency_ms=1.0, size_bytes=1e6, compressed_bytes=9e5),
)


def ask(
    typed: str, monkeypatch: pytest.MonkeyPatch, study: Results = STUDY, *texts: str, **given: str | None
) -> tuple[dict[str, str], Result]:
    """The answers, and what was shown, for a person who types this."""
    answers: dict[str, str] = {}

    @click.command()
    def main() -> None:
        answers.update(prompts.ask(study, texts, given))

    monkeypatch.setattr(prompts, "attended", lambda: True)
    shown = CliRunner().invoke(main, input=typed)
    return answers, shown


def test_enter_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("\n\n\n\n", monkeypatch)
    assert answers == {}
    assert shown.exit_code == 0


def test_each_answer_narrows_what_the_next_question_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("10%\n4ms\n\n\n", monkeypatch)
    assert answers == {"max_accuracy_drop": "10%", "max_latency": "4ms"}
    heads = [line for line in shown.stderr.splitlines() if "that fit so far" in line]
    assert heads == [
        "accuracy: 60.00 % to 95.00 % among the 4 of 4 candidates that fit so far",
        "latency: 2 ms to 8 ms among the 3 of 4 candidates that fit so far",
        "file size: 2 MB to 4 MB among the 2 of 4 candidates that fit so far",
        "compressed size: 1 MB to 3 MB among the 2 of 4 candidates that fit so far",
    ]
    assert "below the baseline's 95.00 % by at most (such as 1 point; Enter skips)" in shown.stderr


def test_the_questions_go_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = ask("\n\n\n\n", monkeypatch)
    assert "that fit so far" not in shown.stdout.replace(shown.stderr, "")


def test_what_can_not_be_read_is_told_in_one_line_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("\nfast\n3 parsecs\n2ms\n\n\n", monkeypatch)
    assert answers == {"max_latency": "2ms"}
    lines = shown.stderr.splitlines()
    assert sum("budget 'latency_ms <= " in line for line in lines) == 2
    assert "expected a unit of latency_ms" in shown.stderr


def test_what_nothing_fits_is_told_with_the_best_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("1%\n1ms\n4ms\n", monkeypatch)
    assert answers == {"max_accuracy_drop": "1%", "max_latency": "4ms"}
    assert "nothing fits latency_ms <= 1ms: the best is 4 ms, of #1" in shown.stderr


def test_no_question_is_left_once_one_candidate_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("\n1ms\n", monkeypatch)
    assert answers == {"max_latency": "1ms"}
    assert "file size" not in shown.stderr


def test_what_was_given_or_not_measured_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = ask("\n\n\n", monkeypatch, STUDY, "size_bytes <= 4 MB", max_accuracy_drop="5%", max_size=None)
    assert answers == {"max_accuracy_drop": "5%"}
    assert shown.stderr.startswith("latency: 2 ms to 4 ms among the 2 of 4")
    assert "memory" not in shown.stderr


def test_an_error_is_limited_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    study = results(candidate(0, "baseline", mae=2.0), candidate(1, mae=2.3), candidate(2, mae=9.0), quality="mae")
    answers, shown = ask("0.5\n", monkeypatch, study)
    assert answers == {"max_accuracy_drop": "0.5"}
    assert "above the baseline's 2 by at most (such as 0.1; Enter skips)" in shown.stderr


def test_without_a_baseline_no_drop_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    study = results(candidate(1, accuracy=0.9, size_bytes=5), candidate(2, accuracy=0.8, size_bytes=4))
    _, shown = ask("\n", monkeypatch, study)
    assert shown.stderr.startswith("file size")


def test_the_studys_own_budgets_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    study = results(*STUDY.candidates, budgets=["latency_ms <= 5"])
    _, shown = ask("\n\n\n\n", monkeypatch, study)
    assert shown.stderr.startswith("The study's own budgets hold if you give none:\n  latency_ms <= 5\n")


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="--ask needs a terminal"):
        prompts.ask(STUDY, (), {})


ASK = """
import sys; sys.path[:0] = ["tests/support", "tests/cli"]
import click
from test_prompts import STUDY, prompts
click.command()(lambda: click.echo(f"answers: {prompts.ask(STUDY, (), {})}"))()
"""


@pytest.mark.parametrize(
    ("lines", "leave", "code", "last"),
    [
        ([b"1%\n", b"3 MB\n", b"4ms\n"], b"", 0, "answers: {"),
        ([b"1%\n"], b"\x04", 1, "Aborted!"),
        ([], b"\x03", 1, "Aborted!"),
    ],
)
def test_on_a_terminal_one_may_leave_at_any_time(lines: list[bytes], leave: bytes, code: int, last: str) -> None:
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would this one
        os.execv(sys.executable, [sys.executable, "-c", ASK])
    shown = b""
    try:
        while True:
            asked = shown.endswith(b"skips): ")
            if asked and not select.select([terminal], [], [], 0.3)[0]:
                os.write(terminal, lines.pop(0) if lines else leave)  # the last again, if it came too early
            part = os.read(terminal, 4096) if select.select([terminal], [], [], 1)[0] else b""
            shown += part
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == code
    assert last in shown.decode().splitlines()[-1]
    assert b"Traceback" not in shown
