"""How the Python API's values look in a notebook: one line each, tables with dtypes, names escaped."""

import dataclasses
import inspect
import json

import numpy as np
import pandas as pd
import pytest
from builders import candidate, failed, measured, results

import autoopt
from autoopt.api.verification import Verification
from autoopt.core.candidate import Confirmation, Skipped
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.core.tables import Front
from autoopt.reporting import ablation

EVIL = "<script>alert('x')</script>\n\x1b[31m" + "long " * 100
LONG = Recipe(prune=Prune(sparsity=0.123456789), cluster=Cluster(number=16), scheme="int8", finetune=Finetune(epochs=3))


@pytest.fixture(scope="module")
def study():
    """Two thousand candidates with outcomes and resamples, and names that try to break out."""
    some = [
        dataclasses.replace(
            candidate(
                n, recipe=dataclasses.replace(LONG, seed=n), accuracy=measured(0.5 + n / 1e4, 0.01), size_bytes=n
            ),
            resamples=tuple(np.linspace(0, 1, 200)),
            outcomes="A" * 1000,
            confirmation=Confirmation(quality=measured(0.5), resamples=tuple(np.linspace(0, 1, 200))),
        )
        for n in range(1, 2000)
    ]
    made = results(candidate(0, origin="baseline", accuracy=0.9, size_bytes=9e9, latency_ms=1.0), *some, failed(2000))
    return dataclasses.replace(made, study=EVIL, provenance={"class_names": [EVIL] * 10})


def test_everything_has_a_repr_of_one_short_line(study):
    front = study.front()
    whys = dataclasses.replace(study.pick(), why=EVIL, binding=(EVIL,))
    broken = dataclasses.replace(study.candidates[-1], reason=EVIL)
    x, y = np.zeros((1000, 32, 32, 3)), np.zeros(1000)
    values = [
        study,
        front,
        study.pick(),
        whys,
        study.pick("size_bytes <= 0 B"),
        autoopt.compare(study, [0, 1, 2, 3]),
        study.candidates[1],
        study.candidates[1].confirmation,
        broken,
        LONG,
        LONG.finetune,
        LONG.prune,
        LONG.cluster,
        measured(0.5),
        dataclasses.replace(measured(0.5), how=EVIL, flags=(EVIL,)),
        study.metrics["accuracy"],
        Skipped(number=1, recipe=LONG, origin="search", kind="dominated", reason=EVIL),
        ablation.Verdict(technique="pruning", effects=()),
        ablation.Effect(
            technique="pruning", candidate=front[0], without=front[0], saved={}, quality=(0.0, 0.0, 0.0), worth=False
        ),
        Verification(folder=EVIL, study=EVIL, candidate=EVIL, checks=()),
        autoopt.Task(model=EVIL, train=(x, y), validation=(x, y), test=({"a": x}, {"b": y, "c": y})),
        autoopt.Task(model=object(), train=x, validation=None, test=(x, 3), metric=None),
        autoopt.QualityMetric(name="auc", function=sorted),
    ]
    for value in values:
        text = repr(value)
        assert len(text) < 200, text
        assert "\n" not in text
        assert "\x1b" not in text


def test_reprs_say_what_it_is():
    found = results(
        candidate(0, origin="baseline", accuracy=0.9, size_bytes=10), candidate(1, accuracy=0.9, size_bytes=8)
    )
    assert repr(found) == "<Results of made-up: 2 candidates, 1 on the front>"
    assert repr(found.front()) == "<Front of 1: #1>"
    assert repr(results().front()) == "<Front of 0: no candidates>"
    assert repr(found.pick()).startswith("<Pick of #1 float32: smallest of 2")
    assert repr(found.candidates[1]) == "<Candidate #1 float32: accuracy 0.9, size_bytes 8 B>"
    assert repr(failed(3)) == "<Candidate #3 float32: failed in prune: no layer can be pruned>"
    assert repr(measured(0.5, 0.1)) == "<Measurement 0.5 (0.4 to 0.6, n=100)>"
    assert repr(autoopt.compare(found, [0, 1])) == "<Comparison of #1 with #0: the recipes differ in seed>"
    pair = (np.zeros((3, 2)), np.zeros(3))
    told = autoopt.Task(model="m.h5", train=pair, validation=pair, test=(pair[0], {"a": pair[1]}), metric="accuracy")
    assert repr(told) == "<Task of m.h5: 3 train, 3 validation, 3 test; metric accuracy>"


def test_what_a_notebook_shows_lets_no_name_out(study):
    shown = [
        study,
        study.front(),
        dataclasses.replace(study.pick(), why=EVIL, binding=(EVIL,)),
        autoopt.compare(study, [0, 1]),
        Verification(folder=EVIL, study=EVIL, candidate=EVIL, checks=()),
    ]
    for value in shown:
        text = value._repr_html_()
        assert "<script" not in text
        assert len(text) < 40_000


def test_a_pick_is_shown_with_its_units(study):
    text = study.pick()._repr_html_()
    assert "Pick #" in text
    assert "90.00 %" in text
    assert "limited by size_bytes &lt;= 0 B" in study.pick("size_bytes <= 0 B")._repr_html_()


def test_a_comparison_is_a_table_of_what_differs():
    a = candidate(0, origin="baseline", recipe=Recipe(), accuracy=measured(0.9, 0.01), size_bytes=1000)
    b = candidate(1, recipe=LONG, accuracy=measured(0.8, 0.01), size_bytes=500)
    text = autoopt.compare(results(a, b), [0, 1])._repr_html_()
    for words in (
        "prune sparsity",
        "90.00 %",
        "500 B 2.00x smaller",
        "accuracy on validation, same items",
        "-10.00 points",
    ):
        assert words in text


def test_a_front_is_a_list_and_a_table(study):
    front = study.front()
    assert isinstance(front, list)
    assert isinstance(front, Front)
    assert [c.number for c in front] == list(front.table().index)
    assert front == list(front)
    assert list(front.table().columns) == list(study.table().columns)
    assert f"and {len(front) - 20} more" in front._repr_html_()
    assert results().front().table().empty


def test_tables_hold_numbers_texts_and_truths_and_no_objects(study):
    few = dataclasses.replace(study, candidates=(*study.candidates[:3], study.candidates[-1]))
    for table in (few.table(), few.front().table(), results().table(), results(failed(1)).table()):
        assert "object" not in {str(dtype) for dtype in table.dtypes}
        for name in ("accuracy", "accuracy_low", "latency_ms", "memory_bytes_high", "accuracy_test", "seconds"):
            assert table[name].dtype == np.float64
        assert table["confirmed"].dtype == bool
        assert table.index.dtype == np.int64
        assert isinstance(table["reason"].dtype, pd.StringDtype)
    table = few.table()
    assert np.isnan(table.loc[2000, "accuracy"])
    assert table["latency_ms"].mean() == 1.0
    assert list(table["confirmed"]) == [False, True, True, False]
    assert json.loads(table.to_json())


def test_every_public_name_says_what_it_is():
    for name in autoopt.__all__:
        if name != "__version__":
            text = inspect.getdoc(getattr(autoopt, name)) or ""
            assert len(text.splitlines()[0]) > 20, name
            assert text.splitlines()[0].endswith((".", "?")), name
