"""Does the throughput grow with the training slots? The same recipes with 1, 2, ... slots, each from an empty store.

    python experiments/parallel/run.py

Trains the digits study's model by eight recipes that share nothing; writes README.md beside this script.
"""

import datetime
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from autoopt import run
from autoopt.recipe import Cluster, Finetune, Prune, Recipe
from autoopt.targets.runner import processor

HERE = Path(__file__).resolve().parent
STUDY = HERE.parent.parent / "studies" / "digits"
RECIPES = [
    *(Recipe(prune=Prune(sparsity=s), finetune=Finetune(epochs=3)) for s in (0.5, 0.6, 0.7, 0.8)),
    *(Recipe(cluster=Cluster(number=n), finetune=Finetune(epochs=3)) for n in (8, 16, 32, 64)),
]


def seconds(slots: int) -> float:
    """What the recipes take after the baseline is done."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "digits")
        shutil.copytree(STUDY, path, ignore=shutil.ignore_patterns("out"))
        text = (path / "study.yaml").read_text(encoding="utf-8")
        (path / "study.yaml").write_text(f"{text}\nslots: {slots}\nconfirm: false\n", encoding="utf-8")
        run(path, recipes=[Recipe(scheme="float16")])
        begun = time.monotonic()
        results = run(path, recipes=RECIPES)
        made = [c for c in results.candidates if c.recipe in RECIPES]
        assert len(made) == len(RECIPES)
        assert not any(c.failed for c in made)
        return time.monotonic() - begun


def main() -> None:
    cores = os.cpu_count() or 1
    counts = [n for n in (1, 2, 4, 8) if n <= max(2, cores)]
    found = {n: (seconds(n), seconds(n)) for n in counts}
    rows = []
    for n, times in found.items():
        best = min(times)
        rows.append(
            f"| {n} | {max(1, cores // n)} | {best:.0f} s ({max(times):.0f} s) | {len(RECIPES) * 60 / best:.1f} | {min(found[1]) / best:.2f} |"
        )
    text = [
        "# Does the throughput grow with the training slots?",
        "",
        f"Written by `run.py`; the better of two runs (the other in brackets). {processor()}, {cores} cores; Python {platform.python_version()},",
        f"TensorFlow {version('tensorflow')}; {datetime.date.today()}. {len(RECIPES)} recipes of the digits study, one stage of 3 epochs each, training,",
        "conversion and measuring together; measuring has the machine to itself, whatever the slots, and starting takes its seconds, too.",
        "",
        "| slots | threads a job | time | candidates a minute | times one slot |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    (HERE / "README.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
