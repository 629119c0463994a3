"""The command line: one thin function a command. Results go to stdout, progress to stderr."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoopt.cli.framework import HOURS, PATH, STUDY, budget_options, command, wants_json
from autoopt.cli.framework import main as main
from autoopt.errors import ConfigError
from autoopt.system import screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoopt.api.saved_study import SavedResults
    from autoopt.core.budgets import Budget
    from autoopt.core.results import Pick, Results


@command
@STUDY
@click.option("--trials", type=click.IntRange(min=1), help="Candidates in all; earlier runs count.")
@click.option("--hours", type=HOURS, help="Begin nothing new after so many hours, or after such as '90 min'.")
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
    from autoopt.cli import output

    if wants_json():
        screen.give(results.to_json())
    else:
        output.print_end(results)
    if results.budgets and results.pick().candidate is None:
        raise SystemExit(1)


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


@command
@STUDY
def status(study: Path) -> None:
    """Say how far a study is, and what failed."""
    from collections import Counter

    from autoopt.cli import output
    from autoopt.reporting import wording

    results = _load(study)
    counts, running = Counter(results.statuses().values()), results.folder.driver()
    if not wants_json():
        output.print_status(results, counts, running)
        return
    failures = [{"stage": s, "reason": r, "count": len(names)} for s, r, names in wording.failures(results)]
    plain = {"study": results.study, "running": running, "counts": counts, "failures": failures}
    screen.give(json.dumps(plain | {"time": results.provenance.get("time", {})}))


@command
@STUDY
@click.option("--csv", is_flag=True, help="Print CSV.")
@click.option("--all", "everything", is_flag=True, help="All candidates, not the front alone.")
@click.option("--no-plot", is_flag=True, help="The table alone.")
@budget_options
def front(
    study: Path,
    csv: bool,
    everything: bool,
    no_plot: bool,
    budgets: tuple[str, ...],
    no_budget: bool,
    **short_forms: str | None,
) -> None:
    """Print the front: the candidates that no other beats on every objective."""
    from autoopt.cli import output

    results = _load(study)
    asked = results.asked(budgets, no_budget=no_budget, **short_forms)
    chosen = list(results.candidates) if everything else results.front(asked)
    if wants_json():
        screen.give(json.dumps(results.rows(chosen, asked)))
    elif csv:
        screen.give(results.to_csv(chosen, asked), nl=False)
    else:
        output.print_front(results, asked, everything=everything, plot=not no_plot)


@command
@STUDY
@click.option("--ask", is_flag=True, help="Ask for one budget after the other; Enter skips one.")
@budget_options
def pick(study: Path, ask: bool, budgets: tuple[str, ...], no_budget: bool, **short_forms: str | None) -> None:
    """Recommend one candidate inside the budgets (the study's own if none is given)."""
    from autoopt.cli import prompts
    from autoopt.reporting import wording

    results = _load(study)
    if ask:
        short_forms |= prompts.ask(results, budgets, short_forms)
    limits = results.asked(budgets, no_budget=no_budget, **short_forms)
    chosen = results.pick_within(limits)
    _print_pick(results, chosen, limits)
    if ask and chosen.candidate is not None and not wants_json():
        screen.say(f"\n{wording.export_command(results, chosen.candidate)}")
    if chosen.candidate is None:
        raise SystemExit(1)


@command
@STUDY
@click.argument("candidates", nargs=-1, required=True, metavar="A B [C D]")
def compare(study: Path, candidates: tuple[str, ...]) -> None:
    """Print two to four candidates side by side, each against the first (numbers, such as 3 7)."""
    from autoopt.cli import output
    from autoopt.reporting import comparison

    found = comparison.compare(_load(study), candidates)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        output.print_comparison(found)


@command
@STUDY
@click.argument("candidate", required=False)
@click.option("--to", type=PATH, help="Folder to write; by default ./STUDY-NUMBER.")
@click.option("--force", is_flag=True, help="Replace an earlier bundle.")
@click.option("--no-samples", is_flag=True, help="Leave items of the validation data out of the bundle.")
@budget_options
def export(
    study: Path,
    candidate: str | None,
    to: Path | None,
    force: bool,
    no_samples: bool,
    budgets: tuple[str, ...],
    no_budget: bool,
    **short_forms: str | None,
) -> None:
    """Write a candidate's bundle: the model, its card, code that runs it, samples, how to make it again.

    CANDIDATE is a number; without one, the candidate that `autoopt pick` recommends.
    """
    results = _load(study)
    limits = results.asked(budgets, no_budget=no_budget, **short_forms)
    if candidate is not None and (no_budget or limits is not results.budgets):
        raise ConfigError(f"expected a candidate's number or budgets, got both: {candidate} and budgets")
    if candidate is None:
        chosen = results.pick_within(limits)
        if chosen.candidate is None:
            _print_pick(results, chosen, limits)
            raise SystemExit(1)
        candidate = str(chosen.candidate.number)
    found = results.find(candidate)
    folder = results.export(
        found.number, to or Path(f"{results.study}-{found.number}"), force=force, samples=not no_samples
    )
    if wants_json():
        screen.give(json.dumps({"folder": str(folder), "candidate": found.number, "sha256": found.sha256}))
    else:
        screen.say(f"{found.name} {found.recipe.label()}\n{folder / 'model.tflite'}  sha256 {found.sha256}")


@command
@click.argument("studies", type=PATH, nargs=-1, required=True, metavar="STUDY...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="0 for any that is free.")
def dashboard(studies: tuple[Path, ...], host: str, port: int) -> None:
    """Show studies live in a browser, while they run. It only reads, and ends with Ctrl-C."""
    import os

    from autoopt.server.dashboard import serve

    if hasattr(os, "nice"):
        os.nice(10)  # the search comes first
    server, address = serve(studies, host=host, port=port)
    if wants_json():
        screen.give(json.dumps({"address": address}))
    else:
        screen.say(f"open {address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    finally:
        server.server_close()


@command
@click.argument("folder", type=PATH, metavar="BUNDLE")
def verify(folder: Path) -> None:
    """Check a bundle: are its files those that were written, does the model still compute the same?

    BUNDLE is a folder that `autoopt export` wrote. The exit code is 1 where something differs.
    """
    from autoopt.api.verification import verify as check

    found = check(folder)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        screen.say(found.text())
    if not found.holds:
        raise SystemExit(1)


@command
@STUDY
@click.option("--to", type=PATH, help="File to write; by default STUDY/out/report.html.")
@click.option("--png", type=PATH, help="Write a picture of the front, for a slide; the report only with --to.")
@click.option("--svg", type=PATH, help="Likewise, sharp at any size.")
def report(study: Path, to: Path | None, png: Path | None, svg: Path | None) -> None:
    """Write the HTML report, one file that needs nothing else, or a picture of the front."""
    from autoopt.reporting import image_export
    from autoopt.reporting import report as reports

    results = _load(study)
    written = {"png": png, "svg": svg, "report": to if to or png or svg else results.folder.report}
    made = {kind: path for kind, path in written.items() if path is not None}
    for kind, path in made.items():
        if kind == "report":
            reports.write(results, path)
        else:
            image_export.write(results, path, kind)
    texts = {kind: str(path) for kind, path in made.items()}
    if wants_json():
        screen.give(json.dumps(texts))
    else:
        screen.say("\n".join(texts.values()))


@command
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--model", required=True, type=PATH, help="A .h5, .keras, SavedModel or float32 .tflite.")
@click.option("--data", required=True, type=PATH, help="An .npz with x_train, y_train, ...")
@click.option(
    "--space", help="A space of autoopt's own. [default: the one that suits the target, mobile for this machine]"
)
@click.option("--target", "device", help="Where to measure: a board, a phone, an NPU, a microcontroller.")
@click.option("--trials", default=50, show_default=True, type=click.IntRange(min=1), help="For study.yaml.")
@click.option("--allow-code", is_flag=True, help="The model file's Lambda layers may run the code that they bring.")
@click.option("--signature", default="", help="Of a SavedModel with several; by default serving_default.")
@click.option("--input-size", default="", help="HxW, or a length, where the model's input leaves it open.")
def init(
    folder: Path,
    model: Path,
    data: Path,
    space: str | None,
    device: str | None,
    trials: int,
    allow_code: bool,
    signature: str,
    input_size: str,
) -> None:
    """Write a new study for a model file and arrays.

    The data has x_train and y_train and may have x_validation, y_validation, x_test, y_test and
    class_names; what is missing is split off x_train.
    """
    from autoopt.api.init import create_apart
    from autoopt.models.input_shapes import parse

    create_apart(
        folder,
        model,
        data,
        space,
        trials,
        say=lambda text: screen.say_line(text, err=True),
        allow_code=allow_code,
        device=device,
        signature=signature,
        input_size=parse(input_size),
    )
    if wants_json():
        screen.give(json.dumps({"study": str(folder)}))
    else:
        screen.say(
            f"wrote {folder}/study.yaml and {folder}/task.py; next: autoopt check {folder}, then autoopt run {folder}"
        )


@command
@click.argument("model", type=PATH, metavar="MODEL.tflite")
@click.option("--against", type=PATH, help="Another .tflite to compare with.")
@click.option("--data", type=PATH, help="An .npz with x_test and y_test (or x and y).")
@click.option("--target", default="host", show_default=True, help="Where to measure, see below.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Of the interpreter.")
@click.option("--self-test", is_flag=True, help="Measure the file against itself, to see what the noise does.")
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(min=1), help="Of the self-test.")
def measure(
    model: Path, against: Path | None, data: Path | None, target: str, threads: int, self_test: bool, repeats: int
) -> None:
    """Measure any .tflite file: sizes, latency, memory, quality, and against another.

    \b
    Targets:
      host                     this machine; ?xnnpack=off for the runtime's own kernels
      ssh://USER@HOST          a Linux board; ?port=, ?python=, ?config= (an ssh_config)
      adb:SERIAL               a phone; ?benchmark_model=PATH, ?delegate=cpu|gpu|nnapi|none
      vela:ethos-u55-128       Arm's NPUs, estimated; ?system-config=, ?memory-mode=
      micro:64KB               a microcontroller's arena
    """  # noqa: D301 - click's own mark for text that it must not wrap
    from autoopt import targets
    from autoopt.api import measure_file
    from autoopt.cli import output

    where = targets.find(target, threads)
    if self_test:
        if against or data:
            raise ConfigError("--self-test measures the file against itself: leave --against and --data out")
        ratios = measure_file.self_test(model, where, repeats)
        held, wide = sum(m.low <= 1 <= m.high for m in ratios), sum("wide interval" in m.flags for m in ratios)
        widths = [m.high - m.low for m in ratios]
        if wants_json():
            screen.give(json.dumps({"repeats": len(ratios), "held": held, "wide": wide, "widths": widths}))
        else:
            output.print_self_test(held, wide, widths)
        return
    found = measure_file.measure_file(model, where, against=against, data=data)
    if wants_json():
        metrics = {name: m.to_dict() for name, m in found.measurements.items()}
        plain = {"file": str(model), "metrics": metrics, "difference": found.difference, "device": found.device}
        screen.give(json.dumps(plain | {"misfit": found.misfit, "contents": found.contents.to_dict()}))
    else:
        output.print_measured(found, model, against)
    if found.misfit:
        screen.say_line(f"autoopt: {found.misfit}", err=True)
        raise SystemExit(1)


@command
@click.argument("file")
def space(file: str) -> None:
    """Print what a search space holds, and how many recipes.

    FILE is a YAML file, or the name of a space of autoopt's own.
    """
    import math

    from autoopt.cli import output
    from autoopt.core import search_space_yaml as spaces

    found = spaces.find(file, Path())
    if not wants_json():
        output.print_space(found)
        return
    count, knobs = found.count(), {name: str(knob) for name, knob in found.knobs.items()}
    plain = {"source": found.source, "knobs": knobs, "recipes": None if math.isinf(count) else count}
    screen.give(json.dumps(plain))


@command
@STUDY
@click.option("--target", help="Where to measure, in place of the study's own.")
def check(study: Path, target: str | None) -> None:
    """Try all that a study will do, each for a few steps, before a night is spent on it.

    Shows layer by layer what each technique touches, how long a trial takes and how many fit into the night, and warns of
    what is suspicious of model and data. Exit code 1 if something of the space does not work.
    """
    import dataclasses

    from autoopt.api import check as rehearsal
    from autoopt.cli import checklist

    found = rehearsal.check(study, target=target, say=lambda text: screen.say_line(text, err=True))
    if wants_json():
        screen.give(json.dumps(dataclasses.asdict(found)))
    else:
        screen.say(checklist.text(found))
    if not found.works:
        raise SystemExit(1)


@command
def doctor() -> None:
    """Look at this machine: libraries, processor, memory, targets, and what to do about what is missing.

    Exit code 1 if autoopt can't work here.
    """
    import dataclasses

    from autoopt.api import doctor as doctors
    from autoopt.cli import output

    found = doctors.examine()
    if wants_json():
        screen.give(json.dumps([dataclasses.asdict(finding) for finding in found]))
    else:
        output.print_findings(found)
    click.get_current_context().exit(1 if any(finding.state == "bad" for finding in found) else 0)


def _print_pick(results: "Results", chosen: "Pick", limits: "Sequence[Budget]") -> None:
    from autoopt.cli import output

    if wants_json():
        screen.give(json.dumps(output.plain_pick(results, chosen, limits)))
    else:
        output.print_pick(results, chosen, limits)


def _load(study: Path) -> "SavedResults":
    from autoopt.api.saved_study import load

    results = load(study)
    if warning := results.warning():
        screen.say_line(f"warning: {warning}", err=True)
    return results
