"""What the commands share: their group, errors in one line, `--json` and `--debug`, budgets, the study."""

import io
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import autoopt
from autoopt.errors import AutooptError, ConfigError, one_line
from autoopt.system import screen

PATH = click.Path(path_type=Path)
STUDY = click.argument("study", type=PATH)


class _Hours(click.ParamType[float]):
    """Hours, or a duration such as `90 min`."""

    name = "HOURS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Hours as a number."""
        from autoopt.study.folder import hours

        try:
            return hours("hours", value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


HOURS = _Hours()
SHARED = "autoopt."
"""Begins the names under which click's context keeps what options that all commands share were given."""


class Commands(click.Group):
    """Turns autoopt's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command: 0 done, 1 could not be served, 2 bad usage or configuration."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a class may have a name that the terminal can't show
        try:
            return super().invoke(ctx)
        except AutooptError as error:
            _show_traceback(ctx)
            screen.say_line(f"autoopt: {error.command_line}", err=True)
            ctx.exit(error.exit_code)
        except MemoryError as error:  # it passes `errors.retold`, and nothing is wrong with what was given
            _show_traceback(ctx)
            said = f" ({one_line(error, 200)})" if str(error) else ""
            advice = "end other programs, or take a machine with more, then run the same command again"
            screen.say_line(f"autoopt: no memory was left for it{said}; {advice}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # `autoopt front STUDY | head`
            sys.stderr.close()
            ctx.exit(0)


def _show_traceback(ctx: click.Context) -> None:
    """Show where the error that is being handled comes from, if `--debug` asks for that."""
    if _given(ctx, "debug"):
        screen.say(traceback.format_exc(), err=True, nl=False)


def _given(ctx: click.Context, flag: str) -> bool:
    """Whether a flag that all commands share was given."""
    return bool(ctx.meta.get(SHARED + flag))


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
        ctx.meta[f"{SHARED}{parameter.name}"] = value

    for name, text in (("json", "Print JSON."), ("debug", "Show the traceback of an error.")):
        function = click.option(
            f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=set_flag, help=text
        )(function)
    return main.command()(function)


BUDGETS = (
    (
        ("--max-size",),
        "Limit of the file's size, such as 300KB (B, KB, MB, GB, KiB, MiB); a bare number is in bytes, from 1000 on.",
    ),
    (("--max-compressed",), "Limit of the size after gzip -9, such as 100KB."),
    (("--max-download",), "Limit of the smallest gzip's size, such as 90KB."),
    (("--max-latency",), "Limit of the latency, such as 2ms; a bare number is in ms."),
    (("--max-memory",), "Limit of the peak memory, such as 2MB."),
    (("--max-flash",), "Limit of the flash that an NPU's model takes, such as 1MB."),
    (
        ("--max-accuracy-drop", "--max-quality-drop", "max_accuracy_drop"),
        "How much worse than the baseline the task's metric may be: '1 point' of an accuracy (the same as 1% and 0.01); "
        "of an error such as MAE, 0.05 in its own unit or '5 %' of the baseline's.",
    ),
)


def budget_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The shared budget syntax as options."""
    for names, text in reversed(BUDGETS):
        function = click.option(*names, help=text)(function)
    function = click.option("--no-budget", is_flag=True, help="No limits, not the study's own either.")(function)
    text = "A budget such as 'latency_ms <= 2' or 'accuracy >= baseline - 1 point'; may be repeated."
    return click.option("--budget", "-b", "budgets", multiple=True, help=text)(function)


def wants_json() -> bool:
    """Whether `--json` was given."""
    return _given(click.get_current_context(), "json")
