"""Short ways to the values that several tests need."""

import dataclasses
import os
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from autoopt.core.budgets import parse
from autoopt.core.candidate import Candidate
from autoopt.core.layer_bits import BITS
from autoopt.core.metrics import STANDARD, Measurement, Metric
from autoopt.core.optimizers import ARGUMENTS
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.schemes import AFTER_TRAINING, SCHEMES
from autoopt.core.stage_settings import (
    ALLOCATIONS,
    FROZEN,
    GRANULARITIES,
    IMPORTANCES,
    INITIALISATIONS,
    RANGES,
    SCHEDULES,
    SCOPES,
    Channels,
    Cluster,
    Finetune,
    Levels,
    Prune,
    Quantize,
)

# A shared machine makes time limits per example meaningless, and a failing example is printed anyway.
# The same examples each time, so that what a change is judged by does not hang on luck; AUTOOPT_RANDOM=1 draws others.
settings.register_profile(
    "autoopt", deadline=None, database=None, max_examples=50, derandomize="AUTOOPT_RANDOM" not in os.environ
)
settings.load_profile("autoopt")

ROOT = Path(__file__).parents[2]
"""The folder of the checkout."""
METRICS = {
    "accuracy": Metric(name="accuracy", direction="max", unit="fraction"),
    "mae": Metric(name="mae", direction="min"),
    "margin": Metric(name="margin", direction="max"),
    **STANDARD,
}

STRUCTURES = ("unstructured", "2:4", "1:4", "1x4", "2x2")
prunings = st.builds(
    Prune,
    sparsity=st.floats(-0.0, 0.99),
    schedule=st.sampled_from(SCHEDULES),
    begin=st.floats(-0.0, 0.4),
    end=st.floats(0.5, 1.0),
    frequency=st.integers(1, 1000),
    structure=st.sampled_from(STRUCTURES),
    allocation=st.sampled_from(ALLOCATIONS),
)
cuts = st.builds(
    Channels,
    ratio=st.floats(0.01, 0.99),
    importance=st.sampled_from(IMPORTANCES),
    scope=st.sampled_from(SCOPES),
    multiple=st.integers(1, 32),
    solve=st.booleans(),
)
quantizings = st.builds(
    Quantize,
    keep=st.integers(0, 3),
    keep_ends=st.booleans(),
    granularity=st.sampled_from(GRANULARITIES),
    ranges=st.sampled_from(RANGES),
    equalize=st.booleans(),
    correct_bias=st.booleans(),
    int4_dense=st.booleans(),
    int4_share=st.just(0.0) | st.floats(0, 1),
    bits_by_layer=st.dictionaries(st.sampled_from(["conv", "dense/1", "b c"]), st.sampled_from(BITS)),
)
clusterings = st.builds(
    Cluster,
    number=st.integers(2, 256),
    initialisation=st.sampled_from(INITIALISATIONS),
    per_channel=st.booleans(),
    fold=st.booleans(),
)
optimizers = st.sampled_from(["adam", "sgd", "adamw", "rmsprop"]) | st.one_of(
    st.fixed_dictionaries(
        {"name": st.just(name)},
        optional={
            key: st.booleans() if isinstance(usual, bool) else st.floats(1e-9, 0.999) for key, usual in own.items()
        },
    )
    for name, own in ARGUMENTS.items()
)
finetunings = st.builds(
    Finetune,
    epochs=st.integers(1, 100),
    learning_rate=st.floats(1e-8, 10.0),
    batch_size=st.integers(1, 4096),
    distillation=st.just(0.0) | st.floats(1e-9, 1),
    temperature=st.floats(0.1, 100),
    averaging=st.just(0.0) | st.floats(1e-9, 0.999),
    recalibrate=st.booleans(),
    frozen=st.sampled_from(FROZEN),
    optimizer=optimizers,
    weight_decay=st.just(0.0) | st.floats(1e-9, 0.5),
    warmup=st.just(0.0) | st.floats(1e-9, 0.9),
    clip_norm=st.just(0.0) | st.floats(1e-9, 10),
    mixed_precision=st.booleans(),
    patience=st.integers(0, 5),
)
odd = st.integers(1, 127).map(lambda half: 2 * half + 1)
levellings = st.builds(
    Levels,
    number=odd,
    by_size=st.floats(0, 1),
    ends=odd,
    per_channel=st.booleans(),
    rate=st.floats(1e-6, 0.5),
    penalty=st.just(0.0) | st.floats(1e-9, 0.5),
)


def _recipe(levels, cluster, scheme, **parts):
    """A recipe with clusters or learned levels, which exclude each other."""
    if levels is None:
        return Recipe(cluster=cluster, scheme=scheme, **parts)
    return Recipe(levels=levels, scheme=AFTER_TRAINING.get(scheme, scheme), **parts)


recipes = st.builds(
    _recipe,
    tune=st.none() | finetunings,
    channels=st.none() | cuts,
    prune=st.none() | prunings,
    cluster=st.none() | clusterings,
    levels=st.none() | levellings,
    scheme=st.sampled_from(list(SCHEMES)),
    quantize=st.none() | quantizings,
    finetune=st.none() | finetunings,
    seed=st.integers(0, 2**32 - 1),
)


def measured(value, spread=0.0, n=100):
    """A measurement with an interval of `value` plus and minus `spread`."""
    return Measurement(value=value, low=value - spread, high=value + spread, n=n, how="made up")


def candidate(number, origin="search", spread=0.0, recipe=None, outcomes="", **values):
    """A candidate with these values; a value is a number (with `spread` around it) or a measurement."""
    measurements = {k: v if isinstance(v, Measurement) else measured(v, spread) for k, v in values.items()}
    return Candidate(
        number=number, origin=origin, recipe=recipe or Recipe(seed=number), measurements=measurements, outcomes=outcomes
    )


def failed(number):
    """A candidate that went wrong."""
    return Candidate(number=number, recipe=Recipe(seed=number), failed_stage="prune", reason="no layer can be pruned")


def results(*candidates, budgets=(), objectives=("accuracy", "size_bytes"), quality="accuracy", **more):
    """Results of these candidates, with budgets as texts."""
    bare = Results(study="made-up", metrics=METRICS, quality=quality, objectives=tuple(objectives))
    limits = tuple(parse(text, METRICS, stored=True) for text in budgets)  # small numbers are easy to read in tests
    values = {"budgets": limits, "candidates": candidates, "provenance": {"host": "nowhere"}}
    return dataclasses.replace(bare, **{**values, **more})
