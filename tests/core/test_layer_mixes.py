"""What is proposed for a size budget, from probes that were made up."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.core.layer_mixes import propose
from autoopt.core.probes import EIGHT_BITS, FORMS, FOUR_BITS, Cut, Effect, Form, ProbedLayer, Probes

REST = 100


def form(name: str, size: int, error: float) -> Form:
    effect = Effect(error=error, change=None)
    return Form(name=name, size=size, compressed=size, effect=effect)


def layer(place: int, figures: list[tuple[int, float]], kind: str = "Conv2D") -> ProbedLayer:
    """A layer of which the forms have these sizes and errors, with the 8 bits of a file first."""
    forms = {name: form(name, *figure) for name, figure in zip(FORMS, figures, strict=False)}
    return ProbedLayer(layer=f"l{place}", kind=kind, weights=100, forms=forms)


ERROR = st.integers(0, 40).map(lambda n: n / 8)  # sums of such are exact
LAYERS = st.lists(st.lists(st.tuples(st.integers(1, 60), ERROR), min_size=1, max_size=4), min_size=1, max_size=4).map(
    lambda rows: tuple(layer(place, figures) for place, figures in enumerate(rows))
)


def eight(layers: tuple[ProbedLayer, ...]) -> float:
    """Bytes of a file with everything in 8 bits."""
    return REST + sum(probed.forms[EIGHT_BITS].size for probed in layers)


@settings(deadline=None)
@given(LAYERS, st.integers(0, 400))
def test_without_channels_it_is_the_best_of_all_mixes(layers: tuple[ProbedLayer, ...], budget: int) -> None:
    found = propose(Probes(layers=layers), budget, eight(layers), compressed=False)
    every = [
        (REST + sum(form.size for form in chosen), sum(form.effect.error for form in chosen))
        for chosen in itertools.product(
            *([f for f in probed.forms.values() if probed is not layers[0] or f.name != FOUR_BITS] for probed in layers)
        )
    ]
    within = [error for size, error in every if size <= budget]
    assert bool(found.reason) == (not within)
    if within:
        assert found.error == min(within)
        assert found.size <= budget
    else:
        assert found.size == min(size for size, _ in every) > budget


@st.composite
def with_cuts(draw: st.DrawFn) -> Probes:
    """Layers of which all but the last make channels that can go, alone or tied; any later layer takes them."""
    layers = draw(LAYERS)
    names = [probed.layer for probed in layers]
    makers = [(name,) for name in names[:-1]]
    if len(makers) > 2 and draw(st.booleans()):
        makers = [(*makers[0], *makers[2]), makers[1]]
    cuts = []
    for together in makers:
        takers = [draw(st.sampled_from(names[names.index(name) + 1 :])) for name in together]
        left = dict.fromkeys([*together, *takers], 0.75)
        cuts.append(Cut(layers=together, effect=Effect(error=draw(ERROR), change=None), left=left))
    return Probes(layers=layers, cuts=tuple(cuts))


@settings(deadline=None)
@given(with_cuts(), st.integers(0, 400), st.integers(0, 100))
def test_no_budget_is_exceeded_and_more_of_it_never_costs_quality(probes: Probes, budget: int, more: int) -> None:
    small, large = (propose(probes, b, eight(probes.layers), compressed=True) for b in (budget, budget + more))
    if not small.reason:
        assert small.size <= budget
        assert not large.reason
        assert large.error <= small.error
        assert list(small.forms) == [probed.layer for probed in probes.layers]
        gone = [cut for cut in probes.cuts if cut.layers in small.cuts]
        errors = [probed.forms[small.forms[probed.layer]].effect.error for probed in probes.layers]
        assert small.error == sum(errors) + sum(cut.effect.error for cut in gone)


def test_channels_go_where_that_costs_least_and_both_ends_save() -> None:
    layers = tuple(layer(place, [(100, 0.0)]) for place in range(3))
    cheap = Cut(layers=("l1",), effect=Effect(error=0.1, change=None), left={"l1": 0.75, "l2": 0.75})
    dear = Cut(layers=("l0",), effect=Effect(error=0.2, change=None), left={"l0": 0.75, "l1": 0.75})
    found = propose(Probes(layers=layers, cuts=(dear, cheap)), 355, 400, compressed=False)
    assert (found.cuts, found.size, found.error) == ((("l1",),), 350, 0.1)
    same = Cut(layers=("l0",), effect=Effect(error=0.2, change=None), left={"l0": 0.75, "l2": 0.75})
    joint = propose(Probes(layers=layers, cuts=(same, cheap)), 300, 400, compressed=False)
    assert joint.size == 100 + 75 + 75 + 50
    both = propose(Probes(layers=layers, cuts=(dear, cheap)), 320, 400, compressed=False)
    assert both.cuts == (("l0",), ("l1",))
    assert both.size == 100 + 75 + 75 * 0.75 + 75


def test_four_bits_are_proposed_where_there_are_kernels_for_them() -> None:
    figures = [(100, 0.0), (50, 0.1)]
    kinds = ("Conv2D", "DepthwiseConv2D", "Conv2D", "Dense", "LSTM")
    layers = tuple(layer(place, figures, kind) for place, kind in enumerate(kinds))
    found = propose(Probes(layers=layers), 500, eight(layers), compressed=False)
    assert list(found.forms.values()) == [EIGHT_BITS, EIGHT_BITS, FOUR_BITS, FOUR_BITS, EIGHT_BITS]
    assert found.db == pytest.approx(6.99, abs=0.01)


def test_what_was_not_probed_is_counted_and_named() -> None:
    layers = (layer(0, [(100, 0.0)]), ProbedLayer(layer="l1", kind="Dense", weights=7))
    found = propose(Probes(layers=layers), 1000, 900, compressed=False)
    assert (found.forms, found.size) == ({"l0": EIGHT_BITS}, 900)
    assert propose(Probes(layers=layers[1:]), 1000, 900, compressed=False).reason == "no layer was probed"
    none = propose(Probes(reason="it is a SavedModel"), 1000, 900, compressed=False)
    assert (none.reason, none.size, none.db) == ("it is a SavedModel", 900, None)


@settings(deadline=None)
@given(with_cuts())
def test_probes_are_the_same_after_a_store(probes: Probes) -> None:
    assert Probes.from_dict(json.loads(json.dumps(probes.to_dict()))) == probes
