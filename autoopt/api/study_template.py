"""The texts of a new study: its `study.yaml` and its `task.py`."""

import json
from collections.abc import Iterable, Mapping

from autoopt.api.given_data import Filled
from autoopt.core.presets import PRESETS
from autoopt.models.labels import Meaning
from autoopt.models.scoring import BUILTIN
from autoopt.models.tallies import TOP

STUDY = """\
# What to search, and what for. Every key but `space` may be left out.
task: task.py
space: {space}                     # one of autoopt's own ({known}), or a .yaml file beside this one
preset: {preset:<26} # how long each stage trains, where task.py does not say: {presets}
# objectives: [{quality}, latency_ms, compressed_bytes]   # what to trade; by default what the target is about
{target:<34} # {other}a board, a phone, an NPU, a microcontroller: see docs/targets.md
budgets: ["{budget}"]   # add limits such as "size_bytes <= 300 KB"; what lies outside is not pursued
# equivalence: {margin}               # candidates whose {quality} differs by no more count as as good
trials: {trials}
# on_end: ["notify-send", "autoopt"]   # a command or an address that is told how a run ended, see docs/guide.md
"""

TASK = '''\
"""The model to make small, and its data. Written by `autoopt init`; change it as you like."""

{modules}from pathlib import Path

import numpy as np
{imports}
import autoopt

HERE = Path(__file__).parent


{functions}def task() -> autoopt.Task:
{begin}    return autoopt.Task(
        model=HERE / "{model}",
        train={train},
        validation={validation},
        test={test},
        # {reason}
        loss={loss},
        # {reading}
        metric="{metric}",{class_names}{settings}{pictures}
    )
'''

PICTURES = """
        # If pictures mean the same when left and right are swapped (not text, not spectrograms), the next line gives fine-tuning
        # twice as many; what the model says of each and of its mirror image is worked out once, for distillation.
        # augment="flip","""


def study_yaml(metric: str, space: str, known: Iterable[str], trials: int, device: str | None, preset: str) -> str:
    """The text of `study.yaml`.

    Args:
        metric: of the task.
        space: name of a bundled space.
        known: names of all of them.
        trials: candidates in all.
        device: where to measure; None for this machine.
        preset: a key of `presets.PRESETS`.
    """
    budget = {"mae": "mae <= 1.25 * baseline", "accuracy": "accuracy >= baseline - 5 points"}[metric]
    return STUDY.format(
        space=space,
        preset=preset,
        presets=", ".join(f"{name} ({one.meant})" for name, one in PRESETS.items()),
        known=", ".join(known),
        trials=trials,
        quality=metric,
        budget=budget,
        margin="1 %" if metric == "mae" else "1 point",
        target=f"target: {json.dumps(device)}" if device else "# target: host",
        other="" if device else "or ",
    )


def task_py(model: str, filled: Filled, settings: Mapping[str, object], pictures: bool) -> str:
    """The text of `task.py`.

    Args:
        model: name of the model's file or folder.
        filled: the data, and how it is read.
        settings: of how the model is taken in; those at their defaults are left out.
        pictures: whether the items look like pictures; whether they may be mirrored, only their owner knows.
    """
    loss, meaning, metric = filled.look.loss, filled.look.meaning, filled.look.metric
    names = f"\n        class_names={filled.class_names}," if filled.class_names else ""
    return TASK.format(
        model=model,
        loss=loss.source,
        reason=f"{loss.reason[0].upper()}{loss.reason[1:]}.",
        metric=metric,
        reading=f"Labels are read as {meaning.words()}; other metrics: {', '.join(_others(meaning, metric))}.",
        modules="".join(f"{line}\n" for line in filled.imports),
        imports="import tf_keras\n" if loss.from_logits else "",
        functions=filled.functions,
        begin=filled.begin,
        class_names=names,
        settings="".join(_setting(name, value) for name, value in settings.items()),
        pictures=PICTURES if pictures else "",
        **filled.splits,
    )


def _setting(name: str, value: object) -> str:
    """Source text of a setting of how the model is taken in; nothing for one that is left at its default."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return f"\n        {name}={text}," if value else ""


def _others(meaning: Meaning, metric: str) -> list[str]:
    """The other metrics that labels of this meaning have."""
    fit = [name for name, known in BUILTIN.items() if meaning.kind in known.kinds and name != metric]
    return [name for name in fit if name != "top5_accuracy" or meaning.classes > TOP]
