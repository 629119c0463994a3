"""How fast do searches reach the front? autoopt, with each of its devices switched off in turn, and a hand-written script.

    python experiments/search_efficiency/table.py      # first: makes every recipe once
    python experiments/search_efficiency/replay.py [--seeds 5]

autoopt itself runs, on a store that holds every result, so that a job takes no time; the clock then counts the
seconds that each job took when the table was made, once for each job that the search had not done before. The
hand-written script's clock counts all of its trial's jobs: it shares nothing. Writes README.md, curves.csv and
curves.png beside this script.
"""

import argparse
import csv
import dataclasses
import datetime
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import moocore
import numpy as np
import optuna
import plotly.graph_objects as go
from table import HERE, STUDY

from autoopt.candidate import Candidate
from autoopt.folder import StudyFolder
from autoopt.metrics import Metric
from autoopt.pipeline import plan
from autoopt.progress import Silent
from autoopt.proposals import Proposals, _sampler
from autoopt.recipe import Finetune, Recipe
from autoopt.search import Search
from autoopt.space import SearchSpace
from autoopt.strategy import Strategy
from autoopt.targets.runner import processor

STORE = STUDY / "out" / "store"
OFF = Strategy(siblings=False, corners=False, sharing=False)
METHODS: Mapping[str, tuple[str, Strategy]] = {
    "autoopt": ("tpe", Strategy()),
    "without siblings": ("tpe", Strategy(siblings=False)),
    "without corners": ("tpe", Strategy(corners=False)),
    "without sharing": ("tpe", Strategy(sharing=False)),
    "with NSGA-II": ("nsga2", Strategy()),
    "with random choice": ("random", Strategy()),
    "TPE alone": ("tpe", OFF),
    "random alone": ("random", OFF),
}
HAND = "hand-written script"
GOAL = 0.95
MEASURING_S = 1.0
"""What the hand-written script's own latency (the mean of 50 runs) takes; its proof and memory take nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A recipe of the table: its objectives (smaller is better; None if it failed), its jobs with their seconds."""

    point: tuple[float, ...] | None
    jobs: tuple[tuple[str, str, float], ...]


def table() -> dict[str, Row]:
    """The table by the recipes' digests."""
    found = {}
    with open(HERE / "table.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            point = None
            if not row["failed"]:
                point = (-float(row["accuracy"]), float(row["latency_ms"]), float(row["compressed_bytes"]))
            jobs = tuple((key, name, float(seconds or 0)) for key, name, seconds in json.loads(row["jobs"]))
            found[Recipe.from_json(row["recipe"]).digest] = Row(point=point, jobs=jobs)
    return found


class Volumes:
    """Shares of the box from the worst to the best values of the table."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        points = np.array([row.point for row in rows.values() if row.point is not None])
        self.low, self.span = points.min(axis=0), np.ptp(points, axis=0)
        self.full = self.of(points)

    def of(self, points: np.ndarray) -> float:
        """The hypervolume that points cover."""
        return float(moocore.hypervolume((points - self.low) / self.span, ref=np.ones(points.shape[1])))


Curve = list[tuple[float, float]]
"""Seconds and the share of the exhaustive hypervolume, one entry a trial."""


def curve(order: Iterator[str], rows: Mapping[str, Row], volumes: Volumes, *, sharing: bool) -> Curve:
    """The curve of recipes (digests) that were done in this order."""
    clock, done, points, found = 0.0, set(), [], []
    for digest in order:
        for key, name, seconds in rows[digest].jobs:
            if sharing and key in done:
                continue
            done.add(key)
            if sharing or name not in ("proof", "memory", "latency"):
                clock += seconds
        clock += 0 if sharing else MEASURING_S
        if rows[digest].point is not None:
            points.append(rows[digest].point)
        found.append((clock, volumes.of(np.array(points)) / volumes.full if points else 0.0))
    return found


class Order(Silent):
    """Notes in which order candidates end."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Note it."""
        self.digests.append(candidate.recipe.digest)


class Replay(Search):
    """A search whose sampler has a seed of its own: the recipes' seed must be the table's."""

    sampler_seed = 0

    def _open(self) -> Proposals:
        made = super()._open()
        made._study.sampler = _sampler(self.config.sampler, self.sampler_seed)
        return made


def autoopt_order(sampler: str, strategy: Strategy, seed: int, trials: int) -> list[str]:
    """The recipes in the order in which autoopt has them done."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "digits")
        shutil.copytree(STUDY, path, ignore=shutil.ignore_patterns("out", "task.py"))
        (path / "task.py").write_text(
            f"import runpy\ntask = runpy.run_path({str(STUDY / 'task.py')!r})['task']\n", encoding="utf-8"
        )
        folder = StudyFolder(path)
        config = dataclasses.replace(folder.config(), sampler=sampler, search=strategy)
        with folder.lock(), Order() as order:
            search = Replay(folder, config, order, trials=trials, hours=None, scheduler=None, store=STORE, recipes=())
            search.sampler_seed = seed
            search.run()
            known = {
                job.key for digest in search.candidates.values() for job in plan(digest.recipe, search.setting).jobs
            }
            assert all(search.store.seconds(key) is not None for key in known), "the table and this study differ"
        return order.digests


def hand_written_order(space: SearchSpace, seed: int, trials: int) -> list[str]:
    """The recipes that a plain Optuna script tries, again and again if its sampler says so."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows, order = table(), []
    study = optuna.create_study(directions=["minimize"] * 3)  # Optuna's own choice of a sampler
    study.sampler = type(study.sampler)(seed=seed)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        recipe = space.sample(trial, Finetune(), 0)
        order.append(recipe.digest)
        point = rows[recipe.digest].point
        if point is None:
            raise optuna.TrialPruned
        return point

    study.optimize(objective, n_trials=trials)
    return order


def reached(found: Curve, share: float) -> float:
    """Seconds until a share is reached; infinity if never."""
    return next((seconds for seconds, volume in found if volume >= share), float("inf"))


def at(found: Curve, seconds: float) -> float:
    """The share that is reached at a time."""
    return max((volume for clock, volume in found if clock <= seconds), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    rows = table()
    volumes, space = Volumes(rows), StudyFolder(STUDY).config().space
    curves: dict[str, list[Curve]] = {HAND: []}
    for seed in seeds:
        order = hand_written_order(space, seed, 4 * len(rows))
        curves[HAND].append(curve(iter(order), rows, volumes, sharing=False))
        for method, (sampler, strategy) in METHODS.items():
            order = autoopt_order(sampler, strategy, seed, len(rows))
            curves.setdefault(method, []).append(curve(iter(order), rows, volumes, sharing=True))
            print(f"seed {seed}, {method}: 95 % after {reached(curves[method][-1], GOAL):.0f} s", flush=True)
    write(curves, rows)


def write(curves: Mapping[str, list[Curve]], rows: Mapping[str, Row]) -> None:
    """The table, the curves as CSV, the plot."""
    with open(HERE / "curves.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "trial", "seconds", "share"])
        for method, found in curves.items():
            for seed, one in enumerate(found):
                writer.writerows([method, seed, n, f"{s:.1f}", f"{v:.5f}"] for n, (s, v) in enumerate(one))
    hand = [reached(one, GOAL) for one in curves[HAND]]
    lines = []
    for method, found in curves.items():
        times = [reached(one, GOAL) for one in found]
        trials = [next((n + 1 for n, (_, v) in enumerate(one) if v >= GOAL), float("inf")) for one in found]
        factors = [h / t for h, t in zip(hand, times, strict=True)]
        ends = [at(one, t) for one, t in zip(found, hand, strict=True)]
        cells = [
            method,
            f"{statistics.median(times):.0f} s ({min(times):.0f} to {max(times):.0f})",
            f"{statistics.median(trials):.0f}",
            f"{statistics.median(factors):.1f} ({min(factors):.1f} to {max(factors):.1f})",
            f"{statistics.median(ends):.1%} ({min(ends):.1%} at least)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    seconds = sum({key: s for row in rows.values() for key, _, s in row.jobs}.values())
    failed = sum(row.point is None for row in rows.values())
    text = [
        "# How fast is the front reached?",
        "",
        f"Written by `replay.py`; {len(curves[HAND])} seeds, median and range. {processor()}, {os.cpu_count()} cores;",
        f"Python {platform.python_version()}, Optuna {version('optuna')}, TensorFlow {version('tensorflow')}; {datetime.date.today()}.",
        "",
        f"The truth: `table.csv`, all {len(rows)} recipes of `digits/study.yaml` ({failed} failed), {seconds / 60:.0f} minutes of jobs.",
        f"Reached means {GOAL:.0%} of the hypervolume of them all (accuracy, latency, compressed size; each scaled from its worst to",
        "its best value).",
        "",
        "| search | reached after | trials | times faster than the script | share when the script is there |",
        "|---|---|---|---|---|",
        *lines,
        "",
        "![Share of the hypervolume against time](curves.png)",
        "",
        "The clock counts the seconds that each job took when the table was made, on this machine: for autoopt each job once,",
        "for the hand-written script every time, without proof and memory, and its latency as one second. What the search itself",
        "takes (about 0.2 s a candidate) is not in the clock of either.",
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")
    figure = go.Figure(layout={"template": "simple_white", "xaxis": {"type": "log", "title": "seconds"},
                               "yaxis": {"title": "share of the exhaustive hypervolume"}})  # fmt: skip
    for method, found in curves.items():
        times = np.geomspace(10, max(one[-1][0] for one in found), 200)
        median = [statistics.median(at(one, t) for one in found) for t in times]
        figure.add_scatter(
            x=times, y=median, name=method, line={"shape": "hv", "width": 3 if method in ("autoopt", HAND) else 1.5}
        )
    figure.write_image(HERE / "curves.png", width=1000, height=560)


if __name__ == "__main__":
    main()
