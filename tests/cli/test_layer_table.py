"""The table of which layer hurts, as a person sees it."""

import dataclasses
import re
import textwrap
from typing import Any

import pytest
import yaml

from autoopt.api.size_proposals import proposals
from autoopt.cli import layer_table
from autoopt.core import search_space_yaml
from autoopt.core.metrics import Metric
from autoopt.core.probes import EIGHT_BITS, FORMS, Cut, Effect, Form, ProbedLayer, Probes

ACCURACY = Metric(name="accuracy", direction="max", unit="fraction")


def layer(name: str, weights: int, error: float, change: float | None = -0.05) -> ProbedLayer:
    forms = {
        form: Form(
            name=form,
            size=weights // place,
            compressed=weights // (place + 1),
            effect=Effect(error=0.0 if form == EIGHT_BITS else error, change=change),
        )
        for place, form in enumerate(FORMS, start=1)
    }
    return ProbedLayer(layer=name, kind="Conv2D", weights=weights, forms=forms)


FOUND = Probes(
    items=500,
    quality=0.9,
    layers=(layer("stem", 432, 0.1), layer("body", 36864, 0.001), layer("head", 640, 0.0)),
    cuts=(Cut(layers=("stem", "body"), effect=Effect(error=0.5, change=None), left={"stem": 0.75, "body": 0.75}),),
    whole={"head": "they are the model's output"},
    notes=("it is a large model",),
)


def text(probes: Probes, metric: Metric = ACCURACY) -> str:
    return "\n".join(layer_table.lines(probes.to_dict(), metric))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_rows_are_in_the_order_of_the_model_with_a_star_at_the_worst() -> None:
    lines = text(FOUND).splitlines()
    assert lines[1:5] == [
        "layer  weights  int8 bytes    gzip  4 bits  7 levels  50 % zeros  25 % fewer channels",
        "stem       432         432     216   10.0*     10.0*       10.0*                 3.0*",
        "body    36,864      36,864  18,432   30.0      30.0        30.0                  3.0",
        "head       640         640     320   same      same        same                    -",
    ]
    assert "less is worse, * is worst" in lines[0]
    assert "hurt most: 4 bits in stem (accuracy -5.00 points); 7 levels in stem" in lines[5]
    assert lines[5].endswith("; 25 % fewer channels in stem")
    assert lines[6:] == ["channels go together: stem with body", "it is a large model"]


def test_lines_are_no_wider_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert max(map(len, text(FOUND).splitlines())) <= 90


def test_a_metric_in_its_own_unit_changes_in_it() -> None:
    assert "(mae -0.05)" in text(FOUND, Metric(name="mae", direction="min"))


def test_a_model_that_is_closed_says_why_not() -> None:
    assert text(Probes(reason="it is a SavedModel")) == "which layer hurts can't be told: it is a SavedModel"


def test_long_models_show_what_was_probed_first() -> None:
    light = tuple(layer(f"l{place}", place, 0.1) for place in range(1, 80))
    heavy = ProbedLayer(layer="unprobed", kind="Dense", weights=10**6)
    shown = text(dataclasses.replace(FOUND, layers=(*light, heavy), cuts=()))
    assert "\nl79 " in shown
    assert "\nl19 " not in shown
    assert "unprobed" not in shown
    assert "and 20 smaller layers" in shown
    few = text(dataclasses.replace(FOUND, layers=(*light[:2], heavy), cuts=()))
    assert re.search(r"\nunprobed +1,000,000 +- +- +- +- +- +-$", few, re.MULTILINE)


def proposal(sizes: dict[str, float], file: bytes | None = bytes(40000), reason: str = "") -> str:
    rows: list[dict[str, Any]] = proposals(FOUND, sizes, file, reason)
    return "\n".join(layer_table.proposed(rows))


def test_a_mix_is_told_by_form_with_what_it_is_worth() -> None:
    lines = proposal({"size_bytes": 40e3}).splitlines()
    assert re.match(r"for 40 KB: about \d+(\.\d+)? KB at (\d+\.\d dB|no noise), before any training", lines[0])
    assert "no noise" in lines[0]
    assert lines[1:3] == ["  8 bits: stem, body", "  50 % zeros: head"]
    smaller = proposal({"size_bytes": 20e3})
    assert re.search(r"about \d+(\.\d+)? KB at \d+\.\d dB", smaller)
    assert "body" in smaller


def test_what_fits_nowhere_says_what_would() -> None:
    assert re.fullmatch(
        r"for 1 KB: no mix is proposed: even the smallest mix is larger: the smallest mix has about \S+ KB",
        proposal({"size_bytes": 1000}),
    )
    assert proposal({"compressed_bytes": 1000}, None, "the model can't be had in int8: no") == (
        "for 1 KB after gzip: no mix is proposed: the model can't be had in int8: no"
    )


def test_the_bits_of_a_mix_are_what_a_space_reads() -> None:
    """Lines are copied into a space, which has to make the same of them."""
    lines = proposal({"size_bytes": 22e3}).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("  8 and 4 bits alone, for the space: about "))
    copied = textwrap.dedent("\n".join(lines[place + 1 :]))
    space = search_space_yaml.parse(yaml.safe_load(copied) | {"scheme": ["int8"]}, "space")
    assert space.quantize.layers == {"body": 4, "head": 4}


def test_bits_that_do_not_suffice_say_how_far_they_reach() -> None:
    assert "  8 and 4 bits alone, which a space can name by layer, reach " in proposal({"size_bytes": 12e3})
