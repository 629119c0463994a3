"""What `autoopt init` is given to make a study from, and how it shows how far it is."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.errors import ConfigError
from autoopt.system import screen

if TYPE_CHECKING:
    from autoopt.api.given_data import GivenData, Progress, Say

SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


def given_data(
    data: Path | None, images: Path | None, table: Path | None, label: str | None, skip_bad: str | None
) -> "GivenData":
    """The data that the options name.

    Raises:
        ConfigError: if they name none, or several, or do not go together.
    """
    kinds = {"--data": data, "--images": images, "--table": table}
    named = [option for option, path in kinds.items() if path is not None]
    if len(named) != 1:
        raise ConfigError(f"expected one of {', '.join(kinds)}, got {' and '.join(named) or 'none'}")
    if skip_bad is not None and images is None:
        raise ConfigError(f"--skip-bad is about pictures; it goes with --images, not with {named[0]}")
    if label is not None and table is None:
        raise ConfigError(f"--label is about a table; it goes with --table, not with {named[0]}")
    if images is not None:
        from autoopt.api.image_folder import ImageFolder

        return ImageFolder(path=images, skip_bad=None if skip_bad is None else share(skip_bad))
    if table is not None:
        from autoopt.api.table_file import TableFile

        if label is None:
            raise ConfigError("--table needs --label: the name of the column with the labels")
        return TableFile(path=table, label=label)
    from autoopt.api.array_file import ArrayFile

    assert data is not None
    return ArrayFile(path=data)


def share(text: str) -> float:
    """A share of at most all, such as `5%`.

    Raises:
        ConfigError: if it is none.
    """
    found = SHARE.fullmatch(text)
    if not found or float(found[1]) > 100:
        raise ConfigError(
            f"--skip-bad: expected a share such as 5%, got {text!r}; without a share it stands last, or before another option"
        )
    return float(found[1]) / 100


@contextlib.contextmanager
def shown() -> Iterator[tuple["Say", "Progress"]]:
    """Functions that show on standard error what is said, and in a terminal how many items are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _say, _ignore
        return
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None, visible=False)

        def say(text: str) -> None:
            console.print(screen.one_line(text), markup=False, highlight=False, soft_wrap=True)

        def progress(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, visible=done < of, refresh=True)

        yield say, progress


def _say(text: str) -> None:
    screen.say_line(text, err=True)


def _ignore(done: int, of: int) -> None:
    """Show nothing: a file of progress bars helps nobody."""
