"""`autoopt init`: a study from a model file and arrays."""

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import targets
from autoopt.core import search_space_yaml as spaces
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError
from autoopt.execution import criteria, task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import labels as labels_of
from autoopt.models import loading
from autoopt.models import task as tasks
from autoopt.models import user_data as given
from autoopt.models.labels import Inferred, Meaning
from autoopt.models.scoring import BUILTIN, TOP
from autoopt.models.task import Split
from autoopt.study import space_fitting
from autoopt.study.layout import STUDY_YAML
from autoopt.system import foreign_files, isolation

KEYS = ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test", "class_names")
SHARE = 0.15
"""Of the training items, what is split off for validation, and likewise for test, where they are missing."""

STUDY = """\
# What to search, and what for. Every key but `space` may be left out.
task: task.py
space: {space}                     # one of autoopt's own ({known}), or a .yaml file beside this one
# objectives: [{quality}, latency_ms, compressed_bytes]   # what to trade; by default what the target is about
{target:<34} # {other}a board, a phone, an NPU, a microcontroller: see docs/targets.md
budgets: []                        # such as "size_bytes <= 300 KB" or "{budget}"
# equivalence: {margin}               # candidates whose {quality} differs by no more count as as good
trials: {trials}
"""

TASK = '''\
"""The model to make small, and its data. Written by `autoopt init`; change it as you like."""

from pathlib import Path

import numpy as np
{imports}
import autoopt

HERE = Path(__file__).parent


def task() -> autoopt.Task:
    data = np.load(HERE / "data.npz", allow_pickle=False)
    return autoopt.Task(
        model=HERE / "{model}",
        train=(data["x_train"], data["y_train"]),
        validation=(data["x_validation"], data["y_validation"]),
        test=(data["x_test"], data["y_test"]),
        # {reason}
        loss={loss},
        # {reading}
        metric="{metric}",{class_names}{allow}
    )
'''


def create(
    target: Path,
    model: Path,
    data: Path,
    space: str | None,
    trials: int,
    say: Callable[[str], None],
    *,
    allow_code: bool = False,
    device: str | None = None,
    signature: str = "",
    input_size: tuple[int, ...] = (),
    mark: str = "",
) -> None:
    """Write a study's folder: study.yaml, task.py, the model and the data; and check that it loads.

    Args:
        target: the folder; must not exist, or be empty.
        model: `.h5`, `.keras`, SavedModel or float32 `.tflite`.
        data: `.npz` with the arrays named in `KEYS`.
        space: a bundled space's name; None for the one that suits the device.
        trials: for study.yaml.
        say: told what a person should know.
        allow_code: a Lambda layer's code in the model's file may run.
        device: where to measure, as `--target` takes it; None for this machine.
        signature: of a SavedModel with several.
        input_size: of the axes beside the batch that the model leaves open.
        mark: in the name of the hidden folder that it works in.

    Raises:
        ConfigError: if anything is wrong; nothing is left behind then.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists already; give a new folder")
    known = spaces.bundled()
    space = space or space_fitting.usual_space(targets.find(device or "host"))
    if space not in known:
        raise ConfigError(f"space: no bundled space {space!r}; {nearest(space, known)}")
    arrays = read(data)
    loaded = loading.load(model, str(model), allow_code=allow_code, signature=signature, input_size=input_size)
    if len(loaded.inputs) > 1 or len(loaded.outputs) > 1:
        ends = f"{len(loaded.inputs)} inputs and {len(loaded.outputs)} outputs"
        raise ConfigError(
            f"{model}: has {ends}; init writes tasks for one of each: write task.py by hand, see docs/guide.md"
        )
    split(arrays, say)
    kept = f"model{model.suffix}" if model.is_file() else "model"
    found, meaning = _inferred(loaded, arrays, str(data))
    metric = "mae" if meaning.kind == labels_of.VALUES else "accuracy"
    names = ""
    if "class_names" in arrays:
        names = '\n        class_names=tuple(str(name) for name in data["class_names"]),'
    place = next(folder for folder in target.absolute().parents if folder.exists())
    if not place.is_dir():
        raise ConfigError(f"{target}: {place} is not a folder")
    with tempfile.TemporaryDirectory(dir=place, prefix=f".{target.name}-{mark}-") as folder:
        made = Path(folder, "study")
        made.mkdir()
        if model.is_dir():
            shutil.copytree(model, made / kept)
        else:
            shutil.copyfile(model, made / kept)
        np.savez(made / "data.npz", **arrays)  # type: ignore[arg-type]
        budget = {"mae": "mae <= 1.1 * baseline", "accuracy": "accuracy >= baseline - 1 point"}[metric]
        (made / STUDY_YAML).write_text(
            STUDY.format(
                space=space,
                known=", ".join(known),
                trials=trials,
                quality=metric,
                budget=budget,
                margin="1 %" if metric == "mae" else "1 point",
                target=f"target: {json.dumps(device)}" if device else "# target: host",
                other="" if device else "or ",
            )
        )
        (made / "task.py").write_text(
            TASK.format(
                model=kept,
                loss=found.source,
                reason=f"{found.reason[0].upper()}{found.reason[1:]}.",
                metric=metric,
                reading=f"Labels are read as {meaning.words()}; other metrics: {', '.join(_others(meaning, metric))}.",
                class_names=names,
                imports="import tf_keras\n" if found.from_logits else "",
                allow=_how("allow_code", allow_code) + _how("signature", signature) + _how("input_size", input_size),
            )
        )
        path = made / "task.py"
        try:
            taken = task_checks.prepare(tasks.load(path), path, Store(Path(folder, "store")))
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(path), str(data))) from error
        for warning in [*taken.warnings, *(limit.why for limit in taken.limits)]:
            say(f"warning: {warning}")
        if target.exists():
            target.rmdir()
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)


def create_apart(target: Path, model: Path, data: Path, *given: Any, say: Callable[[str], None], **named: Any) -> None:
    """Likewise `create`, in a process of its own: a damaged model may crash what reads it.

    Args:
        target: of `create`, as are the others.
        model: file or folder of the model.
        data: `.npz` with the arrays.
        given: space and trials.
        say: told what a person should know.
        named: the other arguments of `create`.

    Raises:
        ConfigError: if anything is wrong, or the model can't be survived; nothing is left behind then.
    """
    mark = secrets.token_hex(8)
    try:
        isolation.call(create, target, model, data, *given, say=say, mark=mark, **named)
    except MemoryError as error:
        raise ConfigError(f"{model}: can't be taken in: it and {data} take more memory than is free") from error
    except isolation.Crashed as error:
        raise ConfigError(
            f"{model}: can't be taken in: TensorFlow or LiteRT ended with {error} on it: it is damaged, or asks for more "
            "than there is; save or convert it anew"
        ) from error
    finally:
        place = next((folder for folder in target.absolute().parents if folder.is_dir()), Path("/"))
        for left in place.glob(f".*-{mark}-*"):  # what a crash left behind
            shutil.rmtree(left, ignore_errors=True)


def _how(name: str, value: object) -> str:
    """Source text of a setting of how the model is taken in; nothing for one that is left at its default."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return f"\n        {name}={text}," if value else ""


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a data file.

    Raises:
        ConfigError: if it is no `.npz`, or lacks what is needed.
    """
    arrays = foreign_files.arrays(path, str(path))
    for name, array in arrays.items():
        if name not in KEYS:
            raise ConfigError(f"{path}: unknown array {name!r}; {nearest(name, KEYS)}")
        if array.ndim == 0:
            raise ConfigError(f"{path}: {name}: expected an array with items first, got {array.item()!r}")
    for part in ("train", "validation", "test"):
        x, y = f"x_{part}", f"y_{part}"
        if part == "train" and x not in arrays:
            raise ConfigError(f"{path}: x_train is missing; it has {', '.join(arrays) or 'nothing'}")
        if (x in arrays) != (y in arrays):
            raise ConfigError(f"{path}: {x} and {y} go together, and one is missing")
        if x in arrays and len(arrays[x]) != len(arrays[y]):
            raise ConfigError(f"{path}: {y}: expected {len(arrays[x])} labels like {x}, got {len(arrays[y])}")
    return arrays


def split(arrays: dict[str, np.ndarray], say: Callable[[str], None]) -> None:
    """Split what is missing off the training items, at random but always the same, and say so."""
    for part in ("validation", "test"):
        if f"x_{part}" in arrays:
            continue
        n = len(arrays["x_train"])
        order = np.random.default_rng(0).permutation(n)
        taken = round(n * SHARE)
        if taken == 0 or taken == n:
            raise ConfigError(f"x_train: {n} items are too few to split a {part} set off; give x_{part} and y_{part}")
        for name in ("x", "y"):
            whole = arrays[f"{name}_train"]
            arrays[f"{name}_{part}"] = whole[np.sort(order[:taken])]
            arrays[f"{name}_train"] = whole[np.sort(order[taken:])]
        say(
            f"no x_{part} in the data: {taken} of {n} training items were split off for {part}. "
            "If the model was trained on them, its accuracy there flatters."
        )


def _inferred(model: Any, arrays: Mapping[str, np.ndarray], where: str) -> tuple[Inferred, Meaning]:
    """The loss that labels and outputs look like, and how they are read."""
    train = Split(inputs={model.input_names[0]: arrays["x_train"]}, labels=arrays["y_train"])
    given.check_split(train, f"{where}: train", model)
    some = train.some(criteria.SEEN)
    outputs = criteria.given_by(model, some)
    found = labels_of.infer_loss(train.labels, outputs, some.labels, f"{where}: train")
    return found, labels_of.read(train.labels, outputs, some.labels, found.described, where)


def _others(meaning: Meaning, metric: str) -> list[str]:
    """The other metrics that labels of this meaning have."""
    fit = [name for name, known in BUILTIN.items() if meaning.kind in known.kinds and name != metric]
    return [name for name in fit if name != "top5_accuracy" or meaning.classes > TOP]
