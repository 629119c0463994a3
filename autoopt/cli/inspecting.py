"""Commands that need no study: they look at a file, a bundle, a search space, or this machine."""

import dataclasses
import json
from pathlib import Path

import click

from autoopt.cli.framework import PATH, command, wants_json
from autoopt.errors import ConfigError
from autoopt.system import screen


@command
@click.argument("model", type=PATH, metavar="MODEL.tflite")
@click.option("--against", type=PATH, help="Another .tflite to compare with.")
@click.option("--data", type=PATH, help="An .npz with x_test and y_test (or x and y).")
@click.option("--target", default="host", show_default=True, help="Where to measure, see below.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Threads of the interpreter.")
@click.option("--self-test", is_flag=True, help="Measure the file against itself, to see what the noise does.")
@click.option(
    "--repeats", default=20, show_default=True, type=click.IntRange(min=1), help="How often the self-test measures."
)
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
      edgetpu                  Coral's Edge TPU, by its compiler: what it places on the chip
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
        parts = [dataclasses.asdict(part) for part in found.parts]
        more = {"misfit": found.misfit, "contents": found.contents.to_dict(), "parts": parts}
        screen.give(json.dumps(plain | more))
    else:
        output.print_measured(found, model, against)
    if found.misfit:
        screen.say_line(f"autoopt: {found.misfit}", err=True)
        raise SystemExit(1)


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
@click.argument("bundle", type=PATH, metavar="BUNDLE")
@click.option(
    "--budget",
    "-b",
    "budgets",
    multiple=True,
    help="A budget such as 'accuracy >= baseline - 1 point'; may be repeated. [default: the study's own]",
)
@click.option("--file", type=PATH, help="A new .tflite, in place of the bundle's.")
@click.option("--data", type=PATH, help="An .npz with x_test and y_test (or x and y), to measure the quality on.")
@click.option("--baseline", type=PATH, help="The untouched model's .tflite, to compare with on the same data.")
def gate(bundle: Path, budgets: tuple[str, ...], file: Path | None, data: Path | None, baseline: Path | None) -> None:
    """Hold a bundle's file, or a new one, against budgets: for continuous integration.

    BUNDLE is a folder that `autoopt export` wrote. What the study measured counts for the bundle's own file. The exit code is
    0 where all budgets are kept, 1 where one is broken, 3 where one can't be judged here and none is broken.
    """
    from autoopt.api.gate import judge

    found = judge(bundle, budgets, file=file, data=data, baseline=baseline)
    if wants_json():
        screen.give(json.dumps(found.to_dict()))
    else:
        screen.say(found.text())
    if found.exit_code:
        raise SystemExit(found.exit_code)


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
def doctor() -> None:
    """Look at this machine: libraries, processor, memory, targets, and what to do about what is missing.

    Exit code 1 if autoopt can't work here.
    """
    from autoopt.api import doctor as doctors
    from autoopt.cli import output

    found = doctors.examine()
    if wants_json():
        screen.give(json.dumps([dataclasses.asdict(finding) for finding in found]))
    else:
        output.print_findings(found)
    click.get_current_context().exit(1 if any(finding.state == "bad" for finding in found) else 0)
