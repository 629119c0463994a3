"""A space made to fit a task: vain shares of channels are left out, the task's fine-tuning is its centre."""

import random
import re
from pathlib import Path

import builders  # noqa: F401 - its profile for hypothesis
import numpy as np
import pytest
import tf_keras
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoopt.compression import channel_pruning, stages
from autoopt.compression.channel_graph import Group
from autoopt.core.parameters import Choice
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import bundled, load, parse
from autoopt.core.stage_settings import Channels, Finetune, plain
from autoopt.errors import CandidateFailed, ConfigError
from autoopt.execution import task_checks
from autoopt.execution.artifact_store import Store
from autoopt.study import space_fitting
from autoopt.study.folder import StudyFolder
from autoopt.study.space_fitting import centred, fitted, takes, without_vain_ratios

layers = tf_keras.layers


def facts(groups: list[int] | None = None, finetune: Finetune | None = None) -> dict[str, object]:
    """What the job that reads a task finds of it."""
    return {"limits": [], "groups": groups, "finetune": plain(finetune or Finetune()), "tuned": finetune is not None}


def space(**parts: object) -> SearchSpace:
    return parse({"scheme": ["float32", "int8"], **parts}, "space.yaml")


# --- fine-tuning


@given(
    name=st.sampled_from(sorted(bundled())),
    epochs=st.integers(1, 80),
    rate=st.floats(1e-6, 1),
    draw=st.integers(0, 9),
)
def test_the_tasks_fine_tuning_is_the_centre_of_every_bundled_space(
    name: str, epochs: int, rate: float, draw: int
) -> None:
    wanted = Finetune(epochs=epochs, learning_rate=rate)
    found = fitted(load(bundled()[name]), facts(finetune=wanted)).space
    assert found.knobs["finetune.epochs"].middle() == epochs
    assert float(found.knobs["finetune.learning_rate"].middle()) == pytest.approx(wanted.learning_rate, rel=1e-4)
    recipe = found.random(random.Random(draw), wanted)
    assert found.parameters(recipe, wanted) is not None
    if recipe.finetune is not None:
        assert 1 <= recipe.finetune.epochs <= 3 * epochs


def test_twenty_epochs_stay_twenty_and_it_is_said() -> None:
    found = fitted(
        space(finetune={"epochs": 3, "learning_rate": 0.001}), facts(finetune=Finetune(epochs=20, learning_rate=0.01))
    )
    assert str(found.space.knobs["finetune.epochs"]) == "20"
    assert found.space.knobs["finetune.learning_rate"].middle() == 0.01
    assert found.notes == (
        "the task's finetune is the centre of what is searched: epochs 20 in place of the space's 3; "
        "learning_rate 0.01 in place of the space's 0.001",
    )


@pytest.mark.parametrize(
    ("knob", "wanted", "values"),
    [
        ([2, 3], 20, "13, 20"),
        ([1, 2, 8], 10, "5, 10, 40"),
        ({"low": 1, "high": 4}, 20, "6 to 27 (step 7)"),
        ({"low": 1, "high": 4}, 1, "1"),
        ({"low": 1, "high": 4}, 3, "1 to 4 (step 1)"),
        ({"low": 1, "high": 16, "log": True}, 8, "2 to 32 (log)"),
    ],
)  # fmt: skip
def test_epochs_lie_around_the_tasks(knob: object, wanted: int, values: str) -> None:
    found, _ = centred(space(finetune={"epochs": knob}), Finetune(epochs=wanted))
    assert str(found.knobs["finetune.epochs"]) == values
    assert found.knobs["finetune.epochs"].middle() == wanted


def test_other_settings_that_are_not_heard_are_named() -> None:
    chosen = space(finetune={"epochs": 2, "batch_size": [16, 32], "distillation": [0, 0.5]})
    _, note = centred(chosen, Finetune(batch_size=256, distillation=0.5))
    assert note == "the task's batch_size 256 is not searched, the space says 16, 32"


def test_a_task_that_says_nothing_changes_nothing() -> None:
    for path in bundled().values():
        found = fitted(load(path), facts())
        assert (found.space, found.notes) == (found.before[0], ())
        assert found.space.knobs == load(path).knobs


FIRST_TO_COME = r"(  solve: true\n|levels:\n  number: .*\n|quantize:\n  int4_share: .*\n  correct_bias: .*\n)"
NEXT = r"tune: .*\n"


@pytest.mark.parametrize("gone", [NEXT, f"{FIRST_TO_COME}|{NEXT}"], ids=["before tune", "before levels"])
def test_studies_that_began_before_the_bundled_spaces_got_a_knob_go_on_without_it(gone: str) -> None:
    for path in bundled().values():
        text = path.read_text()
        older = parse(yaml.safe_load(re.sub(gone, "", text)), str(path))
        assert "solve: true" in text
        for task in (facts(), facts(finetune=Finetune(epochs=7)), facts(groups=[24, 24])):
            now, before = fitted(load(path), task), fitted(older, task)
            assert now.space.knobs["channels.solve"] == Choice(values=(True,))
            for space in (before.space, before.before[0]):
                assert space.knobs in [one.knobs for one in now.before]
                known = next(one for one in now.before if one.knobs == space.knobs)
                assert now.said(known) == before.said(space)


# --- channels


@given(
    groups=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    ratio=st.floats(0.01, 0.99),
    multiple=st.sampled_from([1, 4, 8]),
    seed=st.integers(0, 9),
)
def test_what_is_foretold_is_what_the_stage_does(groups: list[int], ratio: float, multiple: int, seed: int) -> None:
    ends = np.cumsum([0, *groups])
    found = [Group(layers=(f"layer{i}",), channels=np.arange(ends[i], ends[i + 1])) for i in range(len(groups))]
    scores = np.random.default_rng(seed).random(ends[-1])
    goes, _ = channel_pruning.choose(found, scores, ratio, "layer", multiple)
    assert takes(groups, ratio, "layer", multiple) == goes.any()
    goes, _ = channel_pruning.choose(found, scores, ratio, "global", multiple)
    assert takes(groups, ratio, "global", multiple) or not goes.any()


def test_shares_that_rounding_takes_back_are_left_out_of_the_space() -> None:
    chosen = space(channels={"ratio": {"low": 0.1, "high": 0.6, "step": 0.1}})
    found, why = without_vain_ratios(chosen, [16, 32])
    assert str(found.knobs["channels.ratio"]) == "0.2 to 0.6 (step 0.1)"
    assert why == (
        "no layer of the model can take less than 20 % fewer channels, for their numbers are rounded to multiples of 8: "
        "smaller shares are left out of the space"
    )
    assert without_vain_ratios(chosen, [64]) == (chosen, "")
    assert without_vain_ratios(chosen, None) == (chosen, "")
    listed, _ = without_vain_ratios(space(channels={"ratio": [0.1, 0.5]}), [16])
    assert str(listed.knobs["channels.ratio"]) == "0.5"


def test_channels_that_can_never_go_are_no_part_of_the_space() -> None:
    found, why = without_vain_ratios(space(channels={"ratio": [0.1, 0.5]}), [8, 8])
    assert "channels" not in found.knobs
    assert why == (
        "no layer of the model can take up to 50 % fewer channels, for their numbers are rounded to multiples of 8: "
        "channels stay"
    )
    with pytest.raises(ConfigError, match="nothing is left of the space without channels"):
        without_vain_ratios(space(channels={"ratio": 0.1, "optional": False}), [])


def test_a_task_brings_the_groups_of_its_model(tmp_path: Path) -> None:
    model = tiny.network(
        layers.Conv2D(16, 3, name="conv"), layers.Flatten(), layers.Dense(8, name="hidden"), layers.Dense(4, "softmax")
    )
    found = task_checks.prepare(tiny.task(model), tmp_path / "task.py", Store(tmp_path / "store"))
    assert found.groups == [16, 8]
    assert not found.tuned
    for ratio in (0.1, 0.2, 0.5):
        settings = plain(Channels(ratio=ratio)) | {"finetune": plain(Finetune()), "seed": 0}
        if takes(found.groups, ratio, "layer", 8):
            stages.one_shot("channels", tf_keras.models.clone_model(model), settings)
        else:
            with pytest.raises(CandidateFailed, match="no layer of this model can take it"):
                stages.one_shot("channels", tf_keras.models.clone_model(model), settings)


# --- targets


@pytest.mark.parametrize(
    ("target", "name", "hint"),
    [("vela:ethos-u55-128", "mobile", "npu"), ("micro:64KB", "halves", "microcontroller"), ("host", "mobile", "")],
)
def test_a_space_that_the_target_cannot_run_is_refused_with_the_one_to_take(
    tmp_path: Path, target: str, name: str, hint: str
) -> None:
    (tmp_path / "halves.yaml").write_text("scheme: [float16, dynamic]\n")
    given = "halves.yaml" if name == "halves" else name
    (tmp_path / "study.yaml").write_text(f"space: {given}\ntarget: {target}\n")
    config = StudyFolder(tmp_path).config()
    if not hint:
        space_fitting.expect_able(config, "study.yaml")
        return
    with pytest.raises(
        ConfigError, match=rf"study.yaml: space: the target {target} can run none of .*; use space: {hint}$"
    ):
        space_fitting.expect_able(config, "study.yaml")
    (tmp_path / "study.yaml").write_text(f"space: {hint}\ntarget: {target}\n")
    space_fitting.expect_able(StudyFolder(tmp_path).config(), "study.yaml")
