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
    PARTS,
    Channels,
    Cluster,
    Finetune,
    Prune,
    Quantize,
    applies,
)
from autoopt.errors import ConfigError

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
        """How schemes with ranges are made in the middle of the space, with as many bits as it has."""

        def middle(name: str, knob: Knob) -> Value:
            mildest = meaning.of(FIELDS["quantize"][name.partition(".")[2]]).milder is Milder.LESS
            return min(knob.extremes()) if mildest else knob.middle()

        return Quantize(**self._settings("quantize", middle))

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
        if scheme in BY_BITS:
            quantize = Quantize(**self._settings("quantize", choose, without=_meaningless(scheme, cluster is not None)))
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
            if not applies(part, name, settings):
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
            quantized = self._of("quantize", _meaningless(str(scheme), bool(clustered))) if scheme in BY_BITS else 1
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
