import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt import targets
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Prune, Quantize
from autoopt.execution import job_graph
from autoopt.execution.job_graph import Setting
from autoopt.execution.jobs import JOBS

SETTING = Setting(
    task="t" * 64, fingerprint="f", model="m" * 64, target=targets.find("host"), machine="here", threads=1
)
recipes = st.builds(
    Recipe,
    prune=st.none() | st.builds(Prune, sparsity=st.sampled_from([0.3, 0.5])),
    cluster=st.none() | st.builds(Cluster, number=st.sampled_from([8, 16])),
    scheme=st.sampled_from(sorted(SCHEMES)),
    finetune=st.builds(Finetune, epochs=st.integers(1, 2)),
    seed=st.integers(0, 1),
)


def names(recipe: Recipe) -> list[str]:
    return [job.name for job in job_graph.plan(recipe, SETTING).jobs]


def test_the_baseline_is_converted_proven_and_measured() -> None:
    assert names(Recipe()) == ["float32", "proof", "accuracy", "crosscheck", "memory", "latency"]


def test_stages_come_in_pipeline_order() -> None:
    recipe = Recipe(prune=Prune(sparsity=0.5), cluster=Cluster(number=8), scheme="qat_int8")
    assert names(recipe)[:4] == ["prune", "cluster", "qat", "convert"]


def test_what_the_target_refuses_is_made_and_not_measured() -> None:
    vela = dataclasses.replace(SETTING, target=targets.find("vela:ethos-u55-128"))
    for how, measured in ((Quantize(granularity="tensor"), True), (Quantize(keep=1), False)):
        found = job_graph.plan(Recipe(scheme="int8_io", quantize=how), vela).results
        assert ("latency" in found) == measured
        assert "accuracy" in found


def test_post_training_schemes_share_the_float32_file() -> None:
    plans = [job_graph.plan(Recipe(scheme=s), SETTING) for s in ("float32", "dynamic", "int8")]
    assert plans[0].file in {j.key for j in plans[1].jobs}
    assert plans[0].file in plans[2].jobs[1].parents


def test_a_probe_trains_nothing_and_does_not_depend_on_how_long_training_would_take() -> None:
    def probe(**changes: object) -> job_graph.Plan:
        given = {"prune": Prune(sparsity=0.5), "cluster": Cluster(number=8), "scheme": "qat_int8"} | changes
        return job_graph.probe(Recipe(**given), SETTING)  # type: ignore[arg-type]

    plan = probe()
    assert [job.name for job in plan.jobs] == ["one_shot", "float32", "quantize", "weigh"]
    assert probe(finetune=Finetune(epochs=9)) == plan
    assert probe(prune=Prune(sparsity=0.5, schedule="constant", begin=0.2)) == plan
    assert probe(scheme="int8") == plan
    assert probe(prune=Prune(sparsity=0.6)).file != plan.file


def test_where_the_target_reads_the_file_a_probe_measures_too() -> None:
    setting = dataclasses.replace(SETTING, target=targets.find("vela:ethos-u55-128"))
    plan = job_graph.probe(Recipe(prune=Prune(sparsity=0.5), scheme="int8_io"), setting)
    assert {"memory", "latency"} <= {job.name for job in plan.jobs}
    assert set(plan.results) == {"weigh", "memory", "latency"}


@given(recipes, st.booleans())
def test_every_job_follows_its_parents(recipe: Recipe, begin: bool) -> None:
    plan = job_graph.plan(recipe, SETTING, begin=begin)
    ready = {SETTING.model}
    for job in plan.jobs:
        assert set(job.parents) <= ready
        assert job.name in JOBS
        ready.add(job.key)
    assert len(ready) == len(plan.jobs) + 1
    assert {plan.file, *plan.results.values()} <= ready


@given(recipes, recipes)
def test_files_are_shared_exactly_by_equal_recipes(a: Recipe, b: Recipe) -> None:
    """Post-training schemes have no random choice: their seed alone makes no other file."""
    same = a == b or (not a.trains and not b.trains and a.scheme == b.scheme)
    assert (job_graph.plan(a, SETTING).file == job_graph.plan(b, SETTING).file) == same


@given(recipes, recipes)
def test_equal_prefixes_are_one_job(a: Recipe, b: Recipe) -> None:
    shared = {j.key for j in job_graph.plan(a, SETTING).jobs} & {j.key for j in job_graph.plan(b, SETTING).jobs}
    for x, y in zip(a.stages(), b.stages(), strict=False):
        trained = [[j for j in job_graph.plan(r, SETTING).jobs if j.name == x[0]] for r in (a, b)]
        if x != y:
            break
        assert trained[0][0].key in shared


@pytest.mark.parametrize("part", ["fingerprint", "model", "target", "machine", "threads"])
def test_keys_follow_what_results_follow_from(part: str) -> None:
    recipe = Recipe(prune=Prune(sparsity=0.5), scheme="int8")
    other = {"threads": 2, "target": targets.find("host?xnnpack=off")}.get(part, "other")
    before, after = (
        plan.results | {"file": plan.file}
        for plan in (job_graph.plan(recipe, s) for s in (SETTING, dataclasses.replace(SETTING, **{part: other})))
    )
    differ = {name for name in before if before[name] != after[name]}
    measured = {"latency", "memory"}
    assert differ == (set(before) if part in ("fingerprint", "model") else measured)


def test_where_the_task_lies_changes_no_key() -> None:
    moved = dataclasses.replace(SETTING, task="u" * 64)
    recipe = Recipe(prune=Prune(sparsity=0.5), scheme="int8")
    assert [j.key for j in job_graph.plan(recipe, moved).jobs] == [j.key for j in job_graph.plan(recipe, SETTING).jobs]


def test_keys_follow_the_versions_of_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = job_graph.plan(Recipe(), SETTING).file
    monkeypatch.setitem(job_graph.library_versions(), "tensorflow", "0")
    assert job_graph.plan(Recipe(), SETTING).file != before


def test_only_latency_needs_the_machine_for_itself() -> None:
    assert [job.name for job in job_graph.plan(Recipe(), SETTING).jobs if job.exclusive] == ["latency"]


def test_a_device_measures_one_file_at_a_time_and_leaves_this_machine_alone() -> None:
    board = dataclasses.replace(SETTING, target=targets.find("ssh://pi@board"))
    exclusive = {job.name: job.exclusive for job in job_graph.plan(Recipe(), board).jobs}
    assert (exclusive["latency"], exclusive["memory"], exclusive["accuracy"]) == ("device", "device", "")


@pytest.mark.parametrize(
    ("target", "measured"), [("micro:64KB", {"memory"}), ("vela:ethos-u55-128", {"memory", "latency"})]
)
def test_a_target_measures_what_it_can(target: str, measured: set[str]) -> None:
    setting = dataclasses.replace(SETTING, target=targets.find(target))
    results = set(job_graph.plan(Recipe(scheme="int8_io"), setting).results)
    assert results == {"proof", "accuracy"} | measured


def test_what_the_target_cannot_run_is_not_measured_on_it() -> None:
    setting = dataclasses.replace(SETTING, target=targets.find("vela:ethos-u55-128"))
    assert set(job_graph.plan(Recipe(), setting).results) == {"proof", "accuracy", "crosscheck"}


def test_latency_is_relative_to_what_the_target_runs() -> None:
    setting = dataclasses.replace(SETTING, target=targets.find("vela:ethos-u55-128"))
    made = job_graph.plan(Recipe(prune=Prune(sparsity=0.5), scheme="int8_io"), setting)
    latency = next(job for job in made.jobs if job.name == "latency")
    assert latency.parents[2] == job_graph.plan(Recipe(scheme="int8_io"), setting).file


def test_confirming_shares_the_file_and_measures_anew_on_the_test_split() -> None:
    recipe = Recipe(prune=Prune(sparsity=0.5), scheme="int8")
    first, again = job_graph.plan(recipe, SETTING), job_graph.plan(recipe, SETTING, confirm=True)
    assert first.file == again.file
    assert first.results["proof"] == again.results["proof"]
    assert not {first.results[n] for n in ("accuracy", "latency")} & set(again.results.values())
    splits = {job.settings["split"] for job in again.jobs if job.name == "accuracy"}
    assert splits == {"test"}


def test_distilled_stages_share_what_the_baseline_says() -> None:
    recipe = Recipe(
        channels=Channels(ratio=0.5), prune=Prune(sparsity=0.5), finetune=Finetune(epochs=2, distillation=0.5)
    )
    jobs = job_graph.plan(recipe, SETTING, begin=True).jobs
    [taught] = [job for job in jobs if job.name == "teach"]
    assert taught.parents == (SETTING.model,)
    trained = [job for job in jobs if job.name in ("begin", "channels", "prune")]
    assert len(trained) == 4
    assert all(job.parents[1:] == (taught.key,) for job in trained)
    alone = job_graph.plan(dataclasses.replace(recipe, finetune=Finetune(epochs=2)), SETTING).jobs
    assert not {job.key for job in alone} & {job.key for job in trained}
    assert "teach" not in {job.name for job in alone}


def test_what_begins_from_a_tuned_model_is_taught_by_it_and_shares_its_training() -> None:
    tuned = Recipe(tune=Finetune(epochs=3))
    recipe = dataclasses.replace(
        tuned, channels=Channels(ratio=0.5), prune=Prune(sparsity=0.5), finetune=Finetune(epochs=2, distillation=0.5)
    )
    jobs = job_graph.plan(recipe, SETTING, begin=True).jobs
    [further] = [job for job in jobs if job.name == "tune"]
    [taught] = [job for job in jobs if job.name == "teach"]
    assert (further.parents, taught.parents) == ((SETTING.model,), (further.key,))
    behind = [job for job in jobs if job.name in ("channels", "prune")]
    assert [job.parents[1:] for job in behind] == [(taught.key, further.key)] * 2
    assert behind[0].parents[0] == further.key
    assert further.key in {job.key for job in job_graph.plan(tuned, SETTING).jobs}
    reference, _ = (job_graph.plan(r, SETTING) for r in (SETTING.reference, recipe))
    assert "tune" not in {job.name for job in reference.jobs}


def test_a_probe_without_channels_is_a_program_of_its_own_and_is_measured() -> None:
    cut = Recipe(channels=Channels(ratio=0.5), scheme="qat_int8")
    assert set(job_graph.probe(cut, SETTING).results) == {"weigh", "latency", "memory"}
    [job] = [job for job in job_graph.probe(cut, SETTING).jobs if job.name == "one_shot"]
    assert [name for name, _ in job.settings["stages"]] == ["channels"]
    assert "task" not in job.settings
    for by_data in (Channels(ratio=0.5, importance="taylor"), Channels(ratio=0.5, solve=True)):
        planned = job_graph.probe(Recipe(channels=by_data, scheme="int8"), SETTING).jobs
        [job] = [job for job in planned if job.name == "one_shot"]
        assert job.settings["task"] == SETTING.task
    assert set(job_graph.probe(Recipe(prune=Prune(sparsity=0.5)), SETTING).results) == {"weigh"}


@pytest.mark.parametrize(
    ("target", "settings"), [("host", {}), ("micro:64KB", {"batch": 1}), ("vela:ethos-u55-128", {"batch": 1})]
)
def test_small_runtimes_get_files_for_one_item_and_others_the_keys_of_before(target: str, settings: object) -> None:
    where = dataclasses.replace(SETTING, target=targets.find(target))
    jobs = [job for scheme in ("int8_io", "int16x8") for job in job_graph.plan(Recipe(scheme=scheme), where).jobs]
    converting = [job for job in jobs if job.name in ("float32", "convert")]
    assert converting
    for job in converting:
        given = {name: value for name, value in job.settings.items() if name not in ("scheme", "task")}
        assert given == settings
