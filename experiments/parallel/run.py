"""Does throughput grow with the training slots? The same recipes with one slot and more, each from an empty store.

    python experiments/parallel/run.py [--repeats 2]

Runs the study of `experiments/search_efficiency` on recipes that share no training, with as many slots as cores and
with one; a job may use the cores divided by the slots. Counted is the time from the first recipe's training to the
last one's end: the start, the task and the baseline are alike in both. Writes README.md beside this script.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import shutil
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Finetune, Prune
from autoopt.search.progress import Silent
from autoopt.search.search import Search
from autoopt.study.folder import StudyFolder
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
STUDY = HERE.parent / "search_efficiency" / "digits"
TUNING = Finetune(epochs=3)
RECIPES = [Recipe(prune=Prune(sparsity=s), finetune=TUNING) for s in (0.4, 0.5, 0.6, 0.7)] + [
    Recipe(cluster=Cluster(number=n), finetune=TUNING) for n in (8, 16, 32, 64)
]


def run(slots: int, recipes: list[Recipe]) -> tuple[float, float, int]:
    """Seconds of the wall clock and in jobs, and how many candidates were made."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent, "digits")
        shutil.copytree(STUDY, path, ignore=shutil.ignore_patterns("out", "task.py"))
        (path / "task.py").write_text(
            f"import runpy\ntask = runpy.run_path({str(STUDY / 'task.py')!r})['task']\n", encoding="utf-8"
        )
        folder = StudyFolder(path)
        config = dataclasses.replace(folder.config(), slots=slots)
        with folder.lock(), Silent() as view:
            started = time.perf_counter()
            search = Search(
                folder, config, view, trials=None, hours=None, scheduler=None, store=None, recipes=recipes
            )  # fmt: skip
            search.run()
            wall = time.perf_counter() - started
        done = [c for c in search.driver.ledger.candidates.values() if not c.failed and c.recipe in recipes]
        return wall, search.spent.jobs, len(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    repeats, cores = parser.parse_args().repeats, os.cpu_count() or 1
    counts = sorted({1, 2, cores} if cores > 1 else {1})
    found: dict[int, list[tuple[float, float]]] = {slots: [] for slots in counts}
    for _ in range(repeats):
        for slots in counts:
            start, _, _ = run(slots, RECIPES[:1])
            wall, jobs, made = run(slots, RECIPES)
            assert made == len(RECIPES), f"only {made} candidates were made"
            found[slots].append((wall - start, jobs))
            print(f"{slots} slots: {wall:.0f} s, {start:.0f} s with one recipe; {jobs:.0f} s in jobs", flush=True)
    rates = {slots: [60 * (len(RECIPES) - 1) / wall for wall, _ in runs] for slots, runs in found.items()}
    alone = statistics.median(rates[1])
    lines = []
    for slots in counts:
        rate = statistics.median(rates[slots])
        spread = f"{min(rates[slots]):.1f} to {max(rates[slots]):.1f}"
        lines.append(f"| {slots} | {max(1, cores // slots)} | {rate:.1f} ({spread}) | {rate / alone:.2f} |")
    text = [
        "# Does throughput grow with the training slots?",
        "",
        f"Written by `run.py`; {repeats} interleaved repeats, median and range. {processor()}, {cores} cores;",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}; {datetime.date.today()}.",
        "",
        f"{len(RECIPES)} recipes of the digits study ({TUNING.epochs} epochs each) that share no training, less what one of them takes.",
        "Measuring latency is exclusive, and freezes trainings: that part of a candidate does not run beside another.",
        "",
        "| slots | threads a job | candidates a minute | against one slot |",
        "|---|---|---|---|",
        *lines,
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
