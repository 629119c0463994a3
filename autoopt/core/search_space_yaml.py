"""The YAML of a search space, read and checked.

    tune: {}                                 # the model is trained further first, with the task's own settings
    channels:                                # left out: no channels are removed
      ratio: [0.25, 0.5]
    prune:                                   # left out: never pruned
      optional: true                         # false: always pruned
      sparsity: {low: 0.3, high: 0.8, step: 0.1}
      structure: [unstructured, "2:4"]
    cluster:
      number: [8, 16, 32]
    levels:                                  # in place of clusters; never with quantization-aware training
      number: [7, 15]
    scheme: [float32, dynamic, int8]
    quantize:                                # how int8 is made; left out: the usual way
      keep: [0, 2]
    finetune:                                # left out: the task's own settings; a task's epochs and rate are the centre
      learning_rate: {low: 0.0001, high: 0.001, log: true}

A knob is one value, a list of values, or a range with `low`, `high` and `step` or `log`.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoopt.core import meaning, yaml_file
from autoopt.core.parameters import Choice, Knob, Range, Value
from autoopt.core.schemes import SCHEMES
from autoopt.core.search_space import SearchSpace
from autoopt.core.stage_settings import FIELDS, OPTIONAL, PARTS
from autoopt.core.validation import expect_keys, expect_number, fail, nearest
from autoopt.errors import ConfigError

OF_TEACHER = ("distillation", "temperature")
"""Settings of a training that has a teacher: what trains the teacher has none."""
MOST_STEPS = 10**15
"""Steps of a range that floats still tell apart."""


def parse(values: object, source: str) -> SearchSpace:
    """Check a space's plain values, as YAML gives them.

    Args:
        values: see the module's text.
        source: the file's name, for messages.

    Raises:
        ConfigError: naming file, path, expected and got.
    """
    try:
        expect_keys("space", values, [*PARTS, "scheme"])
        assert isinstance(values, Mapping)
        if "scheme" not in values:
            raise ConfigError(f"scheme: missing; expected a list of {', '.join(SCHEMES)}")
        knobs: dict[str, Knob] = {}
        for part, settings in values.items():
            if part == "scheme":
                knobs["scheme"] = _scheme(settings)
            else:
                knobs |= _part(part, settings)
        space = SearchSpace(knobs=knobs, source=source)
        _check_order(knobs)
        _check_levels(knobs)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return space


def load(path: Path) -> SearchSpace:
    """Read a space from a YAML file.

    Raises:
        ConfigError: if it is missing, no YAML, or no space.
    """
    try:
        values = yaml_file.load(path)
    except yaml_file.Missing as error:
        raise ConfigError(f"{error}; expected a space") from error
    return parse(values, str(path))


def bundled() -> dict[str, Path]:
    """The spaces that come with autoopt, by name."""
    here = Path(__file__).resolve().parents[1]
    folders = (here / "search_spaces", here.parent / "search_spaces")  # installed, or a checkout
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find(name: str, folder: Path) -> SearchSpace:
    """A bundled space by its name (`mobile`), or a file relative to a folder (`my_space.yaml`).

    Raises:
        ConfigError: if there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return load(folder / name)
    known = bundled()
    if name not in known:
        raise ConfigError(f"space: no bundled space {name!r}; {nearest(name, known)} (or give a .yaml file)")
    return load(known[name])


def _scheme(values: object) -> Choice:
    names: list[Any] = values if isinstance(values, list) else [values]
    if not names:
        raise ConfigError("scheme: the space is empty; list at least one scheme")
    for name in names:
        if not isinstance(name, str) or name not in SCHEMES:
            raise ConfigError(f"scheme: unknown scheme {name!r}; {nearest(str(name), SCHEMES)}")
    return Choice(values=tuple(dict.fromkeys(names)))


def _part(part: str, settings: object) -> dict[str, Knob]:
    fields = {n: f for n, f in FIELDS[part].items() if part != "tune" or n not in OF_TEACHER}
    switch = ["optional"] if part in OPTIONAL else []
    expect_keys(part, settings, [*fields, *switch])
    assert isinstance(settings, Mapping)
    knobs: dict[str, Knob] = {}
    if switch:
        optional = settings.get("optional", True)
        if not isinstance(optional, bool):
            fail(f"{part}.optional", "true or false", optional)
        knobs[part] = Choice(values=(False, True) if optional else (True,))
    for name in (n for n in fields if n in settings):
        path = f"{part}.{name}"
        knobs[path] = _canonical(part, name, _knob(path, _written(fields[name], settings[name]), fields[name].type))
    for name, field in fields.items():
        if name not in settings and field.default is dataclasses.MISSING and not _follows(part, name, settings):
            raise ConfigError(f"{part}.{name}: missing; expected a number, a list of numbers or a range")
    if part == "finetune" and "temperature" in settings and "distillation" not in settings:
        raise ConfigError("finetune.temperature: means nothing without finetune.distillation; name both, or neither")
    return knobs


def _written(field: "dataclasses.Field[Any]", given: Any) -> Any:
    """What the YAML holds for a setting, each value in the one way that recipes have for it."""
    written = meaning.of(field).written
    return [written(value) for value in given] if isinstance(given, list) else written(given)


def _follows(part: str, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a missing sparsity follows from structures that all fix it."""
    if (part, name) != ("prune", "sparsity") or "structure" not in settings:
        return False
    listed = settings["structure"] if isinstance(settings["structure"], list) else [settings["structure"]]
    return all(isinstance(s, str) and ":" in s for s in listed)


def _canonical(part: str, name: str, knob: Knob) -> Knob:
    """The knob with its values as a recipe holds them (rounded), which refuses those that no recipe takes."""
    required: dict[str, dict[str, Any]]
    required = {
        "channels": {"ratio": 0.5},
        "prune": {"sparsity": 0.5},
        "cluster": {"number": 2},
        "levels": {"number": 3},
    }
    needed = {"prune.begin": {"end": 1.0}, "finetune.temperature": {"distillation": 1.0}}
    others = required.get(part, {}) | needed.get(f"{part}.{name}", {})
    values = [getattr(PARTS[part](**{**others, name: value}), name) for value in knob.extremes()]
    if isinstance(knob, Choice):
        return Choice(values=tuple(dict.fromkeys(values)))
    return dataclasses.replace(knob, low=values[0], high=values[1])


def _check_order(knobs: Mapping[str, Knob]) -> None:
    begin, end, schedule = (knobs.get(f"prune.{name}") for name in ("begin", "end", "schedule"))
    if begin is None or (schedule is not None and "polynomial" not in schedule):
        return  # a constant schedule has no end
    latest = max(float(v) for v in begin.extremes())
    earliest = min(float(v) for v in end.extremes()) if end is not None else 0.5
    if latest >= earliest:
        fail("prune.end", f"every value over every value of prune.begin (up to {latest:g})", earliest)


def _check_levels(knobs: Mapping[str, Knob]) -> None:
    """Check that what is always used does not exclude one another."""
    if "levels" not in knobs or False in knobs["levels"]:
        return
    if "cluster" in knobs and False not in knobs["cluster"]:
        raise ConfigError("levels: expected levels or clusters, got both with optional: false; make one optional")
    if aware := [name for name, scheme in SCHEMES.items() if scheme.qat and name in knobs["scheme"]]:
        raise ConfigError(
            f"levels: expected schemes that are made after training, got {', '.join(aware)}; take them out, or make levels optional"
        )


def _knob(path: str, value: object, kind: object) -> Knob:
    if isinstance(value, list):
        if not value:
            raise ConfigError(f"{path}: the list is empty; give at least one value")
        return Choice(values=tuple(dict.fromkeys(_scalar(path, v, kind) for v in value)))
    if isinstance(value, Mapping):
        return _range(path, value, kind)
    return Choice(values=(_scalar(path, value, kind),))


def _range(path: str, value: Mapping[str, Any], kind: object) -> Range:
    if kind not in (int, float):
        fail(path, "a value or a list of values", dict(value))
    expect_keys(path, value, ["low", "high", "step", "log"])
    for end in ("low", "high"):
        if end not in value:
            raise ConfigError(f"{path}: a range needs {end}")
    low, high = (_scalar(f"{path}.{end}", value[end], kind) for end in ("low", "high"))
    assert not isinstance(low, str)
    assert not isinstance(high, str)
    log = value.get("log", False)
    if not isinstance(log, bool):
        fail(f"{path}.log", "true or false", log)
    step = value.get("step", None if kind is float or log else 1)
    if step is not None:
        step = _scalar(f"{path}.step", step, kind)
        assert not isinstance(step, str)
        if step <= 0:
            fail(f"{path}.step", "a number over 0", step)
        if not (high - low) / step < MOST_STEPS:
            fail(f"{path}.step", f"fewer than {MOST_STEPS} steps from low to high", step)
    if log and "step" in value:
        raise ConfigError(f"{path}: expected step or log, got both")
    if log and low <= 0:
        fail(f"{path}.low", "a number over 0 (the range is logarithmic)", low)
    if low > high:
        fail(path, f"low at most high ({high:g})", low)
    if log and kind is int:
        step = 1
    elif step is not None:
        # Optuna would cut a range that the step does not divide, with a warning; the cut is made here.
        high = low + step * math.floor((high - low) / step + 1e-9)
        high = int(high) if kind is int else round(high, 10)
    return Range(low=low, high=high, step=step, log=log, whole=kind is int)


def _scalar(path: str, value: Any, kind: object) -> Value:
    if kind is str:
        if not isinstance(value, str):
            hint = '; put it in quotes: YAML reads 2:4 as a number, "2:4" as text' if isinstance(value, int) else ""
            raise ConfigError(f"{path}: expected text, got {value!r}{hint}")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            fail(path, "true or false", value)
        return value
    if kind is float and isinstance(value, str):
        written = value
        try:  # YAML 1.1 reads 1e-3 as text
            value = float(written)
        except ValueError:
            fail(path, "a number", written)
        if not math.isfinite(value):
            fail(path, "a finite number", written)
    number: int | float = expect_number(path, value, whole=kind is int)
    return number
