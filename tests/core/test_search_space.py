import json
import math
import random

import optuna
import pytest
import yaml
from builders import finetunings, recipes
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.core.recipe import Recipe
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space_yaml import bundled, find, load, parse
from autoopt.core.stage_settings import Cluster, Finetune, Prune, Quantize
from autoopt.errors import ConfigError

DEFAULTS = Finetune()


class Script:
    """A trial that gives the values of a script (indices into each knob's values), then first values."""

    def __init__(self, script):
        self.script, self.sizes = list(script), []

    def _next(self, values):
        index = self.script[len(self.sizes)] if len(self.sizes) < len(self.script) else 0
        self.sizes.append(len(values))
        return values[index]

    def suggest_categorical(self, name, choices):
        return self._next(list(choices))

    def suggest_int(self, name, low, high, *, step=1, log=False):
        return self._next(list(range(low, high + 1, step)))

    def suggest_float(self, name, low, high, *, step=None, log=False):
        return self._next([low + i * step for i in range(round((high - low) / step) + 1)])


def every_recipe(space):
    """All recipes that sampling can give, each as often as there are ways to it."""
    script, found = [], []
    while script is not None:
        trial = Script(script)
        found.append(space.sample(trial, DEFAULTS))
        taken = script + [0] * (len(trial.sizes) - len(script))
        while taken and taken[-1] == trial.sizes[len(taken) - 1] - 1:
            taken.pop()
        script = [*taken[:-1], taken[-1] + 1] if taken else None
    return found


def some(values, most=2):
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def steps(low, step):
    """A range of one to three values; its upper end need not lie on a step."""
    return st.builds(
        lambda n, extra: {"low": low, "high": low + n * step + (extra * step), "step": step},
        st.integers(0, 2),
        st.just(0) if isinstance(step, int) else st.sampled_from([0, 0.5]),
    )


prune_parts = st.fixed_dictionaries(
    {"sparsity": some([0.0, 0.3, 0.5, 0.75]) | steps(0.3, 0.1) | st.just(0.5)},
    optional={
        "optional": st.booleans(),
        "structure": some(["unstructured", "2:4", "1:4", "1x4"]),
        "schedule": some(["constant", "polynomial"]),
        "end": some([0.5, 0.7, 1]) | steps(0.5, 0.25),
        "begin": some([0, 0.2]),
        "frequency": st.just(10),
        "allocation": some(["uniform", "global"]),
    },
)
channel_parts = st.fixed_dictionaries(
    {"ratio": some([0.25, 0.5]) | st.just(0.5)},
    optional={"optional": st.booleans(), "importance": some(["l2", "taylor"]), "multiple": st.just(4)},
)
quantize_parts = st.fixed_dictionaries(
    {}, optional={"keep": some([0, 1, 2]), "granularity": some(["channel", "tensor"]), "equalize": some([False, True])}
)
cluster_parts = st.fixed_dictionaries(
    {"number": some([4, 8, 16]) | steps(4, 4)},
    optional={"optional": st.booleans(), "per_channel": some([False, True])},
)
level_parts = st.fixed_dictionaries({"number": some([7, 15])}, optional={"by_size": some([0, 0.25])})
finetune_parts = st.fixed_dictionaries(
    {}, optional={"epochs": some([1, 2, 3]) | steps(1, 1), "learning_rate": some([1e-3, "1e-4"])}
) | st.fixed_dictionaries(
    {"distillation": some([0, 0.5, 1])}, optional={"temperature": some([2, 4]), "recalibrate": some([False, True])}
)
small_spaces = st.fixed_dictionaries(
    {"scheme": some(["float32", "int8", "qat_int8"], 3)},
    optional={
        "channels": channel_parts,
        "prune": prune_parts,
        "cluster": cluster_parts,
        "levels": level_parts,
        "quantize": quantize_parts,
        "finetune": finetune_parts,
    },
).map(lambda values: parse(values, "small.yaml"))

CONDITIONAL = parse(
    {
        "prune": {
            "sparsity": {"low": 0.3, "high": 0.85, "step": 0.05},
            "structure": ["unstructured", "2:4", "1x4"],
            "schedule": ["polynomial", "constant"],
            "begin": {"low": 0.0, "high": 0.2},
            "end": {"low": 0.3, "high": 0.9},
            "frequency": {"low": 5, "high": 100, "log": True},
        },
        "cluster": {"number": {"low": 4, "high": 64, "step": 4}, "per_channel": [False, True]},
        "scheme": ["float32", "int8", "qat_int8"],
        "finetune": {
            "epochs": {"low": 1, "high": 4},
            "learning_rate": {"low": "1e-5", "high": "1e-2", "log": True},
            "batch_size": 16,
        },
    },
    "conditional.yaml",
)


# --- counting and drawing


@settings(max_examples=40)
@given(small_spaces)
def test_count_is_the_number_of_different_recipes(space):
    found = every_recipe(space)
    assert len(found) == len(set(found)) == space.count()


@settings(max_examples=40)
@given(small_spaces, st.randoms(use_true_random=False))
def test_drawing_at_random_gives_recipes_of_the_space(space, rng):
    everything = set(every_recipe(space))
    assert {space.random(rng, DEFAULTS) for _ in range(10)} <= everything


def test_drawing_at_random_reaches_every_recipe():
    space = parse({"prune": {"sparsity": [0.5, 0.7], "structure": ["unstructured", "2:4"]}, "scheme": "int8"}, "s")
    rng = random.Random(0)
    assert {space.random(rng, DEFAULTS) for _ in range(200)} == set(every_recipe(space))


@settings(max_examples=40)
@given(small_spaces)
def test_parameters_are_the_inverse_of_sample(space):
    ways = {}
    for recipe in every_recipe(space):
        parameters = space.parameters(recipe, DEFAULTS)
        assert space.sample(optuna.trial.FixedTrial(parameters), DEFAULTS) == recipe
        ways[json.dumps(parameters, sort_keys=True)] = recipe
    assert len(ways) == space.count()


@given(small_spaces, recipes, finetunings)
def test_parameters_of_recipes_outside_the_space_are_none(space, recipe, other):
    inside = Recipe.from_dict(recipe.to_dict() | {"seed": 0}) in every_recipe(space)
    assert (space.parameters(recipe, DEFAULTS) is not None) == inside
    if recipe.finetune not in (None, other) and not any(k.startswith("finetune.") for k in space.knobs):
        assert space.parameters(recipe, other) is None


@given(st.randoms(use_true_random=False), st.integers(0, 99))
def test_parameters_find_what_was_drawn_from_continuous_ranges(rng, seed):
    recipe = CONDITIONAL.random(rng, DEFAULTS, seed)
    assert recipe.seed == seed
    parameters = CONDITIONAL.parameters(recipe, DEFAULTS)
    assert CONDITIONAL.sample(optuna.trial.FixedTrial(parameters), DEFAULTS, seed) == recipe


def test_the_seed_is_kept_apart_from_the_space():
    space = parse({"scheme": ["float32", "int8"]}, "s")
    assert space.parameters(Recipe(scheme="int8", seed=7), DEFAULTS) == {"scheme": "int8"}


def test_only_knobs_that_mean_something_are_sampled():
    def knobs(**parts):
        return set(CONDITIONAL.parameters(Recipe(**parts), DEFAULTS))

    tuning = Finetune(batch_size=16, epochs=3)
    uses = {"prune", "cluster", "scheme"}
    trained = uses | {"finetune.epochs", "finetune.learning_rate"}
    pruned = trained | {"prune.structure", "prune.schedule", "prune.begin", "prune.frequency"}
    assert knobs(scheme="int8") == uses
    assert knobs(scheme="qat_int8", finetune=tuning) == trained
    assert knobs(cluster=Cluster(number=8), finetune=tuning) == trained | {"cluster.number", "cluster.per_channel"}
    assert knobs(prune=Prune(sparsity=0.5), finetune=tuning) == pruned | {"prune.sparsity", "prune.end"}
    assert knobs(prune=Prune(sparsity=0.5, schedule="constant"), finetune=tuning) == pruned | {"prune.sparsity"}
    assert knobs(prune=Prune(sparsity=0.5, structure="2:4"), finetune=tuning) == pruned | {"prune.end"}


def test_knobs_of_ways_to_quantize_are_sampled_for_schemes_with_ranges_only():
    space = parse({"scheme": ["dynamic", "int8", "qat_int8"], "quantize": {"keep": [0, 2]}}, "s")
    assert space.parameters(Recipe(scheme="dynamic"), DEFAULTS) == {"scheme": "dynamic"}
    assert space.parameters(Recipe(scheme="int8"), DEFAULTS) == {"scheme": "int8", "quantize.keep": 0}
    kept = Recipe(scheme="int8", quantize=Quantize(keep=2))
    assert space.parameters(kept, DEFAULTS) == {"scheme": "int8", "quantize.keep": 2}
    assert space.parameters(Recipe(scheme="int8", quantize=Quantize(keep=1)), DEFAULTS) is None
    assert space.count() == 4


def test_bits_are_sampled_for_dynamic_too():
    bits = {"int4_share": [0, 0.5, 1], "bits_by_layer": [{}, {"conv": 4}], "keep": [0, 2]}
    space = parse({"scheme": ["dynamic", "int8", "float32"], "quantize": bits}, "s")
    half = Recipe(scheme="dynamic", quantize=Quantize(int4_share=0.5))
    asked = {"scheme": "dynamic", "quantize.int4_share": 0.5, "quantize.bits_by_layer": ""}
    assert space.parameters(half, DEFAULTS) == asked
    assert space.count() == 6 + 12 + 1
    assert space.quantize == Quantize(keep=2)  # in the middle, but for bits, of which it has all


def test_a_stage_that_is_not_optional_is_always_used():
    space = parse({"prune": {"optional": False, "sparsity": [0.5, 0.7]}, "scheme": "int8"}, "s")
    assert space.count() == 2
    assert all(recipe.prune is not None for recipe in every_recipe(space))


def test_defaults_fill_what_the_space_leaves_open():
    space = parse({"scheme": "qat_int8", "finetune": {"epochs": 5}}, "s")
    mine = Finetune(epochs=1, learning_rate=0.02, batch_size=8)
    assert space.random(random.Random(0), mine).finetune == Finetune(epochs=5, learning_rate=0.02, batch_size=8)


def test_continuous_knobs_are_named():
    assert list(CONDITIONAL.continuous()) == ["prune.begin", "prune.end", "finetune.learning_rate"]
    assert math.isinf(CONDITIONAL.count())
    fixed = parse({"scheme": "qat_int8", "finetune": {"learning_rate": {"low": 0.1, "high": 0.1}}}, "s")
    assert (list(fixed.continuous()), fixed.count()) == ([], 1)


# --- with optuna itself


SAMPLERS = {
    "random": lambda: optuna.samplers.RandomSampler(seed=1),
    "tpe": lambda: optuna.samplers.TPESampler(seed=1, n_startup_trials=5),
    "tpe, joint": lambda: optuna.samplers.TPESampler(seed=1, n_startup_trials=5, multivariate=True, group=True),
}


@pytest.fixture
def study(request):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=SAMPLERS[request.param](), directions=["minimize", "minimize"])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("study", SAMPLERS, indirect=True)
@pytest.mark.parametrize("name", [*sorted(bundled()), "conditional"])
def test_enqueued_parameters_give_the_same_recipe_back(study, name):
    space = CONDITIONAL if name == "conditional" else find(name, None)
    for number in range(12):
        trial = study.ask()
        recipe = space.sample(trial, DEFAULTS)
        parameters = space.parameters(recipe, DEFAULTS)
        assert parameters.keys() == trial.params.keys()
        study.tell(trial, [number % 5, len(trial.params)])

        study.enqueue_trial(parameters)
        again = study.ask()
        assert space.sample(again, DEFAULTS) == recipe
        study.tell(again, [number % 5, len(trial.params)])


# --- reading


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_spaces(name):
    space = find(name, None)
    assert space.source == str(bundled()[name])
    rng = random.Random(0)
    drawn = {space.random(rng, DEFAULTS) for _ in range(300)}
    assert {r.scheme for r in drawn} == set(space.knobs["scheme"].values)
    # On a microcontroller neither zeros nor clusters pay.
    both = {True} if name == "microcontroller" else {False, True}
    assert {(r.prune is None, r.cluster is None) for r in drawn} == {(a, b) for a in both for b in both}


def test_bundled_spaces_are_there():
    assert {"mobile", "microcontroller", "npu", "smoke"} <= bundled().keys()


def test_a_file_is_found_relative_to_its_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("scheme: int8\n")
    assert find("mine.yaml", tmp_path) == load(tmp_path / "mine.yaml")
    assert load(tmp_path / "mine.yaml").count() == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobil", "space: no bundled space 'mobil'; did you mean 'mobile'\\?.*give a .yaml file"),
        ("none.yaml", "none.yaml: can't read it \\(No such file"),
        ("folder.yaml", "folder.yaml: expected a YAML file, got a folder"),
        ("broken.yaml", "broken.yaml: not YAML: "),
        ("binary.yaml", "binary.yaml: expected UTF-8, got the byte 0xff"),
        ("empty.yaml", "empty.yaml: space: expected a mapping with keys .*, got None"),
    ],
)
def test_files_that_are_no_space(tmp_path, name, message):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "broken.yaml").write_text("scheme: [int8\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match=message) as refused:
        find(name, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # the whole
        (
            "[int8]",
            "space: expected a mapping with keys tune, channels, prune, cluster, levels, quantize, finetune, scheme, got ['int8']",
        ),
        ("{prune: {sparsity: 0.5}}", "scheme: missing; expected a list of float32, "),
        ("{scheme: int8, clusters: {number: 8}}", "space: unknown key 'clusters'; did you mean 'cluster'?"),
        ("{scheme: int8, prune: true}", "prune: expected a mapping with keys sparsity, "),
        ("{scheme: int8, prune: }", "prune: expected a mapping with keys sparsity, "),
        # schemes
        ("{scheme: []}", "scheme: the space is empty; list at least one scheme"),
        ("{scheme: int9}", "scheme: unknown scheme 'int9'; did you mean 'int8'?"),
        ("{scheme: [int8, 8]}", "scheme: unknown scheme 8; "),
        ("{scheme: [[int8]]}", "scheme: unknown scheme ['int8']; "),
        ("{scheme: {low: 1}}", "scheme: unknown scheme {'low': 1}; "),
        ("{scheme: }", "scheme: unknown scheme None; known: float32, "),
        # one value
        ("{scheme: int8, prune: {sparsity: 1.2}}", "prune.sparsity: expected a number in [0, 1), got 1.2"),
        ("{scheme: int8, prune: {sparsity: [0.5, 1]}}", "prune.sparsity: expected a number in [0, 1), got 1"),
        ("{scheme: int8, prune: {sparsity: []}}", "prune.sparsity: the list is empty; give at least one value"),
        ("{scheme: int8, prune: {sparsity: [0.5, [0.6]]}}", "prune.sparsity: expected a number, got [0.6]"),
        ("{scheme: int8, prune: {sparsity: half}}", "prune.sparsity: expected a number, got 'half'"),
        ("{scheme: int8, prune: {sparsity: true}}", "prune.sparsity: expected a number, got True"),
        ("{scheme: int8, prune: {sparsity: .nan}}", "prune.sparsity: expected a number, got nan"),
        ("{scheme: int8, prune: {}}", "prune.sparsity: missing; expected a number, a list of numbers or a range"),
        ("{scheme: int8, prune: {structure: [unstructured, '2:4']}}", "prune.sparsity: missing; expected "),
        ("{scheme: int8, prune: {sparsty: 0.5}}", "prune: unknown key 'sparsty'; did you mean 'sparsity'?"),
        ("{scheme: int8, prune: {sparsity: 0.5, structure: '4:2'}}", "prune.structure: expected 'unstructured', "),
        ("{scheme: int8, prune: {sparsity: 0.5, optional: 1}}", "prune.optional: expected true or false, got 1"),
        ("{scheme: int8, finetune: {optional: true}}", "finetune: unknown key 'optional'; "),
        ("{scheme: int8, cluster: {number: 1}}", "cluster.number: expected a whole number of at least 2, got 1"),
        ("{scheme: int8, cluster: {number: 8.5}}", "cluster.number: expected a whole number, got 8.5"),
        ("{scheme: int8, cluster: {number: 8, per_channel: 1}}", "cluster.per_channel: expected true or false, got 1"),
        # ranges
        ("{scheme: int8, cluster: {number: {low: 2}}}", "cluster.number: a range needs high"),
        (
            "{scheme: int8, cluster: {number: {low: 9, high: 8}}}",
            "cluster.number: expected low at most high (8), got 9",
        ),
        ("{scheme: int8, cluster: {number: {low: 1, high: 8}}}", "cluster.number: expected a whole number of at least"),
        (
            "{scheme: int8, cluster: {number: {low: 2.5, high: 8}}}",
            "cluster.number.low: expected a whole number, got 2.5",
        ),
        (
            "{scheme: int8, cluster: {number: {low: 2, high: 8, step: 0}}}",
            "cluster.number.step: expected a number over 0",
        ),
        (
            "{scheme: int8, cluster: {number: {low: 2, high: 8, step: 0.5}}}",
            "cluster.number.step: expected a whole numb",
        ),
        ("{scheme: int8, cluster: {number: {low: 2, high: 8, log: 2}}}", "cluster.number.log: expected true or false"),
        (
            "{scheme: int8, cluster: {number: {low: 2, high: 8, stp: 2}}}",
            "cluster.number: unknown key 'stp'; did you mean",
        ),
        (
            "{scheme: int8, cluster: {number: 8, initialisation: {low: 1, high: 2}}}",
            "cluster.initialisation: expected a v",
        ),
        (
            "{scheme: int8, prune: {sparsity: {low: 0, high: .inf, step: 0.1}}}",
            "prune.sparsity.high: expected a number, ",
        ),
        (
            "{scheme: int8, prune: {sparsity: {low: 0, high: 0.5, step: .nan}}}",
            "prune.sparsity.step: expected a number, ",
        ),
        (
            "{scheme: int8, prune: {sparsity: {low: 0, high: 0.5, log: true}}}",
            "prune.sparsity.low: expected a number over",
        ),
        (
            "{scheme: int8, prune: {sparsity: {low: 0.1, high: 0.5, log: true, step: 0.1}}}",
            "prune.sparsity: expected step or log, got both",
        ),
        # one knob against another
        ("{scheme: int8, prune: {sparsity: 0.5, begin: 0.5}}", "prune.end: expected every value over every value of "),
        (
            "{scheme: int8, prune: {sparsity: 0.5, begin: {low: 0, high: 0.6}, end: [0.5, 0.9]}}",
            "prune.end: expected every value over every value of prune.begin (up to 0.6), got 0.5",
        ),
        (
            "{scheme: int8, levels: {number: 7, optional: false}, cluster: {number: 8, optional: false}}",
            "levels: expected levels or clusters, got both with optional: false; make one optional",
        ),
        (
            "{scheme: [int8, qat_int8], levels: {number: 7, optional: false}}",
            "levels: expected schemes that are made after training, got qat_int8; take them out, or make levels optional",
        ),
        ("{scheme: int8, levels: {number: [7, 8]}}", "levels.number: expected an odd number: zero, and as many levels"),
        ("{scheme: int8, levels: {number: 257}}", "levels.number: expected a whole number"),
        ("{scheme: int8, levels: {optional: true}}", "levels.number: missing; expected a number"),
        # traps of YAML
        (
            "{scheme: int8, prune: {sparsity: 0.5, structure: 2:4}}",
            'prune.structure: expected text, got 124; put it in quotes: YAML reads 2:4 as a number, "2:4" as text',
        ),
        (
            "{scheme: int8, prune: {sparsity: {low: 0.1, high: 0.8, step: 5.0e-324}}}",
            "prune.sparsity.step: expected fewer than",
        ),
        ("{scheme: int8, prune: {structure: [2:4]}}", "prune.structure: expected text, got 124; put it in quotes"),
        ("{scheme: [no]}", "scheme: unknown scheme False; known: float32, "),
    ],
)
def test_bad_spaces_are_refused_naming_file_and_path(text, message):
    with pytest.raises(ConfigError) as refused:
        parse(yaml.safe_load(text), "my.yaml")
    assert str(refused.value).startswith(f"my.yaml: {message}")


@pytest.mark.parametrize(
    ("text", "knob", "values"),
    [
        ("{scheme: qat_int8, finetune: {learning_rate: [1e-3, 1e-4]}}", "finetune.learning_rate", (0.001, 0.0001)),
        ("{scheme: [int8, int8, float32]}", "scheme", ("int8", "float32")),
        ("{scheme: int8, prune: {sparsity: [0, 0.0, -0.0]}}", "prune.sparsity", (0.0,)),
        ("{scheme: int8, prune: {sparsity: [0.3, 0.30000000000004]}}", "prune.sparsity", (0.3,)),
        ("{scheme: int8, prune: {structure: ['2:4', '1:4']}}", "prune.structure", ("2:4", "1:4")),
        ("{scheme: int8, cluster: {number: 8, per_channel: [no, yes]}}", "cluster.per_channel", (False, True)),
        ("{scheme: int8, prune: {sparsity: 0.5, schedule: constant, begin: 0.6}}", "prune.begin", (0.6,)),
    ],
)
def test_lists_hold_the_values_that_recipes_hold(text, knob, values):
    assert parse(yaml.safe_load(text), "my.yaml").knobs[knob].values == values


@pytest.mark.parametrize(
    ("text", "low", "high", "count"),
    [
        ("{low: 0.3, high: 0.85, step: 0.05}", 0.3, 0.85, 12),
        ("{low: 0.3, high: 0.84, step: 0.1}", 0.3, 0.8, 6),
        ("{low: 0.1, high: 0.5, step: 1e-1}", 0.1, 0.5, 5),
        ("{low: 0.1, high: 0.5}", 0.1, 0.5, math.inf),
        ("{low: 1e-1, high: 5e-1, log: true}", 0.1, 0.5, math.inf),
        ("{low: 0.1, high: 0.1}", 0.1, 0.1, 1),
    ],
)
def test_ranges_end_on_a_step(text, low, high, count):
    knob = parse({"scheme": "int8", "prune": {"sparsity": yaml.safe_load(text)}}, "s").knobs["prune.sparsity"]
    assert (knob.low, knob.high, knob.count) == (low, high, count)


def test_knobs_are_shown_in_words():
    assert str(CONDITIONAL.knobs["scheme"]) == "float32, int8, qat_int8"
    assert str(CONDITIONAL.knobs["prune.sparsity"]) == "0.3 to 0.85 (step 0.05)"
    assert str(CONDITIONAL.knobs["prune.begin"]) == "0 to 0.2 (continuous)"
    assert str(CONDITIONAL.knobs["finetune.learning_rate"]) == "1e-05 to 0.01 (log)"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_can_be_searched(scheme):
    assert parse({"scheme": scheme}, "s").random(random.Random(0), DEFAULTS) == Recipe(scheme=scheme)


def test_a_space_without_some_of_it_holds_the_rest():
    whole = parse({"prune": {"sparsity": [0.5, 0.7]}, "scheme": ["float32", "int8", "qat_int8"]}, "here.yaml")
    left = whole.without(("prune",), ("qat_int8",), "why")
    assert (left.count(), set(left.knobs)) == (2, {"scheme"})
    assert whole.without((), (), "why") == whole
    with pytest.raises(
        ConfigError, match=r"here.yaml: nothing is left of the space without float32, int8, qat_int8: why"
    ):
        whole.without((), ("float32", "int8", "qat_int8"), "why")
    always = parse({"prune": {"sparsity": 0.5, "optional": False}, "scheme": ["float32"]}, "here.yaml")
    with pytest.raises(ConfigError, match="nothing is left of the space without prune: why"):
        always.without(("prune",), (), "why")
