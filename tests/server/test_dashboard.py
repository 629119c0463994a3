"""The dashboard: in a real browser, while a study changes under it."""

import dataclasses
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import waiting
from browser import marked
from nights import HOSTILE, failure, hostile, realistic, saved
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from autoopt.api.saved_study import load
from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.execution.artifact_store import Store
from autoopt.server import dashboard
from autoopt.server.dashboard import serve
from autoopt.study.folder import StudyFolder

FILE = b"TFL3, not really"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A night as it lies on the disk, with a file for each candidate."""
    folder, night = tmp_path / "resnet8", realistic()
    folder.mkdir()
    timed = [
        dataclasses.replace(c, finished=f"2026-11-21T08:{c.number:02d}:00+00:00", file="ab" * 32)
        for c in night.candidates
    ]
    saved(dataclasses.replace(night, candidates=tuple(timed)), folder)
    Store(folder / "out" / "store").put("ab" * 32, FILE)
    return folder


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    servers = []
    monkeypatch.setattr(dashboard, "EVERY_MS", 300)  # nothing here is about how often it looks

    def starting(*studies: Path, **more: object) -> str:
        server, address = serve(studies, **{"port": 0, **more})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return address

    yield starting
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser.open_browser(tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


def ask(address: str, **headers: str) -> tuple[int, str]:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        with urllib.request.build_opener(Stay).open(
            urllib.request.Request(address, headers=headers), timeout=waiting.LONGEST_S
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# ---- who may ask


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_who_does_not_know_the_token_is_told_how_to_get_it(host: str, study: Path, start: Callable[..., str]) -> None:
    address, _, token = start(study, host=host).partition("?token=")
    assert len(token) >= 32
    guesses = ["", "?token=", "?token=guess", f"?token={token[:-1]}", "?token=%C3%BC", f"?token={token}x"]
    for asked in (*guesses, "_dash-layout", "_dash-update-component", "assets/x", "_dash-component-suites/dash/deps/x"):
        code, text = ask(f"{address}{asked}")
        assert code == 403
        assert "printed, with its ?token=" in text
        assert text.count("\n") == 1
    assert ask(address, Authorization="token guess")[0] == 403
    assert ask(address, Authorization=f"Basic {token}")[0] == 403


def test_the_token_opens_once_and_a_cookie_from_then_on(study: Path, start: Callable[..., str]) -> None:
    address, _, token = start(study).partition("?token=")
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{address}?token={token}", timeout=waiting.LONGEST_S) as answer:
        headers, text = str(answer.headers), answer.read().decode()
    assert token not in text
    assert "HttpOnly" in headers
    assert "SameSite=Strict" in headers
    assert ask(f"{address}_dash-layout", Cookie=headers.partition("Set-Cookie: ")[2].partition(";")[0])[0] == 200
    # dashboards on other ports share the browser's cookies: each has its own
    assert f"autoopt-{address.split(':')[2].strip('/')}={token}" in headers


def test_scripts_send_the_token_as_a_header(study: Path, start: Callable[..., str]) -> None:
    address, _, token = start(study).partition("?token=")
    assert ask(f"{address}_dash-layout", Authorization=f"token {token}")[0] == 200


def test_a_page_elsewhere_that_points_its_own_name_here_is_refused(study: Path, start: Callable[..., str]) -> None:
    address, _, token = start(study).partition("?token=")
    code, text = ask(address, Authorization=f"token {token}", Host="evil.example")
    assert code == 403
    assert "open it as http://127.0.0.1" in text


def test_a_port_that_is_taken_is_told_in_one_line(study: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TargetUnavailable, match=rf"can't listen on 127.0.0.1:{port} .*; give another --host or --port"
        ):
            serve([study], port=port)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        serve([tmp_path / "nothing"], port=0)


# ---- what is shown


def text(driver: WebDriver, element: str) -> str:
    return " ".join(driver.find_element(By.ID, element).get_property("textContent").split())


def wait_for(driver: WebDriver, element: str, words: str) -> None:
    deadline = time.monotonic() + waiting.LONGEST_S
    while words not in (found := driver.find_elements(By.ID, element) and text(driver, element)):
        assert time.monotonic() < deadline, f"waited in vain for {words!r}: {found!r}"
        time.sleep(0.1)


def drawn(driver: WebDriver, figure: str, what: str) -> list[Any]:
    """Something of a figure, once it is drawn."""
    script = (
        f"const plot = document.querySelector('#{figure} .js-plotly-plot'); return plot && plot.data && plot.{what}"
    )
    found: list[Any] = WebDriverWait(driver, waiting.LONGEST_S).until(lambda d: d.execute_script(script))
    return found


def looked_again(driver: WebDriver, times: int = 1) -> None:
    """Return when the page has asked, and was answered, so often from now on."""
    script = (
        "return performance.getEntriesByType('resource').filter("
        "one => one.name.includes('_dash-update-component') && one.startTime > arguments[0]).length"
    )
    now = driver.execute_script("return performance.now()")
    waiting.until(lambda: driver.execute_script(script, now) >= times)


@marked
def test_pick_front_and_failures_are_those_of_the_results(
    study: Path, start: Callable[..., str], chromium: WebDriver
) -> None:
    night = load(study)
    chromium.get(start(study))
    pick = night.pick().candidate
    assert pick is not None
    wait_for(chromium, "pick", f"{pick.name} {pick.recipe.label()}")
    assert pick.sha256 in text(chromium, "pick")
    assert "2 in qat: no QAT config for Multiply" in text(chromium, "failures")
    assert text(chromium, "progress") == "No search is running."
    names = drawn(chromium, "front", "data.map(trace => trace.name)")
    assert {"front", "baseline", "the pick"} <= set(names)
    volumes = drawn(chromium, "history", "data[0].y")
    assert volumes == sorted(volumes)
    assert browser.complaints(chromium) == []
    assert {a.split("/")[2].split(":")[0] for a in browser.requests(chromium) if a.startswith("http")} == {"127.0.0.1"}


@marked
def test_a_budget_changes_the_pick_and_a_wrong_one_is_told(
    study: Path, start: Callable[..., str], chromium: WebDriver
) -> None:
    chromium.get(start(study))
    wait_for(chromium, "pick", "Why:")
    box = chromium.find_element(By.ID, "limit-max_compressed")
    box.send_keys("60KB", Keys.ENTER)
    expected = load(study).pick(max_compressed="60KB").candidate
    assert expected is not None
    wait_for(chromium, "pick", f"{expected.name} ")
    box.send_keys("x", Keys.ENTER)
    wait_for(chromium, "wrong", "expected a unit of compressed_bytes")


@marked
def test_it_follows_a_running_search(study: Path, start: Callable[..., str], chromium: WebDriver) -> None:
    folder = StudyFolder(study)
    with folder.lock():
        now = {"done": 31, "failed": 3, "total": 60, "running": [[32, "<b>int8</b>", "prune", "epoch 1 of 2"]]}
        folder.now.write_text(json.dumps({**now, "hits": 0, "elapsed_s": 65, "left_s": 120}))
        chromium.get(start(study))
        wait_for(chromium, "progress", "31 of 60 candidates, 3 failed; 1 min 05 s gone, about 2 min 00 s left")
        assert text(chromium, "running") == "#32<b>int8</b>pruneepoch 1 of 2"
        late = failure(31, "cluster", "it just failed")
        folder.candidate_file(31).write_text(json.dumps(late.to_dict()))
        wait_for(chromium, "failures", "1 in cluster: it just failed")
    wait_for(chromium, "progress", "No search is running.")


@marked
def test_what_has_not_changed_is_not_drawn_again(study: Path, start: Callable[..., str], chromium: WebDriver) -> None:
    chromium.get(start(study))
    wait_for(chromium, "pick", "Why:")
    looked_again(chromium)  # by then all is drawn
    chromium.execute_script("""window.changes = 0;
        new MutationObserver(() => window.changes++).observe(document.getElementById("table"), {childList: true, subtree: true})""")
    looked_again(chromium, times=2)
    assert chromium.execute_script("return window.changes") == 0


@marked
def test_a_search_that_has_only_just_begun(
    tmp_path: Path, study: Path, start: Callable[..., str], chromium: WebDriver
) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    chromium.get(start(fresh, study))
    wait_for(chromium, "head", "no results yet")
    assert browser.complaints(chromium) == []
    # and over to the other study
    chromium.find_elements(By.CSS_SELECTOR, "#study input")[1].click()
    wait_for(chromium, "head", "31 candidates")


def download(driver: WebDriver, folder: Path, button: str, name: str) -> bytes:
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    driver.find_element(By.ID, button).click()
    waiting.until((folder / name).exists, what=name)
    return (folder / name).read_bytes()


@marked
def test_model_and_bundle_can_be_downloaded(
    study: Path, start: Callable[..., str], chromium: WebDriver, tmp_path: Path
) -> None:
    chromium.get(start(study))
    wait_for(chromium, "pick", "Why:")
    pick = load(study).pick().candidate
    assert pick is not None
    assert download(chromium, tmp_path, "model", f"resnet8-{pick.number}.tflite") == FILE
    chromium.find_element(By.ID, "number").send_keys("3", Keys.ENTER)
    packed = download(chromium, tmp_path, "bundle", "resnet8-3.zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("resnet8-3/model.tflite") == FILE
        assert json.loads(archive.read("resnet8-3/card.json"))["candidate"] == 3
    chromium.find_element(By.ID, "number").send_keys("99", Keys.ENTER)
    chromium.find_element(By.ID, "model").click()
    wait_for(chromium, "model-told", "no candidate 399")


@marked
def test_where_nothing_fits_the_nearest_are_told(study: Path, start: Callable[..., str], chromium: WebDriver) -> None:
    chromium.get(start(study))
    wait_for(chromium, "pick", "Why:")
    chromium.find_element(By.ID, "limit-max_size").send_keys("1KB", Keys.ENTER)
    wait_for(chromium, "pick", "misses size_bytes <= 1KB by")


@marked
def test_hostile_names_are_shown_and_not_run(tmp_path: Path, start: Callable[..., str], chromium: WebDriver) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    saved(hostile(), folder)
    chromium.get(start(folder))
    wait_for(chromium, "failures", HOSTILE)
    assert not any(
        "alert(1)" in script.get_property("textContent") for script in chromium.find_elements(By.TAG_NAME, "script")
    )


@marked
def test_a_phone_shows_it_without_scrolling_sideways(
    study: Path, start: Callable[..., str], chromium: WebDriver
) -> None:
    with browser.phone(chromium):
        chromium.get(start(study))
        wait_for(chromium, "pick", "Why:")
        drawn(chromium, "front", "data.length")
        drawn(chromium, "history", "data.length")
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= 375


@marked
def test_watching_changes_nothing(study: Path, start: Callable[..., str], chromium: WebDriver) -> None:
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*")}
    chromium.get(start(study))
    wait_for(chromium, "pick", "Why:")
    looked_again(chromium)
    assert {p: p.stat().st_mtime_ns for p in study.rglob("*")} == before
