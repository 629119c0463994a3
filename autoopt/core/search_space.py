"""Search spaces: YAML -> the set of recipes that a study may sample.

    channels:                                # left out: no channels are removed
      ratio: [0.25, 0.5]
    prune:                                   # left out: never pruned
      optional: true                         # false: always pruned
      sparsity: {low: 0.3, high: 0.8, step: 0.1}
      structure: [unstructured, "2:4"]
    cluster:
      number: [8, 16, 32]
    scheme: [float32, dynamic, int8]
    quantize:                                # how int8 is made; left out: the usual way
      keep: [0, 2]
    finetune:                                # left out: the task's own settings; a task's epochs and rate are the centre
      learning_rate: {low: 0.0001, high: 0.001, log: true}

A knob is one value, a list of values, or a range with `low`, `high` and `step` or `log`.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.core import yaml_file
from autoopt.core.parameters import Choice, Knob, Range, Trial, Value
from autoopt.core.recipe import (
    BY_RANGES,
    COMPRESSING,
    PARTS,
    SCHEMES,
    Channels,
    Cluster,
    Finetune,
    Prune,
    Quantize,
    Recipe,
    parse_structure,
)
from autoopt.core.validation import expect_keys, expect_number, fail, nearest
from autoopt.errors import ConfigError

MOST_STEPS = 10**15
"""Steps of a range that floats still tell apart."""
Choose = Callable[[str, Knob], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The recipes that a study may sample.

    Attributes:
        knobs: by path, such as `prune.sparsity`; `channels`, `prune` and `cluster` themselves hold the truth
            values that say whether the stage is used.
        source: the file, for messages.
    """

    knobs: Mapping[str, Knob]
    source: str

    @property
    def quantize(self) -> Quantize:
        """How schemes with ranges are made in the middle of the space."""
        return Quantize(**self._settings("quantize", lambda _, knob: knob.middle()))

    def sample(self, trial: Trial, defaults: Finetune, seed: int = 0) -> Recipe:
        """Draw a recipe through a trial's sampler.

        Args:
            trial: an `optuna.Trial` or what has its `suggest_` methods.
            defaults: fine-tuning settings where the space names none.
            seed: of the recipe.
        """
        return self.build(lambda name, knob: knob.suggest(name, trial), defaults, seed)

    def random(self, rng: random.Random, defaults: Finetune, seed: int = 0) -> Recipe:
        """Draw a recipe at random, each knob uniformly."""
        return self.build(lambda name, knob: knob.random(rng), defaults, seed)

    def parameters(self, recipe: Recipe, defaults: Finetune) -> dict[str, Value] | None:
        """The sampled values that give exactly this recipe, or None if it lies outside the space."""
        used: dict[str, Value] = {}

        def choose(name: str, knob: Knob) -> Value:
            part, _, setting = name.partition(".")
            chosen = getattr(recipe, part)
            value: Value = chosen is not None if part in COMPRESSING else chosen
            if setting:
                value = getattr(Quantize() if part == "quantize" and chosen is None else chosen, setting)
            if value not in knob:
                raise LookupError(name)
            if knob.count > 1:
                used[name] = value
            return value

        try:
            built = self.build(choose, defaults, recipe.seed)
        except LookupError:
            return None
        return used if built == recipe else None

    def without(
        self,
        parts: Collection[str],
        schemes: Collection[str],
        why: str,
        values: Mapping[str, Sequence[Value]] | None = None,
    ) -> "SearchSpace":
        """The same space without these parts and schemes.

        Args:
            parts: keys of `recipe.PARTS`.
            schemes: keys of `recipe.SCHEMES`.
            why: in words for people.
            values: by a knob's path, to which it is held; the first where it has none of them.

        Raises:
            ConfigError: if no recipe is left.
        """
        knobs = {name: knob for name, knob in self.knobs.items() if name.partition(".")[0] not in parts}
        needed = [part for part in parts if part in self.knobs and False not in self.knobs[part]]
        left = tuple(value for value in _values(self.knobs["scheme"]) if value not in schemes)
        if needed or not left:
            gone = ", ".join(needed or map(str, _values(self.knobs["scheme"])))
            raise ConfigError(f"{self.source}: nothing is left of the space without {gone}: {why}")
        for path in (values or {}).keys() & knobs.keys():
            knob, allowed = knobs[path], (values or {})[path]
            knobs[path] = Choice(values=tuple(value for value in allowed if value in knob) or tuple(allowed[:1]))
        return SearchSpace(knobs={**knobs, "scheme": Choice(values=left)}, source=self.source)

    def build(self, choose: Choose, defaults: Finetune, seed: int = 0) -> Recipe:
        """A recipe of chosen values: the one place that knows which knobs apply under which choices.

        Args:
            choose: is asked for each knob that applies.
            defaults: fine-tuning settings where the space names none.
            seed: of the recipe.
        """
        channels = prune = cluster = quantize = None
        if self._use("channels", choose):
            channels = Channels(**self._settings("channels", choose))
        if self._use("prune", choose):
            settings = self._settings("prune", choose, first=("structure", "schedule"))
            prune = Prune(**settings)
        if self._use("cluster", choose):
            cluster = Cluster(**self._settings("cluster", choose))
        scheme = str(choose("scheme", self.knobs["scheme"]))
        if scheme in BY_RANGES:
            quantize = Quantize(**self._settings("quantize", choose, without=() if cluster is None else ("equalize",)))
        recipe = Recipe(
            channels=channels,
            prune=prune,
            cluster=cluster,
            scheme=scheme,
            quantize=quantize,
            finetune=defaults,
            seed=seed,
        )
        if not recipe.trains:
            return recipe
        settings = self._settings("finetune", choose, first=("distillation",))
        return dataclasses.replace(recipe, finetune=dataclasses.replace(defaults, **settings))

    def _use(self, part: str, choose: Choose) -> bool:
        return part in self.knobs and bool(choose(part, self.knobs[part]))

    def _settings(
        self, part: str, choose: Choose, first: tuple[str, ...] = (), without: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        fields = [f.name for f in dataclasses.fields(PARTS[part]) if f.name not in without]
        names = [name for name in fields if f"{part}.{name}" in self.knobs]
        settings: dict[str, Any] = {"sparsity": 0.5} if part == "prune" else {}
        for name in sorted(names, key=lambda n: n not in first):
            if not applies(f"{part}.{name}", settings):
                continue
            settings[name] = choose(f"{part}.{name}", self.knobs[f"{part}.{name}"])
        return settings

    def count(self) -> float:
        """How many different recipes the space holds; infinity if a range is continuous."""
        total = 0.0
        ways = {"channels": self._of("channels"), "prune": self._prunings(), "cluster": self._of("cluster")}
        tuned = self._tunings()
        for scheme, *used in itertools.product(
            _values(self.knobs["scheme"]), *(self._uses(part) for part in COMPRESSING)
        ):
            combinations = math.prod(ways[part] for part, use in zip(COMPRESSING, used, strict=True) if use)
            trains = any(used) or SCHEMES[str(scheme)].qat
            clustered = dict(zip(COMPRESSING, used, strict=True))["cluster"]
            quantized = self._of("quantize", without=("equalize",) if clustered else ()) if scheme in BY_RANGES else 1
            total += combinations * quantized * (tuned if trains else 1)
        return total

    def _tunings(self) -> float:
        free = self._of("finetune", without=("distillation", "temperature"))
        weights, temperatures = self.knobs.get("finetune.distillation"), self.knobs.get("finetune.temperature")
        if weights is None or temperatures is None:
            return free * (weights or _ONE).count
        without = 1 if 0 in weights else 0
        return free * (without + (weights.count - without) * temperatures.count)

    def _uses(self, part: str) -> tuple[Value, ...]:
        knob = self.knobs.get(part)
        return knob.values if isinstance(knob, Choice) else (False,)

    def _of(self, part: str, without: tuple[str, ...] = ()) -> float:
        names = [k for k in self.knobs if k.startswith(f"{part}.") and k.partition(".")[2] not in without]
        return math.prod(self.knobs[k].count for k in names)

    def _prunings(self) -> float:
        dependent = ("sparsity", "end", "allocation")
        free = self._of("prune", without=("structure", "schedule", *dependent))
        total = 0.0
        for structure, schedule in itertools.product(
            self._values("prune.structure", "unstructured"), self._values("prune.schedule", "polynomial")
        ):
            chosen = {"structure": structure, "schedule": schedule}
            shared = [f"prune.{n}" for n in dependent]
            total += free * math.prod(self.knobs[n].count for n in shared if n in self.knobs and applies(n, chosen))
        return total

    def _values(self, path: str, default: str) -> tuple[Value, ...]:
        knob = self.knobs.get(path)
        return knob.values if isinstance(knob, Choice) else (default,)

    def continuous(self) -> Iterator[str]:
        """Paths of the knobs that make the space infinite."""
        return (path for path, knob in self.knobs.items() if math.isinf(knob.count))


_ONE = Choice(values=(0,))


def _values(knob: Knob) -> tuple[Value, ...]:
    """Of a knob that is a list, as schemes are."""
    assert isinstance(knob, Choice)  # `parse` refuses a range
    return knob.values


def applies(path: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a knob means anything under what was chosen of its part before it."""
    kind = parse_structure(str(chosen.get("structure", "unstructured")))[0]
    if path == "prune.sparsity":
        return kind != "m_by_n"
    if path == "prune.allocation":
        return kind == "unstructured"
    if path == "prune.end":
        return bool(chosen.get("schedule", "polynomial") == "polynomial")
    if path == "finetune.temperature":
        return bool(chosen["distillation"])
    return True


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
    fields = {f.name: f for f in dataclasses.fields(PARTS[part])}
    switch = ["optional"] if part in COMPRESSING else []
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
        knobs[path] = _canonical(part, name, _knob(path, settings[name], fields[name].type))
    for name, field in fields.items():
        if name not in settings and field.default is dataclasses.MISSING and not _follows(part, name, settings):
            raise ConfigError(f"{part}.{name}: missing; expected a number, a list of numbers or a range")
    if part == "finetune" and "temperature" in settings and "distillation" not in settings:
        raise ConfigError("finetune.temperature: means nothing without finetune.distillation; name both, or neither")
    return knobs


def _follows(part: str, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a missing sparsity follows from structures that all fix it."""
    if (part, name) != ("prune", "sparsity") or "structure" not in settings:
        return False
    listed = settings["structure"] if isinstance(settings["structure"], list) else [settings["structure"]]
    return all(isinstance(s, str) and ":" in s for s in listed)


def _canonical(part: str, name: str, knob: Knob) -> Knob:
    """The knob with its values as a recipe holds them (rounded), which refuses those that no recipe takes."""
    required: dict[str, dict[str, Any]]
    required = {"channels": {"ratio": 0.5}, "prune": {"sparsity": 0.5}, "cluster": {"number": 2}}
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
