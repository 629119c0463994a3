"""What `autoopt init` shows while it reads: lines for everybody, and how far it is in a terminal."""

import pytest

from autoopt.cli import filling


def test_a_terminal_sees_how_far_it_is_and_what_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with filling.shown() as (say, progress):
        progress(3, 10)
        say("left out [bold]a\x1b[2J")
        progress(10, 10)
    shown = capsys.readouterr()
    assert "3/10" in shown.err
    assert "left out [bold]a\\x1b[2J" in shown.err
    assert shown.out == ""


def test_elsewhere_there_are_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with filling.shown() as (say, progress):
        progress(3, 10)
        say("left out")
    assert capsys.readouterr().err == "left out\n"


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), (" 0.5 % ", 0.005), ("100%", 1.0)])
def test_shares_are_percent(text: str, share: float) -> None:
    assert filling.share(text) == pytest.approx(share)
