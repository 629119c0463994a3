"""How fast do searches reach the front? autoopt, with each of its devices switched off in turn, and a hand-written script.

    python experiments/search_efficiency/table.py           # first: makes every recipe once
    python experiments/search_efficiency/hand_written.py    # then: how long does a plain script take a trial?
    python experiments/search_efficiency/replay.py [--seeds 5]

autoopt itself runs, on a store that holds every result, so that a job takes no time; the clock then counts the
seconds that each job took when it was made, once for each job that the search had not done before: training,
conversion, measuring, and the one-shot files of its own devices. The hand-written script's clock counts all of its
trial's work every time, for it keeps nothing. Writes README.md, curves.csv and curves.png beside this script.
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
from collections.abc import Container, Mapping
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
from autoopt.process import Outcome
from autoopt.progress import Silent
from autoopt.proposals import Proposals, _sampler
from autoopt.recipe import Finetune, Recipe
from autoopt.search import Search
from autoopt.store import Store
from autoopt.strategy import Strategy
from autoopt.targets.runner import processor

STORE = STUDY / "out" / "store"
ALL = Strategy()
OFF = Strategy(**{field.name: False for field in dataclasses.fields(Strategy)})
METHODS: Mapping[str, tuple[str, Strategy]] = {
    "autoopt": ("tpe", ALL),
    **{f"without {f.name}": ("tpe", dataclasses.replace(ALL, **{f.name: False})) for f in dataclasses.fields(ALL)},
    "with NSGA-II": ("nsga2", ALL),
    "with random choice": ("random", ALL),
    "TPE alone": ("tpe", OFF),
    "NSGA-II alone": ("nsga2", OFF),
    "random alone": ("random", OFF),
}
HAND = "hand-written script"
GOAL = 0.95
UNPAID = ("proof", "memory", "latency")
"""Jobs of the table that a hand-written script does not do, or its own way."""


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


def hand_written_seconds(rows: Mapping[str, Row]) -> tuple[dict[str, float], float]:
    """What a trial of the hand-written script takes, by recipe, and how much longer than the table's jobs alone.

    It was run on some recipes (hand_written.csv); the others take as many times their jobs' seconds as those did.
    """
    space = StudyFolder(STUDY).config().space
    ratios = []
    with open(HERE / "hand_written.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            given = {"prune": row["prune"] == "True", "cluster": row["cluster"] == "True", "scheme": row["scheme"]}
            given |= {"prune.sparsity": float(row["sparsity"] or 0), "cluster.number": int(float(row["number"] or 0))}
            given |= {"finetune.epochs": int(row["epochs"] or 0)}
            recipe = space.build(lambda name, knob: given.get(name, knob.middle()), Finetune(), 0)  # noqa: B023
            ratios.append(float(row["seconds"]) / _work(rows[recipe.digest]))
    ratio = statistics.median(ratios)
    return {digest: ratio * _work(row) for digest, row in rows.items()}, ratio


def _work(row: Row) -> float:
    return sum(seconds for _, name, seconds in row.jobs if name not in UNPAID)


class Watch(Silent):
    """Draws a curve while a search runs."""

    def __init__(self, rows: Mapping[str, Row], volumes: Volumes) -> None:
        self.rows, self.volumes = rows, volumes
        self.clock = 0.0
        self.points: list[tuple[float, ...]] = []
        self.curve: Curve = []

    def done(self, digest: str) -> None:
        """A recipe is done, at this time."""
        point = self.rows[digest].point
        if point is not None:
            self.points.append(point)
        share = self.volumes.of(np.array(self.points)) / self.volumes.full if self.points else 0.0
        self.curve.append((self.clock, share))

    def candidate(self, candidate: Candidate, metrics: Mapping[str, Metric], baseline: Candidate | None) -> None:
        """Note it."""
        self.done(candidate.recipe.digest)


class Veiled(Store):
    """The store as a search sees it that has made nothing but its own jobs."""

    made: Container[str] = ()

    def seconds(self, key: str) -> float | None:
        """As if what others made was not there."""
        return super().seconds(key) if key in self.made else None


class Replay(Search):
    """A search whose sampler has a seed of its own: the recipes' seed must be the table's. It keeps the time."""

    sampler_seed = 0
    watch: Watch

    def _count(self, outcome: Outcome) -> Outcome:
        if outcome.state == "done" and outcome.key not in self.counted:
            self.watch.clock += outcome.seconds
        return super()._count(outcome)

    def _open(self) -> Proposals:
        made = super()._open()
        made._study.sampler = _sampler(self.config.sampler, self.sampler_seed)
        return made


def autoopt_curve(watch: Watch, sampler: str, strategy: Strategy, seed: int, trials: int) -> tuple[Curve, int]:
    """The curve of one search by autoopt, and how many recipes it skipped."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "digits")
        shutil.copytree(STUDY, path, ignore=shutil.ignore_patterns("out", "task.py"))
        (path / "task.py").write_text(
            f"import runpy\ntask = runpy.run_path({str(STUDY / 'task.py')!r})['task']\n", encoding="utf-8"
        )
        folder = StudyFolder(path)
        config = dataclasses.replace(folder.config(), sampler=sampler, search=strategy)
        with folder.lock(), watch:
            search = Replay(folder, config, watch, trials=trials, hours=None, scheduler=None, store=STORE, recipes=())
            search.sampler_seed, search.watch = seed, watch
            search.store = veiled = Veiled(search.store.root)
            veiled.made = search.counted
            search.run()
            # Probes and first epochs may be made now; trained models must be the table's.
            made = search.ledger.candidates.values()
            assert all(c.recipe.digest in watch.rows for c in made), "the table and this study differ"
        return watch.curve, len(search.ledger.skipped)


def hand_written_curve(watch: Watch, seconds: Mapping[str, float], seed: int, trials: int) -> Curve:
    """The curve of a plain Optuna script, with Optuna's own choice of a sampler; what it tries again, it makes again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * 3)
    study.sampler = type(study.sampler)(seed=seed)  # type: ignore[call-arg]
    space = StudyFolder(STUDY).config().space

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        digest = space.sample(trial, Finetune(), 0).digest
        watch.clock += seconds[digest]
        watch.done(digest)
        point = watch.rows[digest].point
        if point is None:
            raise optuna.TrialPruned
        return point

    study.optimize(objective, n_trials=trials)
    return watch.curve


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
    volumes = Volumes(rows)
    seconds, ratio = hand_written_seconds(rows)
    curves: dict[str, list[Curve]] = {HAND: []}
    skipped: dict[str, list[int]] = {HAND: []}
    for seed in seeds:
        curves[HAND].append(hand_written_curve(Watch(rows, volumes), seconds, seed, 4 * len(rows)))
        skipped[HAND].append(0)
        print(f"seed {seed}, {HAND}: 95 % after {reached(curves[HAND][-1], GOAL):.0f} s", flush=True)
        for method, (sampler, strategy) in METHODS.items():
            found, left_out = autoopt_curve(Watch(rows, volumes), sampler, strategy, seed, len(rows))
            curves.setdefault(method, []).append(found)
            skipped.setdefault(method, []).append(left_out)
            print(
                f"seed {seed}, {method}: 95 % after {reached(found, GOAL):.0f} s; "
                f"{found[-1][1]:.2%} in {found[-1][0]:.0f} s, {left_out} skipped",
                flush=True,
            )
    write(curves, skipped, rows, ratio)


def write(
    curves: Mapping[str, list[Curve]], skipped: Mapping[str, list[int]], rows: Mapping[str, Row], ratio: float
) -> None:
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
            f"{statistics.median(one[-1][1] for one in found):.1%} in {statistics.median(one[-1][0] for one in found):.0f} s",
            f"{statistics.median(skipped[method]):.0f}",
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
        "| search | reached after | trials | times faster than the script | share when the script is there | in the end | skipped |",
        "|---|---|---|---|---|---|---|",
        *lines,
        "",
        "![Share of the hypervolume against time](curves.png)",
        "",
        "The clock counts the seconds that each job took when it was made, on this machine: for autoopt each job once, for the",
        f"script every time. The script's trials were run ({Path('hand_written.csv').name}): they take {ratio:.2f} times the seconds of the",
        "jobs that make and evaluate the same recipe. What choosing takes (about 0.2 s a candidate) is in the clock of neither.",
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
