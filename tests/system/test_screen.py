"""What reaches a terminal of names that other people chose."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from autoopt.core.candidate import Candidate
from autoopt.core.metrics import Metric
from autoopt.core.recipe import Recipe
from autoopt.search.progress import Snapshot
from autoopt.search.views import Live, Plain, draw
from autoopt.system import screen

EVIL = "a\x1b]0;title\x07b\x1b[2J\x9b31m\u202ec\r\b[red]d[/red][link=http://x]e[/link]"
SEEN = r"a\x1b]0;title\x07b\x1b[2J\x9b31m\u202ec\r\x08[red]d[/red][link=http://x]e[/link]"


def failed(name=EVIL):
    return Candidate(number=3, recipe=Recipe(), failed_stage="prune", reason=f"layer {name}\nsecond line")


def test_what_would_steer_is_seen(capsys):
    screen.say(f"{EVIL}\nnext\ta\u3000b")
    assert capsys.readouterr().out == f"{SEEN}\nnext a b\n"
    screen.say_line("one\ntwo\x1b", err=True)
    assert capsys.readouterr().err == "one\\ntwo\\x1b\n"


def test_colours_of_our_own_stay(capsys):
    screen.say_coloured("\x1b[31mred\x1b[0m \x1b[2J")
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert r"\x1b[2J" in shown


@given(st.text())
def test_whatever_the_text_only_line_ends_are_left_of_controls(text):
    shown = screen.printable(text)
    assert all(c.isprintable() or c in "\n\xa0" for c in shown)
    assert "\n" not in screen.one_line(text)
    assert screen.printable(shown) == shown


def test_programs_get_what_was_written(capsys):
    screen.give("a,\x7f", nl=False)
    assert capsys.readouterr().out == "a,\x7f"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_names_as_they_are(terminal, capsys):
    stream = io.StringIO()
    view = Live(Console(file=stream, force_terminal=True, width=300)) if terminal else Plain()
    view.note(EVIL)
    view.candidate(failed(), {}, None)
    shown = stream.getvalue() if terminal else capsys.readouterr().err
    assert SEEN in shown
    assert f"layer {SEEN}\\nsecond line" in shown
    assert "\x1b]0" not in shown
    assert "\u202e" not in shown


def test_the_live_view_shows_names_as_they_are():
    stream = io.StringIO()
    metric = Metric(name="accuracy", direction="max", label="[red]score[/red]")
    snapshot = Snapshot(
        done=0,
        failed=0,
        total=1,
        running=((1, "recipe", f"job {EVIL}", ""),),
        metrics={"accuracy": metric},
        objectives=("accuracy",),
    )
    Console(file=stream, force_terminal=False, width=300).print(draw(snapshot))
    assert SEEN in stream.getvalue()
