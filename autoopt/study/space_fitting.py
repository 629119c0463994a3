"""A space made to fit a task: without what its model can't take, and around the fine-tuning that the task asks for."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoopt.compression.channel_graph import rounded
from autoopt.compression.channel_pruning import LEAST
from autoopt.core.parameters import Choice, Knob, Range, Value
from autoopt.core.recipe import Recipe
from autoopt.core.search_space import SearchSpace
from autoopt.core.search_space_yaml import bundled
from autoopt.core.stage_settings import Channels, Finetune
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.study import quantize_fitting
from autoopt.study.folder import StudyConfig
from autoopt.study.objectives import narrowed
from autoopt.targets import Target

GRID = 1000
"""Ratios between 0 and 1 that are looked at where a range of them is continuous."""
SPACES = {"micro": "microcontroller", "vela": "npu", "edgetpu": "npu"}
"""The bundled space for a kind of target; `USUAL` for all others."""
USUAL = "mobile"
LATER = (("channels.solve", "levels", "levels.number", "quantize.int4_share", "quantize.correct_bias"), ("tune",))
"""Knobs that the bundled spaces got when studies had begun with them already, in the order of the versions that brought them."""
CENTRED = ("epochs", "learning_rate")
"""Settings of `Finetune` whose knobs are moved so that the task's value is their middle."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A space made to fit a task.

    Attributes:
        space: what may be sampled.
        before: the same without what was learnt of channels and of the task's fine-tuning, and both as they were before
            versions brought `LATER`: studies that began with one of them go on with it.
        limits: why the model can't be put through all of it, in words for people.
        changes: what was learnt besides.
    """

    space: SearchSpace
    before: tuple[SearchSpace, ...]
    limits: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed, and why, in words for people."""
        return (*self.limits, *self.changes)

    def said(self, space: SearchSpace) -> tuple[str, ...]:
        """What was changed of the one of both spaces that a study uses."""
        return self.notes if space in (self.space, *_earlier(self.space)) else self.limits


def fitted(
    space: SearchSpace, task: Mapping[str, Any], target: Target | None = None, recipes: Sequence[Recipe] = ()
) -> Fitted:
    """A space made to fit a task.

    Args:
        space: of the study.
        task: what the job that read the task has found.
        target: where its files are measured, if that matters.
        recipes: that are asked for beside the space.

    Raises:
        ConfigError: if no recipe is left, or the model has not what a recipe names.
    """
    quantize_fitting.expect_layers(space, recipes, task.get("layers"))
    _expect_augmentations(space, task.get("augment", ()))
    before = narrowed(space, task["limits"])
    able, vain = without_vain_ratios(before, task["groups"])
    able, refused = (able, "") if target is None else quantize_fitting.without_refused(able, target)
    found, moved = centred(able, Finetune(**task["finetune"])) if task["tuned"] else (able, "")
    limits = tuple(limit["why"] for limit in task["limits"])
    begun = (before, *_earlier(found), *_earlier(before))
    return Fitted(space=found, before=begun, limits=limits, changes=tuple(filter(None, (vain, refused, moved))))


def _earlier(space: SearchSpace) -> list[SearchSpace]:
    """The space as earlier versions had it, the latest of these first."""
    found = []
    for version in range(len(LATER) - 1, -1, -1):
        gone = {path for brought in LATER[version:] for path in brought}
        knobs = {path: knob for path, knob in space.knobs.items() if path not in gone}
        found.append(dataclasses.replace(space, knobs=knobs))
    return found


def _expect_augmentations(space: SearchSpace, names: Sequence[str]) -> None:
    """Check that a space names no augmentation that its task has not.

    Raises:
        ConfigError: naming the first such.
    """
    known = ["all", "none", *names]
    for value in getattr(space.knobs.get("finetune.augment"), "values", ()):
        if value not in known:
            raise ConfigError(
                f"{space.source}: finetune.augment: the task has no augmentation {value!r}; {nearest(value, known)}"
            )


def expect_able(config: StudyConfig, where: str) -> None:
    """Refuse a space of which the target runs nothing, before anything is trained.

    Raises:
        ConfigError: naming the space to take.
    """
    knob = config.space.knobs["scheme"]
    refused = {str(name): config.target.refuses(str(name)) for name in getattr(knob, "values", ())}
    if refused and all(refused.values()):
        reason = next(iter(refused.values()))
        raise ConfigError(
            f"{where}: space: the target {config.target.name} can run none of {', '.join(refused)} ({reason}); "
            f"use space: {usual_space(config.target)}"
        )


def usual_space(target: Target) -> str:
    """The bundled space for a target."""
    wanted = SPACES.get(target.name.partition(":")[0], USUAL)
    return wanted if wanted in bundled() else USUAL


# ---- channels


def takes(groups: Sequence[int], ratio: float, scope: str, multiple: int) -> bool:
    """Whether any layer can lose channels; with the scope `global`, where all that go may be of one layer.

    Args:
        groups: numbers of channels that can only go one by one, by group.
        ratio: see `Channels`.
        scope: see `Channels`.
        multiple: see `Channels`.
    """
    most = min(round(ratio * sum(groups)), sum(groups) - 1)
    for count in groups:
        wanted = (1 - ratio) * count if scope == "layer" else float(count - most)
        least = min(count, max(multiple, LEAST * count))
        if rounded(max(wanted, least), count, multiple) < count:
            return True
    return False


def without_vain_ratios(space: SearchSpace, groups: Sequence[int] | None) -> tuple[SearchSpace, str]:
    """A space without shares of channels that are so small that, rounded, none would go; and what was left out.

    Args:
        space: of the study.
        groups: see `takes`; None if nothing is known of the model.

    Raises:
        ConfigError: if no recipe is left.
    """
    ratios = space.knobs.get("channels.ratio")
    if ratios is None or groups is None:
        return space, ""
    usual = Channels(ratio=0.5)
    scope = "layer" if "layer" in _values(space, "channels.scope", usual.scope) else "global"
    multiple = min(int(value) for value in _values(space, "channels.multiple", usual.multiple))
    able = [ratio for ratio in _grid(ratios) if takes(groups, ratio, scope, multiple)]
    rounding = f", for their numbers are rounded to multiples of {multiple}" if groups and multiple > 1 else ""
    if not able:
        most = max(_grid(ratios))
        why = f"no layer of the model can take up to {most * 100:g} % fewer channels{rounding}: channels stay"
        return space.without(("channels",), (), why), why
    if min(able) <= min(_grid(ratios)):
        return space, ""
    knob: Knob = (
        Choice(values=tuple(able)) if isinstance(ratios, Choice) else dataclasses.replace(ratios, low=min(able))
    )
    why = (
        f"no layer of the model can take less than {min(able) * 100:g} % fewer channels{rounding}: smaller shares are left out "
        "of the space"
    )
    return SearchSpace(knobs={**space.knobs, "channels.ratio": knob}, source=space.source), why


def _values(space: SearchSpace, path: str, default: Value) -> tuple[Value, ...]:
    knob = space.knobs.get(path)
    if knob is None:
        return (default,)
    return knob.values if isinstance(knob, Choice) else knob.extremes()


def _grid(knob: Knob) -> list[float]:
    """The values of a knob, or many of a continuous one."""
    if isinstance(knob, Choice):
        return [float(value) for value in knob.values]
    if knob.step is not None and not knob.log:
        return [float(round(knob.low + i * knob.step, 10)) for i in range(int(knob.count))]
    return [knob.low, *(i / GRID for i in range(GRID) if knob.low < i / GRID < knob.high), knob.high]


# ---- fine-tuning


def centred(space: SearchSpace, wanted: Finetune) -> tuple[SearchSpace, str]:
    """A space whose epochs and learning rates lie around those that the task asks for; and what was moved, in words.

    Args:
        space: of the study.
        wanted: the task's own settings.
    """
    knobs, moved = dict(space.knobs), []
    for name in CENTRED:
        path, value = f"finetune.{name}", getattr(wanted, name)
        knob = knobs.get(path)
        if knob is None or knob.middle() == value:
            continue
        knobs[path] = (_epochs if name == "epochs" else _rates)(knob, value)
        moved.append(f"{name} {knobs[path]} in place of the space's {knob}")
    left = list(_unheard(space, wanted))
    if not moved and not left:
        return space, ""
    around = f"the task's finetune is the centre of what is searched: {'; '.join(moved)}" if moved else ""
    return SearchSpace(knobs=knobs, source=space.source), "; ".join(filter(None, (around, *left)))


def _unheard(space: SearchSpace, wanted: Finetune) -> Iterator[str]:
    """Settings of the task in whose place the space sets others."""
    for field in dataclasses.fields(Finetune):
        knob, value = space.knobs.get(f"finetune.{field.name}"), getattr(wanted, field.name)
        if field.name not in CENTRED and knob is not None and value != field.default and value not in knob:
            yield f"the task's {field.name} {value} is not searched, the space says {knob}"


def _epochs(knob: Knob, value: int) -> Knob:
    """Whole numbers of 1 or more around a value, as far apart as the knob's by their ratio."""
    if isinstance(knob, Choice):
        factor = value / float(knob.middle())
        numbers = sorted(max(1, round(float(number) * factor)) for number in knob.values)
        return _choice(numbers, value)
    if knob.log or knob.step is None:
        low = max(1, round(knob.low * value / float(knob.middle())))
        return dataclasses.replace(knob, low=low, high=max(low, round(value * value / low)))
    step = max(1, round(float(knob.step) * value / float(knob.middle())))
    below = min(int(knob.count) // 2, (value - 1) // step)
    above = min(int(knob.count) - 1 - int(knob.count) // 2, below)  # so that the value stays in the middle
    if below + above == 0:
        return Choice(values=(value,))
    return Range(low=value - below * step, high=value + above * step, step=step, log=False, whole=True)


def _rates(knob: Knob, value: float) -> Knob:
    """Learning rates around a value, as far apart as the knob's by their ratio."""
    factor = value / float(knob.middle())
    if isinstance(knob, Choice):
        return _choice([_rate(float(rate) * factor) for rate in knob.values], value)
    step = None if knob.step is None else knob.step * factor
    return dataclasses.replace(knob, low=_rate(knob.low * factor), high=_rate(knob.high * factor), step=step)


def _rate(value: float) -> float:
    """A learning rate as a recipe holds it."""
    return Finetune(learning_rate=min(value, 99.0)).learning_rate


def _choice(numbers: Sequence[float], middle: float) -> Choice:
    """Distinct numbers, of which so many are left that one of them is the middle."""
    distinct: list[Value] = [number for number, _ in itertools.groupby(sorted(numbers))]
    below = [number for number in distinct if number < middle]  # type: ignore[operator]
    above = [number for number in distinct if number > middle]  # type: ignore[operator]
    return Choice(values=(*below, middle, *above[: len(below)]))
