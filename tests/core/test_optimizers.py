"""Optimizers in recipes and spaces: one way to write each, whichever way it was given."""

import random

import pytest
import yaml
from builders import finetunings, optimizers
from hypothesis import given

from autoopt.core.optimizers import ARGUMENTS, arguments, written
from autoopt.core.recipe import Recipe
from autoopt.core.search_space_yaml import parse
from autoopt.core.stage_settings import Finetune, Prune, plain, told
from autoopt.errors import ConfigError


@given(optimizers)
def test_what_is_written_means_what_was_given_and_stays(optimizer):
    text = written(optimizer)
    assert written(text) == text
    name, values = arguments(text)
    if isinstance(optimizer, str):
        assert name == text == optimizer
        return
    assert name == optimizer["name"]
    assert values == {key: pytest.approx(optimizer.get(key, usual)) for key, usual in ARGUMENTS[name].items()}
    assert written({"name": name, **values}) == text


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [
        ("sgd", "sgd"),
        ({"name": "sgd"}, "sgd(momentum=0)"),
        ({"name": "sgd", "momentum": 0.9}, "sgd(momentum=0.9)"),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, "sgd"),
        ({"name": "adam"}, "adam"),
        ("sgd( nesterov = true,momentum=.5 )", "sgd(momentum=0.5,nesterov=true)"),
        ({"name": "adam", "epsilon": 1e-4}, "adam(epsilon=0.0001)"),
    ],
)
def test_the_same_is_written_the_same(optimizer, text):
    assert Finetune(optimizer=optimizer).optimizer == text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adm"}, r"finetune.optimizer: unknown optimizer 'adm'; did you mean 'adam'\?"),
        ({"optimizer": 3}, "finetune.optimizer: expected one of adam, sgd, adamw, rmsprop, got 3"),
        ({"optimizer": {"momentum": 0.9}}, "finetune.optimizer: name: missing; expected one of adam"),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, "momentun.*momentum"),
        ({"optimizer": {"name": "sgd", "momentum": 1.5}}, r"finetune.optimizer: momentum: expected a number in \[0, 1\)"),
        ({"optimizer": {"name": "sgd", "nesterov": 1}}, "finetune.optimizer: nesterov: expected true or false, got 1"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1}}, "a setting of its own: finetune.learning_rate"),
        ({"optimizer": {"name": "adamw", "weight_decay": 1}}, "a setting of its own: finetune.weight_decay"),
        ({"optimizer": "sgd(momentum)"}, "expected arguments such as momentum=0.5, got 'momentum'"),
        ({"optimizer": {"name": "adam", "epsilon": 0}}, r"epsilon: expected a number in \(0, 1\), got 0"),
        ({"weight_decay": -0.1}, r"finetune.weight_decay: expected a number in \[0, 1\)"),
        ({"warmup": 1.0}, r"finetune.warmup: expected a share of the training in \[0, 1\)"),
        ({"clip_norm": -1}, "finetune.clip_norm: expected a number over 0, or 0 for none"),
        ({"clip_norm": 1e-11}, "finetune.clip_norm: expected 0, or a number of at least 1e-10, got 1e-11"),
        ({"weight_decay": 3e-12}, "finetune.weight_decay: expected 0, or a number of at least 1e-10, got 3e-12"),
        ({"clip_norm": float("nan")}, "finetune.clip_norm: expected a number over 0"),
        ({"mixed_precision": 1}, "finetune.mixed_precision: expected true or false"),
        ({"patience": -1}, "finetune.patience: expected a whole number of at least 0"),
        ({"patience": 1.5}, "finetune.patience: expected a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Finetune(**settings)


@given(finetunings)
def test_settings_go_through_yaml_and_recipes(tuning):
    assert Finetune(**yaml.safe_load(yaml.safe_dump(plain(tuning)))) == tuning
    recipe = Recipe(prune=Prune(sparsity=0.5), finetune=tuning)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_space_searches_optimizers_and_their_settings():
    text = """
    prune: {optional: false, sparsity: 0.5}
    scheme: [float32]
    finetune:
      optimizer: [adam, {name: sgd, momentum: 0.5}, sgd]
      warmup: [0, 0.1]
      weight_decay: {low: 0.0001, high: 0.1, log: true}
      clip_norm: 1.0
      patience: [0, 2]
    """
    space = parse(yaml.safe_load(text), "test")
    assert space.knobs["finetune.optimizer"].values == ("adam", "sgd(momentum=0.5)", "sgd")
    rng = random.Random(0)
    drawn = [space.random(rng, Finetune()) for _ in range(50)]
    assert {recipe.finetune.optimizer for recipe in drawn} == {"adam", "sgd(momentum=0.5)", "sgd"}
    for recipe in drawn:
        assert space.parameters(recipe, Finetune())["finetune.optimizer"] == recipe.finetune.optimizer
    one = parse({"scheme": ["qat_int8"], "finetune": {"optimizer": {"name": "sgd", "momentum": 0.5}}}, "test")
    assert one.random(rng, Finetune()).finetune.optimizer == "sgd(momentum=0.5)"
    assert one.count() == 1
    with pytest.raises(ConfigError, match=r"test: finetune.optimizer: unknown optimizer 'adamax'"):
        parse({"scheme": ["qat_int8"], "finetune": {"optimizer": ["adam", "adamax"]}}, "test")


def test_people_are_told_what_is_not_as_usual():
    assert set(told(Finetune())) == {"epochs", "learning rate", "batch size"}
    words = told(Finetune(optimizer={"name": "sgd", "momentum": 0.5}, warmup=0.1, clip_norm=1, patience=1))
    assert words["optimizer"] == "sgd(momentum=0.5)"
    assert (words["warm-up"], words["gradient norm at most"], words["patience"]) == ("10 %", "1", "1 epoch")
    assert Finetune(optimizer="sgd").label() == "2 epochs by sgd at 0.001"
