"""Settings of how integers are made that a target can't run, or a model's layers don't have: left out, or refused."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from autoopt.core.parameters import Choice, Knob, Value
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_BITS
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import FIELDS, Quantize
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.targets import Target

PART = "quantize"
LAYERS = f"{PART}.bits_by_layer"


def without_refused(space: SearchSpace, target: Target) -> tuple[SearchSpace, str]:
    """A space without settings of `Quantize` that its target can run under no scheme; and what was left out, in words.

    Args:
        space: of the study.
        target: where its files are measured.

    Raises:
        ConfigError: if a setting has no other value.
    """
    schemes = [str(name) for name in _values(space.knobs["scheme"]) if name in BY_BITS]
    schemes = [name for name in schemes if not target.refuses(name)]
    knobs, notes = dict(space.knobs), []
    for name in FIELDS[PART] if schemes else ():
        knob = space.knobs.get(f"{PART}.{name}")
        if knob is None:
            continue
        why = {value: _refused(space, target, schemes, name, value) for value in _values(knob)}
        gone = ", ".join(str(value) for value, reason in why.items() if reason)
        if not gone:
            continue
        reason = next(filter(None, why.values()))
        left = tuple(value for value in why if not why[value])
        if not left:
            raise ConfigError(
                f"{space.source}: {PART}.{name}: the target {target.name} can't run {gone} ({reason}); leave the setting out"
            )
        knobs[f"{PART}.{name}"] = Choice(values=left)
        notes.append(
            f"{PART}.{name} {gone} is left out of the space, because the target {target.name} can't run it ({reason})"
        )
    return (SearchSpace(knobs=knobs, source=space.source) if notes else space), "; ".join(notes)


def _refused(space: SearchSpace, target: Target, schemes: Iterable[str], name: str, value: Value) -> str:
    """Why a setting's value runs under none of these schemes, whatever scales weights have; `` where it does."""
    fixed: dict[str, Any] = {
        other: _values(knob)[0]
        for other in FIELDS[PART]
        if (knob := space.knobs.get(f"{PART}.{other}")) is not None and knob.count == 1
    }
    scales = space.knobs.get(f"{PART}.granularity")
    grains = [Quantize().granularity] if scales is None else _values(scales)
    reasons = [
        target.refuses(scheme, Quantize(**(fixed | {"granularity": grain, name: value})))
        for scheme, grain in itertools.product(schemes, grains)
    ]
    return reasons[0] if all(reasons) else ""


def expect_layers(space: SearchSpace, recipes: Iterable[Recipe], layers: Mapping[str, bool] | None) -> None:
    """Check that bits are named for layers alone that the model has, and that can have them.

    Args:
        space: of the study.
        recipes: that are asked for beside it.
        layers: of the model, by name: whether kernels take 4 bits for them; None if they are not known.

    Raises:
        ConfigError: naming the first layer that is not so.
    """
    if layers is None:
        return
    knob = space.knobs.get(LAYERS)
    told = [(f"{space.source}: ", str(text)) for text in (() if knob is None else _values(knob))]
    told += [("", recipe.quantize.bits_by_layer) for recipe in recipes if recipe.quantize is not None]
    for where, text in told:
        for name, bits in Quantize(bits_by_layer=text).layers.items():
            if name not in layers:
                raise ConfigError(
                    f"{where}{LAYERS}: the model has no layer {name!r} with weights; {nearest(name, layers)}"
                )
            if bits == 4 and not layers[name]:
                raise ConfigError(f"{where}{LAYERS}: {name}: no kernel takes 4 bits for such a layer; leave it at 8")


def _values(knob: Knob) -> tuple[Value, ...]:
    return knob.values if isinstance(knob, Choice) else knob.extremes()
