"""`autoopt init`: a study from a model file and data of one of several kinds."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoopt import targets
from autoopt.api import study_template
from autoopt.api.array_file import ArrayFile
from autoopt.api.given_data import GivenData, Progress, Say
from autoopt.core import search_space_yaml as spaces
from autoopt.core.presets import USUAL
from autoopt.core.validation import nearest
from autoopt.errors import ConfigError, TargetUnavailable, one_line
from autoopt.execution import task_checks
from autoopt.execution.artifact_store import Store
from autoopt.models import loading
from autoopt.models import task as tasks
from autoopt.models.opaque import ClosedModel
from autoopt.study import space_fitting
from autoopt.study.layout import STUDY_YAML
from autoopt.system import isolation, scratch

STEP = 20
"""Items, after which progress is told."""
LONGEST_S = 7 * 24 * 3600.0
"""What reading pictures or a table may take: it is long for millions, and ends, for each item is read once."""


def create(
    target: Path,
    model: Path,
    data: Path | GivenData,
    space: str | None,
    trials: int,
    say: Say,
    *,
    progress: Progress = lambda done, of: None,
    allow_code: bool = False,
    device: str | None = None,
    signature: str = "",
    input_size: tuple[int, ...] = (),
    preset: str = USUAL,
    mark: str = "",
) -> None:
    """Write a study's folder: study.yaml, task.py, the model and the data; and check that it loads.

    Args:
        target: the folder; must not exist, or be empty.
        model: `.h5`, `.keras`, SavedModel or float32 `.tflite`.
        data: of any kind; a path is that of an `ArrayFile`.
        space: a bundled space's name; None for the one that suits the device.
        trials: for study.yaml.
        say: told what a person should know.
        progress: told how far it is, where the data takes long.
        allow_code: a Lambda layer's code in the model's file may run.
        device: where to measure, as `--target` takes it; None for this machine.
        signature: of a SavedModel with several.
        input_size: of the axes beside the batch that the model leaves open.
        preset: how long stages train, a key of `presets.PRESETS`.
        mark: in the name of the hidden folder that it works in.

    Raises:
        ConfigError: if anything is wrong; nothing is left behind then.
        TargetUnavailable: if the disk has no room, or the folder can't be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists already; give a new folder")
    known = spaces.bundled()
    space = space or space_fitting.usual_space(targets.find(device or "host"))
    if space not in known:
        raise ConfigError(f"space: no bundled space {space!r}; {nearest(space, known)}")
    given = ArrayFile(path=data) if isinstance(data, Path) else data
    settings = {"allow_code": allow_code, "signature": signature, "input_size": input_size}
    loaded = loading.load(model, str(model), allow_code=allow_code, signature=signature, input_size=input_size)
    if len(loaded.inputs) > 1 or len(loaded.outputs) > 1:
        ends = f"{len(loaded.inputs)} inputs and {len(loaded.outputs)} outputs"
        raise ConfigError(
            f"{model}: has {ends}; init writes tasks for one of each: write task.py by hand, see docs/guide.md"
        )
    place = next(folder for folder in target.absolute().parents if folder.exists())
    if not place.is_dir():
        raise ConfigError(f"{target}: {place} is not a folder")
    try:
        with scratch.beside(place, f".{target.name}-autoopt-init-", f"{mark}-") as folder:
            made = Path(folder, "study")
            made.mkdir()
            filled = given.fill(made, loaded, say, progress)
            kept = _copy(model, made)
            yaml = study_template.study_yaml(filled.look.metric, space, known, trials, device, preset)
            (made / STUDY_YAML).write_text(yaml, encoding="utf-8")
            path = made / "task.py"
            pictures = len(loaded.inputs[0].shape) == 4 and not isinstance(loaded, ClosedModel)
            path.write_text(study_template.task_py(kept, filled, settings, pictures), encoding="utf-8")
            _try(path, given.path, Path(folder, "store"), say)
            if target.exists():
                target.rmdir()
            target.parent.mkdir(parents=True, exist_ok=True)
            made.rename(target)
    except OSError as error:
        raise TargetUnavailable(f"{target}: can't write the study ({one_line(error, 200)})") from error


def _try(task: Path, data: Path, store: Path, say: Say) -> None:
    """Take a new study's task in, as a run will, and say what is to be known of it.

    Args:
        task: path of `task.py`.
        data: what it was made from, for messages.
        store: a folder for what is taken in.
        say: told of warnings and limits.

    Raises:
        ConfigError: if it can't be taken in.
    """
    try:
        taken = task_checks.prepare(tasks.load(task), task, Store(store))
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(task), str(data))) from error
    for warning in [*taken.warnings, *(limit.why for limit in taken.limits)]:
        say(f"warning: {warning}")


def _copy(model: Path, folder: Path) -> str:
    """Copy a model's file or folder into a study's; the name that it has there."""
    if model.is_dir():
        shutil.copytree(model, folder / "model")
        return "model"
    kept = f"model{model.suffix}"
    shutil.copyfile(model, folder / kept)
    return kept


def create_apart(
    target: Path,
    model: Path,
    data: GivenData,
    *given: Any,
    say: Say,
    progress: Progress = lambda done, of: None,
    **named: Any,
) -> None:
    """Likewise `create`, in a process of its own: a damaged model may crash what reads it.

    Args:
        target: of `create`, as are the others.
        model: file or folder of the model.
        data: of any kind.
        given: space and trials.
        say: told what a person should know.
        progress: told how far it is.
        named: the other arguments of `create`.

    Raises:
        ConfigError: if anything is wrong, or the model can't be survived; nothing is left behind then.
        TargetUnavailable: if the disk has no room.
    """
    mark = secrets.token_hex(8)

    def hear(heard: Any) -> None:
        if isinstance(heard, str):
            say(heard)
        else:
            progress(*heard)

    try:
        longest_s = isolation.LONGEST_S if isinstance(data, ArrayFile) else LONGEST_S
        isolation.call(_create_and_tell, target, model, data, *given, say=hear, longest_s=longest_s, mark=mark, **named)
    except MemoryError as error:
        raise ConfigError(f"{model}: can't be taken in: it and {data.path} take more memory than is free") from error
    except isolation.Crashed as error:
        if not isinstance(data, ArrayFile):
            raise ConfigError(
                f"{model}: what reads it and {data.path} ended with {error}: one of them is damaged, or asks for more than "
                "there is"
            ) from error
        raise ConfigError(
            f"{model}: can't be taken in: TensorFlow or LiteRT ended with {error} on it: it is damaged, or asks for more "
            "than there is; save or convert it anew"
        ) from error
    finally:
        place = next((folder for folder in target.absolute().parents if folder.is_dir()), Path("/"))
        for left in place.glob(f".*-{mark}-*"):  # what a crash left behind
            shutil.rmtree(left, ignore_errors=True)


def _create_and_tell(*given: Any, say: Callable[[Any], None], **named: Any) -> None:
    """Likewise `create`, where all that is told goes one way: texts, and pairs of how many items are done and of how many."""

    def progress(done: int, of: int) -> None:
        if done == of or done % STEP == 0:
            say((done, of))

    named |= {"say": say, "progress": progress}
    create(*given, **named)
