"""How large is the report, how soon is it there, and how fast does it answer?

    python experiments/report_page/run.py

Draws reports of made-up studies, opens them in Debian's chromium (chromium and chromium-driver), and writes
README.md beside this script.
"""

import argparse
import datetime
import os
import platform
import shutil
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from selenium import webdriver

from autoopt.candidate import Candidate
from autoopt.metrics import STANDARD, Measurement, Metric, pack_outcomes, wilson
from autoopt.recipe import Cluster, Prune, Recipe
from autoopt.report import write
from autoopt.results import Results
from autoopt.targets.runner import processor

HERE = Path(__file__).parent
SIZES = (20, 100, 1000)
ITEMS = 10_000
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --window-size=1280,1400"
)
TYPE = """const box = document.getElementById("limit-latency_ms"), from = performance.now();
box.value = arguments[0];
box.dispatchEvent(new Event("input"));
return performance.now() - from"""
LOADED = """const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return [paint.startTime / 1000, page.loadEventEnd / 1000]"""


def night(count: int) -> Results:
    """A study with per-item outcomes, classes, and recipes as the mobile space has them."""
    rng, metrics = (
        np.random.default_rng(0),
        {"accuracy": Metric(name="accuracy", direction="max", unit="fraction")} | STANDARD,
    )
    found = []
    for number in range(count):
        right = rng.random(ITEMS) < rng.uniform(0.7, 0.95)
        (low, high), ms, size = (
            wilson(int(right.sum()), ITEMS),
            rng.uniform(0.05, 0.4),
            int(rng.integers(80_000, 320_000)),
        )
        measurements = {
            "accuracy": Measurement(value=right.mean(), low=low, high=high, n=ITEMS, how="LiteRT interpreter"),
            "latency_ms": Measurement(value=ms, low=0.99 * ms, high=1.01 * ms, n=5, how="ratio to #0 x 0.2666 ms"),
            "size_bytes": Measurement.exact(size, "bytes of the file"),
            "compressed_bytes": Measurement.exact(size // 2, "bytes after gzip -9"),
            "memory_bytes": Measurement(value=1e6 + number, low=9e5, high=1.1e6 + number, n=3, how="peak resident"),
        }
        recipe = Recipe(prune=Prune(sparsity=number / count), cluster=Cluster(number=16)) if number else Recipe()
        found.append(
            Candidate(
                number=number,
                recipe=recipe,
                origin="search" if number else "baseline",
                measurements=measurements,
                outcomes=pack_outcomes(right),
                classes=tuple((int(right[i::10].sum()), ITEMS // 10) for i in range(10)),
                sha256=f"{number:064x}",
            )
        )
    return Results(
        study="made up",
        metrics=metrics,
        quality="accuracy",
        objectives=("accuracy", "latency_ms", "compressed_bytes"),
        candidates=tuple(found),
    )


def measured(count: int, repeats: int) -> list[str]:
    """One line of the table."""
    results = night(count)
    with tempfile.TemporaryDirectory() as folder:
        path, seconds, paints, loads, updates = Path(folder, "report.html"), [], [], [], []
        for _ in range(repeats):
            began = time.perf_counter()
            write(results, path)
            seconds.append(time.perf_counter() - began)
            options = webdriver.ChromeOptions()
            options.binary_location = shutil.which("chromium") or ""
            for flag in FLAGS.split():
                options.add_argument(flag)
            driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
            try:
                driver.get(path.as_uri())
                paint, load = driver.execute_script(LOADED)
                paints.append(paint)
                loads.append(load)
                updates += [driver.execute_script(TYPE, str(limit)) for limit in np.linspace(0.1, 0.4, 7)]
            finally:
                driver.quit()
        size = path.stat().st_size / 1e6
    cells = (f"{statistics.median(values):.2f} s" for values in (seconds, paints, loads))
    return [str(count), f"{size:.2f} MB", *cells, f"{statistics.median(updates):.0f} ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = [measured(count, repeats) for count in SIZES]
    head = ["candidates", "file", "written in", "first seen after", "complete after", "answers a keystroke in"]
    browser = os.popen("chromium --version").read().split()[1]  # noqa: S605, S607 - a fixed command
    lines = [
        "# The report's page",
        "",
        f"Written by `run.py`; medians of {repeats} fresh browsers (and 7 keystrokes in each). {processor()},",
        f"{os.cpu_count()} cores; Chromium {browser}, plotly {version('plotly')}, Python {platform.python_version()};",
        f"{datetime.date.today()}; seed 0. Made-up studies with {ITEMS} validation items, 10 classes, 5 metrics.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)),
        "",
        "The file is plotly (4.8 MB) and what the page shows and decides by. Pick and table stand before plotly is read; the",
        "figure is drawn last.",
        "",
    ]
    (HERE / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
