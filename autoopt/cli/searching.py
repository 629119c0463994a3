"""Commands that begin a study, try it, search, and measure the front again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoopt.cli.framework import HOURS, PATH, STUDY, command, wants_json
from autoopt.core import presets
from autoopt.errors import ConfigError
from autoopt.system import screen

if TYPE_CHECKING:
    from autoopt.api.saved_study import SavedResults


@command
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--model", required=True, type=PATH, help="A .h5, .keras, SavedModel or float32 .tflite.")
@click.option("--data", type=PATH, help="An .npz with x_train, y_train, ...")
@click.option(
    "--images", type=PATH, help="A folder of pictures: CLASS/picture.jpg, or train/CLASS/picture.jpg and so on."
)
@click.option("--table", type=PATH, help="A .csv or .parquet with a row an item.")
@click.option("--label", help="Of a table, the column with the labels.")
@click.option(
    "--skip-bad",
    is_flag=False,
    flag_value="1%",
    metavar="[SHARE]",
    help="Leave pictures out that can't be read, up to this share of them. [default: an error; alone: 1%]",
)
@click.option(
    "--space", help="A space of autoopt's own. [default: the one that suits the target, mobile for this machine]"
)
@click.option("--target", "device", help="Where to measure: a board, a phone, an NPU, a microcontroller.")
@click.option("--trials", default=50, show_default=True, type=click.IntRange(min=1), help="For study.yaml.")
@click.option(
    "--preset",
    default=presets.USUAL,
    show_default=True,
    type=click.Choice(list(presets.PRESETS)),
    help="How long each stage trains; for study.yaml.",
)
@click.option("--allow-code", is_flag=True, help="The model file's Lambda layers may run the code that they bring.")
@click.option("--signature", default="", help="Of a SavedModel with several; by default serving_default.")
@click.option("--input-size", default="", help="HxW, or a length, where the model's input leaves it open.")
def init(
    folder: Path,
    model: Path,
    data: Path | None,
    images: Path | None,
    table: Path | None,
    label: str | None,
    skip_bad: str | None,
    space: str | None,
    device: str | None,
    trials: int,
    preset: str,
    allow_code: bool,
    signature: str,
    input_size: str,
) -> None:
    """Write a new study for a model file and data: arrays, pictures in folders, or a table.

    Arrays are x_train and y_train and may be x_validation, y_validation, x_test, y_test and class_names. Pictures lie in a
    folder a class, or in such folders in train, validation and test. What is missing is split off the training items.
    """
    from autoopt.api.init import create_apart
    from autoopt.cli import filling
    from autoopt.models.input_shapes import parse

    given = filling.given_data(data, images, table, label, skip_bad)
    with filling.shown() as (say, progress):
        create_apart(
            folder,
            model,
            given,
            space,
            trials,
            say=say,
            progress=progress,
            allow_code=allow_code,
            device=device,
            signature=signature,
            input_size=parse(input_size),
            preset=preset,
        )
    if wants_json():
        screen.give(json.dumps({"study": str(folder)}))
    else:
        screen.say(
            f"wrote {folder}/study.yaml and {folder}/task.py; next: autoopt check {folder}, then autoopt run {folder}"
        )


@command
@STUDY
@click.option("--target", help="Where to measure, in place of the study's own.")
@click.option("--size", help="Propose a form for each layer with which the file is no larger, such as '60 KB'.")
@click.option("--compressed", help="The same for the size after gzip -9, such as '40 KB'.")
def check(study: Path, target: str | None, size: str | None, compressed: str | None) -> None:
    """Try all that a study will do, each for a few steps, before a night is spent on it.

    Shows layer by layer what each technique touches and which layer it hurts most, how long a trial takes and how many fit
    into the night, and warns of what is suspicious of model and data. Exit code 1 if something of the space does not work.
    """
    import dataclasses

    from autoopt.api import check as rehearsal
    from autoopt.cli import checklist
    from autoopt.core import units

    given = {"size_bytes": ("--size", size), "compressed_bytes": ("--compressed", compressed)}
    expected = "a size such as '60 KB'"
    sizes = {
        metric: units.size(option, text, expected=expected)
        for metric, (option, text) in given.items()
        if text is not None
    }
    found = rehearsal.check(study, target=target, sizes=sizes, say=lambda text: screen.say_line(text, err=True))
    if wants_json():
        screen.give(json.dumps(dataclasses.asdict(found)))
    else:
        screen.say(checklist.text(found))
    if not found.works:
        raise SystemExit(1)


@command
@STUDY
@click.option("--trials", type=click.IntRange(min=1), help="Candidates in all; earlier runs count.")
@click.option(
    "--hours", type=HOURS, help="Begin nothing new after so many hours, or after a duration such as '90 min'."
)
@click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")
@click.option("--store", type=PATH, help="Folder of the store in place of STUDY/out/store.")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    type=PATH,
    help="Make just this recipe (a recipe.json), even from outside the space; may be repeated.",
)
@click.option("--target", help="Where to measure, in place of the study's own; see `autoopt measure --help`.")
@click.option("--plain", is_flag=True, help="Plain lines in place of the live view.")
def run(
    study: Path,
    trials: int | None,
    hours: float | None,
    scheduler: str | None,
    store: Path | None,
    recipes: tuple[Path, ...],
    target: str | None,
    plain: bool,
) -> None:
    """Search, or go on searching.

    Ctrl-C once lets running candidates finish; twice stops at once. The same command goes on, also
    after a crash.
    """
    from autoopt.api.run import run as search

    results = search(
        study,
        trials=trials,
        hours=hours,
        scheduler=scheduler,
        store=store,
        view=_view(plain),
        recipes=[_read_recipe(path) for path in recipes],
        target=target,
    )
    _end(results)


@command
@STUDY
@click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")
@click.option("--plain", is_flag=True, help="Plain lines in place of the live view.")
def confirm(study: Path, scheduler: str | None, plain: bool) -> None:
    """Measure the front again: more repeats, and the test split, which the search never saw.

    `autoopt run` does so at its end; this goes on with it where that was interrupted or switched off.
    """
    from autoopt.api.run import confirm as measure_again

    _end(measure_again(study, scheduler=scheduler, view=_view(plain)))


def _view(plain: bool) -> Any:
    from rich.console import Console

    from autoopt.search.views import Live, Plain

    console = Console(stderr=True)
    return Live(console) if console.is_terminal and not plain else Plain()


def _end(results: "SavedResults") -> None:
    from autoopt.api.ending import exit_code
    from autoopt.cli import output

    if wants_json():
        screen.give(results.to_json())
    else:
        output.print_end(results)
    if code := exit_code(results):
        raise SystemExit(code)


def _read_recipe(path: Path) -> Any:
    from autoopt.core.recipe import Recipe

    try:
        return Recipe.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't read the recipe ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
