"""`autoopt.run`: search a study, then write what people read."""

import contextlib
import os
from collections.abc import Sequence

from autoopt.export import SavedResults, load
from autoopt.folder import StudyFolder
from autoopt.progress import Silent, View
from autoopt.recipe import Recipe
from autoopt.search import Search
from autoopt.store import write_atomically


def run(
    study: str | os.PathLike[str],
    *,
    trials: int | None = None,
    hours: float | None = None,
    scheduler: str | None = None,
    store: str | os.PathLike[str] | None = None,
    view: View | None = None,
    recipes: Sequence[Recipe] = (),
) -> SavedResults:
    """Search, or go on searching, and write the report.

    Args:
        study: the study's folder.
        trials: candidates in all, in place of the study's own number.
        hours: after which no new candidate is begun, in place of the study's own.
        scheduler: address of a running Dask scheduler; by default jobs run on this machine.
        store: folder of the store in place of `out/store`; on a cluster one that all machines see.
        view: shows progress; by default nothing is shown.
        recipes: make just these, even from outside the space, instead of searching.

    Returns:
        the results, as `autoopt.load(study)` gives them.

    Raises:
        ConfigError: if task, space or settings are wrong, or are not those the study began with.
        TargetUnavailable: if it can't go on now; the same command goes on later.
    """
    folder = StudyFolder(study)
    config = folder.config()
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder.lock())
        shown = stack.enter_context(view or Silent())
        search = Search(
            folder, config, shown, trials=trials, hours=hours, scheduler=scheduler, store=store, recipes=recipes
        )
        search.run()
    results = load(folder.path)
    write_outputs(folder, results)
    return results


def write_outputs(folder: StudyFolder, results: SavedResults) -> None:
    """Write `candidates.csv`, the report, and the recommended candidate's bundle."""
    from autoopt import report

    write_atomically(folder.out / "candidates.csv", results.to_csv().encode())
    report.write(results, folder.report)
    picked = results.pick().candidate
    if picked is not None:
        results.export(picked.number, folder.pick, replace=True)
