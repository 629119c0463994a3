"""The paragraph of the morning: what it says in each state, and that its figures are those of the pick."""

import dataclasses

import nights
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core import last_run
from autoopt.core.last_run import LastRun
from autoopt.reporting import morning, wording

RUN = LastRun(
    kind="search",
    trials=40,
    hours=8.0,
    begun="2026-11-20T22:00:00+00:00",
    state="ended",
    reason="all trials are done",
    since="2026-11-21T06:00:00+00:00",
    exit_code=0,
)


def said(results, run=RUN, **more):
    return morning.summarize(results, run, **{"study": "resnet8", "place": "studies/resnet8", **more})


def changed(**fields):
    return dataclasses.replace(RUN, **fields)


def test_a_night_that_went_well_in_one_paragraph():
    results = nights.realistic()
    found = said(results)
    pick = results.pick().candidate
    assert "\n" not in found.text
    for part in (
        "The study resnet8 looks for the best accuracy, latency and compressed size, inside accuracy >= baseline - 4 %,",
        "the last run was to make 40 candidates in all in at most 8 h 00 min.",
        "The last run ended at 2026-11-2",
        ": all trials are done. ",
        wording.summary(results),
        f"The pick is {pick.name} ({pick.recipe.label()}): accuracy ",
        " points) against the baseline; latency ",
        "x faster; compressed size ",
        "It is inside all 3 budgets.",
        "Next: read studies/resnet8/out/report.html, and "
        f"`autoopt export studies/resnet8 {pick.number} --to shipped` writes what to ship.",
    ):
        assert part in found.text
    assert found.state == "ended"
    plain = found.to_dict()
    assert plain["exit_code"] == 0
    assert plain["pick"]["candidate"]["number"] == pick.number
    assert plain["counts"]["candidates"] == len(results.candidates)
    assert plain["counts"]["failed"] == 3
    assert plain["text"].endswith(plain["next"])


def test_where_nothing_fits_it_says_what_binds_and_what_is_nearest():
    found = said(
        dataclasses.replace(nights.realistic(), budgets=nights.results(budgets=["latency_ms <= 1 us"]).budgets)
    )
    assert "There is no pick: nothing fits" in found.text
    assert "What keeps them out: latency_ms <= 1 us (best seen: 0.079 ms)." in found.text
    assert "The nearest is #" in found.text
    assert "misses latency_ms <= 1 us by 7,800 %" in found.text
    assert found.next == (
        "Next: loosen a budget (`autoopt pick studies/resnet8 --ask`), "
        "or search on (`autoopt run studies/resnet8 --trials MORE`)."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "more", "state", "words", "advice"),
    [
        (changed(state="begun", exit_code=None), {"at_work": True}, "running", "It is still running.", "dashboard"),
        (changed(state="begun", exit_code=None), {}, "cut off", "was cut off without a word", "goes on; or `autoopt exp"),
        (changed(state="interrupted", reason="", exit_code=1), {}, "interrupted", "was interrupted at 2026", "goes on"),
        (
            changed(state="waiting", reason="out: can't write (No space left on device)", exit_code=1), {}, "waiting",
            "stopped and waits for you at 2026", "see to what it waits for; then `autoopt run studies/resnet8` goes on",
        ),
        (
            changed(state="waiting", reason="#3 has waited for 20 min: no phone", exit_code=None), {"at_work": True},
            "waiting", "It is still running, but waits for you since 2026", "see to what it waits for",
        ),
        (changed(state="failed", reason="task.py: boom.", exit_code=2), {}, "failed", ": task.py: boom. ", "mend that"),
        (None, {}, "unknown", "The study resnet8 looks for", "read studies/resnet8/out/report.html"),
        (None, {"at_work": True}, "running", "It is still running.", "dashboard"),
    ],
)  # fmt: skip
def test_how_it_stands_and_what_to_do(run, more, state, words, advice):
    found = said(nights.realistic(), run, **more)
    assert found.state == state
    assert words in found.text
    assert advice in found.next


def test_before_anything_was_measured():
    found = said(None, changed(state="failed", reason="task.py: no such file", exit_code=2))
    assert found.text.startswith(
        "The study resnet8 was to make 40 candidates in all in at most 8 h 00 min. The last run failed"
    )
    assert "No candidate has been measured yet." in found.text
    assert found.to_dict()["pick"] is None


def test_a_pick_that_is_not_worth_it_says_so():
    results = nights.results(
        nights.baseline(), nights.candidate(1, accuracy=0.86, latency_ms=0.3, size=400_000, compressed=300_000)
    )
    found = said(dataclasses.replace(results, budgets=nights.results(budgets=["compressed_bytes >= 293 KB"]).budgets))
    assert "The pick is #1" in found.text
    assert "against the baseline" in found.text


def test_what_a_run_of_certain_recipes_was_to_make_is_not_said():
    for kind in (last_run.CONFIRM, last_run.RECIPES):
        assert "was to make" not in said(nights.realistic(), changed(kind=kind)).text


def test_a_folder_with_spaces_can_be_typed():
    found = said(nights.realistic(), place="my studies/resnet8")
    assert "read 'my studies/resnet8/out/report.html', and `autoopt export 'my studies/resnet8' 18 --to" in found.next


def test_words_make_a_list():
    assert [morning.listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


@given(
    state=st.sampled_from(last_run.STATES), reason=st.text(max_size=20), code=st.none() | st.integers(0, 2),
    since=st.text(max_size=10), at_work=st.booleans(), empty=st.booleans(),
)  # fmt: skip
def test_there_are_always_words(state, reason, code, since, at_work, empty):
    run = changed(state=state, reason=reason, exit_code=code, since=since)
    found = said(nights.results() if empty else nights.hostile(), run, at_work=at_work)
    assert found.text
    assert found.next.startswith("Next: ")
