"""The command line: one thin function a command. Results go to stdout, progress to stderr."""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import autoopt
from autoopt.errors import AutooptError, ConfigError

if TYPE_CHECKING:
    from autoopt.candidate import Candidate
    from autoopt.export import SavedResults
    from autoopt.metrics import Measurement
    from autoopt.results import Pick, Results

STUDY = click.argument("study", type=click.Path(path_type=Path))
_state = {"debug": False, "json": False}


class Commands(click.Group):
    """Turns autoopt's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command: 0 done, 1 could not be served, 2 bad usage or configuration."""
        try:
            return super().invoke(ctx)
        except AutooptError as error:
            if _state["debug"]:
                traceback.print_exc()
            click.echo(f"autoopt: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)
        except BrokenPipeError:  # `autoopt front STUDY | head`
            sys.stderr.close()
            ctx.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(autoopt.__version__, prog_name="autoopt")
def main() -> None:
    """Make trained Keras models small and fast for TensorFlow Lite.

    A study searches over pruning, clustering and quantization, measures every candidate's real .tflite
    file, and ends in a Pareto front from which you pick one.
    """


def command(function: Callable[..., None]) -> click.Command:
    """A command of `main` with the options that all share."""

    def set_flag(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        _state[str(parameter.name)] = value

    for name, text in (("json", "Print JSON."), ("debug", "Show the traceback of an error.")):
        function = click.option(
            f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=set_flag, help=text
        )(function)
    return main.command()(function)


BUDGETS = (
    ("--max-size", "Limit of the file's size, such as 300KB."),
    ("--max-compressed", "Limit of the size after gzip -9."),
    ("--max-latency", "Limit of the latency, such as 2ms."),
    ("--max-memory", "Limit of the peak memory, such as 2MB."),
    ("--max-accuracy-drop", "How much worse than the baseline the task's metric may be, such as 1%."),
)


def budget_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The shared budget syntax as options."""
    for name, text in reversed(BUDGETS):
        function = click.option(name, help=text)(function)
    text = "A budget such as 'latency_ms <= 2' or 'accuracy >= baseline - 1%'; may be repeated."
    return click.option("--budget", "-b", "budgets", multiple=True, help=text)(function)


@command
@STUDY
@click.option("--trials", type=click.IntRange(min=1), help="Candidates in all; earlier runs count.")
@click.option("--hours", type=click.FloatRange(min=0), help="Begin nothing new after so many hours.")
@click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of the store in place of STUDY/out/store.")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    type=click.Path(path_type=Path),
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
    from autoopt.study import run as search

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
    _print_end(results)


@command
@STUDY
@click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")
@click.option("--plain", is_flag=True, help="Plain lines in place of the live view.")
def confirm(study: Path, scheduler: str | None, plain: bool) -> None:
    """Measure the front again: more repeats, and the test split, which the search never saw.

    `autoopt run` does so at its end; this goes on with it where that was interrupted or switched off.
    """
    from autoopt.study import confirm as measure_again

    _print_end(measure_again(study, scheduler=scheduler, view=_view(plain)))


def _view(plain: bool) -> Any:
    from rich.console import Console

    from autoopt.progress import Live, Plain

    console = Console(stderr=True)
    return Live(console) if console.is_terminal and not plain else Plain()


def _print_end(results: "SavedResults") -> None:
    if _state["json"]:
        click.echo(results.to_json())
        return
    _print_front(results)
    click.echo()
    pick = results.pick()
    _print_pick(results, pick)
    _print_guard(results)
    click.echo(f"\nreport: {results.folder.report}")
    if pick.candidate is not None:
        click.echo(f"model:  {results.folder.pick / 'model.tflite'}")


def _read_recipe(path: Path) -> Any:
    from autoopt.recipe import Recipe

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

    from autoopt import words
    from autoopt.progress import duration

    results = _load(study)
    statuses = results.statuses()
    counts = Counter(statuses.values())
    failures = words.failures(results)
    running = results.folder.driver()
    time = results.provenance.get("time", {})
    if _state["json"]:
        rows = [{"stage": s, "reason": r, "count": len(names)} for s, r, names in failures]
        plain = {"study": results.study, "running": running, "counts": counts, "failures": rows, "time": time}
        click.echo(json.dumps(plain))
        return
    click.echo(f"{results.study}: {len(results.candidates)} candidates, " + (
        f"running (process {running})" if running else "not running"))  # fmt: skip
    for name in ("front", "dominated", "infeasible", "failed"):
        click.echo(f"  {counts[name]:4d} {name}")
    for stage, reason, names in failures:
        click.echo(f"  failed in {stage} ({len(names)}): {reason}")
    if time:
        click.echo(
            f"  {duration(time['jobs_s'])} in jobs, {duration(time['saved_by_store_s'])} saved by the store, "
            f"{duration(time['overhead_s'])} overhead"
        )


@command
@STUDY
@click.option("--csv", is_flag=True, help="Print CSV.")
@click.option("--all", "everything", is_flag=True, help="All candidates, not the front alone.")
@budget_options
def front(study: Path, csv: bool, everything: bool, budgets: tuple[str, ...], **short_forms: str | None) -> None:
    """Print the front: the candidates that no other beats on every objective."""
    results = _load(study)
    asked = results.parse_budgets(budgets, **short_forms) or None
    chosen = list(results.candidates) if everything else results.front(asked)
    if _state["json"]:
        click.echo(json.dumps(results.rows(chosen)))
    elif csv:
        click.echo(results.to_csv(chosen), nl=False)
    else:
        _print_front(results, chosen)


@command
@STUDY
@budget_options
def pick(study: Path, budgets: tuple[str, ...], **short_forms: str | None) -> None:
    """Recommend one candidate inside the budgets (the study's own if none is given)."""
    results = _load(study)
    chosen = results.pick(*budgets, **short_forms)
    if _state["json"]:
        click.echo(json.dumps(_pick_plain(results, chosen)))
    else:
        _print_pick(results, chosen)
    if chosen.candidate is None:
        raise SystemExit(1)


@command
@STUDY
@click.argument("candidate", required=False)
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write; by default ./STUDY-NUMBER.")
@click.option("--force", is_flag=True, help="Replace an earlier bundle.")
@budget_options
def export(
    study: Path,
    candidate: str | None,
    to: Path | None,
    force: bool,
    budgets: tuple[str, ...],
    **short_forms: str | None,
) -> None:
    """Write a candidate's bundle: the model, its card, how to make it again.

    CANDIDATE is a number; without one, the candidate that `autoopt pick` recommends.
    """
    results = _load(study)
    if candidate is None:
        chosen = results.pick(*budgets, **short_forms)
        if chosen.candidate is None:
            _print_pick(results, chosen)
            raise SystemExit(1)
        candidate = str(chosen.candidate.number)
    found = results.find(candidate)
    folder = results.export(found.number, to or Path(f"{results.study}-{found.number}"), replace=force)
    if _state["json"]:
        click.echo(json.dumps({"folder": str(folder), "candidate": found.number, "sha256": found.sha256}))
    else:
        click.echo(f"{found.name} {found.recipe.label()}\n{folder / 'model.tflite'}  sha256 {found.sha256}")


@command
@STUDY
@click.option("--to", type=click.Path(path_type=Path), help="File to write; by default STUDY/out/report.html.")
def report(study: Path, to: Path | None) -> None:
    """Write the HTML report: one file that needs nothing else."""
    from autoopt import report as reports

    results = _load(study)
    path = to or results.folder.report
    reports.write(results, path)
    click.echo(json.dumps({"report": str(path)}) if _state["json"] else str(path))


@command
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="A .h5, .keras or SavedModel.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="An .npz with x_train, y_train, ...")
@click.option("--space", default="mobile", show_default=True, help="A space of autoopt's own.")
@click.option("--trials", default=50, show_default=True, type=click.IntRange(min=1), help="For study.yaml.")
def init(folder: Path, model: Path, data: Path, space: str, trials: int) -> None:
    """Write a new study for a model file and arrays.

    The data has x_train and y_train and may have x_validation, y_validation, x_test, y_test and
    class_names; what is missing is split off x_train.
    """
    import logging
    import os

    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from autoopt.init import create

    create(folder, model, data, space, trials, say=lambda text: click.echo(text, err=True))
    if _state["json"]:
        click.echo(json.dumps({"study": str(folder)}))
    else:
        click.echo(f"wrote {folder}/study.yaml and {folder}/task.py; next: autoopt run {folder}")


@command
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.tflite")
@click.option("--against", type=click.Path(path_type=Path), help="Another .tflite to compare with.")
@click.option("--data", type=click.Path(path_type=Path), help="An .npz with x_test and y_test (or x and y).")
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
    from autoopt import standalone, targets

    where = targets.find(target, threads)
    if self_test:
        if against or data:
            raise ConfigError("--self-test measures the file against itself: leave --against and --data out")
        _print_self_test(standalone.self_test(model, where, repeats))
        return
    found = standalone.measure_file(model, where, against=against, data=data)
    if _state["json"]:
        metrics = {name: m.to_dict() for name, m in found.measurements.items()}
        plain = {"file": str(model), "metrics": metrics, "difference": found.difference, "device": found.device}
        click.echo(json.dumps(plain | {"contents": found.contents.to_dict()}))
        return
    click.echo(f"{model}: {', '.join(f'{n} {name}' for name, n in found.contents.ops.items())}")
    for kind, ends in (("in", found.contents.inputs), ("out", found.contents.outputs)):
        for end in ends:
            click.echo(f"  {kind:3}  {end['name']}: {end['dtype']} {' x '.join(map(str, end['shape']))}")
    flags: dict[str, None] = {}
    for name, m in found.measurements.items():
        metric = standalone.METRICS[name]
        label = metric.label if name != "latency_ratio" else f"latency against {against}"
        label = label if name != "agreement" else f"agreement with {against}"
        interval = "" if m.low == m.high else f"  ({metric.show(m.low)} to {metric.show(m.high)})"
        click.echo(f"  {label:18} {metric.show(m.value):>10}{interval}{'*' if m.flags else ''}")
        flags |= dict.fromkeys(m.flags)
    if found.difference is not None:
        metric = next(standalone.METRICS[name] for name in ("accuracy", "mae") if name in found.measurements)
        d, low, high = (metric.show_change(x, 0) for x in found.difference)
        click.echo(f"  difference of {metric.label} against {against}: {d} ({low} to {high})")
    if flags:
        click.echo(f"* {', '.join(flags)}")
    click.echo(f"  on {', '.join(f'{name} {value}' for name, value in found.device.items())}")


def _print_self_test(ratios: "list[Measurement]") -> None:
    from statistics import median

    held = sum(m.low <= 1 <= m.high for m in ratios)
    widths = [m.high - m.low for m in ratios]
    wide = sum("wide interval" in m.flags for m in ratios)
    if _state["json"]:
        plain = {"repeats": len(ratios), "held": held, "wide": wide, "widths": widths}
        click.echo(json.dumps(plain))
        return
    click.echo(f"measured {len(ratios)} times against itself: the 95 % interval held 1 in {held} of {len(ratios)}")
    click.echo(
        f"width of the interval: {median(widths):.2%} (middle), {max(widths):.2%} (widest); {wide} flagged as wide"
    )


@command
@click.argument("file")
def space(file: str) -> None:
    """Print what a search space holds, and how many recipes.

    FILE is a YAML file, or the name of a space of autoopt's own.
    """
    import math

    from autoopt import space as spaces

    found = spaces.find(file, Path())
    count = found.count()
    if _state["json"]:
        knobs = {name: str(knob) for name, knob in found.knobs.items()}
        click.echo(
            json.dumps({"source": found.source, "knobs": knobs, "recipes": None if math.isinf(count) else count})
        )
        return
    click.echo(found.source)
    width = max(map(len, found.knobs))
    for name, knob in found.knobs.items():
        text = {"False, True": "sometimes", "True": "always"}.get(str(knob), str(knob))
        click.echo(f"  {name:{width}}  {text}")
    if math.isinf(count):
        click.echo(f"recipes: without end ({', '.join(found.continuous())} is continuous)")
    else:
        click.echo(f"recipes: {count:,.0f}")


# ---- printing


def _load(study: Path) -> "SavedResults":
    from autoopt.export import load

    results = load(study)
    for path in results.damaged:
        click.echo(f"warning: {path} is damaged and left out; `autoopt run {study}` restores it", err=True)
    return results


def _print_front(results: "Results", candidates: "list[Candidate] | None" = None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    candidates = results.front() if candidates is None else candidates
    names = list(dict.fromkeys([*results.objectives, "size_bytes"]))
    statuses = results.statuses()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", *[results.metrics[n].label for n in names], "recipe"):
        table.add_column(heading, justify="right" if heading not in ("", "recipe") else "left")
    for c in candidates:
        cells = []
        for name in names:
            m = c.measurements.get(name)
            cells.append(Text("-" if m is None else results.metrics[name].show(m.value) + ("*" if m.flags else "")))
        what = c.recipe.label() if c.origin == "search" else f"{c.recipe.label()} ({c.origin})"
        if c.failed:
            what += f": failed in {c.failed_stage}: {c.reason}"
        elif statuses[c.number] != "front":
            what += f" [{statuses[c.number]}]"
        table.add_row(Text(c.name), *cells, Text(what))
    console = Console(soft_wrap=False)
    click.echo(f"{results.study}: {len(results.front())} of {len(results.candidates)} candidates on the front")
    console.print(table)
    flags = sorted({flag for c in candidates for m in c.measurements.values() for flag in m.flags})
    if flags:
        click.echo(f"* {', '.join(flags)}")


def _print_pick(results: "Results", pick: "Pick") -> None:
    from autoopt import words

    if pick.candidate is None:
        click.echo(f"pick: none. {pick.why}.")
        for line in pick.binding:
            click.echo(f"  binds: {line}")
        for c in pick.nearest:
            shown = ", ".join(
                f"{results.metrics[n].label} {results.metrics[n].show(m.value)}"
                for n, m in c.measurements.items()
                if n in results.objectives or n == "size_bytes"
            )
            click.echo(f"  nearest: {c.name} {c.recipe.label()}: {shown}")
        return
    c = pick.candidate
    click.echo(f"pick: {c.name} {c.recipe.label()}")
    for name, metric in results.metrics.items():
        m = c.measurements.get(name)
        if m is None or metric.unit == "ratio":
            continue
        change, interval = words.change(results, c, name), words.interval(metric, m)
        click.echo(
            f"  {metric.label:26} {metric.show(m.value):>10}"
            + f"  {change}" * bool(change)
            + f"  ({interval})" * bool(interval)
        )
    if c.confirmation is not None:
        click.echo(f"  confirmed: {words.confirmed(results, c)}")
    for text in words.lost(results, c):
        click.echo(f"  {text}")
    click.echo(f"  why: {pick.why}")
    for line in pick.binding:
        click.echo(f"  binds: {line}")


def _print_guard(results: "Results") -> None:
    from autoopt.guard import verdicts

    for verdict in verdicts(results):
        if not verdict.worth:
            click.echo(f"  {verdict.text()}")


def _pick_plain(results: "Results", pick: "Pick") -> dict[str, Any]:
    return {
        "candidate": None if pick.candidate is None else results.rows([pick.candidate])[0],
        "tied": [c.number for c in pick.tied],
        "why": pick.why,
        "binding": list(pick.binding),
        "nearest": results.rows(pick.nearest),
    }
