import dataclasses
import hashlib
import json
import re

import pytest
from builders import recipes
from hypothesis import given
from hypothesis import strategies as st

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.stage_settings import Channels, Cluster, Finetune, Levels, Prune, Quantize, parse_structure
from autoopt.errors import ConfigError


@given(recipes)
def test_json_round_trip(recipe):
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    assert back.digest == recipe.digest
    assert hash(back) == hash(recipe)


@given(recipes)
def test_json_is_canonical(recipe):
    text = recipe.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert recipe.digest == hashlib.sha256(text.encode()).hexdigest()[:16]


@given(recipes, recipes)
def test_digests_are_equal_exactly_where_recipes_are(a, b):
    assert (a == b) == (a.digest == b.digest)


@given(recipes, st.randoms())
def test_the_order_of_keys_does_not_matter(recipe, rng):
    items = list(recipe.to_dict().items())
    rng.shuffle(items)
    assert Recipe.from_dict(dict(items)).digest == recipe.digest


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Prune(sparsity=0.9, structure="2:4"), Prune(sparsity=0.1, structure="2:4")),
        (Prune(sparsity=0.5, schedule="constant", end=0.3), Prune(sparsity=0.5, schedule="constant", end=0.8)),
        (Prune(sparsity=0.1 + 0.2), Prune(sparsity=0.3)),
        (Prune(sparsity=0), Prune(sparsity=-0.0)),
    ],
)
def test_what_means_the_same_is_equal(a, b):
    assert Recipe(prune=a) == Recipe(prune=b)
    assert Recipe(prune=a).digest == Recipe(prune=b).digest


def test_older_recipes_keep_their_digest():
    text = (
        '{"cluster":{"initialisation":"kmeans++","number":8,"per_channel":false},'
        '"finetune":{"batch_size":32,"epochs":2,"learning_rate":0.001},'
        '"prune":{"begin":0.0,"end":0.5,"frequency":10,"schedule":"polynomial","sparsity":0.5,"structure":"unstructured"},'
        '"scheme":"int8","seed":0}'
    )
    recipe = Recipe.from_json(text)
    assert recipe.to_json() == text
    assert [set(settings) & {"allocation", "channels"} for _, settings in recipe.stages()] == [set(), set()]


def test_older_recipes_of_fewer_channels_keep_their_digest_and_solve_no_kernels():
    text = (
        '{"channels":{"importance":"l2","multiple":8,"ratio":0.5,"scope":"layer"},"cluster":null,'
        '"finetune":{"batch_size":32,"epochs":2,"learning_rate":0.001},"prune":null,"scheme":"int8","seed":0}'
    )
    recipe = Recipe.from_json(text)
    assert recipe.to_json() == text
    assert not recipe.channels.solve


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int16x8", "qat_int8"])
def test_ways_to_quantize_are_there_only_for_schemes_that_have_them(scheme):
    assert Recipe(scheme=scheme, quantize=Quantize(keep=2)) == Recipe(scheme=scheme)
    assert Recipe(scheme="int8", quantize=Quantize()) == Recipe(scheme="int8")
    assert Recipe(scheme="int8", quantize=Quantize(keep=2)) != Recipe(scheme="int8")


def test_equalizing_would_break_clusters():
    both = Recipe(cluster=Cluster(number=8), scheme="int8", quantize=Quantize(equalize=True, keep=1))
    assert both == dataclasses.replace(both, quantize=Quantize(keep=1))


def test_temperature_means_nothing_without_distillation():
    assert Finetune(temperature=9) == Finetune()
    assert Finetune(temperature=9, distillation=0.5) != Finetune(distillation=0.5)


def test_the_label_names_every_technique():
    recipe = Recipe(
        channels=Channels(ratio=0.5),
        prune=Prune(sparsity=0.7, allocation="global"),
        cluster=Cluster(number=16),
        scheme="int8",
        quantize=Quantize(keep=2, granularity="tensor"),
        finetune=Finetune(distillation=0.5),
    )
    assert recipe.label() == (
        "50 % fewer channels, 70 % pruned (by global), 16 clusters, int8, 2 layers in float, one scale per tensor, "
        "2 epochs distilled at 0.001"
    )


def test_m_by_n_fixes_the_sparsity():
    assert Prune(sparsity=0.1, structure="1:4").sparsity == 0.75


def test_finetuning_is_there_exactly_when_a_stage_trains():
    tuning = Finetune(epochs=7)
    assert Recipe(finetune=tuning).finetune is None
    assert Recipe(finetune=tuning) == Recipe()
    assert Recipe(cluster=Cluster(number=8)).finetune == Finetune()
    assert Recipe(scheme="qat_int8", finetune=tuning).finetune == tuning


@given(recipes)
def test_stages_follow_from_the_parts(recipe):
    names = [name for name, _ in recipe.stages()]
    expected = {
        "tune": recipe.tune,
        "channels": recipe.channels,
        "prune": recipe.prune,
        "cluster": recipe.cluster,
        "levels": recipe.levels,
        "qat": SCHEMES[recipe.scheme].qat,
    }
    assert names == [name for name, wanted in expected.items() if wanted]
    assert recipe.trains == bool(names)
    assert (recipe.finetune is not None) == bool({*names} - {"tune"})
    json.dumps(recipe.stages(), allow_nan=False)
    for name, settings in recipe.stages():
        assert settings["seed"] == recipe.seed
        rate = {"learning_rate": recipe.levels.rate, "optimizer": "adam"} if name == "levels" else {}
        tuning = recipe.tune if name == "tune" else recipe.finetune
        assert Finetune(**settings["finetune"]) == dataclasses.replace(tuning, **rate)


def test_a_model_that_is_tuned_has_no_teacher_and_says_so_first():
    tuned = Recipe(tune=Finetune(epochs=3, distillation=0.5))
    assert (tuned.trains, tuned.compresses, tuned.finetune) == (True, False, None)
    assert tuned == Recipe(tune=Finetune(epochs=3), finetune=Finetune(epochs=9))
    assert tuned.label() == "tuned for 3 epochs at 0.001, float32"
    assert (
        dataclasses.replace(tuned, prune=Prune(sparsity=0.5)).label()
        == "tuned, 50 % pruned, float32, 2 epochs at 0.001"
    )
    assert "tune" not in Recipe(prune=Prune(sparsity=0.5)).to_dict()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"cluster": Cluster(number=8)}, "levels: expected either levels or cluster, got"),
        ({"scheme": "qat_int8_io"}, "levels: expected a scheme that is made after training, such as int8_io, got"),
    ],
)
def test_levels_stand_in_place_of_clusters_and_of_quantization_aware_training(parts, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(levels=Levels(number=7), **parts)


def test_learned_levels_are_never_equalized_away():
    made = Recipe(levels=Levels(number=7), scheme="int8", quantize=Quantize(equalize=True, ranges="mse"))
    assert made.quantize == Quantize(ranges="mse")


def test_older_recipes_know_nothing_of_levels():
    assert "levels" not in Recipe(cluster=Cluster(number=8)).to_dict()
    assert Recipe.from_json(Recipe(levels=Levels(number=7)).to_json()).levels == Levels(number=7)


def test_stages_do_not_depend_on_what_comes_later():
    prune = Prune(sparsity=0.5)
    alone, more = Recipe(prune=prune), Recipe(prune=prune, cluster=Cluster(number=8), scheme="qat_int8")
    assert alone.stages()[0] == more.stages()[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prune": {"sparsity": 1}}, r"prune.sparsity: expected a number in \[0, 1\), got 1.0"),
        ({"prune": {"sparsity": -0.1}}, r"prune.sparsity: expected a number in \[0, 1\), got -0.1"),
        ({"prune": {"sparsity": float("nan")}}, r"prune.sparsity: expected a number in \[0, 1\), got nan"),
        ({"prune": {"sparsity": "much"}}, "prune.sparsity: expected a number, got 'much'"),
        ({"prune": {}}, "prune: .*missing 1 required keyword-only argument: 'sparsity'"),
        ({"prune": {"sparsity": 0.5, "schedule": "cubic"}}, "prune.schedule: expected one of constant, polynomial, "),
        ({"prune": {"sparsity": 0.5, "begin": 0.5}}, r"prune.end: expected .* over begin \(0.5\).*, got 0.5"),
        ({"prune": {"sparsity": 0.5, "begin": 1, "end": 1}}, r"prune.begin: expected .*\[0, 1\), got 1.0"),
        ({"prune": {"sparsity": 0.5, "end": 1.1}}, "prune.end: expected .* at most 1, got 1.1"),
        ({"prune": {"sparsity": 0.5, "frequency": 0}}, "prune.frequency: expected a whole number .* 1, got 0"),
        ({"prune": {"sparsity": 0.5, "frequency": 10.0}}, "prune.frequency: expected a whole number .*, got 10.0"),
        ({"prune": {"sparsity": 0.5, "structure": "4:2"}}, "prune.structure: expected .*, got '4:2'"),
        ({"prune": {"sparsty": 0.5}}, "prune: unknown key 'sparsty'; did you mean 'sparsity'?"),
        ({"prune": 0.5}, "prune: expected a mapping with keys .*, got 0.5"),
        ({"cluster": {"number": 1}}, "cluster.number: expected a whole number of at least 2, got 1"),
        ({"cluster": {"number": 8.0}}, "cluster.number: expected a whole number .*, got 8.0"),
        ({"cluster": {"number": "8"}}, "cluster.number: expected a whole number .*, got '8'"),
        ({"cluster": {"number": 8, "per_channel": 1}}, "cluster.per_channel: expected true or false, got 1"),
        (
            {"cluster": {"number": 8, "initialisation": "best"}},
            "cluster.initialisation: expected one of .*, got 'best'",
        ),
        ({"finetune": {"epochs": 0}}, "finetune.epochs: expected a whole number of at least 1, got 0"),
        ({"finetune": {"learning_rate": 0}}, "finetune.learning_rate: expected a number over 0 and under 100, got 0.0"),
        ({"finetune": {"batch_size": 1.5}}, "finetune.batch_size: expected a whole number .*, got 1.5"),
        ({"scheme": "int4"}, "scheme: expected one of float32, .*, got 'int4'"),
        ({"scheme": ["int8"]}, r"scheme: expected one of float32, .*, got \['int8'\]"),
        ({"seed": 0.0}, "seed: expected a whole number .*, got 0.0"),
        ({"schema": "int8"}, "recipe: unknown key 'schema'; did you mean 'scheme'?"),
    ],
)
def test_bad_values_are_refused_with_their_path(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_makes_a_recipe(name):
    scheme = SCHEMES[name]
    recipe = Recipe(scheme=name)
    assert recipe.trains == scheme.qat
    assert recipe.label().startswith(scheme.label)
    assert scheme.integer or not (scheme.integer_io or scheme.qat)


def test_labels_tell_schemes_apart():
    assert len({scheme.label for scheme in SCHEMES.values()}) == len(SCHEMES)


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        (Recipe(), "float32"),
        (Recipe(prune=Prune(sparsity=0.7)), "70 % pruned, float32, 2 epochs at 0.001"),
        (
            Recipe(
                prune=Prune(sparsity=0, structure="2:4"),
                cluster=Cluster(number=16, per_channel=True),
                scheme="int8",
                finetune=Finetune(epochs=1, learning_rate=3e-4),
            ),
            "50 % pruned (2:4), 16 clusters per channel, int8, 1 epoch at 0.0003",
        ),
    ],
)
def test_labels_are_words(recipe, label):
    assert recipe.label() == label


@given(st.integers(1, 64), st.integers(1, 64))
def test_structures_are_split(a, b):
    assert parse_structure(f"{a}x{b}") == ("block", a, b)
    if a < b:
        assert parse_structure(f"{a}:{b}") == ("m_by_n", a, b)
    else:
        with pytest.raises(ValueError, match=f"{a}:{b}"):
            parse_structure(f"{a}:{b}")


@pytest.mark.parametrize("text", ["", "2", "0:4", "0x4", "2:4:8", "2 : 4", "Unstructured", "2:4\n"])
def test_other_structures_are_refused(text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_structure(text)


@pytest.mark.parametrize("value", [Recipe(), Prune(sparsity=0.5), Cluster(number=8), Finetune()])
def test_values_are_frozen(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)
