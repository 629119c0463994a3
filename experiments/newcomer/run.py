"""What does somebody get in the first minutes who types `autoopt init` and `autoopt run`, against a script of their own?

    python experiments/newcomer/run.py [--seconds 700] [--only NAME]

For each model: a study as `autoopt init` writes it, nothing changed, and `search_efficiency/hand_written.py`, one after the
other, each for so many seconds and on the same data. Writes README.md beside this script. Needs the models and the data that
`AUTOOPT_DATA` names (default: `shared/data` beside the repository). Accuracy of the front is computed again, by the reader that
the script has.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import moocore
import numpy as np

import autoopt
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "search_efficiency" / "hand_written.py"
DATA = Path(os.environ.get("AUTOOPT_DATA", HERE.parents[1].parent / "shared" / "data"))
ITEMS = 10_000
LOST = 0.05
"""What lies so far under the baseline's accuracy counts for nothing."""
Point = tuple[float, float, float]
"""Seconds since the start, accuracy on the validation split, bytes after gzip."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and its data.

    Attributes:
        name: of the model.
        model: its file.
        data: its data's file.
        scaled: whether pixels are divided by 255.
    """

    name: str
    model: str
    data: str
    scaled: bool


CASES = (
    Case(name="Fashion-MNIST CNN, under-trained", model="fashion_cnn.h5", data="fashion_mnist_dev.npz", scaled=True),
    Case(name="ResNet-8, CIFAR-10", model="ic_resnet8.h5", data="cifar10_dev.npz", scaled=False),
)


def arrays(case: Case) -> dict[str, np.ndarray]:
    """Splits of a case: the second half of what is published as test data is for the test."""
    with np.load(DATA / case.data, allow_pickle=False) as given:
        x = {name: given[f"x_{name}"] for name in ("train", "test")}
        y = {name: given[f"y_{name}"] for name in ("train", "test")}
    half = len(x["test"]) // 2
    found = {"train": slice(0, ITEMS), "validation": slice(0, half), "test": slice(half, None)}
    made = {}
    for name, part in found.items():
        of = "train" if name == "train" else "test"
        pixels = x[of][part].astype(np.float32) / (255 if case.scaled else 1)
        made |= {f"x_{name}": pixels if pixels.ndim == 4 else pixels[..., None], f"y_{name}": y[of][part]}
    return made


def newcomers(case: Case, folder: Path, seconds: float) -> tuple[list[Point], Point, float]:
    """What autoopt gives: its candidates, the baseline, and how far a second reader's accuracy of the front differs."""
    study = folder / "study"
    command = [str(Path(sys.executable).with_name("autoopt"))]
    data = folder / "data.npz"
    subprocess.run(
        [*command, "init", str(study), "--model", str(DATA / "models" / case.model), "--data", str(data)], check=True
    )
    begun = datetime.datetime.now(datetime.UTC)
    subprocess.run(
        [*command, "run", str(study), "--hours", str(seconds / 3600), "--trials", "10000", "--plain"], check=True
    )
    results = autoopt.load(study)

    def point(c: autoopt.Candidate) -> Point:
        ended = datetime.datetime.fromisoformat(c.finished)
        values = (c.measurements["accuracy"].value, c.measurements["compressed_bytes"].value)
        return ((ended - begun).total_seconds(), *values)

    made = [point(c) for c in results.candidates if not c.failed]
    assert results.baseline is not None
    return [p for p in made if p[0] <= seconds], point(results.baseline), _reread(results, data)


def _reread(results: autoopt.Results, data: Path) -> float:
    """The largest difference between an accuracy of the front and what the script's own reader finds."""
    sys.path.insert(0, str(SCRIPT.parent))
    import hand_written

    splits = hand_written.splits(data)
    found = [(c, results.file(c)) for c in results.front()][:5]
    return max(abs(hand_written.evaluate(file, splits)[0] - c.measurements["accuracy"].value) for c, file in found)


def scripted(case: Case, folder: Path, seconds: float) -> list[Point]:
    """What the script gives."""
    out = folder / "trials.csv"
    given = ["--model", DATA / "models" / case.model, "--data", folder / "data.npz", "--seconds", seconds, "--out", out]
    begun = time.monotonic()
    subprocess.run([sys.executable, str(SCRIPT), *map(str, given)], check=True)
    with open(out, newline="", encoding="utf-8") as file:
        rows = [(float(r["ended"]), float(r["accuracy"]), float(r["compressed_bytes"])) for r in csv.DictReader(file)]
    print(f"script: {len(rows)} trials in {time.monotonic() - begun:.0f} s", flush=True)
    return [row for row in rows if row[0] <= seconds]


def volume(points: Iterable[Point], base: Point, until: float) -> float:
    """Hypervolume of what is there by a time: accuracy over the limit, in parts of `LOST`, times the share of the bytes that is saved."""
    there = [(-(a - base[1]) / LOST, b / base[2]) for t, a, b in points if t <= until]
    return float(moocore.hypervolume(np.array(there), ref=np.array([1.0, 1.0]))) if there else 0.0


def best(points: Iterable[Point], until: float) -> float:
    return max((a for t, a, _ in points if t <= until), default=float("nan"))


def smallest(points: Iterable[Point], base: Point, until: float) -> float:
    """How many times smaller the smallest file is of those within a point of the baseline."""
    return max((base[2] / b for t, a, b in points if t <= until and a >= base[1] - 0.01), default=float("nan"))


def table(
    case: Case, seconds: float, ours: Sequence[Point], theirs: Sequence[Point], base: Point, differs: float
) -> list[str]:
    """The part of the README on one model."""
    lines = [
        f"## {case.name}",
        "",
        f"Baseline {base[1]:.2%}, {base[2]:,.0f} bytes after gzip -9. autoopt made {len(ours)} candidates, the script {len(theirs)} trials; "
        f"{sum(a < base[1] - LOST for _, a, _ in ours)} and {sum(a < base[1] - LOST for _, a, _ in theirs)} of them are over 5 points under the "
        f"baseline. The second reader's accuracy of five files of the front differs by at most {100 * differs:.2f} points.",
        "",
        "| after | hypervolume, autoopt | script | best accuracy, autoopt | script | smallest within 1 point, autoopt | script |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in (0.125, 0.25, 0.5, 0.75, 1.0):
        until = share * seconds
        cells = [f"{volume(p, base, until):.3f}" for p in (ours, theirs)]
        cells += [f"{best(p, until):.2%}" for p in (ours, theirs)]
        cells += [f"{smallest(p, base, until):.2f}x" for p in (ours, theirs)]
        lines.append(f"| {until:.0f} s | {' | '.join(cells)} |")
    moments = sorted({t for t, _, _ in (*ours, *theirs)})
    trained = [t for t in moments if volume(ours, base, t) > 0]
    ahead = [volume(ours, base, t) >= volume(theirs, base, t) for t in trained]
    lines += [
        "",
        f"Of {len(ahead)} moments since autoopt's first result at which either got further, autoopt is ahead at {sum(ahead)}.",
    ]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=700, help="for each of both; default: 700")
    parser.add_argument("--only", default="", help="models whose name holds this")
    told = parser.parse_args()
    lines = [
        "# What does a newcomer get in the first minutes?",
        "",
        f"Written by `run.py`; one run each, seed 0, {told.seconds:.0f} s. {processor()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}, TensorFlow {version('tensorflow')}, Optuna {version('optuna')}; "
        f"{datetime.datetime.now(datetime.UTC).date()}.",
        "",
        "A study as `autoopt init` writes it (space `mobile`, preset `night`), nothing changed, against the script that an engineer writes in an "
        "afternoon ([hand_written.py](../search_efficiency/hand_written.py): pruning, clusters, quantization-aware training, 1 or 3 epochs a "
        "stage, NSGA-II). 10,000 training items, 2,500 to choose by. Hypervolume of accuracy (from 5 points under the baseline on, in parts of 5 "
        "points) and of the bytes after gzip -9 that are saved; both count from the start of the search, autoopt's with its start-up.",
        "",
    ]
    for case in CASES:
        if told.only not in case.name:
            continue
        folder = HERE / "out" / case.model.partition(".")[0]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        np.savez(folder / "data.npz", **arrays(case))
        ours, base, differs = newcomers(case, folder, told.seconds)
        theirs = scripted(case, folder, told.seconds)
        (folder / "points.json").write_text(json.dumps({"autoopt": ours, "script": theirs}), encoding="utf-8")
        lines += table(case, told.seconds, ours, theirs, base, differs)
    (HERE / "README.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
