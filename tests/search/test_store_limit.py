"""A store within its limit, and cleaned: the front can always be exported, and the study goes on."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import world
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from world import Told, World, run, usual_accuracy

from autoopt import targets
from autoopt.api import clean
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Finetune, Prune
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution import job_graph, store_entries
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Job, Setting
from autoopt.models.task import Manifest
from autoopt.search import store_limit, store_needs
from autoopt.search.driver import Driver
from autoopt.search.store_limit import StoreLimit
from autoopt.study import store_users
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Known

AT_ONCE = (Phase.explicit, Phase.generate)
"""Without looking for the smallest example of a failure, which takes many searches."""
MODEL, FILE = 20_000, 3_000
"""Bytes of what the jobs of these searches make."""
MANIFEST = (
    Manifest(
        model="model", splits={}, items={}, loss="mse", metric={"name": "accuracy", "direction": "max", "unit": "fraction"},
        finetune={}, class_names=(), source="", path="task.py",
    ).to_json().encode()
)  # fmt: skip
TASK = hashlib.sha256(MANIFEST).hexdigest()
SETTING = Setting(
    task=TASK, fingerprint=Manifest.from_json(MANIFEST).fingerprint, model="model", target=targets.find("host", 1), machine="here",
)  # fmt: skip


class Heavy(World):
    """Its results have sizes, as those of a search have."""

    def _result(self, job: Job) -> bytes:
        made = super()._result(job)
        size = {"prune": MODEL, "one_shot": MODEL, "float32": FILE, "quantize": FILE}.get(job.name, 0)
        return made + b" " * size


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night passes in milliseconds here, in which a store's size is looked at each time."""
    monkeypatch.setattr(store_limit, "SHARE", 1e12)
    monkeypatch.setattr(world, "SETTING", SETTING)


@pytest.fixture
def places() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def lucky(recipe: Recipe, split: str) -> float:
    """An accuracy that is by far the best for a few recipes, so that these beat many others."""
    return usual_accuracy(recipe) - 0.05 * (int(recipe.digest, 16) % 5 > 0) * recipe.compresses


def begin(folder: Path, store: Store, limit: float | None, accuracy=lucky, **more) -> tuple[Driver, StoreLimit, Told]:
    """A search in a folder whose store has a limit, as `Search` puts it together."""
    folder.mkdir(parents=True, exist_ok=True)
    told, room = Told(), StoreLimit(store=store, limit=limit)
    room.begin(StudyFolder(folder))
    store.put(TASK, MANIFEST)
    driver = world.study(folder, Heavy(store, accuracy), told, **more)
    driver.turned = lambda: room.turn(driver)
    driver.baseline_done = lambda: header(driver)
    return driver, room, told


def header(driver: Driver) -> None:
    facts = {
        "target": "host",
        "threads": 1,
        "seed": 0,
        "device": {},
        "libraries": {},
        "warnings": [],
        "class_names": [],
    }
    driver.ledger.write_header(TASK, facts)


def finish(driver: Driver, room: StoreLimit) -> None:
    run(driver)
    room.end(driver, left=False)


def lost(driver: Driver, store: Store) -> list[str]:
    """The candidates that must be there to be exported and whose files are not."""
    results = driver.ledger.results()
    pick = results.pick_within(results.budgets).candidate
    return [
        c.name for c in (*results.front(), *results.front(()), *([pick] if pick else ())) if store.get(c.file) is None
    ]


def size(store: Store) -> int:
    return store_entries.look(store).bytes


# --- within a limit


def test_without_a_limit_everything_stays(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, told = begin(places / "study", store, None)
    finish(driver, room)
    assert not [note for note in told.notes if "store" in note]
    for candidate in driver.ledger.candidates.values():
        assert store.get(candidate.file) is not None


def test_what_others_beat_goes_and_a_line_says_so(places: Path) -> None:
    whole = Store(places / "whole" / "out" / "store")
    finish(*begin(places / "whole", whole, None, trials=20)[:2])
    store, limit = Store(places / "study" / "out" / "store"), 0.75 * size(whole)
    driver, room, told = begin(places / "study", store, limit, trials=20)
    finish(driver, room)
    assert len(driver.ledger.candidates) == 20
    assert size(store) <= limit
    assert lost(driver, store) == []
    notes = [note for note in told.notes if "store" in note]
    assert notes
    assert all(" removed " in note and "that nothing on the front needs" in note for note in notes)
    assert any("trained model" in note for note in notes)
    gone = [c for c in driver.ledger.candidates.values() if store.get(c.file) is None]
    assert gone
    statuses = driver.ledger.results().statuses()
    assert {statuses[c.number] for c in gone} <= {"dominated", "infeasible"}


def test_a_limit_that_cannot_be_held_is_told_once(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, told = begin(places / "study", store, 1000)
    finish(driver, room)
    assert len(driver.ledger.candidates) == 12
    assert lost(driver, store) == []
    [note] = [note for note in told.notes if "can't be held" in note]
    assert "are left, of data, measurements, the front and candidates at work; the search goes on" in note


def test_states_go_first_the_oldest_before_the_others(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None, trials=8)
    finish(driver, room)
    trained = [c.recipe for c in driver.ledger.candidates.values() if c.recipe.trains]
    jobs = [job for recipe in trained for job in job_graph.plan(recipe, SETTING).jobs if "state" in job.settings]
    states = list(dict.fromkeys(job.settings["state"] for job in jobs))
    for age, state in enumerate(states):  # of trainings that were killed
        store.put(state, b"s" * 5000)
        os.utime(store.path(state), (1000 - age, 1000 - age))
    wanted = room.needs(driver)
    kinds = store_needs.dispensable(driver.ledger.results(), SETTING, wanted, {})
    order = store_limit.order(store_entries.look(store), kinds)
    there = [state for state in reversed(states) if state in kinds]
    assert there
    assert [entry.key for entry in order][: len(there)] == there
    known = [list(store_needs.KINDS).index(kinds[entry.key]) for entry in order]
    assert known == sorted(known)


def test_what_is_at_work_keeps_what_it_starts_from(places: Path) -> None:
    """A sibling of a beaten candidate is made from its model, which is not trained again for it."""
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, 1, trials=14)  # whatever may go goes, at every turn
    finish(driver, room)
    made = driver.engine.made  # type: ignore[attr-defined]
    trained = [job.key for job in made if job.name == "prune"]
    assert any(c.origin == "sibling" for c in driver.ledger.candidates.values())
    assert len(trained) == len(set(trained))


def test_what_was_left_undone_keeps_its_training_until_it_is_taken_up(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None)
    cut(driver, 4)
    [user] = store_users.users(store)
    assert user.needs >= {job.key for r in driver.runs.values() for job in r.plan.jobs}
    again, room, _ = begin(places / "study", store, 1)
    assert store_users.own_needs(store, StudyFolder(places / "study")) == user.needs
    finish(again, room)
    assert store_users.own_needs(store, StudyFolder(places / "study")) == frozenset()


def cut(driver: Driver, candidates: int) -> None:
    """Have a run end in the midst of it, as a signal does, if it comes so far."""
    turned = driver.turned

    def end() -> None:
        turned()
        if len(driver.ledger.candidates) >= candidates:
            raise KeyboardInterrupt

    driver.turned = end
    with contextlib.suppress(KeyboardInterrupt):
        run(driver)


# --- cleaned


@settings(max_examples=8, phases=AT_ONCE)
@given(
    st.integers(3, 14),
    st.integers(1, 12),
    st.sampled_from([None, 1, 60_000, 120_000, 200_000]),
    st.lists(
        st.sampled_from(["size_bytes <= 50 KB", "compressed_bytes <= 20 KB", "accuracy >= baseline - 1 point", "latency_ms <= 1.5"]),
        max_size=2, unique=True,
    ),
    st.integers(0, 3),
    st.integers(0, 1000),
)  # fmt: skip
def test_whatever_is_cleaned_the_front_can_be_exported_and_the_study_goes_on(
    trials, at, limit, budgets, kills, seed
) -> None:
    """Killed in the midst of it, cleaned in whole or in part, gone on with: nothing that is needed is missed."""
    with tempfile.TemporaryDirectory() as place:
        folder, store = Path(place, "study"), Store(Path(place, "study", "out", "store"))
        luck = random.Random(seed)
        spread = [luck.random() / 10 for _ in range(100)]

        def accuracy(recipe: Recipe, split: str) -> float:
            return usual_accuracy(recipe) + spread[int(recipe.digest, 16) % 100]

        for number in range(kills):
            driver, _, _ = begin(folder, store, limit, accuracy, trials=trials, limits=budgets)
            if at + number < trials:
                cut(driver, at + number)
            if driver.ledger.candidates.get(0) is not None:
                tidied = clean.clean(folder, remove=False)
                store_entries.remove(store, tidied.entries[: luck.randint(0, len(tidied.entries))])  # killed there
                assert lost(driver, store) == []
        driver, room, _ = begin(folder, store, limit, accuracy, trials=trials, limits=budgets)
        finish(driver, room)
        tidied = clean.clean(folder, remove=True)
        assert tidied.removed
        assert not set(tidied.kinds) & set(store_entries.look(store).entries)
        assert lost(driver, store) == []
        assert len(driver.ledger.candidates) >= trials
        for candidate in store_needs.kept(driver.ledger.results()):
            for job in job_graph.plan(candidate.recipe, SETTING).jobs:
                assert store.get(job.key) is not None, (candidate, job.name)
        assert clean.clean(folder, remove=True).entries == ()
        again, room, _ = begin(folder, store, limit, accuracy, trials=trials + 3, limits=budgets)
        finish(again, room)
        assert lost(again, store) == []
        assert again.reason is not None
        assert again.reason.text.startswith(("all trials are done", "the space is exhausted", "stopped early"))


def test_looking_removes_nothing(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    finish(*begin(places / "study", store, None)[:2])
    before = store_entries.look(store)
    found = clean.clean(places / "study")
    assert found.entries
    assert not found.removed
    assert store_entries.look(store) == before
    assert found.text().endswith("can go; `--yes` removes them")
    assert found.freed == sum(before.entries[entry.key].bytes for entry in found.entries)
    gone = clean.clean(places / "study", remove=True)
    assert gone.entries == found.entries
    assert size(store) == before.bytes - found.freed
    assert clean.clean(places / "study").text().endswith("nothing can go")


def test_measurements_stay(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None)
    finish(driver, room)
    clean.clean(places / "study", remove=True)
    for candidate in driver.ledger.candidates.values():
        for key in job_graph.plan(candidate.recipe, SETTING).results.values():
            assert store.get(key) is not None


def test_a_study_that_runs_is_not_cleaned(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    finish(*begin(places / "study", store, None)[:2])
    with StudyFolder(places / "study").lock(), pytest.raises(TargetUnavailable, match="is running this study"):
        clean.clean(places / "study", remove=True)


def test_a_study_that_was_never_run_has_nothing_to_clean(places: Path) -> None:
    with pytest.raises(ConfigError, match="no results yet"):
        clean.clean(places)
    with pytest.raises(ConfigError, match="keep: unknown"):
        clean.clean(places, keep="nothing")


def test_damaged_records_are_mended_first(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None)
    finish(driver, room)
    StudyFolder(places / "study").candidate_file(2).write_text("{}")
    before = store_entries.look(store)
    with pytest.raises(TargetUnavailable, match=r"00002.json is damaged"):
        clean.clean(places / "study", remove=True)
    assert store_entries.look(store) == before


# --- killed, and twice at once


def test_killed_while_it_cleans_it_has_removed_whole_entries_alone(places: Path) -> None:
    """A real signal, at any moment of a real removal."""
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None, trials=20)
    finish(driver, room)
    before = store_entries.look(store).entries
    entries = clean.clean(places / "study").entries
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number, entry in enumerate(entries):
                store_entries.remove(store, [entry])
                if number == len(entries) // 2:
                    os.write(write, b"now")
                    signal.pause()
        finally:
            os._exit(1)
    assert os.read(read, 3) == b"now"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    left = store_entries.look(store).entries
    assert set(before) - set(left) == {entry.key for entry in entries[: len(entries) // 2 + 1]}
    assert all(store.get(key) is not None for key in left)
    assert lost(driver, store) == []
    clean.clean(places / "study", remove=True)
    assert lost(driver, store) == []


def test_two_at_once_take_nothing_from_each_other(places: Path) -> None:
    store = Store(places / "store")
    for name in ("one", "other"):
        (places / name / "out").mkdir(parents=True)
        StudyFolder(places / name).store_note.write_text(f"{store.root}\n")
    one, room, _ = begin(places / "one", store, None, trials=16)
    finish(one, room)
    other, room, _ = begin(places / "other", store, None, trials=16, limits=["accuracy >= baseline - 1 point"])
    finish(other, room)
    begun, failures = threading.Barrier(2), []

    def tidy(name: str) -> None:
        begun.wait()
        try:
            clean.clean(places / name, remove=True)
        except BaseException as error:
            failures.append(error)

    both = [threading.Thread(target=tidy, args=(name,)) for name in ("one", "other")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failures == []
    assert lost(one, store) == lost(other, store) == []


# --- a store that several studies use


@settings(max_examples=5, phases=AT_ONCE)
@given(st.sampled_from([1, 100_000, 200_000]), st.integers(4, 12), st.integers(1, 10))
def test_runs_that_share_a_store_keep_what_each_other_needs(limit, trials, at) -> None:
    """The same task in both, so that they share trainings; each has other budgets, and so another front."""
    with tempfile.TemporaryDirectory() as place:
        store, told = Store(Path(place, "store")), []
        drivers = []
        for name, budgets in (("one", []), ("other", ["compressed_bytes <= 20 KB"])):
            driver, room, said = begin(Path(place, name), store, limit, trials=trials, limits=budgets)
            drivers.append((driver, room))
            told.append(said)
        (one, room), (other, other_room) = drivers
        if at < trials:  # the second runs in the midst of the first
            turned, ran = one.turned, []

            def meanwhile() -> None:
                turned()
                if len(one.ledger.candidates) >= at and not ran:
                    ran.append(True)
                    wanted = {k for r in one.runs.values() for k in store_needs.keys(r.plan)}
                    there = wanted & set(store_entries.look(store).entries)
                    finish(other, other_room)
                    assert there <= set(store_entries.look(store).entries)

            one.turned = meanwhile
        finish(one, room)
        if at >= trials:
            finish(other, other_room)
        assert lost(one, store) == lost(other, store) == []
        if limit == 1:
            assert any("can't be held" in note for said in told for note in said.notes)


def shared(places: Path) -> tuple[Store, Driver, Driver]:
    """Two studies that share a store."""
    store, drivers = Store(places / "store"), []
    for name in ("one", "other"):
        driver, room, _ = begin(places / name, store, None)
        StudyFolder(places / name).store_note.write_text(f"{store.root}\n")
        finish(driver, room)
        drivers.append(driver)
    return store, drivers[0], drivers[1]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda place: shutil.rmtree(place), "no such folder"),
        (lambda place: StudyFolder(place).header.unlink(), "study.json is missing"),
        (lambda place: StudyFolder(place).candidate_file(1).write_text("{}"), "00001.json is damaged"),
        (lambda place: StudyFolder(place).header.write_text("{"), "study.json is damaged"),
    ],
    ids=["gone", "no header", "a damaged record", "a damaged header"],
)
def test_while_it_is_not_known_what_another_needs_nothing_goes(harm, words, places: Path) -> None:
    store, one, _ = shared(places)
    harm(places / "other")
    before = store_entries.look(store)
    with pytest.raises(TargetUnavailable, match=words) as caught:
        clean.clean(places / "one", remove=True)
    assert "delete the note if the study is gone" in str(caught.value)
    assert store_entries.look(store) == before
    driver, room, told = begin(places / "one", store, 1)
    finish(driver, room)
    assert len([note for note in told.notes if "can't be held" in note and words in note]) == 1
    store_users.note_of(store, one.ledger.folder).parent.joinpath(
        next(user.note.name for user in store_users.users(store) if user.folder.name == "other")
    ).unlink()
    assert clean.clean(places / "one", remove=True).removed


def test_a_study_that_has_nothing_yet_is_in_nobodys_way(places: Path) -> None:
    store, _, _ = shared(places)
    (places / "new").mkdir()
    store_users.sign(store, StudyFolder(places / "new"), set())
    assert clean.clean(places / "one", remove=True).removed


def test_what_no_records_account_for_stays(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, 1)
    store.put("ab" + 62 * "7", b"of another version, or of a study without a note")
    finish(driver, room)
    clean.clean(places / "study", remove=True)
    assert store.get("ab" + 62 * "7") is not None


def test_states_of_trainings_at_work_elsewhere_stay(places: Path) -> None:
    """Another run trains at this moment what is beaten here already."""
    store, one, other = shared(places)
    beaten = next(
        c for c in one.ledger.candidates.values() if c.recipe.trains and c not in store_needs.kept(one.ledger.results())
    )
    keys = store_needs.keys(job_graph.plan(beaten.recipe, SETTING))
    store_users.sign(store, other.ledger.folder, keys)
    there = keys & set(store_entries.look(store).entries)
    assert there
    clean.clean(places / "one", remove=True)
    assert there <= set(store_entries.look(store).entries)


def test_a_file_that_other_versions_made_is_known_by_the_record(places: Path) -> None:
    store = Store(places / "study" / "out" / "store")
    driver, room, _ = begin(places / "study", store, None)
    finish(driver, room)
    results = driver.ledger.results()
    beaten = next(c for c in results.candidates if c not in store_needs.kept(results))
    values = json.loads(json.dumps(beaten.to_dict())) | {"file": "ee" + 62 * "0"}
    store.put(values["file"], b"made long ago")
    driver.ledger.keep(type(beaten).from_dict(values))
    assert values["file"] in {entry.key for entry in clean.clean(places / "study").entries}


def test_pruned_recipes_account_for_their_one_shot_files_too() -> None:
    recipe = Recipe(prune=Prune(sparsity=0.5, frequency=2), scheme="int8", finetune=Finetune(epochs=3))
    made = store_needs.made_by(recipe, SETTING)
    assert {made[key] for key in made} == set(store_needs.KINDS)
    probe = {
        job.key for job in job_graph.probe(recipe, SETTING).jobs if job.name in ("one_shot", "float32", "quantize")
    }
    assert probe <= set(made)


def test_records_are_read_again_only_where_they_changed(places: Path) -> None:
    store, one, _ = shared(places)
    known: defaultdict[Path, Known] = defaultdict(Known)
    first = store_needs.others(store, one.ledger.folder, known)
    assert store_needs.others(store, one.ledger.folder, known) == first
    assert list(known) == [(places / "other").resolve()]
