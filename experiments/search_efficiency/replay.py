"""How fast do searches reach the front? autoopt, with each of its devices switched off in turn, and a hand-written script.

    python experiments/search_efficiency/table.py           # first: makes every recipe once
    python experiments/search_efficiency/hand_written.py    # then: how long does a plain script take a trial?
    pip install torch                                       # for Optuna's Gaussian process, which autoopt does not need
    python experiments/search_efficiency/replay.py [--seeds 4]

autoopt itself runs, on an engine that does each job in the seconds that it took when the table was made (`simulated.py`), once
for each job that the search had not done before: training, conversion, measuring; one-shot files count 2 s. The hand-written
script's clock counts all of its trial's work every time, for it keeps nothing. Without torch the searches by Gaussian process
are left out. Writes README.md, curves.csv and curves.png beside this script.
"""

import argparse
import csv
import dataclasses
import datetime
import math
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import moocore
import numpy as np
import optuna
from plotly.colors import qualitative
from plotly.subplots import make_subplots
from simulated import Row, Simulated, Watching, study
from simulated import table as read_table
from table import HERE, STUDY

from autoopt.core.stage_settings import Finetune
from autoopt.execution.artifact_store import Store
from autoopt.study.folder import StudyFolder
from autoopt.study.search_options import Strategy
from autoopt.targets.litert_runner import processor

USUAL = Strategy()
OFF = Strategy(**{field.name: False for field in dataclasses.fields(Strategy) if field.name != "items"})
METHODS: Mapping[str, tuple[str, Strategy]] = {
    "autoopt": ("tpe", USUAL),
    **{
        f"{'without' if getattr(USUAL, f.name) else 'with'} {f.name}": (
            "tpe",
            dataclasses.replace(USUAL, **{f.name: not getattr(USUAL, f.name)}),
        )
        for f in dataclasses.fields(USUAL)
        if f.name != "items"
    },
    "with NSGA-II": ("nsga2", USUAL),
    "with GP": ("gp", USUAL),
    "with random choice": ("random", USUAL),
    "TPE alone": ("tpe", OFF),
    "GP alone": ("gp", OFF),
    "random alone": ("random", OFF),
}
if find_spec("torch") is None:
    METHODS = {method: chosen for method, chosen in METHODS.items() if chosen[0] != "gp"}
PALETTE = qualitative.Dark24
HAND = "hand-written script"
ORACLE = "one who knows the table"
GOAL, NEARLY = 0.95, 0.99
LONG_ENOUGH_S = 1000.0
"""Of the clock's time, after which a replay ends."""
UNPAID = ("proof", "memory", "latency")
"""Jobs of the table that a hand-written script does not do, or its own way."""


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


class Watch:
    """Draws a curve while a search runs, until it has almost all, or long enough."""

    def __init__(self, rows: Mapping[str, Row], volumes: Volumes) -> None:
        self.rows, self.volumes = rows, volumes
        self.clock = 0.0
        self.points: list[tuple[float, ...]] = []
        self.curve: Curve = []
        self.enough = False

    def done(self, digest: str) -> None:
        """A recipe is done, at this time."""
        point = self.rows[digest].point
        if point is not None:
            self.points.append(point)
        share = self.volumes.of(np.array(self.points)) / self.volumes.full if self.points else 0.0
        self.curve.append((self.clock, share))
        self.enough = share >= 0.999 or self.clock >= LONG_ENOUGH_S


def autoopt_curve(watch: Watch, name: str, strategy: Strategy, seed: int) -> tuple[Curve, int]:
    """The curve of one search by autoopt, and how many recipes it skipped."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "digits")
        (folder / "out").mkdir(parents=True)
        engine = Simulated(watch.rows, Store(folder / "out" / "store"))

        def done(digest: str) -> None:
            watch.clock = engine.now
            watch.done(digest)

        driver = study(folder, engine, StudyFolder(STUDY).config(), strategy, name, seed, Watching(done))

        def turned() -> None:
            if watch.enough:
                driver.stop()

        driver.turned = turned
        driver.search(driver.take_up())
        return watch.curve, len(driver.ledger.skipped)


def hand_written_curve(watch: Watch, seconds: Mapping[str, float], seed: int, trials: int) -> Curve:
    """The curve of a plain Optuna script, with Optuna's own choice of a sampler; what it tries again, it makes again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    script = optuna.create_study(directions=["minimize"] * 3)
    script.sampler = type(script.sampler)(seed=seed)  # type: ignore[call-arg]
    space = StudyFolder(STUDY).config().space

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        digest = space.sample(trial, Finetune(), 0).digest
        watch.clock += seconds[digest]
        watch.done(digest)
        point = watch.rows[digest].point
        if point is None:
            raise optuna.TrialPruned
        return point

    script.optimize(objective, n_trials=trials)
    return watch.curve


def reached(found: Curve, share: float) -> float:
    """Seconds until a share is reached; infinity if never."""
    return next((seconds for seconds, volume in found if volume >= share), float("inf"))


def at(found: Curve, seconds: float) -> float:
    """The share that is reached at a time."""
    return max((volume for clock, volume in found if clock <= seconds), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    seeds = range(parser.parse_args().seeds)
    rows = read_table(HERE / "table.csv")
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(one_seed, seeds))
    curves = {method: [one[method][0] for one in done] for method in done[0]}
    skipped = {method: [one[method][1] for one in done] for method in done[0]}
    write(curves, skipped, rows, hand_written_seconds(rows)[1])


def one_seed(seed: int) -> dict[str, tuple[Curve, int]]:
    """By method, its curve and how many recipes it skipped."""
    rows = read_table(HERE / "table.csv")
    volumes = Volumes(rows)
    seconds, _ = hand_written_seconds(rows)
    found = {
        HAND: (hand_written_curve(Watch(rows, volumes), seconds, seed, 8 * len(rows)), 0),
        ORACLE: (oracle_curve(Watch(rows, volumes)), 0),
    }
    for method, (name, strategy) in METHODS.items():
        found[method] = autoopt_curve(Watch(rows, volumes), name, strategy, seed)
        curve, skipped = found[method]
        told = f"95 % after {reached(curve, GOAL):.0f} s; {curve[-1][1]:.2%} in {curve[-1][0]:.0f} s, {skipped} skipped"
        print(f"seed {seed}, {method}: {told}", flush=True)
    return found


def oracle_curve(watch: Watch) -> Curve:
    """The curve of one who knows the whole table, and always makes what brings most a second."""
    first = next(
        digest for digest, row in watch.rows.items() if len(row.jobs) == min(len(r.jobs) for r in watch.rows.values())
    )
    left, done = dict(watch.rows), set[str]()
    while left:
        share = watch.volumes.of(np.array(watch.points)) if watch.points else 0.0

        def gain(digest: str, share: float = share, done: set[str] = done) -> float:
            point = left[digest].point
            if point is None:
                return 0.0
            more = watch.volumes.of(np.array([*watch.points, point])) - share
            return more / sum(s for key, _, s in left[digest].jobs if key not in done)

        best = max(left, key=gain) if watch.points else first
        watch.clock += sum(seconds for key, _, seconds in left[best].jobs if key not in done)
        done |= {key for key, _, _ in left.pop(best).jobs}
        watch.done(best)
        if watch.enough:
            break
    return watch.curve


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
    lines = []
    for method, found in curves.items():
        cells = [method]
        for goal in (GOAL, NEARLY):
            hand = [reached(one, goal) for one in curves[HAND]]
            times = [reached(one, goal) for one in found]
            trials = [next((n + 1 for n, (_, v) in enumerate(one) if v >= goal), math.inf) for one in found]
            factors = [h / t for h, t in zip(hand, times, strict=True)]
            cells += [
                f"{statistics.median(times):.0f} s ({min(times):.0f} to {max(times):.0f})",
                f"{statistics.median(trials):.0f}",
                f"{statistics.median(factors):.1f} ({min(factors):.1f} to {max(factors):.1f})",
            ]
        ends = [at(one, reached(hand, GOAL)) for one, hand in zip(found, curves[HAND], strict=True)]
        cells += [f"{min(ends):.1%}", f"{statistics.median(skipped[method]):.0f}"]
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
        "Reached means that share of the hypervolume of them all (accuracy, latency, compressed size; each scaled from its worst",
        "to its best value). `x` is how many times sooner than the hand-written script with the same seed.",
        "",
        "| search | 95 % after | trials | x | 99 % after | trials | x | share, at least, when the script has 95 % | skipped |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
        "![Share of the hypervolume against time](curves.png)",
        "",
        "The clock counts the seconds that each job took when it was made, on this machine: for autoopt each job once, for the",
        f"script every time. The script's trials were run ({Path('hand_written.csv').name}): they take {ratio:.2f} times the seconds of the",
        "jobs that make and evaluate the same recipe. What choosing takes (about 0.2 s a candidate) is in the clock of neither.",
        "GP is Optuna's Gaussian process: it can't model knobs that apply only under others, such as a stage's settings, and",
        "chooses those at random; it needs torch, which autoopt does without.",
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True)
    for number, (method, found) in enumerate(curves.items()):
        look = {"shape": "hv", "width": 3 if method in ("autoopt", HAND) else 1.5, "color": PALETTE[number]}
        times = np.geomspace(10, LONG_ENOUGH_S, 200)
        by_time = [statistics.median(at(one, t) for one in found) for t in times]
        most = min(100, *(len(one) for one in found))
        by_trial = [statistics.median(one[n][1] for one in found) for n in range(most)]
        for column, x, y in ((1, times, by_time), (2, list(range(1, most + 1)), by_trial)):
            figure.add_scatter(x=x, y=y, name=method, line=look, showlegend=column == 1, row=1, col=column)
    figure.update_layout(template="simple_white", yaxis_title="share of the exhaustive hypervolume, median")
    figure.update_yaxes(range=[0.6, 1.0])
    figure.update_xaxes(type="log", title="seconds", row=1, col=1)
    figure.update_xaxes(title="trials", row=1, col=2)
    figure.write_image(HERE / "curves.png", width=1200, height=560)


if __name__ == "__main__":
    main()
