"""Search spaces: the set of recipes that a study may sample, and how one is drawn from it."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.core import meaning
from autoopt.core.meaning import Milder
from autoopt.core.parameters import Choice, Knob, Trial, Value
from autoopt.core.recipe import Recipe
from autoopt.core.schemes import BY_BITS, BY_RANGES, SCHEMES
from autoopt.core.stage_settings import (
    BITS,
    COMPRESSING,
    FIELDS,
    OPTIONAL,
    PARTS,
    Channels,
    Cluster,
    Finetune,
    Levels,
    Prune,
    Quantize,
    applies,
)
from autoopt.errors import ConfigError

Choose = Callable[[str, Knob], Value]
OF_OTHERS = ("learning_rate", "optimizer")
"""Settings of a training that the stage of learned levels has its own for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The recipes that a study may sample.

    Attributes:
        knobs: by path, such as `prune.sparsity`; `tune`, `channels`, `prune`, `cluster` and `levels` themselves hold the
            truth values that say whether the stage is used.
        source: the file, for messages.
    """

    knobs: Mapping[str, Knob]
    source: str

    @property
    def quantize(self) -> Quantize:
        """How schemes with ranges are made in the middle of the space, with as many bits as it has."""
        return self._quantize(min)

    @property
    def packed(self) -> Quantize | None:
        """The same with as few bits as the space has; None where it has no choice of them."""
        found = self._quantize(max)
        return None if found == self.quantize else found

    def _quantize(self, bits: Callable[[Sequence[Value]], Value]) -> Quantize:
        def middle(name: str, knob: Knob) -> Value:
            of_bits = meaning.of(FIELDS["quantize"][name.partition(".")[2]]).milder is Milder.LESS
            return bits(knob.extremes()) if of_bits else knob.middle()

        return Quantize(**self._settings("quantize", middle))

    def tuning(self, choose: Choose, defaults: Finetune) -> Finetune:
        """How the model is trained further before anything is taken from it, where it is.

        That takes half of the epochs of the other stages, for there is nothing that it has to recover from.

        Args:
            choose: is asked for each knob that applies.
            defaults: fine-tuning settings where the space names none.
        """
        shorter = {"epochs": (defaults.epochs + 1) // 2, "distillation": 0.0}
        return dataclasses.replace(defaults, **shorter | self._settings("tune", choose))

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
            value: Value = chosen is not None if part in OPTIONAL else chosen
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
            parts: keys of `stage_settings.PARTS`.
            schemes: keys of `schemes.SCHEMES`.
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

    def held(self, part: str, use: bool) -> "SearchSpace":
        """The same space with a part that is always used, or never.

        Args:
            part: one of `OPTIONAL`, in the space.
            use: whether it is used.
        """
        knobs = {name: knob for name, knob in self.knobs.items() if use or name.partition(".")[0] != part}
        return dataclasses.replace(self, knobs={**knobs, **({part: Choice(values=(True,))} if use else {})})

    def build(self, choose: Choose, defaults: Finetune, seed: int = 0) -> Recipe:
        """A recipe of chosen values: the one place that knows which knobs apply under which choices.

        Args:
            choose: is asked for each knob that applies.
            defaults: fine-tuning settings where the space names none.
            seed: of the recipe.
        """
        tune = channels = prune = cluster = levels = quantize = None
        if self._use("tune", choose):
            tune = self.tuning(choose, defaults)
        if self._use("channels", choose):
            channels = Channels(**self._settings("channels", choose))
        if self._use("prune", choose):
            settings = self._settings("prune", choose, first=("structure", "schedule"))
            prune = Prune(**settings)
        scheme = str(choose("scheme", self.knobs["scheme"])) if "levels" in self.knobs else ""
        if "levels" in self.knobs and not SCHEMES[scheme].qat and self._use("levels", choose):
            levels = Levels(**self._settings("levels", choose))
        elif self._use("cluster", choose):
            cluster = Cluster(**self._settings("cluster", choose))
        scheme = scheme or str(choose("scheme", self.knobs["scheme"]))
        if scheme in BY_BITS:
            fixed = _meaningless(scheme, bool(cluster or levels))
            quantize = Quantize(**self._settings("quantize", choose, without=fixed))
        recipe = Recipe(
            tune=tune,
            channels=channels,
            prune=prune,
            cluster=cluster,
            levels=levels,
            scheme=scheme,
            quantize=quantize,
            finetune=defaults,
            seed=seed,
        )
        if recipe.finetune is None:
            return recipe
        alone = levels is not None and channels is None and prune is None
        settings = self._settings("finetune", choose, ("distillation",), OF_OTHERS if alone else ())
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
            if not applies(part, name, settings):
                continue
            settings[name] = choose(f"{part}.{name}", self.knobs[f"{part}.{name}"])
        return settings

    def count(self) -> float:
        """How many different recipes the space holds; infinity if a range is continuous."""
        total = 0.0
        ways = {part: self._prunings() if part == "prune" else self._of(part) for part in COMPRESSING}
        tuned, of_levels = self._tunings(), self._tunings(OF_OTHERS)
        for scheme, *used in itertools.product(
            _values(self.knobs["scheme"]), *(self._uses(part) for part in COMPRESSING)
        ):
            uses = dict(zip(COMPRESSING, used, strict=True))
            if uses["levels"]:
                if SCHEMES[str(scheme)].qat or (uses["cluster"] and False in self._uses("cluster")):
                    continue
                uses["cluster"] = False
            combinations = math.prod(ways[part] for part, use in uses.items() if use)
            trains = any(uses.values()) or SCHEMES[str(scheme)].qat
            fixed = _meaningless(str(scheme), bool(uses["cluster"] or uses["levels"]))
            quantized = self._of("quantize", fixed) if scheme in BY_BITS else 1
            alone = uses["levels"] and not (uses["channels"] or uses["prune"])
            total += combinations * quantized * ((of_levels if alone else tuned) if trains else 1)
        return total * sum(self._of("tune") if use else 1 for use in self._uses("tune"))

    def _tunings(self, without: tuple[str, ...] = ()) -> float:
        free = self._of("finetune", without=("distillation", "temperature", *without))
        weights, temperatures = self.knobs.get("finetune.distillation"), self.knobs.get("finetune.temperature")
        if weights is None or temperatures is None:
            return free * (weights or _ONE).count
        untaught = 1 if 0 in weights else 0
        return free * (untaught + (weights.count - untaught) * temperatures.count)

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
            knobs = {name: self.knobs.get(f"prune.{name}") for name in dependent if applies("prune", name, chosen)}
            total += free * math.prod(knob.count for knob in knobs.values() if knob is not None)
        return total

    def _values(self, path: str, default: str) -> tuple[Value, ...]:
        knob = self.knobs.get(path)
        return knob.values if isinstance(knob, Choice) else (default,)

    def continuous(self) -> Iterator[str]:
        """Paths of the knobs that make the space infinite."""
        return (path for path, knob in self.knobs.items() if math.isinf(knob.count))


_ONE = Choice(values=(0,))


def _meaningless(scheme: str, clustered: bool) -> tuple[str, ...]:
    """The settings of `Quantize` that mean nothing under a scheme, or beside clusters."""
    if scheme not in BY_RANGES:
        return tuple(name for name in FIELDS["quantize"] if name not in BITS)
    return ("equalize",) if clustered else ()


def _values(knob: Knob) -> tuple[Value, ...]:
    """The values of a knob that is a list, as schemes are."""
    assert isinstance(knob, Choice)  # its YAML is refused with a range
    return knob.values
