"""The report: what a person reads at 8 am. Builders at the top are shared with test_figures."""

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser

import browser
import numpy as np
import pytest
import waiting
from browser import marked
from click.testing import CliRunner
from nights import HOSTILE, baseline, candidate, failure, hostile, measured, realistic, results, saved
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from autoopt.cli.commands import main
from autoopt.core.candidate import Candidate, Confirmation
from autoopt.core.metrics import STANDARD, Measurement, Metric, pack_outcomes, wilson
from autoopt.core.recipe import Recipe
from autoopt.core.stage_settings import Cluster, Prune
from autoopt.reporting.report import render, write


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


def test_the_page_asks_nobody_for_anything():
    html = render(realistic())
    assert Page(html).addresses == []
    assert "default-src 'none'" in html
    assert html.count("plotly.js v") == 1


def test_without_a_script_the_pick_is_told():
    night = realistic()
    pick = night.pick().candidate
    text = Page(render(night)).text
    assert f"The pick is {pick.name}, {pick.recipe.label()}: fastest of" in text


def test_a_night_is_told_beside_the_script():
    text = Page(render(realistic())).text
    for told in (
        "resnet8 2026-11-21 07:58",
        "31 candidates: 8 on the front, 5 beaten by others, 15 outside the budgets, 3 failed",
        "latency_ms <= 0.15 ms",
        "<= 100 KB",
        "host.cores 2",
        "batch 1, interleaved with the baseline, ratio of p10s",
        "What decides accuracy",
    ):
        assert told in text


def test_time_is_told_in_words():
    spent = {"jobs_s": 3725.0, "saved_by_store_s": 61, "overhead_s": 2}
    text = Page(render(results(baseline(), provenance={"time": spent}))).text
    assert "in jobs 1 h 02 min saved by the store 1 min 01 s in which no job was at work 2 s" in text
    assert "jobs_s" not in text


def test_techniques_are_compared_by_pairs():
    twins = [baseline(), candidate(1, 0.88, 0.256, 318_292, 100_000, Recipe(prune=Prune(sparsity=0.5)))]
    text = Page(render(results(*twins))).text
    assert "pruning 1 of 1 1 of 2 1 +0.84 points 0.0 % -65.8 % brings something in 1 of 1 pair" in text


def test_what_decides_is_told_where_enough_candidates_tell_about_it():
    made = [
        candidate(n, 0.8 + n / 100, 0.1, 9000 + n, 8000 + n,
                  Recipe(prune=Prune(sparsity=(0.3, 0.5)[n % 2]) if n < 4 else None, seed=n),
                  origin="search" if n else "baseline")
        for n in range(12)
    ]  # fmt: skip
    text = Page(render(results(*made))).text
    assert "prune sparsity too few candidates to tell" in text
    assert "prune frequency" not in text


def test_failures_are_counted_by_stage_and_reason():
    text = Page(render(results(baseline(), failure(1, "convert", "boom"), failure(2), failure(3)))).text
    assert "qat no QAT config for Multiply 2 #2, #3 convert boom 1 #1" in text


def test_budgets_say_the_limit_and_who_is_inside():
    text = Page(render(results(baseline(), candidate(1), failure(2), budgets=["size_bytes <= 0.5 * baseline"]))).text
    assert "size_bytes <= 0.5 * baseline <= 159.1 KB 1 of 2" in text


def test_hostile_texts_are_shown_and_not_run():
    kind, attacked = Page(render(results(baseline(), candidate(1), failure(2)))), Page(render(hostile()))
    assert HOSTILE not in render(hostile())
    assert attacked.tags.count("script") == kind.tags.count("script")
    assert attacked.text.startswith(HOSTILE)  # the title
    assert attacked.text.count(HOSTILE) > 5


def test_write_leaves_one_whole_file(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write(results(baseline()), path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def many(count):
    """As many candidates as a long study has, with outcomes on the same items."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        right = rng.random(2500) < rng.uniform(0.7, 0.95)
        recipe = Recipe(prune=Prune(sparsity=number / count), cluster=Cluster(number=16)) if number else Recipe()
        made = candidate(
            number, right.mean(), rng.uniform(0.05, 0.4), *rng.integers(80_000, 320_000, 2).tolist(), recipe,
            outcomes=pack_outcomes(right), origin="search" if number else "baseline",
            classes=tuple((int(right[i::10].sum()), 250) for i in range(10)),
        )  # fmt: skip
        memory = Measurement(value=1e6 + number, low=1e6, high=1.2e6, n=3, how="peak resident")
        found.append(dataclasses.replace(made, measurements={**made.measurements, "memory_bytes": memory}))
    return results(*found)


def test_a_thousand_candidates_stay_under_six_megabytes():
    assert len(render(many(1000)).encode()) < 6_000_000


# ---- in a real browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.open_browser(tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


class Report:
    """A report as a person uses it."""

    def __init__(self, driver, path, night, hash=""):
        self.driver = driver
        write(night, path)
        driver.get("about:blank")
        browser.complaints(driver), browser.requests(driver)
        driver.get(path.as_uri() + hash)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """All words inside, also of what is folded away, as a reader would part them."""
        script = """const walker = document.createTreeWalker(arguments[0], NodeFilter.SHOW_TEXT), found = [];
            while (walker.nextNode()) found.push(walker.currentNode.data);
            return found.join(" ")"""
        return " ".join(self.driver.execute_script(script, self.find(selector)).split())

    def type(self, box, text):
        """Put a text into a box at once, as pasting does: with each key by itself all of the page is drawn again."""
        element = self.find(f"#limit-{box}")
        element.clear()
        self.driver.execute_script("arguments[0].focus()", element)
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})

    @property
    def pick(self):
        return self.find("#pick").get_attribute("data-pick")

    def order(self):
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#rows tr")
        return [int(row.get_attribute("data-number")) for row in rows]

    def points(self):
        """By legend entry, the numbers of the candidates drawn."""
        script = """return Object.fromEntries(document.getElementById("front").data.map(
            trace => [trace.name, trace.customdata.map(place => candidates[place].number)]))"""
        return self.driver.execute_script(script)

    def link(self, part):
        """The address, once it holds a part."""
        WebDriverWait(self.driver, waiting.LONGEST_S).until(lambda driver: part in driver.current_url)
        return self.driver.current_url

    def check(self):
        assert browser.complaints(self.driver) == []
        assert [a for a in browser.requests(self.driver) if not a.startswith(("file:", "blob:", "data:"))] == []


@pytest.fixture
def open_report(chromium, tmp_path):
    opened = []

    def opening(night, hash=""):
        opened.append(Report(chromium, tmp_path / "report.html", night, hash))
        return opened[-1]

    yield opening
    for page in opened:
        page.check()


@marked
def test_the_pick_is_told_whole(open_report):
    night = realistic()
    pick = night.pick().candidate
    page = open_report(night)
    assert page.pick == str(pick.number)
    told = page.text("#pick")
    for words in (
        f"{pick.name} {pick.recipe.label()}",
        "Why: fastest of",
        "within 1 point of the best",
        f"{pick.value('accuracy'):.2%}".replace("%", " %"),
        "95 %: ",
        " points (",
        "x smaller",
        f"autoopt export resnet8 {pick.number}",
        pick.sha256,
        "-b 'latency_ms <= 0.15 ms'",
    ):
        assert words in told
    assert page.text("#front-count").startswith("8 on the front of 13 inside the budget; 31 candidates")


@marked
def test_typing_a_budget_changes_pick_front_and_link(open_report, chromium):
    night = realistic()
    page = open_report(night)
    page.find("#limit-latency_ms").clear()
    page.find("#limit-latency_ms").send_keys("0.1")
    page.find("#limit-compressed_bytes").clear()
    page.find("#limit-compressed_bytes").send_keys("60")
    budgets = ("accuracy >= baseline - 4 %", "latency_ms <= 0.1", "compressed_bytes <= 60 KB")
    expected = night.pick(*budgets)
    assert page.pick == str(expected.candidate.number)
    front = {c.number for c in night.front(night.parse_budgets(budgets))}
    assert set(page.points()["front"]) == front
    link, here = page.link("compressed_bytes=60"), page.pick
    assert "latency_ms=0.1" in link
    chromium.get("about:blank")
    chromium.get(link)
    assert page.pick == here
    assert page.find("#limit-latency_ms").get_property("value") == "0.1"
    page.find("#reset").click()
    assert page.pick == str(night.pick().candidate.number)
    page.find("#clear").click()
    assert page.pick == str(night.pick("size_bytes <= 1 GB").candidate.number)


@marked
def test_what_is_no_number_is_told_and_limits_nothing(open_report):
    page = open_report(results(baseline(), candidate(1)))
    before = page.pick
    page.type("latency_ms", "2 KB")
    assert page.pick == before
    assert "expected a number" in page.text("#latency_ms-hint")
    assert page.find("#limit-latency_ms").get_attribute("aria-invalid") == "true"


TYPED = [
    ("latency_ms", "150 us", "0.15"),
    ("compressed_bytes", "60 KB", "60"),
    ("compressed_bytes", "60000 B", "60"),
    ("compressed_bytes", "0.06MB", "60"),
    ("accuracy_change", "2 points", "2"),
    ("accuracy_change", "2 Percentage Points", "2"),
    ("accuracy_change", "2pp", "2"),
    ("accuracy", "86 %", "86"),
]
"""A box, and two texts that mean the same in it."""


@marked
def test_a_box_takes_units_as_the_command_line_does(open_report):
    night = realistic()
    page = open_report(night)
    for box, typed, same in TYPED:
        page.find("#reset").click()
        page.type(box, same)
        expected = page.pick, page.text(f"#{box}-hint")
        page.type(box, typed)
        assert (page.pick, page.text(f"#{box}-hint")) == expected, typed
        command = page.text("#pick-command")
        (limit,) = re.findall(rf"-b '({box.removesuffix('_change')}[^']*{re.escape(typed)})'", command)
        assert night.parse_budgets([limit]), typed


@marked
def test_too_few_items_and_what_is_not_worth_it_are_told(open_report):
    right = np.arange(100) < 92
    made = [candidate(n, 0.92, 0.3 - 0.1 * n, 100_000, 90_000, Recipe(seed=n), outcomes=pack_outcomes(right),
                      origin="search" if n else "baseline") for n in range(2)]  # fmt: skip
    made = [
        dataclasses.replace(c, measurements=measured(0.92, 0.3 - 0.1 * c.number, 100_000, 90_000, n=100)) for c in made
    ]
    night = results(*made)
    page = open_report(night)
    assert page.pick == "1"
    assert page.text("#doubt") == "T" + night.pick().doubt[1:] + "."
    assert "about 1,400 items would do" in page.text("#doubt")
    assert not page.driver.find_elements(By.CSS_SELECTOR, "#advice")
    slower = dataclasses.replace(made[1], measurements=measured(0.95, 0.4, 120_000, 99_000, n=100),
                                 outcomes=pack_outcomes(np.arange(100) < 95))  # fmt: skip
    tested = [
        dataclasses.replace(c, confirmation=Confirmation(quality=Measurement.exact(0.9, "x")))
        for c in (made[0], slower)
    ]
    night = results(*tested)
    page = open_report(night)
    assert page.pick == "1"
    assert page.text("#advice") == "N" + night.pick().advice[1:] + "."


@marked
def test_a_pick_that_was_not_confirmed_says_so(open_report):
    again = Confirmation(quality=Measurement.exact(0.8, "x"))
    night = results(dataclasses.replace(baseline(), confirmation=again), candidate(1, 0.95))
    page = open_report(night)
    assert page.pick == "1"
    assert page.text("#unconfirmed").startswith(
        "Not confirmed: its accuracy was measured on the validation split alone"
    )


@marked
def test_memory_is_not_called_an_interval(open_report):
    reading = Measurement(value=1.1e6, low=1e6, high=1.2e6, n=2, how="resident; range of 2 readings", ends="range")
    made = candidate(1, accuracy=0.872)
    page = open_report(
        results(baseline(), dataclasses.replace(made, measurements={**made.measurements, "memory_bytes": reading}))
    )
    assert "1 MB to 1.2 MB, the range of 2 readings" in page.text("#pick")
    assert "95 %: 1 MB" not in page.text("#pick")


@marked
def test_a_slider_lets_in_one_more_with_each_step(open_report):
    page = open_report(results(baseline(), candidate(1, latency_ms=0.1), candidate(2, latency_ms=0.12)))
    slider = page.find("#limits input[aria-label='latency, at most: slider']")
    slider.send_keys(Keys.HOME)
    assert page.find("#limit-latency_ms").get_property("value") == "0.1"
    assert page.pick == "1"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.text("#latency_ms-hint") == "2 of 3 inside"
    slider.send_keys(Keys.END)
    assert page.find("#limit-latency_ms").get_property("value") == ""


@marked
def test_where_nothing_fits_the_nearest_and_the_barrier_are_shown(open_report):
    night = results(baseline(), candidate(1), candidate(2, size=80_000), budgets=["size_bytes <= 10 KB"])
    page = open_report(night)
    assert page.pick == ""
    told = page.text("#pick")
    assert "Nothing fits: none of 3 candidates is inside every budget." in told
    assert "What keeps them out: size_bytes <= 10 KB (best seen: 80 KB)" in told
    assert "#2 int8: accuracy 86.00 %" in told
    assert "misses size_bytes <= 10 KB by 700 %" in told
    assert "autoopt export" not in told


@marked
def test_what_binds_the_pick_is_shown(open_report):
    night = results(baseline(), candidate(1, accuracy=0.7), budgets=["size_bytes <= 100 KB"])
    assert "Held back by: size_bytes <= 100 KB (without it: #0 float32)." in open_report(night).text("#pick")


UNDER = "return (document.getElementById('front')._hoverdata || []).length"
"""How many points plotly has found under the mouse."""


@marked
def test_a_click_on_a_point_and_a_key_on_a_row_select(open_report, chromium):
    page = open_report(realistic())
    assert not page.find("#selected").is_displayed()
    number = page.points()["front"][0]
    at = chromium.execute_script("""
        const graph = document.getElementById("front"), trace = graph.data.find(t => t.name === "front");
        graph.scrollIntoView({block: "center"});
        const box = graph.querySelector(".nsewdrag").getBoundingClientRect(), {xaxis, yaxis} = graph._fullLayout;
        return [box.left + xaxis.d2p(trace.x[0]), box.top + yaxis.d2p(trace.y[0])]""")
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        mouse = {
            "type": kind,
            "x": at[0],
            "y": at[1],
            "button": "left" if kind != "mouseMoved" else "none",
            "clickCount": 1,
        }
        chromium.execute_cdp_cmd("Input.dispatchMouseEvent", mouse)
        if kind == "mouseMoved":  # plotly finds out what is under the mouse after a while
            waiting.until(lambda: chromium.execute_script(UNDER))
    waiting.until(lambda: page.find("#selected").get_attribute("data-selected") == str(number))
    page.find('#rows tr[data-number="30"] button').send_keys(Keys.ENTER)
    assert page.find("#selected").get_attribute("data-selected") == "30"
    assert "failed in convert: float fallback" in page.text("#selected")
    page.link("selected=30")


@marked
def test_the_table_has_front_first_and_sorts(open_report):
    night = realistic()
    page = open_report(night)
    ranks = {"front": 0, "dominated": 1, "infeasible": 2, "failed": 3}
    found = [ranks[night.statuses()[n]] for n in page.order()]
    assert found == sorted(found)
    heads = page.driver.find_elements(By.CSS_SELECTOR, "#heads button")
    heads[0].click()
    assert page.order() == list(range(31))
    accuracy = next(head for head in heads if head.text == "accuracy")
    accuracy.click()
    accuracy.click()
    best = [night.find(n).value("accuracy") for n in page.order()]
    assert best[:28] == sorted(best[:28], reverse=True)
    assert best[28:] == [None] * 3
    assert page.driver.find_elements(By.CSS_SELECTOR, "#heads th[aria-sort=descending]")
    assert "as good as the best" in page.text("#rows")


@marked
def test_comparing_shows_what_differs(open_report, chromium):
    first, second = baseline(classes=((90, 100), (80, 100))), candidate(1, classes=((90, 100), (20, 100)))
    page = open_report(results(first, second, candidate(2), provenance={"class_names": ["cat", "dog"]}))
    assert "Tick two to four" in page.text("#compare")
    for number in (0, 1):
        page.find(f'input[aria-label="compare #{number}"]').click()
    told = page.text("#compare")
    for words in ("#0 float32", "#1 int8", "scheme float32 int8", "class dog 80.0 % of 100 20.0 % of 100"):
        assert words in told
    assert "class cat" not in told
    assert page.find("#compare").get_attribute("data-compared") == "0,1"
    page.link("compare=0%2C1")
    chromium.refresh()
    assert page.find("#compare").get_attribute("data-compared") == "0,1"


@marked
def test_the_table_can_be_downloaded(open_report, chromium, tmp_path):
    chromium.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    night = realistic()
    page = open_report(night)
    page.find("#download").click()
    file = tmp_path / "candidates.csv"
    waiting.until(file.exists)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [int(row["number"]) for row in rows] == page.order()
    values = {int(row["number"]): row["latency_ms"] for row in rows}
    assert float(values[3]) == night.find(3).value("latency_ms")
    assert values[30] == ""


@marked
def test_other_axes_can_be_chosen(open_report, chromium):
    page = open_report(realistic())
    page.find("#axis-x option[value=size_bytes]").click()
    assert chromium.execute_script("return document.getElementById('front').layout.xaxis.title.text").startswith(
        "file size (KB)"
    )
    page.link("x=size_bytes")


@marked
@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ((), "No candidate has been measured yet."),
        ((failure(0, "convert", "boom", origin="baseline"),), "No candidate has been measured yet."),
        ((candidate(3),), "accuracy >= baseline - 1 % (not measured)"),
        ((baseline(),), "This is the untouched baseline itself."),
        ((baseline(), Candidate(number=1, recipe=Recipe(scheme="int8"), measurements={"size_bytes": Measurement.exact(9e4, "x")})), "#0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("provenance", [{}, {"deep": {"er": {"x": None}}}])
def test_it_is_written_however_little_there_is(open_report, candidates, told, provenance):
    page = open_report(results(*candidates, provenance=provenance, budgets=["accuracy >= baseline - 1 %"]))
    assert told in page.text("#pick")
    assert ("deep.er.x None" if provenance else "Not recorded.") in page.text("main")
    assert len(page.order()) == len(candidates)


@marked
def test_without_a_baseline_no_change_is_shown(open_report):
    page = open_report(results(candidate(3), candidate(4)))
    assert "The baseline has not been measured, so no change can be shown." in page.text("#pick")
    assert "accuracy_change" not in page.text("#limits")


@marked
def test_less_is_better_for_an_error(open_report):
    mae = Metric(name="mae", direction="min")
    found = [
        Candidate(number=n, recipe=Recipe(seed=n), origin="search" if n else "baseline",
                  measurements={"mae": Measurement.exact(v, "made up"), "size_bytes": Measurement.exact(9 - n, "x")})
        for n, v in enumerate((0.3, 0.1, 0.2))
    ]  # fmt: skip
    night = results(*found, metrics={"mae": mae, **STANDARD}, quality="mae", objectives=("mae", "size_bytes"))
    page = open_report(night)
    assert page.pick == "1"
    page.type("mae_change", "0")
    assert page.pick == str(night.pick("mae <= baseline + 0").candidate.number)
    page.type("mae_change", "-5 %")
    assert page.find("#limit-mae_change").get_attribute("aria-invalid") == "true"
    page.type("mae_change", "10 %")
    assert page.text("#pick-command").split("pick ")[1].startswith("resnet8 -b 'mae <= baseline + 10 %'")
    assert "of 3 inside" in page.text("#mae_change-hint")
    page.type("mae_change", "")
    page.type("mae", "0.05")
    assert page.pick == ""


@marked
def test_a_hostile_page_runs_nothing(open_report, chromium):
    page = open_report(hostile())
    page.find('input[aria-label="compare #0"]').click()
    page.find('input[aria-label="compare #1"]').click()
    page.find('#rows tr[data-number="2"] button').click()
    assert HOSTILE in page.text("#selected")
    assert HOSTILE in page.text("#compare")
    assert HOSTILE in page.text("h1")
    assert chromium.execute_script("return document.querySelectorAll('script').length") == 4
    assert chromium.execute_script("return document.querySelectorAll('main script').length") == 0


@marked
def test_a_phone_shows_it_without_scrolling_sideways(open_report, chromium):
    page = open_report(realistic())
    with browser.phone(chromium):
        chromium.refresh()
        assert page.pick
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= 375


@marked
def test_a_budget_on_the_ratio_counts_on_the_page_too(open_report):
    night = confirmed_night()
    night = dataclasses.replace(night, budgets=night.parse_budgets(["latency_ratio <= 0.9"]))
    assert open_report(night).pick == str(night.pick().candidate.number)


@marked
def test_no_limits_is_something_that_the_command_line_knows(open_report):
    page = open_report(realistic())
    page.find("#clear").click()
    assert "autoopt pick resnet8 --no-budget" in page.text("#pick-command")
    page.type("latency_ms", "1e400")
    assert "expected a number" in page.text("#latency_ms-hint")


@marked
def test_the_keyboard_keeps_its_place(open_report, chromium):
    page = open_report(realistic())
    box = page.find('input[aria-label="compare #3"]')
    box.send_keys(Keys.SPACE)
    assert chromium.switch_to.active_element == box
    button = page.find('#rows tr[data-number="4"] button')
    button.send_keys(Keys.ENTER)
    assert chromium.switch_to.active_element == button
    tied = page.find("#pick-body .link")
    tied.send_keys(Keys.ENTER)
    assert chromium.switch_to.active_element == tied


@marked
def test_four_are_compared_and_none_is_dropped_for_a_fifth(open_report):
    page = open_report(realistic(), hash="#limits=&compare=1,1,2,3,4")
    assert page.find("#compare").get_attribute("data-compared") == "1,2,3,4"
    assert not page.find('input[aria-label="compare #5"]').is_enabled()
    page.find('input[aria-label="compare #2"]').click()
    assert page.find('input[aria-label="compare #5"]').is_enabled()


@marked
@pytest.mark.parametrize(
    "hash", ["#limits=&x=toString", "#limits=&x=&selected=99&compare=a,b", "#nonsense", "#limits=%"]
)
def test_a_damaged_link_still_shows_the_page(open_report, hash):
    page = open_report(realistic(), hash=hash)
    assert page.points()["front"]
    assert len(page.order()) == 31


# ---- one truth


def confirmed_night():
    """Candidates with outcomes on the same items and overlapping latencies, some of them confirmed."""
    rng, found = np.random.default_rng(7), []
    shared = rng.random(400)
    for number in range(40):
        right = np.where(rng.random(400) < 0.8, shared, rng.random(400)) < 0.9 - 0.01 * (number % 12)
        again = rng.random(300) < right.mean() - 0.01
        made = candidate(
            number, right.mean(), float(rng.uniform(0.05, 0.4)), *rng.integers(20_000, 320_000, 2).tolist(),
            Recipe() if number == 0 else Recipe(cluster=Cluster(number=8), seed=number), outcomes=pack_outcomes(right),
            origin="search" if number else "baseline",
        )  # fmt: skip
        low, high = wilson(int(right.sum()), 400)
        accuracy = Measurement(value=right.mean(), low=low, high=high, n=400, how="x")
        ratio = made.measurements["latency_ms"]
        ratio = Measurement(value=ratio.value / 0.2, low=ratio.low / 0.2, high=ratio.high / 0.2 + 0.05, n=5, how="x")
        more = {"accuracy": accuracy} | ({"latency_ratio": ratio} if number != 5 else {})
        test = Measurement(value=again.mean(), low=0, high=1, n=300, how="x")
        found.append(
            dataclasses.replace(
                made,
                measurements={**made.measurements, **more},
                confirmation=Confirmation(quality=test, outcomes=pack_outcomes(again)) if number % 4 == 0 else None,
                refused="not here" if number == 9 else "",
            )
        )
    return results(*found, failure(40))


def random_budgets(rng, night):
    """Texts of boxes, and the same as `autoopt pick` takes it."""
    scales = {
        "accuracy": (100, "%"),
        "latency_ms": (1, "ms"),
        "size_bytes": (1e-3, "KB"),
        "compressed_bytes": (1e-3, "KB"),
    }
    boxes, budgets = {}, []
    for metric, (factor, unit) in scales.items():
        if rng.random() < 0.5:
            continue
        seen = [v for c in night.candidates if (v := c.value(metric)) is not None]
        # Often exactly a value that was seen: the edge is where two judgements would part.
        value = rng.choice(seen) if rng.random() < 0.4 else rng.uniform(min(seen) * 0.9, max(seen) * 1.1)
        text = repr(float(factor * value))
        if metric == "accuracy" and rng.random() < 0.6:
            loss = abs(night.baseline.value("accuracy") - value) * 100
            text = f"{loss:.15f}"
            boxes["accuracy_change"] = text
            budgets.append(f"accuracy >= baseline - {text} %")
        else:
            boxes[metric] = text
            budgets.append(f"{metric} {'>=' if metric == 'accuracy' else '<='} {text} {unit}")
    return boxes, budgets


@marked
@pytest.mark.parametrize("night", [realistic(), confirmed_night()], ids=["realistic", "confirmed"])
def test_page_and_command_line_pick_the_same_for_any_budget(open_report, night, tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    saved(dataclasses.replace(night, budgets=()), study)
    page = open_report(dataclasses.replace(night, budgets=()))
    asking = """
        for (const limit of data.limits) state.limits[limit.id] = arguments[0][limit.id] ?? "";
        const box = document.getElementById(`limit-${data.limits[0].id}`);  // one event draws the page with all limits
        box.value = state.limits[data.limits[0].id];
        box.dispatchEvent(new Event("input"));
        return {pick: document.getElementById("pick").dataset.pick, tied: document.getElementById("pick").dataset.tied,
          nearest: [...document.querySelectorAll("#nearest li")].map(li => Number(li.dataset.number)),
          binding: pick(chosenBudgets()).binding, doubt: doubt(within(chosenBudgets())),
          front: [...document.querySelectorAll("#rows tr")].filter(r => r.querySelector(".status.front")).map(r => Number(r.dataset.number))}
    """
    rng, picked = np.random.default_rng(1), set()
    for _ in range(100):
        boxes, budgets = random_budgets(rng, night)
        seen = page.driver.execute_script(asking, boxes)
        options = [word for text in budgets for word in ("-b", text)]
        done = CliRunner().invoke(main, ["pick", str(study), "--json", *options])
        told = json.loads(done.stdout)
        number = None if told["candidate"] is None else told["candidate"]["number"]
        assert seen["pick"] == ("" if number is None else str(number)), budgets
        assert sorted(map(int, filter(None, seen["tied"].split(",")))) == sorted(told["tied"]), budgets
        assert seen["nearest"] == [row["number"] for row in told["nearest"]], budgets
        assert seen["doubt"] == told["doubt"], budgets
        if number is None:
            assert seen["binding"] == told["binding"], budgets
        assert len(seen["binding"]) == len(told["binding"]), budgets
        front = {c.number for c in night.front(night.parse_budgets(budgets))}
        assert set(seen["front"]) == front, budgets
        picked.add(number)
    assert len(picked) > 5  # the budgets did decide
