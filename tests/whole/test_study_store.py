"""A store with a limit, and cleaned, as a user has it: real jobs, whose results have real keys."""

import shutil
from pathlib import Path

import tinystudy as tiny

import autoopt
from autoopt.execution import job_graph, store_entries
from autoopt.execution.artifact_store import Store
from autoopt.search import store_needs
from autoopt.study import store_users
from autoopt.study.folder import StudyFolder
from autoopt.study.records import Known


def test_a_limit_and_a_clean_leave_the_front_and_a_study_that_goes_on(finished: Path, tmp_path: Path) -> None:
    """Only real jobs tell whether what goes are models and files, and whether what they need is there: here nothing is trained."""
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    (folder / "study.yaml").write_text(tiny.STUDY + "store: {limit: 1 KB}\n")
    done = tiny.invoke("run", folder, "--trials", tiny.TRIALS + 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the store's limit can't be held: ") == 1
    results, store = autoopt.load(folder), Store(folder / "out" / "store")
    assert len(results.candidates) == tiny.TRIALS + 2
    assert not any(c.failed for c in results.candidates)
    assert [user.folder for user in store_users.users(store)] == [folder.resolve()]
    lost = [c for c in results.candidates if store.get(c.file) is None]
    cleaned = tiny.invoke("clean", folder, "--yes")
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert {c.number for c in results.front()}.isdisjoint(c.number for c in lost)
    for candidate in results.front():
        assert autoopt.verify(results.export(candidate, tmp_path / candidate.name)).holds
    before = store_entries.look(store)
    again = tiny.invoke("run", folder, "--trials", tiny.TRIALS + 2)
    assert "all trials are done" in again.stderr
    assert set(store_entries.look(store).entries) == set(before.entries)


def test_records_alone_tell_the_keys_that_a_search_had(finished: Path) -> None:
    """What another study needs is known without running it: by its header, its records and its task in the store."""
    store = Store(finished / "out" / "store")
    found = store_needs.past(StudyFolder(finished), store, Known())
    assert found is not None
    held = store_entries.look(store).entries
    for candidate in found.results.candidates:
        plan = job_graph.plan(candidate.recipe, found.setting)
        assert plan.file == candidate.file
        made = store_needs.made_by(candidate.recipe, found.setting)
        assert {key for key, kind in made.items() if kind != store_needs.STATE} & set(held)
        # Only measurements hang on the machine, which the records do not tell.
        missing = {job.name for job in plan.jobs if job.key not in held}
        assert missing <= {"latency", "memory"}
