"""The front as a picture; what is drawn is tested with the figure."""

import os
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from builders import candidate, results

from autoopt.errors import ConfigError, TargetUnavailable
from autoopt.reporting import image_export

browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
installed = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import kaleido"], capture_output=True).returncode != 0,
    reason="needs autoopt[pictures]",
)
STUDY = results(
    candidate(0, "baseline", accuracy=0.95, latency_ms=8.0, compressed_bytes=7e6),
    candidate(1, accuracy=0.945, latency_ms=4.0, compressed_bytes=3e6),
    candidate(2, accuracy=0.90, latency_ms=2.0, compressed_bytes=1e6),
    objectives=("accuracy", "latency_ms"),
    study="digits <2>",
)


def test_a_slide_is_white_and_named() -> None:
    layout = image_export.slide(STUDY).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "#ffffff"
    assert layout.title.text == "digits &lt;2&gt;"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("front.jpg", "", ".png or .svg"),
        ("front", "", ".png or .svg"),
        ("front.svg", "png", ".png"),
        ("a.PNG", "svg", ".svg"),
    ],
)
def test_a_name_of_another_kind_is_refused(name: str, kind: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"expected a name that ends in {expected}$"):
        image_export.write(STUDY, tmp_path / name, kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.browser
@browser
@installed
def test_a_png_has_the_size_of_a_slide(tmp_path: Path) -> None:
    path = tmp_path / "new" / "front.png"
    image_export.write(STUDY, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", data[16:24]) == (1600, 900)
    assert [p.name for p in path.parent.iterdir()] == ["front.png"]


@pytest.mark.browser
@browser
@installed
def test_an_svg_has_the_front_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / "front.svg"
    path.write_text("an earlier one")
    image_export.write(STUDY, path, "svg")
    root = ET.fromstring(path.read_text())
    assert (root.get("width"), root.get("height")) == ("1600", "900")
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"digits <2>", "accuracy (%), more is better", "latency (ms), less is better"} <= set(texts)
    assert not re.search(r"(href|src)=.https?:", path.read_text())


def test_without_kaleido_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['kaleido'] = None; sys.path[:0] = ['tests/support', 'tests/reporting']\n"
        "from pathlib import Path; from test_image_export import STUDY, image_export\n"
        "image_export.write(STUDY, Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.png"], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "autoopt.errors.ConfigError: a picture needs kaleido, which is not installed; pip install 'autoopt[pictures]'"
    )
    assert list(tmp_path.iterdir()) == []


@installed
def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    with pytest.raises(TargetUnavailable, match=r"none is at BROWSER_PATH=/nowhere/chromium; install one .*chromium"):
        image_export.write(STUDY, tmp_path / "front.png")


@installed
def test_where_no_browser_is_anywhere_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from choreographer.browsers import chromium

    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(chromium, "chromium_based_browsers", {})
    monkeypatch.setattr(chromium, "get_chrome_download_path", lambda **_: None)
    monkeypatch.setattr(chromium, "get_old_chrome_download_path", lambda: None)
    with pytest.raises(TargetUnavailable, match=r"none was found; install one \(on Debian: apt install chromium\)"):
        image_export.write(STUDY, tmp_path / "front.png")


@installed
@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60"])
def test_a_broken_or_hanging_browser_is_told_and_leaves_the_earlier_file(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    fake = tmp_path / "browser"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(fake))
    monkeypatch.setattr(image_export, "TIMEOUT_S", 1.0)
    path = tmp_path / "front.png"
    path.write_text("an earlier one")
    with pytest.raises(TargetUnavailable, match="the browser could not draw the picture"):
        image_export.write(STUDY, path)
    assert path.read_text() == "an earlier one"
    assert sorted(os.listdir(tmp_path)) == ["browser", "front.png"]
