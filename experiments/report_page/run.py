"""How large is the report, how soon is it there, how fast does it answer, and what does the dashboard take?

    python experiments/report_page/run.py [--picture STUDY]

Draws reports of made-up studies, opens them in Debian's chromium (chromium and chromium-driver), and writes
README.md beside this script; or report.png, which shows the report of a study that was run.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from selenium import webdriver

from autoopt.api.saved_study import load
from autoopt.core.candidate import Candidate
from autoopt.core.metrics import STANDARD, Measurement, Metric, pack_outcomes, wilson
from autoopt.core.recipe import Recipe
from autoopt.core.results import Results
from autoopt.core.stage_settings import Cluster, Prune
from autoopt.reporting.report import write
from autoopt.study.folder import StudyFolder
from autoopt.targets.litert_runner import processor

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or "chromium"
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
const [told] = performance.getEntriesByName("told");
return [told.startTime / 1000, page.loadEventEnd / 1000]"""


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


def browser() -> webdriver.Chrome:
    """A fresh one."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def picture(study: Path) -> None:
    """Show a real study's report as a person sees it, whatever folder it lies in."""
    found = load(study)
    found = dataclasses.replace(found, provenance={**found.provenance, "folder": f"studies/{found.study}"})
    with tempfile.TemporaryDirectory() as folder:
        path, driver = Path(folder, "report.html"), browser()
        write(found, path)
        try:
            driver.set_window_size(1280, 1700)
            driver.get(path.as_uri())
            driver.save_screenshot(str(HERE / "report.png"))
        finally:
            driver.quit()


def watching(count: int) -> list[str]:
    """What the dashboard takes of a processor while a page is open and nothing changes, and for one new candidate."""
    results = night(count)
    with tempfile.TemporaryDirectory() as name:
        folder = StudyFolder(name)
        folder.candidates.mkdir(parents=True)
        header = {"study": "made up", "quality": {"name": "accuracy", "direction": "max", "unit": "fraction"},
                  "objectives": list(results.objectives), "budgets": [], "provenance": {}}  # fmt: skip
        folder.header.write_text(json.dumps(header))
        for candidate in results.candidates[:-1]:
            folder.candidate_file(candidate.number).write_text(json.dumps(candidate.to_dict()))
        command = [sys.executable, "-m", "autoopt", "dashboard", name, "--port", "0", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            process, driver = psutil.Process(server.pid), browser()

            def busy(seconds: float) -> float:
                before = sum(process.cpu_times()[:2])
                time.sleep(seconds)
                return sum(process.cpu_times()[:2]) - before

            try:
                driver.get(json.loads(server.stdout.readline())["address"])
                time.sleep(8)
                idle = busy(20) / 20
                last = results.candidates[-1]
                folder.candidate_file(last.number).write_text(json.dumps(last.to_dict()))
                one = max(0.0, busy(6) - 6 * idle)
            finally:
                driver.quit()
                server.terminate()
    return [str(count), f"{idle:.1%}", f"{one:.2f} s"]


def measured(count: int, repeats: int) -> list[str]:
    """One line of the table."""
    results = night(count)
    with tempfile.TemporaryDirectory() as folder:
        path, seconds, tolds, loads, updates = Path(folder, "report.html"), [], [], [], []
        for _ in range(repeats):
            began = time.perf_counter()
            write(results, path)
            seconds.append(time.perf_counter() - began)
            driver = browser()
            try:
                driver.get(path.as_uri())
                told, load = driver.execute_script(LOADED)
                tolds.append(told)
                loads.append(load)
                updates += [driver.execute_script(TYPE, str(limit)) for limit in np.linspace(0.1, 0.4, 7)]
            finally:
                driver.quit()
        size = path.stat().st_size / 1e6
    cells = (f"{statistics.median(values):.2f} s" for values in (seconds, tolds, loads))
    return [str(count), f"{size:.2f} MB", *cells, f"{statistics.median(updates):.0f} ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    if given.picture:
        picture(given.picture)
        return
    repeats = given.repeats
    rows = [measured(count, repeats) for count in SIZES]
    head = ["candidates", "file", "written in", "pick and table after", "figure too after", "answers a keystroke in"]
    chromium = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    watched = [watching(count) for count in SIZES]
    columns = ["candidates", "of one core while nothing changes", "for each candidate that ends"]
    lines = [
        "# The report's page",
        "",
        f"Written by `run.py`; medians of {repeats} fresh browsers (and 7 keystrokes in each). {processor()},",
        f"{os.cpu_count()} cores; Chromium {chromium}, plotly {version('plotly')}, Python {platform.python_version()};",
        f"{datetime.date.today()}; seed 0. Made-up studies with {ITEMS} validation items, 10 classes, 5 metrics.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)),
        "",
        "The file is plotly (4.8 MB) and what the page shows and decides by. Pick and table stand before plotly is read, which takes",
        "most of the time; the figure is drawn last.",
        "",
        "## The dashboard",
        "",
        "Processor time of `autoopt dashboard` with one page open, which asks every two seconds:",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *watched)),
        "",
    ]
    (HERE / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
