"""What a search leaves undone, for it could not pay: on a tiny real study, and with results laid into the store."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinystudy as tiny

import autoopt
from autoopt import targets
from autoopt.api.saved_study import SavedResults
from autoopt.core import json_text
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import STANDARD, Measurement, Metric
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.execution import job_graph
from autoopt.execution.artifact_store import Store
from autoopt.execution.job_graph import Setting
from autoopt.reporting import wording
from autoopt.search import bounds, early_stopping
from autoopt.search.early_stopping import Foresight
from autoopt.search.initial_design import siblings
from autoopt.search.progress import Silent, Snapshot, Spending
from autoopt.study import records
from autoopt.study.objectives import Terms
from autoopt.study.search_options import Strategy

STUDY = """\
space:
  prune: {sparsity: [0.1, 0.9], frequency: 2}
  scheme: [float32]
objectives: [quality, size_bytes, compressed_bytes]
trials: 8
slots: 1
confirm: false
search: {corners: false, sharing: false}
measuring: quick
"""
ACCURACY = Metric(name="accuracy", direction="max", unit="fraction")
TERMS = Terms(
    quality=ACCURACY,
    metrics={"accuracy": ACCURACY, **STANDARD},
    objectives=("accuracy", "latency_ms", "compressed_bytes"),
    budgets=(),
)
SETTING = Setting(task="task", fingerprint="print", model="model", target=targets.find("host", 1), machine="here")
RECIPE = Recipe(prune=Prune(sparsity=0.5), cluster=Cluster(number=8), finetune=Finetune(epochs=4))


class Told(Silent):
    """Keeps what a search says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.why = ""

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self, snapshot: Snapshot, spent: Spending, why: str) -> None:
        self.why = why


@pytest.fixture(scope="module", autouse=True)
def probing() -> Iterator[None]:
    """A tiny model trains faster than it is probed: have it probed all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_stopping, "PROBE_PAYS", 0.0)
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[SavedResults, Told]:
    """A study whose budget only the sparse half of the space can meet."""
    folder = tmp_path_factory.mktemp("searched") / "study"
    study = STUDY + 'budgets: ["compressed_bytes <= 0.5 * baseline"]\n'
    told = Told()
    return autoopt.run(tiny.write(folder, study=study), view=told), told


def trained(results: SavedResults) -> set[float]:
    return {c.recipe.prune.sparsity for c in results.candidates if c.recipe.prune is not None}


def test_what_the_one_shot_file_shows_to_be_too_large_is_not_trained(searched: tuple[SavedResults, Told]) -> None:
    results, told = searched
    assert told.why == "the space is exhausted: every recipe in it has been tried"
    assert trained(results) == {0.9}
    [skipped] = results.skipped
    assert skipped.recipe.prune is not None
    assert (skipped.recipe.prune.sparsity, skipped.kind) == (0.1, "over budget")
    assert skipped.point is None
    assert skipped.reason.endswith("outside compressed_bytes <= 0.5 * baseline")
    assert any(note.startswith(f"{skipped.name} ") and "not trained" in note for note in told.notes)
    assert skipped.number not in {c.number for c in results.candidates}


def test_people_are_told_what_was_skipped(searched: tuple[SavedResults, Told]) -> None:
    results, _ = searched
    folder = results.folder.path
    assert "1 recipe skipped untrained" in wording.summary(results)
    assert "1 recipes not trained, or not to the end: over budget" in tiny.invoke("status", folder).stdout
    report = (folder / "out" / "report.html").read_text()
    assert "1 recipe not trained, or not to the end" in report
    assert results.skipped[0].reason.replace("<", "&lt;") in report


def test_running_again_skips_the_same_and_does_not_look_again(
    searched: tuple[SavedResults, Told], tmp_path: Path
) -> None:
    results, _ = searched
    folder = Path(shutil.copytree(results.folder.path, tmp_path / "study"))
    told = Told()
    again = autoopt.run(folder, view=told)
    assert again.skipped == results.skipped
    assert again.candidates == results.candidates
    assert told.why == "the space is exhausted: every recipe in it has been tried"


def test_a_damaged_note_of_what_was_skipped_is_made_again(searched: tuple[SavedResults, Told], tmp_path: Path) -> None:
    results, _ = searched
    folder = Path(shutil.copytree(results.folder.path, tmp_path / "study"))
    [note] = (folder / "out" / "skipped").glob("*.json")
    note.write_text('{"numb')
    assert autoopt.load(folder).skipped == ()
    again = autoopt.run(folder)
    assert [s.recipe for s in again.skipped] == [s.recipe for s in results.skipped]


@pytest.mark.slow
def test_without_the_device_all_is_trained(tmp_path: Path, searched: tuple[SavedResults, Told]) -> None:
    study = STUDY.replace("sharing: false", "sharing: false, skipping: false")
    study += 'budgets: ["compressed_bytes <= 0.5 * baseline"]\n'
    store = searched[0].folder.store()
    results = autoopt.run(tiny.write(tmp_path / "study", study=study), store=store)
    assert results.skipped == ()
    assert trained(results) == {0.1, 0.9}


@pytest.mark.slow
def test_budgets_that_nothing_meets_end_the_search_early(tmp_path: Path) -> None:
    study = STUDY.replace("[0.1, 0.9]", "{low: 0.1, high: 0.9}").replace("trials: 8", "trials: 400")
    study += 'budgets: ["size_bytes <= 10 B"]\n'
    folder = tiny.write(tmp_path / "study", study=study)
    done = tiny.invoke("run", folder)
    assert "nothing seems to meet size_bytes <= 10 B: 40 recipes from all over the space can't" in done.stderr
    assert done.returncode == 1
    assert "nearest" in done.stdout
    results = autoopt.load(folder)
    assert sum(c.recipe.trains for c in results.candidates) <= 2  # begun before their scheme was weighed
    assert len(results.skipped) == 40


def test_what_was_skipped_by_too_small_a_margin_is_taken_up_again(
    searched: tuple[SavedResults, Told], tmp_path: Path
) -> None:
    results, _ = searched
    folder = Path(shutil.copytree(results.folder.path, tmp_path / "study"))
    [note] = (folder / "out" / "skipped").glob("*.json")
    records.write(note, json_text.unsealed(note.read_bytes()) | {"kind": "dominated"})
    (folder / "study.yaml").write_text(STUDY)  # without the budget nothing speaks against it
    told = Told()
    again = autoopt.run(folder, view=told)
    assert any("is taken up again" in text for text in told.notes)
    assert again.skipped == ()
    assert trained(again) == {0.1, 0.9}
    assert not list((folder / "out" / "skipped").glob("*.json"))


# --- halving


def knowing(store: Store, *candidates: Candidate, **use: bool) -> Foresight:
    found = Foresight(Strategy(**use), SETTING, store, TERMS, lambda r: siblings(r, ["float32", "int8"]))
    found.learn(candidates)
    return found


def done(number: int, final: float, first: float, epoch_s: float = 10.0) -> Candidate:
    """A candidate of one stage, whose first epoch reached `first`."""
    report = {
        "stage": "prune",
        "epochs": [{"accuracy": first}, {"accuracy": final}],
        "judged_epoch": 1,
        "best_epoch": 2,
        "seconds": 2 * epoch_s + 5.0,
        "epoch_seconds": epoch_s,
    }
    values = {"accuracy": final, "latency_ms": 1.0, "latency_ratio": 1.0, "compressed_bytes": 1000.0}
    return Candidate(
        number=number,
        recipe=Recipe(prune=Prune(sparsity=0.5), scheme=("float32", "int8")[number % 2], seed=number),
        measurements={name: Measurement.exact(value, "made up") for name, value in values.items()},
        report=[report],
    )


DONE = [done(i, 0.9, 0.85) for i in range(bounds.ENOUGH)]


def at_first_gate(tmp_path: Path, score: float, **use: bool) -> bounds.Verdict | None:
    store = Store(tmp_path)
    found = knowing(store, *DONE, **use)
    plan = job_graph.plan(RECIPE, SETTING, begin=True)
    gate = found.gates(plan)[0]
    assert gate.point == ("prune", "begun")
    store.put(gate.after, json.dumps({"epochs": [{"accuracy": score}]}).encode())
    for one in (RECIPE, dataclasses.replace(RECIPE, scheme="int8")):
        found._one_shot[one.digest] = {"compressed_bytes": 2000.0}
    return found.stop(RECIPE, gate)


def test_a_training_that_can_not_reach_the_front_is_stopped(tmp_path: Path) -> None:
    verdict = at_first_gate(tmp_path, 0.84)
    assert verdict is not None
    assert (verdict.kind, verdict.point, verdict.score) == ("dominated", ("prune", "begun"), 0.84)
    assert verdict.reason == "at best 89.00 %, which #0 beats at no more cost"


def test_a_promising_training_goes_on(tmp_path: Path) -> None:
    assert at_first_gate(tmp_path, 0.86) is None


def test_a_training_goes_on_for_the_sake_of_a_sibling(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = knowing(store, *DONE)
    gate = found.gates(job_graph.plan(RECIPE, SETTING, begin=True))[0]
    store.put(gate.after, json.dumps({"epochs": [{"accuracy": 0.5}]}).encode())
    found._one_shot[RECIPE.digest] = {"compressed_bytes": 2000.0}
    assert found.stop(RECIPE, gate) is None  # its int8 file may be the smallest of all


def test_gates_stand_after_the_first_epochs_and_after_each_stage_but_the_last(tmp_path: Path) -> None:
    found = knowing(Store(tmp_path), *DONE)
    points = [gate.point for gate in found.gates(job_graph.plan(RECIPE, SETTING, begin=True))]
    assert points == [("prune", "begun"), ("prune", "done"), ("cluster", "begun")]
    assert [g.point for g in found.gates(job_graph.plan(RECIPE, SETTING))] == [("prune", "done")]
    assert knowing(Store(tmp_path), *DONE, halving=False).gates(job_graph.plan(RECIPE, SETTING)) == []


def test_first_epochs_are_a_job_of_their_own_only_where_epochs_are_long(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert knowing(store, *DONE).begins(RECIPE)  # 3 epochs of 10 s against 5 s to start again
    assert not knowing(store, *(done(i, 0.9, 0.8, epoch_s=1.0) for i in range(9))).begins(RECIPE)
    assert not knowing(store).begins(RECIPE)
    assert not knowing(store, *DONE, halving=False).begins(RECIPE)


def test_beginning_makes_no_other_model() -> None:
    at_once, in_two = job_graph.plan(RECIPE, SETTING), job_graph.plan(RECIPE, SETTING, begin=True)
    assert at_once.file == in_two.file
    assert {job.key for job in at_once.jobs} < {job.key for job in in_two.jobs}
    assert [job.name for job in in_two.jobs][:4] == ["begin", "prune", "begin", "cluster"]


def test_what_is_left_to_train_is_told_in_seconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = knowing(store, *DONE)
    assert found.training_s(RECIPE) == pytest.approx(2 * 4 * 12.5)
    store.put(job_graph.plan(RECIPE, SETTING).jobs[0].key, b"model")
    assert found.training_s(RECIPE) == pytest.approx(4 * 12.5)
    assert found.training_s(Recipe()) == 0
    assert found.share_left(RECIPE) == 0.5
    assert found.share_left(Recipe(prune=Prune(sparsity=0.7))) == 1
    assert found.share_left(Recipe(scheme="int8")) == 0
