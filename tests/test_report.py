"""The report: what a person reads at 8 am. Builders at the top are shared with test_figures."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from autoopt.budgets import parse
from autoopt.candidate import Candidate
from autoopt.metrics import STANDARD, Measurement, Metric, wilson
from autoopt.recipe import Cluster, Finetune, Prune, Recipe
from autoopt.report import render, write
from autoopt.results import Results

METRICS = {"accuracy": Metric(name="accuracy", direction="max", unit="fraction")} | dict(STANDARD)
HOSTILE = "<script>alert(1)</script>"


def measured(accuracy, latency_ms, size, compressed, n=2500, memory=None):
    hits = round(accuracy * n)
    low, high = wilson(hits, n)
    found = {
        "accuracy": Measurement(value=hits / n, low=low, high=high, n=n, how="LiteRT, validation split"),
        "size_bytes": Measurement.exact(size, "the file"),
        "compressed_bytes": Measurement.exact(compressed, "gzip -9"),
    }
    if latency_ms is not None:
        found["latency_ms"] = Measurement(
            value=latency_ms, low=latency_ms * 0.99, high=latency_ms * 1.012, n=5, how="host, 1 thread, 5 x 30 pairs"
        )
    if memory is not None:
        found["memory_bytes"] = Measurement.exact(memory, "VmHWM")
    return found


def candidate(number, accuracy=0.86, latency_ms=0.1, size=95_904, compressed=78_900, recipe=None, **more):
    return Candidate(
        number=number,
        recipe=recipe or Recipe(scheme="int8", seed=number),
        measurements=measured(accuracy, latency_ms, size, compressed),
        sha256=f"{number:064x}",
        **more,
    )


def failure(number, stage="qat", reason="no QAT config for Multiply", **more):
    return Candidate(
        number=number, recipe=Recipe(scheme="qat_int8", seed=number), failed_stage=stage, reason=reason, **more
    )


def baseline(number=0, **more):
    values = {"accuracy": 0.8716, "latency_ms": 0.256, "size": 318_292, "compressed": 292_019} | more
    return candidate(number, recipe=Recipe(), origin="baseline", **values)


def results(*candidates, budgets=(), **more):
    values = {
        "study": "resnet8",
        "metrics": METRICS,
        "quality": "accuracy",
        "objectives": ("accuracy", "latency_ms", "compressed_bytes"),
        "budgets": tuple(parse(text, METRICS) for text in budgets),
        "candidates": candidates,
        "provenance": {"finished": "2026-11-21 08:00", "host": {"cpu": "x86-64", "cores": 2}, "versions": ["a", "b"]},
    }
    return Results(**values | more)


def realistic():
    """About thirty candidates as a night on ResNet-8 and CIFAR-10 gives them."""
    found = [
        baseline(seconds=30),
        candidate(1, 0.8712, 0.262, 162_100, 146_300, Recipe(scheme="float16"), origin="scheme"),
        candidate(2, 0.8704, 0.121, 98_000, 80_100, Recipe(scheme="dynamic"), origin="scheme"),
        candidate(3, 0.8660, 0.079, 95_904, 78_900, Recipe(scheme="int8"), origin="scheme"),
        candidate(4, 0.8708, 2.31, 101_000, 81_700, Recipe(scheme="int16x8"), origin="scheme"),
    ]
    for number in range(5, 28):
        sparsity, clusters = (0, 0.3, 0.5, 0.6, 0.7, 0.8)[number % 6], (0, 16, 32, 8)[number % 4]
        scheme = ("int8", "float32", "qat_int8", "int8_io", "dynamic")[number % 5]
        recipe = Recipe(
            prune=Prune(sparsity=sparsity) if sparsity else None,
            cluster=Cluster(number=clusters, per_channel=number % 8 == 3) if clusters else None,
            scheme=scheme,
            finetune=Finetune(epochs=1 + number % 3),
            seed=number,
        )
        accuracy = 0.873 - 0.1 * sparsity**3 - (0.3 / clusters**1.2 if clusters else 0) - 0.004 * (number % 3)
        small = 292_019 if scheme == "float32" else 78_900
        compressed = int(small * (1 - 0.55 * sparsity) * (0.8 if clusters else 1)) + 97 * number
        latency = {"float32": 0.256, "dynamic": 0.121}.get(scheme, 0.079) * (1 + 0.01 * (number % 4))
        found.append(
            candidate(
                number, accuracy, latency, 318_292 if scheme == "float32" else 95_904, compressed, recipe, seconds=700
            )
        )
    found += [failure(28), failure(29), failure(30, "convert", "float fallback: CONV_2D left float32 in an int8 file")]
    return results(
        *found,
        budgets=["accuracy >= baseline - 4 %", "compressed_bytes <= 100 KB", "latency_ms <= 0.15 ms"],
        provenance={
            "finished": "2026-11-21 07:58",
            "task": {"fingerprint": "9f2c" * 16, "train items": 10000, "validation items": 2500},
            "host": {"cpu": "Intel Xeon", "cores": 2, "threads": 1},
            "libraries": {"tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"},
            "protocol": ["batch 1", "interleaved with the baseline", "ratio of p10s"],
        },
    )


class Page(HTMLParser):
    """What a reader of the page gets: words outside scripts and styles, elements, and addresses."""

    def __init__(self, html):
        super().__init__()
        self.words, self.tags, self.addresses, self.inside = [], [], [], ""
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag in ("script", "style"):
            self.inside = tag

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def numbers(html):
    """Numbers of the candidates in the table's order."""
    table = html[html.index('<table id="candidates">') :]
    return [int(n) for n in re.findall(r'<td class="number" data-sort="(\d+)">\1</td>', table)]


def test_a_night_is_told_from_pick_to_provenance():
    night = realistic()
    pick = night.pick().candidate
    page = Page(render(night))
    for told in (
        "resnet8",
        "2026-11-21 07:58",
        "31 candidates: 8 on the front, 5 dominated, 15 outside the budgets, 3 failed",
        f"{pick.name} · {pick.recipe.label()}",
        "Why: fastest of",
        "85.56 %",
        "95 %: 84.13 % to 86.88 %",
        "-1.60 points",
        "5.41x smaller",
        f"autoopt export resnet8 {pick.number}",
        pick.sha256,
        "latency_ms <= 0.15 ms",
        "<= 100 KB",
        "host.cores 2",
        "batch 1, interleaved with the baseline, ratio of p10s",
    ):
        assert told in page.text


def test_the_page_asks_nobody_for_anything():
    html = render(realistic())
    assert Page(html).addresses == []
    assert "default-src 'none'" in html
    assert html.count("plotly.js v") == 1
    assert '"showSendToCloud": false' in html


def test_the_table_has_front_first_and_the_best_quality_first():
    night = realistic()
    order = numbers(render(night))
    ranks = {"front": 0, "dominated": 1, "infeasible": 2, "failed": 3}
    keys = [(ranks[night.statuses()[n]], -(night.find(n).value("accuracy") or 0), n) for n in order]
    assert len(order) == 31
    assert keys == sorted(keys)


def test_less_is_better_for_an_error():
    mae = Metric(name="mae", direction="min")
    found = [
        Candidate(number=n, recipe=Recipe(seed=n), measurements={"mae": Measurement.exact(v, "made up")})
        for n, v in enumerate((0.3, 0.1, 0.2))
    ]
    html = render(results(*found, metrics={"mae": mae}, quality="mae", objectives=("mae",)))
    assert numbers(html) == [1, 2, 0]
    assert "0.1" in Page(html).text


def test_failures_are_counted_by_stage_and_reason():
    text = Page(render(results(baseline(), failure(1, "convert", "boom"), failure(2), failure(3)))).text
    assert "qat no QAT config for Multiply 2 #2, #3 convert boom 1 #1" in text


def test_budgets_say_the_limit_and_who_is_inside():
    text = Page(render(results(baseline(), candidate(1), failure(2), budgets=["size_bytes <= 0.5 * baseline"]))).text
    assert "size_bytes <= 0.5 * baseline <= 159.1 KB 1 of 2" in text
    assert "outside size_bytes <= 0.5 * baseline" in text


def test_where_nothing_fits_the_nearest_and_the_barrier_are_shown():
    page = Page(render(results(baseline(), candidate(1), candidate(2, size=80_000), budgets=["size_bytes <= 10 KB"])))
    assert "Nothing fits: none of 3 candidates is inside every budget." in page.text
    assert "What keeps them out: size_bytes <= 10 KB (best seen: 80 KB)" in page.text
    assert "Nearest: #2 int8: accuracy 86.00 %" in page.text
    assert "autoopt export" not in page.text


def test_what_binds_the_pick_is_shown():
    text = Page(render(results(baseline(), candidate(1, accuracy=0.7), budgets=["size_bytes <= 100 KB"]))).text
    assert "Held back by: size_bytes <= 100 KB (without it: #0 float32)." in text


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ((), "No candidates yet."),
        ((failure(0, "convert", "boom", origin="baseline"),), "1 candidate: 1 failed."),
        ((candidate(3),), "The baseline has not been measured"),
        ((baseline(),), "This is the untouched baseline itself."),
    ],
)
@pytest.mark.parametrize("provenance", [{}, {"deep": {"er": {"x": None}}}])
def test_it_is_written_however_little_there_is(candidates, told, provenance):
    page = Page(render(results(*candidates, provenance=provenance)))
    assert told in page.text
    assert ("deep.er.x None" if provenance else "Not recorded.") in page.text
    assert "The study has none." in page.text


def test_a_failed_baseline_and_a_budget_that_needs_it():
    html = render(results(failure(0, origin="baseline"), budgets=["accuracy >= baseline - 1 %"]))
    assert "needs the baseline" in Page(html).text
    assert "No candidate has been measured yet." in Page(html).text


def test_a_candidate_that_was_measured_in_part_is_shown():
    part = Candidate(number=1, recipe=Recipe(scheme="int8"), measurements={"size_bytes": Measurement.exact(9e4, "x")})
    html = render(results(baseline(), part, budgets=["accuracy >= 0.8"]))
    assert numbers(html) == [0, 1]
    assert "outside accuracy >= 0.8" in Page(html).text


def hostile():
    """Every text that comes from outside is an attack."""
    label = Metric(name="accuracy", direction="max", unit="fraction", label=HOSTILE)
    measurements = {
        name: Measurement(value=m.value, low=m.low, high=m.high, n=m.n, how=HOSTILE, flags=(HOSTILE,))
        for name, m in measured(0.8, 0.1, 9, 8).items()
    }
    bad = Candidate(number=1, recipe=Recipe(scheme="int8"), measurements=measurements, sha256=HOSTILE)
    return results(
        baseline(),
        bad,
        failure(2, HOSTILE, HOSTILE + "<!--"),
        study=HOSTILE,
        metrics=METRICS | {"accuracy": label},
        budgets=["size_bytes <= 1 KB"],
        provenance={HOSTILE: {HOSTILE: HOSTILE}, "date": HOSTILE},
    )


def test_hostile_texts_are_shown_and_not_run():
    kind, attacked = Page(render(results(baseline(), candidate(1), failure(2)))), Page(render(hostile()))
    assert HOSTILE not in render(hostile())
    assert attacked.tags.count("script") == kind.tags.count("script")
    assert attacked.text.startswith(HOSTILE)  # the title
    assert attacked.text.count(HOSTILE) > 10
    assert f"autoopt export '{HOSTILE}' 1" in attacked.text


def test_write_leaves_one_whole_file(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write(results(baseline()), path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def browse(html, tmp_path, script):
    """The page as Debian's chromium has it after `script` ran."""
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=5000 --dump-dom"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_in_a_browser_the_figure_is_drawn_and_the_table_sorts(tmp_path):
    click = "document.querySelectorAll('#candidates th button')[0].click();"
    dom = browse(render(realistic()), tmp_path, click)
    assert 'class="main-svg"' in dom
    assert numbers(dom) == list(range(31))
    dom = browse(render(realistic()), tmp_path, click.replace("[0]", "[3]") * 2)
    best = [realistic().find(n).value("accuracy") for n in numbers(dom)]
    assert best[:28] == sorted(best[:28], reverse=True)
    assert best[28:] == [None] * 3


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_in_a_browser_a_hostile_page_runs_nothing(tmp_path):
    # An alert would be lost in headless mode: let what it would have done leave a mark.
    html = render(hostile()).replace("alert(1)", "document.body.id=1")
    dom = browse(html, tmp_path, "")
    assert 'class="main-svg"' in dom
    assert '<body id="1"' not in dom
