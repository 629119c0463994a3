"""`autoopt.run`: search a study, then write what people read."""

import contextlib
import os
import warnings
from collections.abc import Sequence
from typing import Any

from autoopt.api.ending import Ending, now
from autoopt.api.saved_study import SavedResults, load
from autoopt.core import last_run
from autoopt.core.last_run import LastRun
from autoopt.core.recipe import Recipe
from autoopt.core.validation import expect_number, fail
from autoopt.search.progress import Recorder, View
from autoopt.search.views import usual
from autoopt.study import records
from autoopt.study.folder import StudyConfig, StudyFolder
from autoopt.study.folder import hours as in_hours
from autoopt.system.files import write_atomically


def run(
    study: str | os.PathLike[str],
    *,
    trials: int | None = None,
    hours: float | str | None = None,
    scheduler: str | None = None,
    store: str | os.PathLike[str] | None = None,
    view: View | None = None,
    recipes: Sequence[Recipe] = (),
    target: str | None = None,
) -> SavedResults:
    """Search, or go on searching, and write the report.

    Args:
        study: the study's folder.
        trials: candidates in all, in place of the study's own number.
        hours: after which no new candidate is begun, in place of the study's own; or a duration such as `90 min`.
        scheduler: address of a running Dask scheduler; by default jobs run on this machine.
        store: folder of the store in place of `out/store`; on a cluster one that all machines see.
        view: shows progress; by default it is shown in a notebook and in IPython, and nothing elsewhere. With
            `autoopt.search.progress.Plain()` there is a line for everything that happens, with `Silent()` nothing anywhere.
        recipes: make just these, even from outside the space, instead of searching.
        target: where to measure, in place of the study's own.

    Returns:
        the results, as `autoopt.load(study)` gives them.

    Raises:
        ConfigError: if task, space or settings are wrong, or are not those the study began with.
        TargetUnavailable: if it can't go on now; the same command goes on later.
    """
    return _search(study, target, view, trials=trials, hours=hours, scheduler=scheduler, store=store, recipes=recipes)


def confirm(
    study: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    view: View | None = None,
) -> SavedResults:
    """Measure the front and its near-ties again, on the test split and with more repeats; write the report.

    Args:
        study: the study's folder.
        scheduler: as of `run`.
        view: as of `run`.

    Returns:
        the results, with what was confirmed.

    Raises:
        ConfigError: if the study was never run, or is not what it was.
        TargetUnavailable: if it can't go on now; the same command goes on later.
    """
    target = load(study).provenance.get("target")
    return _search(
        study, target, view, trials=None, hours=None, scheduler=scheduler, store=None, recipes=(), confirm_only=True
    )


def _search(study: str | os.PathLike[str], target: str | None, view: View | None, **settings: Any) -> SavedResults:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # by what optuna brings, in a notebook without widgets
        from autoopt.search.search import Search

    _check(**settings)
    if settings["hours"] is not None:
        settings["hours"] = in_hours("hours", settings["hours"])
    folder = StudyFolder(study)
    config = folder.config(target)
    seen = view or usual()
    ending = Ending(folder, config.on_end, _asked(config, **settings), seen.note)
    with ending.followed():
        with contextlib.ExitStack() as stack:
            stack.enter_context(folder.lock())
            ending.begin()
            shown = stack.enter_context(Recorder(seen, folder.now, ending.call))
            for damage in records.set_aside(folder):
                shown.note(f"warning: {damage.path} is damaged ({damage.reason}); set aside as {damage.aside}")
            ending.searched(Search(folder, config, shown, **settings).run())
        results = load(folder.path)
        write_outputs(folder, results)
        ending.written(results)
    return results


def _asked(
    config: StudyConfig, *, trials: int | None, hours: float | None, recipes: Sequence[Recipe], **more: Any
) -> LastRun:
    """The record of a run that is about to begin, with what is asked of it."""
    kind = last_run.CONFIRM if more.get("confirm_only") else last_run.RECIPES if recipes else last_run.SEARCH
    limit = config.hours if hours is None else hours
    return LastRun(kind=kind, trials=config.trials if trials is None else trials, hours=limit, begun=now())


def _check(trials: Any, recipes: Any, **_: Any) -> None:
    """Refuse settings that are none, before anything is read.

    Raises:
        ConfigError: naming the argument, expected and got.
    """
    if trials is not None:
        expect_number("trials", trials, minimum=1, whole=True)
    for recipe in [recipes] if isinstance(recipes, str | Recipe) else recipes:
        if not isinstance(recipe, Recipe) or recipe is recipes:
            fail("recipes", "a list of autoopt.Recipe, such as [candidate.recipe]", recipe)


def write_outputs(folder: StudyFolder, results: SavedResults) -> None:
    """Write `candidates.csv`, the report, and the recommended candidate's bundle."""
    from autoopt.reporting import report

    write_atomically(folder.table, results.to_csv().encode())
    report.write(results, folder.report)
    picked = results.pick().candidate
    if picked is not None:
        results.export(picked.number, folder.pick, force=True)
